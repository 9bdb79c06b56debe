//! Programs of others in a guest: each with the libraries that it needs on this machine, at
//! the paths where it looks for them, and what other files it reads.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{initramfs::Archive, packages::Tool};

/// Adds them to an image with these folders; the variables that name them.
pub(crate) fn add<W: Write>(
    archive: &mut Archive<W>,
    tools: &[(&str, &Tool)],
    files: &[PathBuf],
    folders: &[&str],
) -> Result<Vec<String>> {
    let mut variables = Vec::new();
    let mut libraries: BTreeSet<PathBuf> = files.iter().cloned().collect();
    for (variable, tool) in tools {
        let program = tool.path()?;
        libraries.extend(needed(&program)?);
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        archive.program(&format!("/bin/{name}"), &read(&program)?)?;
        variables.push(format!("{variable}=/bin/{name}"));
    }
    let above = libraries.iter().flat_map(|library| library.ancestors().skip(1));
    // Sorted, a folder comes after its parent.
    let mut missing: BTreeSet<&Path> = above.filter(|folder| *folder != Path::new("/")).collect();
    missing.retain(|folder| folders.iter().all(|known| Path::new(known) != *folder));
    for folder in missing {
        archive.folder(&folder.to_string_lossy())?;
    }
    for library in &libraries {
        // The loader has to be executable.
        archive.program(&library.to_string_lossy(), &read(library)?)?;
    }
    Ok(variables)
}

/// The libraries and the loader of a program; none if it is static.
fn needed(program: &Path) -> Result<Vec<PathBuf>> {
    let said = Command::new("ldd").arg(program).output();
    let said = said.with_context(|| format!("cannot ask ldd for {}", program.display()))?;
    // It fails if there is nothing dynamic about the program.
    Ok(paths(&String::from_utf8_lossy(&said.stdout)))
}

/// `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` of the loader.
fn paths(said: &str) -> Vec<PathBuf> {
    let path =
        |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(Into::into);
    said.lines().filter_map(path).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found() {
        let said = "\tlinux-vdso.so.1 (0x0)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x1)\n\
                    \t/lib64/ld.so.2 (0x2)\n\tstatically linked\n";
        assert_eq!(paths(said), [Path::new("/lib/x/libc.so.6"), Path::new("/lib64/ld.so.2")]);
    }
}
