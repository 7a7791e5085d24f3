//! Test binaries of the workspace, run side by side. `cargo test` runs them one after the other,
//! although most wait for timers or for one long test.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

/// A built test binary.
#[derive(Debug, PartialEq, Eq)]
struct Binary {
    /// Package and target, such as `alys-net::connections`.
    name: String,
    path: PathBuf,
    /// The folder of the package, where `cargo test` runs its tests.
    folder: PathBuf,
}

/// Outcome of a test binary.
struct Outcome {
    name: String,
    passed: bool,
    took: Duration,
    output: Vec<u8>,
}

/// Builds the tests of `build`, a `cargo test` command, and runs their binaries, one more at once
/// than the machine has cores, because many wait for timers. Prints a line for each that passed and
/// the output of each that failed. True when all passed.
///
/// # Errors
/// When cargo or a binary does not start, or cargo prints something unexpected.
pub fn run(mut build: Command) -> Result<bool> {
    build
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .stdout(Stdio::piped());
    let mut cargo = build.spawn().context("cargo does not start")?;
    let mut messages = String::new();
    if let Some(mut stdout) = cargo.stdout.take() {
        stdout
            .read_to_string(&mut messages)
            .context("the messages of cargo")?;
    }
    if !cargo.wait()?.success() {
        return Ok(false);
    }
    let binaries = binaries(&messages)?;
    let workers = thread::available_parallelism().map_or(1, usize::from) + 1;
    let waiting = Mutex::new(binaries.iter());
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.next()
    };
    let work = || -> Result<Vec<String>> {
        let mut failed = Vec::new();
        while let Some(binary) = next() {
            let outcome = binary.run()?;
            outcome.print()?;
            if !outcome.passed {
                failed.push(outcome.name);
            }
        }
        Ok(failed)
    };
    let mut failed = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let ended = worker.join();
            failed.extend(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(())
    })?;
    if !failed.is_empty() {
        eprintln!("failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

/// The test binaries that cargo's messages name, in their order.
fn binaries(messages: &str) -> Result<Vec<Binary>> {
    let mut binaries = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("a message of cargo")?;
        let is_test = message["profile"]["test"].as_bool() == Some(true);
        let Some(path) = message["executable"].as_str().filter(|_| is_test) else {
            continue;
        };
        let manifest = message["manifest_path"]
            .as_str()
            .context("an artifact without manifest_path")?;
        let folder = Path::new(manifest)
            .parent()
            .context("a manifest without a folder")?;
        let package = folder.file_name().unwrap_or_default().to_string_lossy();
        let target = message["target"]["name"].as_str().unwrap_or_default();
        binaries.push(Binary {
            name: format!("{package}::{target}"),
            path: path.into(),
            folder: folder.into(),
        });
    }
    Ok(binaries)
}

impl Binary {
    fn run(&self) -> Result<Outcome> {
        let started = Instant::now();
        let output = Command::new(&self.path)
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} does not start", self.name))?;
        Ok(Outcome {
            name: self.name.clone(),
            passed: output.status.success(),
            took: started.elapsed(),
            output: [output.stdout, output.stderr].concat(),
        })
    }
}

impl Outcome {
    /// Prints the number of tests that passed, or all output of a failure.
    fn print(&self) -> Result<()> {
        let seconds = self.took.as_secs_f64();
        let mut out = std::io::stdout().lock();
        if self.passed {
            let output = String::from_utf8_lossy(&self.output);
            let results = output
                .lines()
                .filter_map(|line| line.strip_prefix("test result: ok. "));
            let passed = results
                .filter_map(|result| result.split(';').next())
                .next_back()
                .unwrap_or("no tests");
            writeln!(out, "{seconds:>6.1} s  {:<36} {passed}", self.name)?;
        } else {
            writeln!(out, "{seconds:>6.1} s  {:<36} FAILED", self.name)?;
            out.write_all(&self.output)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_read_from_the_messages_of_cargo() {
        let messages = r#"
{"reason":"compiler-artifact","manifest_path":"/r/net/Cargo.toml","target":{"name":"alys_net"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/r/net/Cargo.toml","target":{"name":"alys"},"profile":{"test":false},"executable":"/t/alys"}
{"reason":"compiler-artifact","manifest_path":"/r/net/Cargo.toml","target":{"name":"peers"},"profile":{"test":true},"executable":"/t/peers-1"}
{"reason":"build-finished","success":true}
"#;
        let found = binaries(messages).expect("the messages are valid");
        let expected = Binary {
            name: "net::peers".to_owned(),
            path: "/t/peers-1".into(),
            folder: "/r/net".into(),
        };
        assert_eq!(found, [expected]);
        assert!(binaries("{broken").is_err());
    }

    #[test]
    fn a_binary_that_fails_is_reported_with_its_output() {
        let binary = |arguments: &str| {
            let folder = std::env::temp_dir();
            let path = folder.join(format!("alys-binary-{}-{arguments}", std::process::id()));
            std::fs::write(&path, format!("#!/bin/sh\necho said; exit {arguments}\n"))
                .expect("the folder is writable");
            let mut mode = std::fs::metadata(&path).expect("written").permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
            std::fs::set_permissions(&path, mode).expect("own file");
            let binary = Binary {
                name: "a".to_owned(),
                path: path.clone(),
                folder,
            };
            let outcome = binary.run().expect("it starts");
            std::fs::remove_file(path).expect("own file");
            (outcome.passed, outcome.output)
        };
        assert_eq!(binary("0"), (true, b"said\n".to_vec()));
        assert_eq!(binary("3"), (false, b"said\n".to_vec()));
    }
}
