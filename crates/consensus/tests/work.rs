//! Proofs of work, the gate and the ledger of one node (rules 4.1 to 4.6, 5.1, 5.4, 5.25).

mod miner;
mod single;

use std::sync::Arc;

use alloy_primitives::U256;
use alys_consensus::{
    Effect, HeldProof, Input, Notice, PayloadRequest, PowFinal, Refusal, StoredFinal, WorkOffer,
};
use alys_peg::Additions;
use alys_pow::Bits;
use alys_types::spec::ChainSpec;
use alys_types::wire::Proposal;
use alys_types::{
    AuxPowHeader, Block, Genesis, Header, Height, VoteKind, Withdrawal, WithdrawalKind,
};
use miner::{MINER, mine};
use single::{FIRST, World, approvals, notices};

/// Blocks of a chain whose first authority is the node of [`World`].
struct Chain {
    w: World,
    /// Header of the newest block.
    head: Header,
    slot: u64,
    offer: Option<Arc<WorkOffer>>,
    finals: Vec<PowFinal>,
}

impl Chain {
    fn new(change: impl FnOnce(&mut ChainSpec)) -> Chain {
        let w = World::of_spec(change);
        let head = w.genesis.header().clone();
        let mut chain = Chain {
            w,
            head,
            slot: 0,
            offer: None,
            finals: Vec::new(),
        };
        let start = std::mem::take(&mut chain.w.start);
        chain.read(&start);
        chain
    }

    fn read(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Work(offer) => self.offer = offer.clone(),
                Effect::PowFinal(range) => self.finals.push(*range),
                _ => {}
            }
        }
    }

    /// The next proposal of another authority than the node (authority 3), on the head.
    fn proposal(&mut self) -> Proposal {
        self.slot += 1;
        if self
            .w
            .genesis
            .set()
            .leader(alys_types::Slot(FIRST + self.slot))
            == 3
        {
            self.slot += 1;
        }
        let effects = self.w.at_slot(self.slot, 10);
        self.read(&effects);
        let genesis = self.head.height == Height(0);
        let certificate = (!genesis).then(|| self.w.certificate(VoteKind::Approval, &self.head));
        self.w.proposal(self.slot, &self.head, certificate, 0)
    }

    fn give(&mut self, proposal: Proposal) -> Vec<Effect> {
        let mut effects = self.w.give_proposal(proposal.clone());
        effects.extend(self.w.executed(&proposal.block.header));
        self.read(&effects);
        effects
    }

    /// True when the node approves the block, which becomes final then.
    fn extend_with(&mut self, proposal: Proposal) -> bool {
        let header = proposal.block.header.clone();
        if approvals(&self.give(proposal)) == 0 {
            return false;
        }
        for kind in [VoteKind::Approval, VoteKind::Confirmation] {
            let effects = self.w.give_certificate(kind, &header);
            self.read(&effects);
        }
        self.head = header;
        true
    }

    fn extend(&mut self, blocks: usize) {
        for _ in 0..blocks {
            let proposal = self.proposal();
            assert!(self.extend_with(proposal), "an empty block is approved");
        }
    }

    /// A proposal with a proof of the present offer, and changes to it.
    fn carrying(&mut self, change: impl FnOnce(&mut Block, &mut AuxPowHeader)) -> Proposal {
        let offer = self.offer.clone().expect("final blocks are offered");
        self.carrying_proof(
            |bits, genesis| miner::mine_for(genesis, &offer, MINER, bits),
            change,
        )
    }

    fn carrying_proof(
        &mut self,
        prove: impl FnOnce(Bits, &Genesis) -> HeldProof,
        change: impl FnOnce(&mut Block, &mut AuxPowHeader),
    ) -> Proposal {
        let last_final = self.head.clone();
        let proposal = self.proposal();
        let bits = Bits::new(self.w.bits_at(&self.head, self.slot)).expect("canonical");
        let proof = prove(bits, &self.w.genesis);
        let mut block = proposal.block;
        let mut header = AuxPowHeader {
            range_start: proof.range_start,
            range_end: proof.range_end,
            bits: bits.get(),
            chain_id: self.w.genesis.spec().auxpow.chain_id,
            sequence: proof.sequence,
            auxpow: proof.auxpow,
            miner: proof.miner,
        };
        let shown = self.w.certificate(VoteKind::Confirmation, &last_final);
        block.body.finality = vec![shown];
        change(&mut block, &mut header);
        block.body.auxpow = Some(header);
        self.w.sign_proposal(block)
    }

    fn faults(effects: &[Effect]) -> Vec<String> {
        let faults = notices(effects)
            .into_iter()
            .filter_map(|notice| match notice {
                Notice::UnfitProposal { fault, .. } => Some(fault.to_string()),
                _ => None,
            });
        faults.collect()
    }
}

#[test]
fn a_range_is_final_by_proof_of_work_once_its_carrier_is_final() {
    let mut c = Chain::new(|_| {});
    assert_eq!(c.offer, None, "nothing is final");
    c.extend(3);
    let offer = c.offer.clone().expect("final blocks are offered");
    assert_eq!(
        (offer.sequence, offer.first, offer.range.len()),
        (1, Height(1), 3)
    );
    let proposal = c.carrying(|_, _| {});
    let carrier = proposal.block.header.clone();
    assert!(c.extend_with(proposal));
    let [range] = c.finals[..] else {
        panic!("{:?}", c.finals)
    };
    assert_eq!(
        (range.sequence, range.first, range.end),
        (1, Height(1), Height(3))
    );
    assert_eq!((range.miner, range.carrier.hash), (MINER, carrier.hash()));
    let next = c.offer.clone().expect("the carrier is offered");
    assert_eq!(
        (next.sequence, next.first, next.range.len()),
        (2, Height(4), 1)
    );
    assert_eq!(c.w.state.summary().pow_final_height, Height(3));
}

#[test]
fn a_proof_that_breaks_a_rule_is_not_approved_and_the_rule_is_named() {
    type Change = fn(&mut Block, &mut AuxPowHeader);
    let table: [(&str, Change); 9] = [
        ("auxpow.chain_id is 7", |_, proof| proof.chain_id = 7),
        ("auxpow.sequence is 2", |_, proof| proof.sequence = 2),
        ("auxpow.range_start is", |_, proof| {
            proof.range_start.0[0] ^= 1
        }),
        ("auxpow.range_end", |_, proof| proof.range_end.0[0] ^= 1),
        ("auxpow.bits are", |_, proof| proof.bits = 0x207f_fffe),
        ("is no proof", |_, proof| proof.auxpow = vec![1]),
        ("auxpow.auxpow: rule", |_, proof| proof.miner.0[0] ^= 1),
        ("payload.withdrawals are 1", |block, _| {
            block.body.payload.withdrawals.push(Withdrawal {
                index: 0,
                validator_index: 0,
                address: MINER,
                amount_gwei: 1,
            });
            block.body.withdrawal_kinds.push(WithdrawalKind::Fee);
        }),
        ("withdrawal_kinds", |block, _| {
            block.body.withdrawal_kinds.push(WithdrawalKind::Fee);
        }),
    ];
    for (what, change) in table {
        let mut c = Chain::new(|_| {});
        c.extend(3);
        let proposal = c.carrying(change);
        let effects = c.give(proposal);
        assert_eq!(approvals(&effects), 0, "{what}");
        let faults = Chain::faults(&effects);
        assert!(
            matches!(&faults[..], [fault] if fault.contains(what)),
            "{what}: {faults:?}"
        );
    }
}

#[test]
fn a_range_ends_at_a_block_that_the_body_shows_final() {
    let mut c = Chain::new(|_| {});
    c.extend(2);
    let older = c.head.clone();
    c.extend(1);
    let certificate = c.w.certificate(VoteKind::Confirmation, &older);
    let proposal = c.carrying(|block, _| block.body.finality = vec![certificate]);
    // The certificate does not show the end of the range final, so that it has no purpose.
    let effects = c.give(proposal);
    assert_eq!(approvals(&effects), 0);
    let proposal = c.carrying(|block, _| block.body.finality.clear());
    let effects = c.give(proposal);
    let faults = Chain::faults(&effects);
    assert!(
        matches!(&faults[..], [fault] if fault.contains("final")),
        "{faults:?}"
    );
}

#[test]
fn a_header_with_another_ledger_hash_is_not_approved() {
    let mut c = Chain::new(|_| {});
    c.extend(1);
    let mut proposal = c.proposal();
    proposal.block.header.ledger_hash.0[0] ^= 1;
    let proposal = c.w.sign_proposal(proposal.block);
    let effects = c.give(proposal);
    assert_eq!(approvals(&effects), 0);
    assert!(Chain::faults(&effects)[0].contains("ledger hash"));
}

#[test]
fn a_block_without_a_proof_has_no_withdrawals() {
    let mut c = Chain::new(|_| {});
    let mut block = c.proposal().block;
    block.body.payload.withdrawals.push(Withdrawal {
        index: 0,
        validator_index: 1,
        address: MINER,
        amount_gwei: 1,
    });
    let proposal = c.w.sign_proposal(block);
    let effects = c.give(proposal);
    assert_eq!(approvals(&effects), 0);
    assert!(Chain::faults(&effects)[0].contains("withdrawals"));
}

#[test]
fn a_leader_carries_the_longest_range_that_it_holds() {
    let mut c = Chain::new(|_| {});
    c.extend(2);
    let genesis = c.w.genesis.clone();
    let short = mine(&genesis, c.offer.as_ref().expect("an offer"));
    c.extend(2);
    let long = mine(&genesis, c.offer.as_ref().expect("an offer"));
    for proof in [long.clone(), short] {
        c.w.input(Input::Proof(Arc::new(proof)));
    }
    let (request, block) = c.w.lead(&c.head, c.slot);
    assert_eq!(request.withdrawals, [], "no tips, no fees");
    let carried = block.body.auxpow.expect("a proof is carried");
    assert_eq!((carried.range_end, carried.sequence), (long.range_end, 1));
    assert_eq!(block.body.finality.len(), 1);
}

#[test]
fn the_gate_closes_for_blocks_without_proof_and_opens_with_one() {
    let mut c = Chain::new(|spec| spec.auxpow.max_blocks_without_pow = 20);
    c.extend(20);
    let proposal = c.proposal();
    let header = proposal.block.header.clone();
    c.w.give_proposal(proposal);
    let effects = c.w.traced(Input::Executed {
        hash: header.hash(),
        verdict: alys_consensus::Verdict::Valid,
    });
    assert_eq!(approvals(&effects), 0);
    let is_gate = |effect: &Effect| {
        let pow_end = Height(0);
        matches!(effect, Effect::Trace(Refusal::GateClosed { pow_end: end, limit: 20 }) if *end == pow_end)
    };
    assert!(effects.iter().any(is_gate), "{effects:?}");
    let proposal = c.carrying(|_, _| {});
    assert!(c.extend_with(proposal), "a proof opens the gate");
    c.extend(1);
}

/// A block with a transaction on the head, whose receipts have these tips.
fn with_tips(c: &mut Chain, tips: &Additions) -> Proposal {
    let mut block = c.proposal().block;
    block.body.payload.transactions = vec![vec![2]];
    let proposal = c.w.sign_proposal(block);
    c.w.know(&proposal.block.header, tips);
    proposal
}

fn asks_receipts(effects: &[Effect], header: &Header) -> bool {
    let asks = |e: &Effect| matches!(e, Effect::Account { hash, .. } if *hash == header.hash());
    effects.iter().any(asks)
}

#[test]
fn a_child_is_approved_once_the_receipts_of_its_parent_are_known() {
    let mut c = Chain::new(|_| {});
    let tips = Additions {
        tips: U256::from(12_345),
    };
    let parent = with_tips(&mut c, &tips);
    let header = parent.block.header.clone();
    assert_eq!(
        approvals(&c.give(parent)),
        1,
        "its own receipts are not needed"
    );
    let effects = c.w.give_certificate(VoteKind::Approval, &header);
    assert!(asks_receipts(&effects, &header));
    c.head = header.clone();
    let child = c.proposal();
    assert_eq!(approvals(&c.give(child)), 0);
    let hash = header.hash();
    let unknown = c.w.input(Input::Accounted {
        hash,
        additions: None,
    });
    assert_eq!(approvals(&unknown), 0);
    let again = c.w.at_slot(c.slot, 100);
    assert!(asks_receipts(&again, &header), "the next tick asks again");
    let known = c.w.input(Input::Accounted {
        hash,
        additions: Some(tips),
    });
    assert_eq!(approvals(&known), 1);
}

#[test]
fn a_block_that_is_final_before_its_receipts_are_known_is_loaded_for_the_ledger() {
    let mut c = Chain::new(|_| {});
    let tips = Additions {
        tips: U256::from(12_345),
    };
    let block = with_tips(&mut c, &tips);
    let header = block.block.header.clone();
    let stored = StoredFinal {
        block: Arc::new(block.block.clone()),
        set_hash: None,
        additions: None,
    };
    assert!(c.extend_with(block));
    let child = c.proposal();
    assert_eq!(approvals(&c.give(child)), 0);
    let effects = c.w.input(Input::FinalLoaded {
        height: Height(1),
        stored: Some(Box::new(stored)),
    });
    assert!(asks_receipts(&effects, &header));
    let known = c.w.input(Input::Accounted {
        hash: header.hash(),
        additions: Some(tips),
    });
    assert_eq!(approvals(&known), 1);
    let written = known.iter().any(|e| match e {
        Effect::Persist(record) => record
            .ledger
            .as_ref()
            .is_some_and(|l| l.height == Height(1)),
        _ => false,
    });
    assert!(written, "the ledger after the block is written");
}

#[test]
fn fees_of_a_range_are_withdrawals_of_its_carrier() {
    let mut c = Chain::new(|_| {});
    let tips = Additions {
        tips: U256::from(10_000_000_001_u64),
    };
    let proposal = with_tips(&mut c, &tips);
    let header = proposal.block.header.clone();
    c.give(proposal);
    c.w.give_certificate(VoteKind::Approval, &header);
    c.w.input(Input::Accounted {
        hash: header.hash(),
        additions: Some(tips),
    });
    let effects = c.w.give_certificate(VoteKind::Confirmation, &header);
    c.read(&effects);
    c.head = header;
    let proof = mine(&c.w.genesis, c.offer.as_ref().expect("an offer"));
    c.w.input(Input::Proof(Arc::new(proof)));
    let (request, block): (PayloadRequest, Block) = c.w.lead(&c.head, c.slot);
    let amounts = request.withdrawals.iter().map(|w| (w.index, w.amount_gwei));
    assert_eq!(amounts.collect::<Vec<_>>(), [(0, 8), (1, 2)]);
    assert_eq!(block.body.withdrawal_kinds, [WithdrawalKind::Fee; 2]);
}
