//! Rules about the names that Rust code may use, by the place of its file.

use super::scan::{Path, Source, scan};
use super::{Finding, Rule, rooms};

/// Lines of the longest file that needs no reason.
const LONG: usize = 900;

/// Opens the comment with the reason of a longer file.
const LONG_MARK: &str = "// Long, because ";

/// The rules that a file is under, by its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// May name the executor.
    pub seam: bool,
    /// Has arguments and results, and nothing else of the world.
    pub pure: bool,
    /// Runs on a developer's machine and never inside a node.
    pub tool: bool,
    /// Tests, benches and examples observe the world from outside.
    pub test: bool,
}

/// Directories of the pure crates.
pub const PURE: &[&str] = &[
    "crates/types/",
    "crates/consensus/",
    "crates/peg/",
    "crates/pow/",
    "crates/sync_planner/",
];

/// The place of a file.
pub fn place(path: &str) -> Place {
    let is_inside = |directories: &[&str]| directories.iter().any(|one| path.starts_with(one));
    let tools = [
        "xtask/",
        "tests/",
        "fuzz/",
        "interop/",
        "crates/actor_system/comparison/",
    ];
    let tests = ["/tests/", "/benches/", "/examples/"];
    Place {
        seam: is_inside(&["crates/runtime/", "crates/shims/"]),
        pure: is_inside(PURE),
        tool: is_inside(&tools),
        test: tests.iter().any(|part| path.contains(part)) || path.ends_with("/tests.rs"),
    }
}

/// A finding without its file: line, rule, `what`, message.
type Found = (usize, Rule, String, String);

/// The findings of one file.
pub fn check(path: &str, source: &str) -> Vec<Finding> {
    let place = place(path);
    let mut found = Vec::new();
    match scan(source) {
        Ok(scanned) => {
            found.extend(unfinished(&scanned));
            found.extend(silenced(&scanned));
            let imports = rooms::check(path, &scanned).into_iter();
            found.extend(imports.map(|(line, what, message)| (line, Rule::Rooms, what, message)));
            if !place.seam && !place.tool {
                found.extend(executor(&scanned, place));
            }
            if !place.test {
                let code = scanned.paths.iter().filter(|path| !path.in_tests);
                found.extend(code.filter_map(|path| forbidden(path, place)));
            }
        }
        Err(error) => {
            let message = format!("is not Rust: {error}");
            let line = error.span().start().line;
            found.push((line, Rule::Syntax, "syntax".to_owned(), message));
        }
    }
    found.extend(length(source));
    found.extend(contract(path, source));
    let finding = |(line, rule, what, message)| Finding {
        path: path.to_owned(),
        line,
        rule,
        what,
        message,
    };
    found.into_iter().map(finding).collect()
}

/// Macros that stand for missing code, and tests that do not run.
fn unfinished(source: &Source) -> impl Iterator<Item = Found> {
    let macros = source.paths.iter().filter_map(|path| {
        let name = path.parts.last().filter(|_| path.is_macro)?;
        let is_unwanted = matches!(name.as_str(), "todo" | "unimplemented" | "dbg");
        let message = format!("`{name}!` is unfinished work: do it, or remove it");
        is_unwanted.then(|| (path.line, Rule::Unfinished, name.clone(), message))
    });
    let ignored = source
        .attributes
        .iter()
        .filter(|attribute| attribute.name == "ignore");
    let ignored = ignored.map(|attribute| {
        let message = "an ignored test tests nothing: make it fast and deterministic, or delete it";
        (
            attribute.line,
            Rule::Unfinished,
            attribute.name.clone(),
            message.to_owned(),
        )
    });
    macros.chain(ignored)
}

/// Attributes that silence a lint without a reason.
fn silenced(source: &Source) -> impl Iterator<Item = Found> {
    let silencing = source.attributes.iter().filter(|attribute| {
        matches!(attribute.name.as_str(), "allow" | "expect") && !attribute.has_reason
    });
    silencing.map(|attribute| {
        let name = &attribute.name;
        let message =
            format!("`{name}(..)` without a reason: write `#[expect(the_lint, reason = \"..\")]`");
        (attribute.line, Rule::Silenced, name.clone(), message)
    })
}

/// Mentions of the executor, and of the cfg that chooses it.
fn executor(source: &Source, place: Place) -> Vec<Found> {
    let mut found = Vec::new();
    for path in &source.paths {
        let named = path
            .parts
            .iter()
            .find(|part| matches!(part.as_str(), "tokio" | "madsim"));
        if let Some(name) = named {
            let message = format!("only crates/runtime names `{name}`: use alys_runtime");
            found.push((path.line, Rule::Seam, name.clone(), message));
        }
    }
    // A test of one world does not compile in the other.
    let cfgs = source.simulation_cfgs.iter().filter(|_| !place.test);
    found.extend(cfgs.map(|line| {
        let message = "only crates/runtime distinguishes the two worlds: ask \
                       `alys_runtime::is_simulated()`, or take the difference as an argument";
        (
            *line,
            Rule::Seam,
            "cfg(madsim)".to_owned(),
            message.to_owned(),
        )
    }));
    found
}

/// The finding about a path that code in this place may not name.
fn forbidden(path: &Path, place: Place) -> Option<Found> {
    let parts: Vec<&str> = path.parts.iter().map(String::as_str).collect();
    let text = path.text();
    if place.pure
        && let Some(reason) = impure(&parts)
    {
        let message = format!("a pure crate names `{text}`: {reason}");
        return Some((path.line, Rule::Pure, text, message));
    }
    if !place.pure
        && !place.seam
        && !place.tool
        && let Some(instead) = around_the_seam(&parts)
    {
        let message = format!("`{text}` bypasses the runtime: use {instead}");
        return Some((path.line, Rule::Seam, text, message));
    }
    if !place.tool && matches!(parts.last(), Some(&("unbounded" | "unbounded_channel"))) {
        let message = format!(
            "`{text}` grows without a limit: use a bounded queue and handle the case that it is \
             full"
        );
        return Some((path.line, Rule::Bounded, text, message));
    }
    None
}

/// The reason why a pure crate may not name this.
fn impure(parts: &[&str]) -> Option<&'static str> {
    const EXECUTORS: &[&str] = &["tokio", "madsim", "futures", "async_std", "smol"];
    const RANDOM: &[&str] = &["rand", "rand_core", "rand_chacha", "getrandom", "fastrand"];
    const HASHED: &[&str] = &["HashMap", "HashSet", "RandomState"];
    if parts.iter().any(|part| HASHED.contains(part)) {
        return Some("its order differs from run to run; use BTreeMap, BTreeSet or a sorted Vec");
    }
    match parts {
        [first, _, ..] if EXECUTORS.contains(first) => {
            Some("it cannot wait; return an effect, and let an actor wait")
        }
        [first, _, ..] if RANDOM.contains(first) => Some("randomness is an argument"),
        ["std" | "core", "time", "Duration", ..] => None,
        ["std" | "core", "time", ..] => Some("time is an argument"),
        ["std", "thread", ..] => Some("it has no threads"),
        ["std", "sync", "mpsc", ..] => Some("it has no threads; return an effect"),
        ["std", "fs" | "io", ..] => Some("it has no files; return an effect"),
        ["std" | "core", "net", ..] => Some("it has no sockets; return an effect"),
        ["std", "env" | "process", ..] => Some("it has no process; take an argument"),
        _ => None,
    }
}

/// The replacement for an API that the simulation does not control.
fn around_the_seam(parts: &[&str]) -> Option<&'static str> {
    match parts {
        [.., "Instant", "now"] => Some("alys_runtime::time::now"),
        _ if parts.contains(&"SystemTime") => Some("alys_runtime::clock"),
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

fn length(source: &str) -> Option<Found> {
    let lines = source.lines().count();
    let has_reason = || {
        source
            .lines()
            .any(|line| line.trim_start().starts_with(LONG_MARK))
    };
    if lines <= LONG || has_reason() {
        return None;
    }
    let message = format!(
        "{lines} lines, over {LONG}: split it, or give the reason in a comment that starts \
         `{LONG_MARK}`"
    );
    Some((1, Rule::Length, "lines".to_owned(), message))
}

/// The parts that the contract of a crate lacks, if this file opens a crate.
fn contract(path: &str, source: &str) -> Option<Found> {
    let root = path.strip_suffix("src/lib.rs")?;
    let opening: Vec<&str> = source
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let opening = opening.join("\n").to_lowercase();
    let missing: Vec<&str> = ["own", "promise", "never"]
        .into_iter()
        .filter(|word| !opening.contains(word))
        .collect();
    let message = if opening.is_empty() {
        "a crate opens with its contract: `//!` lines with what it owns, promises and never does"
            .to_owned()
    } else if missing.is_empty() || root.starts_with("crates/shims/") {
        return None;
    } else {
        format!(
            "the contract at the top lacks what the crate {}",
            missing.join(", ")
        )
    };
    Some((1, Rule::Contract, "contract".to_owned(), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings of a source at a path, as `line rule what`, by line.
    fn found(path: &str, source: &str) -> Vec<String> {
        let mut findings = check(path, source);
        findings.sort_by_key(|finding| finding.line);
        let text = |f: &Finding| format!("{} {} {}", f.line, f.rule, f.what);
        findings.iter().map(text).collect()
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
                "type X = alloy::map::HashSet<u8>;",
                vec!["1 pure alloy::map::HashSet"],
            ),
            (
                "const X: u64 = rand::random::<u64>();",
                vec!["1 pure rand::random"],
            ),
            ("fn rand(rand: u8) {}", vec![]),
            ("// std::fs, HashMap\nconst X: &str = \"std::fs\";", vec![]),
            (
                "#[cfg(test)]\nmod tests { use std::collections::HashMap; }",
                vec![],
            ),
            (
                "fn f() { tokio::spawn(x) }",
                vec!["1 seam tokio", "1 pure tokio::spawn"],
            ),
            (
                "fn f() { assert!(std::fs::exists(x)) }",
                vec!["1 pure std::fs::exists"],
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(
                found("crates/consensus/src/tree.rs", source),
                expected,
                "{source}"
            );
        }
        let source = "use std::collections::HashMap;";
        assert!(found("crates/consensus/tests/model.rs", source).is_empty());
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
            ("fn f() { if cfg!(madsim) {} }", vec!["1 seam cfg(madsim)"]),
            ("fn f() { madsim::rand::random() }", vec!["1 seam madsim"]),
            ("#[tokio::test]\nasync fn f() {}", vec!["1 seam tokio"]),
            (
                "fn f() { let t = Instant::now(); }",
                vec!["1 seam Instant::now"],
            ),
            (
                "fn f() { let t: Instant = alys_runtime::time::now(); }",
                vec![],
            ),
            (
                "use std::time::SystemTime;",
                vec!["1 seam std::time::SystemTime"],
            ),
            (
                "use std::net::{SocketAddr, TcpStream};",
                vec!["1 seam std::net::TcpStream"],
            ),
            (
                "fn f() { std::thread::spawn(f) }",
                vec!["1 seam std::thread::spawn"],
            ),
            ("use std::fs;", vec!["1 seam std::fs"]),
            ("fn f() { alys_runtime::rand::u64() }", vec![]),
            (
                "fn f() { futures::channel::mpsc::unbounded() }",
                vec!["1 bounded futures::channel::mpsc::unbounded"],
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(found("node/src/wiring.rs", source), expected, "{source}");
        }
        let both = "#[cfg(not(madsim))]\nfn f() { std::fs::read(x); }";
        assert!(found("storage/tests/crash.rs", both).is_empty());
        assert!(found("node/src/keys/tests.rs", both).is_empty());
        let source = "fn f() { tokio::fs::read(x); std::fs::read(x) }";
        assert!(found("crates/runtime/src/disk/real.rs", source).is_empty());
        let source = "fn f() { std::fs::read(x); Instant::now() }";
        assert!(found("xtask/src/main.rs", source).is_empty());
        let source = "fn f() { tokio::spawn(f) }";
        assert_eq!(found("storage/tests/crash.rs", source), ["1 seam tokio"]);
    }

    #[test]
    fn unfinished_work_is_found_anywhere() {
        let source = "fn f() { todo!() }\nfn g() { unimplemented!(\"x\"); m!(dbg!(y)); }\n\
                      #[test]\n#[ignore]\nfn t() {}";
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
        let source = "// todo!() \"dbg!\"\nfn todo() { ignore[0] }";
        assert!(found("node/src/a.rs", source).is_empty());
    }

    #[test]
    fn lints_are_silenced_with_a_reason() {
        let source = "#![allow(dead_code)]\n#[expect(unused)]\nfn f() { a.expect(\"b\"); }";
        assert_eq!(
            found("node/src/a.rs", source),
            ["1 silenced allow", "2 silenced expect"]
        );
        let source =
            "#![allow(dead_code, reason = \"x\")]\n#[expect(unused, reason = \"y\")]\nfn f() {}";
        assert!(found("node/src/a.rs", source).is_empty());
    }

    #[test]
    fn source_that_is_not_rust_is_a_finding() {
        assert_eq!(found("node/src/a.rs", "\nfn f( {}"), ["2 syntax syntax"]);
    }

    #[test]
    fn long_files_give_a_reason() {
        let long = "fn f() {}\n".repeat(LONG + 1);
        assert_eq!(found("node/src/a.rs", &long), ["1 length lines"]);
        let with_reason = format!("{LONG_MARK}it is one table.\n{long}");
        assert!(found("node/src/a.rs", &with_reason).is_empty());
        assert!(found("node/src/a.rs", &"\n".repeat(LONG)).is_empty());
    }

    #[test]
    fn crates_open_with_a_contract() {
        let cases = [
            ("pub mod api;", vec!["1 contract contract"]),
            (
                "//! The network.\n//! Owns sockets, promises much.\n",
                vec!["1 contract contract"],
            ),
            (
                "//! The network.\n//! **Owns** x.\n//! Promises y. Never z.\n",
                vec![],
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(found("net/src/lib.rs", source), expected, "{source}");
        }
        assert!(found("net/src/api.rs", "pub mod api;").is_empty());
        assert!(found("crates/shims/getrandom/src/lib.rs", "//! A stand-in.").is_empty());
    }
}
