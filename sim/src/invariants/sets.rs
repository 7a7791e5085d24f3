//! The federation of each block, by a second statement of rule 1.7.
//!
//! **Owns** the authority sets along every branch, computed from the bodies of the proposed blocks.
//! **Guarantees** that the leader, the quorum and the signers of a block are judged by the set of
//! its own height on its own branch. **Never** takes a set from a node: its header's set hash is
//! compared with that of other blocks with the same set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_types::bls::PublicKeyBytes;
use alys_types::{Block, Body, FaultModel, FederationChange, Hash, Order, SetChange, VoteKind};

use super::orders::{Keys, message};
use crate::params::{WorldPlan, tolerated};

/// Most authorities, as the protocol states it (section 1).
const MAX_AUTHORITIES: usize = 15;

/// The authorities of a height, as numbers of nodes from 0, in the order of the set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Members {
    nodes: Vec<u8>,
    quorum: usize,
}

impl Members {
    fn new(nodes: Vec<u8>, fault_model: FaultModel) -> Self {
        let quorum = nodes.len() - tolerated(fault_model, nodes.len());
        Self { nodes, quorum }
    }

    /// The nodes, in the order of the set.
    pub fn nodes(&self) -> &[u8] {
        &self.nodes
    }

    /// The number of votes in a certificate.
    pub fn quorum(&self) -> usize {
        self.quorum
    }

    pub fn has(&self, node: u8) -> bool {
        self.nodes.contains(&node)
    }

    /// The index in the set of the leader of a slot.
    pub fn leading_index(&self, slot: u64) -> u64 {
        slot % self.nodes.len() as u64
    }

    /// The leader of a slot.
    pub fn leader(&self, slot: u64) -> u8 {
        self.nodes[self.leading_index(slot) as usize]
    }

    /// The node at an index of the set.
    pub fn at(&self, index: u8) -> Option<u8> {
        self.nodes.get(usize::from(index)).copied()
    }

    /// The number of these nodes in the set.
    pub fn count(&self, nodes: &BTreeSet<u8>) -> usize {
        nodes.iter().filter(|node| self.has(**node)).count()
    }
}

/// A change of the federation on a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    None,
    /// The block of height `at` carried it.
    Carried {
        at: u64,
        effective: u64,
        next: Arc<Members>,
        is_shown: bool,
    },
    /// It took effect, and no block from `effective` on is shown final yet.
    Settling {
        effective: u64,
    },
}

/// The federation after a block.
#[derive(Debug, Clone)]
struct After {
    height: u64,
    members: Arc<Members>,
    last_order: u64,
    change: Change,
}

/// The changes on the final chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Changes that a final block carries.
    pub carried: u64,
    /// Changes that took effect.
    pub effective: u64,
    /// Changes that were not shown final in time.
    pub void: u64,
}

/// The federations of a run. Clones share them.
#[derive(Debug, Clone)]
pub struct Sets(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    fault_model: FaultModel,
    /// Governance can change the federation.
    may_change: bool,
    /// Nodes whose blocks prove nothing about a set.
    suspects: BTreeSet<u8>,
    first: Arc<Members>,
    /// The nodes by their keys.
    keys: BTreeMap<PublicKeyBytes, u8>,
    /// Messages of the orders that governance signed.
    ordered: BTreeSet<Hash>,
    genesis: Hash,
    /// The keys of governance; unknown in worlds without it.
    governance: Option<Keys>,
    after: BTreeMap<Hash, After>,
    /// Height and set of each block.
    of: BTreeMap<Hash, (u64, Arc<Members>)>,
    /// The rule that a block breaks.
    broken: BTreeMap<Hash, &'static str>,
    /// The set hash of each set that a block named first.
    hashes: BTreeMap<Arc<Members>, Hash>,
    /// The highest final block, and the federation after it.
    last: After,
    changes: Changes,
}

impl Sets {
    /// The sets of a world, all of which are the first federation until
    /// [`register`](Self::register) is called in a world with governance.
    pub fn new(plan: &WorldPlan) -> Self {
        let first = Members::new((0..plan.authorities()).collect(), plan.fault_model);
        let first = Arc::new(first);
        let last = After {
            height: 0,
            members: first.clone(),
            last_order: 0,
            change: Change::None,
        };
        Self(Arc::new(Mutex::new(Inner {
            fault_model: plan.fault_model,
            may_change: plan.governance,
            suspects: plan.suspects(),
            first,
            keys: BTreeMap::new(),
            ordered: BTreeSet::new(),
            genesis: Hash::ZERO,
            governance: None,
            after: BTreeMap::new(),
            of: BTreeMap::new(),
            broken: BTreeMap::new(),
            hashes: BTreeMap::new(),
            last,
            changes: Changes::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the genesis block and the keys of all nodes, from node 0 on.
    pub fn register(&self, genesis: Hash, keys: impl Iterator<Item = PublicKeyBytes>) {
        let mut inner = self.lock();
        inner.genesis = genesis;
        inner.keys = keys.zip(0..).collect();
        let first = inner.last.clone();
        inner.after.insert(genesis, first);
    }

    /// Registers the keys of governance.
    pub fn govern(&self, keys: Keys) {
        self.lock().governance = Some(keys);
    }

    /// Registers an order that governance signed.
    pub fn ordered(&self, order: &Order) {
        let mut inner = self.lock();
        let message = message(&inner.genesis, order);
        inner.ordered.extend(message);
    }

    /// Computes the federation after a proposed block. A block with an unknown parent is not
    /// judged.
    pub fn learn(&self, hash: Hash, block: &Block) {
        self.lock().learn(hash, block);
    }

    /// Learns the parent of a block whose body no node has reported yet.
    pub fn learn_parent(&self, hash: Hash, parent: Hash) {
        let mut inner = self.lock();
        if let Some(after) = inner.after.get(&parent) {
            let of = (after.height + 1, after.members.clone());
            inner.of.entry(hash).or_insert(of);
        }
    }

    /// Records a final block.
    pub fn finalized(&self, height: u64, hash: &Hash) {
        self.lock().finalized(height, hash);
    }

    /// The set of a block's own height; `None` if it is unknown.
    pub fn of(&self, hash: &Hash) -> Option<Arc<Members>> {
        let inner = self.lock();
        if !inner.may_change {
            return Some(inner.first.clone());
        }
        inner.of.get(hash).map(|(_, members)| members.clone())
    }

    /// The node with an index in the set of a block; the index itself if the set is unknown.
    pub fn node_at(&self, hash: &Hash, index: u8) -> u8 {
        let members = self.of(hash);
        members
            .and_then(|members| members.at(index))
            .unwrap_or(index)
    }

    /// All nodes that have had this index in a set.
    pub fn seats(&self, index: u8) -> BTreeSet<u8> {
        let inner = self.lock();
        let sets = inner.of.values().map(|(_, members)| members);
        let all = sets.chain([&inner.first]);
        all.filter_map(|members| members.at(index)).collect()
    }

    /// The rule of changes that a block breaks.
    pub fn broken(&self, hash: &Hash) -> Option<&'static str> {
        self.lock().broken.get(hash).copied()
    }

    /// The set of the block after the highest final one.
    pub fn current(&self) -> Arc<Members> {
        self.lock().last.members.clone()
    }

    /// The number of the last order on the final chain.
    pub fn last_order(&self) -> u64 {
        self.lock().last.last_order
    }

    /// The number of different orders that governance signed.
    pub fn orders(&self) -> usize {
        self.lock().ordered.len()
    }

    /// The changes on the final chain.
    pub fn changes(&self) -> Changes {
        self.lock().changes
    }

    /// Their number by counter, without those of a world that cannot change.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let inner = self.lock();
        if !inner.may_change {
            return Vec::new();
        }
        let Changes {
            carried,
            effective,
            void,
        } = inner.changes;
        vec![
            ("federation.carried", carried),
            ("federation.effective", effective),
            ("federation.void", void),
        ]
    }
}

impl Inner {
    fn learn(&mut self, hash: Hash, block: &Block) {
        if !self.may_change || self.after.contains_key(&hash) || self.broken.contains_key(&hash) {
            return;
        }
        let header = &block.header;
        let Some(before) = self.after.get(&header.parent_hash).cloned() else {
            return;
        };
        let height = before.height + 1;
        self.of.insert(hash, (height, before.members.clone()));
        let proposer = before.members.at(header.proposer);
        let is_correct = proposer.is_some_and(|node| !self.suspects.contains(&node));
        let after = self.next(before, &block.body);
        let after = after.and_then(|after| self.check_hash(after, header.set_hash, is_correct));
        match after {
            Ok(after) => drop(self.after.insert(hash, after)),
            Err(broken) => drop(self.broken.insert(hash, broken)),
        }
    }

    /// The federation after a child with this body.
    fn next(&self, before: After, body: &Body) -> Result<After, &'static str> {
        let height = before.height + 1;
        let mut after = After { height, ..before };
        let end = body
            .auxpow
            .as_ref()
            .and_then(|proof| self.of.get(&proof.range_end));
        let end = end.map(|(height, _)| *height);
        let mut shows_end = false;
        for certificate in &body.finality {
            let target = &certificate.target;
            let known = self.of.get(&target.hash).map(|(height, _)| *height);
            if target.kind != VoteKind::Confirmation || known.is_none_or(|known| known >= height) {
                return Err("its certificates show ancestors final");
            }
            let shows_end_first = !shows_end && end.is_some_and(|end| target.height.0 >= end);
            shows_end |= shows_end_first;
            match &mut after.change {
                Change::Carried { at, is_shown, .. } if !*is_shown && target.height.0 >= *at => {
                    *is_shown = true;
                }
                Change::Settling { effective } if target.height.0 >= *effective => {
                    after.change = Change::None;
                }
                Change::Carried { .. } | Change::Settling { .. } | Change::None
                    if shows_end_first => {}
                Change::Carried { .. } | Change::Settling { .. } | Change::None => {
                    return Err("each of its certificates serves a purpose");
                }
            }
        }
        for order in &body.orders {
            after.change = self.carried(&after, order)?;
            after.last_order = order.number;
        }
        if let Change::Carried {
            effective,
            next,
            is_shown,
            ..
        } = &after.change
            && height + 1 >= *effective
        {
            (after.members, after.change) = if *is_shown {
                let effective = *effective;
                (next.clone(), Change::Settling { effective })
            } else {
                (after.members.clone(), Change::None)
            };
        }
        Ok(after)
    }

    fn carried(&self, after: &After, order: &Order) -> Result<Change, &'static str> {
        let SetChange {
            change,
            effective_height,
        } = order
            .set_change()
            .ok_or("its orders are federation changes")?;
        if after.change != Change::None {
            return Err("one change is under way at a time");
        }
        if order.number != after.last_order + 1 {
            return Err("orders are carried in their order");
        }
        if effective_height.0 <= after.height + 1 {
            return Err("a change takes effect later than in the next block");
        }
        let is_ordered = message(&self.genesis, order).is_some_and(|m| self.ordered.contains(&m));
        if !is_ordered {
            return Err("governance ordered its change");
        }
        let keys = self.governance.as_ref();
        if keys.is_some_and(|keys| !keys.signed(&self.genesis, order)) {
            return Err("governance signed its change");
        }
        let mut nodes = after.members.nodes.clone();
        match change {
            FederationChange::Add(authority) => {
                let node = self.keys.get(&authority.public_key);
                let node = *node.ok_or("a new authority has a known key")?;
                if nodes.contains(&node) || nodes.len() == MAX_AUTHORITIES {
                    return Err("a new authority was not in the set, which has room");
                }
                nodes.push(node);
            }
            FederationChange::Remove(key) => {
                let node = self.keys.get(key);
                nodes.retain(|other| Some(other) != node);
                if nodes.len() == after.members.nodes.len() || nodes.is_empty() {
                    return Err("a removed authority was in the set, and not alone");
                }
            }
        }
        Ok(Change::Carried {
            at: after.height,
            effective: effective_height.0,
            next: Arc::new(Members::new(nodes, self.fault_model)),
            is_shown: false,
        })
    }

    /// Equal sets have equal hashes, and different ones different hashes. The first correct
    /// proposer (`is_correct`) of a block with a set states its hash.
    fn check_hash(
        &mut self,
        after: After,
        hash: Hash,
        is_correct: bool,
    ) -> Result<After, &'static str> {
        if is_correct {
            self.hashes.entry(after.members.clone()).or_insert(hash);
        }
        if self
            .hashes
            .get(&after.members)
            .is_some_and(|known| *known != hash)
        {
            return Err("its set hash is that of the next height's set");
        }
        let of_another =
            |(members, other): (&Arc<Members>, &Hash)| *members != after.members && *other == hash;
        if self.hashes.iter().any(of_another) {
            return Err("its set hash is of one set only");
        }
        Ok(after)
    }

    fn finalized(&mut self, height: u64, hash: &Hash) {
        if height <= self.last.height {
            return;
        }
        let Some(after) = self.after.get(hash).cloned() else {
            return;
        };
        let Changes {
            carried,
            effective,
            void,
        } = &mut self.changes;
        *carried += after.last_order - self.last.last_order;
        let was_carried = matches!(self.last.change, Change::Carried { .. });
        let is_carried = matches!(after.change, Change::Carried { .. });
        if after.members != self.last.members {
            *effective += 1;
        } else if was_carried && !is_carried {
            *void += 1;
        }
        self.last = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::blocks::tests::block;
    use alys_types::bls::Signature;
    use alys_types::{Address, Authority, Bitmap, Certificate, Height, OrderContent, VoteTarget};

    fn key(node: u8) -> PublicKeyBytes {
        PublicKeyBytes([node; 48])
    }

    fn sets() -> Sets {
        let sets = Sets::new(&WorldPlan {
            nodes: 5,
            candidates: 1,
            governance: true,
            ..WorldPlan::default()
        });
        sets.register(Hash::ZERO, (0..5).map(key));
        sets
    }

    fn order(sets: &Sets, number: u64, change: FederationChange, effective: u64) -> Order {
        let order = Order {
            number,
            content: OrderContent::Federation(SetChange {
                change,
                effective_height: Height(effective),
            }),
            signatures: Vec::new(),
        };
        sets.ordered(&order);
        order
    }

    fn add(node: u8) -> FederationChange {
        FederationChange::Add(Authority {
            public_key: key(node),
            proof_of_possession: Signature([0; 96]),
            fee_address: Address([0; 20]),
        })
    }

    type Content = (Option<Order>, Option<u64>, u8);

    /// A chain of blocks on genesis, each with an order and the height that it shows final; the set
    /// hash of a block with a mark is the mark. Returns the hashes.
    fn chain(sets: &Sets, bodies: Vec<Content>) -> Vec<Hash> {
        let mut hashes = vec![Hash::ZERO];
        for (height, (order, shown, mark)) in (1..).zip(bodies) {
            let (_, made) = block(height, 100 + height, hashes[height as usize - 1]);
            let mut made = (*made).clone();
            made.header.set_hash = Hash([mark; 32]);
            made.body.orders = order.into_iter().collect();
            made.body.finality = shown
                .map(|height| Certificate {
                    target: VoteTarget {
                        kind: VoteKind::Confirmation,
                        height: Height(height),
                        slot: alys_types::Slot(100 + height),
                        hash: hashes[height as usize],
                    },
                    signers: Bitmap::empty(4),
                    signature: Signature([0; 96]),
                })
                .into_iter()
                .collect();
            made.header.body_hash = made.body.hash();
            let hash = made.header.hash();
            sets.learn(hash, &made);
            sets.finalized(height, &hash);
            hashes.push(hash);
        }
        hashes
    }

    #[test]
    fn a_change_that_is_shown_final_takes_effect_at_its_height() {
        let sets = sets();
        let one = order(&sets, 1, add(4), 4);
        let hashes = chain(
            &sets,
            vec![
                (Some(one), None, 1),
                (None, Some(1), 1),
                (None, None, 2),
                (None, None, 2),
            ],
        );
        let of = |height: usize| sets.of(&hashes[height]).expect("known").nodes().to_vec();
        assert_eq!(of(3), [0, 1, 2, 3]);
        assert_eq!(of(4), [0, 1, 2, 3, 4]);
        assert_eq!(sets.current().quorum(), 4);
        assert_eq!(sets.current().leader(104), 4);
        let expected = Changes {
            carried: 1,
            effective: 1,
            void: 0,
        };
        assert_eq!((sets.changes(), sets.last_order()), (expected, 1));
        assert!((1..=4).all(|at| sets.broken(&hashes[at]).is_none()));
    }

    #[test]
    fn a_change_that_is_not_shown_final_is_void() {
        let sets = sets();
        let one = order(&sets, 1, FederationChange::Remove(key(2)), 3);
        chain(&sets, vec![(Some(one), None, 1), (None, None, 1)]);
        assert_eq!(sets.current().nodes(), [0, 1, 2, 3]);
        assert_eq!(sets.changes().void, 1);
    }

    #[test]
    fn blocks_that_break_the_rule_of_changes_are_found() {
        let table: [(fn(&Sets) -> Vec<Content>, &str); 7] = [
            (
                |sets| vec![(Some(order(sets, 2, add(4), 9)), None, 1)],
                "in their order",
            ),
            (
                |sets| vec![(Some(order(sets, 1, add(4), 2)), None, 1)],
                "later than",
            ),
            (
                |sets| {
                    let mut forged = order(sets, 1, add(4), 9);
                    forged.content = OrderContent::Federation(SetChange {
                        change: add(4),
                        effective_height: Height(8),
                    });
                    vec![(Some(forged), None, 1)]
                },
                "governance ordered",
            ),
            (
                |sets| {
                    vec![
                        (Some(order(sets, 1, add(4), 9)), None, 1),
                        (Some(order(sets, 2, add(4), 9)), None, 1),
                    ]
                },
                "one change",
            ),
            (
                |_| vec![(None, None, 1), (None, None, 2)],
                "next height's set",
            ),
            (
                |_| vec![(None, None, 1), (None, Some(1), 1)],
                "serves a purpose",
            ),
            (
                |sets| {
                    vec![
                        (Some(order(sets, 1, add(4), 9)), None, 1),
                        (None, Some(1), 1),
                        (None, Some(2), 1),
                    ]
                },
                "serves a purpose",
            ),
        ];
        for (bodies, expected) in table {
            let sets = sets();
            let hashes = chain(&sets, bodies(&sets));
            let last = hashes.last().expect("a block");
            let broken = sets.broken(last).expect(expected);
            assert!(broken.contains(expected), "{broken}");
        }
    }

    #[test]
    fn without_governance_every_block_has_the_first_federation() {
        let sets = Sets::new(&WorldPlan::default());
        let members = sets.of(&Hash([9; 32])).expect("known");
        assert_eq!((members.nodes(), members.quorum()), (&[0, 1, 2, 3][..], 3));
        assert_eq!(sets.node_at(&Hash([9; 32]), 2), 2);
    }
}
