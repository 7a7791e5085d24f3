//! A single node that receives every message, and the keys of its whole federation.

#![allow(dead_code, reason = "each file of tests uses a part")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use alys_consensus::{
    BlockRef, Broadcast, CertifiedBlock, Config, Effect, Input, Notice, Now, PayloadRequest, State,
    Stored, Verdict, VerifiedProposal, VerifiedVote, VoteState,
};
use alys_peg::{Additions, Ledger};
use alys_pow::{Bits, Schedule};
use alys_types::bls::SecretKey;
use alys_types::hash::tagged;
use alys_types::spec::{ChainSpec, HEADER_VERSION, prev_randao, vault_address};
use alys_types::wire::{CertifiedHeader, Proposal};
use alys_types::{
    Address, Authority, Block, Body, Certificate, ExecutionPayload, Genesis, Hash, Header, Slot,
    Vote, VoteKind, VoteTarget,
};

pub const SLOT_MS: u64 = 2000;
pub const FIRST: u64 = 850_000_000;

/// One node (authority 3) and the keys of all four.
pub struct World {
    pub genesis: Arc<Genesis>,
    pub config: Config,
    pub keys: Vec<SecretKey>,
    pub state: State,
    pub start: Vec<Effect>,
    pub wall_ms: u64,
    pub mono_ms: u64,
    /// Ledgers after blocks.
    ledgers: RefCell<BTreeMap<Hash, Ledger>>,
}

pub fn genesis(keys: &[SecretKey]) -> Arc<Genesis> {
    genesis_of(keys, |_| {})
}

fn genesis_of(keys: &[SecretKey], change: impl FnOnce(&mut ChainSpec)) -> Arc<Genesis> {
    let authorities = keys
        .iter()
        .map(|key| Authority {
            public_key: key.public_key().to_bytes(),
            proof_of_possession: key.prove_possession(),
            fee_address: Address([1; 20]),
        })
        .collect();
    let mut spec = ChainSpec {
        drift_allowance_ms: 500,
        rejoin_margin: 3,
        ..ChainSpec::development(1, Slot(FIRST), SLOT_MS, Hash([9; 32]), authorities)
    };
    change(&mut spec);
    Arc::new(Genesis::new(spec).expect("a good spec"))
}

impl World {
    pub fn new() -> World {
        World::with(Some)
    }

    pub fn with(votes: impl Fn(VoteState) -> Option<VoteState>) -> World {
        World::restored(|fresh| Stored {
            votes: votes(fresh),
            ..Stored::default()
        })
    }

    /// A node that starts from these contents of its store.
    pub fn restored(stored: impl FnOnce(VoteState) -> Stored) -> World {
        World::start(stored, |_| {})
    }

    /// A new node of a chain with a changed spec.
    pub fn of_spec(change: impl FnOnce(&mut ChainSpec)) -> World {
        let stored = |fresh| Stored {
            votes: Some(fresh),
            ..Stored::default()
        };
        World::start(stored, change)
    }

    /// As [`Self::restored`], of a chain with a changed spec.
    pub fn start(
        stored: impl FnOnce(VoteState) -> Stored,
        change: impl FnOnce(&mut ChainSpec),
    ) -> World {
        let keys: Vec<SecretKey> = (0..4u8)
            .map(|i| SecretKey::derive_stand_in(&[i + 1; 32]))
            .collect();
        let genesis = genesis_of(&keys, change);
        let first = BlockRef {
            slot: Slot(FIRST),
            hash: genesis.hash(),
        };
        let stored = stored(VoteState::fresh(first));
        let config = Config::new(genesis.clone(), Some(keys[3].public_key().to_bytes()));
        let wall_ms = (FIRST + 1) * SLOT_MS;
        let mono_ms = 1_000_000;
        let (state, start) = State::restore(config.clone(), stored, Now { wall_ms, mono_ms }, None)
            .expect("restores");
        let mut world = World {
            genesis,
            config,
            keys,
            state,
            start,
            wall_ms,
            mono_ms,
            ledgers: RefCell::default(),
        };
        world.input(Input::Executed {
            hash: world.genesis.hash(),
            verdict: Verdict::Valid,
        });
        world
    }

    /// Restores the state from the votes alone, in a process that trusted this offset of its
    /// clocks.
    pub fn restart(&mut self, trusted_ms: Option<i64>) {
        let votes = self.state.summary().votes;
        self.restart_with(Some(votes), trusted_ms);
    }

    /// As [`Self::restart`], with the votes of the store.
    pub fn restart_with(&mut self, votes: Option<VoteState>, trusted_ms: Option<i64>) {
        let stored = Stored {
            votes,
            ..Stored::default()
        };
        let now = Now {
            wall_ms: self.wall_ms,
            mono_ms: self.mono_ms,
        };
        (self.state, self.start) =
            State::restore(self.config.clone(), stored, now, trusted_ms).expect("restores");
        self.input(Input::Executed {
            hash: self.genesis.hash(),
            verdict: Verdict::Valid,
        });
    }

    pub fn traced(&mut self, input: Input) -> Vec<Effect> {
        let now = Now {
            wall_ms: self.wall_ms,
            mono_ms: self.mono_ms,
        };
        self.state.handle(input, now)
    }

    /// The effects of an input, traces left out.
    pub fn input(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = self.traced(input);
        effects.retain(|effect| !matches!(effect, Effect::Trace(_)));
        effects
    }

    /// Advances both clocks, and ticks.
    pub fn at_slot(&mut self, slot: u64, into_ms: u64) -> Vec<Effect> {
        let wall_ms = (FIRST + slot) * SLOT_MS + into_ms;
        self.mono_ms += wall_ms.saturating_sub(self.wall_ms);
        self.wall_ms = wall_ms;
        self.input(Input::Tick)
    }

    /// The leader's proposal of slot `FIRST + slot` on a parent.
    pub fn proposal(
        &self,
        slot: u64,
        parent: &Header,
        certificate: Option<Certificate>,
        salt: u8,
    ) -> Proposal {
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
            ledger_hash: self.ledger_after(&parent_hash).root(),
        };
        self.know(&header, &Additions::default());
        let vote = self.vote(usize::from(leader), VoteKind::Proposal, &header);
        Proposal {
            block: Block { header, body },
            vote,
        }
    }

    /// The ledger after a block of [`Self::proposal`]; that of genesis for other blocks.
    pub fn ledger_after(&self, hash: &Hash) -> Ledger {
        let known = self.ledgers.borrow().get(hash).cloned();
        known.unwrap_or_else(Ledger::empty)
    }

    /// Keeps the ledger after a block without a proof.
    pub fn know(&self, header: &Header, additions: &Additions) {
        let before = self.ledger_after(&header.parent_hash);
        let (genesis, set) = (&self.genesis, self.genesis.set());
        let after = before.apply(genesis, set, header, None, additions);
        let (after, _) = after.expect("nothing to refuse");
        self.ledgers.borrow_mut().insert(header.hash(), after);
    }

    /// The bits of a proof in a block of slot `FIRST + slot` on a parent.
    pub fn bits_at(&self, parent: &Header, slot: u64) -> u32 {
        let spec = self.genesis.spec();
        let last = self.ledger_after(&parent.hash()).work(&self.genesis);
        let limit = Bits::new(spec.auxpow.limit_bits).expect("canonical");
        let schedule = Schedule {
            spacing_secs: spec.auxpow.spacing,
            half_life_secs: spec.auxpow.half_life.try_into().expect("positive"),
            limit,
        };
        let before = Bits::new(last.bits).expect("canonical");
        let timestamp = Slot(FIRST + slot).timestamp(SLOT_MS);
        schedule.next_bits(before, last.timestamp, timestamp).get()
    }

    /// The proposal of a block whose body was changed. The ledger after it is kept if it carries a
    /// proof that applies.
    pub fn sign_proposal(&self, mut block: Block) -> Proposal {
        block.header.body_hash = block.body.hash();
        let header = &block.header;
        let before = self.ledger_after(&header.parent_hash);
        let (genesis, set) = (&self.genesis, self.genesis.set());
        let proof = block.body.auxpow.as_ref();
        let after = before.apply(genesis, set, header, proof, &Additions::default());
        if let Ok((after, _)) = after {
            self.ledgers.borrow_mut().insert(header.hash(), after);
        }
        let vote = self.vote(usize::from(header.proposer), VoteKind::Proposal, header);
        Proposal { block, vote }
    }

    /// Takes the first turn of the node after `slot`, on `parent`: the payload that is asked for,
    /// and the block that is proposed.
    pub fn lead(&mut self, parent: &Header, slot: u64) -> (PayloadRequest, Block) {
        let mut turns = slot + 1..;
        let own = |slot: &u64| self.genesis.set().leader(Slot(FIRST + slot)) == 3;
        let slot = turns.find(own).expect("one in four");
        let asked = self.at_slot(slot, 600);
        let request = asked.into_iter().find_map(|effect| match effect {
            Effect::Build(request) => Some(request),
            _ => None,
        });
        let request = request.expect("a payload is asked for");
        let mut payload = self.proposal(slot, parent, None, 0).block.body.payload;
        payload.withdrawals = request.withdrawals.clone();
        let built = self.input(Input::Built {
            slot: Slot(FIRST + slot),
            parent: parent.hash(),
            payload: Box::new(payload),
        });
        let block = built.into_iter().find_map(|effect| match effect {
            Effect::Broadcast(Broadcast::Proposal { block, .. }) => Some(block),
            _ => None,
        });
        (request, (*block.expect("a block is proposed")).clone())
    }

    pub fn vote(&self, signer: usize, kind: VoteKind, header: &Header) -> Vote {
        let target = VoteTarget {
            kind,
            height: header.height,
            slot: header.slot,
            hash: header.hash(),
        };
        let signature = self.keys[signer].sign(&target.message(&self.genesis.chain_id()).0);
        Vote {
            target,
            signer: signer as u8,
            signature,
        }
    }

    pub fn certificate(&self, kind: VoteKind, header: &Header) -> Certificate {
        let votes: Vec<_> = (0..3)
            .map(|i| (i as u8, self.vote(i, kind, header).signature))
            .collect();
        let target = self.vote(0, kind, header).target;
        Certificate::aggregate(target, &votes, self.genesis.set()).expect("three are a quorum")
    }

    pub fn give_proposal(&mut self, proposal: Proposal) -> Vec<Effect> {
        let context = self
            .state
            .proposal_context(&proposal.block.header.parent_hash)
            .expect("the parent is known");
        let proposal = VerifiedProposal::check(proposal, &context, &self.config).expect("valid");
        self.input(Input::Proposal(proposal))
    }

    pub fn give_certificate(&mut self, kind: VoteKind, header: &Header) -> Vec<Effect> {
        let certified = CertifiedHeader {
            header: header.clone(),
            certificate: self.certificate(kind, header),
        };
        let set = self.state.set_for(header);
        let block = CertifiedBlock::check(certified, &set, &self.config).expect("certified");
        self.input(Input::Certified(block))
    }

    pub fn give_vote(&mut self, vote: Vote) -> Vec<Effect> {
        let vote = VerifiedVote::check(vote, self.genesis.set(), &self.genesis).expect("verifies");
        self.input(Input::Vote(vote))
    }

    pub fn executed(&mut self, header: &Header) -> Vec<Effect> {
        self.input(Input::Executed {
            hash: header.hash(),
            verdict: Verdict::Valid,
        })
    }

    /// Gives a proposal and executes it; true when the node approves.
    pub fn approves(&mut self, proposal: &Proposal) -> bool {
        let header = proposal.block.header.clone();
        let mut effects = self.give_proposal(proposal.clone());
        effects.extend(self.executed(&header));
        approvals(&effects) == 1
    }
}

pub fn approvals(effects: &[Effect]) -> usize {
    effects
        .iter()
        .filter(|e| matches!(e, Effect::Broadcast(Broadcast::Approval { .. })))
        .count()
}

pub fn confirmations(effects: &[Effect]) -> usize {
    effects
        .iter()
        .filter(|e| matches!(e, Effect::Broadcast(Broadcast::Confirmation { .. })))
        .count()
}

pub fn finals(effects: &[Effect]) -> usize {
    effects
        .iter()
        .map(|e| {
            if let Effect::Finalized(blocks, _) = e {
                blocks.len()
            } else {
                0
            }
        })
        .sum()
}

pub fn notices(effects: &[Effect]) -> Vec<Notice> {
    effects
        .iter()
        .filter_map(|e| {
            if let Effect::Notice(n) = e {
                Some(*n)
            } else {
                None
            }
        })
        .collect()
}
