//! The basic authentication of HTTP (RFC 7617), which pools and `bitcoin-cli` use for JSON-RPC.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The scheme, which is compared without regard to case.
const SCHEME: &str = "basic";
/// Longest header that is decoded.
const MAX_HEADER_BYTES: usize = 1024;

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login(Zeroizing<String>);

/// Reason for which a request is not logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error("no Authorization header; this server asks for a user and a password (Basic)")]
    Missing,
    #[error("the Authorization header is not `Basic` and base64 of user:password")]
    Malformed,
    #[error("the user or the password is wrong")]
    Wrong,
}

/// Reason for which a user and a password are no login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLogin {
    #[error("a user name has no colon")]
    Colon,
    #[error("the user name is empty")]
    NoUser,
    #[error("the password is empty")]
    NoPassword,
    #[error("user and password together have at most {} bytes", MAX_LOGIN_BYTES)]
    TooLong,
}

/// Longest user and password, with the colon between.
const MAX_LOGIN_BYTES: usize = 512;

impl Login {
    /// # Errors
    /// Any [`BadLogin`].
    pub fn new(user: &str, password: &str) -> Result<Login, BadLogin> {
        if user.contains(':') {
            return Err(BadLogin::Colon);
        }
        if user.is_empty() {
            return Err(BadLogin::NoUser);
        }
        if password.is_empty() {
            return Err(BadLogin::NoPassword);
        }
        let login = Zeroizing::new(format!("{user}:{password}"));
        if login.len() > MAX_LOGIN_BYTES {
            return Err(BadLogin::TooLong);
        }
        Ok(Login(login))
    }

    /// Checks the value of an `Authorization` header. Hashes are compared, so that the time reveals
    /// nothing about the login.
    ///
    /// # Errors
    /// Any [`LoginError`].
    pub fn verify_header(&self, header: Option<&[u8]>) -> Result<(), LoginError> {
        let header = header.ok_or(LoginError::Missing)?;
        let text = std::str::from_utf8(header).map_err(|_| LoginError::Malformed)?;
        let (scheme, token) = text.split_once(' ').ok_or(LoginError::Malformed)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) || text.len() > MAX_HEADER_BYTES {
            return Err(LoginError::Malformed);
        }
        let given = STANDARD.decode(token.trim());
        let given = Zeroizing::new(given.map_err(|_| LoginError::Malformed)?);
        if Sha256::digest(&*given) == Sha256::digest(self.0.as_bytes()) {
            Ok(())
        } else {
            Err(LoginError::Wrong)
        }
    }

    /// The value of an `Authorization` header with this login.
    pub(super) fn header(&self) -> HeaderValue {
        let token = Zeroizing::new(STANDARD.encode(self.0.as_bytes()));
        let mut value =
            HeaderValue::from_str(&format!("Basic {}", *token)).expect("base64 is printable ASCII");
        value.set_sensitive(true);
        value
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_checked_by_its_header() {
        let login = Login::new("pool", "pa:ss").expect("a login");
        assert_eq!(login.header(), "Basic cG9vbDpwYTpzcw==");
        let wrong = Login::new("pool", "pass").expect("a login").header();
        let long = format!("Basic {}", "A".repeat(2 * MAX_HEADER_BYTES));
        for (header, expected) in [
            (Some("Basic cG9vbDpwYTpzcw=="), Ok(())),
            (Some("bAsIc  cG9vbDpwYTpzcw== "), Ok(())),
            (None, Err(LoginError::Missing)),
            (Some(""), Err(LoginError::Malformed)),
            (Some("Basic"), Err(LoginError::Malformed)),
            (Some("Bearer cG9vbDpwYTpzcw=="), Err(LoginError::Malformed)),
            (Some("Basic cG9vbDpwYTpzcw"), Err(LoginError::Malformed)),
            (Some("Basic {}"), Err(LoginError::Malformed)),
            (Some(&long), Err(LoginError::Malformed)),
            (wrong.to_str().ok(), Err(LoginError::Wrong)),
            (Some("Basic "), Err(LoginError::Wrong)),
        ] {
            let found = login.verify_header(header.map(str::as_bytes));
            assert_eq!(found, expected, "{header:?}");
        }
        assert_eq!(format!("{login:?}"), "Login");
    }

    #[test]
    fn users_and_passwords_have_bounds() {
        let long = "p".repeat(MAX_LOGIN_BYTES);
        for (user, password, expected) in [
            ("a:b", "c", BadLogin::Colon),
            ("", "c", BadLogin::NoUser),
            ("a", "", BadLogin::NoPassword),
            ("a", &long, BadLogin::TooLong),
        ] {
            assert_eq!(Login::new(user, password).err(), Some(expected));
        }
    }
}
