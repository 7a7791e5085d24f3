//! The ledger over chains of blocks, against a model, and its encoding, pinned. A changed golden
//! file is a changed protocol: it needs a decision in `docs/adr`, then `ALYS_BLESS=1 cargo test -p
//! alys-peg --test ledger` rewrites it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use alloy_primitives::U256;
use alys_peg::{Additions, LastProof, Ledger, LedgerError, MAX_ENTRY_BYTES, PowEnd, Uncovered};
use alys_types::bls::SecretKey;
use alys_types::spec::{AuxPowSpec, ChainSpec, empty_ledger_hash};
use alys_types::{
    Address, Authority, AuthoritySet, AuxPowHeader, Block, Body, ExecutionPayload, Genesis, Hash,
    Header, Height, Slot, Withdrawal, codec,
};
use proptest::prelude::*;

const AUTHORITIES: u64 = 3;
const START: u64 = 850_000_000;
const SLOT_MS: u64 = 2_000;
const BITS: u32 = 0x1d00_ffff;
const MINER: Address = Address([0xaa; 20]);

fn genesis() -> Genesis {
    let authority = |index: u64| {
        let key = SecretKey::derive(&[index as u8 + 1; 32]);
        Authority {
            public_key: key.public_key().to_bytes(),
            proof_of_possession: key.prove_possession(),
            fee_address: fee_address(index),
        }
    };
    let authorities = (0..AUTHORITIES).map(authority).collect();
    let spec = ChainSpec::development(1, Slot(START), SLOT_MS, Hash([9; 32]), authorities);
    Genesis::new(ChainSpec {
        auxpow: AuxPowSpec {
            anchor_bits: BITS,
            max_range: 6,
            ..spec.auxpow
        },
        ..spec
    })
    .expect("a good spec")
}

fn fee_address(index: u64) -> Address {
    Address([index as u8 + 1; 20])
}

/// The block of a height, two slots after the one before.
fn block(height: u64, proof: Option<AuxPowHeader>) -> Block {
    let mut execution_hash = [0xee; 32];
    execution_hash[..8].copy_from_slice(&height.to_be_bytes());
    let slot = Slot(START + 2 * height);
    let payload = ExecutionPayload {
        parent_hash: Hash::ZERO,
        fee_recipient: Address::default(),
        state_root: Hash::ZERO,
        receipts_root: Hash::ZERO,
        logs_bloom: [0; 256],
        prev_randao: Hash::ZERO,
        block_number: height,
        gas_limit: 0,
        gas_used: 0,
        timestamp: slot.timestamp(SLOT_MS),
        extra_data: vec![],
        base_fee_per_gas: [0; 32],
        block_hash: Hash(execution_hash),
        transactions: vec![],
        withdrawals: vec![],
        blob_gas: None,
    };
    let body = Body {
        auxpow: proof,
        ..Body::of(payload)
    };
    let header = Header {
        version: 1,
        evm_chain_id: 1,
        genesis_hash: Hash([8; 32]),
        height: Height(height),
        slot,
        proposer: 0,
        parent_hash: Hash::ZERO,
        parent_certificate: None,
        execution_hash: Hash(execution_hash),
        body_hash: body.hash(),
        set_hash: Hash::ZERO,
        ledger_hash: Hash::ZERO,
    };
    Block { header, body }
}

fn proof(sequence: u64, end: Hash) -> AuxPowHeader {
    AuxPowHeader {
        range_start: Hash::ZERO,
        range_end: end,
        bits: BITS - sequence as u32,
        chain_id: 1,
        sequence,
        auxpow: vec![],
        miner: MINER,
    }
}

fn tips(wei: u64) -> Additions {
    Additions {
        tips: U256::from(wei),
    }
}

/// A chain with its ledger, and the entries as a store has them.
struct Chain {
    genesis: Genesis,
    blocks: Vec<Block>,
    ledger: Ledger,
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Chain {
    fn new() -> Chain {
        Chain {
            genesis: genesis(),
            blocks: Vec::new(),
            ledger: Ledger::empty(),
            stored: BTreeMap::new(),
        }
    }

    fn set(&self) -> &AuthoritySet {
        self.genesis.set()
    }

    fn hash(&self, height: u64) -> Hash {
        self.blocks[height as usize - 1].header.hash()
    }

    /// Appends a block, with a proof of this number over the blocks up to a height.
    fn extend(&mut self, wei: u64, proved: Option<(u64, u64)>) {
        let height = self.blocks.len() as u64 + 1;
        let proof = proved.map(|(sequence, end)| proof(sequence, self.hash(end)));
        let block = block(height, proof);
        let applied = self.ledger.apply(
            &self.genesis,
            self.set(),
            &block.header,
            block.body.auxpow.as_ref(),
            &tips(wei),
        );
        let (ledger, changes) = applied.expect("applies");
        assert!(changes.is_sorted_by(|a, b| a.0 < b.0), "ascending keys");
        for (key, value) in changes {
            match value {
                Some(value) => self.stored.insert(key, value),
                None => self.stored.remove(&key),
            };
        }
        self.blocks.push(block);
        self.ledger = ledger;
        self.check_stored();
    }

    fn check_stored(&self) {
        let restored = Ledger::from_entries(self.stored.clone()).expect("decodes");
        assert_eq!(restored, self.ledger);
        let mut entries: Vec<_> = self.ledger.entries().collect();
        entries.sort();
        let stored = self.stored.iter();
        let stored: Vec<_> = stored
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
            .collect();
        assert_eq!(entries, stored);
        for (key, value) in entries {
            assert_eq!(self.ledger.get(key), Some(value));
        }
    }
}

fn fee(index: u64, address: Address, amount_gwei: u64) -> Withdrawal {
    Withdrawal {
        index,
        validator_index: 0,
        address,
        amount_gwei,
    }
}

#[test]
fn an_empty_ledger_starts_from_genesis() {
    let genesis = genesis();
    let ledger = Ledger::empty();
    assert_eq!(ledger.root(), empty_ledger_hash());
    assert_eq!(
        ledger.work(&genesis),
        LastProof {
            end: PowEnd {
                height: Height(0),
                hash: genesis.hash(),
                execution_hash: Hash([9; 32]),
            },
            sequence: 0,
            bits: BITS,
            timestamp: START * SLOT_MS / 1000,
        }
    );
    assert!(ledger.range(&genesis, 10).is_empty());
    assert_eq!(ledger.uncovered(Height(0)), None);
    assert_eq!(
        (ledger.remainder(), ledger.next_withdrawal()),
        (U256::ZERO, 0)
    );
    assert_eq!(ledger.entries().count(), 0);
}

#[test]
fn a_proof_pays_the_tips_of_its_range_and_removes_its_blocks() {
    let gwei = 1_000_000_000;
    let mut chain = Chain::new();
    for wei in [gwei, 2 * gwei, 3 * gwei + 7, 5 * gwei] {
        chain.extend(wei, None);
    }
    let all: Vec<_> = (1..=4).map(|height| chain.hash(height)).collect();
    assert_eq!(chain.ledger.range(&chain.genesis, 10), all);
    assert_eq!(chain.ledger.range(&chain.genesis, 2), all[..2]);

    // Block 5 carries a proof over blocks 1 to 3. Its own tips and those of block 4 wait.
    let before = chain.ledger.clone();
    let first = proof(1, chain.hash(3));
    let fees = before.fees(&chain.genesis, chain.set(), &first, Height(3));
    assert_eq!(
        fees.withdrawals,
        [fee(0, MINER, 4), fee(1, fee_address(1), 1)]
    );
    assert_eq!(fees.remainder, U256::from(gwei + 7));
    chain.extend(11 * gwei, Some((1, 3)));
    let end = PowEnd {
        height: Height(3),
        hash: chain.hash(3),
        execution_hash: chain.blocks[2].header.execution_hash,
    };
    assert_eq!(
        chain.ledger.work(&chain.genesis),
        LastProof {
            end,
            sequence: 1,
            bits: BITS - 1,
            timestamp: (START + 10) * SLOT_MS / 1000,
        }
    );
    let ledger = &chain.ledger;
    assert_eq!(ledger.remainder(), U256::from(gwei + 7));
    assert_eq!(ledger.next_withdrawal(), 2);
    assert_eq!(
        ledger.range(&chain.genesis, 10),
        [chain.hash(4), chain.hash(5)]
    );
    assert_eq!(ledger.uncovered(Height(3)), None);
    assert_eq!(
        ledger.uncovered(Height(5)),
        Some(Uncovered {
            hash: chain.hash(5),
            execution_hash: chain.blocks[4].header.execution_hash,
            tips: U256::from(11 * gwei),
        })
    );

    // The next one pays the tips of the block that carried the first, and the remainder.
    chain.extend(0, None);
    chain.extend(0, None);
    let second = proof(2, chain.hash(5));
    let fees = chain
        .ledger
        .fees(&chain.genesis, chain.set(), &second, Height(5));
    assert_eq!(
        fees.withdrawals,
        [fee(2, MINER, 13), fee(3, fee_address(2), 3)]
    );
    assert_eq!(fees.remainder, U256::from(gwei + 7));

    // The ledger of before is as it was.
    assert_eq!(before.range(&chain.genesis, 10), all);
    assert_eq!(before.next_withdrawal(), 0);
}

/// V1's leader made two withdrawals to one address and its checker expected their sum (S5). A block
/// has two fees at most, so that they leave room for 14 deposits (S6).
#[test]
fn two_fees_to_one_address_are_two_withdrawals() {
    let mut chain = Chain::new();
    chain.extend(10_000_000_000, None);
    let own = AuxPowHeader {
        miner: fee_address(1),
        ..proof(1, chain.hash(1))
    };
    let fees = chain
        .ledger
        .fees(&chain.genesis, chain.set(), &own, Height(1));
    assert_eq!(
        fees.withdrawals,
        [fee(0, fee_address(1), 8), fee(1, fee_address(1), 2)]
    );
}

#[test]
fn amounts_of_zero_have_no_withdrawal_and_no_entry() {
    let mut chain = Chain::new();
    chain.extend(0, None);
    chain.extend(0, None);
    chain.extend(4_000_000_000, Some((1, 2)));
    assert_eq!(chain.ledger.next_withdrawal(), 0);
    assert_eq!(chain.ledger.get(b"withdrawal"), None);
    assert_eq!(chain.ledger.get(b"remainder"), None);
    // A miner's share alone takes one number.
    chain.extend(0, None);
    chain.extend(0, Some((2, 3)));
    assert_eq!(chain.ledger.next_withdrawal(), 1);
    assert_eq!(chain.ledger.remainder(), U256::from(1_000_000_000));
    // The remainder is paid later, and its entry leaves.
    chain.extend(4_000_000_000, None);
    chain.extend(0, None);
    chain.extend(0, Some((3, 6)));
    assert_eq!(chain.ledger.next_withdrawal(), 3);
    assert_eq!(chain.ledger.get(b"remainder"), None);
}

#[test]
fn a_range_ends_at_one_of_the_blocks_that_may_be_proven() {
    let mut chain = Chain::new();
    (0..8).for_each(|_| chain.extend(1, None));
    let genesis = &chain.genesis;
    // `max_range` is 6.
    let ends = (1..=8).map(|height| chain.ledger.range_end(genesis, &chain.hash(height)));
    let heights: Vec<_> = ends.map(|end| end.map(|end| end.height.0)).collect();
    let wanted = [
        Some(1),
        Some(2),
        Some(3),
        Some(4),
        Some(5),
        Some(6),
        None,
        None,
    ];
    assert_eq!(heights, wanted);
    for (found, description) in [
        (chain.hash(7), "beyond the longest range"),
        (genesis.hash(), "an empty range"),
        (Hash([1; 32]), "unknown"),
    ] {
        let carrier = block(9, Some(proof(1, found)));
        let applied = chain
            .ledger
            .apply(
                genesis,
                chain.set(),
                &carrier.header,
                carrier.body.auxpow.as_ref(),
                &tips(0),
            )
            .map(|(ledger, _)| ledger);
        assert_eq!(
            applied,
            Err(LedgerError::RangeEnd { found }),
            "{description}"
        );
    }
}

#[test]
fn entries_that_do_not_decode_are_refused_by_name() {
    let height = |height: u64| [&b"block/"[..], &height.to_be_bytes()].concat();
    let wei = vec![0; 32];
    let good = Ledger::from_entries([(b"remainder".to_vec(), wei.clone())]);
    assert!(good.is_ok());
    let mut long = wei.clone();
    long.push(0);
    // Key, value, and words of the error.
    let table: [(Vec<u8>, Vec<u8>, &str); 9] = [
        (b"remainder".to_vec(), vec![0; 31], "remainder: malformed"),
        (b"remainder".to_vec(), long, "remainder: 1 bytes after"),
        (b"withdrawal".to_vec(), vec![], "withdrawal: malformed"),
        (b"proof".to_vec(), vec![0; 90], "proof: malformed"),
        (height(1), vec![0; 95], "block/\\x00\\x00"),
        (
            height(1),
            vec![0; MAX_ENTRY_BYTES + 1],
            "exceeds the limit of 16384",
        ),
        (b"block/1".to_vec(), vec![0; 96], "block/1: no entry"),
        (b"other".to_vec(), vec![], "other: no entry"),
        (vec![], vec![], "no entry"),
    ];
    for (key, value, words) in table {
        let error = Ledger::from_entries([(key, value)]).expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Blocks with random tips and proofs over random ranges: what is paid and what remains are the
    /// tips of the covered blocks, numbers are consecutive, ranges neither overlap nor leave a gap.
    #[test]
    fn tips_are_paid_once_and_ranges_are_contiguous(
        steps in proptest::collection::vec((0u64..20_000_000_000, 0u64..4), 1..40),
    ) {
        let mut chain = Chain::new();
        let mut all_tips: Vec<u64> = Vec::new();
        let (mut covered, mut sequence, mut paid, mut index) = (0, 0, 0, 0);
        for (wei, length) in steps {
            let height = all_tips.len() as u64 + 1;
            let end = covered + length;
            // A proper ancestor that is not the parent, as a range's end is final.
            let proved = (length > 0 && end + 1 < height).then(|| (sequence + 1, end));
            if let Some((next, end)) = proved {
                let header = proof(next, chain.hash(end));
                let fees = chain.ledger.fees(&chain.genesis, chain.set(), &header, Height(end));
                for withdrawal in fees.withdrawals {
                    prop_assert_eq!(withdrawal.index, index);
                    index += 1;
                    paid += withdrawal.amount_gwei * 1_000_000_000;
                }
                (covered, sequence) = (end, next);
            }
            chain.extend(wei, proved);
            all_tips.push(wei);
            let work = chain.ledger.work(&chain.genesis);
            prop_assert_eq!((work.sequence, work.end.height), (sequence, Height(covered)));
            let owed: u64 = all_tips[..covered as usize].iter().sum();
            prop_assert_eq!(U256::from(owed - paid), chain.ledger.remainder());
            prop_assert_eq!(chain.ledger.next_withdrawal(), index);
            let waiting: Vec<_> = (covered + 1..=height).map(|h| chain.hash(h)).collect();
            prop_assert_eq!(chain.ledger.range(&chain.genesis, usize::MAX), waiting);
        }
    }
}

#[test]
fn entries_and_roots_are_pinned() {
    let mut chain = Chain::new();
    let mut lines = vec![
        format!("empty root {}", chain.ledger.root()),
        format!(
            "additions {}",
            hex::encode(codec::encode(&tips(0x0102_0304)))
        ),
    ];
    // The pinned heights and numbers have several digits of 256 each.
    for (wei, proved) in [
        (5_000_000_001, None),
        (0x0102_0304_0506_0708, None),
        (3, Some((1, 1))),
        (4, None),
        (5, Some((0x0203, 2))),
    ] {
        chain.extend(wei, proved);
        lines.push(format!("root {}", chain.ledger.root()));
    }
    for (key, value) in &chain.stored {
        lines.push(format!("{} {}", hex::encode(key), hex::encode(value)));
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/entries.txt");
    let text = lines.join("\n");
    if std::env::var_os("ALYS_BLESS").is_some() {
        std::fs::write(&path, format!("{text}\n")).expect("writes");
    }
    let pinned = std::fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(pinned.trim(), text, "the encoding of the ledger changed");
}
