//! Callers with large requests that arrive at the same time, so that an execution client with a
//! small budget of bytes refuses some of them while it serves the others. Some give up early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::B256;
use alys_integrations::http::CallError;
use alys_runtime::sim::Rng;
use alys_runtime::{spawn, time};

use super::rpc;

/// Callers at once. Two of them fit into the smallest budget.
const CALLERS: usize = 4;
/// Bytes of the data of a request, which has twice as many.
const DATA_BYTES: usize = 450_000;
/// Shortest pause between two groups.
const PAUSE: Duration = Duration::from_secs(4);
/// Patience of a caller that gives up while its request is on its way, at most, in milliseconds.
const MOST_PATIENCE_MS: u64 = 400;

/// Sends groups of callers to one execution client after another until the run is over.
pub async fn run(execution_clients: u8, mut rng: Rng, is_over: Arc<AtomicBool>) {
    loop {
        time::sleep(PAUSE + Duration::from_millis(rng.below(PAUSE.as_millis() as u64))).await;
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let client = rng.below(u64::from(execution_clients.max(1))) as u8;
        let impatient = Duration::from_millis(1 + rng.below(MOST_PATIENCE_MS));
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let patience = (number == 0).then_some(impatient);
                spawn("large-caller", call(client, patience))
            })
            .collect();
        for caller in callers {
            // A caller ends in any case, and nothing depends on its answer.
            let _ended = caller.await;
        }
    }
}

/// One large call over a connection of its own.
async fn call(client: u8, patience: Option<Duration>) {
    let data = format!("0x{}", "5a".repeat(DATA_BYTES));
    let client = rpc(client);
    let answer = async {
        let answer: Result<B256, CallError> = client.call("web3_sha3", (data,)).await;
        answer.is_ok()
    };
    match patience {
        Some(patience) => {
            // The server frees the bytes of a broken connection.
            let _answered = time::timeout(patience, answer).await;
        }
        None => {
            let _answered = answer.await;
        }
    }
}
