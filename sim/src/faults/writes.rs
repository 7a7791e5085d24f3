//! Faults at the moment of a write: right after a record of the node's store is written, and before
//! anything follows from it.

use std::collections::{BTreeMap, BTreeSet};

use alys_runtime::sim::{Image, NodeId};
use alys_types::FaultModel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draw::{Draw, Drawing, drawing};
use super::reactions::{React, Trigger};
use super::registry::{Hit, Kind, Place, WrongValue, declare, default, subject, within};
use super::{Faults, lock};
use crate::events::Announcement;
use crate::params::Ms;

subject![KillOnWrite];

/// Most writes that pass before the crash.
const MAX_SKIPPED: u64 = 10_000;
/// The beginning of the coverage marks of writes; the word of a record follows.
const MARK: &str = "state.store.wrote_";

/// Declares the records of a node's store by their words.
macro_rules! records {
    ($($(#[$doc:meta])* $record:ident = $word:literal;)*) => {
        /// A record of a node's store, by its name in plans.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(rename_all = "lowercase")]
        pub enum Record {
            $($(#[$doc])* $record,)*
        }

        impl Record {
            /// All records. The generator draws by index, so the order is part of every seed's
            /// plan.
            pub const ALL: &'static [Self] = &[$(Self::$record),*];

            /// The record whose write a coverage mark reports.
            pub(super) fn of_mark(mark: &str) -> Option<Self> {
                match mark.strip_prefix(MARK)? {
                    $($word => Some(Self::$record),)*
                    _ => None,
                }
            }
        }
    };
}

records! {
    /// The vote state.
    Votes = "votes";
    /// The certified block with the highest slot.
    Highest = "highest";
    /// The last final block.
    Finalized = "finalized";
    /// The federation after the last final block.
    Federation = "federation";
    /// A header.
    Headers = "headers";
    /// A body.
    Bodies = "bodies";
    /// A certificate of approvals.
    Certificates = "certificates";
    /// A certificate of confirmations.
    Finality = "finality";
    /// A federation order.
    Orders = "orders";
    /// An authority set.
    Sets = "sets";
    /// An entry of the ledger.
    Ledger = "ledger";
    /// The tips of a block.
    Additions = "additions";
    /// A proof of work that a miner submitted.
    Proofs = "proofs";
}

/// The disks to which crashed nodes are rolled back, by authority.
#[derive(Default)]
pub(super) struct Images(BTreeMap<u8, Image>);

impl Images {
    /// Forgets all images, when everything heals.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Faults {
    /// Restores the disk of a node, whose process is down, to its state at the beginning of the
    /// fault, if the federation tolerates one more authority that forgot votes.
    pub(super) fn roll_back(&self, node: u8, machine: NodeId) {
        let image = lock(&self.images).0.remove(&node);
        let is_crash_model = self.plan.fault_model == FaultModel::Crash;
        let image = image.filter(|_| !is_crash_model && self.may_distrust(node));
        let Some(image) = image else {
            self.count("downgraded.roll-back");
            return;
        };
        self.world.restore_disk(machine, image);
        self.judge.look().put_back(node);
        self.count("rolled-back");
        let restored = Announcement::DiskRestored {
            node: self.world.name(machine),
        };
        restored.announce(self.world);
    }
}

declare! {
    "kill-on-write":
        "A named node is killed once, right after it wrote this record, with `skip` earlier writes \
        of it left alone. With `power` its machine loses power, with `roll_back` its disk is as it \
        was when the fault began, and with `peers` all other nodes restart at the same time."
    KillOnWrite {
        pub record: Record,
        #[serde(default)]
        pub skip: u64,
        #[serde(default)]
        pub power: bool,
        #[serde(default)]
        pub roll_back: bool,
        #[serde(default)]
        pub peers: bool,
        #[serde(default = "default::half_a_second")]
        pub down: Ms,
    }
}

/// Draws the record, the kind of the crash, and the time until the restart.
fn kill_on_write(draw: &mut Draw<'_>, roll_back: bool, peers: bool) {
    let fault = KillOnWrite {
        record: draw.pick(Record::ALL),
        skip: draw.below(4),
        power: draw.flip(),
        roll_back,
        peers,
        down: draw.ms_between(5, 2 * draw.slot_ms()),
    };
    let nodes = if roll_back {
        draw.numbered()
    } else {
        draw.all_or_someone()
    };
    let lasts_ms = draw.between(4, 10) * draw.slot_ms();
    draw.push(draw.moment, lasts_ms, nodes, fault);
}

impl Kind for KillOnWrite {
    const EFFECTS: &'static [&'static str] = &["fault.killed-on-write", "fault.rolled-back"];
    const DRAWINGS: &'static [Drawing] = &[
        drawing(
            59,
            "kill-on-write",
            "Nodes crash right after the write of a record.",
            |draw| {
                let peers = draw.below(3) == 0;
                kill_on_write(draw, false, peers);
            },
        ),
        drawing(
            60,
            "roll-back-on-write",
            "A node crashes right after the write of a record and is rolled back, while its peers \
             may restart.",
            |draw| {
                let peers = draw.flip();
                kill_on_write(draw, true, peers);
            },
        ),
    ];

    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        let named = *place.count_nodes().end();
        if self.roll_back && named > 1 {
            let message = "roll_back: with one named node".to_owned();
            return Err(("roll_back", message));
        }
        within("skip", self.skip, 0..=MAX_SKIPPED)
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        if self.roll_back {
            for authority in faults.authorities(hit) {
                let image = faults.world.disk_image(authority.node);
                lock(&faults.images).0.insert(authority.index, image);
            }
        }
        let what = React::KillOnWrite {
            left: hit.nodes.iter().map(|node| (*node, self.skip)).collect(),
            power: self.power,
            roll_back: self.roll_back,
            peers: self.peers,
            down_ms: self.down.0,
            done: BTreeSet::new(),
        };
        faults.react_to(hit, Trigger::Write(self.record), what);
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        faults.forget_reaction(hit);
    }
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    vec![Row::lasting(
        KillOnWrite {
            record: Record::Votes,
            skip: 1,
            power: false,
            roll_back: false,
            peers: true,
            down: Ms(5),
        },
        &["reactions: Write(Votes)"],
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_has_the_word_of_its_mark() {
        for record in Record::ALL {
            let word = serde_json::to_value(record).expect("a word");
            let word = word.as_str().expect("a word").to_owned();
            assert_eq!(Record::of_mark(&format!("{MARK}{word}")), Some(*record));
        }
        assert_eq!(Record::of_mark("state.store.wrote_nothing"), None);
        assert_eq!(Record::of_mark("state.store.rewritten"), None);
    }
}
