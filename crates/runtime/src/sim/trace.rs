//! The rolling hash of a run.

use std::fmt;
use std::net::IpAddr;
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
    /// The fields of the event.
    pub detail: Detail,
}

/// The fields of an event as data. `Display` prints them for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// `node.start`.
    Started {
        name: String,
        ip: IpAddr,
        /// Counts from 0.
        incarnation: u32,
    },
    /// `net.send`.
    Sent {
        bytes: u64,
        connection: u64,
        to: IpAddr,
    },
    /// `net.receive`.
    Received {
        bytes: u64,
        connection: u64,
        from: IpAddr,
    },
    /// `link.cut`, `link.clog` and `link.heal`, in this direction only.
    Link { from: IpAddr, to: IpAddr },
    /// `link.reset_injected` and `link.half_open`.
    Connections { count: u64, between: [IpAddr; 2] },
    /// `clock.*`, in milliseconds, or in microseconds per second for `clock.drift`.
    Clock { by: i64 },
    /// A line for people about any other event; empty for [`crate::trace::event`].
    Text(String),
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started {
                name,
                ip,
                incarnation,
            } => write!(f, "{name} {ip} incarnation {incarnation}"),
            Self::Sent {
                bytes,
                connection,
                to,
            } => write!(f, "{bytes} bytes on connection {connection} to {to}"),
            Self::Received {
                bytes,
                connection,
                from,
            } => write!(f, "{bytes} bytes on connection {connection} from {from}"),
            Self::Link { from, to } => write!(f, "{from} to {to}"),
            Self::Connections {
                count,
                between: [a, b],
            } => write!(f, "{count} connections between {a} and {b}"),
            Self::Clock { by } => by.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
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
    pub fn note<D: Into<Detail>>(
        &mut self,
        at: Duration,
        node: NodeId,
        kind: &'static str,
        payload: &[u8],
        detail: impl FnOnce() -> D,
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
            detail: detail().into(),
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
