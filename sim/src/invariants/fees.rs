//! Answers about fees by an independent model, with integers, from blocks, receipts, and
//! transactions as their users signed them.

use std::collections::BTreeMap;

use alloy_primitives::{B256, keccak256};
use alys_types::ExecutionPayload;

use super::Sent;
use super::arithmetic::base_fee;
use super::order::tip_at;

/// The suggested tip, in wei, while blocks have room, and the highest one.
const USUAL_TIP: u128 = 1_000_000_000;
const HIGHEST_TIP: u128 = 500_000_000_000;
/// The lowest tip that pools accept.
const LOWEST_TIP: u128 = 1;
/// The lowest tips of a block that count.
const SAMPLES: usize = 3;
/// The place of the suggestion among the sorted samples, in percent.
const PERCENT: usize = 60;
/// Encoded bytes of a block from which it has no room.
const ROOM_BYTES: usize = 1 << 20;
/// Encoded bytes of a block beside its transactions, at most: the header, and the lengths of some
/// thousand transactions.
const HEADER_BYTES: usize = 16_384;

/// The effective tips of a block's transactions, in its order; `None` if no user signed one.
pub fn tips(payload: &ExecutionPayload, sent: &BTreeMap<B256, Sent>) -> Option<Vec<u128>> {
    let base_fee = base_fee(payload);
    let signed = payload.transactions.iter();
    signed
        .map(|encoded| Some(tip_at(sent.get(&keccak256(encoded))?, base_fee)))
        .collect()
}

/// The rewards of a block at percentiles of its gas, from tip and gas of each transaction: the tip
/// up to which the transactions, by rising tip, use that part of the gas.
pub fn rewards(mut paid: Vec<(u128, u64)>, percentiles: &[u64]) -> Vec<u128> {
    paid.sort_unstable();
    let used: u64 = paid.iter().map(|(_, gas)| gas).sum();
    let highest = paid.last().map_or(0, |(tip, _)| *tip);
    let at = |percentile: &u64| {
        let part = used * percentile / 100;
        let mut sum = 0_u64;
        let reached = paid.iter().find(|(_, gas)| {
            sum += *gas;
            sum >= part
        });
        reached.map_or(highest, |(tip, _)| *tip)
    };
    percentiles.iter().map(at).collect()
}

/// The part of a block on which the suggested tip depends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    pub gas_limit: u64,
    pub gas_used: u64,
    /// Encoded bytes of the transactions.
    pub bytes: usize,
    pub tips: Vec<u128>,
}

impl Sampled {
    /// `None` if no user signed one of the transactions.
    pub fn of(payload: &ExecutionPayload, sent: &BTreeMap<B256, Sent>) -> Option<Self> {
        Some(Self {
            gas_limit: payload.gas_limit,
            gas_used: payload.gas_used,
            bytes: payload.transactions.iter().map(Vec::len).sum(),
            tips: tips(payload, sent)?,
        })
    }

    /// The genesis, which has no transactions.
    pub fn genesis() -> Self {
        Self {
            gas_limit: 0,
            gas_used: 0,
            bytes: 0,
            tips: Vec::new(),
        }
    }

    /// True if another transaction would have fit; `None` where the encoding decides.
    fn has_room(&self) -> Option<bool> {
        if self.gas_used > self.gas_limit / 2 || self.bytes > ROOM_BYTES {
            return Some(false);
        }
        (self.bytes + HEADER_BYTES <= ROOM_BYTES).then_some(true)
    }
}

/// The tip that a client suggests after these blocks; `None` where the encoding of one decides.
pub fn suggested_tip(blocks: &[Sampled]) -> Option<u128> {
    let mut samples = Vec::new();
    for block in blocks {
        if block.tips.is_empty() {
            samples.push(USUAL_TIP);
            continue;
        }
        let most = if block.has_room()? {
            USUAL_TIP
        } else {
            u128::MAX
        };
        let mut tips: Vec<u128> = block.tips.iter().map(|tip| *tip.min(&most)).collect();
        tips.sort_unstable();
        tips.truncate(SAMPLES);
        samples.extend(tips);
    }
    samples.sort_unstable();
    let place = samples.len().checked_sub(1)? * PERCENT / 100;
    Some(samples[place].clamp(LOWEST_TIP, HIGHEST_TIP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_follow_rising_tips_and_the_gas_of_each() {
        let block = vec![(9, 21_000), (1, 60_000), (5, 19_000)];
        let found = rewards(block, &[0, 60, 61, 79, 80, 100]);
        assert_eq!(found, [1, 1, 5, 5, 9, 9]);
        assert_eq!(rewards(Vec::new(), &[0, 50]), [0, 0]);
    }

    #[test]
    fn the_suggested_tip_follows_full_blocks() {
        let block = |gas_used, tips: &[u128]| Sampled {
            gas_limit: 100_000,
            gas_used,
            bytes: 500,
            tips: tips.to_vec(),
        };
        let dear = [90 * USUAL_TIP, 3 * USUAL_TIP, 4 * USUAL_TIP, 5 * USUAL_TIP];
        let empty = block(0, &[]);
        let roomy = block(42_000, &dear);
        let full = block(84_000, &dear);
        let table = [
            (vec![empty.clone()], USUAL_TIP),
            (vec![roomy.clone()], USUAL_TIP),
            (vec![full.clone()], 4 * USUAL_TIP),
            (vec![empty, roomy, full], USUAL_TIP),
            (vec![block(42_000, &[0, 7])], LOWEST_TIP),
            (vec![block(84_000, &[600 * USUAL_TIP])], HIGHEST_TIP),
        ];
        for (blocks, expected) in table {
            assert_eq!(suggested_tip(&blocks), Some(expected), "{blocks:?}");
        }
        assert_eq!(suggested_tip(&[]), None);
        let mut unclear = block(42_000, &dear);
        unclear.bytes = ROOM_BYTES - 100;
        assert_eq!(suggested_tip(&[unclear]), None);
    }
}
