//! A file seen as memory.
//!
//! # Invariants
//!
//! - No reference to the mapped bytes is ever made: they may change under us (through `pwrite`), so
//!   they are only copied out, by pointer.
//! - The file is not shorter than its mapping while the mapping lives: its owner refuses to cut it
//!   (a touch beyond the end would be a SIGBUS). A disk that cannot read a page is one as well: it
//!   ends the process, as a failed read of data we have vouched for should.

#![expect(
    unsafe_code,
    reason = "mmap has no safe face in std; this folder is where unsafe may live"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

/// The first `len` bytes of a file, mapped shared and for reading alone.
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that any thread may read; nothing is written through it, and
// it is given back only by `Drop`, which has it alone.
unsafe impl Send for Mapping {}
// SAFETY: as above; all methods take `&self` and only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `file`, which must be that long at least.
    pub(super) fn new(file: &File, len: usize) -> io::Result<Self> {
        assert!(len > 0, "the kernel maps no empty range");
        // SAFETY: the address is the kernel's choice, so no memory in use is replaced; the
        // arguments describe a read-only view of a descriptor that `file` keeps open during the
        // call.
        let base = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).expect("mmap never answers the null page");
        Ok(Self { base, len })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends the bytes from `offset` to `offset + len` to `out`.
    ///
    /// # Panics
    ///
    /// If the mapping does not cover them.
    pub(super) fn copy_to(&self, offset: usize, len: usize, out: &mut Vec<u8>) {
        let end = offset.checked_add(len).expect("a range within memory");
        assert!(end <= self.len, "{offset}..{end} is not mapped");
        out.reserve(len);
        let used = out.len();
        // SAFETY: source: within the mapping, by the assertion. Target: the spare room of `out`,
        // which `reserve` made at least `len` bytes long. They can't overlap: one is a read-only
        // mapping, the other the allocator's. After the copy the bytes up to `used + len` are
        // initialized.
        unsafe {
            let from = self.base.as_ptr().add(offset);
            ptr::copy_nonoverlapping(from, out.as_mut_ptr().add(used), len);
            out.set_len(used + len);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those mmap gave; no pointer into the range outlives `self`.
        let done = unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
        assert_eq!(done, 0, "munmap of what mmap gave");
    }
}
