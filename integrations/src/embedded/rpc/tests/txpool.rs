//! The `txpool_` methods and refused transactions.

use super::*;

#[test]
fn the_pool_has_geths_shape_and_error_texts() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let first = client
            .send(0, TxKind::Call(RECIPIENT), 1, Bytes::new())
            .await;
        let third = client
            .send(2, TxKind::Call(RECIPIENT), 1, Bytes::new())
            .await;
        let status = client.get("txpool_status", json!([])).await;
        assert_eq!(status, json!({ "pending": "0x1", "queued": "0x1" }));
        let content = client.get("txpool_content", json!([])).await;
        let sender = SENDER.to_string();
        assert_eq!(content["pending"][&sender]["0"]["hash"], json!(first));
        assert_eq!(content["pending"][&sender]["0"]["blockHash"], Value::Null);
        assert_eq!(content["queued"][&sender]["2"]["hash"], json!(third));
        let of_sender = client.get("txpool_contentFrom", json!([SENDER])).await;
        assert_eq!(of_sender["pending"], content["pending"][&sender]);
        let inspected = client.get("txpool_inspect", json!([])).await;
        assert_eq!(
            inspected["pending"][&sender]["0"],
            json!(format!("{RECIPIENT}: 1 wei + 200000 gas × 10000000000 wei"))
        );
        assert_eq!(
            client
                .get("eth_getTransactionCount", json!([SENDER, "pending"]))
                .await,
            json!("0x1")
        );
        assert_eq!(
            client
                .get("eth_getTransactionCount", json!([SENDER, "latest"]))
                .await,
            json!("0x0")
        );
        assert_eq!(
            client.get("eth_getTransactionByHash", json!([first])).await["blockHash"],
            Value::Null
        );

        let (raw, _) = transaction(0, TxKind::Call(RECIPIENT), 1, Bytes::new());
        assert_eq!(
            client.refused("eth_sendRawTransaction", json!([raw])).await,
            RpcError::server("already known")
        );
        client.produce().await;
        let (raw, _) = transaction(0, TxKind::Call(RECIPIENT), 2, Bytes::new());
        let error = client.refused("eth_sendRawTransaction", json!([raw])).await;
        assert_eq!(
            (error.code, error.message.starts_with("nonce too low")),
            (-32000, true),
            "{error}"
        );
        let error = client
            .refused("eth_sendRawTransaction", json!(["0x02c0"]))
            .await;
        assert_eq!(error.code, -32000);
        let (raw, _) = transaction(1, TxKind::Call(RECIPIENT), 1_000_000 * ETHER, Bytes::new());
        let error = client.refused("eth_sendRawTransaction", json!([raw])).await;
        assert!(
            error
                .message
                .starts_with("insufficient funds for gas * price + value"),
            "{error}"
        );
    });
}

/// A transaction that no block can include is shown to its sender and not passed on.
#[test]
fn transactions_below_the_next_base_fee_are_shown_and_not_offered_to_the_node() {
    block_on_main(async {
        let client = TestClient::new(PayloadFork::Deneb).await;
        let to = TxKind::Call(RECIPIENT);
        let (payer, _) = transaction(0, to, 1, Bytes::new());
        let (dust, _) = with_fees(1, 1, 1, to, 1, Bytes::new());
        for raw in [&payer, &dust] {
            client.get("eth_sendRawTransaction", json!([raw])).await;
        }
        let offered = client.engine.pending_transactions(10).await.unwrap();
        assert_eq!(offered, [payer]);
        let shown = client.get("txpool_contentFrom", json!([SENDER])).await;
        let shown = shown["pending"].as_object().unwrap();
        assert_eq!(shown.len(), 2);
    });
}
