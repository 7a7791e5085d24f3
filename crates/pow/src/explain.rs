//! A proof rule by rule, for its maker: the same functions as [`VerifiedAuxPow::new`] calls, with
//! their facts, as data.
//!
//! [`VerifiedAuxPow::new`]: crate::VerifiedAuxPow::new

use alys_types::Hash;
use serde::Serialize;

use crate::auxpow::{AuxPow, MAX_BYTES};
use crate::hashing::reversed;
use crate::refusal::{Refusal, Rule};
use crate::rules::{self, Held};
use crate::target::Bits;

/// The facts to compare a proof with. Rules about those that are missing are not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    pub chain_id: u16,
    /// The commitment of the work, in internal order.
    pub commitment: Option<Hash>,
    pub bits: Option<Bits>,
}

/// Each rule with its facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Length of the proof in bytes.
    pub bytes: usize,
    /// Hash of the parent header, reversed as block explorers print it.
    pub parent_hash: Option<String>,
    /// Id of the coinbase, reversed as block explorers print it.
    pub coinbase_id: Option<String>,
    /// One row for each of [`Rule::ALL`], in that order.
    pub rules: Vec<Row>,
}

/// A rule, applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub rule: &'static str,
    pub source: &'static str,
    pub status: Status,
    pub expected: Option<String>,
    pub found: Option<String>,
    /// The mistake that the values show, or the reason for which the rule was not reached.
    pub note: Option<String>,
}

/// The outcome of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Passed,
    Failed,
    NotReached,
}

impl Explanation {
    /// The first rule that does not hold.
    pub fn first_failure(&self) -> Option<&Row> {
        self.rules.iter().find(|row| row.status == Status::Failed)
    }
}

/// Applies every rule to the proof in `bytes`, also after one that fails.
pub fn explain(bytes: &[u8], question: &Question) -> Explanation {
    let mut explanation = Explanation {
        bytes: bytes.len(),
        parent_hash: None,
        coinbase_id: None,
        rules: Vec::new(),
    };
    let format = |status, found| Row {
        expected: Some(format!("an AuxPoW of at most {MAX_BYTES} bytes")),
        found: Some(found),
        ..Row::new(Rule::Format, status)
    };
    match AuxPow::decode(bytes) {
        Ok(proof) => {
            let found = format!("{} bytes", bytes.len());
            explanation.rules.push(format(Status::Passed, found));
            explanation.parent_hash = Some(hex::encode(reversed(proof.parent_hash()).0));
            explanation.coinbase_id = Some(hex::encode(reversed(proof.coinbase_id()).0));
            apply(&proof, question, &mut explanation.rules);
        }
        Err(error) => explanation
            .rules
            .push(format(Status::Failed, error.to_string())),
    }
    let reached = explanation.rules.len();
    let missing = Rule::ALL.into_iter().skip(reached);
    let missing = missing.map(|rule| Row::not_reached(rule, "the proof is not decoded"));
    explanation.rules.extend(missing);
    explanation
}

/// The rows after that of the format.
fn apply(proof: &AuxPow, question: &Question, rows: &mut Vec<Row>) {
    let coinbase_levels = rules::coinbase_levels(proof);
    let chain_levels = rules::chain_levels(proof);
    let magic = rules::magic(proof, question.commitment.filter(|_| chain_levels.is_ok()));
    let tag = magic.map(|(place, _)| rules::tag(proof, place));
    let has_levels = chain_levels.is_ok();
    // The tag, or the reason for which rules about it are not reached.
    let read = match tag {
        _ if !has_levels => Err("the chain branch is too long"),
        Ok(Ok((tag, _))) => Ok(tag),
        _ => Err("there is no tag"),
    };
    let is_short = coinbase_levels.is_ok();
    let bits = question.bits.ok_or("no bits are given");
    let root = question
        .commitment
        .ok_or("no commitment is given")
        .and_then(|commitment| Ok((read?, commitment)));
    let inclusion = is_short
        .then_some(())
        .ok_or("the coinbase branch is too long");
    rows.extend([
        Row::of(Rule::CoinbaseIndex, Ok(rules::coinbase_index(proof))),
        Row::of(Rule::CoinbaseLevels, Ok(coinbase_levels)),
        Row::of(Rule::ChainLevels, Ok(chain_levels)),
        Row::of(
            Rule::ParentChainId,
            Ok(rules::parent_chain_id(proof, question.chain_id)),
        ),
        Row::of(
            Rule::Work,
            bits.map(|bits| rules::work(proof, bits.target())),
        ),
        Row::of(Rule::Magic, Ok(magic.map(|(_, held)| held))),
        Row::of(
            Rule::Tag,
            tag.map(|tag| tag.map(|(_, held)| held))
                .map_err(|_| "there is not one magic"),
        ),
        Row::of(Rule::Size, read.map(|tag| rules::size(proof, &tag))),
        Row::of(
            Rule::Slot,
            read.map(|tag| rules::slot(proof, &tag, question.chain_id)),
        ),
        Row::of(
            Rule::Root,
            root.map(|(tag, commitment)| rules::root(proof, &tag, commitment)),
        ),
        Row::of(Rule::Inclusion, inclusion.map(|()| rules::inclusion(proof))),
    ]);
}

impl Row {
    fn new(rule: Rule, status: Status) -> Row {
        Row {
            rule: rule.name(),
            source: rule.source(),
            status,
            expected: None,
            found: None,
            note: None,
        }
    }

    fn not_reached(rule: Rule, reason: &str) -> Row {
        Row {
            note: Some(reason.to_owned()),
            ..Row::new(rule, Status::NotReached)
        }
    }

    /// The row of a rule by its outcome, or by the reason for which it was not applied.
    fn of(rule: Rule, outcome: Result<Result<Held, Refusal>, &str>) -> Row {
        let (status, facts) = match outcome {
            Ok(Ok(Held(facts))) => (Status::Passed, facts),
            Ok(Err(facts)) => (Status::Failed, facts),
            Err(reason) => return Row::not_reached(rule, reason),
        };
        Row {
            expected: Some(facts.expected()),
            found: Some(facts.found()),
            note: facts.note().filter(|_| status == Status::Failed),
            ..Row::new(rule, status)
        }
    }
}
