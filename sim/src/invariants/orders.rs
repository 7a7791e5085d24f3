//! Orders of governance, with an independent encoding of the signed message (rule 9.1 of the
//! protocol): the genesis hash, the number, and the encoding of kind, change and effective height.
//! Signers and verifiers share the node's own encoding, so a run of correct nodes does not show a
//! field that it leaves out.

use alys_types::bls::{PublicKey, Signature, verify};
use alys_types::{FederationChange, Hash, Order, SetChange};
use sha2::{Digest, Sha256};

/// The tag of the signed hash.
const TAG: &[u8] = b"alys/order";

/// The keys of governance, and the number of signatures that make an order.
#[derive(Clone)]
pub struct Keys {
    keys: Vec<PublicKey>,
    threshold: usize,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} keys", self.threshold, self.keys.len())
    }
}

impl Keys {
    pub fn new((keys, threshold): (Vec<PublicKey>, usize)) -> Self {
        Self { keys, threshold }
    }

    /// True if enough different keys signed every field of a federation change.
    pub fn signed(&self, genesis: &Hash, order: &Order) -> bool {
        let Some(message) = message(genesis, order) else {
            return false;
        };
        let is_ascending = order.signatures.is_sorted_by(|a, b| a.0 < b.0);
        let is_valid = |(index, signature): &(u8, Signature)| {
            let key = self.keys.get(usize::from(*index));
            key.is_some_and(|key| verify(&[key], &message.0, signature).is_ok())
        };
        is_ascending
            && order.signatures.len() >= self.threshold
            && order.signatures.iter().all(is_valid)
    }
}

/// The signed message of a federation change; `None` for another order, which no block carries yet.
pub fn message(genesis: &Hash, order: &Order) -> Option<Hash> {
    let SetChange {
        change,
        effective_height,
    } = order.set_change()?;
    let mut content = vec![TAG.len() as u8];
    content.extend_from_slice(TAG);
    content.extend_from_slice(&genesis.0);
    content.extend_from_slice(&order.number.to_le_bytes());
    // Integers have their full width, little-endian; the number of a variant has 32 bits. Federation
    // changes are the first kind.
    content.extend_from_slice(&0_u32.to_le_bytes());
    match change {
        FederationChange::Add(authority) => {
            content.extend_from_slice(&0_u32.to_le_bytes());
            content.extend_from_slice(&authority.public_key.0);
            content.extend_from_slice(&authority.proof_of_possession.0);
            content.extend_from_slice(&authority.fee_address.0);
        }
        FederationChange::Remove(key) => {
            content.extend_from_slice(&1_u32.to_le_bytes());
            content.extend_from_slice(&key.0);
        }
    }
    content.extend_from_slice(&effective_height.0.to_le_bytes());
    Some(Hash(Sha256::digest(Sha256::digest(&content)).into()))
}

#[cfg(test)]
mod tests {
    use alys_types::bls::{PublicKeyBytes, SecretKey};
    use alys_types::{Address, Authority, Height, OrderContent};

    use super::*;

    const GENESIS: Hash = Hash([7; 32]);

    fn key(index: u8) -> SecretKey {
        SecretKey::derive_stand_in(&[0xe0 + index; 32])
    }

    /// Signed by the keys 0 and 2.
    fn order() -> Order {
        let change = FederationChange::Add(Authority {
            public_key: PublicKeyBytes([1; 48]),
            proof_of_possession: Signature([2; 96]),
            fee_address: Address([3; 20]),
        });
        let mut order = Order {
            number: 3,
            content: federation(change, 40),
            signatures: Vec::new(),
        };
        let signed = message(&GENESIS, &order).expect("a federation change");
        let sign = |index: u8| (index, key(index).sign(&signed.0));
        order.signatures = vec![sign(0), sign(2)];
        order
    }

    fn federation(change: FederationChange, effective: u64) -> OrderContent {
        OrderContent::Federation(SetChange {
            change,
            effective_height: Height(effective),
        })
    }

    fn removal(effective: u64) -> OrderContent {
        federation(FederationChange::Remove(PublicKeyBytes([4; 48])), effective)
    }

    #[test]
    fn the_message_is_that_of_the_protocol() {
        let mut order = order();
        assert_eq!(message(&GENESIS, &order), Some(order.message(&GENESIS)));
        order.content = removal(40);
        assert_eq!(message(&GENESIS, &order), Some(order.message(&GENESIS)));
    }

    #[test]
    fn an_order_with_any_altered_field_is_not_signed() {
        let keys = Keys::new(((0..3).map(|index| key(index).public_key()).collect(), 2));
        assert!(keys.signed(&GENESIS, &order()));
        assert!(!keys.signed(&Hash([8; 32]), &order()), "another chain");
        type Change = fn(&mut Order);
        let alterations: [Change; 6] = [
            |order| order.number += 1,
            |order| {
                let change = order.set_change().expect("one").change.clone();
                order.content = federation(change, 41);
            },
            |order| order.content = removal(40),
            |order| {
                order.signatures.pop();
            },
            |order| order.signatures[1].0 = 1,
            |order| order.signatures[1] = order.signatures[0],
        ];
        for (number, alter) in alterations.into_iter().enumerate() {
            let mut altered = order();
            alter(&mut altered);
            assert!(!keys.signed(&GENESIS, &altered), "alteration {number}");
        }
    }
}
