//! Empty accounts. A transaction may touch an account that does not exist, and leave it so: it has
//! no place in the state (EIP-161). All clients of a run would agree on a state root with such
//! accounts, and disagree with every other client.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_trie::Nibbles;
use alloy_trie::proof::verify_proof;

/// Checks by a proof that an account is not in the state of a root.
///
/// # Errors
/// The reason for which the proof does not show it.
pub fn is_absent(root: B256, account: Address, proof: &[Bytes]) -> Result<(), String> {
    let path = Nibbles::unpack(keccak256(account));
    verify_proof(root, path, None, proof)
        .map_err(|error| format!("the empty account {account} is in the state: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The RLP of an account without nonce, balance, storage and code.
    fn empty_account() -> Vec<u8> {
        let mut encoded = vec![0xf8, 0x44, 0x80, 0x80, 0xa0];
        encoded.extend_from_slice(keccak256([0x80u8]).as_slice());
        encoded.push(0xa0);
        encoded.extend_from_slice(keccak256([0u8; 0]).as_slice());
        encoded
    }

    /// A state of one account: the root, and the leaf with its whole path.
    fn state_of_one(account: Address) -> (B256, Bytes) {
        let mut path = vec![0x20];
        path.extend_from_slice(keccak256(account).as_slice());
        let value = empty_account();
        let mut leaf = vec![0xf8, (1 + path.len() + 2 + value.len()) as u8];
        leaf.push(0x80 + path.len() as u8);
        leaf.extend(path);
        leaf.extend([0xb8, value.len() as u8]);
        leaf.extend(value);
        (keccak256(&leaf), leaf.into())
    }

    #[test]
    fn an_empty_account_in_the_state_is_found() {
        let there = Address::repeat_byte(1);
        let (root, leaf) = state_of_one(there);
        let proof = std::slice::from_ref(&leaf);
        assert!(is_absent(root, there, proof).is_err());
        assert_eq!(is_absent(root, Address::repeat_byte(2), proof), Ok(()));
        let other = B256::repeat_byte(7);
        assert!(is_absent(other, Address::repeat_byte(2), proof).is_err());
    }
}
