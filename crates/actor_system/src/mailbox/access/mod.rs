//! Access rules for messages: roles, rules between them, and an audit trail of refusals.
//!
//! **Owns** the table of rules, their rate limits, and the audit trail.
//!
//! A rule allows actors of one [`Role`] to send messages of certain kinds to actors of another, up
//! to a rate limit. It is checked when an address is looked up ([`Access::grant`]) and at each
//! message ([`Grant::admit`]). Everything else is refused.
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
//! - A message passes only under a rule.
//! - A limit belongs to its rule: all senders of one role and all receivers of the other share it,
//!   so a second look-up, or an address of another actor with the same role, does not raise it.
//! - Every refusal is counted, and the most recent ones are kept in full.
//!
//! **Never** reads a clock; never holds a lock for more than a few instructions; never allocates
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

/// The role of an actor or a connection in the access rules. Cheap to clone.
///
/// Roles are created only by an [`AccessTable`], so each belongs to some table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Role(Arc<str>);

impl Role {
    /// Name of the role: 1 to [`MAX_ROLE_BYTES`] bytes.
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
    /// Full path of the receiver.
    pub target: Arc<str>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} ({})", self.from, self.to, self.target)
    }
}

/// Error of [`Access::grant`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No rule leads from the sender's role to the receiver's.
    #[error("no rule allows {0}")]
    NoRule(Route),
    /// The role belongs to another table.
    #[error("role {role} is not in the table")]
    UnknownRole {
        /// The unknown role; the sender's if both are unknown.
        role: Role,
    },
}

/// Error of [`Grant::admit`]. Small and cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rule does not allow this kind.
    #[error("{kind} is not allowed from {route}")]
    NotAllowed {
        /// Roles of sender and receiver, and path of the receiver.
        route: Arc<Route>,
        /// Kind of the message.
        kind: &'static str,
    },
    /// The rule's rate limit is exhausted at the moment.
    #[error("{kind} from {route} exceeds {limit}")]
    RateExceeded {
        /// Roles of sender and receiver, and path of the receiver.
        route: Arc<Route>,
        /// Kind of the message.
        kind: &'static str,
        /// Limit of the rule.
        limit: RateLimit,
    },
}

impl Refusal {
    /// Roles of sender and receiver, and path of the receiver.
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

    /// The reason without details, as the audit trail counts it.
    pub fn why(&self) -> Why {
        match self {
            Self::NotAllowed { .. } => Why::NotAllowed,
            Self::RateExceeded { .. } => Why::RateExceeded,
        }
    }
}

/// Enforces a table: issues grants and records refusals. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: AccessTable,
    trail: Mutex<Trail>,
}

impl Access {
    /// Enforces `table`. Its rate limits start with full bursts.
    pub fn new(table: AccessTable) -> Self {
        Self(Arc::new(Shared {
            table,
            trail: Mutex::default(),
        }))
    }

    /// Issues the right of `from` to send to the actor at path `target`, which has the role `to`.
    ///
    /// # Errors
    /// [`Denied`] if no rule leads from one role to the other. The denial is recorded in the trail.
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

    /// The enforced rules.
    pub fn table(&self) -> &AccessTable {
        &self.0.table
    }

    /// A copy of the audit trail.
    pub fn audit(&self) -> Audit {
        lock(&self.0.trail).audit()
    }
}

/// The right of one role to send to one actor.
#[derive(Debug)]
pub struct Grant {
    route: Arc<Route>,
    rule: Arc<Rule>,
    shared: Arc<Shared>,
}

impl Grant {
    /// Roles of sender and receiver, and path of the receiver.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Admits a message of this kind and counts it against the rate limit. A refused message does
    /// not count.
    ///
    /// # Errors
    /// [`Refusal`] if the rule does not allow the kind or its limit is exhausted. The refusal is
    /// recorded in the trail.
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
            // Either the table lacks a kind, or the sender is compromised.
            tracing::error!(
                %refusal,
                "an actor sends what it has no right to; more of it is only counted"
            );
        }
        Err(refusal)
    }
}
