//! The receipts of clients that serve them on one port or the other, by one method or the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use alloy_consensus::proofs::calculate_receipt_root;
use alys_runtime::block_on_main;
use serde_json::{Value, json};

use super::*;
use crate::http::{ClientConfig, HttpServer, RpcHandler, ServerConfig};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Methods that a port serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    All,
    /// As [`Self::All`], and without receipts an empty list in place of null, as EthereumJS.
    AllOfJs,
    /// No receipts of whole blocks.
    Transactions,
    /// Receipts of whole blocks by height only.
    ByNumber,
    Nothing,
}

/// A port of a client with one block.
struct Port {
    serves: Serves,
    /// The receipts of the block; none if they are lost.
    receipts: Vec<Value>,
    transactions: Vec<B256>,
    calls: Mutex<BTreeMap<String, usize>>,
}

const BLOCK: B256 = B256::repeat_byte(0xbb);

fn transaction(index: usize) -> B256 {
    B256::left_padding_from(&(index + 1).to_be_bytes())
}

/// A receipt as clients write it: legacy or EIP-1559, failed or with a log.
fn receipt(index: usize) -> Value {
    let logs = match index % 2 {
        0 => json!([]),
        _ => json!([{
            "address": Address::repeat_byte(7), "topics": [B256::repeat_byte(8)], "data": "0x0102",
            "logIndex": "0x0", "removed": false, "blockHash": BLOCK,
        }]),
    };
    let mut receipt = json!({
        "transactionHash": transaction(index), "transactionIndex": format!("{index:#x}"),
        "blockHash": BLOCK, "blockNumber": "0x1", "from": Address::ZERO, "to": null,
        "cumulativeGasUsed": format!("{:#x}", 21_000 * (index + 1)), "gasUsed": "0x5208",
        "contractAddress": null, "logs": logs, "logsBloom": "0x00", "unknown": [1, {}],
        "status": if index % 2 == 0 { "0x0" } else { "0x1" }, "effectiveGasPrice": "0x7",
    });
    if index % 3 != 0 {
        receipt["type"] = "0x2".into();
    }
    receipt
}

fn expected(index: usize) -> ReceiptEnvelope {
    let log = Log::new(
        Address::repeat_byte(7),
        vec![B256::repeat_byte(8)],
        vec![1, 2].into(),
    );
    let is_success = index % 2 == 1;
    let receipt = Receipt {
        status: is_success.into(),
        cumulative_gas_used: 21_000 * (index as u64 + 1),
        logs: log.filter(|_| is_success).into_iter().collect(),
    };
    let kind = if index % 3 == 0 {
        TxType::Legacy
    } else {
        TxType::Eip1559
    };
    ReceiptEnvelope::from_typed(kind, receipt)
}

impl Port {
    fn new(serves: Serves, count: usize) -> Arc<Port> {
        Arc::new(Port {
            serves,
            receipts: (0..count).map(receipt).collect(),
            transactions: (0..count).map(transaction).collect(),
            calls: Mutex::default(),
        })
    }

    /// A port of a client that lost the receipts of the block.
    fn lost(serves: Serves, count: usize) -> Arc<Port> {
        Arc::new(Port {
            serves,
            receipts: Vec::new(),
            transactions: (0..count).map(transaction).collect(),
            calls: Mutex::default(),
        })
    }

    fn calls(&self, method: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.get(method).copied().unwrap_or_default()
    }
}

impl RpcHandler for Port {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let name = method.to_owned();
        *self.calls.lock().unwrap().entry(name).or_default() += 1;
        let serves = match (method, self.serves) {
            ("eth_getBlockByHash", serves) => serves != Serves::Nothing,
            ("eth_getBlockReceipts", serves) => {
                if serves == Serves::ByNumber {
                    return Err(RpcError::invalid_params("a number is required"));
                }
                matches!(serves, Serves::All | Serves::AllOfJs)
            }
            ("eth_getTransactionReceipt", serves) => serves != Serves::Nothing,
            _ => false,
        };
        if !serves {
            return Err(RpcError::method_not_found(method));
        }
        let is_known = params[0] == json!(BLOCK);
        Ok(match method {
            "eth_getBlockByHash" if is_known => {
                assert_eq!(params[1], json!(false));
                json!({ "hash": BLOCK, "transactions": self.transactions })
            }
            "eth_getBlockReceipts" if is_known => match self.serves {
                Serves::All if self.receipts.len() < self.transactions.len() => Value::Null,
                _ => json!(self.receipts),
            },
            "eth_getTransactionReceipt" => {
                let of = |receipt: &&Value| receipt["transactionHash"] == params[0];
                json!(self.receipts.iter().find(of))
            }
            _ => Value::Null,
        })
    }
}

/// A server and its client.
async fn serve(port: &Arc<Port>) -> (HttpServer, HttpClient) {
    let config = ServerConfig::new("receipts");
    let server = HttpServer::bind(LOCAL, config, port.clone()).await.unwrap();
    let http = HttpClient::new(ClientConfig::new(server.local_addr()));
    (server, http)
}

/// Reads the block twice and another one, and returns the answers.
async fn read(
    engine: &Arc<Port>,
    public: Option<&Arc<Port>>,
) -> Result<Option<Vec<ReceiptEnvelope>>, ExecutionError> {
    let (_server, engine) = serve(engine).await;
    let public = match public {
        Some(port) => Some(serve(port).await),
        None => None,
    };
    let public = public.as_ref().map(|(_, http)| http);
    let reader = ReceiptReader::default();
    let first = reader.read(&engine, public, BLOCK).await?;
    let second = reader.read(&engine, public, BLOCK).await?;
    assert_eq!(first, second);
    assert_eq!(reader.read(&engine, public, B256::ZERO).await?, None);
    Ok(first)
}

#[test]
fn receipts_are_read_by_the_port_and_the_method_that_the_client_serves() {
    use Serves::{All, AllOfJs, ByNumber, Nothing, Transactions};
    block_on_main(async {
        let all: Vec<ReceiptEnvelope> = (0..250).map(expected).collect();
        // (engine port, public port, calls by block on both, calls by transaction on both)
        let table = [
            (All, None, [3, 0], [0, 0]),
            (All, Some(All), [3, 0], [0, 0]),
            (AllOfJs, None, [3, 0], [0, 0]),
            (Nothing, Some(All), [1, 3], [0, 0]),
            (Nothing, Some(AllOfJs), [1, 3], [0, 0]),
            (Transactions, None, [1, 0], [500, 0]),
            (ByNumber, None, [1, 0], [500, 0]),
            (Transactions, Some(All), [1, 3], [0, 0]),
            (Nothing, Some(Transactions), [1, 1], [0, 500]),
        ];
        for (engine, public, by_block, by_transaction) in table {
            let shown = format!("{engine:?} {public:?}");
            let engine = Port::new(engine, all.len());
            let public = public.map(|serves| Port::new(serves, all.len()));
            let found = read(&engine, public.as_ref()).await.unwrap();
            let found = found.unwrap_or_default();
            assert_eq!(found, all, "{shown}");
            assert_eq!(
                calculate_receipt_root(&found),
                calculate_receipt_root(&all),
                "{shown}"
            );
            let calls = |method| {
                let of_public = public.as_ref().map_or(0, |port| port.calls(method));
                [engine.calls(method), of_public]
            };
            assert_eq!(calls("eth_getBlockReceipts"), by_block, "{shown}");
            assert_eq!(
                calls("eth_getTransactionReceipt"),
                by_transaction,
                "{shown}"
            );
        }
    });
}

#[test]
fn lost_receipts_are_none_and_those_of_an_empty_block_are_not_lost() {
    use Serves::{All, AllOfJs, Transactions};
    block_on_main(async {
        for serves in [All, AllOfJs, Transactions] {
            let lost = read(&Port::lost(serves, 2), None).await.unwrap();
            assert_eq!(lost, None, "{serves:?}");
            let empty = read(&Port::new(serves, 0), None).await.unwrap();
            assert_eq!(empty, Some(Vec::new()), "{serves:?}");
        }
    });
}

#[test]
fn a_client_without_receipts_is_named_with_the_remedy() {
    block_on_main(async {
        let nothing = Port::new(Serves::Nothing, 1);
        for public in [None, Some(&nothing)] {
            let error = read(&nothing, public).await.unwrap_err();
            assert!(error.to_string().contains("pool_url"), "{error}");
        }
        let gone = Arc::new(Refusal(RpcError::new(4444, "pruned history unavailable")));
        let unknown = Arc::new(Refusal(RpcError::new(-39001, "Unknown block")));
        let failed = Arc::new(Refusal(RpcError::server(
            "receipts length mismatch: 0 vs 2",
        )));
        for (port, is_none) in [(gone, true), (unknown, true), (failed, false)] {
            let server = HttpServer::bind(LOCAL, ServerConfig::new("refusal"), port).await;
            let server = server.unwrap();
            let http = HttpClient::new(ClientConfig::new(server.local_addr()));
            let answer = ReceiptReader::default().read(&http, None, BLOCK).await;
            assert_eq!(matches!(answer, Ok(None)), is_none, "{answer:?}");
        }
    });
}

/// Answers every call with an error.
struct Refusal(RpcError);

impl RpcHandler for Refusal {
    async fn handle(&self, _: &str, _: Value) -> Result<Value, RpcError> {
        Err(self.0.clone())
    }
}

/// A block of 30 M gas has at most 80,000 logs, or 3.75 MB of their data.
#[test]
fn the_receipts_of_a_block_full_of_logs_fit() {
    let log = json!({
        "address": Address::repeat_byte(7), "topics": [], "data": "0x",
        "blockNumber": "0xffffffffffff", "transactionHash": BLOCK, "transactionIndex": "0x0",
        "blockHash": BLOCK, "blockTimestamp": "0xffffffff", "logIndex": "0x13880",
        "removed": false,
    });
    let logs = MAX_GAS_LIMIT as usize / 375;
    let data = MAX_GAS_LIMIT as usize / 8;
    assert!(logs * (log.to_string().len() + 1) + 2 * data < MAX_ANSWER_BYTES);
}
