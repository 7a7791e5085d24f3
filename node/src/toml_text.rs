//! Reading TOML that a person wrote: what is wrong, in which line, and what was probably meant.

use serde::de::DeserializeOwned;

/// Why a text is not what it should be. One line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}{}", advice(.meant))]
pub struct TomlError {
    /// The file, as the person named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// The known word that is nearest to the unknown one.
    pub meant: Option<String>,
}

fn advice(meant: &Option<String>) -> String {
    meant
        .as_ref()
        .map_or(String::new(), |word| format!("; did you mean `{word}`?"))
}

/// Reads `text`, which stands in `file`.
///
/// # Errors
/// [`TomlError`].
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = 1 + text.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        let mut message = error.message().lines().collect::<Vec<_>>().join(" ");
        // serde tells the type that it wants and the value that it found, but not whose.
        if let (true, Some(field)) = (message.starts_with("invalid "), field_of(text, at)) {
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

/// The name before the `=` of the line that the byte at `at` is in.
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

/// The known word that is nearest to the unknown one in a message of serde's, which puts both between back-quotes, the
/// unknown one first.
fn meant(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    words
        .map(|word| (distance(unknown, word), word))
        .min()
        .filter(|(distance, word)| *distance <= 1 + word.len() / 3)
        .map(|(_, word)| word.to_owned())
}

/// Edits (insert, remove, replace, swap of neighbours) from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replace = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_type_is_told_with_its_field() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "only reading it matters")]
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
    fn distances_count_edits() {
        for (from, to, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("listn", "listen", 1),
            ("lsiten", "listen", 1),
            ("dog", "cat", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }
}
