//! Faults that leave a single path: one connection of a node, or one way for a class of messages to
//! reach it. Redundancy hides the failure of a path, so each has to suffice alone.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draw::{Drawing, drawing};
use super::registry::{Draws, Hit, Kind, Place, WrongValue, declare, mirrored, subject, within};
use super::{Faults, lock};
use crate::cluster::node_ip;
use crate::params::NodeRef;

subject![SinglePeer, LoseClass];

/// The links that each active step cuts.
pub(super) type CutLinks = BTreeMap<u64, Vec<(u8, u8)>>;

/// A class of messages that reach a node, by its name in plans.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Gossiped proposals; a node can fetch the blocks.
    Blocks,
    /// Gossiped approvals; certificates are in proposals, confirmations and answers.
    Approvals,
    /// Gossiped confirmations; certificates of finality are gossiped too, and in answers.
    Confirmations,
    /// Gossiped certificates of finality; confirmations make them too.
    Finality,
    /// Gossiped transactions; users send them to every execution client.
    Transactions,
    /// Answers to requests, which fail as if no peer answered in time; gossip has the rest.
    Answers,
    /// Gossiped proofs of work; the node that accepted one carries it in its own turns.
    Work,
}

impl Class {
    /// All classes. The generator draws by index, so the order is part of every seed's plan.
    pub const ALL: [Self; 7] = [
        Self::Blocks,
        Self::Approvals,
        Self::Confirmations,
        Self::Finality,
        Self::Transactions,
        Self::Answers,
        Self::Work,
    ];
}

/// The links between nodes without which every pair of nodes is connected by one path, if one of
/// them is `hit`: all except those of a random tree, and those between two nodes that are not hit.
fn links_beside_tree(nodes: u8, hit: &BTreeSet<u8>, draws: &Draws) -> Vec<(u8, u8)> {
    let order = draws.shuffled(&(0..nodes).collect());
    let mut tree = BTreeSet::new();
    for (at, node) in order.iter().enumerate().skip(1) {
        let above = order[draws.below(at as u64) as usize];
        tree.insert((above.min(*node), above.max(*node)));
    }
    let all = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b)));
    all.filter(|(a, b)| hit.contains(a) || hit.contains(b))
        .filter(|link| !tree.contains(link))
        .collect()
}

declare! {
    "single-peer":
        "The links of the named nodes to all other nodes except for `peer` are cut. Without \
        `peer`, the links that are left are drawn, so that one path connects each named node with \
        any other."
    SinglePeer {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub peer: Option<u8>,
    }
}

impl SinglePeer {
    fn links(&self, faults: &Faults, hit: &Hit) -> Vec<(u8, u8)> {
        let nodes = faults.plan.nodes;
        let Some(peer) = self.peer.map(|number| number - 1) else {
            return links_beside_tree(nodes, &hit.nodes, &hit.draws);
        };
        let others = |node: u8| (0..nodes).filter(move |other| *other != node && *other != peer);
        let named = hit.nodes.iter().filter(|node| **node != peer);
        let cut = named.flat_map(|node| others(*node).map(move |other| (*node, other)));
        // Once, if both ends are named.
        let cut: BTreeSet<_> = cut.map(|(a, b)| (a.min(b), a.max(b))).collect();
        cut.into_iter().collect()
    }

    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let links = if on {
            let links = self.links(faults, hit);
            lock(&faults.cut_links).insert(hit.number, links.clone());
            links
        } else {
            let links = lock(&faults.cut_links).remove(&hit.number);
            links.unwrap_or_default()
        };
        for (a, b) in links {
            faults.cut_pair(node_ip(a), node_ip(b), on);
        }
    }
}

impl Kind for SinglePeer {
    const EFFECTS: &'static [&'static str] = &["link.cut"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        61,
        "single-peer",
        "One path is left between nodes.",
        |draw| {
            let nodes = draw.all_or_someone();
            draw.push_on(nodes, SinglePeer { peer: None });
        },
    )];

    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        match self.peer {
            Some(peer) => within("peer", peer.into(), 1..=place.world.nodes.into()),
            None => Ok(()),
        }
    }

    mirrored! {}
}

declare! {
    "lose-class":
        "All messages of this class that arrive at the named nodes are lost. With `repeats`, only \
        those that arrived before are."
    LoseClass {
        pub class: Class,
        #[serde(default)]
        pub repeats: bool,
    }
}

impl LoseClass {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let nodes = hit.nodes.iter();
        for repeater in nodes.filter_map(|node| faults.repeaters.get(node)) {
            repeater.lose(self.class, self.repeats, on);
        }
    }
}

impl Kind for LoseClass {
    const EFFECTS: &'static [&'static str] = &["fault.lose-class.messages"];
    const DRAWINGS: &'static [Drawing] = &[
        drawing(
            62,
            "lost-class",
            "Messages of one class do not arrive.",
            |draw| {
                let class = draw.pick(&Class::ALL);
                let nodes = draw.all_or_someone();
                draw.push_on(
                    nodes,
                    LoseClass {
                        class,
                        repeats: false,
                    },
                );
            },
        ),
        drawing(
            63,
            "single-path",
            "One path is left between nodes, and no message of a class arrives twice.",
            |draw| {
                draw.push_on(vec![NodeRef::All], SinglePeer { peer: None });
                for class in Class::ALL {
                    if draw.flip() {
                        let repeats = true;
                        draw.push_on(vec![NodeRef::All], LoseClass { class, repeats });
                    }
                }
            },
        ),
    ];

    mirrored! {}
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    vec![
        Row::lasting(
            SinglePeer { peer: Some(4) },
            &["from peer: blocked", "to peer: blocked"],
        ),
        Row::lasting(SinglePeer { peer: Some(1) }, &[]),
        Row::lasting(
            LoseClass {
                class: Class::Finality,
                repeats: true,
            },
            &["lost: [(Finality, true)]"],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alys_runtime::sim::Rng;

    #[test]
    fn one_path_is_left_between_all_nodes() {
        for seed in 0..50 {
            let draws = Draws::new(Rng::derive(seed, "test"));
            let all: BTreeSet<u8> = (0..7).collect();
            let cut = links_beside_tree(7, &all, &draws);
            assert_eq!(cut.len(), 21 - 6, "a tree of seven nodes has six links");
            let mut reached = BTreeSet::from([0]);
            for _ in 0..7 {
                let link = |a: &u8, b: &u8| !cut.contains(&(*a.min(b), *a.max(b)));
                let next = |a: &u8| (0..7).filter(|b| link(a, b)).collect::<Vec<u8>>();
                let further: Vec<u8> = reached.iter().flat_map(next).collect();
                reached.extend(further);
            }
            assert_eq!(reached, all, "seed {seed}");
        }
    }

    #[test]
    fn links_between_nodes_that_are_not_hit_stay() {
        let draws = Draws::new(Rng::derive(1, "test"));
        let cut = links_beside_tree(4, &BTreeSet::from([1]), &draws);
        assert!(cut.iter().all(|(a, b)| *a == 1 || *b == 1), "{cut:?}");
        assert!(cut.len() < 3, "node 2 is connected");
    }
}
