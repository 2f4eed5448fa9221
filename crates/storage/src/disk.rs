//! The disk: the seam every byte that must survive goes through.
//!
//! Two disks stand behind it: the machine's own, and a simulated one whose unsynced writes may be
//! torn, lost or reordered by a crash, and which runs full, fails a sync or flips a bit when told to.
//!
//! # Invariants
//!
//! - What was written is durable only after [`File::sync`]; a created, renamed or removed name only
//!   after [`Disk::sync_dir`] of its folder.
//! - After a failed write or sync the caller gives up the file and stops: a second sync may
//!   succeed without the data.

mod mapping;
mod ownership;
pub mod real;
pub mod simulated;
mod writeout;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
pub use simulated::SimulatedDisk;

/// What a disk writes whole or not at all.
pub const SECTOR_SIZE: usize = 512;

/// A file system, as much of it as a member needs. Paths are absolute or relative to the process.
pub trait Disk: Send + Sync + 'static {
    /// Makes a new, empty file, open for reading and writing; an older one of that name is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Names (not paths) of what `dir` holds, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Renames within one file system; an older file of the new name is replaced in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes `dir` and its missing parents, for the owner alone (mode 0700), and makes that durable.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes `dir`, which must be empty, and makes that durable.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes names created in, renamed into or removed from `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes `path` for this process until the guard is dropped; `WouldBlock` if another has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// Held while a folder is this process's own.
pub trait Lock: Send + Sync {}

/// An open file. Shared: readers at any offset go on beside the one writer.
#[expect(clippy::len_without_is_empty, reason = "a length on disk costs a call, and nobody asks")]
pub trait File: Send + Sync {
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or extends it with zeros that may not be allocated yet.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Fills `into` from `offset` on; fewer bytes only at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Appends `len` bytes from `offset` on to `out`: the way a stored value reaches a response.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the file ends sooner; `out` is then as it was.
    fn copy_to(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> io::Result<()>;

    /// Writes all of `bytes`. Of a write that fails, any part may have been done.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Has the disk write `length` bytes from `offset` on, and waits for it. That makes nothing durable,
    /// but the next `sync` short: for what is written in the background, so that a sync elsewhere never
    /// waits for much of it.
    ///
    /// # Errors
    ///
    /// As those of `sync`: what was written may be lost.
    fn write_out(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes all that was written so far durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;

    /// Promises that `copy_to` will be used often below `len`, and that the file won't shrink below
    /// it: the real disk then maps it instead of calling the system for each value.
    fn map(&self, len: u64) -> io::Result<()>;
}
