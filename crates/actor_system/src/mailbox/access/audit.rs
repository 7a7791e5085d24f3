//! Audit trail of refusals: the most recent ones in full, all of them as counts.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::Instant,
};

use super::{Denied, Refusal, Role, Route};

/// Refused messages, and likewise denied look-ups, that are kept in full.
pub const MAX_TRAIL: usize = 256;

/// Reason of a refusal or denial, without details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// An address was denied, because no rule leads from one role to the other.
    NoRule,
    /// The rule does not allow the kind of the message.
    NotAllowed,
    /// The rule's rate limit was exhausted.
    RateExceeded,
}

impl Why {
    /// Name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::NotAllowed => "not_allowed",
            Self::RateExceeded => "rate_exceeded",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Record of a refused message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Time of the refusal.
    pub at: Instant,
    /// Roles of sender and receiver, and path of the receiver.
    pub route: Arc<Route>,
    /// Kind of the message.
    pub kind: &'static str,
    /// Reason of the refusal.
    pub why: Why,
}

/// Snapshot of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Most recent refused messages, oldest first; at most [`MAX_TRAIL`].
    pub refused: Vec<Refused>,
    /// Most recent denied look-ups, oldest first; at most [`MAX_TRAIL`].
    pub denied: Vec<Denied>,
    /// Total refusals by sender's role, receiver's role and reason.
    pub counts: BTreeMap<(Role, Role, Why), u64>,
    /// Total denials because a role was not in the table. One counter for all, because the number
    /// of such roles is unbounded.
    pub unknown_roles: u64,
}

/// The mutable trail behind [`Audit`].
#[derive(Debug, Default)]
pub(super) struct Trail {
    refused: VecDeque<Refused>,
    denied: VecDeque<Denied>,
    /// Bounded by the square of the table's roles times the number of reasons.
    counts: BTreeMap<(Role, Role, Why), u64>,
    unknown_roles: u64,
    /// Routes and kinds that were refused before. Bounded, because kinds are constants of the
    /// program.
    kinds: BTreeSet<(Role, Role, Why, &'static str)>,
}

impl Trail {
    /// Records a refusal. True if it is the first with its roles, reason and kind.
    pub fn refused(&mut self, at: Instant, refusal: &Refusal) -> bool {
        let route = refusal.route().clone();
        let why = refusal.why();
        self.count(&route, why);
        let kind = refusal.kind();
        let is_first = self
            .kinds
            .insert((route.from.clone(), route.to.clone(), why, kind));
        push(
            &mut self.refused,
            Refused {
                at,
                route,
                kind,
                why,
            },
        );
        is_first
    }

    pub fn denied(&mut self, denied: &Denied) {
        match denied {
            Denied::NoRule(route) => self.count(route, Why::NoRule),
            Denied::UnknownRole { .. } => self.unknown_roles += 1,
        }
        push(&mut self.denied, denied.clone());
    }

    pub fn audit(&self) -> Audit {
        Audit {
            refused: self.refused.iter().cloned().collect(),
            denied: self.denied.iter().cloned().collect(),
            counts: self.counts.clone(),
            unknown_roles: self.unknown_roles,
        }
    }

    fn count(&mut self, route: &Route, why: Why) {
        *self
            .counts
            .entry((route.from.clone(), route.to.clone(), why))
            .or_default() += 1;
    }
}

fn push<T>(ring: &mut VecDeque<T>, item: T) {
    if ring.len() == MAX_TRAIL {
        ring.pop_front();
    }
    ring.push_back(item);
}
