//! Memory that the C library keeps after it was given back: by default as much as the largest
//! thing there ever was, once for each thread. Starting takes tens of megabytes, for the
//! kernel's types and symbols; running takes few.

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

/// Gives back what is free now.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only releases pages that nothing lives in.
    #[expect(unsafe_code, reason = "the C library's call")]
    unsafe {
        libc::malloc_trim(0);
    }
}
