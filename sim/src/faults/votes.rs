//! Faults at the moment of a vote: inside of the node, after the write of the vote and before it is
//! sent.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Faults;
use super::draw::{Draw, Drawing, drawing};
use super::reactions::{React, Trigger};
use super::registry::{Hit, Kind, Place, WrongValue, declare, default, subject};
use crate::params::{Ms, NodeRef};

subject![HoldVotes, KillOnVote, KillAllOnVotes];

/// A kind of vote, by its name in plans.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Vote {
    /// A leader's proposal of a block.
    Proposal,
    /// An approval (rule 3.2 of the protocol).
    Approval,
    /// A confirmation (rule 3.4 of the protocol).
    Confirmation,
}

declare! {
    "hold-votes":
        "All messages that a named node sends as it signs a vote of this kind are delayed by \
        `delay`, because votes of all kinds share connections."
    HoldVotes {
        pub vote: Vote,
        pub delay: Ms,
    }
}

fn hold_votes(draw: &mut Draw<'_>, vote: Vote) {
    let delay = draw.ms_between(50, 2 * draw.slot_ms());
    let nodes = draw.all_or_someone();
    draw.push_on(nodes, HoldVotes { vote, delay });
}

impl Kind for HoldVotes {
    const EFFECTS: &'static [&'static str] = &["fault.held-vote"];
    const DRAWINGS: &'static [Drawing] = &[
        drawing(11, "held-approvals", "Approvals are late.", |draw| {
            hold_votes(draw, Vote::Approval);
        }),
        drawing(
            12,
            "held-confirmations",
            "Confirmations are late.",
            |draw| {
                hold_votes(draw, Vote::Confirmation);
            },
        ),
    ];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        let what = React::Hold { ms: self.delay.0 };
        faults.react_to(hit, Trigger::Vote(self.vote), what);
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        faults.forget_reaction(hit);
    }
}

declare! {
    "kill-on-vote":
        "A named node is killed once as it signs a vote of this kind, after the vote is written to \
        disk and before it is sent."
    KillOnVote {
        pub vote: Vote,
        #[serde(default)]
        pub power: bool,
        #[serde(default = "default::half_a_second")]
        pub down: Ms,
    }
}

impl Kind for KillOnVote {
    const EFFECTS: &'static [&'static str] = &["fault.killed-on-vote"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        24,
        "kill-on-vote",
        "Nodes crash while they vote.",
        |draw| {
            let fault = KillOnVote {
                vote: draw.pick(&[Vote::Proposal, Vote::Approval, Vote::Confirmation]),
                power: draw.flip(),
                down: draw.ms_between(5, draw.slot_ms()),
            };
            let nodes = draw.all_or_someone();
            draw.push_on(nodes, fault);
        },
    )];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        let what = React::Kill {
            power: self.power,
            down_ms: self.down.0,
            done: BTreeSet::new(),
        };
        faults.react_to(hit, Trigger::Vote(self.vote), what);
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        faults.forget_reaction(hit);
    }
}

declare! {
    "kill-all-on-votes":
        "All nodes and execution clients are killed at once when `count` of the named nodes have \
        signed a vote of this kind for one block."
    KillAllOnVotes {
        pub vote: Vote,
        pub count: u8,
        #[serde(default)]
        pub power: bool,
        #[serde(default = "default::half_a_second")]
        pub down: Ms,
    }
}

impl Kind for KillAllOnVotes {
    const EFFECTS: &'static [&'static str] = &["fault.killed-all-on-votes"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        25,
        "all-power-lost",
        "All nodes lose power right after locking.",
        |draw| {
            let quorum = draw.world.quorum() as u64;
            let count = draw.pick(&[1, quorum - 1, quorum]).max(1) as u8;
            let vote = if draw.below(4) == 0 {
                Vote::Approval
            } else {
                Vote::Confirmation
            };
            let fault = KillAllOnVotes {
                vote,
                count,
                power: true,
                down: draw.ms_between(10, 2 * draw.slot_ms()),
            };
            draw.push(draw.moment, draw.slot_ms() * 4, vec![NodeRef::All], fault);
        },
    )];

    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        let named = *place.count_nodes().end();
        if usize::from(self.count) <= named {
            return Ok(());
        }
        Err(("count", format!("count: at most the {named} named nodes")))
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        let what = React::KillAll {
            count: self.count,
            power: self.power,
            down_ms: self.down.0,
            signed: BTreeMap::new(),
            is_done: false,
        };
        faults.react_to(hit, Trigger::Vote(self.vote), what);
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        faults.forget_reaction(hit);
    }
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    let vote = Vote::Approval;
    vec![
        Row::lasting(
            HoldVotes {
                vote,
                delay: Ms(10),
            },
            &["reactions: Vote(Approval)"],
        ),
        Row::lasting(
            KillOnVote {
                vote,
                power: false,
                down: Ms(5),
            },
            &["reactions: Vote(Approval)"],
        ),
        Row::lasting(
            KillAllOnVotes {
                vote,
                count: 1,
                power: false,
                down: Ms(5),
            },
            &["reactions: Vote(Approval)"],
        ),
    ]
}
