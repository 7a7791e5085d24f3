//! The rules of the house that a machine can check.
//!
//! [`check`] reads the repository as git lists it and `cargo metadata` describes it. Each rule is a
//! function of text: [`arrows`] (dependencies between crates), [`manifests`] (lints and versions
//! come from the workspace), [`rooms`] (the order of the simulator's rooms), [`source`] (names that
//! code may use), [`citations`] (the protocol has every rule that is cited), [`text`] (text that no
//! file may contain). [`exceptions`] lists the excused findings with reasons; an exception that
//! excuses nothing is a finding.

pub mod arrows;
pub mod citations;
pub mod exceptions;
pub mod manifests;
pub mod rooms;
pub mod scan;
pub mod source;
pub mod text;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The name of a rule in findings and exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Dependencies between our crates, and third-party crates that some of them must not depend
    /// on.
    Arrows,
    /// Lints, versions and editions come from the workspace.
    Manifest,
    /// The order of the simulator's rooms.
    Rooms,
    /// Names that a pure crate may not use.
    Pure,
    /// Names that only `crates/runtime` may use.
    Seam,
    /// Queues have a limit.
    Bounded,
    /// No work is left for later.
    Unfinished,
    /// Lints are silenced with a reason.
    Silenced,
    /// The first lines of a crate.
    Contract,
    /// Lines of a file.
    Length,
    /// Rust files parse.
    Syntax,
    /// Sections and rules of the protocol that are cited.
    Citations,
    /// Paths and hosts of one machine.
    Machine,
    /// The table of exceptions itself.
    Exceptions,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Arrows => "arrows",
            Rule::Manifest => "manifest",
            Rule::Rooms => "rooms",
            Rule::Pure => "pure",
            Rule::Seam => "seam",
            Rule::Bounded => "bounded",
            Rule::Unfinished => "unfinished",
            Rule::Silenced => "silenced",
            Rule::Contract => "contract",
            Rule::Length => "length",
            Rule::Syntax => "syntax",
            Rule::Citations => "citations",
            Rule::Machine => "machine",
            Rule::Exceptions => "exceptions",
        })
    }
}

/// A violation of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the root of the repository.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule.
    pub rule: Rule,
    /// The offending name: the key by which an exception excuses it.
    pub what: String,
    /// The violation and its remedy.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: [{}] {}",
            self.path, self.line, self.rule, self.message
        )
    }
}

/// All findings about the repository at `root`, in the order of files and lines.
///
/// # Errors
/// When git, cargo, a file or the protocol cannot be read.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let metadata = metadata(root)?;
    let protocol = std::fs::read_to_string(root.join(citations::PAGE))
        .with_context(|| format!("{} cannot be read", citations::PAGE))?;
    let protocol = citations::Protocol::read(&protocol);
    let architecture = std::fs::read_to_string(root.join(arrows::PAGE))
        .with_context(|| format!("{} cannot be read", arrows::PAGE))?;
    let files = texts(root)?;
    let mut findings = in_parallel(&files, |path, content| check_file(path, content, &protocol));
    let is_manifest = |path: &str| path == "Cargo.toml" || path.ends_with("/Cargo.toml");
    let manifests: Vec<_> = files
        .into_iter()
        .filter(|(path, _)| is_manifest(path))
        .collect();
    findings.extend(
        manifests
            .iter()
            .flat_map(|(path, content)| manifests::check(path, content)),
    );
    findings.extend(arrows::check(
        &arrows::Table::read(&architecture)?,
        &arrows::packages(&metadata, root)?,
        &manifests,
    ));
    let mut findings = exceptions::excuse(findings, exceptions::EXCEPTIONS);
    findings.sort();
    findings.dedup();
    Ok(findings)
}

fn check_file(path: &str, content: &str, protocol: &citations::Protocol) -> Vec<Finding> {
    let mut findings = text::check(path, content);
    findings.extend(citations::check(path, content, protocol));
    if path.starts_with("sim/src/") && path.ends_with("/rules.rs") {
        findings.extend(citations::check_simulator(path, content, protocol));
    }
    if path.ends_with(".rs") {
        findings.extend(source::check(path, content));
    }
    findings
}

/// The findings of `check` about all files, on as many threads as the machine has cores: parsing
/// takes seconds.
fn in_parallel(
    files: &[(String, String)],
    check: impl Fn(&str, &str) -> Vec<Finding> + Sync,
) -> Vec<Finding> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = |first: usize| {
        let part = files.iter().skip(first).step_by(threads);
        part.flat_map(|(path, content)| check(path, content))
            .collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let part = &part;
        let tasks: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || part(first)))
            .collect();
        let results = tasks.into_iter().map(|task| task.join());
        results
            .flat_map(|result| result.expect("a check does not panic"))
            .collect()
    })
}

/// The tracked files that are UTF-8, with their contents.
fn texts(root: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for path in tracked(root)? {
        let bytes =
            std::fs::read(root.join(&path)).with_context(|| format!("{path} cannot be read"))?;
        if let Ok(content) = String::from_utf8(bytes) {
            files.push((path, content));
        }
    }
    Ok(files)
}

/// The files in the work tree that git tracks or would track, from the root of the repository.
///
/// # Errors
/// When git does not answer.
pub fn tracked(root: &Path) -> Result<Vec<String>> {
    let mut command = Command::new("git");
    // The owner of the checkout may be another user; no hook or filter of it runs here.
    command
        .current_dir(root)
        .args(["-c", "safe.directory=*"])
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
    let output = command.output().context("git does not start")?;
    ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let listed = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    let mut files: Vec<String> = listed
        .split('\0')
        .filter(|path| !path.is_empty() && root.join(path).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// `cargo metadata` of the workspace itself; asks no registry.
fn metadata(root: &Path) -> Result<serde_json::Value> {
    let mut command = crate::cargo();
    command.current_dir(root).args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]);
    let output = command.output().context("cargo does not start")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")
}
