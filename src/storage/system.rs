//! The two system calls that the standard library lacks: reserving space, and asking for what is left.
#![expect(unsafe_code, reason = "fallocate and statvfs have no safe wrapper in our dependencies")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Reserves `[0, bytes)` of `file`, reading as zero, and makes it that long.
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    loop {
        // SAFETY: the descriptor is open for as long as `file` is borrowed; no memory is passed.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Bytes that an unprivileged process can still write below `directory`.
///
/// # Errors
/// What the system says of the directory.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` ends in a zero and outlives the call; `answer` is as large as is written to.
    if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed bytes are a valid statvfs, and the call succeeded.
    let answer = unsafe { answer.assume_init() };
    #[expect(clippy::useless_conversion, reason = "the fields' types differ between platforms")]
    Ok(u64::from(answer.f_bavail).saturating_mul(u64::from(answer.f_frsize)))
}
