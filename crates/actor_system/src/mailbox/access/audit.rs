//! Audit trail of refusals: the last ones in full, all of them as counts.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::Instant,
};

use super::{Denied, Refusal, Role, Route};

/// Refused messages, and denied addresses, that are kept whole.
pub const MAX_TRAIL: usize = 256;

/// The reason of a refusal, without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// An address was asked for, and no rule leads from the one role to the other.
    NoRule,
    /// The rule does not name the message's kind.
    NotAllowed,
    /// The rule's limit was used up.
    RateExceeded,
}

impl Why {
    /// The name as it is written in logs and metrics.
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

/// A message that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Time of the refusal.
    pub at: Instant,
    /// From whom to whom.
    pub route: Arc<Route>,
    /// Kind of the message.
    pub kind: &'static str,
    /// Reason.
    pub why: Why,
}

/// The audit trail at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// The last refused messages, oldest first; at most [`MAX_TRAIL`].
    pub refused: Vec<Refused>,
    /// The last denied addresses, oldest first; at most [`MAX_TRAIL`].
    pub denied: Vec<Denied>,
    /// All refusals so far by sender's role, receiver's role and reason.
    pub counts: BTreeMap<(Role, Role, Why), u64>,
    /// Denials so far because a role was not in the table. They are counted together: such roles
    /// have no limit.
    pub unknown_roles: u64,
}

/// The trail as it is written.
#[derive(Debug, Default)]
pub(super) struct Trail {
    refused: VecDeque<Refused>,
    denied: VecDeque<Denied>,
    /// Bounded by the square of the roles of the table and the reasons.
    counts: BTreeMap<(Role, Role, Why), u64>,
    unknown_roles: u64,
    /// Routes and kinds that were refused before. Kinds are constants of the program, so their
    /// number is bounded.
    kinds: BTreeSet<(Role, Role, Why, &'static str)>,
}

impl Trail {
    /// True for the first one of its roles, reason and kind.
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
