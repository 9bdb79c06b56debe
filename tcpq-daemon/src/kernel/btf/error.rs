//! What can be wrong with BTF, and with a question put to it.

use std::{fmt, io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error("cannot read the kernel's type information (BTF) from {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("more than {limit} bytes of BTF are refused")]
    TooLarge { limit: u64 },
    #[error("not BTF: it starts with {found:#06x} instead of 0xeb9f")]
    NotBtf { found: u16 },
    #[error("this BTF was written for a big-endian machine; tcpq reads little-endian BTF only")]
    ForeignEndian,
    #[error("BTF of version {found}; tcpq knows version 1")]
    UnknownVersion { found: u8 },
    #[error(
        "the BTF is cut short: its {part} should end at byte {needed}, but byte {available} is \
         the last there can be"
    )]
    CutShort { part: Part, needed: u64, available: u64 },
    #[error("the BTF strings do not end with a NUL byte")]
    UnterminatedStrings,
    #[error("this is a module's BTF, which means nothing without the kernel's; give the kernel's")]
    NotBase,
    #[error(
        "BTF type {id} is of kind {kind}, which tcpq does not know, and the BTF does not say how \
         long it is"
    )]
    UnknownKind { id: u32, kind: u32 },

    #[error("the kernel's BTF has no struct or union `{structure}`")]
    NoStructure { structure: String },
    #[error("the kernel's `{structure}` has no `{path}` (missing: `{component}`)")]
    NoMember { structure: String, path: String, component: String },

    #[error("a BTF type refers to type {id}, which does not exist")]
    DanglingType { id: u32 },
    #[error("BTF type {id} is nested without end")]
    Endless { id: u32 },
    #[error("looking for `{structure}.{path}` in the BTF takes too many steps: it must be damaged")]
    TooManySteps { structure: String, path: String },
    #[error("BTF type {id} has no size")]
    Sizeless { id: u32 },
    #[error("`{structure}.{path}` is not at an offset that a kernel could use")]
    AbsurdOffset { structure: String, path: String },
}

impl BtfError {
    /// True where the BTF is sound and says that this kernel has no such thing. Everything else
    /// means that nobody knows.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoStructure { .. } | Self::NoMember { .. })
    }
}

/// The parts of a BTF blob that can be cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Header,
    TypeSection,
    StringSection,
    LayoutSection,
    Type { id: u32 },
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => formatter.write_str("header"),
            Self::TypeSection => formatter.write_str("type section"),
            Self::StringSection => formatter.write_str("string section"),
            Self::LayoutSection => formatter.write_str("layout section"),
            Self::Type { id } => write!(formatter, "type {id}"),
        }
    }
}
