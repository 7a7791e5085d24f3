//! Recovers the sender of a transaction from its signature.
//!
//! It uses libsecp256k1, because key recovery dominates the execution of a block of a thousand
//! transfers. k256, alloy's default, verifies the signature again with each recovered key and took
//! more than four times as long. The tests compare the results of the two.

use alloy_consensus::TxEnvelope;
use alloy_consensus::crypto::SECP256K1N_HALF;
use alloy_primitives::Address;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};

/// The account of the signing key; `None` when no key can be recovered, or for a high `s` (EIP-2).
pub(super) fn recover_sender(transaction: &TxEnvelope) -> Option<Address> {
    let signature = transaction.signature();
    if signature.s() > SECP256K1N_HALF {
        return None;
    }
    let mut compact = [0; 64];
    compact[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    compact[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    let parity = if signature.v() {
        RecoveryId::One
    } else {
        RecoveryId::Zero
    };
    let signature = RecoverableSignature::from_compact(&compact, parity).ok()?;
    let message = Message::from_digest(transaction.signature_hash().0);
    let key = SECP256K1.recover_ecdsa(message, &signature).ok()?;
    // The first byte is the tag of the key's format.
    Some(Address::from_raw_public_key(
        &key.serialize_uncompressed()[1..],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::transaction::SignerRecoverable as _;
    use alloy_consensus::{SignableTransaction, TxEip1559, TxLegacy};
    use alloy_primitives::{Signature, U256, keccak256};
    use k256::ecdsa::SigningKey;

    /// The order of the curve.
    fn order() -> U256 {
        SECP256K1N_HALF * U256::from(2) + U256::from(1)
    }

    fn transfer(nonce: u64, signature: impl FnOnce(&[u8]) -> Signature) -> TxEnvelope {
        if nonce.is_multiple_of(2) {
            let tx = TxLegacy {
                nonce,
                chain_id: (!nonce.is_multiple_of(4)).then_some(7),
                ..TxLegacy::default()
            };
            let signature = signature(tx.signature_hash().as_slice());
            tx.into_signed(signature).into()
        } else {
            let tx = TxEip1559 {
                nonce,
                chain_id: 7,
                ..TxEip1559::default()
            };
            let signature = signature(tx.signature_hash().as_slice());
            tx.into_signed(signature).into()
        }
    }

    #[test]
    fn the_signer_of_a_valid_signature_is_recovered() {
        for nonce in 0..200u64 {
            let key =
                SigningKey::from_slice(keccak256(nonce.to_be_bytes()).as_slice()).expect("a key");
            let transaction = transfer(nonce, |hash| {
                Signature::from(key.sign_prehash_recoverable(hash).expect("a hash"))
            });
            assert_eq!(
                recover_sender(&transaction),
                Some(Address::from_private_key(&key))
            );
            assert_eq!(
                recover_sender(&transaction),
                transaction.recover_signer().ok()
            );
        }
    }

    #[test]
    fn invalid_signatures_give_the_same_result_as_k256() {
        let edges = [
            U256::ZERO,
            U256::from(1),
            SECP256K1N_HALF,
            SECP256K1N_HALF + U256::from(1),
        ];
        let edges: Vec<U256> = edges
            .into_iter()
            .chain([order() - U256::from(1), order(), U256::MAX])
            .collect();
        let mut seen = [0; 2];
        let mut compare = |nonce: u64, r: U256, s: U256, parity: bool| {
            let transaction = transfer(nonce, |_| Signature::new(r, s, parity));
            let recovered = recover_sender(&transaction);
            let expected = transaction.recover_signer().ok();
            assert_eq!(recovered, expected, "r {r} s {s} parity {parity}");
            seen[usize::from(recovered.is_some())] += 1;
        };
        for (nonce, (r, s)) in edges
            .iter()
            .flat_map(|r| edges.iter().map(move |s| (r, s)))
            .enumerate()
        {
            compare(nonce as u64, *r, *s, nonce % 2 == 0);
            compare(nonce as u64, *r, *s, nonce % 2 == 1);
        }
        for nonce in 0..200u64 {
            let number = |salt: u64| {
                U256::from_be_bytes(keccak256([nonce, salt].map(u64::to_be_bytes).concat()).0)
            };
            compare(nonce, number(1), number(2) >> 1, nonce % 3 == 0);
        }
        assert!(
            seen[0] > 20 && seen[1] > 20,
            "valid and invalid ones occurred: {seen:?}"
        );
    }
}
