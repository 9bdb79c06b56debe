//! The flags that say where pods are looked up.

use std::path::PathBuf;

use clap::{Args as ClapArgs, builder::BoolishValueParser};

use crate::attribution::pods::{Kubelet, Source, Trust};

#[derive(Debug, ClapArgs)]
pub(super) struct PodArgs {
    /// File with this node's pods, as the kubelet lists them (JSON); read when it changes.
    /// Without one of --pods.file and --pods.kubelet no pod is looked up
    #[arg(
        long = "pods.file",
        env = "TCPQ_PODS_FILE",
        value_name = "FILE",
        conflicts_with = "kubelet"
    )]
    file: Option<PathBuf>,
    /// The kubelet's list of pods: https://NODE:10250/pods or http://127.0.0.1:10255/pods
    #[arg(long = "pods.kubelet", env = "TCPQ_PODS_KUBELET", value_name = "URL")]
    kubelet: Option<hyper::Uri>,
    /// File with a bearer token for the kubelet; read anew each time
    #[arg(
        long = "pods.token-file",
        env = "TCPQ_PODS_TOKEN_FILE",
        value_name = "FILE",
        requires = "kubelet"
    )]
    token: Option<PathBuf>,
    /// File with the certificates that the kubelet's must be signed by (PEM)
    #[arg(
        long = "pods.ca-file",
        env = "TCPQ_PODS_CA_FILE",
        value_name = "FILE",
        requires = "kubelet",
        conflicts_with = "unverified"
    )]
    authority: Option<PathBuf>,
    /// Do not verify the kubelet's certificate
    #[arg(
        long = "pods.insecure-skip-verify",
        env = "TCPQ_PODS_INSECURE_SKIP_VERIFY",
        requires = "kubelet",
        value_parser = BoolishValueParser::new()
    )]
    unverified: bool,
}

impl PodArgs {
    pub(super) fn source(&self) -> Option<Source> {
        if let Some(file) = &self.file {
            return Some(Source::File(file.clone()));
        }
        let url = self.kubelet.clone()?;
        let trust = match &self.authority {
            Some(file) => Some(Trust::Authority(file.clone())),
            None => self.unverified.then_some(Trust::Unverified),
        };
        Some(Source::Kubelet(Kubelet { url, token: self.token.clone(), trust }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        pods: PodArgs,
    }

    fn parse(args: &[&str]) -> Result<Option<Source>, clap::Error> {
        let args = std::iter::once("tcpq").chain(args.iter().copied());
        Only::try_parse_from(args).map(|only| only.pods.source())
    }

    #[test]
    fn without_a_flag_nothing_is_looked_up() {
        assert_eq!(parse(&[]).unwrap(), None);
    }

    #[test]
    fn one_source_at_a_time() {
        assert_eq!(
            parse(&["--pods.file", "/pods.json"]).unwrap(),
            Some(Source::File("/pods.json".into()))
        );
        assert!(
            parse(&["--pods.file", "/a", "--pods.kubelet", "http://127.0.0.1:10255/pods"]).is_err()
        );
    }

    #[test]
    fn a_kubelet_and_how_to_trust_it() {
        let url = "https://10.0.0.1:10250/pods";
        let source = parse(&["--pods.kubelet", url, "--pods.ca-file", "/ca"]).unwrap();
        let kubelet = Kubelet {
            url: url.parse().unwrap(),
            token: None,
            trust: Some(Trust::Authority("/ca".into())),
        };
        assert_eq!(source, Some(Source::Kubelet(kubelet)));
        assert!(parse(&["--pods.ca-file", "/ca"]).is_err(), "a CA without a kubelet");
    }
}
