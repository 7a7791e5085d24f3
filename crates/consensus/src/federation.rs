//! How the federation changes along a branch (protocol section 1).

use std::sync::Arc;

use alys_types::federation::Error as SetError;
use alys_types::vote::CertificateError;
use alys_types::{
    Authority, AuthoritySet, Body, FederationChange, FederationOrder, Genesis, Hash, Header,
    Height, VoteKind, bls,
};
use serde::{Deserialize, Serialize};

/// How far below a block the ancestors may be whose finality its body shows. Nodes keep headers and sets of that many
/// final blocks in memory, so that validity never depends on how far a node has pruned.
pub const FINALITY_WINDOW: u64 = 1024;

/// The federation after a block: who decides on its children, and what is about to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationState {
    set: Arc<AuthoritySet>,
    last_order: u64,
    pending: Option<Pending>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pending {
    /// A block carried a change.
    Carried {
        at: Height,
        effective: Height,
        next: Arc<AuthoritySet>,
        shown_final: bool,
    },
    /// A change took effect; the next one has to wait until a block from `effective` on is shown final.
    Settling { effective: Height },
}

/// [`FederationState`] as it is stored; sets are stored beside it under their hash.
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

/// A proper ancestor of the block in question, within [`FINALITY_WINDOW`].
#[derive(Debug, Clone)]
pub struct Ancestor {
    /// Its header.
    pub header: Header,
    /// The set of its height.
    pub set: Arc<AuthoritySet>,
}

/// Why a body's federation part is refused.
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

    /// The federation after a child with this header and body. `ancestor` finds proper ancestors of the child.
    pub fn apply(
        &self,
        genesis: &Genesis,
        header: &Header,
        body: &Body,
        ancestor: impl Fn(&Hash) -> Option<Ancestor>,
    ) -> Result<FederationState, FederationError> {
        let next = self.next(genesis, header.height, body, ancestor)?;
        if next.set.hash() != header.set_hash {
            return Err(FederationError::SetHash {
                header: header.set_hash,
                computed: next.set.hash(),
            });
        }
        Ok(next)
    }

    /// Like [`Self::apply`] for a header that is still to be made.
    pub fn next(
        &self,
        genesis: &Genesis,
        height: Height,
        body: &Body,
        ancestor: impl Fn(&Hash) -> Option<Ancestor>,
    ) -> Result<FederationState, FederationError> {
        let mut next = self.clone();
        for certificate in &body.finality {
            if certificate.target.kind != VoteKind::Confirmation {
                return Err(FederationError::NotFinality);
            }
            let hash = certificate.target.hash;
            let found = ancestor(&hash).ok_or(FederationError::NotAnAncestor { hash })?;
            let target = certificate.target;
            if (target.height, target.slot) != (found.header.height, found.header.slot) {
                return Err(FederationError::NotAnAncestor { hash });
            }
            certificate.verify(&found.set, &genesis.chain_id())?;
            next.on_shown_final(target.height);
        }
        if let Some(order) = &body.federation_change {
            next.on_order(genesis, height, order)?;
        }
        next.on_height(height);
        Ok(next)
    }

    /// The height from which on a finality certificate would move a pending change forward, if one is awaited.
    pub fn awaited_finality(&self) -> Option<Height> {
        match &self.pending {
            Some(Pending::Carried {
                at,
                shown_final: false,
                ..
            }) => Some(*at),
            Some(Pending::Settling { effective }) => Some(*effective),
            _ => None,
        }
    }

    /// True when a change may be carried by the next block.
    pub fn accepts(&self, order: &FederationOrder) -> bool {
        self.pending.is_none() && order.number == self.last_order + 1
    }

    fn on_shown_final(&mut self, height: Height) {
        match &mut self.pending {
            Some(Pending::Carried {
                at, shown_final, ..
            }) if height >= *at => *shown_final = true,
            Some(Pending::Settling { effective }) if height >= *effective => self.pending = None,
            _ => {}
        }
    }

    fn on_order(
        &mut self,
        genesis: &Genesis,
        height: Height,
        order: &FederationOrder,
    ) -> Result<(), FederationError> {
        if self.pending.is_some() {
            return Err(FederationError::ChangeUnderWay);
        }
        if order.number != self.last_order + 1 {
            return Err(FederationError::OrderNumber {
                expected: self.last_order + 1,
                found: order.number,
            });
        }
        if order.effective_height <= height.next() {
            return Err(FederationError::TooSoon {
                carried: height,
                effective: order.effective_height,
            });
        }
        check_signatures(genesis, order)?;
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

    /// After a block at `height`: the change that would take effect for the next height does, or is void.
    fn on_height(&mut self, height: Height) {
        if let Some(Pending::Carried {
            effective,
            next,
            shown_final,
            ..
        }) = &self.pending
            && height.next() >= *effective
        {
            if *shown_final {
                let effective = *effective;
                self.set = next.clone();
                self.pending = Some(Pending::Settling { effective });
            } else {
                self.pending = None;
            }
        }
    }

    /// For the store.
    pub fn to_record(&self) -> FederationRecord {
        let (carried, settling) = match &self.pending {
            Some(Pending::Carried {
                at,
                effective,
                next,
                shown_final,
            }) => (
                Some((*at, *effective, next.authorities().to_vec(), *shown_final)),
                None,
            ),
            Some(Pending::Settling { effective }) => (None, Some(*effective)),
            None => (None, None),
        };
        FederationRecord {
            authorities: self.set.authorities().to_vec(),
            last_order: self.last_order,
            carried,
            settling,
        }
    }

    /// From the store; checks the keys again.
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

    /// A set that a pending change would bring, for followers that see headers only.
    pub fn pending_set(&self) -> Option<&Arc<AuthoritySet>> {
        match &self.pending {
            Some(Pending::Carried { next, .. }) => Some(next),
            _ => None,
        }
    }
}

fn check_signatures(genesis: &Genesis, order: &FederationOrder) -> Result<(), FederationError> {
    let threshold = usize::from(genesis.spec().governance.threshold);
    let ascending = order.signatures.windows(2).all(|w| w[0].0 < w[1].0);
    if threshold == 0 || order.signatures.len() < threshold || !ascending {
        return Err(FederationError::NotSigned);
    }
    let message = order.message(&genesis.hash());
    for (index, signature) in &order.signatures {
        let key = genesis
            .governance()
            .get(usize::from(*index))
            .ok_or(FederationError::NotSigned)?;
        bls::verify(&[key], &message.0, signature).map_err(|_| FederationError::NotSigned)?;
    }
    Ok(())
}

impl FederationState {
    /// Number of the last order carried.
    pub fn last_order(&self) -> u64 {
        self.last_order
    }
}
