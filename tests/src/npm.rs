//! Independent programs from npm: wallets, the Solidity compiler, an execution client, in the
//! versions of the lock file in `tests/npm/`, installed once, outside of the source tree.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::client::{Client, Place};
use crate::federation::text;
use crate::process::Stream;
use crate::{Process, World, alys, ports};

/// The directory of the scripts.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("npm")
}

/// The directory with the locked packages in `node_modules`; installs them if they are missing.
///
/// # Errors
/// When npm fails.
pub fn installed() -> Result<&'static Path> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| install().map_err(|error| format!("{error:#}")));
    match installed {
        Ok(dir) => Ok(dir),
        Err(error) => bail!("npm packages: {error}"),
    }
}

/// Called under the lock of a test, so never twice at a time.
fn install() -> Result<PathBuf> {
    let dir = alys::target_dir().join("npm");
    fs::create_dir_all(&dir)?;
    let lock = fs::read(sources().join("package-lock.json")).context("package-lock.json")?;
    // Written last: it marks a complete installation of this lock file.
    let mark = dir.join("installed.json");
    if fs::read(&mark).is_ok_and(|installed| installed == lock) {
        return Ok(dir);
    }
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        fs::copy(sources().join(name), dir.join(name)).context(name)?;
    }
    let output = Command::new("npm")
        // No package in use needs its install script; the execution client's database ships its
        // library.
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .args(["--fetch-timeout", "60000", "--fetch-retries", "3"])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .output()
        .context("cannot run npm, which these tests need")?;
    if !output.status.success() {
        bail!(
            "npm ci: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::write(&mark, lock)?;
    Ok(dir)
}

/// Runs a script of `tests/npm/` with the packages. Returns its last line.
///
/// # Errors
/// When an assertion of the script fails.
pub fn script<S: AsRef<OsStr>>(
    world: &World,
    name: &str,
    limit: Duration,
    args: impl IntoIterator<Item = S>,
) -> Result<String> {
    let mut command = Command::new("node");
    command
        .arg(sources().join(name))
        .args(args)
        .current_dir(world.dir());
    command
        .env("NODE_PATH", installed()?.join("node_modules"))
        .env_remove("NODE_OPTIONS");
    let mut process = Process::start(world, name, &command)?;
    let status = process.wait_end(world, limit)?;
    let out = process.text(Stream::Out);
    for line in out.lines() {
        world.say(&format!("{name}: {line}"));
    }
    ensure!(
        status.success(),
        "{name}: {status}: {}",
        process.text(Stream::Err)
    );
    Ok(out.lines().last().unwrap_or_default().to_owned())
}

/// Starts EthereumJS, an execution client of another team, in a directory of its own with an
/// execution genesis.
///
/// # Errors
/// When it does not answer in time.
pub fn ethereumjs(world: &World, name: &str, genesis: &Path) -> Result<Client> {
    let place = Place::new(world, name)?;
    let [ws_port, ws_engine_port, peer_port] = std::array::from_fn(|_| ports::free().to_string());
    let mut command = Command::new("node");
    command.arg("--require").arg(sources().join("loopback.cjs"));
    command.arg(installed()?.join("node_modules/@ethereumjs/client/dist/esm/bin/cli.js"));
    command.args([
        "--gethGenesis",
        text(genesis)?,
        "--dataDir",
        text(&place.dir.join("data"))?,
    ]);
    command.args([
        "--rpc",
        "--rpcAddr",
        "127.0.0.1",
        "--rpcPort",
        &place.http_port.to_string(),
    ]);
    command.args(["--rpcEngine", "--rpcEngineAddr", "127.0.0.1"]);
    command.args([
        "--rpcEnginePort",
        &place.engine_port.to_string(),
        "--jwtSecret",
        text(&place.secret)?,
    ]);
    command.args(["--wsPort", &ws_port, "--wsEnginePort", &ws_engine_port]);
    // No peers, and still "synchronized", without which it accepts no transactions.
    command.args([
        "--isSingleNode",
        "--discDns=false",
        "--discV4=false",
        "--maxPeers",
        "0",
    ]);
    command.args([
        "--port",
        &peer_port,
        "--extIP",
        "127.0.0.1",
        "--dnsAddr",
        "127.0.0.1",
    ]);
    // After a restart it gets many blocks in a row and must execute each at once.
    command.args(["--engineNewpayloadMaxExecute", "100000", "--logFile=false"]);
    command
        .current_dir(&place.dir)
        .env_remove("NODE_OPTIONS")
        .env("HOME", &place.dir);
    Client::start(world, name, command, place)
}
