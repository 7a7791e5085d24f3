//! Changes of the federation: orders of governance, repeated to nodes until a final block carries
//! them. They are not faults; they change the federation while faults happen.
//!
//! Orders have consecutive numbers on a branch. Each one gets the number that follows those of the
//! orders before it, and a new one, with a later effective height, when it is too late to be
//! carried or when the change was void. The smallest federation of the plan is kept: a
//! removal waits for an addition.

use std::collections::BTreeMap;
use std::time::Duration;

use alys_runtime::{spawn, time};
use alys_types::{Height, Order};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draw::{Draw, Drawing, drawing};
use super::registry::{Hit, Kind, Place, WrongValue, declare, subject, within};
use super::{Faults, Machine, Stop, Wipe, lock};
use crate::params::{NodeRef, When};

subject![ChangeFederation];

/// Blocks between the next block and the height at which a change takes effect: the finality of the
/// block with the change has to be shown in between.
const AHEAD: std::ops::RangeInclusive<u64> = 2..=1_000;
/// Blocks by which the next order of a change takes effect later than one that was too late.
const LATER: u64 = 2;
/// Repetitions of an order per slot.
const PER_SLOT: u64 = 2;

/// A change of one authority, by its name in plans.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Appends the authority to the federation.
    Add,
    /// Removes the authority; its node continues as a full node.
    Remove,
}

/// An order that is not carried out yet.
#[derive(Debug, Clone)]
pub(super) struct Ordered {
    /// The node, from 0.
    node: u8,
    change: Change,
    /// Blocks until the change takes effect, more after each order that was too late.
    ahead: u64,
    /// The order that was signed last.
    signed: Option<Order>,
}

impl Ordered {
    /// As `add 5`.
    #[cfg(test)]
    pub(super) fn words(&self) -> String {
        format!("{:?} {}", self.change, self.node + 1).to_lowercase()
    }

    /// True if the number of the signed order is used up on a final chain with this last order.
    fn is_carried(&self, last_order: u64) -> bool {
        let signed = self.signed.as_ref();
        signed.is_some_and(|order| order.number <= last_order)
    }
}

/// The height from which a federation change of governance is in force.
fn effective_height(order: &Order) -> Height {
    let change = order.set_change();
    let change = change.expect("governance of a world signs federation changes only");
    change.effective_height
}

/// The orders that are not carried out yet, by the number of their step.
pub(super) type Orders = BTreeMap<u64, Ordered>;

declare! {
    "change-federation":
        "Governance orders a change of the federation, which takes effect `ahead` blocks later. \
        The named nodes receive the order until a final block carries it. Needs `governance`."
    ChangeFederation {
        pub change: Change,
        pub authority: u8,
        #[serde(default = "ahead")]
        pub ahead: u64,
    }
}

/// Long enough for the block with the change to become final, and for that to be shown.
fn ahead() -> u64 {
    8
}

impl ChangeFederation {
    /// Repeats the order until the change has taken effect.
    async fn govern(faults: Faults, hit: Hit) {
        let pause_ms = (faults.plan.slot_ms / PER_SLOT).max(1);
        while !faults.is_healed() {
            if faults.is_carried_out(&hit) {
                lock(&faults.orders).remove(&hit.number);
                return;
            }
            if let Some(order) = faults.order_to_send(&hit) {
                let nodes = hit.nodes.iter();
                for node in nodes.filter_map(|node| faults.living.find(*node)) {
                    // A node that is busy or starting gets the next repetition.
                    if node.order(order.clone()) {
                        faults.count("order-sent");
                    }
                }
            }
            time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
}

impl Faults {
    /// True if the final chain has the federation that a step ordered. An order whose number was
    /// used up without that is signed again.
    fn is_carried_out(&self, hit: &Hit) -> bool {
        let sets = self.judge.look().sets.clone();
        let top = self.judge.look().finality.top();
        let mut orders = lock(&self.orders);
        let Some(ordered) = orders.get_mut(&hit.number) else {
            return true;
        };
        let is_member = sets.current().has(ordered.node);
        if is_member == (ordered.change == Change::Add) {
            return true;
        }
        let is_past = |order: &Order| effective_height(order).0 <= top;
        if ordered.is_carried(sets.last_order()) && ordered.signed.as_ref().is_some_and(is_past) {
            ordered.signed = None;
            ordered.ahead += LATER;
            drop(orders);
            self.count("order-void");
        }
        false
    }

    /// The order of a step as it can be carried now; `None` while it is carried, or while it waits
    /// for an addition.
    fn order_to_send(&self, hit: &Hit) -> Option<Order> {
        let governance = self.governance.as_ref()?;
        let sets = self.judge.look().sets.clone();
        let top = self.judge.look().finality.top();
        let last_order = sets.last_order();
        let mut orders = lock(&self.orders);
        let before = orders.range(..hit.number).map(|(_, one)| one);
        let is_sent = |one: &&Ordered| one.signed.is_some() && !one.is_carried(last_order);
        let rank = before.clone().filter(is_sent).count() as u64;
        let removed = before.filter(|one| one.change == Change::Remove).count();
        let ordered = orders.get(&hit.number)?;
        if ordered.is_carried(last_order) {
            return None;
        }
        let left = sets.current().nodes().len().saturating_sub(removed + 1);
        if ordered.change == Change::Remove && left < usize::from(self.plan.least_authorities()) {
            return None;
        }
        let number = last_order + 1 + rank;
        let in_time = |order: &&Order| {
            order.number == number && effective_height(order).0 > top + *AHEAD.start()
        };
        if let Some(order) = ordered.signed.as_ref().filter(in_time) {
            return Some(order.clone());
        }
        let ordered = orders.get_mut(&hit.number)?;
        if ordered.signed.is_some() {
            ordered.ahead += LATER;
        }
        let adds = ordered.change == Change::Add;
        let effective = top + 1 + ordered.ahead;
        let order = governance.order(number, ordered.node, adds, effective);
        sets.ordered(&order);
        ordered.signed = Some(order.clone());
        Some(order)
    }
}

/// Adds a candidate or an authority that left, after an authority left. The node of the one that
/// comes may have been down, so that it syncs while it joins.
fn replace(draw: &mut Draw<'_>) {
    let authorities = u64::from(draw.world.authorities());
    let leaves = draw.between(1, authorities) as u8;
    let comes = if draw.world.candidates > 0 {
        draw.between(authorities + 1, u64::from(draw.world.nodes)) as u8
    } else {
        leaves
    };
    let ahead = draw.between(*AHEAD.start(), 10);
    let nodes = draw.all_or_someone();
    let slot_ms = draw.slot_ms();
    let order = |draw: &mut Draw<'_>, slot: u64, change, authority, nodes: &[NodeRef]| {
        let at = When::Slot(draw.slot + slot, draw.below(slot_ms));
        let fault = ChangeFederation {
            change,
            authority,
            ahead,
        };
        draw.push(at, 0, nodes.to_vec(), fault);
    };
    order(draw, 0, Change::Remove, leaves, &nodes);
    // At once or later: several orders wait.
    let later = draw.between(0, 6);
    order(draw, later, Change::Add, comes, &nodes);
    let joining = vec![NodeRef::Number(comes)];
    let down_ms = draw.between(slot_ms, 12 * slot_ms);
    match draw.below(3) {
        0 => draw.push(draw.at(0), down_ms, joining, Stop::of_node()),
        1 if draw.world.tolerated() > 0 => {
            let machine = Machine::All;
            draw.push(draw.at(0), down_ms, joining, Wipe { machine });
        }
        _ => {}
    }
}

impl Kind for ChangeFederation {
    const EFFECTS: &'static [&'static str] = &[
        "fault.order-sent",
        "federation.carried",
        "federation.effective",
    ];
    const IS_INSTANT: bool = true;
    const DRAWINGS: &'static [Drawing] = &[
        drawing(
            57,
            "replaced-authority",
            "An authority is removed and another one is added, where the world has governance.",
            |draw| {
                if draw.world.governance {
                    replace(draw);
                }
            },
        ),
        drawing(
            58,
            "changing-federation",
            "Authorities leave and return in turn, where the world has governance.",
            |draw| {
                if draw.world.governance {
                    for turn in 0..draw.between(1, 3) {
                        draw.slot += 2 * turn;
                        replace(draw);
                    }
                }
            },
        ),
    ];

    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        if !place.world.governance {
            let message = "change: needs `governance = true` in [world]".to_owned();
            return Err(("change", message));
        }
        within(
            "authority",
            self.authority.into(),
            1..=place.world.nodes.into(),
        )?;
        within("ahead", self.ahead, AHEAD)
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        let ordered = Ordered {
            node: self.authority - 1,
            change: self.change,
            ahead: self.ahead,
            signed: None,
        };
        lock(&faults.orders).insert(hit.number, ordered);
        spawn("governance", Self::govern(faults.clone(), hit.clone()));
    }
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    let order = |change, authority| ChangeFederation {
        change,
        authority,
        ahead: ahead(),
    };
    vec![
        Row::passing(order(Change::Remove, 3), 1, &["orders: remove 3"])
            .leaving(&["orders: remove 3"]),
        // The federation has it already.
        Row::passing(order(Change::Add, 3), 100, &[]),
    ]
}
