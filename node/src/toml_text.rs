//! Reads TOML that a person wrote. Errors name the line, and the known word nearest to an unknown
//! one.

use serde::de::DeserializeOwned;

/// A mistake in a text, as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}{}", advice(.meant))]
pub struct TomlError {
    /// The file, as the person named it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    pub message: String,
    /// The known word nearest to an unknown one.
    pub meant: Option<String>,
}

fn advice(meant: &Option<String>) -> String {
    meant
        .as_ref()
        .map_or(String::new(), |word| format!("; did you mean `{word}`?"))
}

/// Reads `text`, the content of `file`.
///
/// # Errors
/// The first mistake.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = 1 + text.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        let mut message = error.message().lines().collect::<Vec<_>>().join(" ");
        // serde names the expected type and the value, but not the field.
        if message.starts_with("invalid ")
            && let Some(field) = field_of(text, at)
        {
            message = format!("{field}: {message}");
        }
        let meant = meant(&message);
        TomlError {
            file: file.to_owned(),
            line,
            message,
            meant,
        }
    })
}

/// The name before the `=` in the line of the byte at `at`.
fn field_of(text: &str, at: usize) -> Option<&str> {
    let start = text.as_bytes()[..at]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    let name = text.get(start..)?.lines().next()?.split_once('=')?.0.trim();
    let is_name = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    (!name.is_empty() && is_name(name)).then_some(name)
}

/// The known word nearest to the unknown one in a message of serde, which quotes the unknown word
/// first and the known ones after it.
fn meant(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    words
        .map(|word| (strsim::osa_distance(unknown, word), word))
        .min()
        .filter(|(distance, word)| *distance <= 1 + word.len() / 3)
        .map(|(_, word)| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_a_wrong_type_is_reported_with_its_field() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "only the parsing is tested")]
        struct Read {
            listen: String,
            ports: Vec<u16>,
        }
        for (text, expected) in [
            (
                "ports = []\nlisten = 7",
                "f:2: listen: invalid type: integer `7`",
            ),
            ("listen = ''\n  ports = 'é'", "f:2: ports: invalid type"),
            (
                "listen = ''\nports = [\n1, 70000]",
                "f:3: invalid value: integer `70000`",
            ),
            ("\"é\" = 7", "f:1: missing field `listen`"),
        ] {
            let error = read::<Read>("f", text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_nearest_known_word_is_suggested() {
        for (unknown, expected) in [
            ("listn", Some("listen")),
            ("lsiten", Some("listen")),
            ("prts", Some("ports")),
            ("dog", None),
        ] {
            let message = format!("unknown field `{unknown}`, expected `listen` or `ports`");
            assert_eq!(meant(&message).as_deref(), expected, "{unknown}");
        }
    }
}
