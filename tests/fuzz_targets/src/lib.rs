//! The fuzz targets: decoders, handlers of messages, and the rules of agreement, each a function
//! of bytes.
//!
//! **Owns** the bodies of the targets ([`TARGETS`]) and the replay of the committed corpora, a test
//! of this crate that needs no fuzzer. The binaries in `fuzz/`, a workspace of its own, call the
//! same functions from libFuzzer; `cargo xtask fuzz` builds and runs them.
//!
//! **Promises** that a target depends on its bytes alone, so that an input that failed once fails
//! again, and that it panics when an invariant is violated: a decoder accepts one encoding of each
//! value, an actor survives every message of a peer or of its execution client, the rules of
//! agreement hold on every schedule.
//!
//! **Never** runs outside of the simulated world, in which time is virtual and tasks have one
//! order.
#![cfg(madsim)]

pub mod agreement;
pub mod choices;
pub mod decoders;
pub mod federation;
pub mod handlers;

use std::future::Future;

/// A function of bytes that panics when an invariant is violated.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also the name of the binary in `fuzz/fuzz_targets` and of the directory in `fuzz/corpus`.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident = $run:path;)*) => {
        /// All targets, by name.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $run }),*];
    };
}

targets! {
    agreement = agreement::run;
    chain = handlers::chain::run;
    configuration = decoders::configuration::run;
    engine = handlers::engine::run;
    execution_rpc = handlers::execution_rpc::run;
    http = handlers::http::run;
    keystore = decoders::keystore::run;
    messages = decoders::messages::run;
    network = handlers::network::run;
    peers = handlers::peers::run;
    records = decoders::records::run;
    scenario = decoders::scenario::run;
}

/// Runs a future on one node of a new simulated world, always with the same seed.
pub(crate) fn in_world<F>(future: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    alys_runtime::block_on_main(future);
}
