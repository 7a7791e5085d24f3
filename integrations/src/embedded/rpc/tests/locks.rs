//! The public port and the Engine API do not wait for each other, and no read of the public port
//! lasts longer than its limit or its caller.

use alloy_rpc_types_eth::Filter;
use alys_runtime::sync::mpsc;
use alys_runtime::time::{Duration, timeout};
use alys_runtime::{Lane, select};

use super::super::node_view::NodeSlot;
use super::super::shared::{Place, PublicPort, Shared, Superseded};
use super::*;
use crate::embedded::execution::{ChainView, ExecutionCore};
use crate::http::RpcHandler as _;

/// For busy machines.
const SOON: Duration = Duration::from_secs(20);

fn shared() -> Shared {
    let store = Arc::new(MemoryStore::new());
    let genesis = genesis(PayloadFork::Deneb);
    let core = ExecutionCore::open(store, &genesis, CoreConfig::default()).unwrap();
    Shared::new(core, NodeSlot::default())
}

#[test]
fn public_calls_do_not_wait_for_an_import_in_progress() {
    block_on_main(async {
        let shared = Arc::new(shared());
        let port = PublicPort::new(shared.clone(), Arc::default());
        // As long as an import or a build holds it.
        let _import = shared.core.lock().await;
        let (raw, hash) = transaction(0, TxKind::Call(RECIPIENT), 1, Bytes::new());
        let code = json!({ "data": "0x435f5260205ff3" });
        for (method, params) in [
            ("eth_blockNumber", json!([])),
            ("eth_call", json!([code])),
            ("eth_estimateGas", json!([{ "to": RECIPIENT }])),
            ("eth_getLogs", json!([{ "fromBlock": "0x0" }])),
            ("eth_newFilter", json!([{}])),
            ("eth_sendRawTransaction", json!([raw])),
            ("eth_getTransactionByHash", json!([hash])),
            ("eth_getTransactionCount", json!([SENDER, "pending"])),
            ("txpool_content", json!([])),
        ] {
            let answer = timeout(SOON, port.handle(method, params)).await;
            let answer = answer.unwrap_or_else(|_| panic!("{method} waits for the import"));
            assert!(answer.is_ok(), "{method}: {answer:?}");
        }
    });
}

#[test]
fn long_calls_end_at_the_time_limit() {
    block_on_main(async {
        let mut shared = shared();
        // Over at the first check, because no time passes while the simulator computes.
        shared.read_timeout = Duration::ZERO;
        let port = PublicPort::new(Arc::new(shared), Arc::default());
        let filter = port.handle("eth_newFilter", json!([{}])).await;
        let filter = filter.expect("searches nothing");
        // Code that jumps until its gas ends.
        let endless = json!({ "data": "0x5b600056" });
        for (method, params) in [
            ("eth_call", json!([endless])),
            ("eth_estimateGas", json!([endless])),
            ("eth_getLogs", json!([{ "fromBlock": "0x0" }])),
            ("eth_getFilterLogs", json!([filter])),
            ("eth_feeHistory", json!(["0x1", "latest"])),
            ("eth_getProof", json!([SENDER, ["0x0"], "latest"])),
        ] {
            let answer = port.handle(method, params).await;
            assert_eq!(
                answer,
                Err(RpcError::new(
                    -32000,
                    "execution aborted (time limit exceeded)"
                )),
                "{method}"
            );
        }
        let number = port.handle("eth_blockNumber", json!([])).await;
        assert_eq!(number, Ok(json!("0x0")));
    });
}

#[test]
fn a_call_without_a_turn_has_the_code_of_a_busy_server() {
    block_on_main(async {
        let mut port = PublicPort::new(Arc::new(shared()), Arc::default());
        port.turn_timeout = Duration::from_millis(50);
        let turns = u32::try_from(port.short.available_permits()).unwrap();
        let taken = port.short.acquire_many(turns).await.unwrap();
        let refused = port.handle("eth_blockNumber", json!([])).await;
        let busy = RpcError::new(-32009, "the server is busy; try again later");
        assert_eq!(refused, Err(busy));
        drop(taken);
        let number = port.handle("eth_blockNumber", json!([])).await;
        assert_eq!(number, Ok(json!("0x0")));
    });
}

#[test]
fn a_read_ends_when_its_caller_leaves() {
    // In simulation nothing else happens while a query computes.
    if alys_runtime::is_simulated() {
        return;
    }
    block_on_main(async {
        let shared = shared();
        let (sender, mut reports) = mpsc::channel(2);
        let search = move |view: &ChainView| {
            let report = |text: String| sender.try_send(text).expect("room for both");
            report("begins".to_owned());
            // Only the meter ends it.
            loop {
                if let Err(error) = view.logs(&Filter::new()) {
                    report(error.to_string());
                    return Err::<(), RpcError>(error.into());
                }
            }
        };
        let read = shared.read_at(Place::Lane(Lane::Long), Superseded::Keep, search);
        select! {
            biased;
            answer = read => panic!("{answer:?}"),
            begins = reports.recv() => assert_eq!(begins.as_deref(), Some("begins")),
        }
        // The caller has left: its future is dropped.
        let end = timeout(SOON, reports.recv()).await.expect("it ends");
        assert_eq!(
            end.as_deref(),
            Some("execution aborted (the caller has left)")
        );
    });
}
