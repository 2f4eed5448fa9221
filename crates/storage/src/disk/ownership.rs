//! Whose a file is: locks that another retcd sees, and a Go etcd too.
//!
//! etcd locks its log segments with open-file-description locks, and bbolt files with `flock`; the
//! two know nothing of each other. Taking both keeps every mixture of servers out of one folder.

#![expect(
    unsafe_code,
    reason = "fcntl has no safe face in std; this folder is where unsafe may live"
)]

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

/// Takes `file`, which must be open for writing, until it is closed; `WouldBlock` if another has
/// it.
pub(super) fn take(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => take_description(file),
        Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

fn take_description(file: &File) -> io::Result<()> {
    let whole_file = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0, // Must be 0 for this kind of lock.
    };
    // SAFETY: the descriptor is open for the length of the call, and the third argument is what
    // F_OFD_SETLK reads: a `flock` that lives until the call returns.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole_file) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // A file system without such locks: then etcd takes none there either, but `flock`.
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => Ok(()),
        Some(libc::EACCES) => Err(ErrorKind::WouldBlock.into()),
        Some(_) | None => Err(error),
    }
}
