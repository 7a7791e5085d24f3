//! The interceptor between each authority's node and its network.
//!
//! **Owns** the repetition of gossip ([`GossipRepeater`]), a fault of any node. **Guarantees** that
//! the messages of a correct authority leave unchanged; those of a Byzantine one go through its
//! conduct ([`byzantine`](super::byzantine)). **Never** delays or drops a message that arrives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_net::{Command, Event};
use alys_node::interceptor::Intercept;
use alys_runtime::sim::{Rng, World};

use super::byzantine::Byzantine;
use crate::cluster::genesis::Chain;
use crate::faults::GossipRepeater;
use crate::invariants::Judge;
use crate::params::{Slots, WorldPlan};

/// The counter of repeated messages, beside the counter of the faults `duplicate-gossip`.
const REPEATED: &str = "duplicate-gossip.messages";

/// Creates the interceptor of each authority's node.
pub fn interceptors(
    world: World,
    plan: &WorldPlan,
    slots: Slots,
    chain: &Chain,
    judge: &Judge,
) -> BTreeMap<u8, Arc<MessageInterceptor>> {
    let of = |index: u8| {
        let inner = Inner {
            byzantine: Byzantine::of_plan(world, plan, index, slots, chain, judge),
            rng: world.rng(&format!("interceptor {index}")),
            late: Vec::new(),
            repeated: 0,
        };
        (index, Arc::new(MessageInterceptor(Mutex::new(inner))))
    };
    (0..plan.nodes).map(of).collect()
}

/// Intercepts the messages between a node and its network.
pub struct MessageInterceptor(Mutex<Inner>);

struct Inner {
    /// `None` for a correct authority.
    byzantine: Option<Byzantine>,
    rng: Rng,
    /// Maximum delay of repeated gossip in milliseconds, one for each active fault.
    late: Vec<u64>,
    /// Number of repeated messages.
    repeated: u64,
}

impl MessageInterceptor {
    fn look(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GossipRepeater for MessageInterceptor {
    fn duplicate(&self, ms: u64, on: bool) {
        let late = &mut self.look().late;
        match late.iter().position(|other| *other == ms) {
            Some(at) if !on => drop(late.remove(at)),
            _ if on => late.push(ms),
            _ => {}
        }
    }

    // The conduct of a Byzantine authority does not end.
    fn heal(&self) {
        self.look().late.clear();
    }

    fn counts(&self) -> BTreeMap<&'static str, u64> {
        let inner = self.look();
        let of_conduct = inner.byzantine.as_ref().map(Byzantine::count);
        let all = of_conduct.into_iter().chain([(REPEATED, inner.repeated)]);
        all.filter(|(_, times)| *times > 0).collect()
    }
}

impl Intercept for MessageInterceptor {
    fn leaving(&self, command: Command) -> Vec<(Duration, Command)> {
        match &mut self.look().byzantine {
            Some(byzantine) => byzantine.leaving(command),
            None => vec![(Duration::ZERO, command)],
        }
    }

    fn arriving(&self, event: Event) -> Vec<(Duration, Event)> {
        let mut inner = self.look();
        if let Some(byzantine) = &mut inner.byzantine {
            byzantine.note_arrival(&event);
        }
        let mut all = vec![(Duration::ZERO, event.clone())];
        if let (Event::Gossip { .. }, Some(most)) = (&event, inner.late.iter().max().copied()) {
            // At least a millisecond, because a delay of zero would not yield.
            let wait = Duration::from_millis(1 + inner.rng.below(most.max(1)));
            inner.repeated += 1;
            all.push((wait, event));
        }
        all
    }
}
