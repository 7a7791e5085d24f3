//! The state machine of one node.

mod blocks;
mod certify;
mod execute;
mod finalize;
mod ledger;
mod propose;
mod query;
mod rejoin;
mod resend;
mod time;
mod votes;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_types::bls::PublicKeyBytes;
use alys_types::wire::HeldVotes;
use alys_types::{AuthoritySet, Block, Certificate, Hash, Header, Order, Slot};

pub(crate) use ledger::Settled;
use propose::Building;
pub use query::{Sizes, Summary};
use work::WorkDesk;

use crate::clock::ClockWatchdog;
use crate::config::Config;
use crate::evidence::EquivocationDetector;
use crate::input::{BlockRef, Effect, Input, Now, Record, VoteState};
use crate::rules::{self, PlantedBug, Refusal};
use crate::tree::Tree;
use crate::verify::{CertifiedBlock, VerifiedVote};

/// The data that a proposal is checked against.
#[derive(Debug, Clone)]
pub struct ProposalContext {
    pub parent: Header,
    pub parent_hash: Hash,
    /// The set of the parent's height.
    pub parent_set: Arc<AuthoritySet>,
    /// The set of the proposal's height.
    pub set: Arc<AuthoritySet>,
}

/// The state machine: takes inputs, returns effects.
#[derive(Debug)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) tree: Tree,
    /// Finality certificate of the root; none while it is genesis.
    pub(crate) root_finality: Option<Certificate>,
    pub(crate) votes: VoteState,
    /// The vote state of the last record.
    written: VoteState,
    /// Own latest proposal, to rebroadcast it while its slot lasts.
    pub(crate) own_proposal: Option<Arc<Block>>,
    /// The connected certified block with the highest slot.
    pub(crate) highest: Hash,
    pub(crate) sets: BTreeMap<Hash, Arc<AuthoritySet>>,
    /// Votes that arrived before their block, by its hash.
    buffered_votes: BTreeMap<Hash, Vec<VerifiedVote>>,
    /// A certified block that does not connect yet, always of a higher slot than [`Self::highest`].
    sync_target: Option<CertifiedBlock>,
    equivocations: EquivocationDetector,
    clock: ClockWatchdog,
    /// The notice that the highest approved slot is ahead of the clock was given.
    is_ahead_reported: bool,
    /// The latest votes of each authority, by key.
    latest_votes: BTreeMap<PublicKeyBytes, HeldVotes>,
    /// The execution layer's head, and the last final and the last PoW-final block at the time it
    /// was set.
    forkchoice: Option<(Hash, Hash, Hash)>,
    /// The payload that the execution layer is building, or one without transactions that was
    /// refused too.
    building: Option<Building>,
    /// The ledger after the last final block whose additions are known.
    pub(crate) settled: Settled,
    /// Proofs of work to carry, and the work that miners have.
    work: WorkDesk,
    /// The slot in which a payload of the own execution layer was refused: another one of this slot
    /// has no transactions.
    refused_slot: Option<Slot>,
    /// Own proposals since the last certified one, the latest [`propose::MAX_FAILED_PROPOSALS`].
    uncertified: Vec<Hash>,
    /// The own turns without a payload in time, since the last payload with transactions.
    without_payload: Vec<Slot>,
    /// The certified block that was last reported as invalid for the own execution layer.
    disputed: Option<Hash>,
    /// Federation change to carry.
    order: Option<Order>,
    /// The slot of the last tick.
    last_slot: Slot,
    /// A block became final in the slot of the last tick.
    has_finalized: bool,
    traced: Traced,
}

/// The refusals that were traced last, by the vote that they refused.
#[derive(Debug, Default)]
struct Traced {
    proposal: Option<Refusal>,
    approval: Option<Refusal>,
    confirmation: Option<Refusal>,
}

impl State {
    /// A node with the votes `votes` on a restored tree. `now` is the time of the start,
    /// `trusted_ms` see [`State::restore`].
    pub(crate) fn assemble(
        config: Config,
        tree: Tree,
        votes: Option<VoteState>,
        now: Now,
        trusted_ms: Option<i64>,
    ) -> State {
        let genesis = config.genesis.clone();
        let spec = genesis.spec();
        let first = BlockRef {
            slot: genesis.header().slot,
            hash: genesis.hash(),
        };
        let votes = votes.unwrap_or(VoteState::fresh(first));
        let mut state = State {
            votes,
            written: votes,
            own_proposal: None,
            root_finality: None,
            highest: tree.root(),
            tree,
            sets: BTreeMap::new(),
            buffered_votes: BTreeMap::new(),
            sync_target: None,
            equivocations: EquivocationDetector::default(),
            clock: ClockWatchdog::new(spec.drift_allowance_ms, trusted_ms),
            is_ahead_reported: false,
            latest_votes: BTreeMap::new(),
            forkchoice: None,
            building: None,
            settled: Settled::genesis(&genesis),
            work: WorkDesk::default(),
            refused_slot: None,
            uncertified: Vec::new(),
            without_payload: Vec::new(),
            disputed: None,
            order: None,
            last_slot: Slot::at(now.wall_ms, spec.slot_duration_ms),
            has_finalized: false,
            traced: Traced::default(),
            config,
        };
        state.remember_set(Arc::new(genesis.set().clone()));
        state
    }

    /// Takes an input at a time, and returns the effects in order. All effects of one input are
    /// carried out before the next input is given; their results (the own vote, an answer) are
    /// inputs of their own.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        self.observe_clock(now, &mut out);
        match input {
            Input::Tick => self.on_tick(now, &mut out),
            Input::Proposal(proposal) => self.on_proposal(proposal, now, &mut out),
            Input::Vote(vote) => self.on_vote(vote, now, &mut out),
            Input::Certified(block) => self.on_certified(block, now, &mut out),
            Input::Body(body) => self.on_body(body, now, &mut out),
            Input::Executed { hash, verdict } => self.on_executed(hash, verdict, now, &mut out),
            Input::Accounted { hash, additions } => {
                self.on_accounted(hash, additions, now, &mut out);
            }
            Input::FinalLoaded { height, stored } => {
                self.on_final_loaded(height, stored, now, &mut out);
            }
            Input::Proof(proof) => self.hold_proof(proof),
            Input::Built {
                slot,
                parent,
                payload,
            } => self.on_built(slot, parent, *payload, now, &mut out),
            Input::BuildFailed { slot, parent } => self.on_build_failed(slot, parent),
            Input::ExecutionRestarted => self.on_execution_restarted(now, &mut out),
            Input::PeerConnected => self.rebroadcast(now, &mut out),
            Input::HeldVote(vote) => self.on_held_vote(vote, now, &mut out),
            Input::Order(order) => {
                // No rule in force admits another order, and it would displace a change that waits.
                if order.set_change().is_some() {
                    self.order = Some(*order);
                }
            }
            Input::ClockConfirmed => self.trust_clock(now, &mut out),
            Input::ClockStated { authority, slot } => {
                self.on_clock_stated(&authority, slot, now, &mut out);
            }
        }
        self.end_silence(now, &mut out);
        self.offer_work(now, &mut out);
        rules::assert_written(&self.votes, &self.written, self.bug());
        out
    }

    fn bug(&self) -> &PlantedBug {
        &self.config.planted_bug
    }

    /// Permission to sign anything at all.
    fn may_vote(&self) -> Result<(), Refusal> {
        rules::may_vote(&self.votes, self.clock.is_trusted(), self.bug())
    }

    fn is_silent(&self) -> bool {
        self.may_vote().is_err()
    }

    /// True when the wall clock is in a slot, give or take the drift allowance.
    fn is_in_slot(&self, slot: Slot, now: Now) -> bool {
        rules::may_sign_in(slot, self.config.genesis.spec(), now, self.bug()).is_ok()
    }

    /// Own index in a set.
    pub(crate) fn index_in(&self, set: &AuthoritySet) -> Option<u8> {
        set.index_of(self.config.me.as_ref()?)
    }

    /// A record of the vote state.
    fn record(&mut self) -> Record {
        Record {
            votes: self.votes_to_write(),
            ..Record::default()
        }
    }

    fn votes_to_write(&mut self) -> Option<VoteState> {
        let votes = rules::votes_to_write(self.votes, &self.written, self.bug())?;
        self.written = votes;
        Some(votes)
    }
}

/// Emits a refusal if it differs from the last one of its kind.
fn trace(last: &mut Option<Refusal>, refusal: Refusal, out: &mut Vec<Effect>) {
    if last.replace(refusal) != Some(refusal) {
        out.push(Effect::Trace(refusal));
    }
}
