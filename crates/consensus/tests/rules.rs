//! The rules one by one, on a single node that is told everything.

use std::sync::Arc;

use alys_consensus::{
    BlockRef, CertifiedBlock, Config, Effect, Input, Notice, Now, Send, State, Stored, Verdict, VerifiedBody,
    VerifiedProposal, VerifiedVote, VoteState,
};
use alys_types::bls::{SecretKey, use_stand_in};
use alys_types::hash::tagged;
use alys_types::spec::{
    AuxPowSpec, ChainSpec, GovernanceSpec, HEADER_VERSION, PegSpec, empty_ledger_hash, prev_randao, vault_address,
};
use alys_types::wire::{CertifiedHeader, Proposal};
use alys_types::{
    Address, Authority, Block, Body, Certificate, ExecutionPayload, FaultModel, Genesis, Hash, Header, Slot, Vote,
    VoteKind, VoteTarget,
};

const SLOT_MS: u64 = 2000;
const FIRST: u64 = 850_000_000;

/// One node (authority 3) and the keys of all four.
struct World {
    genesis: Arc<Genesis>,
    keys: Vec<SecretKey>,
    state: State,
    start: Vec<Effect>,
    wall_ms: u64,
    mono_ms: u64,
}

fn genesis(keys: &[SecretKey]) -> Arc<Genesis> {
    let authorities = keys
        .iter()
        .map(|key| Authority {
            public_key: key.public_key().to_bytes(),
            proof_of_possession: key.prove_possession(),
            fee_address: Address([1; 20]),
        })
        .collect();
    let spec = ChainSpec {
        evm_chain_id: 1,
        start_slot: Slot(FIRST),
        slot_duration_ms: SLOT_MS,
        fault_model: FaultModel::Byzantine,
        drift_allowance_ms: 500,
        rejoin_margin: 3,
        execution_genesis_hash: Hash([9; 32]),
        authorities,
        governance: GovernanceSpec::default(),
        peg: PegSpec::default(),
        auxpow: AuxPowSpec::default(),
    };
    Arc::new(Genesis::new(spec).expect("a good spec"))
}

impl World {
    fn new() -> World {
        World::with(|votes| Some(votes))
    }

    fn with(votes: impl Fn(VoteState) -> Option<VoteState>) -> World {
        use_stand_in(true);
        let keys: Vec<SecretKey> = (0..4u8).map(|i| SecretKey::derive(&[i + 1; 32])).collect();
        let genesis = genesis(&keys);
        let first = BlockRef { slot: Slot(FIRST), hash: genesis.hash() };
        let stored = Stored { votes: votes(VoteState::fresh(first)), ..Stored::default() };
        let config = Config { genesis: genesis.clone(), me: Some(keys[3].public_key().to_bytes()) };
        let (wall_ms, mono_ms) = ((FIRST + 1) * SLOT_MS, 1_000_000);
        let (state, start) = State::restore(config, stored, Now { wall_ms, mono_ms }).expect("restores");
        let mut world = World { genesis, keys, state, start, wall_ms, mono_ms };
        world.input(Input::Executed { hash: world.genesis.hash(), verdict: Verdict::Valid });
        world
    }

    fn input(&mut self, input: Input) -> Vec<Effect> {
        self.state.handle(input, Now { wall_ms: self.wall_ms, mono_ms: self.mono_ms })
    }

    /// Both clocks go on.
    fn at_slot(&mut self, slot: u64, into_ms: u64) -> Vec<Effect> {
        let wall_ms = (FIRST + slot) * SLOT_MS + into_ms;
        self.mono_ms += wall_ms.saturating_sub(self.wall_ms);
        self.wall_ms = wall_ms;
        self.input(Input::Tick)
    }

    /// A proposal of slot `FIRST + slot` on a parent, as its leader makes it.
    fn proposal(&self, slot: u64, parent: &Header, certificate: Option<Certificate>, salt: u8) -> Proposal {
        let slot = Slot(FIRST + slot);
        let leader = self.genesis.set().leader(slot);
        let parent_hash = parent.hash();
        let payload = ExecutionPayload {
            parent_hash: parent.execution_hash,
            fee_recipient: vault_address(),
            state_root: Hash::ZERO,
            receipts_root: Hash::ZERO,
            logs_bloom: [0; 256],
            prev_randao: prev_randao(&parent_hash, slot),
            block_number: parent.height.0 + 1,
            gas_limit: 30_000_000,
            gas_used: 0,
            timestamp: slot.timestamp(SLOT_MS),
            extra_data: vec![salt],
            base_fee_per_gas: [0; 32],
            block_hash: tagged("test", &[&slot.0.to_le_bytes(), &[salt]]),
            transactions: Vec::new(),
            withdrawals: Vec::new(),
            blob_gas: None,
        };
        let body = Body::of(payload);
        let header = Header {
            version: HEADER_VERSION,
            evm_chain_id: 1,
            genesis_hash: self.genesis.hash(),
            height: parent.height.next(),
            slot,
            proposer: leader,
            parent_hash,
            parent_certificate: certificate,
            execution_hash: body.payload.block_hash,
            body_hash: body.hash(),
            set_hash: self.genesis.set().hash(),
            ledger_hash: empty_ledger_hash(),
        };
        let vote = self.vote(usize::from(leader), VoteKind::Proposal, &header);
        Proposal { block: Block { header, body }, vote }
    }

    fn vote(&self, signer: usize, kind: VoteKind, header: &Header) -> Vote {
        let target = VoteTarget { kind, height: header.height, slot: header.slot, hash: header.hash() };
        let signature = self.keys[signer].sign(&target.message(&self.genesis.chain_id()).0);
        Vote { target, signer: signer as u8, signature }
    }

    fn certificate(&self, kind: VoteKind, header: &Header) -> Certificate {
        let votes: Vec<_> = (0..3).map(|i| (i as u8, self.vote(i, kind, header).signature)).collect();
        let target = self.vote(0, kind, header).target;
        Certificate::aggregate(target, &votes, self.genesis.set()).expect("three are a quorum")
    }

    fn give_proposal(&mut self, proposal: Proposal) -> Vec<Effect> {
        let context = self.state.proposal_context(&proposal.block.header.parent_hash).expect("the parent is known");
        let proposal = VerifiedProposal::check(proposal, &context, &self.genesis).expect("valid");
        self.input(Input::Proposal(proposal))
    }

    fn give_certificate(&mut self, kind: VoteKind, header: &Header) -> Vec<Effect> {
        let certified = CertifiedHeader { header: header.clone(), certificate: self.certificate(kind, header) };
        let set = self.state.set_for(header);
        let block = CertifiedBlock::check(certified, &set, &self.genesis).expect("certified");
        self.input(Input::Certified(block))
    }

    fn give_vote(&mut self, vote: Vote) -> Vec<Effect> {
        let vote = VerifiedVote::check(vote, self.genesis.set(), &self.genesis).expect("verifies");
        self.input(Input::Vote(vote))
    }

    fn executed(&mut self, header: &Header) -> Vec<Effect> {
        self.input(Input::Executed { hash: header.hash(), verdict: Verdict::Valid })
    }

    /// Proposes, executes: true when the node approved.
    fn approves(&mut self, proposal: &Proposal) -> bool {
        let header = proposal.block.header.clone();
        let mut effects = self.give_proposal(proposal.clone());
        effects.extend(self.executed(&header));
        approvals(&effects) == 1
    }
}

fn approvals(effects: &[Effect]) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::Send(Send::Approval { .. }))).count()
}

fn confirmations(effects: &[Effect]) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::Send(Send::Confirmation { .. }))).count()
}

fn finals(effects: &[Effect]) -> usize {
    effects.iter().map(|e| if let Effect::Finalized(blocks, _) = e { blocks.len() } else { 0 }).sum()
}

fn notices(effects: &[Effect]) -> Vec<Notice> {
    effects.iter().filter_map(|e| if let Effect::Notice(n) = e { Some(*n) } else { None }).collect()
}

#[test]
fn a_block_is_approved_confirmed_and_final() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let p = w.proposal(1, &genesis, None, 0);
    let header = p.block.header.clone();
    let mut effects = w.give_proposal(p);
    assert!(effects.iter().any(|e| matches!(e, Effect::Execute { block: Some(_), .. })), "{effects:?}");
    effects = w.executed(&header);
    let order: Vec<&str> = effects
        .iter()
        .map(|e| match e {
            Effect::Persist(record) if record.votes.is_some() && record.blocks.len() == 1 => "persist votes with body",
            Effect::Send(Send::Approval { .. }) => "approve",
            _ => "other",
        })
        .filter(|e| *e != "other")
        .collect();
    assert_eq!(order, ["persist votes with body", "approve"], "persist, then speak");
    for i in 0..3 {
        let vote = w.vote(i, VoteKind::Approval, &header);
        effects = w.give_vote(vote);
    }
    let persisted = effects.iter().position(
        |e| matches!(e, Effect::Persist(r) if r.votes.is_some_and(|v| v.locked.hash == header.hash()) && r.certified.len() == 1),
    );
    let sent = effects.iter().position(|e| matches!(e, Effect::Send(Send::Confirmation { .. })));
    assert!(persisted < sent && persisted.is_some(), "lock, header and certificate are on the disk first: {effects:?}");
    for i in 0..3 {
        let vote = w.vote(i, VoteKind::Confirmation, &header);
        effects = w.give_vote(vote);
    }
    assert_eq!(finals(&effects), 1);
    assert!(effects.iter().any(|e| matches!(e, Effect::Send(Send::Certificate(_)))), "finality is told");
}

#[test]
fn a_slot_is_approved_once_and_only_while_it_lasts() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    let early = w.proposal(2, &genesis, None, 0);
    w.at_slot(1, 10);
    assert!(!w.approves(&early), "early proposals wait");
    assert_eq!(approvals(&w.at_slot(1, SLOT_MS - 501)), 0);
    assert_eq!(approvals(&w.at_slot(1, SLOT_MS - 499)), 1, "within the drift allowance of their slot");
    let second = w.proposal(2, &genesis, None, 1);
    let mut effects = w.give_proposal(second.clone());
    assert!(effects.iter().any(|e| matches!(e, Effect::Evidence(_))), "two proposals of a slot are evidence");
    effects.extend(w.executed(&second.block.header));
    assert_eq!(approvals(&effects), 0, "one approval a slot");
    let late = w.proposal(3, &genesis, None, 0);
    w.at_slot(4, 501);
    assert!(!w.approves(&late), "the slot and its allowance are over");
}

#[test]
fn an_execution_client_that_is_not_sure_is_asked_again_within_the_slot() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let p = w.proposal(1, &genesis, None, 0);
    let hash = p.block.header.hash();
    w.give_proposal(p);
    let effects = w.input(Input::Executed { hash, verdict: Verdict::Unknown });
    assert_eq!(approvals(&effects), 0);
    let effects = w.at_slot(1, 300);
    assert!(effects.iter().any(|e| matches!(e, Effect::Execute { hash: h, .. } if *h == hash)));
    let effects = w.input(Input::Executed { hash, verdict: Verdict::Invalid });
    assert_eq!(approvals(&effects), 0, "invalid is never approved");
    assert_eq!(approvals(&w.at_slot(1, 600)), 0);
}

#[test]
fn a_locked_node_refuses_a_branch_below_its_lock() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    assert!(w.approves(&a));
    let effects = w.give_certificate(VoteKind::Approval, &a.block.header);
    assert_eq!(confirmations(&effects), 1, "locked on a");
    w.at_slot(2, 10);
    let beside = w.proposal(2, &genesis, None, 0);
    assert!(!w.approves(&beside), "the parent's slot is below the lock");
    w.at_slot(3, 10);
    let certificate = w.certificate(VoteKind::Approval, &a.block.header);
    let on_a = w.proposal(3, &a.block.header, Some(certificate), 0);
    // Authority 3 leads slot FIRST + 3 itself: the proposal is its own key's, but an approval is an approval.
    assert!(w.approves(&on_a), "a child of the locked block is fine");
}

#[test]
fn a_certificate_below_the_last_approval_is_not_confirmed() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    assert!(w.approves(&a));
    w.at_slot(2, 10);
    let b = w.proposal(2, &genesis, None, 0);
    assert!(w.approves(&b), "nothing is locked yet");
    let effects = w.give_certificate(VoteKind::Approval, &a.block.header);
    assert_eq!(confirmations(&effects), 0, "a's slot is below what was approved since");
}

#[test]
fn votes_that_come_before_their_block_wait_for_it() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    for i in 0..3 {
        let vote = w.vote(i, VoteKind::Approval, &a.block.header);
        assert_eq!(confirmations(&w.give_vote(vote)), 0);
    }
    assert_eq!(confirmations(&w.give_proposal(a)), 1, "the certificate is made of the votes that waited");
}

#[test]
fn lost_votes_silence_a_node_until_a_later_slot_is_final() {
    let mut w = World::with(|_| None);
    let silent = Slot(FIRST + 1 + 3);
    assert!(notices(&w.start).contains(&Notice::VotesLost { silent_until: silent }), "{:?}", w.start);
    let mut parent = w.genesis.header().clone();
    let mut certificate = None;
    for slot in 1..=6 {
        w.at_slot(slot, 10);
        let p = w.proposal(slot, &parent, certificate, 0);
        let header = p.block.header.clone();
        let spoke = w.approves(&p);
        let mut effects = w.give_certificate(VoteKind::Approval, &header);
        assert_eq!(spoke || confirmations(&effects) > 0, slot > 5, "slot {slot}");
        effects = w.give_certificate(VoteKind::Confirmation, &header);
        assert_eq!(finals(&effects), 1, "a silent node follows");
        assert_eq!(notices(&effects).contains(&Notice::VotesRegained), slot == 5, "slot {slot}");
        certificate = Some(w.certificate(VoteKind::Approval, &header));
        parent = header;
    }
}

#[test]
fn a_later_vote_of_ours_in_a_peers_hands_is_a_loss() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    let p = w.proposal(1, &genesis, None, 0);
    let held = w.vote(3, VoteKind::Approval, &p.block.header);
    let held = VerifiedVote::check(held, w.genesis.set(), &w.genesis).expect("verifies");
    let others = w.vote(2, VoteKind::Approval, &p.block.header);
    let others = VerifiedVote::check(others, w.genesis.set(), &w.genesis).expect("verifies");
    assert!(notices(&w.input(Input::HeldVote(others))).is_empty(), "a vote of somebody else tells nothing");
    let effects = w.input(Input::HeldVote(held));
    assert!(matches!(notices(&effects)[..], [Notice::VotesLost { .. }]));
    assert!(effects.iter().any(|e| matches!(e, Effect::Persist(r) if r.votes.is_some_and(|v| v.silent_until.is_some()))));
}

#[test]
fn a_jumping_wall_clock_silences_a_node_until_the_operator_confirms() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    w.wall_ms += 4 * SLOT_MS; // The monotonic clock stays.
    let effects = w.input(Input::Tick);
    assert!(matches!(notices(&effects)[..], [Notice::ClockJumped { by_ms: 8000 }]));
    let p = w.proposal(5, &genesis, None, 0);
    assert!(!w.approves(&p));
    let effects = w.input(Input::ClockConfirmed);
    assert!(notices(&effects).contains(&Notice::ClockTrusted));
    assert_eq!(approvals(&w.input(Input::Tick)), 1, "its slot still lasts");
}

#[test]
fn authorities_that_vote_in_the_new_slot_confirm_a_clock() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    w.wall_ms += 4 * SLOT_MS;
    w.input(Input::Tick);
    let p = w.proposal(5, &genesis, None, 0);
    w.give_proposal(p.clone());
    w.executed(&p.block.header);
    let first = w.vote(0, VoteKind::Approval, &p.block.header);
    assert!(notices(&w.give_vote(first)).is_empty(), "one is not enough");
    let second = w.vote(1, VoteKind::Approval, &p.block.header);
    assert!(notices(&w.give_vote(second)).contains(&Notice::ClockTrusted), "q - 1 are");
}

#[test]
fn conflicting_finality_is_reported_not_followed() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    w.approves(&a);
    w.give_certificate(VoteKind::Approval, &a.block.header);
    assert_eq!(finals(&w.give_certificate(VoteKind::Confirmation, &a.block.header)), 1);
    let b = w.proposal(2, &genesis, None, 7);
    let effects = w.give_certificate(VoteKind::Confirmation, &b.block.header);
    assert!(matches!(notices(&effects)[..], [Notice::ConflictingFinality { .. }]), "{effects:?}");
    assert_eq!(w.state.summary().finalized.hash, a.block.header.hash());
}

#[test]
fn a_certified_block_above_what_is_known_starts_a_sync_and_stops_proposals() {
    let mut w = World::new();
    let genesis = w.genesis.header().clone();
    w.at_slot(1, 10);
    let a = w.proposal(1, &genesis, None, 0);
    let certificate = w.certificate(VoteKind::Approval, &a.block.header);
    let b = w.proposal(2, &a.block.header, Some(certificate), 0);
    let effects = w.give_certificate(VoteKind::Approval, &b.block.header);
    assert!(matches!(effects[..], [Effect::Sync { .. }]), "{effects:?}");
    assert_eq!(w.state.wanted().map(|(f, h, t)| (f.0, h.0, t.0)), Some((0, 0, 2)));
    let effects = w.at_slot(3, 600);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Build(_))), "a leader that is behind stays silent");
    for block in [a.block, b.block.clone()] {
        let body = VerifiedBody::check(Arc::new(block)).expect("belongs");
        w.input(Input::Body(body));
    }
    w.give_certificate(VoteKind::Approval, &b.block.header);
    assert_eq!(w.state.wanted(), None);
    assert_eq!(w.state.summary().highest.hash, b.block.header.hash());
}

#[test]
fn invalid_proposals_are_refused_with_the_rule_named() {
    let w = World::new();
    let genesis = w.genesis.header().clone();
    let check = |change: fn(&mut Proposal), expected: &str| {
        let mut p = w.proposal(1, &genesis, None, 0);
        change(&mut p);
        // Signed again by the leader of the slot, so that only the changed rule is broken.
        p.block.header.body_hash = p.block.body.hash();
        let leader = w.genesis.set().leader(p.block.header.slot);
        if !expected.contains("vote") {
            p.vote = w.vote(usize::from(leader), VoteKind::Proposal, &p.block.header);
        }
        let context = w.state.proposal_context(&genesis.hash()).expect("genesis is known");
        let error = VerifiedProposal::check(p, &context, &w.genesis).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} names {expected:?}");
    };
    check(|p| p.block.header.version = 2, "version");
    check(|p| p.block.header.evm_chain_id = 2, "another chain");
    check(|p| p.block.header.height.0 = 2, "height");
    check(|p| p.block.header.slot = Slot(FIRST), "slot");
    check(|p| p.block.header.proposer ^= 1, "leader");
    check(|p| p.block.header.ledger_hash = Hash::ZERO, "ledger");
    check(|p| p.block.body.payload.timestamp += 1, "timestamp");
    check(|p| p.block.body.payload.fee_recipient = Address::default(), "fee_recipient");
    check(|p| p.block.body.payload.prev_randao = Hash::ZERO, "prev_randao");
    check(|p| p.block.body.payload.block_number = 9, "block_number");
    check(|p| p.block.body.payload.parent_hash = Hash::ZERO, "parent_hash");
    check(|p| p.block.body.payload.extra_data = vec![0; 33], "extra data");
    check(|p| p.vote.target.kind = VoteKind::Approval, "vote");
    check(|p| p.vote.signer ^= 1, "vote");
    check(
        |p| {
            let mut amount = alys_types::Withdrawal {
                index: 0,
                validator_index: 1,
                address: Address([1; 20]),
                amount_gwei: 1,
            };
            amount.amount_gwei = 1_000_000;
            p.block.body.payload.withdrawals.push(amount);
        },
        "withdrawals",
    );
}
