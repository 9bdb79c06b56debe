//! Takes out of the object what nobody reads at run time: DWARF is four fifths of it. The
//! linker has made BTF of it by then, which is what the kernel and the loader want.

use std::path::Path;

use anyhow::{Context as _, Result};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// DWARF, and relocations of BTF, which its readers do not apply.
const UNREAD: [&str; 3] = [".debug_", ".rel.debug_", ".rel.BTF"];

/// Rewrites the object without its debug sections, and their relocations.
pub(crate) fn debug_sections(path: &Path) -> Result<()> {
    let what = || format!("strip {}", path.display());
    let whole = std::fs::read(path).with_context(what)?;
    let mut elf = Builder::read(whole.as_slice()).with_context(what)?;
    for section in &mut elf.sections {
        let name = section.name.to_string();
        section.delete = UNREAD.iter().any(|prefix| name.starts_with(prefix));
    }
    // LLVM has one table of strings for sections and symbols; what writes here wants two.
    let names = elf.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    elf.delete_orphans();
    let mut stripped = Vec::new();
    elf.write(&mut stripped).with_context(what)?;
    std::fs::write(path, stripped).with_context(what)
}
