//! Writing to the disk ahead of a sync.
//!
//! A sync makes the file system commit its journal and the disk empty its cache, and all other syncs wait
//! for that. Writing out does neither: the data goes to the disk, and nobody else notices.

#![expect(
    unsafe_code,
    reason = "sync_file_range has no safe face in std; this folder is where unsafe may live"
)]

use std::fs::File;
use std::io;

/// Returns when the disk has the range. Where the system has no call for that, it is synced.
#[cfg(target_os = "linux")]
pub(super) fn write_out(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let start = i64::try_from(offset).map_err(io::Error::other)?;
    let length = i64::try_from(length).map_err(io::Error::other)?;
    let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the call takes no pointers, and the descriptor is open for its length.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), start, length, how) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE) => file.sync_data(),
        Some(_) | None => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn write_out(file: &File, _offset: u64, _length: u64) -> io::Result<()> {
    file.sync_data()
}
