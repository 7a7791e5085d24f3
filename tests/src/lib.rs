//! End-to-end tests: the real `alys` binary as processes, beside independent wallets, compiler and
//! execution client.
//!
//! **Owns** the harness: the binary ([`alys`]), processes with their logs ([`process`]), JSON-RPC
//! ([`rpc`]), ports ([`ports`]), federations of processes ([`federation`]), npm packages ([`npm`]),
//! execution clients of other teams ([`client`], [`ethrex`]), and the simulator with a browser for
//! its pages ([`simulator`]). **Promises** that only loopback is used, that every wait ends, that
//! no process outlives its test, and that a failure prints the last lines of every process.
//! **Never** links the node: the tests in `tests/` start and read only things that users can.
//!
//! ```text
//! cargo test -p alys-tests                 needs node and npm; installs the lock file of npm once
//! ALYS_BIN=path cargo test -p alys-tests   tests that binary instead of the one of this checkout
//! cargo xtask interop                      builds ethrex and runs the test that needs it
//! ALYS_SIM_BIN=path ..                     uses that simulator; CHROMIUM=path that browser
//! ALYS_TESTS_KEEP=1 ..                     keeps the directory of a failed test
//! ```

pub mod alys;
pub mod client;
pub mod ethrex;
pub mod federation;
pub mod npm;
pub mod ports;
pub mod process;
pub mod rpc;
mod scenario;
pub mod simulator;

pub use process::{Line, Process};
pub use rpc::Rpc;
pub use scenario::{World, scenario};
