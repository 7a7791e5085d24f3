//! Governance of a simulated world: the keys of its spec, and the orders that they sign. It stands
//! for the source of orders, which is not built.

use alys_runtime::mutant;
use alys_types::bls::{PublicKey, SecretKey};
use alys_types::spec::GovernanceSpec;
use alys_types::{FederationChange, Hash, Height, Order, OrderContent, SetChange};

use super::genesis::authority;
use crate::params::Stack;

/// Number of keys, and of the signatures that make an order.
const KEYS: u8 = 3;
const THRESHOLD: u8 = 2;

/// The key of governance with this index.
fn key(index: u8) -> SecretKey {
    let entropy = [0xe0 + index; 32];
    if Stack::is_fast() {
        return SecretKey::derive_stand_in(&entropy);
    }
    SecretKey::derive(&entropy)
}

/// The part of the spec.
pub(super) fn spec() -> GovernanceSpec {
    GovernanceSpec {
        threshold: THRESHOLD,
        keys: (0..KEYS).map(|i| key(i).public_key().to_bytes()).collect(),
    }
}

/// The order as far as it is signed: with the planted bug, signers and nodes leave out the same
/// field.
fn signed(order: &Order) -> Order {
    let mut signed = order.clone();
    if mutant::active("order-height-unsigned")
        && let OrderContent::Federation(change) = &mut signed.content
    {
        change.effective_height = Height(0);
    }
    signed
}

/// Signs orders of the chain with this genesis.
#[derive(Debug, Clone)]
pub struct Governance {
    genesis: Hash,
}

impl Governance {
    pub(super) fn new(genesis: Hash) -> Self {
        Self { genesis }
    }

    /// The order to add (`true`) or to remove the authority of a node, from 0. Which keys sign
    /// follows from the number.
    pub fn order(&self, number: u64, node: u8, adds: bool, effective: u64) -> Order {
        let change = if adds {
            FederationChange::Add(authority(node))
        } else {
            FederationChange::Remove(authority(node).public_key)
        };
        let content = OrderContent::Federation(SetChange {
            change,
            effective_height: Height(effective),
        });
        let mut order = Order {
            number,
            content,
            signatures: Vec::new(),
        };
        self.sign(&mut order);
        order
    }

    /// Signs an order with all keys but one.
    pub fn sign(&self, order: &mut Order) {
        let message = signed(order).message(&self.genesis);
        let left_out = (order.number % u64::from(KEYS)) as u8;
        let signers = (0..KEYS).filter(|index| *index != left_out);
        order.signatures = signers
            .map(|index| (index, key(index).sign(&message.0)))
            .collect();
    }

    /// Governance of another chain, with the same keys.
    pub fn of_another_chain(&self) -> Self {
        let mut genesis = self.genesis;
        genesis.0[0] ^= 1;
        Self { genesis }
    }

    /// The public keys, and the number of signatures that make an order.
    pub fn keys(&self) -> (Vec<PublicKey>, usize) {
        let keys = (0..KEYS).map(|index| key(index).public_key());
        (keys.collect(), usize::from(THRESHOLD))
    }
}
