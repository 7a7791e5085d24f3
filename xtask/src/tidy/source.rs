//! What Rust code may name, and where.

use super::scan::{Path, Token, paths, tokens, without_tests};
use super::{Finding, Rule};

/// Longest file, in lines, that needs no reason.
const LONG: usize = 900;

/// What gives a reason for a long file, in a comment of its own.
const LONG_MARK: &str = "// Long, because ";

/// Which rules a file is under, by where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// May name the executor.
    pub seam: bool,
    /// Nothing but arguments and results.
    pub pure: bool,
    /// Runs on a person's machine and never inside a node.
    pub tool: bool,
    /// Tests, benches and examples: they look at the world from outside.
    pub test: bool,
}

/// Directories of the crates that decide and do nothing.
pub const PURE: &[&str] = &[
    "crates/types/",
    "crates/consensus/",
    "crates/peg/",
    "crates/sync_planner/",
];

/// The place of a file.
pub fn place(path: &str) -> Place {
    let inside = |directories: &[&str]| {
        directories
            .iter()
            .any(|directory| path.starts_with(directory))
    };
    let parts = ["/tests/", "/benches/", "/examples/"];
    Place {
        seam: inside(&["crates/runtime/", "crates/shims/"]),
        pure: inside(PURE),
        tool: inside(&[
            "xtask/",
            "tests/",
            "fuzz/",
            "crates/actor_system/comparison/",
        ]),
        test: parts.iter().any(|part| path.contains(part)) || path.ends_with("/tests.rs"),
    }
}

/// Everything wrong with one file.
pub fn check(path: &str, source: &str) -> Vec<Finding> {
    let place = place(path);
    let all = tokens(source);
    let mut findings = Vec::new();
    let finding = |line: usize, rule: Rule, what: &str, message: String| Finding {
        path: path.to_owned(),
        line,
        rule,
        what: what.to_owned(),
        message,
    };
    findings.extend(
        unfinished(&all)
            .map(|(line, what, message)| finding(line, Rule::Unfinished, what, message)),
    );
    findings.extend(silenced(&all).map(|(line, lint)| {
        let message =
            format!("`{lint}(..)` without a reason: write `#[expect(the_lint, reason = \"..\")]`");
        finding(line, Rule::Silenced, lint, message)
    }));
    if !place.seam && !place.tool {
        for (line, what, message) in executor(&all, place) {
            findings.push(finding(line, Rule::Seam, what, message));
        }
    }
    let code = if place.test {
        Vec::new()
    } else {
        without_tests(&all)
    };
    for named in paths(&code) {
        let text = named.text();
        if place.pure
            && let Some(why) = impure(&named)
        {
            findings.push(finding(
                named.line,
                Rule::Pure,
                &text,
                format!("a pure crate names `{text}`: {why}"),
            ));
        }
        if !place.pure
            && !place.seam
            && !place.tool
            && let Some(instead) = behind_the_seam(&named)
        {
            let message = format!("`{text}` goes behind the runtime's back: use {instead}");
            findings.push(finding(named.line, Rule::Seam, &text, message));
        }
        if !place.tool
            && matches!(
                named.parts.last(),
                Some(&("unbounded" | "unbounded_channel"))
            )
        {
            let message = format!(
                "`{text}` grows without a limit: use a bounded queue and say what happens when it is full"
            );
            findings.push(finding(named.line, Rule::Bounded, &text, message));
        }
    }
    let lines = source.lines().count();
    if lines > LONG
        && !source
            .lines()
            .any(|line| line.trim_start().starts_with(LONG_MARK))
    {
        let message = format!(
            "{lines} lines, over {LONG}: split it, or say why not in a comment that starts `{LONG_MARK}`"
        );
        findings.push(finding(1, Rule::Length, "lines", message));
    }
    findings.extend(
        contract(path, source).map(|message| finding(1, Rule::Contract, "contract", message)),
    );
    findings
}

/// `todo!` and its kin, and tests that do not run.
fn unfinished<'a>(tokens: &'a [Token<'a>]) -> impl Iterator<Item = (usize, &'a str, String)> {
    let macros = paths(tokens).into_iter().filter_map(|path| {
        let name = path.parts.last().copied()?;
        let unwanted = path.is_macro && matches!(name, "todo" | "unimplemented" | "dbg");
        unwanted.then(|| {
            (
                path.line,
                name,
                format!("`{name}!` is not finished work: do it, or take it out"),
            )
        })
    });
    let ignored = tokens.windows(3).filter_map(|window| {
        let [hash, open, word] = window else {
            return None;
        };
        let is = (hash.text, open.text, word.text) == ("#", "[", "ignore");
        is.then(|| {
            (
                word.line,
                "ignore",
                "an ignored test holds nothing: make it fast and steady, or delete it".to_owned(),
            )
        })
    });
    macros.chain(ignored)
}

/// Attributes that silence a lint and do not say why.
fn silenced<'a>(tokens: &'a [Token<'a>]) -> impl Iterator<Item = (usize, &'a str)> {
    tokens.iter().enumerate().filter_map(|(index, token)| {
        let ends_with = |marks: &[&str]| {
            index >= marks.len()
                && tokens[index - marks.len()..index]
                    .iter()
                    .map(|token| token.text)
                    .eq(marks.iter().copied())
        };
        let attribute = matches!(token.text, "allow" | "expect")
            && (ends_with(&["#", "["]) || ends_with(&["#", "!", "["]));
        let mut inside = tokens[index..]
            .iter()
            .map(|token| token.text)
            .take_while(|text| *text != "]");
        (attribute && !inside.any(|text| text == "reason")).then_some((token.line, token.text))
    })
}

/// Mentions of the executor, and of the cfg that chooses it.
fn executor<'a>(tokens: &'a [Token<'a>], place: Place) -> Vec<(usize, &'a str, String)> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if !matches!(token.text, "tokio" | "madsim") {
            continue;
        }
        if token.text == "madsim" && is_cfg(tokens, index) {
            // A test of one of the two worlds does not compile in the other.
            if !place.test {
                let message = "only crates/runtime tells the two worlds apart: ask `alys_runtime::is_simulated()`, or take \
                               the difference as an argument"
                    .to_owned();
                found.push((token.line, "cfg(madsim)", message));
            }
            continue;
        }
        let message = format!(
            "only crates/runtime names `{}`: use what alys_runtime offers",
            token.text
        );
        found.push((token.line, token.text, message));
    }
    found
}

/// Whether the word at `index` is inside `cfg(..)`, `cfg_attr(..)` or `cfg!(..)`, through `not`, `all` and `any`.
fn is_cfg(tokens: &[Token<'_>], index: usize) -> bool {
    tokens[..index]
        .iter()
        .rev()
        .map(|token| token.text)
        .find(|text| {
            !matches!(
                *text,
                "(" | ")" | "," | "!" | "not" | "all" | "any" | "test" | "feature" | "="
            )
        })
        .is_some_and(|text| matches!(text, "cfg" | "cfg_attr"))
}

/// Why a pure crate may not name this.
fn impure(path: &Path<'_>) -> Option<&'static str> {
    const EXECUTORS: &[&str] = &["tokio", "madsim", "futures", "async_std", "smol"];
    const RANDOM: &[&str] = &["rand", "rand_core", "rand_chacha", "getrandom", "fastrand"];
    let first = *path.parts.first()?;
    if path.parts.len() > 1 && EXECUTORS.contains(&first) {
        return Some("it cannot wait; return an effect, and let an actor wait");
    }
    if path.parts.len() > 1 && RANDOM.contains(&first) {
        return Some("randomness is an argument");
    }
    if path
        .parts
        .iter()
        .any(|part| matches!(*part, "HashMap" | "HashSet" | "RandomState"))
    {
        return Some("its order differs from run to run; use BTreeMap, BTreeSet or a sorted Vec");
    }
    if !matches!(first, "std" | "core") {
        return None;
    }
    match path.parts.get(1..)? {
        ["time", "Duration", ..] => None,
        ["time", ..] => Some("time is an argument"),
        ["thread", ..] => Some("it has no threads"),
        ["sync", "mpsc", ..] => Some("it has no threads; return an effect"),
        ["fs" | "io", ..] => Some("it has no files; return an effect"),
        ["net", ..] => Some("it has no sockets; return an effect"),
        ["env" | "process", ..] => Some("it knows nothing of the process; take an argument"),
        _ => None,
    }
}

/// What to use in place of something that the simulation cannot see.
fn behind_the_seam(path: &Path<'_>) -> Option<&'static str> {
    if path.ends_with(&["Instant", "now"]) {
        return Some("alys_runtime::time::now");
    }
    if path.parts.contains(&"SystemTime") {
        return Some("alys_runtime::clock");
    }
    match path.parts.as_slice() {
        ["std", "fs", ..] => Some("alys_runtime::disk"),
        ["std", "thread", ..] => Some("alys_runtime::spawn, blocking or time::sleep"),
        ["std", "sync", "mpsc", ..] => Some("alys_runtime::sync"),
        [
            "std",
            "net",
            "TcpStream" | "TcpListener" | "UdpSocket" | "*",
            ..,
        ] => Some("alys_runtime::net"),
        _ => None,
    }
}

/// What is missing in the contract of a crate, if this is the file that opens one.
fn contract(path: &str, source: &str) -> Option<String> {
    let root = path.strip_suffix("src/lib.rs")?;
    let opening: String = source
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect::<Vec<_>>()
        .join("\n");
    if opening.is_empty() {
        return Some(
            "a crate opens with its contract: `//!` lines that say what it owns, promises and never does"
                .to_owned(),
        );
    }
    if root.starts_with("crates/shims/") {
        return None;
    }
    let opening = opening.to_lowercase();
    let missing: Vec<&str> = ["own", "promise", "never"]
        .into_iter()
        .filter(|word| !opening.contains(word))
        .collect();
    let message = || {
        format!(
            "the contract at the top does not say what the crate {}",
            missing.join(", ")
        )
    };
    (!missing.is_empty()).then(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings of a source at a path, as `rule what` by line.
    fn found(path: &str, source: &str) -> Vec<String> {
        let findings = check(path, source);
        findings
            .iter()
            .map(|f| format!("{} {} {}", f.line, f.rule, f.what))
            .collect()
    }

    #[test]
    fn pure_crates_name_nothing_of_the_world() {
        let cases = [
            ("use std::time::Duration;", vec![]),
            (
                "use std::time::{Duration, Instant};",
                vec!["1 pure std::time::Instant"],
            ),
            ("use std::time;", vec!["1 pure std::time"]),
            (
                "\nfn f() { std::fs::read(x) }",
                vec!["2 pure std::fs::read"],
            ),
            (
                "use std::{thread, net::IpAddr};",
                vec!["1 pure std::thread", "1 pure std::net::IpAddr"],
            ),
            (
                "use std::collections::{BTreeMap, HashMap};",
                vec!["1 pure std::collections::HashMap"],
            ),
            (
                "let x: alloy::map::HashSet<u8>;",
                vec!["1 pure alloy::map::HashSet"],
            ),
            ("rand::random::<u64>()", vec!["1 pure rand::random"]),
            ("fn rand(rand: u8) {}", vec![]),
            ("// std::fs, HashMap\nlet x = \"std::fs\";", vec![]),
            (
                "#[cfg(test)]\nmod tests { use std::collections::HashMap; }",
                vec![],
            ),
            (
                "tokio::spawn(x)",
                vec!["1 seam tokio", "1 pure tokio::spawn"],
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(
                found("crates/consensus/src/tree.rs", source),
                expected,
                "{source}"
            );
        }
        assert!(
            found(
                "crates/consensus/tests/model.rs",
                "use std::collections::HashMap;"
            )
            .is_empty()
        );
    }

    #[test]
    fn only_the_runtime_names_the_executor_and_the_world() {
        let cases = [
            ("use tokio::sync::mpsc;", vec!["1 seam tokio"]),
            ("use tokio_util::compat::Compat;", vec![]),
            ("#[cfg(madsim)]\nfn f() {}", vec!["1 seam cfg(madsim)"]),
            (
                "#[cfg(all(test, not(madsim)))] fn f() {}",
                vec!["1 seam cfg(madsim)"],
            ),
            ("if cfg!(madsim) {}", vec!["1 seam cfg(madsim)"]),
            ("madsim::rand::random()", vec!["1 seam madsim"]),
            ("let t = Instant::now();", vec!["1 seam Instant::now"]),
            ("let t: Instant = alys_runtime::time::now();", vec![]),
            (
                "use std::time::SystemTime;",
                vec!["1 seam std::time::SystemTime"],
            ),
            (
                "use std::net::{SocketAddr, TcpStream};",
                vec!["1 seam std::net::TcpStream"],
            ),
            ("std::thread::spawn(f)", vec!["1 seam std::thread::spawn"]),
            ("use std::fs;", vec!["1 seam std::fs"]),
            ("alys_runtime::rand::u64()", vec![]),
            (
                "futures::channel::mpsc::unbounded()",
                vec!["1 bounded futures::channel::mpsc::unbounded"],
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(found("node/src/wiring.rs", source), expected, "{source}");
        }
        let both = "#[cfg(not(madsim))]\nfn f() { std::fs::read(x); }";
        assert!(found("storage/tests/crash.rs", both).is_empty());
        assert!(found("node/src/keys/tests.rs", both).is_empty());
        assert!(
            found(
                "crates/runtime/src/disk/real.rs",
                "tokio::fs; std::fs::read"
            )
            .is_empty()
        );
        assert!(found("xtask/src/main.rs", "std::fs::read(x); Instant::now()").is_empty());
        assert_eq!(
            found("storage/tests/crash.rs", "tokio::spawn(f)"),
            ["1 seam tokio"]
        );
    }

    #[test]
    fn unfinished_work_is_found_anywhere() {
        let source = "fn f() { todo!() }\nfn g() { unimplemented!(\"x\"); dbg!(y); }\n#[test]\n#[ignore]\nfn t() {}";
        let expected = [
            "1 unfinished todo",
            "2 unfinished unimplemented",
            "2 unfinished dbg",
            "4 unfinished ignore",
        ];
        for path in [
            "node/src/a.rs",
            "crates/runtime/tests/b.rs",
            "xtask/src/c.rs",
        ] {
            assert_eq!(found(path, source), expected, "{path}");
        }
        assert!(
            found(
                "node/src/a.rs",
                "// todo!() \"dbg!\"\nfn todo() { ignore[0] }"
            )
            .is_empty()
        );
    }

    #[test]
    fn lints_are_silenced_with_a_reason() {
        let source =
            "#![allow(dead_code)]\n#[expect(unused)]\nfn f() { a.expect(\"b\"); [allow(x)]; }";
        assert_eq!(
            found("node/src/a.rs", source),
            ["1 silenced allow", "2 silenced expect"]
        );
        let source =
            "#![allow(dead_code, reason = \"x\")]\n#[expect(unused, reason = \"y\")]\nfn f() {}";
        assert!(found("node/src/a.rs", source).is_empty());
    }

    #[test]
    fn long_files_give_a_reason() {
        let long = "fn f() {}\n".repeat(LONG + 1);
        assert_eq!(found("node/src/a.rs", &long), ["1 length lines"]);
        assert!(
            found(
                "node/src/a.rs",
                &format!("{LONG_MARK}it is one table.\n{long}")
            )
            .is_empty()
        );
        assert!(found("node/src/a.rs", &"\n".repeat(LONG)).is_empty());
    }

    #[test]
    fn crates_open_with_a_contract() {
        let missing = found("net/src/lib.rs", "pub mod api;");
        assert_eq!(missing, ["1 contract contract"]);
        assert_eq!(
            found(
                "net/src/lib.rs",
                "//! The network.\n//! Owns sockets, promises much.\n"
            ),
            ["1 contract contract"]
        );
        assert!(
            found(
                "net/src/lib.rs",
                "//! The network.\n//! **Owns** x.\n//! Promises y. Never z.\n"
            )
            .is_empty()
        );
        assert!(found("net/src/api.rs", "pub mod api;").is_empty());
        assert!(found("crates/shims/getrandom/src/lib.rs", "//! A stand-in.").is_empty());
    }
}
