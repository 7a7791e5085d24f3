//! The rolling hash of a run.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::NodeId;

/// Something that happened, as the sink sees it.
#[derive(Debug)]
pub struct Event<'a> {
    /// Simulated time since the start of the run.
    pub at: Duration,
    /// Where it happened; [`NodeId::WORLD`] for what the world did.
    pub node: NodeId,
    /// What kind of thing, as `net.send` or `disk.sync`, or what was given to [`crate::trace::event`].
    pub kind: &'static str,
    /// The bytes that went into the hash.
    pub payload: &'a [u8],
    /// The event for people, on one line; empty for [`crate::trace::event`].
    pub detail: String,
}

/// Receives every event of a run. It must not call back into the simulation.
pub type Sink = Box<dyn FnMut(&Event<'_>) + Send>;

/// The hash so far, and the sink.
pub(crate) struct Trace {
    hasher: Sha256,
    events: u64,
    last_at: Duration,
    sink: Option<Sink>,
}

impl Trace {
    pub fn new(seed: u64) -> Self {
        Self {
            hasher: Sha256::new_with_prefix(seed.to_le_bytes()),
            events: 0,
            last_at: Duration::ZERO,
            sink: None,
        }
    }

    pub fn set_sink(&mut self, sink: Sink) {
        self.sink = Some(sink);
    }

    /// Folds an event in. `detail` is only asked for when there is a sink.
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
        // Lengths keep one event's end from being read as another's beginning.
        self.hasher.update((kind.len() as u64).to_le_bytes());
        self.hasher.update(kind);
        self.hasher.update((payload.len() as u64).to_le_bytes());
        self.hasher.update(payload);
        if let Some(sink) = &mut self.sink {
            sink(&Event { at, node, kind, payload, detail: detail() });
        }
    }

    pub fn hash(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    /// When the last event was.
    pub fn last_at(&self) -> Duration {
        self.last_at
    }

    pub fn events(&self) -> u64 {
        self.events
    }
}
