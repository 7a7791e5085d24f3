//! The bounds of a spec, the fields that the genesis hash covers, and the upgrade table (protocol
//! sections 2 and 10).

use alys_types::bls::{PublicKeyBytes, SecretKey};
use alys_types::spec::{AuxPowSpec, BitcoinNetwork, GovernanceSpec};
use alys_types::*;

fn hash(n: u8) -> Hash {
    Hash([n; 32])
}

/// A development chain of four authorities.
fn spec() -> ChainSpec {
    let authority = |i: u8| {
        let key = SecretKey::derive(&[i; 32]);
        Authority {
            public_key: key.public_key().to_bytes(),
            proof_of_possession: key.prove_possession(),
            fee_address: Address([i; 20]),
        }
    };
    let authorities = (1..=4).map(authority).collect();
    ChainSpec::development(121_212, Slot(850_000_000), 2000, hash(60), authorities)
}

/// A spec for Bitcoin's main chain.
fn main_spec() -> ChainSpec {
    let mut spec = spec();
    spec.bitcoin.network = BitcoinNetwork::Main;
    spec.auxpow.max_blocks_without_pow = 600;
    spec.governance = GovernanceSpec {
        threshold: 1,
        keys: vec![SecretKey::derive(&[9; 32]).public_key().to_bytes()],
    };
    spec
}

fn upgrade(height: u64, header_version: u16, types: &[u8]) -> forks::Upgrade {
    forks::Upgrade {
        height: Height(height),
        header_version,
        transaction_types: types.to_vec(),
    }
}

type SpecChange = fn(&mut ChainSpec);

fn check_refused(spec: fn() -> ChainSpec, change: SpecChange, field: &str) {
    Genesis::new(spec()).expect("good without the change");
    let mut spec = spec();
    change(&mut spec);
    let error = Genesis::new(spec).expect_err(field).to_string();
    assert!(error.starts_with(&format!("{field}: ")), "{field}: {error}");
}

/// One row for each bound of section 10, just outside of it.
#[test]
fn bad_specs_are_refused_with_the_field_named() {
    let table: &[(&str, SpecChange)] = &[
        ("evm_chain_id", |s| s.evm_chain_id = 0),
        ("start_slot", |s| s.start_slot = Slot(0)),
        ("slot_duration_ms", |s| s.slot_duration_ms = 999),
        ("slot_duration_ms", |s| s.slot_duration_ms = 60_001),
        ("drift_allowance_ms", |s| s.drift_allowance_ms = 2000),
        ("rejoin_margin", |s| s.rejoin_margin = 0),
        ("max_gas_limit", |s| s.max_gas_limit = 4_999_999),
        ("max_gas_limit", |s| s.max_gas_limit = 30_000_001),
        ("upgrades", |s| s.upgrades.clear()),
        ("upgrades", |s| s.upgrades[0].height = Height(1)),
        ("upgrades[0].header_version", |s| {
            s.upgrades[0].header_version = 0
        }),
        ("upgrades[1].header_version", |s| {
            s.upgrades.push(upgrade(5, 2, &[0]));
        }),
        ("upgrades[1].height", |s| {
            s.upgrades.push(upgrade(0, 1, &[0]))
        }),
        ("upgrades[1].transaction_types", |s| {
            s.upgrades.push(upgrade(5, 1, &[0, 3]));
        }),
        ("upgrades[1].transaction_types", |s| {
            s.upgrades.push(upgrade(5, 1, &[]))
        }),
        ("upgrades[1].transaction_types", |s| {
            s.upgrades.push(upgrade(5, 1, &[2, 0]));
        }),
        ("governance.threshold", |s| s.governance.threshold = 1),
        ("bitcoin.required_confirmations", |s| {
            s.bitcoin.required_confirmations = 0
        }),
        ("bitcoin.required_confirmations", |s| {
            s.bitcoin.required_confirmations = 101
        }),
        ("bitcoin.epoch_0.threshold", |s| {
            s.bitcoin.epoch_0.threshold = 0
        }),
        ("bitcoin.epoch_0.threshold", |s| {
            s.bitcoin.epoch_0.threshold = 4
        }),
        ("bitcoin.epoch_0.threshold", |s| {
            s.bitcoin.epoch_0.keys.clear()
        }),
        ("bitcoin.epoch_0.keys[2]", |s| {
            s.bitcoin.epoch_0.keys[2] = s.bitcoin.epoch_0.keys[0];
        }),
        // No point of the curve has this coordinate, and no compressed key begins with 4.
        ("bitcoin.epoch_0.keys[1]", |s| {
            s.bitcoin.epoch_0.keys[1].0[1..].fill(0)
        }),
        ("bitcoin.epoch_0.keys[1]", |s| {
            s.bitcoin.epoch_0.keys[1].0[0] = 4
        }),
        ("peg.min_deposit", |s| s.peg.min_deposit = Sats(9_999)),
        // A quarter of it is 9,999 sat.
        ("peg.min_peg_out", |s| s.peg.min_peg_out = Sats(39_999)),
        ("peg.min_peg_out", |s| {
            s.peg.max_fee_share = 5_000;
            s.peg.fee_floor = FeeRate(100);
            s.peg.min_peg_out = Sats(1_997);
        }),
        ("peg.min_change", |s| s.peg.min_change = Sats(329)),
        ("peg.min_change", |s| s.peg.min_change = Sats(1_000_001)),
        ("peg.max_burns", |s| s.peg.max_burns = 0),
        ("peg.max_burns", |s| s.peg.max_burns = 101),
        ("peg.max_inputs", |s| s.peg.max_inputs = 0),
        ("peg.max_inputs", |s| s.peg.max_inputs = 144),
        // 19 * 100,000 sat are less than twice the smallest burn.
        ("peg.max_inputs", |s| s.peg.max_inputs = 19),
        ("peg.max_inputs", |s| s.peg.min_deposit = Sats(90_909)),
        ("peg.utxo_target", |s| s.peg.utxo_target = 0),
        ("peg.utxo_target", |s| s.peg.utxo_target = 65),
        ("peg.fee_floor", |s| s.peg.fee_floor = FeeRate(99)),
        ("peg.fee_floor", |s| s.peg.fee_floor = s.peg.fee_ceiling),
        ("peg.fee_ceiling", |s| {
            s.peg.fee_ceiling = FeeRate(10_000_001)
        }),
        ("peg.incremental_rate", |s| {
            s.peg.incremental_rate = FeeRate(99)
        }),
        ("peg.incremental_rate", |s| {
            s.peg.incremental_rate = FeeRate(10_001)
        }),
        ("peg.max_fee_share", |s| s.peg.max_fee_share = 99),
        ("peg.max_fee_share", |s| s.peg.max_fee_share = 5_001),
        // Four slots of four authorities are 32 seconds.
        ("peg.statement_age", |s| s.peg.statement_age = 31),
        ("peg.hold_after", |s| s.peg.hold_after = 0),
        ("peg.replace_after", |s| s.peg.replace_after = 0),
        ("peg.replace_after", |s| s.peg.replace_after = 86_400),
        ("auxpow.chain_id", |s| s.auxpow.chain_id = 0x2000),
        ("auxpow.chain_id", |s| s.auxpow.chain_id = 0x3fff),
        // Negative, zero, not canonical, over 256 bits.
        ("auxpow.limit_bits", |s| s.auxpow.limit_bits = 0x2080_0001),
        ("auxpow.limit_bits", |s| s.auxpow.limit_bits = 0x2000_0000),
        ("auxpow.limit_bits", |s| s.auxpow.limit_bits = 0x2000_7fff),
        ("auxpow.limit_bits", |s| s.auxpow.limit_bits = 0x2101_0000),
        ("auxpow.anchor_bits", |s| s.auxpow.anchor_bits = 0x0200_8001),
        ("auxpow.anchor_bits", |s| s.auxpow.limit_bits = 0x1d00_ffff),
        ("auxpow.spacing", |s| s.auxpow.spacing = 3),
        ("auxpow.spacing", |s| s.auxpow.spacing = 86_401),
        ("auxpow.half_life", |s| s.auxpow.half_life = 19),
        ("auxpow.half_life", |s| s.auxpow.half_life = (1 << 31) + 1),
        ("auxpow.max_range", |s| s.auxpow.max_range = 0),
        ("auxpow.max_range", |s| s.auxpow.max_range = 4_097),
        ("auxpow.max_blocks_without_pow", |s| {
            s.auxpow.max_blocks_without_pow = 4_097;
        }),
        ("authorities", |s| s.authorities.clear()),
        ("authorities[1].public_key", |s| {
            s.authorities[1] = s.authorities[0].clone();
        }),
        ("authorities[2].public_key", |s| {
            s.authorities[2].public_key = PublicKeyBytes([0; 48]);
        }),
        // Another's proof: a rogue key cannot be proven.
        ("authorities[3].proof_of_possession", |s| {
            s.authorities[3].proof_of_possession = s.authorities[0].proof_of_possession;
        }),
    ];
    for (field, change) in table {
        check_refused(spec, *change, field);
    }
    let only_in_development: &[(&str, SpecChange)] = &[
        ("rejoin_margin", |s| s.rejoin_margin = 1_023),
        ("bitcoin.required_confirmations", |s| {
            s.bitcoin.required_confirmations = 5
        }),
        ("governance.threshold", |s| {
            s.governance = GovernanceSpec::default()
        }),
        ("auxpow.max_blocks_without_pow", |s| {
            s.auxpow.max_blocks_without_pow = 0
        }),
    ];
    for (field, change) in only_in_development {
        check_refused(main_spec, *change, field);
        let mut development = main_spec();
        development.bitcoin.network = BitcoinNetwork::Regtest;
        change(&mut development);
        Genesis::new(development).expect(field);
    }
}

#[test]
fn values_at_the_bounds_are_good() {
    let table: &[(&str, SpecChange)] = &[
        ("slot", |s| s.slot_duration_ms = 1000),
        ("chain ids", |s| s.auxpow.chain_id = 0x4000),
        ("gas", |s| s.max_gas_limit = 5_000_000),
        ("inputs", |s| s.peg.max_inputs = 20),
        ("deposits", |s| s.peg.min_deposit = Sats(90_910)),
        ("share", |s| s.peg.min_peg_out = Sats(1_000_000)),
        ("statements", |s| s.peg.statement_age = 32),
        ("highest target", |s| s.auxpow.limit_bits = 0x2100_ffff),
        ("lowest target", |s| s.auxpow.anchor_bits = 0x0101_0000),
        ("an upgrade", |s| s.upgrades.push(upgrade(1, 1, &[0, 2]))),
    ];
    for (what, change) in table {
        let mut spec = spec();
        change(&mut spec);
        Genesis::new(spec).expect(what);
    }
}

/// Operators may change what the genesis hash leaves out, on one node after the other.
#[test]
fn the_genesis_hash_covers_all_fields_but_three() {
    let genesis = |change: SpecChange| {
        let mut spec = spec();
        change(&mut spec);
        Genesis::new(spec).expect("a good spec").hash()
    };
    let unchanged = genesis(|_| {});
    let left_out: [SpecChange; 3] = [
        |s| s.drift_allowance_ms = 499,
        |s| s.rejoin_margin = 1,
        |s| s.upgrades.push(upgrade(9, 1, &[0, 2])),
    ];
    for change in left_out {
        assert_eq!(genesis(change), unchanged);
    }
    let covered: [SpecChange; 14] = [
        |s| s.evm_chain_id = 1,
        |s| s.start_slot = Slot(1),
        |s| s.slot_duration_ms = 1999,
        |s| s.fault_model = FaultModel::Crash,
        |s| s.max_gas_limit = 29_999_999,
        |s| s.execution_genesis_hash = hash(1),
        |s| s.authorities.truncate(s.authorities.len() - 1),
        |s| s.governance = main_spec().governance,
        |s| s.bitcoin.network = BitcoinNetwork::Test,
        |s| s.bitcoin.start = 1,
        |s| s.bitcoin.epoch_0.threshold = 1,
        |s| s.peg.hold_after = 1,
        |s| s.auxpow.spacing = 21,
        |s| s.auxpow.anchor_bits = 0x1d00_ffff,
    ];
    let mut hashes: Vec<Hash> = covered.map(genesis_or_main).to_vec();
    hashes.push(unchanged);
    let count = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), count);
}

/// The genesis hash of a changed spec, which another network than regtest needs more fields for.
fn genesis_or_main(change: SpecChange) -> Hash {
    let mut changed = spec();
    change(&mut changed);
    if changed.bitcoin.network == BitcoinNetwork::Test {
        changed = main_spec();
        change(&mut changed);
    }
    Genesis::new(changed).expect("a good spec").hash()
}

#[test]
fn an_upgrade_is_in_force_from_its_height_on() {
    let mut spec = spec();
    spec.upgrades.push(upgrade(10, 1, &[0, 2]));
    let genesis = Genesis::new(spec).expect("a good spec");
    for (height, types) in [
        (0, &[0, 1, 2][..]),
        (9, &[0, 1, 2]),
        (10, &[0, 2]),
        (11, &[0, 2]),
    ] {
        let found = &genesis.upgrade(Height(height)).transaction_types;
        assert_eq!(found, types, "{height}");
    }
    let before = Genesis::new(self::spec()).expect("a good spec");
    assert_eq!(before.hash(), genesis.hash());
    let theirs = before.fork_id(Height(9));
    assert_eq!(genesis.check_fork_id(&theirs, Height(9)), Ok(()));
    assert!(genesis.check_fork_id(&theirs, Height(10)).is_err());
}

/// Section 10: the gate closes after twenty proofs are missing, whatever the spacing that slots
/// permit.
#[test]
fn the_gate_of_a_new_chain_follows_its_own_spacing() {
    for (slot_ms, spacing, gate) in [
        (1_000, 60, 1_200),
        (2_000, 60, 600),
        (30_000, 60, 40),
        (60_000, 120, 40),
    ] {
        let auxpow = AuxPowSpec::of_slots(slot_ms);
        let found = (auxpow.spacing, auxpow.max_blocks_without_pow);
        assert_eq!(found, (spacing, gate), "slots of {slot_ms} ms");
    }
}
