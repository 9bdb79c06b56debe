//! Writes an initramfs: the kernel's `newc` flavour of a cpio archive.
//!
//! Uncompressed, because a guest reads it from memory and the build is not
//! made to wait. The format is described in the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::io::{self, Write};

const MAGIC: &str = "070701";
const ALIGNMENT: u64 = 4;
const TRAILER: &str = "TRAILER!!!";

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive on its way into `out`. Parents must be added before children:
/// the kernel makes no folders by itself.
pub(crate) struct Archive<W> {
    out: W,
    written: u64,
    entries: u32,
}

/// What one header says; everything else in it is zero.
struct Header {
    mode: u32,
    device: (u32, u32),
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, written: 0, entries: 0 }
    }

    pub(crate) fn folder(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, &Header { mode: FOLDER | 0o755, device: (0, 0) }, &[])
    }

    pub(crate) fn file(&mut self, path: &str, contents: &[u8]) -> io::Result<()> {
        self.entry(path, &Header { mode: FILE | 0o644, device: (0, 0) }, contents)
    }

    pub(crate) fn program(&mut self, path: &str, contents: &[u8]) -> io::Result<()> {
        self.entry(path, &Header { mode: FILE | 0o755, device: (0, 0) }, contents)
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        let header = Header { mode: SYMLINK | 0o777, device: (0, 0) };
        self.entry(path, &header, target.as_bytes())
    }

    pub(crate) fn character_device(&mut self, path: &str, device: (u32, u32)) -> io::Result<()> {
        self.entry(path, &Header { mode: CHARACTER_DEVICE | 0o600, device }, &[])
    }

    /// Ends the archive and returns what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, &Header { mode: 0, device: (0, 0) }, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, header: &Header, contents: &[u8]) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let too_large = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let size = u32::try_from(contents.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        // The kernel takes files with the same inode number for hard links.
        self.entries += 1;
        let Header { mode, device: (major, minor) } = *header;
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        self.write(MAGIC.as_bytes())?;
        for field in fields {
            self.write(format!("{field:08x}").as_bytes())?;
        }
        self.write(name.as_bytes())?;
        self.write(&[0])?;
        self.align()?;
        self.write(contents)?;
        self.align()
    }

    fn align(&mut self) -> io::Result<()> {
        while !self.written.is_multiple_of(ALIGNMENT) {
            self.write(&[0])?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry as a reader of the format sees it: name, mode, contents.
    type Entry = (String, u32, Vec<u8>);

    fn number(bytes: &[u8], field: usize) -> usize {
        let at = MAGIC.len() + field * 8;
        let text = std::str::from_utf8(&bytes[at..at + 8]).expect("hexadecimal text");
        usize::from_str_radix(text, 16).expect("hexadecimal")
    }

    fn read(mut bytes: &[u8]) -> Vec<Entry> {
        let aligned = |size: usize| size.next_multiple_of(4);
        let mut entries = Vec::new();
        loop {
            assert!(bytes.starts_with(MAGIC.as_bytes()));
            let (mode, size, name_size) = (number(bytes, 1), number(bytes, 6), number(bytes, 11));
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).expect("utf-8");
            if name == TRAILER {
                return entries;
            }
            let data = aligned(110 + name_size);
            let mode = u32::try_from(mode).expect("32 bits");
            entries.push((name, mode, bytes[data..data + size].to_vec()));
            bytes = &bytes[data + aligned(size)..];
        }
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("/bin").expect("memory");
        archive.program("/bin/a", b"12345").expect("memory");
        archive.symlink("/bin/longer-name", "a").expect("memory");
        archive.file("/etc", b"").expect("memory");
        let bytes = archive.finish().expect("memory");
        assert!(bytes.len().is_multiple_of(4));
        let expected: [Entry; 4] = [
            ("bin".into(), 0o040_755, vec![]),
            ("bin/a".into(), 0o100_755, b"12345".to_vec()),
            ("bin/longer-name".into(), 0o120_777, b"a".to_vec()),
            ("etc".into(), 0o100_644, vec![]),
        ];
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn a_device_has_its_numbers() {
        let mut archive = Archive::new(Vec::new());
        archive.character_device("/dev/console", (5, 1)).expect("memory");
        let bytes = archive.finish().expect("memory");
        assert_eq!((number(&bytes, 9), number(&bytes, 10)), (5, 1));
    }
}
