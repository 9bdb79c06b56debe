//! Memory that is kept and not needed. The C library keeps what was freed: by default as much
//! as the largest thing there ever was, once for each thread. Starting takes tens of megabytes,
//! for the kernel's types and symbols, and scrapes take some; running takes few. And most of
//! the program is for the start, or for other commands.

use std::path::Path;

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};
use rustix::mm::{Advice, madvise};

/// Blocks of this size and more are the kernel's again as soon as they are freed.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

/// Keeps little from now on. To be called before there are threads.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        let settings = [
            // Else it grows up to 32 MiB with each larger block that is freed.
            (libc::M_MMAP_THRESHOLD, LARGE),
            (libc::M_TRIM_THRESHOLD, LARGE),
            // Of all threads, only the collector and one of those that serve have much to do.
            (libc::M_ARENA_MAX, 2),
        ];
        for (setting, value) in settings {
            // SAFETY: two numbers; a setting that is not known is refused.
            #[expect(unsafe_code, reason = "the C library's call")]
            let known = unsafe { libc::mallopt(setting, value) } == 1;
            debug_assert!(known, "{setting}");
        }
    }
}

/// Lets go of the program's own pages; those that are still used come back from the page cache.
pub fn forget_program() -> procfs::ProcResult<()> {
    let process = Process::myself()?;
    let program = process.exe()?;
    for map in process.maps()? {
        if !is_never_written(&program, &map) {
            continue;
        }
        let (start, end) = map.address;
        let (Ok(start), Ok(size)) = (usize::try_from(start), usize::try_from(end - start)) else {
            continue;
        };
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: a private mapping of a file that is never written to (relocations are in
        // other segments): what is read of it next is what the file has, as before.
        #[expect(unsafe_code, reason = "there is no other way to say so")]
        unsafe { madvise(start, size, Advice::LinuxDontNeed) }.map_err(std::io::Error::from)?;
    }
    Ok(())
}

/// Code, and the constants before it, among them the eBPF programs: other than data further
/// on, which may be read-only now and has been relocated.
fn is_never_written(program: &Path, map: &MemoryMap) -> bool {
    let constants = MMPermissions::READ | MMPermissions::PRIVATE;
    let code = constants | MMPermissions::EXECUTE;
    matches!(&map.pathname, MMapPath::Path(path) if path == program)
        && (map.perms == code || (map.perms == constants && map.offset == 0))
}

/// Gives back what is free now.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only releases pages that nothing lives in.
    #[expect(unsafe_code, reason = "the C library's call")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_goes_on_without_its_pages() {
        let program = Process::myself().unwrap().exe().unwrap();
        let maps = Process::myself().unwrap().maps().unwrap();
        let found = maps.iter().filter(|map| is_never_written(&program, map));
        assert_eq!(found.count(), 2);
        for _ in 0..100 {
            forget_program().unwrap();
        }
    }
}
