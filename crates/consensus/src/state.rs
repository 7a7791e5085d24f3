//! The state machine of one node.

mod agree;
mod execute;
mod propose;
mod speak;

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_types::bls::PublicKeyBytes;
use alys_types::mutant::{self, Mutant};
use alys_types::wire::{CertifiedHeader, HeldVotes};
use alys_types::{
    AuthoritySet, Block, FederationOrder, Genesis, Hash, Header, Height, Slot, Vote, VoteKind,
};

use crate::clock::{Change, Watchdog};
use crate::evidence::Watch;
use crate::input::{BlockRef, Effect, Input, Notice, Now, Record, VoteState};
use crate::tree::{Entry, Execution, Tree};
use crate::verify::{CertifiedBlock, VerifiedVote};

/// Votes kept that came before their block, for one signer.
const MAX_WAITING_PER_SIGNER: usize = 8;
/// Slots ahead of the clock whose proposals are kept until their time comes.
const EARLY_SLOTS: u64 = 2;
/// Proposals of one slot that are kept: an honest leader makes one, and two are evidence.
const MAX_OF_A_SLOT: usize = 2;
/// Sets that are remembered by hash.
const MAX_SETS: usize = 32;

/// Who the node is and which chain it follows.
#[derive(Debug, Clone)]
pub struct Config {
    /// The chain.
    pub genesis: Arc<Genesis>,
    /// The authority whose key this node signs with; `None` for a full node.
    pub me: Option<PublicKeyBytes>,
}

/// What a proposal is checked against.
#[derive(Debug, Clone)]
pub struct ProposalContext {
    /// The parent's header.
    pub parent: Header,
    /// Its hash.
    pub parent_hash: Hash,
    /// The set of the parent's height.
    pub parent_set: Arc<AuthoritySet>,
    /// The set of the proposal's height.
    pub set: Arc<AuthoritySet>,
}

/// Where a node stands, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The certified block with the highest slot.
    pub highest: BlockRef,
    /// Its height.
    pub highest_height: Height,
    /// The last final block.
    pub finalized: BlockRef,
    /// Its height.
    pub final_height: Height,
    /// What the execution layer was told is the head.
    pub head: Hash,
    /// Its height.
    pub head_height: Height,
    /// The vote state.
    pub votes: VoteState,
    /// True while the node may not vote: clock distrusted or votes lost.
    pub silent: bool,
    /// True when the head is the highest certified block and executed.
    pub synced: bool,
    /// Entries above the last final block.
    pub entries: usize,
}

/// The state machine. Give it inputs, carry out the effects in order.
#[derive(Debug)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) tree: Tree,
    /// Finality certificate of the root; none while it is genesis.
    pub(crate) root_finality: Option<alys_types::Certificate>,
    pub(crate) votes: VoteState,
    /// The vote state as it was last written.
    written: VoteState,
    /// Own latest proposal, to send it again while its slot lasts.
    pub(crate) own_proposal: Option<Arc<Block>>,
    pub(crate) highest: Hash,
    pub(crate) sets: BTreeMap<Hash, Arc<AuthoritySet>>,
    waiting: BTreeMap<Hash, Vec<VerifiedVote>>,
    /// A certified block that does not connect yet. Always of a higher slot than the highest certified one that does.
    target: Option<CertifiedBlock>,
    watch: Watch,
    clock: Watchdog,
    /// The latest votes of each authority, by key.
    held: BTreeMap<PublicKeyBytes, HeldVotes>,
    /// Head as last told to the execution layer, with the root of that moment.
    told: Option<(Hash, Hash)>,
    /// The payload that is being built, for (slot, parent).
    building: Option<(Slot, Hash)>,
    /// Federation change to carry.
    order: Option<FederationOrder>,
    /// The slot in which the last tick was, and whether something became final since.
    last_slot: Slot,
    final_since: bool,
}

impl State {
    /// A node as it was stored. `now` is the time of the start, `trusted_ms` see [`State::restore`].
    pub(crate) fn assemble(
        config: Config,
        tree: Tree,
        root_finality: Option<alys_types::Certificate>,
        votes: Option<VoteState>,
        highest: Hash,
        now: Now,
        trusted_ms: Option<i64>,
    ) -> (State, Vec<Effect>) {
        let genesis = config.genesis.clone();
        let drift = genesis.spec().drift_allowance_ms;
        let first = BlockRef {
            slot: genesis.header().slot,
            hash: genesis.hash(),
        };
        let lost = votes.is_none() && config.me.is_some();
        let votes = votes.unwrap_or(VoteState::fresh(first));
        let mut state = State {
            votes,
            written: votes,
            own_proposal: None,
            tree,
            root_finality,
            highest,
            sets: BTreeMap::new(),
            waiting: BTreeMap::new(),
            target: None,
            watch: Watch::default(),
            clock: Watchdog::new(drift, trusted_ms),
            held: BTreeMap::new(),
            told: None,
            building: None,
            order: None,
            last_slot: Slot::at(now.wall_ms, genesis.spec().slot_duration_ms),
            final_since: false,
            config,
        };
        state.remember_set(Arc::new(genesis.set().clone()));
        let mut effects = Vec::new();
        if lost {
            state.on_votes_lost(now, &mut effects);
        }
        (state, effects)
    }

    /// Takes an input at a time; returns what to do, in order. All effects of one input are carried out before the next
    /// input is given: what an effect brings about (the own vote, an answer) waits its turn.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        self.look_at_clock(now, &mut out);
        match input {
            Input::Tick => self.on_tick(now, &mut out),
            Input::Proposal(proposal) => self.on_proposal(proposal, now, &mut out),
            Input::Vote(vote) => self.on_vote(vote, now, &mut out),
            Input::Certified(block) => self.on_certified(block, now, &mut out),
            Input::Body(body) => self.on_body(body, now, &mut out),
            Input::Executed { hash, verdict } => self.on_executed(hash, verdict, now, &mut out),
            Input::Built {
                slot,
                parent,
                payload,
            } => self.on_built(slot, parent, *payload, now, &mut out),
            Input::BuildFailed { slot, parent } => self.on_build_failed(slot, parent),
            Input::ExecutionRestarted => self.on_execution_restarted(&mut out),
            Input::PeerConnected => self.say_again(now, &mut out),
            Input::HeldVote(vote) => self.on_held_vote(vote, now, &mut out),
            Input::Order(order) => self.order = Some(*order),
            Input::ClockConfirmed => {
                self.clock.trust(now);
                out.push(Effect::Notice(Notice::ClockTrusted));
            }
        }
        out
    }

    pub(crate) fn look_at_clock(&mut self, now: Now, out: &mut Vec<Effect>) {
        match self.clock.look(now) {
            Some(Change::Jumped(by_ms)) => {
                out.push(Effect::Notice(Notice::ClockJumped { by_ms }));
                if self.newest_set().quorum() == 1 {
                    // No peer is needed to confirm.
                    self.clock.trust(now);
                    out.push(Effect::Notice(Notice::ClockTrusted));
                }
            }
            Some(Change::Trusted) => out.push(Effect::Notice(Notice::ClockTrusted)),
            None => {}
        }
    }

    /// The offset of the wall clock that is trusted, for [`State::restore`] in this process.
    pub fn trusted_clock_ms(&self) -> Option<i64> {
        self.clock.trusted_ms()
    }

    /// What a proposal on `parent` is checked against; `None` while the parent or its successors' set is unknown.
    pub fn proposal_context(&self, parent: &Hash) -> Option<ProposalContext> {
        let entry = self.tree.get(parent)?;
        Some(ProposalContext {
            parent: entry.header.clone(),
            parent_hash: *parent,
            parent_set: entry.set.clone(),
            set: entry.child_set.clone()?,
        })
    }

    /// The set that decides on a header; `None` while its parent, or what the parent changes, is unknown.
    pub fn known_set(&self, header: &Header) -> Option<Arc<AuthoritySet>> {
        match self.tree.get(&header.parent_hash) {
            Some(parent) => parent.child_set.clone(),
            None => self.tree.final_set_beside(header),
        }
    }

    /// The set that decides on the block of a vote; `None` while the block is unknown.
    pub fn known_set_for_vote(&self, vote: &Vote) -> Option<Arc<AuthoritySet>> {
        self.tree.get(&vote.target.hash).map(|e| e.set.clone())
    }

    /// The set to check a header's certificate against: [`Self::known_set`], or else a guess: the newest set that is
    /// known. What does not check against a guess is nobody's fault.
    pub fn set_for(&self, header: &Header) -> Arc<AuthoritySet> {
        self.known_set(header).unwrap_or_else(|| self.newest_set())
    }

    /// The set to check a vote against: that of its block, or while that is unknown the newest set.
    pub fn set_for_vote(&self, vote: &Vote) -> Arc<AuthoritySet> {
        self.known_set_for_vote(vote)
            .unwrap_or_else(|| self.newest_set())
    }

    /// The set of the successors of the highest certified block.
    pub fn newest_set(&self) -> Arc<AuthoritySet> {
        let entry = self
            .tree
            .get(&self.highest)
            .unwrap_or(self.tree.root_entry());
        entry.child_set.clone().unwrap_or_else(|| entry.set.clone())
    }

    /// True when a certificate of this kind for this block would tell nothing new.
    pub fn knows_certificate(&self, hash: &Hash, kind: VoteKind) -> bool {
        match (self.tree.get(hash), kind) {
            (Some(entry), VoteKind::Approval) => entry.certificate.is_some(),
            (Some(entry), VoteKind::Confirmation) => {
                entry.finality.is_some() || *hash == self.tree.root()
            }
            _ => false,
        }
    }

    /// True when a vote would tell nothing new: counted already, or about something final or older.
    pub fn knows_vote(&self, vote: &Vote) -> bool {
        let target = vote.target;
        match self.tree.get(&target.hash) {
            Some(_) if target.hash == self.tree.root() => true,
            Some(entry) => {
                let votes = match target.kind {
                    VoteKind::Approval => &entry.approvals,
                    VoteKind::Confirmation => &entry.confirmations,
                    VoteKind::Proposal => return false,
                };
                votes.get(&vote.signer) == Some(&vote.signature)
            }
            None => target.height <= self.tree.root_entry().header.height,
        }
    }

    /// True when exactly this vote was checked and counted: good to pass on, though it tells nothing new.
    pub fn has_counted(&self, vote: &Vote) -> bool {
        let Some(entry) = self.tree.get(&vote.target.hash) else {
            return false;
        };
        let votes = match vote.target.kind {
            VoteKind::Approval => &entry.approvals,
            VoteKind::Confirmation => &entry.confirmations,
            VoteKind::Proposal => return false,
        };
        let same_block =
            (entry.header.height, entry.header.slot) == (vote.target.height, vote.target.slot);
        same_block && votes.get(&vote.signer) == Some(&vote.signature)
    }

    /// True when exactly this header and certificate were checked before.
    pub fn has_certificate(&self, certified: &CertifiedHeader) -> bool {
        let certificate = Some(&certified.certificate);
        let Some(entry) = self.tree.get(&certified.certificate.target.hash) else {
            return false;
        };
        entry.header == certified.header
            && (entry.certificate.as_ref() == certificate || entry.finality.as_ref() == certificate)
    }

    /// True when the block is known as its leader proposed it.
    pub fn knows_proposal(&self, hash: &Hash) -> bool {
        self.tree
            .get(hash)
            .is_some_and(|e| e.proposed && e.has_body())
    }

    /// True while a slot is too far ahead of the clock for its proposals to be kept.
    pub fn is_too_early(&self, slot: Slot, now: Now) -> bool {
        let early = slot.0 > self.slot_at(now).0;
        let kept = if early && mutant::active(Mutant::EarlyProposalDropped) {
            0
        } else {
            EARLY_SLOTS
        };
        slot.0 > self.slot_at(now).0.saturating_add(kept)
    }

    /// True when another proposal of the slot would be one too many.
    fn has_enough_of(&self, slot: Slot, hash: &Hash) -> bool {
        let others = self
            .tree
            .iter()
            .filter(|(h, e)| *h != hash && e.proposed && e.header.slot == slot);
        others.count() >= MAX_OF_A_SLOT
    }

    /// True when the block is known with its body.
    pub fn has_body(&self, hash: &Hash) -> bool {
        self.tree.get(hash).is_some_and(Entry::has_body)
    }

    /// True when the header is known.
    pub fn knows(&self, hash: &Hash) -> bool {
        self.tree.contains(hash)
    }

    /// The latest votes seen of an authority, for the answer to its status request.
    pub fn held_votes(&self, key: &PublicKeyBytes) -> HeldVotes {
        self.held.get(key).cloned().unwrap_or(HeldVotes {
            approval: None,
            confirmation: None,
        })
    }

    /// The highest certificate with its header, whether or not the block connects; `None` while it is genesis.
    pub fn highest_certified(&self) -> Option<CertifiedHeader> {
        match &self.target {
            Some(target) => Some(target.certified()),
            None => self.certified_header(&self.highest),
        }
    }

    /// The last final block with its finality certificate; `None` while it is genesis.
    pub fn last_final(&self) -> Option<CertifiedHeader> {
        let certificate = self.root_finality?;
        Some(CertifiedHeader {
            header: self.tree.root_entry().header.clone(),
            certificate,
        })
    }

    /// The certified chain above the last final block: hashes by height, ascending.
    pub fn certified_path(&self) -> Vec<(Height, Hash)> {
        let path = self.tree.path(&self.highest).unwrap_or_default();
        path.iter()
            .filter_map(|h| Some((self.tree.get(h)?.header.height, *h)))
            .collect()
    }

    /// Heights of the last final block, the highest certified one and one that is certified and cannot be reached yet;
    /// `None` when nothing is missing.
    pub fn wanted(&self) -> Option<(Height, Height, Height)> {
        let to = self.target.as_ref()?.header().height;
        let root = self.tree.root_entry().header.height;
        let highest = self
            .tree
            .get(&self.highest)
            .map_or(root, |e| e.header.height);
        Some((root, highest, to))
    }

    /// The header of a block that is not below the last final one.
    pub fn header(&self, hash: &Hash) -> Option<&Header> {
        self.tree.get(hash).map(|e| &e.header)
    }

    /// Where the node stands.
    pub fn summary(&self) -> Summary {
        let root = self.tree.root_entry();
        let highest = self.tree.get(&self.highest).unwrap_or(root);
        let head = self.told.map_or(self.tree.root(), |(h, _)| h);
        let head_height = self
            .tree
            .get(&head)
            .map_or(root.header.height, |e| e.header.height);
        Summary {
            highest: BlockRef {
                slot: highest.header.slot,
                hash: self.highest,
            },
            highest_height: highest.header.height,
            finalized: BlockRef {
                slot: root.header.slot,
                hash: self.tree.root(),
            },
            final_height: root.header.height,
            head,
            head_height,
            votes: self.votes,
            silent: self.silent(),
            synced: head == self.highest
                && highest.execution == Execution::Valid
                && self.target.is_none(),
            entries: self.tree.iter().count(),
        }
    }

    /// The slot that the wall clock is in.
    pub fn slot_at(&self, now: Now) -> Slot {
        Slot::at(now.wall_ms, self.slot_ms())
    }

    pub(crate) fn slot_ms(&self) -> u64 {
        self.config.genesis.spec().slot_duration_ms
    }

    pub(crate) fn drift_ms(&self) -> u64 {
        self.config.genesis.spec().drift_allowance_ms
    }

    /// True when nothing may be proposed or approved in this slot any more.
    pub(crate) fn has_approved_in(&self, slot: Slot) -> bool {
        match slot == self.votes.approved_slot && mutant::active(Mutant::ApprovedSlotCompared) {
            true => false,
            false => slot <= self.votes.approved_slot,
        }
    }

    /// Own index in a set.
    pub(crate) fn index_in(&self, set: &AuthoritySet) -> Option<u8> {
        set.index_of(self.config.me.as_ref()?)
    }

    /// True while nothing may be signed.
    pub(crate) fn silent(&self) -> bool {
        let has_lost =
            self.votes.silent_until.is_some() && !mutant::active(Mutant::VotesWhileSilent);
        self.clock.distrusted() || has_lost
    }

    pub(crate) fn certified_header(&self, hash: &Hash) -> Option<CertifiedHeader> {
        let entry = self.tree.get(hash)?;
        Some(CertifiedHeader {
            header: entry.header.clone(),
            certificate: entry.certificate?,
        })
    }

    pub(crate) fn remember_set(&mut self, set: Arc<AuthoritySet>) {
        if self.sets.len() >= MAX_SETS && !self.sets.contains_key(&set.hash()) {
            let in_use: Vec<Hash> = self
                .tree
                .iter()
                .flat_map(|(_, e)| [e.set.hash(), e.header.set_hash])
                .collect();
            let spare = self.sets.keys().find(|h| !in_use.contains(h)).copied();
            if let Some(spare) = spare {
                self.sets.remove(&spare);
            }
        }
        self.sets.insert(set.hash(), set);
    }

    /// Adds a header whose parent is an entry with a known successor set. True when it is there afterwards.
    pub(crate) fn insert_header(&mut self, hash: Hash, header: &Header) -> bool {
        if self.tree.contains(&hash) {
            return true;
        }
        let Some(set) = self
            .tree
            .get(&header.parent_hash)
            .and_then(|e| e.child_set.clone())
        else {
            return false;
        };
        let parent = self
            .tree
            .get(&header.parent_hash)
            .map(|e| (e.header.height, e.header.slot));
        if parent.is_none_or(|(height, slot)| header.height != height.next() || header.slot <= slot)
        {
            return false;
        }
        let mut entry = Entry::new(header.clone(), set.clone());
        // A change of the set is believed when the body shows it, or a certificate vouches for the header.
        entry.child_set = (header.set_hash == set.hash()).then_some(set);
        self.tree.insert(hash, entry);
        self.tree.contains(&hash)
    }

    /// A certificate vouches for a header, and with it for the set that it names.
    pub(crate) fn believe_header(&mut self, hash: &Hash) {
        if let Some(entry) = self.tree.get_mut(hash)
            && entry.child_set.is_none()
        {
            entry.child_set = self.sets.get(&entry.header.set_hash).cloned();
        }
    }

    /// Works out the federation after a block whose body has come, and after its descendants that waited for it.
    /// Returns the blocks that are settled now and those that turn out invalid.
    pub(crate) fn settle_federation(&mut self, hash: Hash) -> (Vec<Hash>, Vec<Hash>) {
        let (mut settled, mut invalid) = (Vec::new(), Vec::new());
        let mut todo = vec![hash];
        while let Some(hash) = todo.pop() {
            let Some(entry) = self.tree.get(&hash) else {
                continue;
            };
            if entry.federation.is_some() {
                continue;
            }
            let parent_hash = entry.header.parent_hash;
            let before = self
                .tree
                .get(&parent_hash)
                .and_then(|p| p.federation.clone());
            let crate::tree::BodyState::Memory(block) = &entry.body else {
                continue;
            };
            let (Some(before), block) = (before, block.clone()) else {
                continue;
            };
            let applied =
                before.apply(&self.config.genesis, &block.header, &block.body, |wanted| {
                    self.tree.ancestor(&parent_hash, wanted)
                });
            match applied {
                Ok(after) => {
                    self.remember_set(after.set().clone());
                    if let Some(next) = after.pending_set() {
                        self.remember_set(next.clone());
                    }
                    if let Some(entry) = self.tree.get_mut(&hash) {
                        entry.child_set = Some(after.set().clone());
                        entry.federation = Some(after);
                    }
                    settled.push(hash);
                    todo.extend(self.tree.children(&hash).map(|(h, _)| *h));
                }
                Err(_) => invalid.push(hash),
            }
        }
        (settled, invalid)
    }

    /// Notes the latest votes of an authority, to hand them back to it.
    fn hold(&mut self, vote: &VerifiedVote) {
        let Some(set) = self.sets.get(&vote.set_hash()) else {
            return;
        };
        let Some(authority) = set.authorities().get(usize::from(vote.vote().signer)) else {
            return;
        };
        let held = self.held.entry(authority.public_key).or_insert(HeldVotes {
            approval: None,
            confirmation: None,
        });
        let slot = match vote.vote().target.kind {
            VoteKind::Approval => &mut held.approval,
            VoteKind::Confirmation => &mut held.confirmation,
            VoteKind::Proposal => return,
        };
        if slot.is_none_or(|old| old.target.slot < vote.vote().target.slot) {
            *slot = Some(*vote.vote());
        }
    }

    /// Keeps a vote that came before its block.
    fn wait(&mut self, vote: VerifiedVote) {
        let root_slot = self.tree.root_entry().header.slot;
        if vote.vote().target.slot <= root_slot {
            return;
        }
        self.waiting
            .retain(|_, votes| votes.iter().all(|v| v.vote().target.slot > root_slot));
        let signer = vote.vote().signer;
        let said_again =
            |v: &VerifiedVote| v.vote().signer == signer && v.vote().target == vote.vote().target;
        if self
            .waiting
            .get(&vote.vote().target.hash)
            .is_some_and(|votes| votes.iter().any(said_again))
        {
            return;
        }
        let mut of_signer: Vec<(Slot, Hash)> = self
            .waiting
            .values()
            .flatten()
            .filter(|v| v.vote().signer == signer)
            .map(|v| (v.vote().target.slot, v.vote().target.hash))
            .collect();
        of_signer.sort();
        if of_signer.len() >= MAX_WAITING_PER_SIGNER {
            let (oldest, hash) = of_signer[0];
            if oldest >= vote.vote().target.slot {
                return;
            }
            if let Some(votes) = self.waiting.get_mut(&hash) {
                votes.retain(|v| v.vote().signer != signer);
            }
            self.waiting.retain(|_, votes| !votes.is_empty());
        }
        self.waiting
            .entry(vote.vote().target.hash)
            .or_default()
            .push(vote);
    }

    /// Counts the votes that waited for a block.
    fn release(&mut self, hash: &Hash, now: Now, out: &mut Vec<Effect>) {
        for vote in self.waiting.remove(hash).unwrap_or_default() {
            self.count(vote, now, out);
        }
    }

    /// The vote state to write; the planted bugs leave parts out.
    fn votes_to_write(&mut self) -> Option<VoteState> {
        let mut votes = self.votes;
        if mutant::active(Mutant::VotesNotPersisted) {
            return None;
        }
        if mutant::active(Mutant::ApprovedSlotNotPersisted) {
            votes.approved_slot = self.written.approved_slot;
        }
        if mutant::active(Mutant::LockNotPersisted) {
            votes.locked = self.written.locked;
        }
        self.written = votes;
        Some(votes)
    }

    /// A record of the vote state.
    pub(crate) fn record(&mut self) -> Record {
        Record {
            votes: self.votes_to_write(),
            ..Record::default()
        }
    }
}
