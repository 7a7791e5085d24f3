//! Faults of links and connections.

use alys_runtime::sim::Block;
use alys_runtime::spawn;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use super::draw::{Draw, Drawing, drawing};
use super::process::Kill;
use super::registry::{Hit, Kind, Place, WrongValue, declare, mirrored, share, subject};
use super::votes::{HoldVotes, Vote};
use super::{Faults, Machine};
use crate::cluster::{node_ip, now_ms};
use crate::params::{LinkPlan, Ms, NodeRef};

subject![
    Partition,
    SlowLinks,
    LatencySpike,
    Loss,
    Reorder,
    Squeeze,
    Clog,
    Swizzle,
    HalfOpen,
    DuplicateGossip,
    Reset,
    CutMiners,
    SlowMiners,
];

/// The blocked direction, seen from the named nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Incoming messages are blocked.
    In,
    /// Outgoing messages are blocked.
    Out,
    /// Messages in both directions are blocked.
    #[default]
    Both,
}

declare! {
    "partition":
        "The links between the named nodes and the other nodes are cut. With `held`, messages sent \
        meanwhile arrive all at once when the fault ends."
    Partition {
        #[serde(default)]
        pub way: Way,
        #[serde(default)]
        pub held: bool,
    }
}

impl Partition {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let kind = if self.held { Block::Clog } else { Block::Cut };
        faults.links().partition(&hit.nodes, self.way, kind, on);
    }
}

impl Kind for Partition {
    const EFFECTS: &'static [&'static str] = &[
        "link.cut",
        "link.heal",
        "connect.timeout",
        "link.user_timeout",
    ];
    const DRAWINGS: &'static [Drawing] = &[
        drawing(
            0,
            "minority-partition",
            "Fewer nodes than a quorum needs are cut off.",
            |draw| {
                let nodes = vec![NodeRef::Any; draw.world.tolerated().max(1)];
                let held = draw.flip();
                let way = Way::Both;
                draw.push_on(nodes, Partition { way, held });
            },
        ),
        drawing(1, "majority-partition", "No side has a quorum.", |draw| {
            let most = usize::from(draw.world.nodes) - 1;
            let nodes = vec![NodeRef::Any; (draw.world.tolerated() + 1).min(most)];
            let held = draw.flip();
            let way = Way::Both;
            draw.push_on(nodes, Partition { way, held });
        }),
        drawing(
            2,
            "one-way-partition",
            "All messages to a node, or all messages from it, are blocked.",
            |draw| {
                let way = if draw.flip() { Way::In } else { Way::Out };
                let held = draw.flip();
                draw.push_as_drawn(Partition { way, held });
            },
        ),
        drawing(
            13,
            "deaf-leader",
            "The next leader does not learn of a certificate, and confirmations are late (S1).",
            deaf_leader,
        ),
    ];

    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        let all = usize::from(place.world.nodes);
        if *place.count_nodes().start() < all {
            return Ok(());
        }
        let message = format!("nodes: fewer than all {all}, else nothing is cut");
        Err(("nodes", message))
    }

    mirrored! {}
}

/// Scenario S1: in one slot all nodes except the next leader certify and confirm a block. The
/// confirmations are delayed, so the next leader, which has no certificate, proposes a competing
/// block, and only the lock prevents its approval.
fn deaf_leader(draw: &mut Draw<'_>) {
    let slot_ms = draw.slot_ms();
    let start = draw.at(0);
    let deaf_ms = slot_ms * 2 - draw.between(0, slot_ms / 4);
    let partition = Partition {
        way: Way::In,
        held: true,
    };
    draw.push(start, deaf_ms, vec![NodeRef::Leader(1)], partition);
    let hold = HoldVotes {
        vote: Vote::Confirmation,
        delay: draw.ms_between(slot_ms, slot_ms * 3 / 2),
    };
    draw.push(start, slot_ms - 1, vec![NodeRef::All], hold);
    if draw.flip() {
        // The lock must also survive on the disk.
        let at = draw.between(slot_ms / 3, slot_ms * 3 / 4);
        let down_ms = draw.between(5, slot_ms / 4);
        let kill = Kill {
            machine: Machine::Node,
            power: draw.flip(),
        };
        let nodes = vec![NodeRef::Leader(0), NodeRef::Leader(2)];
        draw.push(draw.at(at), down_ms, nodes, kill);
    }
}

/// A kind that makes the links of its nodes worse.
trait Quality {
    /// The quality that it adds to a perfect link.
    fn quality(&self) -> LinkPlan;

    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let quality = self.quality();
        let mut links = faults.links();
        for node in &hit.nodes {
            links.slow(*node, &quality, on);
        }
    }
}

declare! {
    "slow-links":
        "The links of the named nodes have this delay, jitter, loss and bandwidth, each where it \
        is worse than the link's own."
    SlowLinks {
        pub delay: Ms,
        #[serde(default)]
        pub jitter: Ms,
        #[serde(default)]
        pub loss_ppm: u32,
        #[serde(default)]
        pub kbytes_per_s: u64,
    }
}

impl Quality for SlowLinks {
    fn quality(&self) -> LinkPlan {
        LinkPlan {
            latency_ms: self.delay.0,
            jitter_ms: self.jitter.0,
            loss_ppm: self.loss_ppm,
            kbytes_per_s: self.kbytes_per_s,
            ..LinkPlan::PERFECT
        }
    }
}

impl Kind for SlowLinks {
    const EFFECTS: &'static [&'static str] = &["link.loss"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        7,
        "slow-links",
        "Links of some nodes are slow.",
        |draw| {
            let slot_ms = draw.slot_ms();
            let fault = SlowLinks {
                delay: draw.ms_between(20, slot_ms / 2),
                jitter: draw.ms_between(0, slot_ms / 2),
                loss_ppm: draw.pick(&[0, 0, 20_000, 100_000]),
                kbytes_per_s: draw.pick(&[0, 50, 500]),
            };
            draw.push_as_drawn(fault);
        },
    )];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        share("loss_ppm", self.loss_ppm)
    }

    mirrored! {}
}

fn a_twentieth() -> u32 {
    50_000
}

declare! {
    "latency-spike":
        "Segments that the named nodes send or receive are delayed by up to `delay`, each with a \
        probability of `share_ppm` parts per million."
    LatencySpike {
        pub delay: Ms,
        #[serde(default = "a_twentieth")]
        pub share_ppm: u32,
    }
}

impl Quality for LatencySpike {
    fn quality(&self) -> LinkPlan {
        LinkPlan {
            tail_ms: self.delay.0,
            tail_ppm: self.share_ppm,
            ..LinkPlan::PERFECT
        }
    }
}

impl Kind for LatencySpike {
    const EFFECTS: &'static [&'static str] = &["link.slow"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        30,
        "latency-spike",
        "Some segments have a much higher latency.",
        |draw| {
            let delay = draw.ms_between(50, 2 * draw.slot_ms());
            let share_ppm = draw.count(1_000, 200_000);
            draw.push_as_drawn(LatencySpike { delay, share_ppm });
        },
    )];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        share("share_ppm", self.share_ppm)
    }

    mirrored! {}
}

declare! {
    "loss":
        "Segments that the named nodes send or receive are lost and retransmitted, each with a \
        probability of `ppm` parts per million."
    Loss { pub ppm: u32 }
}

impl Quality for Loss {
    fn quality(&self) -> LinkPlan {
        LinkPlan {
            loss_ppm: self.ppm,
            ..LinkPlan::PERFECT
        }
    }
}

impl Kind for Loss {
    const EFFECTS: &'static [&'static str] = &["link.loss"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        31,
        "loss",
        "Many segments are lost and retransmitted.",
        |draw| {
            let ppm = draw.count(1_000, 300_000);
            let nodes = draw.all_or_someone();
            draw.push_on(nodes, Loss { ppm });
        },
    )];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        share("ppm", self.ppm)
    }

    mirrored! {}
}

declare! {
    "reorder":
        "Segments that the named nodes send or receive within `window` arrive in any order; each \
        connection keeps its own order."
    Reorder { pub window: Ms }
}

impl Quality for Reorder {
    fn quality(&self) -> LinkPlan {
        LinkPlan {
            jitter_ms: self.window.0,
            ..LinkPlan::PERFECT
        }
    }
}

impl Kind for Reorder {
    /// The slower link has no counter.
    const EFFECTS: &'static [&'static str] = &[];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        32,
        "reorder",
        "Segments within a time window arrive in any order.",
        |draw| {
            let window = draw.ms_between(20, draw.slot_ms());
            let nodes = draw.all_or_someone();
            draw.push_on(nodes, Reorder { window });
        },
    )];

    mirrored! {}
}

declare! {
    "squeeze": "The bandwidth of the named nodes' links is limited to `kbytes_per_s`."
    Squeeze { pub kbytes_per_s: u64 }
}

impl Quality for Squeeze {
    fn quality(&self) -> LinkPlan {
        LinkPlan {
            kbytes_per_s: self.kbytes_per_s,
            ..LinkPlan::PERFECT
        }
    }
}

impl Kind for Squeeze {
    /// The slower link has no counter.
    const EFFECTS: &'static [&'static str] = &[];
    const DRAWINGS: &'static [Drawing] = &[drawing(33, "squeeze", "Bandwidth is low.", |draw| {
        let kbytes_per_s = draw.between(5, 200);
        draw.push_as_drawn(Squeeze { kbytes_per_s });
    })];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        if self.kbytes_per_s > 0 {
            return Ok(());
        }
        let message = "kbytes_per_s: at least 1; a link that takes nothing is a clog";
        Err(("kbytes_per_s", message.to_owned()))
    }

    mirrored! {}
}

declare! {
    "clog":
        "Segments that the named nodes send or receive, also among themselves, are held back and \
        arrive all at once when the fault ends."
    Clog {
        #[serde(default)]
        pub way: Way,
    }
}

impl Clog {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        faults.links().clog(&hit.nodes, self.way, on);
    }
}

impl Kind for Clog {
    const EFFECTS: &'static [&'static str] = &["link.clog", "link.heal", "link.held_segments"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        34,
        "clog",
        "Segments from or to nodes are held back.",
        |draw| {
            let way = draw.pick(&[Way::In, Way::Out, Way::Both]);
            let nodes = if draw.flip() {
                vec![NodeRef::Any, NodeRef::Any]
            } else {
                draw.someone.clone()
            };
            draw.push_on(nodes, Clog { way });
        },
    )];

    mirrored! {}
}

declare! {
    "swizzle":
        "The links of the named nodes are clogged one node after the other within `spread`, and \
        released in another order when the fault ends."
    Swizzle { pub spread: Ms }
}

impl Swizzle {
    /// Clogs the nodes one after the other, or releases them, in an order that is drawn each time.
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let order = hit.draws.shuffled(&hit.nodes);
        let pause_ms = self.spread.0 / (order.len() as u64).max(1);
        for (turn, node) in order.into_iter().enumerate() {
            let wait_ms = turn as u64 * pause_ms + hit.draws.up_to(pause_ms);
            let faults = faults.clone();
            spawn("swizzle", async move {
                let at_ms = now_ms(faults.world) + wait_ms;
                if faults.wait_until(at_ms).await {
                    faults.links().clog(&BTreeSet::from([node]), Way::Both, on);
                }
            });
        }
    }
}

impl Kind for Swizzle {
    const EFFECTS: &'static [&'static str] = &["link.clog", "link.heal"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        35,
        "swizzle",
        "Links of nodes are clogged one by one and released in another order.",
        |draw| {
            let spread = draw.ms_between(draw.slot_ms() / 2, 4 * draw.slot_ms());
            let nodes = if draw.flip() {
                vec![NodeRef::All]
            } else {
                vec![NodeRef::Any; draw.world.tolerated() + 1]
            };
            let lasts_ms = spread.0 + draw.lasts_ms;
            draw.push(draw.moment, lasts_ms, nodes, Swizzle { spread });
        },
    )];

    /// A node that is released before its turn would stay clogged.
    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        match place.for_ms {
            Some(ms) if ms < self.spread.0 => {
                let message = format!("spread: at most the duration of {}", Ms(ms));
                Err(("spread", message))
            }
            _ => Ok(()),
        }
    }

    mirrored! {}
}

/// Pairs of each named node with every node.
fn pairs(faults: &Faults, hit: &Hit) -> Vec<(u8, u8)> {
    let all = faults.plan.nodes;
    let with_all = |node: &u8| {
        let node = *node;
        (0..all).map(move |other| (node, other))
    };
    hit.nodes.iter().flat_map(with_all).collect()
}

declare! {
    "half-open": "The named nodes drop their connections without notifying their peers."
    HalfOpen {}
}

impl Kind for HalfOpen {
    const EFFECTS: &'static [&'static str] = &["link.half_open"];
    const IS_INSTANT: bool = true;
    const DRAWINGS: &'static [Drawing] = &[drawing(
        36,
        "half-open",
        "Nodes drop their connections silently.",
        |draw| {
            let nodes = draw.all_or_someone();
            draw.push(draw.moment, 0, nodes, HalfOpen {});
        },
    )];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        for (node, other) in pairs(faults, hit) {
            faults.world.half_open(node_ip(node), node_ip(other));
        }
    }
}

declare! {
    "duplicate-gossip":
        "Gossip messages that arrive at the named nodes arrive a second time, up to `delay` later."
    DuplicateGossip { pub delay: Ms }
}

/// The repetition comes above the network service, between it and the NetworkActor, so it does not
/// exercise the deduplication by gossipsub.
impl DuplicateGossip {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        for repeater in hit
            .nodes
            .iter()
            .filter_map(|node| faults.repeaters.get(node))
        {
            repeater.duplicate(self.delay.0, on);
        }
    }
}

impl Kind for DuplicateGossip {
    const EFFECTS: &'static [&'static str] = &["fault.duplicate-gossip.messages"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        37,
        "duplicate-gossip",
        "Gossip arrives twice.",
        |draw| {
            let delay = draw.ms_between(10, 3 * draw.slot_ms());
            draw.push_on(vec![NodeRef::All], DuplicateGossip { delay });
        },
    )];

    mirrored! {}
}

declare! {
    "reset": "All connections of the named nodes are reset."
    Reset {}
}

impl Kind for Reset {
    const EFFECTS: &'static [&'static str] = &["link.reset_injected", "link.reset"];
    const IS_INSTANT: bool = true;
    const DRAWINGS: &'static [Drawing] =
        &[drawing(21, "reset", "Connections are reset.", |draw| {
            draw.push_for(0, Reset {});
        })];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        for (node, other) in pairs(faults, hit) {
            faults
                .world
                .reset_connections(node_ip(node), node_ip(other));
        }
    }
}

declare! {
    "cut-miners": "The links between the named nodes and all miners are cut."
    CutMiners {}
}

impl CutMiners {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let mut links = faults.links();
        for node in &hit.nodes {
            links.cut_miners(*node, on);
        }
    }
}

impl Kind for CutMiners {
    const EFFECTS: &'static [&'static str] = &["link.cut", "link.heal"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        68,
        "cut-miners",
        "Miners do not reach some nodes, or none.",
        |draw| {
            let nodes = draw.all_or_someone();
            draw.push_on(nodes, CutMiners {});
        },
    )];

    mirrored! {}
}

declare! {
    "slow-miners":
        "The links between the named nodes and all miners have this delay and loss, each where it is \
        worse than the link's own."
    SlowMiners {
        pub delay: Ms,
        #[serde(default)]
        pub loss_ppm: u32,
    }
}

impl SlowMiners {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let quality = LinkPlan {
            latency_ms: self.delay.0,
            loss_ppm: self.loss_ppm,
            ..LinkPlan::PERFECT
        };
        let mut links = faults.links();
        for node in &hit.nodes {
            links.slow_miners(*node, &quality, on);
        }
    }
}

impl Kind for SlowMiners {
    const EFFECTS: &'static [&'static str] = &["link.loss"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        69,
        "slow-miners",
        "The links of miners are slow.",
        |draw| {
            let delay = draw.ms_between(50, 2 * draw.slot_ms());
            let loss_ppm = draw.pick(&[0, 20_000, 200_000]);
            let nodes = draw.all_or_someone();
            draw.push_on(nodes, SlowMiners { delay, loss_ppm });
        },
    )];

    fn check(&self, _: &Place<'_>) -> Result<(), WrongValue> {
        share("loss_ppm", self.loss_ppm)
    }

    mirrored! {}
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    vec![
        Row::lasting(
            Partition {
                way: Way::In,
                held: false,
            },
            &["from peer: blocked"],
        ),
        Row::lasting(
            SlowLinks {
                delay: Ms(50),
                jitter: Ms(0),
                loss_ppm: 7,
                kbytes_per_s: 3,
            },
            &[
                "from peer: latency 50, loss_ppm 7, rate 3000",
                "to peer: latency 50, loss_ppm 7, rate 3000",
            ],
        ),
        Row::lasting(
            LatencySpike {
                delay: Ms(40),
                share_ppm: 5,
            },
            &[
                "from peer: tail 40, tail_ppm 5",
                "to peer: tail 40, tail_ppm 5",
            ],
        ),
        Row::lasting(
            Loss { ppm: 9 },
            &["from peer: loss_ppm 9", "to peer: loss_ppm 9"],
        ),
        Row::lasting(
            Reorder { window: Ms(30) },
            &["from peer: jitter 30", "to peer: jitter 30"],
        ),
        Row::lasting(
            Squeeze { kbytes_per_s: 2 },
            &["from peer: rate 2000", "to peer: rate 2000"],
        ),
        Row::lasting(Clog { way: Way::Out }, &["to peer: blocked"]),
        Row::lasting(
            Swizzle { spread: Ms(500) },
            &["from peer: blocked", "to peer: blocked"],
        ),
        Row::passing(HalfOpen {}, 100, &["connected: false"]),
        Row::lasting(DuplicateGossip { delay: Ms(20) }, &["repeated: [20]"]),
        Row::passing(Reset {}, 100, &["connected: false"]),
        Row::lasting(CutMiners {}, &["from miner: blocked", "to miner: blocked"]),
        Row::lasting(
            SlowMiners {
                delay: Ms(80),
                loss_ppm: 3,
            },
            &[
                "from miner: latency 80, loss_ppm 3",
                "to miner: latency 80, loss_ppm 3",
            ],
        ),
    ]
}
