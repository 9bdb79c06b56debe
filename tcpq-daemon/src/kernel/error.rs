//! Why the kernel side cannot start: each with what to do about it.

use std::path::PathBuf;

use thiserror::Error;

/// Fatal on start; a single refused hook is not (it changes the plan).
#[derive(Debug, Error)]
pub enum KernelError {
    /// The process lacks a capability.
    #[error(
        "missing privilege: {missing}; run as root, or grant {} (docs/security.md says what each \
         is for)",
        crate::kernel::privilege::ALL.map(|privilege| privilege.name).join(", ")
    )]
    Privilege {
        /// Names of what is missing.
        missing: String,
    },
    /// procfs is not where it should be.
    #[error("{path} cannot be read; mount procfs, or say where it is with --path.procfs")]
    NoProcfs {
        /// What was read.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The kernel was built without BTF, or sysfs is not where it should be.
    #[error(
        "{path} cannot be read: tcpq needs a kernel with CONFIG_DEBUG_INFO_BTF=y (Linux 5.10 or \
         later; every current distribution's), and sysfs mounted"
    )]
    NoBtf {
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The kernel's BTF cannot be used.
    #[error("the kernel's type information in {path} cannot be used")]
    BadBtf {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: crate::kernel::btf::BtfError,
    },
    /// The kernel lacks something that no backend can do without.
    #[error("this kernel cannot be watched: {what}: {why}")]
    Unsupported {
        /// What is missing.
        what: &'static str,
        /// The kernel's answer.
        why: String,
    },
    /// The kernel refuses in spite of capabilities.
    #[error(
        "the kernel refuses bpf(2) to this process: capabilities of a user namespace are not \
         enough, and a seccomp filter or a security module may forbid it; run tcpq as root of the \
         host"
    )]
    Denied {
        /// Its answer.
        #[source]
        source: aya::EbpfError,
    },
    /// aya could not load the object.
    #[error("the eBPF object cannot be loaded; `tcpq doctor` says what this kernel offers")]
    Object {
        /// Why not.
        #[source]
        source: aya::EbpfError,
    },
    /// A map of our own object is not there or not usable: a defect of the build.
    #[error("the eBPF object has no usable map {name}")]
    Map {
        /// Its name.
        name: &'static str,
    },
    /// Reading from the kernel side failed.
    #[error("reading {what} from the kernel failed")]
    Read {
        /// What was read.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}
