//! TLS to the kubelet.

use std::{io, path::Path, sync::Arc};

use thiserror::Error;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    },
};

use crate::attribution::pods::{Trust, fetch};

/// Why there can be no TLS.
#[derive(Debug, Error)]
pub(super) enum TlsError {
    /// The authorities cannot be read.
    #[error("cannot read the certificate authorities of {path}")]
    Read {
        /// Their file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is none in the file.
    #[error("{path} has no certificate in PEM form")]
    NoCertificate {
        /// The file.
        path: String,
    },
    /// One of them is none, or the versions of TLS do not fit.
    #[error("cannot set up TLS")]
    Setup {
        /// Why not.
        #[source]
        source: rustls::Error,
    },
}

/// A connector that verifies as it is told.
pub(super) fn connector(trust: &Trust) -> Result<TlsConnector, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Setup { source })?;
    let config = match trust {
        Trust::Authority(path) => builder.with_root_certificates(authorities(path)?),
        Trust::Unverified => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        }
    };
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let shown = || path.display().to_string();
    let pem = fetch::read_small(path).map_err(|source| TlsError::Read { path: shown(), source })?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let no_certificate = |_error| TlsError::NoCertificate { path: shown() };
        store
            .add(certificate.map_err(no_certificate)?)
            .map_err(|source| TlsError::Setup { source })?;
    }
    if store.is_empty() { Err(TlsError::NoCertificate { path: shown() }) } else { Ok(store) }
}

/// Takes any certificate. What is signed with it is still verified: nobody can break into
/// a connection that has begun.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
