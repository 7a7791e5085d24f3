//! The repository's own tasks: the steps of CI, which a developer runs before sending a change.
//!
//! **Owns** the rules of the house that a machine can check ([`tidy`]) and the list of CI's steps
//! ([`steps`]), and runs the fuzzer ([`fuzz`]), the measurement under load ([`load`]) and the test
//! with an execution client that CI does not build ([`interop`]).
//! **Promises** that a finding names file, line and remedy, that every exception stands in one
//! table with its reason, and that a failed step fails the run.
//! **Never** ships with the node, changes a file of the repository (only `fuzz --keep` adds inputs
//! to the corpora), or uses the network itself.

mod binaries;
pub mod fuzz;
pub mod interop;
pub mod load;
pub mod steps;
pub mod tidy;

use std::path::PathBuf;
use std::process::Command;

/// The root of the repository that this program was built from.
pub fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// The cargo that started this program, or the one on `PATH`, without the variables that describe
/// this program's package: build scripts depend on some of them (ring's does), so that
/// inheriting them would rebuild crates that a build from a shell has already compiled.
pub fn cargo() -> Command {
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
