//! The rules of the house that a machine can hold.
//!
//! [`check`] reads the repository as git lists it and `cargo metadata` describes it. The rules themselves are functions
//! of text: [`arrows`] (who may depend on whom), [`manifests`] (lints and versions come from the workspace), [`source`]
//! (what code may name), [`text`] (what no file may hold). What is excused stands in [`exceptions`], with its reason; an
//! exception that excuses nothing is a finding too.

pub mod arrows;
pub mod exceptions;
pub mod manifests;
pub mod scan;
pub mod source;
pub mod text;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A rule's name, as findings and exceptions say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Dependencies between our crates, and kinds of crates that some must not depend on.
    Arrows,
    /// Lints, versions and editions come from the workspace.
    Manifest,
    /// What a pure crate may not name.
    Pure,
    /// What only `crates/runtime` may name.
    Seam,
    /// Queues have a limit.
    Bounded,
    /// Nothing is left for later.
    Unfinished,
    /// Lints are silenced with a reason.
    Silenced,
    /// The first lines of a crate.
    Contract,
    /// Lines of a file.
    Length,
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
            Rule::Pure => "pure",
            Rule::Seam => "seam",
            Rule::Bounded => "bounded",
            Rule::Unfinished => "unfinished",
            Rule::Silenced => "silenced",
            Rule::Contract => "contract",
            Rule::Length => "length",
            Rule::Machine => "machine",
            Rule::Exceptions => "exceptions",
        })
    }
}

/// Something to be put right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the root of the repository.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// Which rule.
    pub rule: Rule,
    /// What was named: the key by which an exception excuses it.
    pub what: String,
    /// What is wrong and what to do.
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

/// Everything that the repository at `root` has to put right, in the order of files and lines.
///
/// # Errors
/// When git, cargo or a file cannot be read: not knowing is not being tidy.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let metadata = metadata(root)?;
    let mut findings = Vec::new();
    let mut manifests = Vec::new();
    for path in tracked(root)? {
        let bytes =
            std::fs::read(root.join(&path)).with_context(|| format!("{path} cannot be read"))?;
        let Ok(content) = String::from_utf8(bytes) else {
            continue;
        };
        findings.extend(text::check(&path, &content));
        if path.ends_with(".rs") {
            findings.extend(source::check(&path, &content));
        }
        if path == "Cargo.toml" || path.ends_with("/Cargo.toml") {
            findings.extend(manifests::check(&path, &content));
            manifests.push((path, content));
        }
    }
    findings.extend(arrows::check(
        &arrows::packages(&metadata, root)?,
        &manifests,
    ));
    let mut findings = exceptions::excuse(findings, exceptions::EXCEPTIONS);
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// The files that git tracks or would track, from the root of the repository, as far as they are there.
///
/// # Errors
/// When git does not answer.
pub fn tracked(root: &Path) -> Result<Vec<String>> {
    let mut command = Command::new("git");
    // Whoever owns the checkout: nothing of it is run here.
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
    let mut command = Command::new(crate::cargo());
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
