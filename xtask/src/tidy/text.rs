//! Text that no file of the repository may contain, in any language.

use super::{Finding, Rule};

/// Marks of postponed work, in parts so that this file does not contain them.
const MARKS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Directories of one machine's user.
const HOMES: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Use", "rs/"),
    concat!("/wo", "rk/"),
    concat!("C:\\", "Users"),
];

/// Lock files, which tools write.
const LOCK_FILES: &[&str] = &["Cargo.lock", "package-lock.json"];

/// Origins of locked packages, by prefix.
const REGISTRIES: &[&str] = &[
    "registry+https://github.com/rust-lang/crates.io-index",
    "https://registry.npmjs.org/",
];

/// The findings in the text of one file.
pub fn check(path: &str, content: &str) -> Vec<Finding> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let locked = LOCK_FILES.contains(&name);
    let mut findings = Vec::new();
    let mut find = |line: usize, rule: Rule, what: &str, message: String| {
        findings.push(Finding {
            path: path.to_owned(),
            line,
            rule,
            what: what.to_owned(),
            message,
        });
    };
    for (line, text) in (1..).zip(content.lines()) {
        if locked {
            if let Some(from) = origin(text)
                && !REGISTRIES.iter().any(|registry| from.starts_with(registry))
            {
                let message = format!(
                    "locked from `{from}`, which other machines cannot reach: lock against the \
                     public registry"
                );
                find(line, Rule::Machine, "registry", message);
            }
            continue;
        }
        if let Some(mark) = MARKS.iter().find(|mark| has_word(text, mark)) {
            find(
                line,
                Rule::Unfinished,
                mark,
                format!("`{mark}`: do it, or file an issue"),
            );
        }
        if let Some(home) = HOMES.iter().find(|home| has_path(text, home)) {
            let message =
                format!("`{home}..` is a path of one machine: make it relative, or an argument");
            find(line, Rule::Machine, home, message);
        }
        let registry = text.trim_start();
        let replaces = (path.contains(".cargo/") && registry.starts_with("[source."))
            || (name == ".npmrc" && registry.starts_with("registry"));
        if replaces {
            let message =
                "a registry of one machine: keep it in that machine's own configuration".to_owned();
            find(line, Rule::Machine, "registry", message);
        }
    }
    findings
}

/// The origin of a package in a line of a lock file.
fn origin(line: &str) -> Option<&str> {
    let line = line.trim();
    let value = line
        .strip_prefix("source = ")
        .or_else(|| line.strip_prefix("\"resolved\": "))?;
    Some(value.trim_end_matches(',').trim_matches('"'))
}

fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(part_of_word) && !text[at + word.len()..].starts_with(part_of_word)
    })
}

/// True when an absolute path in `text` begins with `start`, and not inside of a longer path.
fn has_path(text: &str, start: &str) -> bool {
    text.match_indices(start).any(|(at, _)| {
        !text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/}$~*>".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, Rule)> {
        check(path, text)
            .iter()
            .map(|finding| (finding.line, finding.rule))
            .collect()
    }

    #[test]
    fn postponed_work_is_found() {
        for mark in MARKS {
            assert_eq!(
                found("node/src/a.rs", &format!("\n// {mark}: later")),
                [(2, Rule::Unfinished)]
            );
            assert!(found("node/src/a.rs", &format!("// A{mark} {mark}S")).is_empty());
        }
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for home in HOMES {
            for before in ["", " ", "\"", "(", "=", "`", "file://"] {
                let expected: &[_] = if before == "file://" {
                    &[]
                } else {
                    &[(1, Rule::Machine)]
                };
                assert_eq!(
                    found("docs/a.md", &format!("{before}{home}x")),
                    expected,
                    "{before}{home}"
                );
            }
            assert!(found("docs/a.md", &format!("aux{home}x")).is_empty());
        }
    }

    #[test]
    fn lock_files_name_public_registries_only() {
        let good = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n  \
            \"resolved\": \
            \"https://registry.npmjs.org/ws/-/ws-8.tgz\",";
        let bad = "source = \"registry+http://10.0.0.1/index\"\n  \
            \"resolved\": \"http://mirror.example/ws.tgz\",";
        assert!(found("Cargo.lock", good).is_empty());
        assert_eq!(
            found("tests/npm/package-lock.json", bad),
            [(1, Rule::Machine), (2, Rule::Machine)]
        );
        assert_eq!(
            found(".cargo/config.toml", "[source.crates-io]"),
            [(1, Rule::Machine)]
        );
        assert_eq!(
            found("tests/npm/.npmrc", "registry=http://mirror.example"),
            [(1, Rule::Machine)]
        );
    }
}
