//! Runs the end-to-end test with ethrex, an execution client that CI does not build.
//!
//! The client is a workspace of its own in `interop/`, with a target directory of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{cargo, root};

/// The end of `cargo xtask interop --help`.
pub const HELP: &str = "\
ethrex takes about 12 CPU-minutes to build for the first time, and needs pkg-config and the headers
of OpenSSL; the test needs Node.js, npm and two otherwise idle cores. ALYS_INTEROP_SLOT_MS=6000
doubles its slots.";

/// The variable from which the test has the path of the client.
const BINARY: &str = "ALYS_ETHREX_BIN";

/// Builds ethrex and runs the test. True when both succeed.
///
/// # Errors
/// When cargo does not start, or its build has no program.
pub fn run() -> Result<bool> {
    let target = root().join("interop/target");
    println!("=== ethrex: the execution client");
    let build = cargo()
        .current_dir(root())
        .args(["build", "--locked", "--manifest-path", "interop/Cargo.toml"])
        .arg("--target-dir")
        .arg(&target)
        .status();
    if !build.context("cargo does not start")?.success() {
        return Ok(false);
    }
    let client = client(&target)?;
    println!("\n=== interop: a federation on ethrex, EthereumJS and embedded clients");
    let test = cargo()
        .current_dir(root())
        .args(["test", "--locked", "-p", "alys-tests", "--test", "interop"])
        .args(["--", "--ignored"])
        .env(BINARY, client)
        .status();
    Ok(test.context("cargo does not start")?.success())
}

/// The program in a target directory.
fn client(target: &Path) -> Result<PathBuf> {
    let path = target.join("debug/ethrex-node");
    ensure!(
        path.is_file(),
        "{} is missing after the build",
        path.display()
    );
    Ok(path)
}
