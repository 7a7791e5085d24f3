//! The simulator as a program that writes pages, and the browser that opens them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::Stream;
use crate::{Process, World, alys};

/// The root of the workspace, with the simulator's scenarios.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The simulator: `ALYS_SIM_BIN`, or the one of this checkout, built as `cargo sim` builds it.
///
/// # Errors
/// When it does not build.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| match std::env::var_os("ALYS_SIM_BIN") {
        Some(path) => Ok(path.into()),
        None => build().map_err(|error| format!("{error:#}")),
    });
    match binary {
        Ok(path) => Ok(path),
        Err(error) => bail!("cannot build the simulator: {error}"),
    }
}

fn build() -> Result<PathBuf> {
    let mut command = alys::cargo();
    command.args([
        "build",
        "--quiet",
        "--config",
        ".cargo/sim.toml",
        "-p",
        "alys-sim",
        "--bin",
        "alys-sim",
    ]);
    command
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root());
    // RUSTFLAGS would override the simulation's flags; its target directory is below the
    // workspace's.
    command
        .env_remove("RUSTFLAGS")
        .env("CARGO_TARGET_DIR", alys::target_dir().join("sim"));
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo build: {}", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let ours =
            message["reason"] == "compiler-artifact" && message["target"]["name"] == "alys-sim";
        message["executable"]
            .as_str()
            .filter(|_| ours)
            .map(PathBuf::from)
    });
    executable.context("cargo names no executable")
}

/// Runs the simulator. Returns its exit code and standard output.
///
/// # Errors
/// When it takes too long or does not start.
pub fn run<S: AsRef<OsStr>>(
    world: &World,
    limit: Duration,
    args: impl IntoIterator<Item = S>,
) -> Result<(i32, String)> {
    let mut command = Command::new(binary()?);
    command.args(args).current_dir(root());
    let name = command
        .get_args()
        .take(2)
        .map(|arg| arg.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let mut process = Process::start(world, &format!("alys-sim {name}"), &command)?;
    let status = process.wait_end(world, limit)?;
    let code = status
        .code()
        .with_context(|| format!("alys-sim {name}: {status}"))?;
    Ok((code, process.text(Stream::Out)))
}

/// The browser: `CHROMIUM`, or a usual place.
///
/// # Errors
/// When there is none.
pub fn chromium() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Ok(path.into());
    }
    let places = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.context("no Chromium: install the package `chromium`, or name the program in CHROMIUM")
}
