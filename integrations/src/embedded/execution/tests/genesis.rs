//! Genesis blocks, compared with another implementation (`@ethereumjs/client` 0.10.5).

use super::super::*;
use super::kit::*;
use alloy_primitives::{B256, U256, b256};
use alloy_rpc_types_eth::BlockId;

#[test]
fn genesis_hashes_match_other_clients() {
    let cases = [
        (
            Fork::Shanghai,
            b256!("0xa2efbb3dbc76b19d89cec04efdc81cadddae4e1824ad70278ead754330bbb4a0"),
        ),
        (
            Fork::Cancun,
            b256!("0xb25ce44de2f91807aacefa1f53e2eb8815514bca9ea9c34b8ec12cf940768d31"),
        ),
    ];
    for (fork, expected) in cases {
        assert_eq!(
            TestClient::new(fork).core.genesis_hash(),
            expected,
            "{fork:?}"
        );
    }
}

/// Code, storage with a zero (which Geth does not store, so the other client got none), account
/// nonces, difficulty, nonce, extra data and a late timestamp.
#[test]
fn a_genesis_with_all_fields_has_the_hash_of_other_clients() {
    let mut json = serde_json::to_value(genesis(Fork::Cancun)).expect("serialises");
    let value = |byte: u8| B256::repeat_byte(byte);
    json["nonce"] = "0x42".into();
    json["timestamp"] = "0x65a0f000".into();
    json["extraData"] = "0xc0ffee".into();
    json["gasLimit"] = "0x1c9c381".into();
    json["difficulty"] = "0x20000".into();
    json["alloc"]["0x0000000000000000000000000000000000000001"] =
        serde_json::json!({ "balance": "0x1" });
    json["alloc"]["0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"] = serde_json::json!({
        "balance": "0x5", "code": "0x6001", "nonce": "0x7",
        "storage": {
            (B256::with_last_byte(1).to_string()): B256::with_last_byte(0xff),
            (value(0x11).to_string()): value(0x22),
            (value(0x33).to_string()): B256::ZERO,
        }
    });
    let genesis = serde_json::from_value(json).expect("a valid genesis");
    let client = TestClient::with(genesis, CoreConfig::default());
    let hash = b256!("0x1b980da57d1d7a5601d568663472396f62c09173507c0b961cf61c0363f6d4ef");
    assert_eq!(client.core.genesis_hash(), hash);
    let bridge = alloy_primitives::Address::repeat_byte(0xbb);
    let slot = U256::from_be_bytes(value(0x11).0);
    assert_eq!(
        client
            .core
            .storage_at(bridge, slot, BlockId::latest())
            .expect("reads"),
        value(0x22)
    );
    assert_eq!(
        client
            .core
            .code(bridge, BlockId::earliest())
            .expect("reads")
            .as_ref(),
        [0x60, 1]
    );
}
