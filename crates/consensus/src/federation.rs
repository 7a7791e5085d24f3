//! Changes of the federation along a branch (rule 1.7, docs/protocol.md).

use std::sync::Arc;

use alys_types::federation::Error as SetError;
use alys_types::{
    Authority, AuthoritySet, Body, Certificate, FederationChange, FederationOrder, Genesis, Hash,
    Header, Height, VoteKind, bls,
};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::rules::{self, CertificateError};

/// Largest distance, in blocks, between a body and the ancestor whose finality it shows. Nodes keep
/// headers and sets of that many final blocks in memory, so that validity does not depend on
/// pruning.
pub const FINALITY_WINDOW: u64 = 1024;

/// The federation after a block: the set that decides on its children, and the change under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationState {
    set: Arc<AuthoritySet>,
    last_order: u64,
    pending: Option<Pending>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pending {
    /// The block at height `at` carried a change, which replaces the set by `next` from `effective`
    /// on.
    Carried {
        at: Height,
        effective: Height,
        next: Arc<AuthoritySet>,
        shown_final: bool,
    },
    /// A change took effect; the next one may be carried once a block from `effective` on is shown
    /// final.
    Settling { effective: Height },
}

/// The stored form of [`FederationState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FederationRecord {
    /// The set of the next height.
    pub authorities: Vec<Authority>,
    /// Number of the last order carried.
    pub last_order: u64,
    /// A change that was carried: (carried at, effective at, authorities after, shown final).
    pub carried: Option<(Height, Height, Vec<Authority>, bool)>,
    /// A change that took effect at this height and is not yet shown final.
    pub settling: Option<Height>,
}

/// A proper ancestor of a block, within [`FINALITY_WINDOW`].
#[derive(Debug, Clone)]
pub struct Ancestor {
    pub header: Header,
    /// The set of its height.
    pub set: Arc<AuthoritySet>,
}

/// The reason for which a body's finality certificates or federation change are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FederationError {
    #[error("finality certificate of {hash}, which is no ancestor within {FINALITY_WINDOW} blocks")]
    NotAnAncestor { hash: Hash },
    #[error("a certificate in the body is not of confirmations")]
    NotFinality,
    #[error("finality certificate in the body: {0}")]
    Certificate(#[from] CertificateError),
    #[error("a federation change is already under way")]
    ChangeUnderWay,
    #[error("order has number {found}, the next one is {expected}")]
    OrderNumber { expected: u64, found: u64 },
    #[error("change carried at {carried} cannot take effect at {effective}")]
    TooSoon { carried: Height, effective: Height },
    #[error("order lacks the signatures of governance")]
    NotSigned,
    #[error("the set has no authority with the key to remove")]
    NoSuchAuthority,
    #[error("changed federation: {0}")]
    Set(#[from] SetError),
    #[error("header says set {header}, the branch gives {computed}")]
    SetHash { header: Hash, computed: Hash },
}

impl FederationState {
    /// The federation after genesis.
    pub fn genesis(genesis: &Genesis) -> FederationState {
        FederationState {
            set: Arc::new(genesis.set().clone()),
            last_order: 0,
            pending: None,
        }
    }

    /// The set of the next height.
    pub fn set(&self) -> &Arc<AuthoritySet> {
        &self.set
    }

    /// The federation after a child with this header and body. `ancestor` finds proper ancestors of
    /// the child.
    pub fn apply(
        &self,
        config: &Config,
        header: &Header,
        body: &Body,
        ancestor: impl Fn(&Hash) -> Option<Ancestor>,
    ) -> Result<FederationState, FederationError> {
        let next = self.next(config, header.height, body, ancestor)?;
        if next.set.hash() != header.set_hash {
            return Err(FederationError::SetHash {
                header: header.set_hash,
                computed: next.set.hash(),
            });
        }
        Ok(next)
    }

    /// The federation after a child at `height` with this body, to make its header.
    pub fn next(
        &self,
        config: &Config,
        height: Height,
        body: &Body,
        ancestor: impl Fn(&Hash) -> Option<Ancestor>,
    ) -> Result<FederationState, FederationError> {
        let mut next = self.clone();
        for certificate in &body.finality {
            next.on_shown_final(check_finality(certificate, config, &ancestor)?);
        }
        if let Some(order) = &body.federation_change {
            next.on_order(config, height, order)?;
        }
        next.on_height(height, config);
        Ok(next)
    }

    /// The lowest height whose finality certificate would advance the change under way, if one is
    /// awaited.
    pub fn awaited_finality(&self) -> Option<Height> {
        match self.pending.as_ref()? {
            Pending::Carried {
                at,
                shown_final: false,
                ..
            } => Some(*at),
            Pending::Settling { effective } => Some(*effective),
            Pending::Carried {
                shown_final: true, ..
            } => None,
        }
    }

    /// True when a change may be carried by the next block.
    pub fn accepts(&self, order: &FederationOrder) -> bool {
        self.pending.is_none() && order.number == self.next_order()
    }

    /// Number of the last order carried.
    pub fn last_order(&self) -> u64 {
        self.last_order
    }

    fn next_order(&self) -> u64 {
        self.last_order.saturating_add(1)
    }

    fn on_shown_final(&mut self, height: Height) {
        match &mut self.pending {
            Some(Pending::Carried {
                at, shown_final, ..
            }) => *shown_final |= height >= *at,
            Some(Pending::Settling { effective }) if height >= *effective => self.pending = None,
            Some(Pending::Settling { .. }) | None => {}
        }
    }

    fn on_order(
        &mut self,
        config: &Config,
        height: Height,
        order: &FederationOrder,
    ) -> Result<(), FederationError> {
        if !rules::may_carry(self.pending.is_some(), &config.planted_bug) {
            return Err(FederationError::ChangeUnderWay);
        }
        if order.number != self.next_order() {
            return Err(FederationError::OrderNumber {
                expected: self.next_order(),
                found: order.number,
            });
        }
        if order.effective_height <= height.next() {
            return Err(FederationError::TooSoon {
                carried: height,
                effective: order.effective_height,
            });
        }
        check_signatures(config, order)?;
        let mut authorities = self.set.authorities().to_vec();
        match &order.change {
            FederationChange::Add(authority) => authorities.push(authority.clone()),
            FederationChange::Remove(key) => {
                let before = authorities.len();
                authorities.retain(|a| a.public_key != *key);
                if authorities.len() == before {
                    return Err(FederationError::NoSuchAuthority);
                }
            }
        }
        let next = Arc::new(AuthoritySet::new(authorities, self.set.fault_model())?);
        self.last_order = order.number;
        self.pending = Some(Pending::Carried {
            at: height,
            effective: order.effective_height,
            next,
            shown_final: false,
        });
        Ok(())
    }

    /// Ends a block at `height`: a change that is due at the next height takes effect if it was
    /// shown final, and is void otherwise.
    fn on_height(&mut self, height: Height, config: &Config) {
        if let Some(Pending::Carried {
            effective,
            next,
            shown_final,
            ..
        }) = &self.pending
            && height.next() >= *effective
        {
            if rules::takes_effect(*shown_final, &config.planted_bug) {
                let effective = *effective;
                self.set = next.clone();
                self.pending = Some(Pending::Settling { effective });
            } else {
                self.pending = None;
            }
        }
    }

    /// The stored form.
    pub fn to_record(&self) -> FederationRecord {
        let mut record = FederationRecord {
            authorities: self.set.authorities().to_vec(),
            last_order: self.last_order,
            carried: None,
            settling: None,
        };
        match &self.pending {
            Some(Pending::Carried {
                at,
                effective,
                next,
                shown_final,
            }) => {
                let next = next.authorities().to_vec();
                record.carried = Some((*at, *effective, next, *shown_final));
            }
            Some(Pending::Settling { effective }) => record.settling = Some(*effective),
            None => {}
        }
        record
    }

    /// Restores the state, and checks the keys again.
    pub fn from_record(
        record: FederationRecord,
        genesis: &Genesis,
    ) -> Result<FederationState, FederationError> {
        let model = genesis.spec().fault_model;
        let pending = match (record.carried, record.settling) {
            (Some((at, effective, next, shown_final)), _) => {
                let next = Arc::new(AuthoritySet::new(next, model)?);
                Some(Pending::Carried {
                    at,
                    effective,
                    next,
                    shown_final,
                })
            }
            (None, Some(effective)) => Some(Pending::Settling { effective }),
            (None, None) => None,
        };
        let set = Arc::new(AuthoritySet::new(record.authorities, model)?);
        Ok(FederationState {
            set,
            last_order: record.last_order,
            pending,
        })
    }

    /// The set that the change under way would bring, for followers that see headers only.
    pub fn pending_set(&self) -> Option<&Arc<AuthoritySet>> {
        match self.pending.as_ref()? {
            Pending::Carried { next, .. } => Some(next),
            Pending::Settling { .. } => None,
        }
    }
}

/// Checks a finality certificate in a body; returns the height that it shows final.
fn check_finality(
    certificate: &Certificate,
    config: &Config,
    ancestor: &impl Fn(&Hash) -> Option<Ancestor>,
) -> Result<Height, FederationError> {
    let target = certificate.target;
    let hash = target.hash;
    if target.kind != VoteKind::Confirmation {
        return Err(FederationError::NotFinality);
    }
    let found = ancestor(&hash).ok_or(FederationError::NotAnAncestor { hash })?;
    if (target.height, target.slot) != (found.header.height, found.header.slot) {
        return Err(FederationError::NotAnAncestor { hash });
    }
    rules::check_certificate(certificate, &found.set, config)?;
    Ok(target.height)
}

fn check_signatures(config: &Config, order: &FederationOrder) -> Result<(), FederationError> {
    let genesis = &config.genesis;
    let threshold = usize::from(genesis.spec().governance.threshold);
    let is_ascending = order.signatures.is_sorted_by(|a, b| a.0 < b.0);
    if threshold == 0 || order.signatures.len() < threshold || !is_ascending {
        return Err(FederationError::NotSigned);
    }
    let message = rules::order_message(order, &genesis.hash(), &config.planted_bug);
    for (index, signature) in &order.signatures {
        let key = genesis
            .governance()
            .get(usize::from(*index))
            .ok_or(FederationError::NotSigned)?;
        bls::verify(&[key], &message.0, signature).map_err(|_| FederationError::NotSigned)?;
    }
    Ok(())
}
