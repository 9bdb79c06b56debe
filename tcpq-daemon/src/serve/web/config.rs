//! The file of `--web.config.file`: the format of Prometheus's exporter-toolkit, so that one
//! file serves every exporter of a host
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>).

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// The whole file. A key that is not known is an error: a misspelt one would leave the endpoint
/// open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebFile {
    pub(super) tls_server_config: Option<TlsSection>,
    pub(super) http_server_config: HttpSection,
    pub(super) basic_auth_users: BTreeMap<String, String>,
    pub(super) rate_limit: Option<RateSection>,
}

/// `tls_server_config`. Files are relative to the file's own directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsSection {
    pub(super) cert: Option<String>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key: Option<String>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) client_auth_type: ClientAuth,
    pub(super) client_ca: Option<String>,
    pub(super) client_ca_file: Option<PathBuf>,
    pub(super) client_allowed_sans: Vec<String>,
    pub(super) min_version: Option<TlsVersion>,
    pub(super) max_version: Option<TlsVersion>,
    pub(super) cipher_suites: Vec<String>,
    pub(super) curve_preferences: Vec<String>,
    /// Of no effect, as in Go since 1.17: the suites' order is chosen by the library.
    pub(super) prefer_server_cipher_suites: Option<bool>,
}

/// Names of Go's `tls.ClientAuthType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum ClientAuth {
    #[default]
    #[serde(alias = "")]
    NoClientCert,
    RequestClientCert,
    #[serde(alias = "RequireClientCert")]
    RequireAnyClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

/// Versions of TLS; older ones are refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum TlsVersion {
    TLS10,
    TLS11,
    TLS12,
    TLS13,
}

/// `http_server_config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HttpSection {
    /// Of no effect: the endpoint speaks HTTP/1.1.
    pub(super) http2: Option<bool>,
    /// Headers of every answer.
    pub(super) headers: BTreeMap<String, String>,
}

/// `rate_limit`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateSection {
    /// Time for one request, as `1s` or `200ms`.
    pub(super) interval: String,
    /// Requests at once.
    #[serde(default = "one")]
    pub(super) burst: u32,
}

const fn one() -> u32 {
    1
}

/// Reads the text. The error names the key, and the line where the library knows it.
pub(super) fn parse(text: &str) -> Result<WebFile, serde_norway::Error> {
    // An empty file asks for nothing.
    let file: Option<WebFile> = serde_norway::from_str(text)?;
    Ok(file.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exporters_understand_is_understood() {
        let text = "
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example]
  min_version: TLS12
  prefer_server_cipher_suites: true
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
basic_auth_users:
  alice: $2y$10$abc
rate_limit:
  interval: 200ms
  burst: 5
";
        let file = parse(text).unwrap();
        let tls = file.tls_server_config.unwrap();
        assert_eq!(tls.client_auth_type, ClientAuth::RequireAndVerifyClientCert);
        assert_eq!((tls.min_version, tls.max_version), (Some(TlsVersion::TLS12), None));
        assert_eq!(file.basic_auth_users["alice"], "$2y$10$abc");
        assert_eq!(file.rate_limit.unwrap().burst, 5);
        assert_eq!(file.http_server_config.headers["X-Frame-Options"], "deny");
    }

    #[test]
    fn nothing_asks_for_nothing() {
        for text in ["", "# only a comment\n", "{}", "---\n"] {
            assert_eq!(parse(text).unwrap(), WebFile::default(), "{text:?}");
        }
    }

    #[test]
    fn a_misspelt_key_is_named() {
        for (text, name) in [
            ("basic_auth_user: {a: b}", "basic_auth_user"),
            ("tls_server_config: {cert_fiel: a}", "cert_fiel"),
            ("tls_server_config: {client_auth_type: Always}", "Always"),
            ("rate_limit: {burst: 3}", "interval"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
