//! An array of the kernel side as memory (`BPF_F_MMAPABLE`, since Linux 5.5): read and cleared
//! without a system call. While one on a map runs, the kernel skips kprobe programs on its CPU.

use std::{io, ops::Range, os::fd::AsFd as _, ptr};

use aya::maps::{Array, IterableMap as _, MapData};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use zerocopy::{FromBytes, IntoBytes};

/// A map's values are written a word at a time, and read so.
type Word = u64;

/// Bytes that are mapped at a time: what is counted of a thousand listeners on a small host is
/// mapped once and stays so. Mapped pages count as the daemon's own memory: of thousands of
/// listeners they would be much of it.
const WINDOW: usize = 1 << 20;

/// Where a window may begin: a multiple of every page size.
const STEP: usize = 1 << 16;

/// An array that programs write to, seen through a window that goes where it is looked.
pub(super) struct Mapped<T: aya::Pod> {
    array: Array<MapData, T>,
    /// Values in all.
    capacity: usize,
    /// Where the window is; null: nowhere yet.
    base: *mut Word,
    /// Which bytes of the array it shows.
    window: Range<usize>,
}

// SAFETY: the memory is the kernel's and stays where it is; only `&mut self` moves the window.
#[expect(unsafe_code, reason = "a raw pointer is not Send")]
unsafe impl<T: aya::Pod> Send for Mapped<T> {}

impl<T: FromBytes + IntoBytes + aya::Pod> Mapped<T> {
    const WORDS: usize = size_of::<T>() / size_of::<Word>();
    const WHOLE: () = assert!(size_of::<T>().is_multiple_of(size_of::<Word>()));

    pub(super) fn new(array: Array<MapData, T>) -> io::Result<Self> {
        let () = Self::WHOLE;
        let capacity = usize::try_from(array.len()).map_err(io::Error::other)?;
        Ok(Self { array, capacity, base: ptr::null_mut(), window: 0..0 })
    }

    /// Values in all.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves the window to a value and what comes after it.
    fn look_at(&mut self, bytes: &Range<usize>) -> io::Result<()> {
        let start = bytes.start / STEP * STEP;
        let end = (start + WINDOW).max(bytes.end).min(self.capacity * size_of::<T>());
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let (length, offset) = (end - start, u64::try_from(start).map_err(io::Error::other)?);
        // SAFETY: a new mapping, at an address of the kernel's choice.
        #[expect(unsafe_code, reason = "aya has no call for this")]
        let base = unsafe {
            let fd = self.array.map().fd().as_fd();
            mmap(ptr::null_mut(), length, access, MapFlags::SHARED, fd, offset)
        }?;
        self.unmap();
        self.base = base.cast();
        self.window = start..end;
        Ok(())
    }

    /// A value as it is now, each word of it whole.
    pub(super) fn read(&mut self, index: usize) -> io::Result<T> {
        let first = self.words(index)?;
        let mut value = T::new_zeroed();
        for (word, bytes) in value.as_mut_bytes().chunks_exact_mut(size_of::<Word>()).enumerate() {
            // SAFETY: within the mapping and aligned; programs write meanwhile, hence volatile.
            #[expect(unsafe_code, reason = "memory of the kernel's")]
            let word = unsafe { ptr::read_volatile(first.add(word)) };
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Ok(value)
    }

    /// Whether a value's first word is zero now.
    pub(super) fn begins_with_zero(&mut self, index: usize) -> io::Result<bool> {
        let first = self.words(index)?;
        // SAFETY: as in `read`.
        #[expect(unsafe_code, reason = "memory of the kernel's")]
        let word = unsafe { ptr::read_volatile(first) };
        Ok(word == 0)
    }

    /// Makes a value zero, its first word first.
    pub(super) fn clear(&mut self, index: usize) -> io::Result<()> {
        let first = self.words(index)?;
        for word in 0..Self::WORDS {
            // SAFETY: as in `read`.
            #[expect(unsafe_code, reason = "memory of the kernel's")]
            unsafe {
                ptr::write_volatile(first.add(word), 0);
            }
        }
        Ok(())
    }

    fn words(&mut self, index: usize) -> io::Result<*mut Word> {
        let bytes = index * size_of::<T>()..(index + 1) * size_of::<T>();
        if index >= self.capacity {
            return Err(io::Error::other("no such value in the map"));
        }
        if bytes.start < self.window.start || bytes.end > self.window.end {
            self.look_at(&bytes)?;
        }
        // SAFETY: within the mapping.
        #[expect(unsafe_code, reason = "memory of the kernel's")]
        Ok(unsafe { self.base.byte_add(bytes.start - self.window.start) })
    }
}

impl<T: aya::Pod> Mapped<T> {
    fn unmap(&mut self) {
        if self.base.is_null() {
            return;
        }
        // SAFETY: what was mapped, as long as it was; no reference into it is ever made.
        #[expect(unsafe_code, reason = "aya has no call for this")]
        let gone = unsafe { munmap(self.base.cast(), self.window.len()) };
        debug_assert!(gone.is_ok(), "{gone:?}");
        self.base = ptr::null_mut();
        self.window = 0..0;
    }
}

impl<T: aya::Pod> Drop for Mapped<T> {
    fn drop(&mut self) {
        self.unmap();
    }
}
