//! The accounts of users, with keys derived from their numbers.

use std::sync::OnceLock;

use alloy_primitives::{Address, U256, keccak256};
use k256::ecdsa::SigningKey;

/// EVM chain id of simulated chains.
pub const CHAIN_ID: u64 = 1337;

/// The number of the account that dust is sent from; no user of a workload has it.
pub const DUST_USER: u8 = 200;

/// Returns the balance of every user at genesis, in wei.
pub fn user_funds() -> U256 {
    U256::from(1_000_000u64) * U256::from(10u64).pow(U256::from(18))
}

/// Returns the key of a user, by number from 0 to 253.
pub fn user_key(index: u8) -> SigningKey {
    user(index).0.clone()
}

/// Returns the address of a user, by number from 0 to 253.
pub fn user_address(index: u8) -> Address {
    user(index).1
}

/// Returns a user's key and address. They are derived once, because invariants and users need them
/// for every transaction and read.
fn user(index: u8) -> &'static (SigningKey, Address) {
    static USERS: [OnceLock<(SigningKey, Address)>; 254] = [const { OnceLock::new() }; 254];
    USERS[usize::from(index)].get_or_init(|| {
        let mut bytes = [0x11; 32];
        bytes[31] = index + 1;
        let key = SigningKey::from_slice(&bytes)
            .expect("a small number times a constant is below the order of the curve");
        let address = Address::from_private_key(&key);
        (key, address)
    })
}

/// Returns the recipient of a user's transfers, an account that no other user sends to.
pub fn sink_address(index: u8) -> Address {
    Address::repeat_byte(0xa0 + index)
}

/// Returns the account that the proofs of a miner pay.
pub fn miner_address(index: u8) -> alys_types::Address {
    alys_types::Address([0xd0 + index; 20])
}

/// Returns an account that no transaction but this one of a user touches.
pub fn fresh_address(index: u8, nonce: u64) -> Address {
    let mut bytes = b"fresh account".to_vec();
    bytes.push(index);
    bytes.extend(nonce.to_be_bytes());
    Address::from_word(keccak256(bytes))
}
