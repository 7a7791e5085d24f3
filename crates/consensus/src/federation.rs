//! Changes of the federation along a branch (rule 1.7, docs/protocol.md).

use std::sync::Arc;

use alys_types::federation::Error as SetError;
pub use alys_types::limits::FINALITY_WINDOW;
use alys_types::{
    Authority, AuthoritySet, Body, Certificate, FederationChange, Genesis, Hash, Header, Height,
    Order, SetChange, VoteKind, bls,
};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::rules::{self, CertificateError};

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

/// The reason for which a body's finality certificates or orders are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FederationError {
    #[error("finality certificate of {hash}, which is no ancestor within {FINALITY_WINDOW} blocks")]
    NotAnAncestor { hash: Hash },
    #[error("a certificate in the body is not of confirmations")]
    NotFinality,
    #[error("finality certificate in the body: {0}")]
    Certificate(#[from] CertificateError),
    #[error("the finality certificate of {hash} in the body serves no purpose")]
    NoPurpose { hash: Hash },
    #[error("order {number} is a {kind}, which this version of the rules does not admit")]
    NotAdmitted { number: u64, kind: &'static str },
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
        let mut is_range_shown = false;
        for certificate in &body.finality {
            let shown = check_finality(certificate, config, &ancestor)?;
            let shows_range = !is_range_shown && rules::shows_range_final(body, shown, &ancestor);
            is_range_shown |= shows_range;
            let has_purpose = next.on_shown_final(shown) || shows_range;
            rules::check_purpose(has_purpose, certificate)?;
        }
        for order in &body.orders {
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
    pub fn accepts(&self, order: &Order) -> bool {
        self.pending.is_none() && order.number == self.next_order()
    }

    /// Number of the last order carried.
    pub fn last_order(&self) -> u64 {
        self.last_order
    }

    fn next_order(&self) -> u64 {
        self.last_order.saturating_add(1)
    }

    /// A block at a height was shown final. True if the change under way awaited it, which is the
    /// purpose of a certificate (rule 2.3).
    fn on_shown_final(&mut self, height: Height) -> bool {
        match &mut self.pending {
            Some(Pending::Carried {
                at, shown_final, ..
            }) if !*shown_final && height >= *at => {
                *shown_final = true;
                true
            }
            Some(Pending::Settling { effective }) if height >= *effective => {
                self.pending = None;
                true
            }
            Some(Pending::Carried { .. } | Pending::Settling { .. }) | None => false,
        }
    }

    fn on_order(
        &mut self,
        config: &Config,
        height: Height,
        order: &Order,
    ) -> Result<(), FederationError> {
        let SetChange {
            change,
            effective_height,
        } = order.set_change().ok_or(FederationError::NotAdmitted {
            number: order.number,
            kind: order.content.kind(),
        })?;
        if !rules::may_carry(self.pending.is_some(), &config.planted_bug) {
            return Err(FederationError::ChangeUnderWay);
        }
        if order.number != self.next_order() {
            return Err(FederationError::OrderNumber {
                expected: self.next_order(),
                found: order.number,
            });
        }
        if *effective_height <= height.next() {
            return Err(FederationError::TooSoon {
                carried: height,
                effective: *effective_height,
            });
        }
        check_signatures(config, order)?;
        let mut authorities = self.set.authorities().to_vec();
        match change {
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
            effective: *effective_height,
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

fn check_signatures(config: &Config, order: &Order) -> Result<(), FederationError> {
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

#[cfg(test)]
mod tests {
    use alys_types::bls::SecretKey;
    use alys_types::order::Halt;
    use alys_types::spec::{ChainSpec, GovernanceSpec};
    use alys_types::{Address, ExecutionPayload, OrderContent, Slot, VoteTarget};

    use super::*;

    fn key(index: u8) -> SecretKey {
        SecretKey::derive_stand_in(&[index + 1; 32])
    }

    /// The key of governance.
    const GOVERNANCE: u8 = 100;

    struct World {
        config: Config,
        four: Arc<AuthoritySet>,
        /// Without authority 3, from height 20 on.
        three: Arc<AuthoritySet>,
    }

    impl World {
        fn new() -> World {
            let authorities: Vec<Authority> = (0..4).map(authority).collect();
            let three = authorities.iter().take(3).cloned().collect();
            let spec = ChainSpec {
                governance: GovernanceSpec {
                    threshold: 1,
                    keys: vec![key(GOVERNANCE).public_key().to_bytes()],
                },
                ..ChainSpec::development(1, Slot(1), 2000, Hash([9; 32]), authorities)
            };
            let genesis = Arc::new(Genesis::new(spec).expect("a good spec"));
            World {
                four: Arc::new(genesis.set().clone()),
                three: Arc::new(
                    AuthoritySet::new(three, genesis.set().fault_model()).expect("good"),
                ),
                config: Config::new(genesis, None),
            }
        }

        fn set_at(&self, height: u64) -> &Arc<AuthoritySet> {
            if height < 20 { &self.four } else { &self.three }
        }

        fn header(&self, height: u64) -> Header {
            Header {
                height: Height(height),
                slot: Slot(height + 1),
                ..self.config.genesis.header().clone()
            }
        }

        /// The finality certificate of the block at a height.
        fn certificate(&self, height: u64) -> Certificate {
            let header = self.header(height);
            let target = VoteTarget {
                kind: VoteKind::Confirmation,
                height: header.height,
                slot: header.slot,
                hash: header.hash(),
            };
            let set = self.set_at(height);
            let message = target.message(&self.config.genesis.chain_id());
            let sign = |index| (index, key(index).sign(&message.0));
            let votes: Vec<_> = (0..set.len() as u8).map(sign).collect();
            Certificate::aggregate(target, &votes, set).expect("all of the set")
        }

        fn order(&self, content: OrderContent) -> Order {
            let mut order = Order {
                number: 1,
                content,
                signatures: Vec::new(),
            };
            let message = order.message(&self.config.genesis.hash());
            order.signatures = vec![(0, key(GOVERNANCE).sign(&message.0))];
            order
        }

        fn next(
            &self,
            before: &FederationState,
            height: u64,
            shown: &[u64],
            orders: Vec<Order>,
        ) -> Result<FederationState, FederationError> {
            let body = Body {
                finality: shown
                    .iter()
                    .map(|height| self.certificate(*height))
                    .collect(),
                orders,
                ..Body::of(empty_payload())
            };
            let ancestor = |wanted: &Hash| {
                let all = (1..height).map(|height| self.header(height));
                let header = all.into_iter().find(|header| header.hash() == *wanted)?;
                let set = self.set_at(header.height.0).clone();
                Some(Ancestor { header, set })
            };
            before.next(&self.config, Height(height), &body, ancestor)
        }

        fn check_no_purpose(
            &self,
            before: &FederationState,
            height: u64,
            shown: &[u64],
            last: u64,
        ) {
            let refused = self.next(before, height, shown, Vec::new());
            let hash = self.header(last).hash();
            assert_eq!(
                refused,
                Err(FederationError::NoPurpose { hash }),
                "{height}: {shown:?}"
            );
        }
    }

    fn authority(index: u8) -> Authority {
        Authority {
            public_key: key(index).public_key().to_bytes(),
            proof_of_possession: key(index).prove_possession(),
            fee_address: Address([index; 20]),
        }
    }

    fn empty_payload() -> ExecutionPayload {
        ExecutionPayload {
            parent_hash: Hash::ZERO,
            fee_recipient: Address::default(),
            state_root: Hash::ZERO,
            receipts_root: Hash::ZERO,
            logs_bloom: [0; 256],
            prev_randao: Hash::ZERO,
            block_number: 0,
            gas_limit: 0,
            gas_used: 0,
            timestamp: 0,
            extra_data: Vec::new(),
            base_fee_per_gas: [0; 32],
            block_hash: Hash::ZERO,
            transactions: Vec::new(),
            withdrawals: Vec::new(),
            blob_gas: None,
        }
    }

    #[test]
    fn a_certificate_without_a_purpose_makes_a_body_invalid() {
        let world = World::new();
        let first = FederationState::genesis(&world.config.genesis);
        world.check_no_purpose(&first, 5, &[4], 4);

        let removal = world.order(OrderContent::Federation(SetChange {
            change: FederationChange::Remove(key(3).public_key().to_bytes()),
            effective_height: Height(20),
        }));
        let next = |before, height, shown: &[u64]| world.next(before, height, shown, Vec::new());
        let carried = world.next(&first, 10, &[], vec![removal]).expect("carried");
        assert_eq!(carried.awaited_finality(), Some(Height(10)));
        world.check_no_purpose(&carried, 11, &[9], 9);
        world.check_no_purpose(&carried, 13, &[10, 12], 12);
        let shown = next(&carried, 13, &[11]).expect("a descendant shows the change final");
        world.check_no_purpose(&shown, 14, &[12], 12);

        let settling = next(&shown, 19, &[]).expect("the last block of the old set");
        assert_eq!(settling.set().hash(), world.three.hash());
        world.check_no_purpose(&settling, 22, &[19], 19);
        let settled = next(&settling, 22, &[20]).expect("a block of the new set is final");
        assert_eq!(settled.awaited_finality(), None);
        world.check_no_purpose(&settled, 23, &[21], 21);
    }

    #[test]
    fn orders_other_than_federation_changes_are_not_admitted() {
        let world = World::new();
        let first = FederationState::genesis(&world.config.genesis);
        let halt = world.order(OrderContent::Halt(Halt {
            deposits: true,
            payouts: true,
        }));
        let refused = world.next(&first, 5, &[], vec![halt]);
        let (number, kind) = (1, "halt");
        assert_eq!(refused, Err(FederationError::NotAdmitted { number, kind }));
    }
}
