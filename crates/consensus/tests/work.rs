//! Proofs of work, the gate and the ledger of one node (rules 4.1 to 4.6, 5.1, 5.4, 5.25).

mod miner;
mod single;

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::U256;
use alys_consensus::{
    BlockRef, Broadcast, Effect, FederationRecord, HeldProof, Input, Notice, Now, PayloadRequest,
    PowFinal, Refusal, State, Stored, StoredBlock, StoredFinal, StoredLedger, WorkOffer,
};
use alys_peg::Additions;
use alys_pow::Bits;
use alys_types::limits::FINALITY_WINDOW;
use alys_types::spec::ChainSpec;
use alys_types::wire::{CertifiedHeader, Proposal};
use alys_types::{
    Address, AuxPowHeader, Block, Certificate, Genesis, Hash, Header, Height, Slot, VoteKind,
    VoteTarget, Withdrawal, WithdrawalKind,
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
    /// Final blocks, from height 1.
    blocks: Vec<Arc<Block>>,
    disk: Disk,
}

/// The parts of the store that a restart reads.
#[derive(Default, Clone)]
struct Disk {
    finalized: Option<(CertifiedHeader, FederationRecord)>,
    ledger: BTreeMap<Vec<u8>, Vec<u8>>,
    ledger_at: Option<(Height, Hash)>,
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
            blocks: Vec::new(),
            disk: Disk::default(),
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
                Effect::Persist(record) => {
                    if let Some(ledger) = &record.ledger {
                        self.disk.ledger_at = Some((ledger.height, ledger.hash));
                        for (key, value) in &ledger.changes {
                            match value.clone() {
                                Some(value) => self.disk.ledger.insert(key.clone(), value),
                                None => self.disk.ledger.remove(key),
                            };
                        }
                    }
                    if let Some(finalized) = &record.finalized {
                        let federation = finalized.federation.clone().expect("known when final");
                        self.disk.finalized = Some((finalized.certified.clone(), federation));
                    }
                }
                _ => {}
            }
        }
    }

    /// The contents of the store, whose ledger is that of `disk`.
    fn stored(&self, disk: &Disk) -> Stored {
        let below = self.blocks.iter().rev().skip(1);
        Stored {
            votes: Some(self.w.state.summary().votes),
            finalized: self.disk.finalized.clone(),
            window: below.map(|block| block.header.clone()).collect(),
            ledger: disk.ledger_at.map(|(height, hash)| StoredLedger {
                height,
                hash,
                entries: disk.ledger.clone().into_iter().collect(),
            }),
            ..Stored::default()
        }
    }

    /// Starts the node from the contents of its store. Returns the effects of the first answer of
    /// the execution layer.
    fn restart(&mut self, stored: Stored) -> Vec<Effect> {
        let now = Now {
            wall_ms: self.w.wall_ms,
            mono_ms: self.w.mono_ms,
        };
        let (state, start) =
            State::restore(self.w.config.clone(), stored, now, None).expect("it restores");
        self.w.state = state;
        self.read(&start);
        let head = self.head.clone();
        let effects = self.w.executed(&head);
        self.read(&effects);
        effects
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
        let block = Arc::new(proposal.block.clone());
        let header = block.header.clone();
        if approvals(&self.give(proposal)) == 0 {
            return false;
        }
        self.blocks.push(block);
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

/// In V1 the bits of a proof were free, and withdrawals beside the expected ones passed (S14, S8).
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

/// V1's chain stalled without proofs (S19): here it goes on with the next one.
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

/// In V1 a node without an answer computed other fees than its peers (S15).
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

/// V1 took a proof again for another block (S14).
#[test]
fn a_proof_is_carried_once() {
    let mut c = Chain::new(|_| {});
    c.extend(3);
    let mut old = None;
    let proposal = c.carrying(|_, proof| old = Some(proof.clone()));
    assert!(c.extend_with(proposal));
    c.extend(1);
    let old = old.expect("it was carried");
    // (changes of the old header, the rule)
    type Change = fn(&mut AuxPowHeader, &AuxPowHeader);
    let table: [(Change, &str); 3] = [
        (|_, _| {}, "auxpow.sequence is 1, the next one is 2"),
        (|replayed, _| replayed.sequence = 2, "auxpow.range_end"),
        (
            |replayed, right| {
                let auxpow = std::mem::take(&mut replayed.auxpow);
                *replayed = AuxPowHeader {
                    auxpow,
                    ..right.clone()
                };
            },
            "auxpow.auxpow: rule",
        ),
    ];
    for (change, rule) in table {
        let proposal = c.carrying(|_, right| {
            let mut replayed = old.clone();
            change(&mut replayed, right);
            *right = replayed;
        });
        let effects = c.give(proposal);
        assert_eq!(approvals(&effects), 0, "{rule}");
        let faults = Chain::faults(&effects);
        assert!(
            matches!(&faults[..], [fault] if fault.contains(rule)),
            "{rule}: {faults:?}"
        );
    }
}

/// Work over a branch that lost is of no use later (S2), however much of it is held.
#[test]
fn proofs_over_a_branch_that_lost_leave_room_for_one_that_fits() {
    let mut c = Chain::new(|_| {});
    c.extend(3);
    let all = c.offer.clone().expect("final blocks are offered");
    let first_two = WorkOffer {
        range: all.range[..2].to_vec(),
        ..(*all).clone()
    };
    // A block carries a proof over blocks 1 and 2, and another one over 1 to 3, which wins.
    let loser = c.carrying_proof(
        |bits, genesis| miner::mine_for(genesis, &first_two, MINER, bits),
        |_, _| {},
    );
    let lost = loser.block.header.clone();
    c.give(loser);
    let effects = c.w.give_certificate(VoteKind::Approval, &lost);
    c.read(&effects);
    let over_three = c.offer.clone().expect("block 3 is offered");
    assert_eq!((over_three.sequence, over_three.first), (2, Height(3)));
    for miner in 0..80 {
        let bits = Bits::new(over_three.bits).expect("canonical");
        let proof = miner::mine_for(&c.w.genesis, &over_three, Address([miner; 20]), bits);
        c.w.input(Input::Proof(Arc::new(proof)));
    }
    let winner = c.carrying_proof(
        |bits, genesis| miner::mine_for(genesis, &all, MINER, bits),
        |_, _| {},
    );
    let header = winner.block.header.clone();
    c.give(winner);
    for kind in [VoteKind::Approval, VoteKind::Confirmation] {
        let effects = c.w.give_certificate(kind, &header);
        c.read(&effects);
    }
    c.head = header;
    let right = c.offer.clone().expect("the winner is offered");
    assert_eq!((right.sequence, right.first), (2, Height(4)));
    let proof = mine(&c.w.genesis, &right);
    c.w.input(Input::Proof(Arc::new(proof.clone())));
    let (_, block) = c.w.lead(&c.head, c.slot);
    let carried = block.body.auxpow.expect("the proof that fits is carried");
    assert_eq!(carried.range_end, proof.range_end);
}

/// V1's leaders failed with the same queued proof in each of their slots (S4).
#[test]
fn a_proof_whose_fees_the_payload_lacks_costs_no_turn() {
    let mut c = Chain::new(|_| {});
    let tips = Additions {
        tips: U256::from(10_000_000_000_u64),
    };
    let paid = with_tips(&mut c, &tips);
    let header = paid.block.header.clone();
    c.give(paid);
    c.w.give_certificate(VoteKind::Approval, &header);
    c.w.input(Input::Accounted {
        hash: header.hash(),
        additions: Some(tips),
    });
    let effects = c.w.give_certificate(VoteKind::Confirmation, &header);
    c.read(&effects);
    c.head = header;
    let proof = Arc::new(mine(&c.w.genesis, c.offer.as_ref().expect("an offer")));
    c.w.input(Input::Proof(proof.clone()));
    let mut turns = c.slot + 1..;
    let set = c.w.genesis.set().clone();
    let is_own = |slot: &u64| set.leader(Slot(FIRST + slot)) == 3;
    let slot = turns.find(is_own).expect("one in four");
    let request = |effects: &[Effect]| {
        let mut requests = effects.iter().filter_map(|effect| match effect {
            Effect::Build(request) => Some(request.clone()),
            _ => None,
        });
        requests.next()
    };
    let asked = request(&c.w.at_slot(slot, 600)).expect("a payload is asked for");
    assert_eq!(asked.withdrawals.len(), 2);
    let payload = c.w.proposal(slot, &c.head, None, 0).block.body.payload;
    let built = Input::Built {
        slot: Slot(FIRST + slot),
        parent: c.head.hash(),
        payload: Box::new(payload),
    };
    let effects = c.w.input(built.clone());
    let is_invalid = |notice: &Notice| matches!(notice, Notice::OwnBlockInvalid { .. });
    assert!(notices(&effects).iter().any(is_invalid), "{effects:?}");
    let again = request(&effects).expect("another payload is asked for");
    assert!(again.withdrawals.is_empty());
    let effects = c.w.input(built);
    let is_proposed = effects.iter().any(|effect| match effect {
        Effect::Broadcast(Broadcast::Proposal { block, .. }) => block.body.auxpow.is_none(),
        _ => false,
    });
    assert!(is_proposed, "a block without the proof is proposed");
    // Its miner and peers send it again while its number is open.
    c.w.input(Input::Proof(proof));
    let slot = turns.find(is_own).expect("one in four");
    let asked = request(&c.w.at_slot(slot, 600)).expect("a payload is asked for");
    assert!(asked.withdrawals.is_empty(), "it stays dropped");
}

/// A certificate has to show the end of the range final; two of them may.
#[test]
fn one_certificate_of_a_body_shows_the_range_final() {
    // (end of the range, heights of the certificates, is approved)
    let table: [(u64, &[u64], bool); 9] = [
        (2, &[2], true),
        (2, &[3], true),
        (2, &[2, 3], false),
        (2, &[3, 2], false),
        (2, &[3, 3], false),
        (3, &[3], true),
        (3, &[2, 3], false),
        (3, &[3, 2], false),
        (2, &[1], false),
    ];
    for (end, shown, is_approved) in table {
        let mut c = Chain::new(|_| {});
        c.extend(3);
        let all = c.offer.clone().expect("final blocks are offered");
        let offer = WorkOffer {
            range: all.range[..end as usize].to_vec(),
            ..(*all).clone()
        };
        let certificates: Vec<Certificate> = shown
            .iter()
            .map(|height| &c.blocks[*height as usize - 1].header)
            .map(|header| c.w.certificate(VoteKind::Confirmation, header))
            .collect();
        let proposal = c.carrying_proof(
            |bits, genesis| miner::mine_for(genesis, &offer, MINER, bits),
            |block, _| block.body.finality = certificates,
        );
        let effects = c.give(proposal);
        assert_eq!(approvals(&effects) == 1, is_approved, "{end} {shown:?}");
    }
}

/// The last final block may be 1,024 below the block that carries a proof, and not more (rule 2.3).
/// Above, the gate is open, because no block could ever open it.
#[test]
fn a_proof_is_carried_up_to_the_edge_of_the_window_where_the_gate_ends() {
    let gate = |spec: &mut ChainSpec| spec.auxpow.max_blocks_without_pow = 2;
    for (above, is_carried) in [(FINALITY_WINDOW - 1, true), (FINALITY_WINDOW, false)] {
        let w = World::of_spec(gate);
        // Nobody checks the signatures of the own store.
        let sample = w.certificate(VoteKind::Approval, w.genesis.header());
        let certificate = |kind, header: &Header| Certificate {
            target: VoteTarget {
                kind,
                height: header.height,
                slot: header.slot,
                hash: header.hash(),
            },
            ..sample
        };
        let mut blocks: Vec<Block> = Vec::new();
        for slot in 1..=above + 2 {
            let parent = blocks.last().map_or(w.genesis.header(), |b| &b.header);
            let approved = (slot > 1).then(|| certificate(VoteKind::Approval, parent));
            let block = w.proposal(slot, parent, approved, 0).block;
            blocks.push(block);
        }
        let (last_final, top) = (blocks[1].header.clone(), blocks[blocks.len() - 1].clone());
        let offer = WorkOffer {
            sequence: 1,
            first: Height(1),
            range: blocks[..2].iter().map(|b| b.header.hash()).collect(),
            bits: w.genesis.spec().auxpow.limit_bits,
            final_sequence: 0,
            final_end: Height(0),
        };
        let proof = mine(&w.genesis, &offer);
        let federation = FederationRecord {
            authorities: w.genesis.set().authorities().to_vec(),
            last_order: 0,
            carried: None,
            settling: None,
        };
        let ledger = w.ledger_after(&last_final.hash());
        let entries = ledger.entries().map(|(k, v)| (k.to_vec(), v.to_vec()));
        let stored_block = |block: &Block| StoredBlock {
            header: block.header.clone(),
            block: Some(Arc::new(block.clone())),
            certificate: Some(certificate(VoteKind::Approval, &block.header)),
            additions: None,
        };
        let first = BlockRef {
            slot: Slot(FIRST),
            hash: w.genesis.hash(),
        };
        let stored = Stored {
            votes: Some(alys_consensus::VoteState::fresh(first)),
            finalized: Some((
                CertifiedHeader {
                    header: last_final.clone(),
                    certificate: w.certificate(VoteKind::Confirmation, &last_final),
                },
                federation,
            )),
            window: vec![blocks[0].header.clone()],
            blocks: blocks[1..].iter().map(stored_block).collect(),
            sets: Vec::new(),
            ledger: Some(StoredLedger {
                height: last_final.height,
                hash: last_final.hash(),
                entries: entries.collect(),
            }),
        };
        let mut node = World::start(|_| stored, gate);
        assert_eq!(node.state.summary().highest.hash, top.header.hash());
        node.executed(&top.header);
        node.input(Input::Proof(Arc::new(proof)));
        let (_, block) = node.lead(&top.header, above + 2);
        assert_eq!(block.header.height.0 - last_final.height.0, above + 1);
        assert_eq!(block.body.auxpow.is_some(), is_carried, "{above}");
        assert_eq!(block.body.finality.len(), usize::from(is_carried));
    }
}

/// V1 set the execution client's final block to zero with each start (S22).
#[test]
fn a_restart_keeps_the_block_that_is_final_by_proof_of_work() {
    let mut c = Chain::new(|_| {});
    c.extend(3);
    let proposal = c.carrying(|_, _| {});
    assert!(c.extend_with(proposal));
    c.extend(2);
    let before = c.offer.take().expect("work");
    let stored = c.stored(&c.disk);
    let effects = c.restart(stored);
    let end = c.blocks[2].header.execution_hash;
    let is_kept = |effect: &Effect| matches!(effect, Effect::Forkchoice { finalized, .. } if *finalized == end);
    assert!(effects.iter().any(is_kept), "{effects:?}");
    let after = c.offer.take().expect("the work is offered again");
    assert_eq!((after.sequence, &after.range), (2, &before.range));
    c.extend(1);
    let proposal = c.carrying(|_, _| {});
    assert!(c.extend_with(proposal), "the next proof is carried");
    assert_eq!(c.finals.last().map(|range| range.sequence), Some(2));
}

/// Final blocks whose receipts were not known at the end of a run, a proof among them, enter the
/// ledger one by one after the start.
#[test]
fn a_node_that_stopped_with_its_ledger_below_its_root_goes_on() {
    let mut c = Chain::new(|_| {});
    c.extend(3);
    let of_block_3 = c.disk.clone();
    let proposal = c.carrying(|_, _| {});
    assert!(c.extend_with(proposal));
    c.extend(2);
    let whole = c.disk.ledger.clone();
    c.finals.clear();
    for old in [Disk::default(), of_block_3] {
        c.disk.ledger = old.ledger.clone();
        c.disk.ledger_at = old.ledger_at;
        let stored = c.stored(&old);
        let mut effects = c.restart(stored);
        let child = c.proposal();
        assert_eq!(approvals(&c.give(child)), 0, "the ledger is not known");
        let next = |effects: &[Effect]| {
            let mut loads = effects.iter().filter_map(|effect| match effect {
                Effect::LoadFinal { height } => Some(*height),
                _ => None,
            });
            loads.next()
        };
        let mut approved = 0;
        while let Some(height) = next(&effects) {
            // The store does not answer at first.
            effects = c.w.input(Input::FinalLoaded {
                height,
                stored: None,
            });
            assert_eq!(next(&effects), None);
            let tick = c.w.input(Input::Tick);
            assert_eq!(next(&tick), Some(height), "the next tick asks again");
            let below = height.0.checked_sub(2).map(|at| &c.blocks[at as usize]);
            let stored = StoredFinal {
                block: c.blocks[height.0 as usize - 1].clone(),
                set_hash: below.map(|block| block.header.set_hash),
                additions: None,
            };
            effects = c.w.input(Input::FinalLoaded {
                height,
                stored: Some(Box::new(stored)),
            });
            c.read(&effects);
            approved += approvals(&effects);
        }
        assert_eq!(approved, 1, "the child is approved with the last one");
        assert_eq!(c.disk.ledger, whole);
        let ranges: Vec<u64> = c.finals.drain(..).map(|range| range.sequence).collect();
        assert_eq!(ranges, [1]);
    }
}
