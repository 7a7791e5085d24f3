//! A replacement of `getrandom` 0.2 that calls libc in place of the kernel.
//!
//! The published crate makes the raw system call, which the simulator cannot intercept. madsim
//! interposes `libc::getrandom`, which makes the same call in production. The crate contains only
//! [`getrandom`], which `rand_core` 0.6 and `ring` use.

use std::fmt;

/// An `errno` of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error(std::num::NonZeroU32);

impl Error {
    /// The raw code, as the published crate exposes it.
    pub const fn code(self) -> std::num::NonZeroU32 {
        self.0
    }

    /// The operating system's error number.
    pub fn raw_os_error(self) -> Option<i32> {
        i32::try_from(self.0.get()).ok()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "getrandom failed: os error {}", self.0)
    }
}

impl std::error::Error for Error {}

/// Fills `dest` with random bytes.
pub fn getrandom(dest: &mut [u8]) -> Result<(), Error> {
    let mut filled = 0;
    while filled < dest.len() {
        let rest = &mut dest[filled..];
        // SAFETY: `rest` is a valid, writable slice of `rest.len()` bytes for the duration of the
        // call.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        if got < 0 {
            let errno = std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO);
            if errno == libc::EINTR {
                continue;
            }
            let code = u32::try_from(errno)
                .ok()
                .and_then(std::num::NonZeroU32::new);
            return Err(Error(code.unwrap_or(std::num::NonZeroU32::MIN)));
        }
        filled += got as usize;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn fills_the_whole_buffer() {
        let mut bytes = [0u8; 64];
        super::getrandom(&mut bytes).expect("libc::getrandom answers");
        assert!(bytes.iter().any(|b| *b != 0));
    }
}
