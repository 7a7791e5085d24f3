//! Citations of the protocol: each section and rule that a file cites exists in `docs/protocol.md`.
//!
//! Read as citations are "protocol section 3", "section 3 of the protocol", "rule 3.2" and lists of
//! these ("rules 3.2,
//! 3.4 and 3.5"), in code, comments and prose alike, over line breaks too.

use std::collections::BTreeSet;

use super::{Finding, Rule};

/// The document, from the root of the repository.
pub const PAGE: &str = "docs/protocol.md";

/// The sections and rules of the protocol.
#[derive(Debug)]
pub struct Protocol {
    sections: BTreeSet<u32>,
    rules: BTreeSet<(u32, u32)>,
}

impl Protocol {
    /// Reads the document: `## 3. Title` opens a section, `**3.2**` at the start of a line a rule.
    pub fn read(page: &str) -> Self {
        let sections = page.lines().filter_map(|line| {
            let (number, _) = line.strip_prefix("## ")?.split_once(". ")?;
            number.parse().ok()
        });
        let rules = page.lines().filter_map(|line| {
            let (id, _) = line.strip_prefix("**")?.split_once("**")?;
            dotted(id)
        });
        Self {
            sections: sections.collect(),
            rules: rules.collect(),
        }
    }

    fn has(&self, cited: Cited) -> bool {
        match cited {
            Cited::Section(section) => self.sections.contains(&section),
            Cited::Rule(section, rule) => self.rules.contains(&(section, rule)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cited {
    Section(u32),
    Rule(u32, u32),
}

/// Citations of a file that name nothing in the document.
pub fn check(path: &str, content: &str, protocol: &Protocol) -> Vec<Finding> {
    let is_read = [".rs", ".toml", ".md"]
        .iter()
        .any(|end| path.ends_with(end));
    if !is_read || path == PAGE {
        return Vec::new();
    }
    let missing = citations(content)
        .into_iter()
        .filter(|(_, cited)| !protocol.has(*cited));
    missing
        .map(|(line, cited)| finding(path, line, cited))
        .collect()
}

/// Rules of the simulator's list (`"3.2"` in its source) that are missing in the document.
pub fn check_simulator(path: &str, content: &str, protocol: &Protocol) -> Vec<Finding> {
    let listed = (1..).zip(content.lines()).flat_map(|(line, text)| {
        let quoted = text.split('"').skip(1).step_by(2).filter_map(dotted);
        quoted.map(move |(section, rule)| (line, Cited::Rule(section, rule)))
    });
    let missing = listed.filter(|(_, cited)| !protocol.has(*cited));
    missing
        .map(|(line, cited)| finding(path, line, cited))
        .collect()
}

fn finding(path: &str, line: usize, cited: Cited) -> Finding {
    let what = match cited {
        Cited::Section(section) => format!("section {section}"),
        Cited::Rule(section, rule) => format!("rule {section}.{rule}"),
    };
    Finding {
        path: path.to_owned(),
        line,
        rule: Rule::Citations,
        message: format!("{PAGE} has no {what}: cite one that exists, or add it there"),
        what,
    }
}

/// The citations of a text with their lines.
fn citations(content: &str) -> Vec<(usize, Cited)> {
    let words: Vec<(usize, &str)> = (1..)
        .zip(content.lines())
        .flat_map(|(line, text)| text.split_whitespace().map(move |word| (line, word)))
        .filter(|(_, word)| word.contains(|c: char| c.is_ascii_alphanumeric()))
        .collect();
    let mut found = Vec::new();
    for (at, (_, word)) in words.iter().enumerate() {
        // Most words are of another length, which is cheaper to see than their letters.
        let name = plain(word);
        if !matches!(name.len(), 4 | 5 | 7 | 8) {
            continue;
        }
        let is_section = is_any(name, &["section", "sections"]);
        if !is_section && !is_any(name, &["rule", "rules"]) {
            continue;
        }
        let is_plural = name.ends_with(['s', 'S']);
        let numbers = numbers(&words[at + 1..], is_plural);
        let before = at.checked_sub(1).map(|before| words[before].1);
        let after = words.get(at + 1 + numbers.len()..).unwrap_or_default();
        let of_protocol = before.is_some_and(is_protocol)
            || matches!(after, [(_, of), (_, the), (_, name), ..]
                if *of == "of" && *the == "the" && is_protocol(name));
        for (line, number) in numbers {
            let Some(number) = number else {
                continue;
            };
            match (dotted(number), number.parse()) {
                (Some((section, rule)), _) => found.push((line, Cited::Rule(section, rule))),
                (None, Ok(section)) if is_section && of_protocol => {
                    found.push((line, Cited::Section(section)));
                }
                (None, _) => {}
            }
        }
    }
    found
}

/// The list of numbers at the start of `words`, an entry for each word of it; words between numbers
/// are `None`.
fn numbers<'a>(words: &[(usize, &'a str)], is_plural: bool) -> Vec<(usize, Option<&'a str>)> {
    let mut list = Vec::new();
    let mut may_follow = true;
    for (line, word) in words {
        let number = plain(word);
        let number = number.split_once('\'').map_or(number, |(number, _)| number);
        if may_follow && number.starts_with(|c: char| c.is_ascii_digit()) {
            list.push((*line, Some(number)));
            may_follow = is_plural && word.ends_with(',');
        } else if is_plural && !list.is_empty() && is_any(word, &["and", "or", "to"]) {
            list.push((*line, None));
            may_follow = true;
        } else {
            break;
        }
    }
    list
}

/// Without the punctuation around it.
fn plain(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_ascii_alphanumeric())
}

fn is_any(word: &str, names: &[&str]) -> bool {
    names
        .iter()
        .any(|name| plain(word).eq_ignore_ascii_case(name))
}

fn is_protocol(word: &str) -> bool {
    is_any(word, &["protocol", "protocol.md", "docs/protocol.md"])
}

/// `3.2` as (3, 2).
fn dotted(text: &str) -> Option<(u32, u32)> {
    let (section, rule) = text.split_once('.')?;
    Some((section.parse().ok()?, rule.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# The protocol\n## 1. First\n**1.1** Text, and **9.9** inside.\n\
                            **1.2** Text.\n## 3. Third\n**3.10** Text.\n### Not a section\n";

    #[test]
    fn the_document_is_read() {
        let protocol = Protocol::read(DOCUMENT);
        assert_eq!(protocol.sections, BTreeSet::from([1, 3]));
        assert_eq!(protocol.rules, BTreeSet::from([(1, 1), (1, 2), (3, 10)]));
    }

    #[test]
    fn citations_are_found_in_prose() {
        use Cited::{Rule, Section};
        let cases = [
            ("/// Votes (protocol section 3).", vec![Section(3)]),
            ("/// Protocol section 3's \"Valid\"", vec![Section(3)]),
            ("// docs/protocol.md, section 7", vec![Section(7)]),
            ("// Section 3 of the protocol says", vec![Section(3)]),
            (
                "//! (protocol sections 1, 2 and 4)",
                vec![Section(1), Section(2), Section(4)],
            ),
            ("//! the protocol\n//! section 8", vec![Section(8)]),
            ("# rule 3.2 (docs/protocol.md)", vec![Rule(3, 2)]),
            (
                "// Rules 3.2, 3.4 and 3.14.",
                vec![Rule(3, 2), Rule(3, 4), Rule(3, 14)],
            ),
            ("// see rule\n// 3.2, 5 nodes", vec![Rule(3, 2)]),
            ("// a section 3 of something else", vec![]),
            ("// house rule 6; rules of 2 kinds; the rule", vec![]),
            ("fn section(at: u8) -> f32 { 3.2 }", vec![]),
        ];
        for (text, expected) in cases {
            let found: Vec<Cited> = citations(text)
                .into_iter()
                .map(|(_, cited)| cited)
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn citations_of_nothing_are_findings() {
        let protocol = Protocol::read(DOCUMENT);
        let text = "// protocol section 3, rule 1.2\n// protocol section 2\n//! rule 1.3";
        let found = check("node/src/a.rs", text, &protocol);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.line, one.what.as_str()))
            .collect();
        assert_eq!(found, [(2, "section 2"), (3, "rule 1.3")]);
        assert!(check(PAGE, text, &protocol).is_empty());
        assert!(check("page.css", text, &protocol).is_empty());
    }

    #[test]
    fn the_simulator_lists_rules_of_the_document() {
        let protocol = Protocol::read(DOCUMENT);
        let list = "rule(\"1.2\", \"sentence 7.7\"),\nrule(\n\"3.9\",\n\"12.1 ms\")";
        let found = check_simulator("sim/src/rules.rs", list, &protocol);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].line, found[0].what.as_str()), (3, "rule 3.9"));
    }
}
