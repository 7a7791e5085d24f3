//! Orders of governance whose fields a leader altered, with the signatures that it has.

use std::time::Duration;

use alys_net::{Command, Topic};
use alys_types::bls::PublicKeyBytes;
use alys_types::{Authority, FederationChange, Height, Order, OrderContent, SetChange};

use super::{Byzantine, Said, now, publish};
use crate::cluster::Governance;
use crate::cluster::genesis::authority;
use crate::invariants::{Forgery, Tolerance};
use crate::params::MAX_NODES;

/// Blocks until the change of an order that is carried a second time would take effect.
const AHEAD: u64 = 8;
/// One own block in this many carries its order as it was signed, so that changes take effect.
const UNALTERED_ONE_IN: usize = 4;

/// An alteration of an order, whose signatures stay.
type Change = fn(&mut Order);

/// All alterations but that of the chain. None of the results is signed.
static ALTERATIONS: [(&str, Change); 7] = [
    ("effective-height", |order| {
        let change = set_change(order);
        change.effective_height = change.effective_height.next();
    }),
    ("effective-height.far", |order| {
        let change = set_change(order);
        change.effective_height = Height(change.effective_height.0 + 1_000);
    }),
    ("number", |order| order.number += 1),
    ("change.kind", |order| {
        let change = &mut set_change(order).change;
        *change = match &*change {
            FederationChange::Add(added) => FederationChange::Remove(added.public_key),
            FederationChange::Remove(key) => FederationChange::Add(named(key)),
        };
    }),
    ("change.authority", |order| {
        match &mut set_change(order).change {
            FederationChange::Add(added) => added.fee_address.0[0] ^= 1,
            FederationChange::Remove(key) => *key = another(key),
        }
    }),
    ("signatures.missing", |order| {
        order.signatures.truncate(1);
    }),
    ("signatures.signers", |order| {
        for (signer, _) in &mut order.signatures {
            *signer = signer.wrapping_add(1);
        }
    }),
];

/// The change of an order that [`Byzantine::note_order`] remembered.
fn set_change(order: &mut Order) -> &mut SetChange {
    match &mut order.content {
        OrderContent::Federation(change) => change,
        other => panic!("an order that no block carries yet: {other:?}"),
    }
}

/// The authority of a node with this key.
fn named(key: &PublicKeyBytes) -> Authority {
    let mut all = (0..MAX_NODES).map(authority);
    let found = all.find(|one| one.public_key == *key);
    found.unwrap_or_else(|| authority(0))
}

/// The key of another authority.
fn another(key: &PublicKeyBytes) -> PublicKeyBytes {
    let first = authority(0).public_key;
    if first == *key {
        return authority(1).public_key;
    }
    first
}

impl Byzantine {
    /// Remembers an order that a proposal carries.
    pub(super) fn note_order(&mut self, order: Option<&Order>) {
        if let Some(order) = order {
            self.order = Some(order.clone());
        }
    }

    /// Alters one part of the order that an own block carries. A block without an order gets the
    /// last one that was carried, with the next number.
    pub(super) fn alter_order(&mut self, command: Command) -> Vec<(Duration, Command)> {
        let Said::Proposal(proposal) = Said::read(&command) else {
            return now(command);
        };
        let own = proposal.block.body.federation_order().cloned();
        let is_repeated = own.is_none();
        self.note_order(own.as_ref());
        let Some(mut order) = self.order.clone() else {
            return now(command);
        };
        let turn = self.altered_orders;
        self.altered_orders += 1;
        if turn % UNALTERED_ONE_IN == UNALTERED_ONE_IN - 1 {
            return now(command);
        }
        let name = if is_repeated {
            order.number += 1;
            let height = proposal.block.header.height;
            set_change(&mut order).effective_height = height.saturating_add(AHEAD);
            "repeated"
        } else {
            alter(&mut order, turn, self.governance.as_ref())
        };
        let altered = self.other(&proposal, |_, block| {
            block.body.orders = vec![order];
        });
        let Some(altered) = altered else {
            return now(command);
        };
        let forgery = Forgery {
            name: format!("order.{name}").into(),
            tolerance: Tolerance::NotVotedFor,
        };
        let hash = altered.vote.target.hash;
        self.judge.look().forgeries.sent_block(&forgery, hash);
        self.did();
        now(publish(Topic::Blocks, &altered))
    }
}

/// Makes the alteration of a turn, and returns its name: one of the table, or the signatures of
/// governance of another chain.
fn alter(order: &mut Order, turn: usize, governance: Option<&Governance>) -> &'static str {
    // The unaltered turns are left out.
    let turn = turn - turn / UNALTERED_ONE_IN;
    match (ALTERATIONS.get(turn % (ALTERATIONS.len() + 1)), governance) {
        (None, Some(governance)) => {
            governance.of_another_chain().sign(order);
            "chain"
        }
        (found, _) => {
            let &(name, change) = found.unwrap_or(&ALTERATIONS[0]);
            change(order);
            name
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alys_types::bls::Signature;

    use super::*;

    #[test]
    fn every_turn_alters_a_signed_field_or_the_signatures() {
        let signed = Order {
            number: 1,
            content: OrderContent::Federation(SetChange {
                change: FederationChange::Remove(authority(2).public_key),
                effective_height: Height(20),
            }),
            signatures: vec![(0, Signature([1; 96])), (1, Signature([2; 96]))],
        };
        let mut names = BTreeSet::new();
        for turn in (0..40).filter(|turn| turn % UNALTERED_ONE_IN != UNALTERED_ONE_IN - 1) {
            let mut order = signed.clone();
            names.insert(alter(&mut order, turn, None));
            assert_ne!(order, signed, "turn {turn}");
        }
        assert_eq!(names.len(), ALTERATIONS.len());
    }
}
