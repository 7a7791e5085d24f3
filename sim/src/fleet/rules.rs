//! The protocol rules that scenarios can cover: sections 1 to 4, 6 and 7, and of section 5 those of
//! the ledger and of fees, as far as they are implemented. Rules of the peg, synchronisation and
//! governance are added with their features.

use std::collections::BTreeMap;

use crate::plan::format::{self, ScenarioError};

/// A rule of the protocol, see `docs/protocol.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Section and number, as in `covers` of scenario files.
    pub id: &'static str,
    /// The guarantee, as a sentence.
    pub sentence: &'static str,
    /// The reason why no scenario covers the rule, if none does.
    pub uncovered: Option<&'static str>,
}

const fn rule(id: &'static str, sentence: &'static str) -> Rule {
    Rule {
        id,
        sentence,
        uncovered: None,
    }
}

const fn without(id: &'static str, sentence: &'static str, reason: &'static str) -> Rule {
    Rule {
        id,
        sentence,
        uncovered: Some(reason),
    }
}

/// All rules, in the order of the protocol.
pub const RULES: &[Rule] = &[
    rule(
        "1.1",
        "The leader of a slot is the authority of that number modulo n, and no other authority \
         proposes in it.",
    ),
    rule(
        "1.2",
        "A block's timestamp comes from its slot, so that a leader's clock cannot change it.",
    ),
    rule(
        "1.3",
        "In the byzantine model a quorum is n - floor((n-1)/3).",
    ),
    rule("1.4", "In the crash model a quorum is n - floor((n-1)/2)."),
    without(
        "1.5",
        "Keys carry a proof of possession and are subgroup-checked; infinity is refused.",
        "checked when a genesis is loaded, before there is a network; golden files and unit tests \
         of the keys hold it",
    ),
    rule(
        "1.6",
        "A certificate's bitmap has exactly as many bits as the set of its height.",
    ),
    rule(
        "1.7",
        "A set change takes effect at its height only if its finality is shown on the branch \
         before.",
    ),
    rule(
        "2.1",
        "Genesis counts as certified and final: every node starts from it, and resumes from its \
         own state.",
    ),
    without(
        "2.2",
        "Header version and rules come from the upgrade table; a fork id that does not fit ends \
         the connection.",
        "there is one version and one chain in a world until a node of the previous version joins \
         it",
    ),
    rule(
        "2.3",
        "The block hash covers the header, and the header binds the body: a changed body is no \
         block.",
    ),
    rule(
        "2.4",
        "One canonical encoding: truncated, longer or altered messages are refused, and decoders \
         never panic.",
    ),
    rule(
        "2.5",
        "A block is at most 8 MiB, its gas limit that of the spec, its transactions of listed \
         types, and a leader checks its own block before it signs.",
    ),
    rule(
        "2.6",
        "Nothing local to a node is in a block: all nodes have the same state at the same block.",
    ),
    rule(
        "3.1",
        "A leader proposes on the certified block with the highest slot that it knows, and once a \
         slot.",
    ),
    rule(
        "3.2",
        "A node approves a later slot than it has approved, on a parent not below its lock, within \
         the slot.",
    ),
    rule(
        "3.3",
        "A quorum of approvals, and nothing else, certifies a block.",
    ),
    rule(
        "3.4",
        "A node confirms a block if it has approved none of a later slot, and locks it before it \
         sends the confirmation.",
    ),
    rule(
        "3.5",
        "A quorum of confirmations makes a block and all its ancestors final, forever.",
    ),
    rule(
        "3.6",
        "A block is valid only if the execution client, queried until the slot ends, answers \
         VALID.",
    ),
    rule(
        "3.7",
        "Messages about blocks that are not final are sent again after each slot and on each \
         connection; receiving is idempotent.",
    ),
    rule(
        "3.8",
        "A node that lost its vote state is silent until a block later than the margin is final.",
    ),
    rule(
        "3.9",
        "A node whose clock jumped, or is far ahead of the chain at its start, is silent until the \
         time is confirmed.",
    ),
    rule(
        "3.10",
        "The head is the certified block with the highest slot that descends from the last final \
         block.",
    ),
    without(
        "3.11",
        "A full node that is no authority follows certificates.",
        "worlds have authorities only; an authority that catches up follows certificates in the \
         same way",
    ),
    rule(
        "3.12",
        "The sync target is the highest certificate that was verified, never a claim.",
    ),
    rule(
        "3.13",
        "Equivocation is kept as evidence, reported and counted, and never held against a correct \
         authority.",
    ),
    rule(
        "3.14",
        "All power lost at once, also right after locking, costs no final block and does not stop \
         the chain.",
    ),
    rule(
        "3.15",
        "Nodes check votes and proposals of the slots that are open, two different ones of each \
         signer, slot and kind at most.",
    ),
    rule(
        "4.1",
        "Miners get work over the oldest final blocks that no proof covers, for their address alone.",
    ),
    rule(
        "4.2",
        "A proof has Namecoin's format, with the magic once in the scripts of its coinbase.",
    ),
    without(
        "4.3",
        "The auxpow chain id is none that BIP 9 and BIP 320 give to parents by chance.",
        "checked when a spec is loaded, before there is a network; unit tests of the spec hold it",
    ),
    rule(
        "4.4",
        "A block carries the next proof, over a range that follows the last one and is shown final.",
    ),
    rule(
        "4.5",
        "Bits follow from those of the proof before and the time since, up to the limit.",
    ),
    rule(
        "4.6",
        "With too many final blocks without a proof only a block with one is approved, and there is \
         work for it.",
    ),
    rule(
        "4.7",
        "Nodes answer miners with work, and each proof with a verdict that names the rule.",
    ),
    rule(
        "5.1",
        "A header has the hash of the ledger after its parent, the same on every node.",
    ),
    rule(
        "5.4",
        "Tips come from receipts under the payload's root, and are stored with the block.",
    ),
    rule(
        "5.25",
        "A proof pays the tips of its range, four fifths to its miner and one to an authority, once.",
    ),
    rule(
        "6.1",
        "Only VALID is valid: a block without an answer is neither approved nor made head.",
    ),
    rule(
        "6.2",
        "INVALID names the block and its descendants as bad, and is never approved; about a \
         certified block the execution client is asked again.",
    ),
    rule(
        "6.3",
        "After every reconnect the node replays forkchoice and sends the payloads that the \
         execution client lost.",
    ),
    without(
        "6.4",
        "The Engine API is entered with a fresh JWT.",
        "every call of every scenario carries one, and a wrong one is a fault of the execution \
         client's counterpart",
    ),
    rule(
        "6.5",
        "A leader whose payload breaks a rule, or without a certificate twice running, proposes \
         without transactions.",
    ),
    rule(
        "7.1",
        "Votes, blocks and certificates reach all nodes by gossip, also twice and in another \
         order.",
    ),
    rule(
        "7.2",
        "Peers answer requests for status and ranges, and a false answer costs only the peer.",
    ),
    without(
        "7.3",
        "Two finality certificates that contradict each other are an ERROR with evidence.",
        "it requires more faulty authorities than are tolerated; planted bugs show that it is \
         detected",
    ),
    rule(
        "7.4",
        "A peer that breaks the rules loses score and is banned for a while; a correct peer is \
         never banned for long.",
    ),
    rule(
        "7.5",
        "Connections break, hang, are half-open and are re-established; identities persist.",
    ),
    rule(
        "7.6",
        "Authorities that prove their key have a place that no stranger takes.",
    ),
];

/// Returns the names of the scenarios that cover each rule.
///
/// # Errors
/// [`ScenarioError`] if a scenario file cannot be read.
pub fn covered() -> Result<BTreeMap<String, Vec<String>>, ScenarioError> {
    let mut covered: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in format::list()?.into_keys() {
        for rule in format::load(&name)?.plan.covers {
            covered.entry(rule).or_default().push(name.clone());
        }
    }
    Ok(covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_scenario_or_a_reason() {
        let covered = covered().expect("scenarios are read");
        for rule in RULES {
            match rule.uncovered {
                None => {
                    assert!(
                        covered.contains_key(rule.id),
                        "{} has no scenario: {}",
                        rule.id,
                        rule.sentence
                    )
                }
                Some(reason) => {
                    assert!(reason.len() > 20, "{}", rule.id);
                    assert!(
                        !covered.contains_key(rule.id),
                        "{} has a scenario: take its reason away",
                        rule.id
                    );
                }
            }
        }
    }

    #[test]
    fn scenarios_name_rules_that_there_are() {
        let is_of_v1 = |id: &str| {
            id.strip_prefix('S')
                .is_some_and(|number| number.parse::<u8>().is_ok())
        };
        // A scenario covers a section that is not fully implemented by the number alone.
        let is_section = |id: &str| {
            id.parse::<u8>()
                .is_ok_and(|section| (1..=9).contains(&section))
        };
        for (id, names) in covered().expect("scenarios are read") {
            let is_known =
                RULES.iter().any(|rule| rule.id == id) || is_of_v1(&id) || is_section(&id);
            assert!(is_known, "{names:?} cover {id:?}, which is no rule");
        }
    }

    #[test]
    fn rules_are_in_order_and_named_once() {
        let numbers: Vec<(u8, u8)> = RULES
            .iter()
            .map(|rule| rule.id.split_once('.').expect("section.number"))
            .map(|(section, number)| {
                (
                    section.parse().expect("a number"),
                    number.parse().expect("a number"),
                )
            })
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] < pair[1]),
            "{numbers:?}"
        );
    }
}
