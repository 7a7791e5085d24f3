//! Faults of wall clocks. The clocks of an authority's node and of its execution client change
//! together.

use alys_runtime::sim::NodeId;
use alys_runtime::spawn;

use super::draw::{Drawing, drawing};
use super::registry::{Hit, Kind, Place, WrongValue, declare, mirrored, subject};
use super::settings::Setting;
use super::{Faults, Machine};
use crate::cluster::now_ms;
use crate::params::{Ms, SignedMs};

subject![Clock, Drift, ClockEdge, ClockTwice];

/// The shortest step across the edge of a slot; a quarter of it must be at least the resolution of
/// a wait.
const LEAST_EDGE_MS: u64 = 8;

declare! {
    "clock": "The wall clock steps by `by`, and back by as much when the fault ends."
    Clock { pub by: SignedMs }
}

impl Clock {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        let by_ms = if on { self.by.0 } else { -self.by.0 };
        step_clocks(faults, &faults.machines(hit, Machine::All), by_ms);
    }
}

fn step_clocks(faults: &Faults, machines: &[NodeId], by_ms: i64) {
    for machine in machines {
        faults.world.step_clock(*machine, by_ms);
    }
}

impl Kind for Clock {
    const EFFECTS: &'static [&'static str] = &["clock.step"];
    const DRAWINGS: &'static [Drawing] = &[
        drawing(
            8,
            "skewed-clock",
            "A clock is off by less than the drift allowance.",
            |draw| {
                let ms = draw.between(1, draw.world.drift_ms * 9 / 10);
                let by = SignedMs(draw.sign(ms));
                draw.push_as_drawn(Clock { by });
            },
        ),
        drawing(
            9,
            "stepped-clock",
            "A clock steps by more than the drift allowance.",
            |draw| {
                let ms = draw.between(draw.world.drift_ms, 5 * draw.slot_ms());
                let by = SignedMs(draw.sign(ms));
                draw.push_as_drawn(Clock { by });
            },
        ),
    ];

    mirrored! {}
}

declare! {
    "drift": "The wall clock gains `ppm` microseconds per second."
    Drift { pub ppm: i64 }
}

impl Drift {
    fn set(&self, faults: &Faults, hit: &Hit, on: bool) {
        for machine in faults.machines(hit, Machine::All) {
            faults.set(hit, machine, Setting::ClockDrift, on.then_some(self.ppm));
        }
    }
}

impl Kind for Drift {
    const EFFECTS: &'static [&'static str] = &["clock.drift"];
    const DRAWINGS: &'static [Drawing] = &[drawing(10, "drift", "A clock drifts.", |draw| {
        let ppm = draw.between(0, 40_000) as i64 - 20_000;
        draw.push_as_drawn(Drift { ppm });
    })];

    mirrored! {}
}

declare! {
    "clock-edge":
        "The wall clock steps forward across the boundary of a slot and back at once, so that the \
        slot begins twice. With `back` it steps back and forward, so that a slot ends twice."
    ClockEdge {
        pub by: Ms,
        #[serde(default)]
        pub back: bool,
    }
}

impl Kind for ClockEdge {
    const EFFECTS: &'static [&'static str] = &["clock.step"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        38,
        "clock-edge",
        "A clock steps across the boundary of a slot and back.",
        |draw| {
            let most = draw.pick(&[draw.world.drift_ms, draw.slot_ms()]).max(20);
            let by = draw.ms_between(10, most);
            let back = draw.flip();
            let nodes = draw.all_or_someone();
            draw.push(draw.moment, 0, nodes, ClockEdge { by, back });
        },
    )];

    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        let world = place.world;
        if (LEAST_EDGE_MS..=world.slot_ms).contains(&self.by.0) {
            return Ok(());
        }
        let message = format!(
            "by: from {LEAST_EDGE_MS}ms to the slot of {}ms, found {}",
            world.slot_ms, self.by
        );
        Err(("by", message))
    }

    /// Steps forward shortly before the edge, so that the slot begins twice, or back shortly after
    /// it, so that the slot ends twice.
    fn begin(&self, faults: &Faults, hit: &Hit) {
        let by_ms = self.by.0;
        let machines = faults.machines(hit, Machine::All);
        let slots = faults.slots;
        let now = now_ms(faults.world);
        let ends = (slots.at(now) + 1) * slots.slot_ms - slots.start_ms;
        // The next edge may be closer than half of the step.
        let edge = if ends < now + by_ms {
            ends + slots.slot_ms
        } else {
            ends
        };
        let (at, by) = if self.back {
            (edge + by_ms / 2, -(by_ms as i64))
        } else {
            (edge - by_ms / 2, by_ms as i64)
        };
        let faults = faults.clone();
        spawn("clock edge", async move {
            if !faults.wait_until(at).await {
                return;
            }
            step_clocks(&faults, &machines, by);
            if faults.wait_until(at + by_ms / 4).await {
                step_clocks(&faults, &machines, -by);
            }
        });
    }
}

declare! {
    "clock-twice":
        "The wall clock steps by `by`, and by `then` a time of `after` later, while the node waits \
        for confirmations of the first step. It steps back by both when the fault ends."
    ClockTwice {
        pub by: SignedMs,
        pub then: SignedMs,
        pub after: Ms,
    }
}

impl Kind for ClockTwice {
    const EFFECTS: &'static [&'static str] = &["clock.step"];
    const DRAWINGS: &'static [Drawing] = &[drawing(
        71,
        "clock-twice",
        "A clock steps twice, shortly after each other.",
        |draw| {
            let (drift_ms, slot_ms) = (draw.world.drift_ms, draw.slot_ms());
            let by = draw.between(drift_ms, 2 * slot_ms);
            let by = SignedMs(draw.sign(by));
            let then = draw.between(drift_ms, 2 * slot_ms);
            let then = SignedMs(draw.sign(then));
            let after = draw.ms_between(slot_ms / 8, 3 * slot_ms);
            let for_ms = after.0 + draw.between(slot_ms, 12 * slot_ms);
            draw.push_for(for_ms, ClockTwice { by, then, after });
        },
    )];

    /// The second step must come before the end of the fault, which takes both back.
    fn check(&self, place: &Place<'_>) -> Result<(), WrongValue> {
        match place.for_ms {
            Some(for_ms) if self.after.0 >= for_ms => {
                let message = format!(
                    "after: below the duration of {for_ms}ms, found {}",
                    self.after
                );
                Err(("after", message))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn begin(&self, faults: &Faults, hit: &Hit) {
        let machines = faults.machines(hit, Machine::All);
        step_clocks(faults, &machines, self.by.0);
        let (at, then) = (now_ms(faults.world) + self.after.0, self.then.0);
        let faults = faults.clone();
        spawn("second step of a clock", async move {
            if faults.wait_until(at).await {
                step_clocks(&faults, &machines, then);
            }
        });
    }

    fn end(&self, faults: &Faults, hit: &Hit) {
        let machines = faults.machines(hit, Machine::All);
        step_clocks(faults, &machines, -(self.by.0 + self.then.0));
    }
}

/// The table of [`super::testbed`].
#[cfg(test)]
pub(super) fn rows() -> Vec<super::testbed::Row> {
    use super::testbed::Row;
    vec![
        Row::lasting(
            Clock { by: SignedMs(-700) },
            &["execution2: up, ahead -700", "node2: up, ahead -700"],
        ),
        Row::lasting(
            Drift { ppm: 9_000 },
            &[
                "execution2: up, ClockDrift 9000",
                "node2: up, ClockDrift 9000",
            ],
        ),
        // A slot of two seconds begins with the step.
        Row::passing(
            ClockEdge {
                by: Ms(800),
                back: false,
            },
            1_700,
            &["execution2: up, ahead 800", "node2: up, ahead 800"],
        ),
        Row::lasting(
            ClockTwice {
                by: SignedMs(700),
                then: SignedMs(-1_900),
                after: Ms(300),
            },
            &["execution2: up, ahead -1200", "node2: up, ahead -1200"],
        ),
    ]
}
