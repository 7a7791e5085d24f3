//! Access rules for messages: roles, rules between them, and an audit trail of refusals.
//!
//! **Owns** the table of rules, the rate limits that go with them, and the audit trail.
//!
//! A rule says that what plays one [`Role`] may send messages of certain kinds to what plays
//! another, and how often. It is checked twice: where an address is handed out ([`Access::grant`])
//! and at each message ([`Grant::admit`]). What no rule allows is refused.
//!
//! ```
//! use alys_actor_system::access::{Access, AccessTable, Kinds, RateLimit};
//! # use std::time::{Duration, Instant};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limit = RateLimit { burst: 2, per_second: 1 };
//! let table = AccessTable::builder()
//!     .role("network")
//!     .role("chain")
//!     .allow("network", "chain", Kinds::only(["block_received"]), Some(limit))
//!     .build()?;
//! let (network, chain) = (table.role("network")?, table.role("chain")?);
//! let access = Access::new(table);
//! let grant = access.grant(&network, &chain, "alys/chain")?;
//! # let now = alys_runtime::time::now();
//! assert!(grant.admit("block_received", now).is_ok());
//! assert!(grant.admit("roll_back", now).is_err());
//! assert!(access.grant(&chain, &network, "alys/network").is_err());
//! assert_eq!(access.audit().counts.len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! **Promises**
//! - Without a rule nothing passes.
//! - A limit belongs to its rule: all senders of the one role and all receivers of the other share
//!   it, so that asking for an address again, or for another of the same role, gives nobody more.
//! - Of each refusal there is a count that is never lost, and the last ones are kept whole.
//!
//! **Never** reads a clock; never blocks but for the length of a few instructions; never allocates
//! for a message that passes.

mod audit;
mod bucket;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Instant,
};

pub use audit::{Audit, MAX_TRAIL, Refused, Why};
pub use bucket::{RateLimit, TokenBucket};
pub use table::{
    AccessTable, Builder, Kinds, MAX_KINDS, MAX_ROLE_BYTES, MAX_ROLES, Rule, TableError,
};

use crate::lock;
use audit::Trail;

/// The role of an actor or a connection in the rules. Cheap to clone.
///
/// Only an [`AccessTable`] makes roles, so that each is one that some table knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Role(Arc<str>);

impl Role {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sender and receiver of a [`Grant`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Role of the sender.
    pub from: Role,
    /// Role of the receiver.
    pub to: Role,
    /// Path of the receiver.
    pub target: Arc<str>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} ({})", self.from, self.to, self.target)
    }
}

/// Reason for which an address was not handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No rule lets one role send anything to the other.
    #[error("no rule allows {0}")]
    NoRule(Route),
    /// A role of another table.
    #[error("role {role} is not in the table")]
    UnknownRole {
        /// The role in question.
        role: Role,
    },
}

/// Reason for which a message was refused. Small, and cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rule does not name this kind.
    #[error("{kind} is not allowed from {route}")]
    NotAllowed {
        /// From whom to whom.
        route: Arc<Route>,
        /// Kind of the message.
        kind: &'static str,
    },
    /// The rule's limit is used up for now.
    #[error("{kind} from {route} exceeds {limit}")]
    RateExceeded {
        /// From whom to whom.
        route: Arc<Route>,
        /// Kind of the message.
        kind: &'static str,
        /// The limit.
        limit: RateLimit,
    },
}

impl Refusal {
    /// From whom to whom.
    pub fn route(&self) -> &Arc<Route> {
        match self {
            Self::NotAllowed { route, .. } | Self::RateExceeded { route, .. } => route,
        }
    }

    /// Kind of the message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotAllowed { kind, .. } | Self::RateExceeded { kind, .. } => kind,
        }
    }

    /// The reason alone, as the audit trail counts it.
    pub fn why(&self) -> Why {
        match self {
            Self::NotAllowed { .. } => Why::NotAllowed,
            Self::RateExceeded { .. } => Why::RateExceeded,
        }
    }
}

/// The table at work: hands out grants and keeps the trail. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: AccessTable,
    trail: Mutex<Trail>,
}

impl Access {
    /// Puts a table to work. Its limits begin unused.
    pub fn new(table: AccessTable) -> Self {
        Self(Arc::new(Shared {
            table,
            trail: Mutex::default(),
        }))
    }

    /// The right of `from` to send to the actor at `target`, which plays `to`.
    ///
    /// # Errors
    /// No rule leads from the one role to the other. The denial is in the trail.
    pub fn grant(&self, from: &Role, to: &Role, target: &str) -> Result<Arc<Grant>, Denied> {
        let route = Route {
            from: from.clone(),
            to: to.clone(),
            target: target.into(),
        };
        let denied = match self.0.table.find(from, to) {
            Ok(Some(rule)) => {
                let route = Arc::new(route);
                let shared = self.0.clone();
                return Ok(Arc::new(Grant {
                    route,
                    rule: rule.clone(),
                    shared,
                }));
            }
            Ok(None) => Denied::NoRule(route),
            Err(role) => Denied::UnknownRole { role },
        };
        lock(&self.0.trail).denied(&denied);
        Err(denied)
    }

    /// The rules.
    pub fn table(&self) -> &AccessTable {
        &self.0.table
    }

    /// The refusals so far.
    pub fn audit(&self) -> Audit {
        lock(&self.0.trail).audit()
    }
}

/// The right to send to one actor.
#[derive(Debug)]
pub struct Grant {
    route: Arc<Route>,
    rule: Arc<Rule>,
    shared: Arc<Shared>,
}

impl Grant {
    /// From whom to whom.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Admits a message of this kind, which then counts against the limit; one that is refused does
    /// not.
    ///
    /// # Errors
    /// The reason, which is in the trail.
    pub fn admit(&self, kind: &'static str, now: Instant) -> Result<(), Refusal> {
        let refusal = if !self.rule.kinds().contains(kind) {
            Refusal::NotAllowed {
                route: self.route.clone(),
                kind,
            }
        } else if let Some(limit) = self.rule.exceeded(now) {
            Refusal::RateExceeded {
                route: self.route.clone(),
                kind,
                limit,
            }
        } else {
            return Ok(());
        };
        let is_first = lock(&self.shared.trail).refused(now, &refusal);
        if is_first && matches!(refusal, Refusal::NotAllowed { .. }) {
            // The table forgot a kind, or somebody has taken the sender over.
            tracing::error!(%refusal, "an actor sends what it has no right to; more of it is only counted");
        }
        Err(refusal)
    }
}
