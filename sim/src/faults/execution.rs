//! Faults of execution clients and of the links to them.
//!
//! An authority whose execution client reports valid payloads as invalid counts as faulty, like one
//! whose disk lies.

use std::collections::BTreeSet;
use std::time::Duration;

use alys_integrations::embedded::ExecutionFaults;

use super::draw::{Drawing, drawing};
use super::registry::{Hit, Kind, declare, default, mirrored, subject};
use super::{Faults, Machine, lock};
use crate::params::{Ms, NodeRef, SignedMs};

subject![
    SlowClient,
    ClientSyncing,
    ClientInvalid,
    ClientForgets,
    ClientLate,
    ClientTwice,
    ClientHangsUp,
    ClientClock,
    CutClient,
];

impl Faults {
    /// Changes the injected faults of the execution clients of these authorities.
    fn set_faults(&self, nodes: &BTreeSet<u8>, change: impl Fn(&mut ExecutionFaults)) {
        for node in nodes {
            if let Some(injector) = self.bends.get(usize::from(*node)) {
                change(&mut injector.lock());
            }
        }
    }

    /// Clears the faults of all execution clients, and kills the nodes that received wrong
    /// verdicts, because [`Self::heal`] restarts every process that is down.
    pub(super) fn heal_execution(&self) {
        let lied_to = std::mem::take(&mut *lock(&self.lied_to));
        for injector in &self.bends {
            *injector.lock() = ExecutionFaults::default();
        }
        for machine in lied_to {
            self.world.kill(machine);
        }
    }
}

declare! {
    "slow-client": "The link to the execution client is slow by that much one way."
    SlowClient { pub delay: Ms }
}

impl SlowClient {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let mut links = faults.links();
        for node in &hit.nodes {
            links.slow_client(*node, self.delay.0, on);
        }
    }
}

impl Kind for SlowClient {
    const DRAWINGS: &'static [Drawing] = &[drawing(
        16,
        "slow-client",
        "An execution client answers late.",
        |draw| {
            let delay = draw.ms_between(5, draw.slot_ms() / 2);
            draw.push_as_drawn(SlowClient { delay });
        },
    )];

    mirrored! {}
}

declare! {
    "client-syncing": "The execution client says of everything that it is syncing."
    ClientSyncing {}
}

impl ClientSyncing {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        faults.set_faults(&hit.nodes, |client| client.is_syncing = on);
    }
}

impl Kind for ClientSyncing {
    const DRAWINGS: &'static [Drawing] = &[drawing(
        50,
        "syncing-client",
        "An execution client is syncing.",
        |draw| {
            let nodes = if draw.below(4) == 0 {
                vec![NodeRef::All]
            } else {
                draw.someone.clone()
            };
            draw.push_on(nodes, ClientSyncing {});
        },
    )];

    mirrored! {}
}

declare! {
    "client-invalid":
        "The execution client calls so many payloads invalid. The authority is faulty then: only \
        the tolerated are hit."
    ClientInvalid {
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl Kind for ClientInvalid {
    const DRAWINGS: &'static [Drawing] = &[drawing(
        51,
        "lying-client",
        "An execution client calls valid payloads invalid.",
        |draw| {
            let count = draw.count(1, 5);
            draw.push_as_drawn(ClientInvalid { count });
        },
    )];

    fn begin(&self, faults: &Faults, hit: &Hit) {
        for authority in faults.authorities(hit) {
            if faults.may_distrust(authority.index) {
                // An invalid certified block is an error for the operator, so the node's complaints
                // are expected.
                lock(&faults.trust).damaged.insert(authority.node);
                lock(&faults.lied_to).insert(authority.node);
                let only = BTreeSet::from([authority.index]);
                faults.set_faults(&only, |client| client.invalid_payloads = self.count);
            }
        }
    }

    /// Restarts the node as an operator would after a repair of the client, because a node
    /// remembers invalid payloads as long as it runs.
    fn end(&self, faults: &Faults, hit: &Hit) {
        for authority in faults.authorities(hit) {
            let only = BTreeSet::from([authority.index]);
            faults.set_faults(&only, |client| client.invalid_payloads = 0);
            let was_lied_to = lock(&faults.lied_to).remove(&authority.node);
            if was_lied_to {
                faults.take_down(authority.node, false);
                faults.bring_up(authority.node);
            }
        }
    }
}

declare! {
    "client-forgets": "The execution client accepts so many fork choices and forgets them."
    ClientForgets {
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl ClientForgets {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let count = if on { self.count } else { 0 };
        faults.set_faults(&hit.nodes, |client| client.forgotten_forkchoices = count);
    }
}

impl Kind for ClientForgets {
    const DRAWINGS: &'static [Drawing] = &[drawing(
        52,
        "forgetful-client",
        "An execution client forgets fork choices.",
        |draw| {
            let count = draw.count(1, 20);
            draw.push_as_drawn(ClientForgets { count });
        },
    )];

    mirrored! {}
}

declare! {
    "client-late": "The execution client answers that much later."
    ClientLate { pub delay: Ms }
}

impl ClientLate {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let late = Duration::from_millis(if on { self.delay.0 } else { 0 });
        faults.set_faults(&hit.nodes, |client| client.answer_delay = late);
    }
}

impl Kind for ClientLate {
    const DRAWINGS: &'static [Drawing] = &[drawing(
        53,
        "late-client",
        "An execution client takes long over its answers.",
        |draw| {
            let delay = draw.ms_between(50, 3_000);
            draw.push_as_drawn(ClientLate { delay });
        },
    )];

    mirrored! {}
}

declare! {
    "client-twice": "The execution client carries so many payloads and fork choices out twice."
    ClientTwice {
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl ClientTwice {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let count = if on { self.count } else { 0 };
        faults.set_faults(&hit.nodes, |client| client.repeated_calls = count);
    }
}

impl Kind for ClientTwice {
    const DRAWINGS: &'static [Drawing] = &[drawing(
        54,
        "hanging-up",
        "An execution client is asked twice, or hangs up.",
        |draw| {
            let is_twice = draw.flip();
            let count = draw.count(1, 20);
            if is_twice {
                draw.push_as_drawn(ClientTwice { count });
            } else {
                draw.push_as_drawn(ClientHangsUp { count });
            }
        },
    )];

    mirrored! {}
}

declare! {
    "client-hangs-up": "The execution client hangs up so often as its answer leaves."
    ClientHangsUp {
        #[serde(default = "default::one")]
        pub count: u32,
    }
}

impl ClientHangsUp {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let count = if on { self.count } else { 0 };
        faults.set_faults(&hit.nodes, |client| client.lost_answers = count);
    }
}

impl Kind for ClientHangsUp {
    /// Drawn along with [`ClientTwice`].
    const DRAWINGS: &'static [Drawing] = &[];

    mirrored! {}
}

declare! {
    "client-clock":
        "The clock of the execution client's machine steps, so that tokens are of another time."
    ClientClock { pub by: SignedMs }
}

impl ClientClock {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let by_ms = if on { self.by.0 } else { -self.by.0 };
        for machine in faults.machines(hit, Machine::Client) {
            faults.world.step_clock(machine, by_ms);
        }
    }
}

impl Kind for ClientClock {
    const DRAWINGS: &'static [Drawing] = &[drawing(
        55,
        "client-clock",
        "An execution client's clock is far off.",
        |draw| {
            let ms = draw.between(50_000, 300_000);
            let by = SignedMs(draw.sign(ms));
            draw.push_as_drawn(ClientClock { by });
        },
    )];

    mirrored! {}
}

declare! {
    "cut-client": "The link to the execution client is cut."
    CutClient {}
}

impl CutClient {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let mut links = faults.links();
        for node in &hit.nodes {
            links.cut_client(*node, on);
        }
    }
}

impl Kind for CutClient {
    const DRAWINGS: &'static [Drawing] = &[drawing(
        17,
        "cut-client",
        "An execution client cannot be reached.",
        |draw| draw.push_as_drawn(CutClient {}),
    )];

    mirrored! {}
}
