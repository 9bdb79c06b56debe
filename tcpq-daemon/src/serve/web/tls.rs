//! TLS of the endpoint, as the file asks for it.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;
use tokio_rustls::rustls::{
    NamedGroup, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject as _},
    },
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use webpki::EndEntityCert;

use crate::serve::web::config::{ClientAuth, TlsSection, TlsVersion};

/// Why there can be no TLS.
#[derive(Debug, Error)]
pub(super) enum TlsError {
    /// Neither the text nor a file, or both.
    #[error("tls_server_config needs either {inline} or {inline}_file, not {found}")]
    OneOf {
        /// The key of the text.
        inline: &'static str,
        /// What there is.
        found: &'static str,
    },
    /// A file cannot be read.
    #[error("{key} {path} cannot be read")]
    Read {
        /// The key that names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{key} is not in PEM form, or has nothing of the kind in it")]
    Pem {
        /// Which.
        key: &'static str,
        /// What is wrong.
        #[source]
        source: pem::Error,
    },
    /// It is in PEM form, and empty.
    #[error("{key} has no certificate in it")]
    NoCertificate {
        /// Which.
        key: &'static str,
    },
    /// Certificate and key do not fit, say.
    #[error("TLS cannot be set up with the certificate, the key and the authorities given")]
    Setup {
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate that nobody looks at protects nothing.
    #[error(
        "client_auth_type {name} asks for certificates without verifying them; use \
         RequireAndVerifyClientCert or VerifyClientCertIfGiven with client_ca_file"
    )]
    Unverified {
        /// As it was given.
        name: &'static str,
    },
    /// Authorities without a wish to verify, or the other way round.
    #[error("{0}")]
    Authorities(&'static str),
    /// Too old.
    #[error("TLS 1.0 and 1.1 are not served; min_version and max_version are TLS12 or TLS13")]
    TooOld,
    /// No version is left.
    #[error("min_version is above max_version")]
    NoVersion,
    /// Not known here.
    #[error("{key} has {name}, which is not known; known are {known}")]
    Unknown {
        /// Of which list.
        key: &'static str,
        /// As it was given.
        name: String,
        /// All that are.
        known: String,
    },
}

/// Whose certificates are taken, beside being verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AllowedNames(Vec<String>);

/// What the section asks for.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Tls {
    pub(in crate::serve) server: Arc<ServerConfig>,
    pub(super) allowed: AllowedNames,
    /// No client comes in without a verified certificate.
    pub(super) authenticates: Authenticates,
}

/// Whether TLS tells who a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authenticates {
    Always,
    NotAlways,
}

/// Reads what the section names, `directory` being that of the file.
pub(super) fn load(section: &TlsSection, directory: &Path) -> Result<Tls, TlsError> {
    let given = |key, inline: &Option<String>, file: &Option<PathBuf>| {
        text(key, inline.as_ref(), file.as_deref(), directory)
    };
    let chain = certificates("cert", &given("cert", &section.cert, &section.cert_file)?)?;
    let key = given("key", &section.key, &section.key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|source| TlsError::Pem { key: "key", source })?;
    let has_authorities = section.client_ca.is_some() || section.client_ca_file.is_some();
    let provider = Arc::new(provider(section)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(section)?)
        .map_err(setup)?;
    let wanted = section.client_auth_type;
    let builder = match (wanted, has_authorities) {
        (ClientAuth::NoClientCert, false) => builder.with_no_client_auth(),
        (ClientAuth::NoClientCert, true) => {
            return Err(TlsError::Authorities(
                "client_ca is given, but client_auth_type is NoClientCert: nobody would be asked \
                 for a certificate; use RequireAndVerifyClientCert",
            ));
        }
        (ClientAuth::RequestClientCert, _) => {
            return Err(TlsError::Unverified { name: "RequestClientCert" });
        }
        (ClientAuth::RequireAnyClientCert, _) => {
            return Err(TlsError::Unverified { name: "RequireAnyClientCert" });
        }
        (_, false) => {
            return Err(TlsError::Authorities(
                "client_auth_type asks to verify certificates: client_ca_file must name whose",
            ));
        }
        (ClientAuth::VerifyClientCertIfGiven | ClientAuth::RequireAndVerifyClientCert, true) => {
            let pem = given("client_ca", &section.client_ca, &section.client_ca_file)?;
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client_ca", &pem)? {
                roots.add(certificate).map_err(setup)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let verifier = match wanted {
                ClientAuth::VerifyClientCertIfGiven => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(setup)?)
        }
    };
    if !section.client_allowed_sans.is_empty() && !has_authorities {
        return Err(TlsError::Authorities(
            "client_allowed_sans is given, but nobody is asked for a certificate; use \
             client_auth_type RequireAndVerifyClientCert with client_ca_file",
        ));
    }
    let mut server = builder.with_single_cert(chain, key).map_err(setup)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let authenticates = match wanted {
        ClientAuth::RequireAndVerifyClientCert => Authenticates::Always,
        _ => Authenticates::NotAlways,
    };
    let allowed = AllowedNames(section.client_allowed_sans.clone());
    Ok(Tls { server: Arc::new(server), allowed, authenticates })
}

impl AllowedNames {
    /// Whether a client with this verified certificate may come in: one of its subject
    /// alternative names (DNS, URI or address) is allowed, or all are.
    pub(super) fn admits(&self, certificate: Option<&CertificateDer<'_>>) -> bool {
        let Some(certificate) = certificate.filter(|_| !self.0.is_empty()) else {
            return self.0.is_empty();
        };
        let Ok(parsed) = EndEntityCert::try_from(certificate) else { return false };
        self.0.iter().any(|name| {
            let dns = || parsed.valid_dns_names().any(|it| it == name);
            let uri = || parsed.valid_uri_names().any(|it| it == name);
            dns() || uri() || is_address(&parsed, name)
        })
    }
}

fn is_address(parsed: &EndEntityCert<'_>, name: &str) -> bool {
    let address = name.parse().ok().map(IpAddr::into);
    address.is_some_and(|address| {
        parsed.verify_is_valid_for_subject_name(&ServerName::IpAddress(address)).is_ok()
    })
}

fn setup(error: impl std::error::Error + Send + Sync + 'static) -> TlsError {
    TlsError::Setup { source: Box::new(error) }
}

/// What is given as text or as a file.
fn text(
    key: &'static str,
    inline: Option<&String>,
    file: Option<&Path>,
    directory: &Path,
) -> Result<Vec<u8>, TlsError> {
    match (inline, file) {
        (Some(text), None) => Ok(text.clone().into_bytes()),
        (None, Some(file)) => {
            let path = directory.join(file);
            fs::read(&path).map_err(|source| TlsError::Read { key, path, source })
        }
        (None, None) => Err(TlsError::OneOf { inline: key, found: "none of them" }),
        (Some(_), Some(_)) => Err(TlsError::OneOf { inline: key, found: "both" }),
    }
}

fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|source| TlsError::Pem { key, source })?;
    if all.is_empty() { Err(TlsError::NoCertificate { key }) } else { Ok(all) }
}

fn versions(section: &TlsSection) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let least = section.min_version.unwrap_or(TlsVersion::TLS12);
    let most = section.max_version.unwrap_or(TlsVersion::TLS13);
    if most < TlsVersion::TLS12 || section.min_version.is_some_and(|it| it < TlsVersion::TLS12) {
        return Err(TlsError::TooOld);
    }
    let all = [(TlsVersion::TLS12, &TLS12), (TlsVersion::TLS13, &TLS13)];
    let chosen = all.into_iter().filter(|(version, _)| (least..=most).contains(version));
    let chosen: Vec<_> = chosen.map(|(_, version)| version).collect();
    if chosen.is_empty() { Err(TlsError::NoVersion) } else { Ok(chosen) }
}

/// The library's suites and groups, or those of them that are asked for.
fn provider(section: &TlsSection) -> Result<CryptoProvider, TlsError> {
    let mut provider = ring::default_provider();
    if !section.cipher_suites.is_empty() {
        let named: Vec<_> = provider.cipher_suites.iter().map(|it| (suite(*it), *it)).collect();
        provider.cipher_suites = pick("cipher_suites", &section.cipher_suites, &named)?;
    }
    if !section.curve_preferences.is_empty() {
        let named: Vec<_> = provider
            .kx_groups
            .iter()
            .filter_map(|group| Some((curve(group.name())?.to_owned(), *group)))
            .collect();
        provider.kx_groups = pick("curve_preferences", &section.curve_preferences, &named)?;
    }
    Ok(provider)
}

/// As Go names it: those of TLS 1.3 without the version.
fn suite(suite: SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_").map_or_else(|| name.clone(), |rest| format!("TLS_{rest}"))
}

/// As Go names it.
const fn curve(group: NamedGroup) -> Option<&'static str> {
    match group {
        NamedGroup::secp256r1 => Some("CurveP256"),
        NamedGroup::secp384r1 => Some("CurveP384"),
        NamedGroup::X25519 => Some("X25519"),
        _ => None,
    }
}

fn pick<T: Copy>(
    key: &'static str,
    wanted: &[String],
    named: &[(String, T)],
) -> Result<Vec<T>, TlsError> {
    let find = |name: &String| {
        let found = named.iter().find(|(known, _)| known == name).map(|(_, it)| *it);
        found.ok_or_else(|| {
            let known: Vec<_> = named.iter().map(|(known, _)| known.as_str()).collect();
            TlsError::Unknown { key, name: name.clone(), known: known.join(", ") }
        })
    };
    wanted.iter().map(find).collect()
}
