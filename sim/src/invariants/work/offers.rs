//! Answers of nodes to miners: work that they hand out, and verdicts about submissions.

use std::collections::BTreeMap;

use alys_types::{Address, Hash};

use super::proofs::Commitment;
use super::{Last, Work, target};
use crate::invariants::{Finality, Violation};

/// Most proofs before which work may begin, the newest ones: a node that lags offers older work.
const MOST_ANCHORS: usize = 16;
/// Most lengths of a range that are tried, the longest ones.
const MOST_LENGTHS: usize = 512;
/// Seconds that a node's clock may be ahead of the true one in its bits, beside two slots.
const AHEAD_SECS: u64 = 2;

/// Time within which an accepted proof is in a final block where nothing disturbs the run: three
/// rounds of seven leaders with slots of two seconds. GUESSED.
const CARRIED_WITHIN_MS: u64 = 42_000;

/// Work that a node handed out.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// The address that the miner asked for.
    pub miner: Address,
    /// Its hash in internal order.
    pub commitment: Hash,
    pub bits: u32,
}

/// The range of handed out work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub sequence: u64,
    /// Height of the last block.
    pub end: u64,
}

/// The answer of a node to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// A rule of proofs is broken.
    Refused(String),
    /// The work is not known or not needed any more.
    Stale(String),
    /// No answer, or one that does not judge the submission.
    None,
}

/// The work that nodes handed out.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Proofs after which work may begin, by sequence and end.
    anchors: BTreeMap<(u64, Hash), Last>,
    /// The highest sequence that each node accepted a submission for, and the time of the first
    /// one.
    accepted: BTreeMap<u8, (u64, u64)>,
    /// Numbers of offers that were found, and of verdicts.
    found: u64,
    taken: u64,
    refused: u64,
    stale: u64,
}

impl Offers {
    /// Records a proof.
    pub(super) fn anchor(&mut self, last: &Last) {
        self.anchors.insert((last.sequence, last.hash), *last);
        while self.anchors.len() > MOST_ANCHORS {
            self.anchors.pop_first();
        }
    }

    pub(super) fn forget(&mut self, node: u8) {
        self.accepted.remove(&node);
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        [
            ("work.offers", self.found),
            ("work.accepted", self.taken),
            ("work.refused", self.refused),
            ("work.stale", self.stale),
        ]
        .into_iter()
    }
}

impl Work {
    /// Checks work that a node handed out: it is over final blocks, pays the miner, and its bits
    /// are not easier than those of the next slots. `now` is the true time in seconds; `None` if
    /// the node's clock is wrong.
    ///
    /// # Errors
    /// [`Violation::WrongWork`].
    pub fn offered(
        &mut self,
        node: u8,
        offer: &Offer,
        now: Option<u64>,
        slot_secs: u64,
        finality: &Finality,
    ) -> Result<Option<Place>, Violation> {
        let wrong = |what: String| Violation::WrongWork {
            node: node + 1,
            what,
        };
        let Some((last, place)) = self.find(offer, finality) else {
            // A crash on every node can suppress the report of a final block.
            let last_known = finality.blocks.keys().next_back().copied().unwrap_or(0);
            if last_known < finality.top() || last_known as usize > finality.blocks.len() {
                return Ok(None);
            }
            let what = format!(
                "the commitment {} is of no range of final blocks for {}",
                hex::encode(offer.commitment.0),
                hex::encode(offer.miner.0)
            );
            return Err(wrong(what));
        };
        self.offers.found += 1;
        if let (Some(now), Some(terms)) = (now, &self.terms) {
            let at = |time: u64| terms.schedule.bits(last.bits, last.timestamp, time);
            let hardest = at(last.timestamp);
            let easiest = at(now + 2 * slot_secs + AHEAD_SECS);
            let found = target(offer.bits);
            if found > target(easiest) || found < target(hardest) {
                return Err(wrong(format!(
                    "its bits are {:08x}, expected from {hardest:08x} to {easiest:08x}",
                    offer.bits
                )));
            }
        }
        Ok(Some(place))
    }

    /// The range of an offer, with the proof before it.
    fn find(&self, offer: &Offer, finality: &Finality) -> Option<(Last, Place)> {
        let terms = self.terms.as_ref()?;
        let is_final = |last: &&Last| {
            last.height == 0
                || finality
                    .blocks
                    .get(&last.height)
                    .is_some_and(|block| block.hash == last.hash)
        };
        for last in self.offers.anchors.values().rev().filter(is_final) {
            let blocks = finality.blocks.range(last.height + 1..);
            let blocks = blocks.zip(last.height + 1..);
            // A gap ends the chain that is known.
            let known = blocks.take_while(|((height, _), expected)| *height == expected);
            let hashes: Vec<Hash> = known
                .take(terms.max_range as usize)
                .map(|((_, block), _)| block.hash)
                .collect();
            let shortest = hashes.len().saturating_sub(MOST_LENGTHS) + 1;
            for length in (shortest..=hashes.len()).rev() {
                let commitment = Commitment {
                    genesis: terms.genesis,
                    chain_id: terms.chain_id,
                    sequence: last.sequence + 1,
                    range: &hashes[..length],
                    miner: offer.miner,
                };
                if commitment.hash() == Some(offer.commitment) {
                    let place = Place {
                        sequence: last.sequence + 1,
                        end: last.height + length as u64,
                    };
                    return Some((*last, place));
                }
            }
        }
        None
    }

    /// Checks the verdict of a node about a submission. `flaw` names the rule that the miner broke
    /// on purpose; `place` is that of the work, if it is known.
    ///
    /// # Errors
    /// [`Violation::WorkWronglyTaken`] or [`Violation::WorkWronglyRefused`].
    pub fn submitted(
        &mut self,
        at_ms: u64,
        node: u8,
        place: Option<Place>,
        flaw: Option<&str>,
        verdict: &Verdict,
    ) -> Result<(), Violation> {
        match (verdict, flaw) {
            (Verdict::Accepted, Some(flaw)) => Err(Violation::WorkWronglyTaken {
                node: node + 1,
                flaw: flaw.to_owned(),
            }),
            (Verdict::Accepted, None) => {
                self.offers.taken += 1;
                if let Some(place) = place {
                    let accepted = self.offers.accepted.entry(node).or_default();
                    if place.sequence > accepted.0 {
                        *accepted = (place.sequence, at_ms);
                    }
                }
                Ok(())
            }
            (Verdict::Refused(why), None) => Err(Violation::WorkWronglyRefused {
                node: node + 1,
                why: why.clone(),
            }),
            (Verdict::Refused(_), Some(_)) => {
                self.offers.refused += 1;
                Ok(())
            }
            (Verdict::Stale(_), _) => {
                self.offers.stale += 1;
                Ok(())
            }
            (Verdict::None, _) => Ok(()),
        }
    }

    /// The node of these that accepted a submission for the highest sequence, and that sequence, if
    /// no final block carries it.
    pub fn owed(&self, nodes: &[u8]) -> Option<(u8, u64)> {
        let owed = self.uncarried();
        let owed = owed.filter(|(node, _, _)| nodes.contains(node));
        let highest = owed.max_by_key(|(_, sequence, _)| *sequence);
        highest.map(|(node, sequence, _)| (node, sequence))
    }

    /// Nodes that accepted a submission for a sequence that no final block carries, with the
    /// sequence and the time.
    fn uncarried(&self) -> impl Iterator<Item = (u8, u64, u64)> {
        let carried = self.sequence();
        let accepted = self.offers.accepted.iter();
        let accepted = accepted.map(|(node, (sequence, at_ms))| (*node, *sequence, *at_ms));
        accepted.filter(move |(_, sequence, _)| *sequence > carried)
    }

    /// Checks that no accepted sequence waits for longer than [`CARRIED_WITHIN_MS`] since it was
    /// accepted, and since the last disturbance, on a node that may lead.
    ///
    /// # Errors
    /// [`Violation::WorkNotCarried`].
    pub fn overdue(
        &self,
        at_ms: u64,
        since_ms: u64,
        may_lead: impl Fn(u8) -> bool,
    ) -> Result<(), Violation> {
        let is_late = |accepted_ms: u64| at_ms > accepted_ms.max(since_ms) + CARRIED_WITHIN_MS;
        let mut late = self.uncarried();
        let late = late.find(|(node, _, accepted_ms)| is_late(*accepted_ms) && may_lead(*node));
        match late {
            None => Ok(()),
            Some((node, sequence, _)) => Err(Violation::WorkNotCarried {
                node: node + 1,
                sequence,
                within_ms: CARRIED_WITHIN_MS,
            }),
        }
    }
}
