//! The text of `chain.toml`: every field of the spec, each with a comment.

use alys_types::Genesis;

/// Section, key and comment. The sections are those of the file; the first has no name.
const COMMENTS: &[(&str, &str, &str)] = &[
    ("", "evm_chain_id", "Chain id of EVM transactions"),
    (
        "",
        "start_slot",
        "Slot of genesis; slots count from the Unix epoch",
    ),
    ("", "slot_duration_ms", "1000 to 60000"),
    (
        "",
        "fault_model",
        "byzantine: below a third behaves arbitrarily; crash: below half stops",
    ),
    (
        "",
        "drift_allowance_ms",
        "Tolerated difference between clocks. Not in the genesis hash",
    ),
    (
        "",
        "rejoin_margin",
        "Slots of silence after a lost vote state. Not in the genesis hash",
    ),
    (
        "",
        "max_gas_limit",
        "Highest gas limit of a block; 5 to 30 million",
    ),
    (
        "",
        "execution_genesis_hash",
        "Hash of block 0 of execution-genesis.json",
    ),
    (
        "upgrades",
        "height",
        "Rules from a height on, in rising order. Not in the genesis hash",
    ),
    (
        "authorities",
        "public_key",
        "A member of the first federation, in the order of its turns",
    ),
    (
        "governance",
        "threshold",
        "Signatures that make an order; 0 only in development",
    ),
    (
        "bitcoin",
        "network",
        "main, test, testnet4, signet; regtest: a development chain",
    ),
    (
        "bitcoin",
        "start",
        "Deposits are in Bitcoin blocks above this height",
    ),
    (
        "bitcoin",
        "required_confirmations",
        "Depth at which deposits and payouts count; 6 to 100",
    ),
    (
        "bitcoin.epoch_0",
        "threshold",
        "The first script of deposits: signatures of n keys",
    ),
    (
        "peg",
        "min_deposit",
        "Smallest output that is a deposit, in satoshi",
    ),
    (
        "peg",
        "min_peg_out",
        "Smallest burn that is paid, in satoshi",
    ),
    (
        "peg",
        "min_change",
        "Smallest change that payouts aim at, in satoshi",
    ),
    ("peg", "max_burns", "Most burns in a payout"),
    ("peg", "max_inputs", "Most inputs of a payout"),
    (
        "peg",
        "utxo_target",
        "Outputs that the federation's coins are split into",
    ),
    (
        "peg",
        "fee_floor",
        "Lowest fee rate, in satoshi per 1000 virtual bytes",
    ),
    ("peg", "fee_ceiling", "Highest fee rate"),
    (
        "peg",
        "incremental_rate",
        "Rate that a version of a payout adds to the one before",
    ),
    (
        "peg",
        "max_fee_share",
        "Largest fee, in parts of 10,000 of the payments",
    ),
    (
        "peg",
        "statement_age",
        "Seconds for which a leader's fee estimate counts",
    ),
    (
        "peg",
        "hold_after",
        "Age of a burn, in seconds, from which none is paid before it",
    ),
    (
        "peg",
        "replace_after",
        "Age of a version, in seconds, at which the next follows the rate",
    ),
    (
        "peg",
        "escalate_after",
        "Age of a version, in seconds, at which the next pays more",
    ),
    (
        "auxpow",
        "chain_id",
        "Chain id of merged mining; not 0x2000 to 0x3fff",
    ),
    (
        "auxpow",
        "limit_bits",
        "Easiest target, in Bitcoin's compact form",
    ),
    ("auxpow", "anchor_bits", "Target before the first proof"),
    (
        "auxpow",
        "spacing",
        "Seconds between proofs; two slots or more",
    ),
    (
        "auxpow",
        "half_life",
        "Seconds of delay that halve the difficulty",
    ),
    ("auxpow", "max_range", "Most blocks that one proof covers"),
    (
        "auxpow",
        "max_blocks_without_pow",
        "Final blocks without a proof after which none is approved; 0: no gate, in development",
    ),
];

/// Fields that are written in hex.
const HEX: [&str; 2] = ["limit_bits", "anchor_bits"];

/// The file of a chain.
pub(super) fn chain_toml(genesis: &Genesis) -> String {
    let spec = genesis.spec();
    let body = toml::to_string(spec)
        .expect("a spec has a TOML form: its numbers were read from 63-bit ones");
    format!(
        "# The chain spec of an Alys chain. Every node of the chain has the same file; a change \
         of a value\n\
         # is another chain, except where a comment says otherwise. Amounts and bounds: \
         docs/protocol.md, section 10.\n\
         # Genesis hash: {}\n\
         # Starts at slot {}, which is {} ms after the Unix epoch.\n\n{}",
        genesis.hash(),
        spec.start_slot,
        spec.start_slot.start_ms(spec.slot_duration_ms),
        commented(&body),
    )
}

/// Adds the comments, each before the first line of its field.
fn commented(body: &str) -> String {
    let mut out = String::new();
    let mut section = "";
    let mut last_list = "";
    for line in body.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']);
        }
        let key = line.split_once(" = ").map_or("", |(key, _)| key);
        let is_first = !line.is_empty() && last_list != section;
        let found = COMMENTS
            .iter()
            .find(|(of, name, _)| (*of, *name) == (section, key));
        if let Some((_, _, comment)) = found
            && (is_first || !is_list(section))
        {
            out.push_str(&format!("# {comment}.\n"));
            last_list = if is_list(section) { section } else { "" };
        }
        out.push_str(&in_hex(key, line));
        out.push('\n');
    }
    out
}

/// Sections that occur once for each entry.
fn is_list(section: &str) -> bool {
    matches!(section, "upgrades" | "authorities")
}

fn in_hex(key: &str, line: &str) -> String {
    let number = line
        .split_once(" = ")
        .and_then(|(_, number)| number.parse().ok());
    match number {
        Some(number) if HEX.contains(&key) => {
            let number: u32 = number;
            format!("{key} = {number:#010x}")
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::tests::new_chain;
    use crate::genesis::{ChainFiles, ExecutionFork, parse_chain};

    #[test]
    fn every_field_has_a_comment_once() {
        let (files, texts) = ChainFiles::new(&new_chain(ExecutionFork::Cancun)).expect("good");
        for (section, key, comment) in COMMENTS {
            let line = format!("# {comment}.\n");
            assert_eq!(texts.chain.matches(&line).count(), 1, "{section}.{key}");
        }
        let mut section = "";
        let mut before = "";
        for line in texts.chain.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_matches(['[', ']']);
            }
            let key = line.split_once(" = ").map_or("", |(key, _)| key);
            let is_plain = !is_list(section) && !key.is_empty() && key != "keys";
            assert!(!is_plain || before.starts_with("# "), "{section}.{key}");
            before = line;
        }
        let read = parse_chain("chain.toml", &texts.chain).expect("own text");
        assert_eq!(read.spec(), files.genesis.spec());
        assert!(texts.chain.contains("\nlimit_bits = 0x207fffff\n"));
    }
}
