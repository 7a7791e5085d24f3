//! ethrex, an execution client in Rust of another team, from the package in `interop/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::World;
use crate::client::{Client, Place};
use crate::federation::text;

/// The variable with the path of its program.
const BINARY: &str = "ALYS_ETHREX_BIN";

/// Its program, which takes too long to build for a test.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    let path = std::env::var_os(BINARY).map(PathBuf::from);
    let path = path.with_context(|| {
        format!("{BINARY} names no ethrex-node: `cargo xtask interop` builds it and runs this test")
    })?;
    ensure!(
        path.is_file(),
        "{BINARY} = {}: there is no such program",
        path.display()
    );
    Ok(path)
}

/// Starts it with an execution genesis and a chain in memory.
///
/// # Errors
/// When it does not answer in time.
pub fn start(world: &World, name: &str, genesis: &Path) -> Result<Client> {
    let place = Place::new(world, name)?;
    let mut command = Command::new(binary()?);
    command.arg(text(genesis)?);
    command.args([place.http_port.to_string(), place.engine_port.to_string()]);
    command.arg(text(&place.secret)?);
    command.current_dir(&place.dir).env("HOME", &place.dir);
    Client::start(world, name, command, place)
}
