//! Keystores of EIP-2335.

use alys_node::keys::keystore::Keystore;
use serde_json::Value;

/// Largest cost of a key derivation that is carried out; a real one takes a second.
const MAX_COST: u64 = 64;

pub fn run(data: &[u8]) {
    let Ok(keystore) = Keystore::parse(data) else {
        return;
    };
    let text = keystore.to_json();
    let again = Keystore::parse(text.as_bytes()).expect("a keystore of our own");
    assert_eq!(again.to_json(), text);
    let public_key = keystore.public_key();
    if is_cheap(data)
        && let Ok(key) = keystore.decrypt("password")
    {
        assert_eq!(Ok(key.public_key().to_bytes()), public_key);
    }
}

/// True when no parameter of the key derivation is large.
fn is_cheap(data: &[u8]) -> bool {
    let Ok(file) = serde_json::from_slice::<Value>(data) else {
        return false;
    };
    let params = &file["crypto"]["kdf"]["params"];
    ["n", "r", "p", "c", "dklen"].iter().all(|name| {
        let value = &params[*name];
        value.is_null() || value.as_u64().is_some_and(|value| value <= MAX_COST)
    })
}
