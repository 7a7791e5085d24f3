//! Review B3: the public port and the Engine API do not wait for each other.

use alys_runtime::time::{Duration, timeout};

use super::super::node_view::NodeSlot;
use super::super::shared::{PublicPort, Shared};
use super::*;
use crate::embedded::execution::ExecutionCore;
use crate::http::RpcHandler as _;

#[test]
fn public_calls_do_not_wait_for_an_import_in_progress() {
    block_on_main(async {
        let store = Arc::new(MemoryStore::new());
        let genesis = genesis(PayloadFork::Deneb);
        let core = ExecutionCore::open(store, &genesis, CoreConfig::default()).unwrap();
        let shared = Arc::new(Shared::new(core, NodeSlot::default()));
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
            let answer = timeout(Duration::from_secs(20), port.handle(method, params)).await;
            let answer = answer.unwrap_or_else(|_| panic!("{method} waits for the import"));
            assert!(answer.is_ok(), "{method}: {answer:?}");
        }
    });
}
