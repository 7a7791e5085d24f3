//! Passwords from a file, the environment or the terminal.

use std::path::Path;

use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// The environment variable that may hold the password. It stays set, because to remove it is not
/// safe while other threads run.
pub const ENVIRONMENT: &str = "ALYS_PASSWORD";

/// A password. Wiped from memory when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    pub fn new(text: impl Into<String>) -> Password {
        Password(Zeroizing::new(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Reason for which there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("password file: {0}")]
    File(#[from] FileError),
    /// There is no terminal to ask on.
    #[error(
        "no password: give a password file (--password-file, or password_file in the \
         configuration), set {ENVIRONMENT}, or run in a terminal"
    )]
    NoTerminal,
    #[error("the password is empty")]
    Empty,
    #[error("the two passwords differ; nothing was written")]
    Differ,
}

/// Use of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Decrypts a keystore: asked for once.
    Unlock,
    /// Encrypts a new keystore: asked for twice.
    Choose,
}

/// Obtains the password from `file` if given, else from the environment, else from the terminal.
///
/// # Errors
/// Any [`PasswordError`].
pub fn obtain(file: Option<&Path>, purpose: Purpose) -> Result<Password, PasswordError> {
    let password = if let Some(file) = file {
        let text = files::read_secret(file)?;
        // The line break that editors and `echo` append is no part of the password.
        Password::new(text.trim_end_matches(['\r', '\n']))
    } else if let Ok(text) = std::env::var(ENVIRONMENT) {
        Password::new(text)
    } else {
        ask(purpose)?
    };
    if password.as_str().is_empty() {
        return Err(PasswordError::Empty);
    }
    Ok(password)
}

fn ask(purpose: Purpose) -> Result<Password, PasswordError> {
    let prompt =
        |text: &str| rpassword::prompt_password(text).map_err(|_| PasswordError::NoTerminal);
    match purpose {
        Purpose::Unlock => Ok(Password::new(prompt("Password of the keystore: ")?)),
        Purpose::Choose => {
            let first = Password::new(prompt("New password for the keystore: ")?);
            let second = Password::new(prompt("The same again: ")?);
            if first == second {
                Ok(first)
            } else {
                Err(PasswordError::Differ)
            }
        }
    }
}
