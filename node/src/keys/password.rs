//! Where a password comes from: a file, the environment, a person.

use std::path::Path;

use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// The environment variable that may hold the password.
pub const ENVIRONMENT: &str = "ALYS_PASSWORD";

/// A password. Wiped from memory when dropped; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A password that is known already.
    pub fn new(text: impl Into<String>) -> Password {
        Password(Zeroizing::new(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("password file: {0}")]
    File(#[from] FileError),
    /// Nobody to ask.
    #[error(
        "no password: give a password file (--password-file, or password_file in the configuration), set \
         {ENVIRONMENT}, or run in a terminal"
    )]
    Nobody,
    /// An empty one protects nothing.
    #[error("the password is empty")]
    Empty,
    /// Typed differently the second time.
    #[error("the two passwords differ; nothing was written")]
    Differ,
}

/// For what the password is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To decrypt: asked for once.
    Unlock,
    /// To encrypt something new: asked for twice.
    Choose,
}

/// The password: from `file` if there is one, else from the environment, else from the terminal.
///
/// # Errors
/// See [`PasswordError`].
pub fn obtain(file: Option<&Path>, purpose: Purpose) -> Result<Password, PasswordError> {
    let password = if let Some(file) = file {
        let text = Zeroizing::new(files::read_text(file)?);
        // Editors and echo end a file with a line break that is not meant.
        Password::new(text.trim_end_matches(['\r', '\n']))
    } else if let Ok(text) = std::env::var(ENVIRONMENT) {
        Password::new(text)
    } else {
        ask(purpose)?
    };
    match password.as_str().is_empty() {
        true => Err(PasswordError::Empty),
        false => Ok(password),
    }
}

fn ask(purpose: Purpose) -> Result<Password, PasswordError> {
    let prompt = |text: &str| rpassword::prompt_password(text).map_err(|_| PasswordError::Nobody);
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
