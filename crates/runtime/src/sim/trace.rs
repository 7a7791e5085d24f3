//! The rolling hash of a run.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::NodeId;

/// An event of a run, as sinks receive it.
#[derive(Debug)]
pub struct Event<'a> {
    /// Counts from 1.
    pub number: u64,
    /// Simulated time since the start of the run.
    pub at: Duration,
    /// The node of the event; [`NodeId::WORLD`] for actions of the world.
    pub node: NodeId,
    /// A kind such as `net.send` or `disk.sync`, or that of [`crate::trace::event`].
    pub kind: &'static str,
    /// The hashed bytes.
    pub payload: &'a [u8],
    /// A human-readable line; empty for [`crate::trace::event`].
    pub detail: String,
}

/// Receives every event of a run. It must not call back into the simulation.
pub type Sink = Box<dyn FnMut(&Event<'_>) + Send>;

/// The hash after a number of events. Two runs of a seed diverge between the last equal and the
/// first different snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of hashed events.
    pub events: u64,
    /// The simulated time of the last one.
    pub at: Duration,
    /// The first bytes of the hash.
    pub hash: [u8; 8],
}

/// Limit of snapshots. When it is reached, every other one is dropped and the interval doubles.
pub const MAX_SNAPSHOTS: usize = 64;

/// The rolling hash with its sinks.
pub(crate) struct Trace {
    hasher: Sha256,
    events: u64,
    last_at: Duration,
    snapshots: Vec<Snapshot>,
    /// Events between two snapshots.
    step: u64,
    sinks: Vec<Sink>,
}

impl Trace {
    pub fn new(seed: u64) -> Self {
        Self {
            hasher: Sha256::new_with_prefix(seed.to_le_bytes()),
            events: 0,
            last_at: Duration::ZERO,
            snapshots: Vec::new(),
            step: 1,
            sinks: Vec::new(),
        }
    }

    pub fn add_sink(&mut self, sink: Sink) {
        self.sinks.push(sink);
    }

    /// Hashes an event. `detail` is evaluated only if there is a sink.
    pub fn note(
        &mut self,
        at: Duration,
        node: NodeId,
        kind: &'static str,
        payload: &[u8],
        detail: impl FnOnce() -> String,
    ) {
        self.events += 1;
        self.last_at = at;
        self.hasher.update((at.as_nanos() as u64).to_le_bytes());
        self.hasher.update(node.0.to_le_bytes());
        // The lengths make the encoding of the sequence unambiguous.
        self.hasher.update((kind.len() as u64).to_le_bytes());
        self.hasher.update(kind);
        self.hasher.update((payload.len() as u64).to_le_bytes());
        self.hasher.update(payload);
        if self.events.is_multiple_of(self.step) {
            self.snapshot();
        }
        if self.sinks.is_empty() {
            return;
        }
        let event = Event {
            number: self.events,
            at,
            node,
            kind,
            payload,
            detail: detail(),
        };
        self.sinks.iter_mut().for_each(|sink| sink(&event));
    }

    fn snapshot(&mut self) {
        let mut hash = [0; 8];
        hash.copy_from_slice(&self.hash()[..8]);
        self.snapshots.push(Snapshot {
            events: self.events,
            at: self.last_at,
            hash,
        });
        if self.snapshots.len() == MAX_SNAPSHOTS {
            self.step *= 2;
            let step = self.step;
            self.snapshots
                .retain(|snapshot| snapshot.events.is_multiple_of(step));
        }
    }

    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    pub fn hash(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    pub fn last_at(&self) -> Duration {
        self.last_at
    }

    pub fn events(&self) -> u64 {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(events: u64, differs_at: u64) -> Trace {
        let mut trace = Trace::new(7);
        for event in 1..=events {
            let payload = [u8::from(event == differs_at)];
            trace.note(
                Duration::from_millis(event),
                NodeId::WORLD,
                "event",
                &payload,
                String::new,
            );
        }
        trace
    }

    #[test]
    fn snapshots_are_bounded_and_evenly_spaced_and_show_where_two_runs_diverge() {
        for events in [0, 1, 63, 64, 65, 10_000] {
            let trace = trace(events, 0);
            let snapshots = trace.snapshots();
            assert!(snapshots.len() < MAX_SNAPSHOTS, "{events}");
            let numbers: Vec<u64> = snapshots.iter().map(|snapshot| snapshot.events).collect();
            let expected: Vec<u64> = (1..=events / trace.step).map(|n| n * trace.step).collect();
            assert_eq!(numbers, expected);
        }
        let (one, other) = (trace(10_000, 0), trace(10_000, 5_000));
        let pairs = one.snapshots().iter().zip(other.snapshots());
        let equal = pairs
            .take_while(|(a, b)| a == b)
            .last()
            .map_or(0, |(a, _)| a.events);
        assert!((5_000 - one.step..5_000).contains(&equal), "{equal}");
    }
}
