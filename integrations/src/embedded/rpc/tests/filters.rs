//! Filters.

use alloy_primitives::hex;

use super::*;

#[test]
fn filters_report_each_change_once_and_follow_a_reorganisation() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let (contract, _) = client.with_contract().await;
        let blocks = client.get("eth_newBlockFilter", json!([])).await;
        let logs = client
            .get("eth_newFilter", json!([{ "address": contract }]))
            .await;
        let changes = async |id: &Value| client.get("eth_getFilterChanges", json!([id])).await;
        assert_eq!(
            (changes(&blocks).await, changes(&logs).await),
            (json!([]), json!([]))
        );

        let parent = client.head().await;
        let call = client
            .send(3, TxKind::Call(contract), 0, Bytes::new())
            .await;
        let old = client.produce().await;
        assert_eq!(changes(&blocks).await, json!([old]));
        assert_eq!(changes(&blocks).await, json!([]));
        let reported = changes(&logs).await;
        assert_eq!(
            (&reported[0]["transactionHash"], &reported[0]["removed"]),
            (&json!(call), &json!(false))
        );
        assert_eq!(changes(&logs).await, json!([]));

        // Another block replaces the last one.
        let other = client
            .build(parent.hash, client.attributes(parent.timestamp + 10))
            .await;
        let new = other.as_v1().block_hash;
        assert!(
            client
                .engine
                .forkchoice_updated(choice(new), None)
                .await
                .unwrap()
                .is_valid()
        );
        assert_eq!(client.head().await.hash, new);
        assert_eq!(changes(&blocks).await, json!([new]));
        let reported = changes(&logs).await;
        assert_eq!(
            (&reported[0]["blockHash"], &reported[0]["removed"]),
            (&json!(old), &json!(true))
        );
        // The call returned to the pool and entered the new block.
        assert_eq!(
            (&reported[1]["blockHash"], &reported[1]["removed"]),
            (&json!(new), &json!(false))
        );
        assert_eq!(reported[1]["transactionHash"], json!(call));
        assert_eq!(reported.as_array().map(Vec::len), Some(2));

        let all = client
            .get(
                "eth_newFilter",
                json!([{ "fromBlock": "0x0", "address": contract }]),
            )
            .await;
        let found = client.get("eth_getFilterLogs", json!([all])).await;
        assert_eq!(found[0]["blockNumber"], "0x2");
        assert_eq!(
            client.get("eth_uninstallFilter", json!([blocks])).await,
            json!(true)
        );
        assert_eq!(
            client.get("eth_uninstallFilter", json!([blocks])).await,
            json!(false)
        );
        for method in ["eth_getFilterChanges", "eth_getFilterLogs"] {
            assert_eq!(
                client.refused(method, json!([blocks])).await,
                RpcError::server("filter not found")
            );
        }
        // The least recently used filter is removed.
        for _ in 0..1000 {
            client.get("eth_newBlockFilter", json!([])).await;
        }
        assert_eq!(
            client
                .refused("eth_getFilterChanges", json!([logs]))
                .await
                .message,
            "filter not found"
        );
    });
}

/// Filters of the largest size take a bounded amount of memory.
#[test]
fn large_filters_replace_each_other_before_they_fill_the_memory() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let large = |first: u64| {
            let addresses =
                (0..1_000).map(|n| Address::left_padding_from(&(first + n).to_be_bytes()));
            json!([{ "address": addresses.collect::<Vec<_>>() }])
        };
        let mut ids = Vec::new();
        for number in 0..60 {
            ids.push(client.get("eth_newFilter", large(number * 1_000)).await);
        }
        let gone = client
            .refused("eth_getFilterChanges", json!([ids[0]]))
            .await;
        assert_eq!(gone, RpcError::server("filter not found"));
        let last = client.get("eth_getFilterChanges", json!([ids[59]])).await;
        assert_eq!(last, json!([]));
        let topics: Vec<B256> = (0..1_001_u64).map(|n| U256::from(n).into()).collect();
        let refused = client
            .refused("eth_newFilter", json!([{ "topics": [topics] }]))
            .await;
        assert_eq!(refused.code, RpcError::INVALID_PARAMS, "{refused}");
    });
}

#[test]
fn a_poll_with_too_many_logs_reports_the_blocks_that_fit_and_the_next_one_the_others() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let filter = client.get("eth_newFilter", json!([{}])).await;
        // Init code that logs without topics while more than 5,000 gas are left, about 350 times
        // in one transaction. One answer has at most 20,000 logs.
        let code = Bytes::copy_from_slice(&hex!("5b60006000a06113885a1160005700"));
        for first in [0, 30] {
            for nonce in first..first + 30 {
                client.send(nonce, TxKind::Create, 0, code.clone()).await;
            }
            client.produce().await;
        }
        let mut counts = Vec::new();
        for block in ["0x1", "0x2", "0x2"] {
            let changes = client.get("eth_getFilterChanges", json!([filter])).await;
            let logs = changes.as_array().unwrap();
            for log in logs {
                assert_eq!(log["blockNumber"], block);
            }
            counts.push(logs.len());
        }
        let each = counts[0];
        assert!((10_001..=20_000).contains(&each), "{counts:?}");
        assert_eq!(counts, [each, each, 0]);
    });
}
