//! The `alys` binary, and its lines about final blocks.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::Stream;
use crate::{Process, World};

/// For a command that only reads and writes files, scrypt in a debug build included.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// A final block as a process reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Final {
    pub height: u64,
    pub slot: u64,
    pub hash: String,
    pub proposer: u64,
    pub transactions: u64,
}

impl Final {
    /// Parses a line of `alys dev --json` or `alys node --log-format json`; `None` for all other
    /// lines.
    pub fn parse(line: &str) -> Option<Final> {
        // Most lines are about something else and not worth parsing.
        if !line.starts_with('{') || !line.contains("block") {
            return None;
        }
        let value: Value = serde_json::from_str(line).ok()?;
        if value["event"] != "block" && value["message"] != "final block" {
            return None;
        }
        Some(Final {
            height: value["height"].as_u64()?,
            slot: value["slot"].as_u64()?,
            hash: value["hash"].as_str()?.to_owned(),
            proposer: value["proposer"].as_u64()?,
            transactions: value["transactions"].as_u64()?,
        })
    }
}

/// The binary under test: `ALYS_BIN`, or the one of this checkout, built with the profile of the
/// tests.
///
/// # Panics
/// When it does not build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("ALYS_BIN") {
        Some(path) => path.into(),
        None => build().unwrap_or_else(|error| panic!("cannot build alys: {error:#}")),
    })
}

/// The target directory of the build that this test belongs to.
pub fn target_dir() -> &'static Path {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    TARGET.get_or_init(|| {
        profile_dir()
            .parent()
            .expect("a profile's directory is in the target directory")
            .into()
    })
}

/// `target/debug` of `target/debug/deps/test-0123` or `target/debug/program`.
fn profile_dir() -> PathBuf {
    let own = std::env::current_exe().expect("the kernel names the program of a process");
    let mut above = own.ancestors().skip(1);
    above
        .find(|directory| !directory.ends_with("deps"))
        .expect("cargo puts programs into a directory of their profile")
        .to_owned()
}

/// The cargo that runs this test, without the variables that describe the test's package: build
/// scripts depend on some of them (ring's does), so that inheriting them would rebuild crates that
/// the workspace's build has already compiled.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    for field in [
        "NAME",
        "VERSION_MAJOR",
        "VERSION_MINOR",
        "VERSION_PATCH",
        "VERSION_PRE",
    ] {
        command.env_remove(format!("CARGO_PKG_{field}"));
    }
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}

fn build() -> Result<PathBuf> {
    let dir = profile_dir();
    let profile = match dir.file_name().and_then(OsStr::to_str) {
        Some("debug") => "dev",
        Some(name) => name,
        None => bail!("{} is not a directory of cargo's", dir.display()),
    };
    let output = cargo()
        .args([
            "build",
            "--quiet",
            "-p",
            "alys-node",
            "--bin",
            "alys",
            "--profile",
            profile,
        ])
        .arg("--message-format=json-render-diagnostics")
        .arg("--target-dir")
        .arg(target_dir())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo build: {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == "alys";
        message["executable"]
            .as_str()
            .filter(|_| ours)
            .map(PathBuf::from)
    });
    executable.context("cargo names no executable")
}

/// A command line of `alys`, without the settings of this machine's user.
pub fn command<S: AsRef<OsStr>>(world: &World, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = clean(Command::new(binary()), world);
    command.args(args);
    command
}

/// A command line of the shell with `alys` on its path, without the settings of this machine's
/// user.
///
/// # Errors
/// When the binary cannot be linked into the test's directory.
pub fn shell(world: &World, line: &str) -> Result<Command> {
    // A link, because the binary under test may have another name.
    let bin = world.dir().join("bin");
    std::fs::create_dir_all(&bin)?;
    let link = bin.join("alys");
    if !link.exists() {
        std::os::unix::fs::symlink(binary().canonicalize()?, &link)?;
    }
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(bin).chain(std::env::split_paths(&inherited));
    let mut command = clean(Command::new("sh"), world);
    command
        .env("PATH", std::env::join_paths(path)?)
        .args(["-c", line]);
    Ok(command)
}

fn clean(mut command: Command, world: &World) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("ALYS_")) {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").env_remove("XDG_DATA_HOME");
    command
        .env("HOME", world.dir())
        .env("RUST_BACKTRACE", "1")
        .current_dir(world.dir());
    command
}

/// Runs a command to its end. Returns its standard output.
///
/// # Errors
/// When it fails or takes too long.
pub fn run<S: AsRef<OsStr>>(world: &World, args: impl IntoIterator<Item = S>) -> Result<String> {
    let command = command(world, args);
    let name = command
        .get_args()
        .take(2)
        .map(|arg| arg.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let mut process = Process::start(world, &format!("alys {name}"), &command)?;
    let status = process.wait_end(world, COMMAND_TIMEOUT)?;
    if !status.success() {
        bail!("alys {name}: {status}: {}", process.text(Stream::Err));
    }
    Ok(process.text(Stream::Out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_blocks_are_found_in_both_kinds_of_lines() {
        let block = Final {
            height: 7,
            slot: 90,
            hash: "0xab".into(),
            proposer: 2,
            transactions: 3,
        };
        let rest = r#""height":7,"slot":90,"hash":"0xab","proposer":2,"transactions":3}"#;
        for (start, expected) in [
            (r#"{"event":"block","#, Some(&block)),
            (r#"{"level":"INFO","message":"final block","#, Some(&block)),
            (r#"{"event":"ready","#, None),
            (r#"{"message":"a block was late","#, None),
            ("final block ", None),
        ] {
            assert_eq!(
                Final::parse(&format!("{start}{rest}")).as_ref(),
                expected,
                "{start}"
            );
        }
    }
}
