//! The table of access rules and its builder.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Instant,
};

use super::{RateLimit, Role, TokenBucket};
use crate::lock;

/// Maximum roles of a table, of which there is about one per actor type. Their square bounds the
/// rules and the counts of the audit trail.
pub const MAX_ROLES: usize = 64;

/// Maximum length of a role's name, in bytes.
pub const MAX_ROLE_BYTES: usize = 64;

/// Maximum kinds that a rule lists, above the number of variants of any message enum.
pub const MAX_KINDS: usize = 256;

/// Messages that a rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kinds {
    /// Every message.
    All,
    /// Messages of these [kinds](crate::Message::kind); 1 to [`MAX_KINDS`].
    Only(BTreeSet<&'static str>),
}

impl Kinds {
    /// Messages of these kinds.
    pub fn only(kinds: impl IntoIterator<Item = &'static str>) -> Self {
        Self::Only(kinds.into_iter().collect())
    }

    /// True if `kind` is allowed.
    pub fn contains(&self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(kinds) => kinds.contains(kind),
        }
    }
}

/// Rule from one role to another, with the state of its rate limit.
#[derive(Debug)]
pub struct Rule {
    kinds: Kinds,
    bucket: Option<Mutex<TokenBucket>>,
    limit: Option<RateLimit>,
}

impl Rule {
    fn new(kinds: Kinds, limit: Option<RateLimit>) -> Self {
        Self {
            kinds,
            limit,
            bucket: limit.map(|limit| Mutex::new(TokenBucket::new(limit))),
        }
    }

    /// Kinds that the rule allows.
    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Rate limit; none if the rate is unlimited.
    pub fn limit(&self) -> Option<RateLimit> {
        self.limit
    }

    /// Counts a message against the limit. Returns the limit if it is exhausted.
    pub(super) fn exceeded(&self, now: Instant) -> Option<RateLimit> {
        let mut bucket = lock(self.bucket.as_ref()?);
        (!bucket.admit(now)).then(|| bucket.limit())
    }
}

/// All roles and the rules between them, immutable once built with [`AccessTable::builder`].
#[derive(Debug, Default)]
pub struct AccessTable {
    roles: BTreeSet<Role>,
    rules: BTreeMap<(Role, Role), Arc<Rule>>,
}

impl AccessTable {
    /// Starts an empty table.
    pub fn builder() -> Builder {
        Builder {
            table: Self::default(),
            error: None,
        }
    }

    /// Looks up a role by name.
    ///
    /// # Errors
    /// [`TableError::UnknownRole`] if the table has no such role.
    pub fn role(&self, name: &str) -> Result<Role, TableError> {
        let known = self.roles.iter().find(|role| role.name() == name);
        known.cloned().ok_or_else(|| TableError::UnknownRole {
            name: name.to_owned(),
        })
    }

    /// All roles, sorted by name.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.iter()
    }

    /// All rules, sorted by the sender's role, then the receiver's.
    pub fn rules(&self) -> impl Iterator<Item = (&Role, &Role, &Rule)> {
        self.rules
            .iter()
            .map(|((from, to), rule)| (from, to, &**rule))
    }

    /// True if a message of this kind may be sent, regardless of rate limits.
    pub fn allows(&self, from: &Role, to: &Role, kind: &str) -> bool {
        matches!(self.find(from, to), Ok(Some(rule)) if rule.kinds.contains(kind))
    }

    /// The rule from one role to another; none if there is none.
    ///
    /// # Errors
    /// The first of the two roles that is not in the table.
    pub(super) fn find(&self, from: &Role, to: &Role) -> Result<Option<&Arc<Rule>>, Role> {
        match [from, to]
            .into_iter()
            .find(|role| !self.roles.contains(*role))
        {
            Some(unknown) => Err(unknown.clone()),
            None => Ok(self.rules.get(&(from.clone(), to.clone()))),
        }
    }
}

/// Builder of an [`AccessTable`]. It stops at the first error, which [`Builder::build`] returns.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    table: AccessTable,
    error: Option<TableError>,
}

impl Builder {
    /// Adds a role; its name is unique and has 1 to [`MAX_ROLE_BYTES`] bytes.
    pub fn role(self, name: &str) -> Self {
        self.step(|table| {
            if name.is_empty() || name.len() > MAX_ROLE_BYTES {
                return Err(TableError::BadRoleName { bytes: name.len() });
            }
            if table.roles.len() >= MAX_ROLES {
                return Err(TableError::TooManyRoles { limit: MAX_ROLES });
            }
            if !table.roles.insert(Role(name.into())) {
                return Err(TableError::RoleTwice {
                    name: name.to_owned(),
                });
            }
            Ok(())
        })
    }

    /// Adds a rule between two roles that were added before; at most one for each ordered pair.
    pub fn allow(self, from: &str, to: &str, kinds: Kinds, limit: Option<RateLimit>) -> Self {
        self.step(|table| {
            let from = table.role(from)?;
            let to = table.role(to)?;
            let names = || (from.name().to_owned(), to.name().to_owned());
            match &kinds {
                Kinds::Only(kinds) if kinds.is_empty() || kinds.len() > MAX_KINDS => {
                    let kinds = kinds.len();
                    let (from, to) = names();
                    return Err(TableError::BadKinds { from, to, kinds });
                }
                Kinds::All | Kinds::Only(_) => {}
            }
            if limit.is_some_and(|limit| limit.burst == 0 || limit.per_second == 0) {
                let (from, to) = names();
                return Err(TableError::ZeroLimit { from, to });
            }
            if table.rules.contains_key(&(from.clone(), to.clone())) {
                let (from, to) = names();
                return Err(TableError::RuleTwice { from, to });
            }
            table
                .rules
                .insert((from, to), Arc::new(Rule::new(kinds, limit)));
            Ok(())
        })
    }

    /// Returns the table.
    ///
    /// # Errors
    /// The first [`TableError`] of the steps before.
    pub fn build(self) -> Result<AccessTable, TableError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.table),
        }
    }

    fn step(mut self, add: impl FnOnce(&mut AccessTable) -> Result<(), TableError>) -> Self {
        if self.error.is_none() {
            self.error = add(&mut self.table).err();
        }
        self
    }
}

/// Error in the definition of a table, always in our own code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A rule or a look-up names a role that was not added.
    #[error("role {name} is unknown")]
    UnknownRole {
        /// Name of the role.
        name: String,
    },
    /// A role was added twice.
    #[error("role {name} is there already")]
    RoleTwice {
        /// Name of the role.
        name: String,
    },
    /// The name of a role is empty or longer than [`MAX_ROLE_BYTES`].
    #[error("a role's name has from 1 to {MAX_ROLE_BYTES} bytes, not {bytes}")]
    BadRoleName {
        /// Length of the name.
        bytes: usize,
    },
    /// The table already has [`MAX_ROLES`] roles.
    #[error("more than {limit} roles")]
    TooManyRoles {
        /// [`MAX_ROLES`].
        limit: usize,
    },
    /// A pair of roles has two rules, which would be ambiguous.
    #[error("there is a rule from {from} to {to} already")]
    RuleTwice {
        /// Role of the sender.
        from: String,
        /// Role of the receiver.
        to: String,
    },
    /// The number of listed kinds is out of bounds: a rule without kinds equals no rule, and one
    /// with more than [`MAX_KINDS`] should be [`Kinds::All`].
    #[error("the rule from {from} to {to} names {kinds} kinds, not from 1 to {MAX_KINDS}")]
    BadKinds {
        /// Role of the sender.
        from: String,
        /// Role of the receiver.
        to: String,
        /// Number of kinds.
        kinds: usize,
    },
    /// The burst or the rate of a limit is zero, so that messages would never pass, or stop
    /// passing.
    #[error("the limit from {from} to {to} has a zero")]
    ZeroLimit {
        /// Role of the sender.
        from: String,
        /// Role of the receiver.
        to: String,
    },
}
