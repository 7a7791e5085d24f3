//! Rust source as words and paths: enough to see what code names, blind to comments and strings.

/// A word or a mark of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// Its text: an identifier or keyword, `::`, or one other character.
    pub text: &'a str,
    /// The line, from 1.
    pub line: usize,
}

/// A path as code names it, `use` trees taken apart: `use a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'a> {
    /// Its parts; `*` for a glob.
    pub parts: Vec<&'a str>,
    /// The line of the last part, from 1.
    pub line: usize,
    /// Followed by `!`.
    pub is_macro: bool,
}

impl Path<'_> {
    /// The path as written, with `::`.
    pub fn text(&self) -> String {
        self.parts.join("::")
    }

    /// Whether it starts with these parts.
    pub fn starts_with(&self, parts: &[&str]) -> bool {
        self.parts.starts_with(parts)
    }

    /// Whether it ends with these parts.
    pub fn ends_with(&self, parts: &[&str]) -> bool {
        self.parts.ends_with(parts)
    }
}

/// The tokens of a source, without comments, strings, characters, lifetimes and numbers.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let rest = &source[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest) {
            length
        } else if rest.starts_with('\'') {
            quote(rest)
        } else if let Some(length) = word(rest) {
            // A raw identifier is the word itself.
            tokens.push(Token {
                text: rest[..length].trim_start_matches("r#"),
                line,
            });
            length
        } else if rest.starts_with("::") {
            tokens.push(Token { text: "::", line });
            2
        } else {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            let text = &rest[..length];
            if rest.starts_with(|c: char| c.is_ascii_digit()) {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(rest.len())
            } else {
                if !text.trim().is_empty() {
                    tokens.push(Token { text, line });
                }
                length
            }
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

/// The tokens outside of modules that are only compiled for tests.
pub fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        match test_module(&tokens[at..]) {
            Some(length) => at += length,
            None => {
                kept.push(tokens[at]);
                at += 1;
            }
        }
    }
    kept
}

/// The paths that code names, in order.
pub fn paths<'a>(tokens: &[Token<'a>]) -> Vec<Path<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next = |ahead: usize| tokens.get(at + ahead).map(|token| token.text);
        if tokens[at].text == "use" && next(1) != Some("<") {
            at = use_tree(tokens, at + 1, &[], &mut found);
        } else if is_word(tokens[at].text) {
            let mut parts = vec![tokens[at].text];
            let mut end = at;
            while tokens.get(end + 1).is_some_and(|token| token.text == "::")
                && tokens.get(end + 2).is_some_and(|token| is_word(token.text))
            {
                end += 2;
                parts.push(tokens[end].text);
            }
            let is_macro = tokens.get(end + 1).is_some_and(|token| token.text == "!")
                && tokens.get(end + 2).is_none_or(|token| token.text != "=");
            found.push(Path {
                parts,
                line: tokens[end].line,
                is_macro,
            });
            at = end + 1;
        } else {
            at += 1;
        }
    }
    found
}

/// Takes apart the tree that starts at `at`; returns where it ends.
fn use_tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    found: &mut Vec<Path<'a>>,
) -> usize {
    let mut parts = prefix.to_vec();
    let mut line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text {
            "::" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = use_tree(tokens, at, &parts, found);
                    if tokens.get(at).is_some_and(|token| token.text == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "as" => at += 1,
            "self" if !parts.is_empty() => line = token.line,
            "*" => {
                parts.push("*");
                line = token.line;
            }
            text if is_word(text) => {
                parts.push(text);
                line = token.line;
            }
            // `,`, `;` or `}`: the end of this leaf.
            _ => break,
        }
        at += 1;
    }
    found.push(Path {
        parts,
        line,
        is_macro: false,
    });
    // Never stands still, whatever the input.
    if tokens
        .get(at)
        .is_some_and(|token| !matches!(token.text, "," | "}"))
    {
        at + 1
    } else {
        at
    }
}

/// The length of `#[cfg(.. test ..)] mod name { .. }` at the start of the tokens.
fn test_module(tokens: &[Token<'_>]) -> Option<usize> {
    let text = |at: usize| tokens.get(at).map(|token| token.text);
    if (text(0), text(1), text(2)) != (Some("#"), Some("["), Some("cfg")) {
        return None;
    }
    let close = tokens.iter().position(|token| token.text == "]")?;
    let attribute = &tokens[3..close];
    let negated = attribute
        .windows(3)
        .any(|w| w[0].text == "not" && w[2].text == "test");
    if negated || !attribute.iter().any(|token| token.text == "test") {
        return None;
    }
    if text(close + 1) != Some("mod") || text(close + 3) != Some("{") {
        return None;
    }
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(close + 3) {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index + 1);
        }
    }
    Some(tokens.len())
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn word(rest: &str) -> Option<usize> {
    let start = if rest.starts_with("r#") { 2 } else { 0 };
    if !is_word(&rest[start..]) {
        return None;
    }
    let end = rest[start..].find(|c: char| !c.is_alphanumeric() && c != '_');
    Some(end.map_or(rest.len(), |end| start + end))
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    let bytes = rest.as_bytes();
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of the string literal of any kind at the start.
fn string(rest: &str) -> Option<usize> {
    let body = rest.trim_start_matches(['b', 'c', 'r']);
    let prefix = rest.len() - body.len();
    if prefix > 2 {
        return None;
    }
    let raw = rest[..prefix].contains('r');
    let hashes = body.len() - body.trim_start_matches('#').len();
    if !body[hashes..].starts_with('"') || (hashes > 0 && !raw) {
        return None;
    }
    let open = prefix + hashes + 1;
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(
            rest[open..]
                .find(&end)
                .map_or(rest.len(), |at| open + at + end.len()),
        );
    }
    let mut escaped = false;
    for (at, c) in rest[open..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(open + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// The length of a character literal or lifetime.
fn quote(rest: &str) -> usize {
    let mut after = rest[1..].char_indices();
    match (after.next(), after.next()) {
        (Some((_, '\\')), _) => {
            // The escaped character may itself be a quote.
            let tail = rest.get(3..).unwrap_or_default();
            tail.find('\'').map_or(rest.len(), |at| 3 + at + 1)
        }
        (Some((_, c)), Some((_, '\''))) if c != '\'' => 1 + c.len_utf8() + 1,
        // A lifetime: the quote goes, and so does the word, which names nothing.
        _ => 1 + word(&rest[1..]).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: &str) -> Vec<(String, usize)> {
        paths(&tokens(source))
            .into_iter()
            .map(|path| (path.text(), path.line))
            .collect()
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let source = "use std::{fs, time::{self, Duration as D,\n Instant}, net::*};\npub use a::b;\nfn f() { c::d(); }";
        let expected = [
            ("std::fs", 1),
            ("std::time", 1),
            ("std::time::Duration", 1),
            ("std::time::Instant", 2),
            ("std::net::*", 2),
            ("pub", 3),
            ("a::b", 3),
            ("fn", 4),
            ("f", 4),
            ("c::d", 4),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(text, line)| (text.to_string(), *line))
            .collect();
        assert_eq!(named(source), expected);
    }

    #[test]
    fn comments_strings_characters_and_lifetimes_name_nothing() {
        let source = r####"
            // tokio::spawn
            /* std::fs /* nested */ std::net */
            let a = "std::fs \" tokio"; let b = r#"tokio " "#; let c = b"tokio"; let d = '"'; let e = '\'';
            fn f<'tokio>(x: &'tokio str) -> char { 'x' }
            let g = br##"tokio"# "##; let h = '\u{1F600}'; let i = 'é';
        "####;
        let words: Vec<String> = named(source).into_iter().map(|(text, _)| text).collect();
        let kept = [
            "let", "a", "let", "b", "let", "c", "let", "d", "let", "e", "fn", "f", "x", "str",
            "char",
        ];
        assert_eq!(words[..kept.len()], kept);
        assert_eq!(words[kept.len()..], ["let", "g", "let", "h", "let", "i"]);
    }

    #[test]
    fn macros_are_told_from_comparisons() {
        let found = paths(&tokens("todo!(); if a != b {} std::println!()"));
        let macros: Vec<String> = found
            .iter()
            .filter(|p| p.is_macro)
            .map(Path::text)
            .collect();
        assert_eq!(macros, ["todo", "std::println"]);
    }

    #[test]
    fn modules_for_tests_are_left_out() {
        let source = "a::b; #[cfg(test)] mod tests { fn f() { c::d } } #[cfg(all(test, not(madsim)))] mod more { e } \
                      #[cfg(not(test))] mod kept { g::h } i::j";
        let found: Vec<String> = paths(&without_tests(&tokens(source)))
            .iter()
            .filter(|p| p.parts.len() > 1)
            .map(Path::text)
            .collect();
        assert_eq!(found, ["a::b", "g::h", "i::j"]);
    }

    #[test]
    fn any_bytes_come_to_an_end() {
        for source in [
            "use",
            "use a::{",
            "use a::{b",
            "'",
            "'\\",
            "\"",
            "r#\"",
            "/*",
            "use ;",
            "use a b c;",
            "::",
            "é'",
        ] {
            paths(&without_tests(&tokens(source)));
        }
    }
}
