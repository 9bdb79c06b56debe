//! The endpoint behind a file, asked over real connections.

use std::net::SocketAddr;

use axum::{Router, routing::get};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use super::*;
use crate::serve::{router::Reach, server};

/// An authority that signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM form.
struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::URI(format!("spiffe://x/{name}").try_into().unwrap()));
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Signed { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn connector(&self, client: Option<&Signed>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(Signed { certificate, key }) => {
                let chain = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

/// An endpoint of two pages, behind a file in a directory of its own.
struct Endpoint {
    directory: tempfile::TempDir,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Endpoint {
    async fn new(files: &[(&str, &str)], reach: Reach) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |(name, text): &(&str, &str)| fs::write(directory.path().join(name), text);
        files.iter().try_for_each(write).unwrap();
        let web = Web::open(&directory.path().join("web.yml")).unwrap();
        let app = Router::new()
            .route("/metrics", get(|| async { "metrics" }))
            .route("/api/v1/listeners", get(|| async { "api" }))
            .route("/healthz", get(|| async { "ok" }));
        let app = guard::guarded(app, Some(Arc::clone(&web)), reach);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(server::serve(listener, app, Some(web)));
        Self { directory, address, server }
    }

    async fn plainly(&self, path: &str, more: &str) -> String {
        let stream = TcpStream::connect(self.address).await.unwrap();
        ask(stream, path, more).await.unwrap()
    }

    async fn by_tls(&self, connector: &TlsConnector) -> io::Result<String> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("tcpq.example").unwrap();
        ask(connector.connect(name, stream).await?, "/metrics", "").await
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    more: &str,
) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

const ALICE: &str = "Authorization: Basic YWxpY2U6c2VjcmV0\r\n";

fn users() -> String {
    format!("basic_auth_users: {{alice: {:?}}}\n", bcrypt::hash("secret", 4).unwrap())
}

#[tokio::test]
async fn a_password_opens_all_and_probes_need_none() {
    let file = users() + "http_server_config: {headers: {X-Frame-Options: deny}}\n";
    let endpoint = Endpoint::new(&[("web.yml", &file)], Reach::Remote).await;
    for path in ["/metrics", "/api/v1/listeners"] {
        let answer = endpoint.plainly(path, "").await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("Basic realm"), "{answer}");
        let wrong = endpoint.plainly(path, "Authorization: Basic YWxpY2U6d3Jvbmc=\r\n").await;
        assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
        let right = endpoint.plainly(path, ALICE).await;
        assert!(right.starts_with("HTTP/1.1 200"), "{right}");
        assert!(right.contains("x-frame-options: deny"), "{right}");
    }
    assert!(endpoint.plainly("/healthz", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn without_authentication_other_hosts_have_no_api() {
    let open = [("web.yml", "")];
    for (reach, status) in [(Reach::Remote, "403"), (Reach::Local, "200")] {
        let endpoint = Endpoint::new(&open, reach).await;
        let answer = endpoint.plainly("/api/v1/listeners", "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(endpoint.plainly("/metrics", "").await.ends_with("metrics"));
    }
}

#[tokio::test]
async fn more_than_the_rate_is_refused() {
    let file = "rate_limit: {interval: 1h, burst: 2}";
    let endpoint = Endpoint::new(&[("web.yml", file)], Reach::Local).await;
    for status in ["200", "200", "429"] {
        let answer = endpoint.plainly("/metrics", "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    assert!(endpoint.plainly("/healthz", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_change_holds_at_once_and_a_wrong_one_changes_nothing() {
    let endpoint = Endpoint::new(&[("web.yml", &users())], Reach::Local).await;
    let file = endpoint.directory.path().join("web.yml");
    assert!(endpoint.plainly("/metrics", "").await.starts_with("HTTP/1.1 401"));
    fs::write(&file, "basic_auth_user: {}").unwrap();
    assert!(endpoint.plainly("/metrics", "").await.starts_with("HTTP/1.1 401"));
    fs::remove_file(&file).unwrap();
    assert!(endpoint.plainly("/metrics", "").await.starts_with("HTTP/1.1 401"));
    fs::write(&file, "# nothing is asked for").unwrap();
    assert!(endpoint.plainly("/metrics", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn certificates_are_asked_for_verified_and_replaced() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = authority.sign("tcpq.example");
    let file = "
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [spiffe://x/prometheus.example]
";
    let ca = authority.0.pem();
    let files = [
        ("web.yml", file),
        ("server.crt", &server.certificate),
        ("server.key", &server.key),
        ("ca.crt", &ca),
    ];
    let endpoint = Endpoint::new(&files, Reach::Remote).await;
    let prometheus = authority.sign("prometheus.example");
    let known = authority.connector(Some(&prometheus));
    let answer = endpoint.by_tls(&known).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("metrics"), "{answer}");
    for (connector, who) in [
        (authority.connector(None), "no certificate"),
        (authority.connector(Some(&authority.sign("other.example"))), "a name that is not allowed"),
        (authority.connector(Some(&stranger.sign("prometheus.example"))), "another authority"),
    ] {
        // What is refused is refused before there is an answer.
        let answer = endpoint.by_tls(&connector).await;
        assert!(answer.as_ref().map_or(true, String::is_empty), "{who}: {answer:?}");
    }
    let plain = TcpStream::connect(endpoint.address).await.unwrap();
    let plain = ask(plain, "/metrics", "").await.unwrap_or_default();
    assert!(!plain.contains("metrics"), "{plain}");

    // Another authority's from now on.
    let other = stranger.sign("tcpq.example");
    for (name, text) in [("server.crt", &other.certificate), ("server.key", &other.key)] {
        fs::write(endpoint.directory.path().join(name), text).unwrap();
    }
    assert!(endpoint.by_tls(&known).await.is_err());
    let connector = stranger.connector(Some(&prometheus));
    assert!(endpoint.by_tls(&connector).await.unwrap().ends_with("metrics"));
}

#[test]
fn what_is_wrong_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yml");
    let signed = Authority::new().sign("tcpq.example");
    fs::write(directory.path().join("a.crt"), &signed.certificate).unwrap();
    fs::write(directory.path().join("a.key"), &signed.key).unwrap();
    fs::write(directory.path().join("empty"), "").unwrap();
    let tls =
        |more: &str| format!("tls_server_config: {{cert_file: a.crt, key_file: a.key{more}}}");
    for (text, words) in [
        ("tls_server_config: {}".to_owned(), "either cert or cert_file, not none"),
        ("tls_server_config: {cert_file: none.crt}".to_owned(), "none.crt cannot be read"),
        ("tls_server_config: {cert_file: empty, key_file: a.key}".to_owned(), "no certificate"),
        ("tls_server_config: {cert_file: a.crt, key_file: empty}".to_owned(), "key is not in PEM"),
        (tls(", key: x"), "both"),
        (tls(", client_auth_type: RequireAnyClientCert"), "RequireAnyClientCert"),
        (tls(", client_auth_type: RequireAndVerifyClientCert"), "client_ca_file"),
        (tls(", client_ca_file: a.crt"), "NoClientCert"),
        (tls(", client_allowed_sans: [a]"), "client_allowed_sans"),
        (tls(", min_version: TLS11"), "TLS 1.0 and 1.1"),
        (tls(", min_version: TLS13, max_version: TLS12"), "above"),
        (tls(", cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]"), "TLS_AES_128_GCM_SHA256"),
        (tls(", curve_preferences: [CurveP521]"), "CurveP256"),
        ("http_server_config: {headers: {\"a b\": c}}".to_owned(), "header a b"),
        ("basic_auth_users: {bob: secret}".to_owned(), "bob"),
    ] {
        fs::write(&path, &text).unwrap();
        let error = format!("{:#}", anyhow::Error::from(Web::open(&path).unwrap_err()));
        assert!(error.contains(words) && error.contains("web.yml"), "{text}: {error}");
    }
    for fine in [
        tls(", cipher_suites: [TLS_AES_128_GCM_SHA256], curve_preferences: [X25519]"),
        tls(", min_version: TLS13"),
    ] {
        fs::write(&path, &fine).unwrap();
        Web::open(&path).unwrap();
    }
}
