//! The accounts of users: keys from numbers.

use std::sync::OnceLock;

use alloy_primitives::{Address, U256};
use k256::ecdsa::SigningKey;

/// EVM chain id of simulated chains.
pub const CHAIN_ID: u64 = 1337;

/// What every user has at genesis, in wei.
pub fn user_funds() -> U256 {
    U256::from(1_000_000u64) * U256::from(10u64).pow(U256::from(18))
}

/// The key of a user, from 0, at most 253.
pub fn user_key(index: u8) -> SigningKey {
    user(index).0.clone()
}

/// The account of a user.
pub fn user_address(index: u8) -> Address {
    user(index).1
}

/// A user's key and account, derived once: oracles and users ask at every transaction and read.
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

/// Whom a user sends to: an account that nobody else touches.
pub fn sink_address(index: u8) -> Address {
    Address::repeat_byte(0xa0 + index)
}
