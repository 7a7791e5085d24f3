//! Filters of the execution clients' JSON-RPC: the sum of the changes that a filter has reported,
//! added ones less removed ones, is the chain, and each change is reported once.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, U256};

use super::emissions::Emitted;

/// Reported blocks that a filter remembers: it cannot take back older ones.
const REMEMBERED: u64 = 64;

/// A log in an answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldLog {
    pub address: Address,
    pub topics: Vec<B256>,
    pub data: Bytes,
    pub block_hash: B256,
    pub block_number: U256,
    pub transaction_hash: B256,
    pub transaction_index: U256,
    pub log_index: U256,
    /// True for a log of a block that has left the chain.
    #[serde(default)]
    pub removed: bool,
}

impl ToldLog {
    /// The log without `removed`; `None` if no contract of the workload emits such a log.
    pub fn emitted(&self) -> Option<Emitted> {
        let [topic] = self.topics[..] else {
            return None;
        };
        let data = <[u8; 32]>::try_from(&self.data[..]).ok()?;
        Some(Emitted {
            block: self.block_hash,
            number: self.block_number.saturating_to(),
            transaction: self.transaction_hash,
            transaction_index: self.transaction_index.saturating_to(),
            index: self.log_index.saturating_to(),
            address: self.address,
            topic,
            data: B256::new(data),
        })
    }
}

/// Compares the logs of an answer, in their order, with the expected ones.
///
/// # Errors
/// The first difference.
pub fn same_logs(found: &[ToldLog], expected: &[Emitted]) -> Result<(), String> {
    let differs = found
        .iter()
        .zip(expected)
        .find(|(found, expected)| found.removed || found.emitted().as_ref() != Some(*expected));
    match differs {
        Some((found, expected)) => Err(format!("{found:?}, expected {expected:?}")),
        None if found.len() != expected.len() => {
            Err(format!("{} logs, expected {}", found.len(), expected.len()))
        }
        None => Ok(()),
    }
}

/// The logs that a filter has reported, and not reported as removed since.
#[derive(Debug)]
pub struct ToldLogs {
    /// The topic of the filter, if it has one.
    topic: Option<B256>,
    /// The lowest height whose logs can change.
    from: u64,
    /// By height, block and place in the block.
    present: BTreeMap<(u64, B256, u64), Emitted>,
}

impl ToldLogs {
    /// A filter that was installed on a head with these logs. It reports them only as removed.
    pub fn new(topic: Option<B256>, head: u64, logs: Vec<Emitted>) -> Self {
        let mut told = Self {
            topic,
            from: head,
            present: BTreeMap::new(),
        };
        for log in logs {
            if told.matches(&log) {
                told.present.insert(key(&log), log);
            }
        }
        told
    }

    /// The lowest height that [`Self::compare`] needs.
    pub fn lowest(&self) -> u64 {
        self.from
    }

    fn matches(&self, log: &Emitted) -> bool {
        self.topic.is_none_or(|topic| log.topic == topic)
    }

    /// Takes the changes of one poll. Returns the number of logs that were taken back.
    ///
    /// # Errors
    /// A change that does not follow from the former ones.
    pub fn tell(&mut self, changes: &[ToldLog]) -> Result<u64, String> {
        let mut removed = 0;
        let mut last = None;
        for change in changes {
            let odd = |what: &str| Err(format!("{what}: {change:?}"));
            let Some(log) = change.emitted() else {
                return odd("no contract emits it");
            };
            if !self.matches(&log) {
                return odd("another topic than that of the filter");
            }
            if log.number < self.from {
                return odd("its height can no longer change");
            }
            let key = key(&log);
            if change.removed {
                match self.present.remove(&key) {
                    None => return odd("removed and not reported before"),
                    Some(told) if told != log => {
                        return odd("removed and reported otherwise before");
                    }
                    Some(_) => removed += 1,
                }
                continue;
            }
            let place = Some((log.number, log.index));
            if place <= last {
                return odd("out of order");
            }
            last = place;
            if self.present.insert(key, log).is_some() {
                return odd("reported twice");
            }
        }
        Ok(removed)
    }

    /// Compares the sum of the changes with all logs from [`Self::lowest`] up to the head, which
    /// has this number and did not move during the poll. Final blocks can no longer change after
    /// it. A block that lost and was pruned may have left without notice, up to the finalized
    /// height.
    ///
    /// # Errors
    /// The first difference, after which the call can be repeated.
    pub fn compare(
        &mut self,
        number: u64,
        expected: Vec<Emitted>,
        finalized: u64,
    ) -> Result<(), String> {
        let deepest = self.present.keys().next_back().map_or(0, |key| key.0);
        if number + REMEMBERED <= deepest {
            return Ok(());
        }
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .filter(|log| self.matches(log))
            .map(|log| (key(&log), log))
            .collect();
        for (key, log) in &expected {
            match self.present.get(key) {
                None => return Err(format!("not reported: {log:?}")),
                Some(told) if told != log => return Err(format!("{told:?}, expected {log:?}")),
                Some(_) => {}
            }
        }
        let stays = |key: &&(u64, B256, u64)| !expected.contains_key(*key) && key.0 > finalized;
        if let Some((_, hash, index)) = self.present.keys().find(stays) {
            return Err(format!(
                "log {index} of block {hash} is reported, and the block is not on the chain"
            ));
        }
        self.present.retain(|key, _| key.0 > finalized);
        self.from = self.from.max(finalized + 1);
        Ok(())
    }
}

fn key(log: &Emitted) -> (u64, B256, u64) {
    (log.number, log.block, log.index)
}

/// The blocks that a filter has reported.
#[derive(Debug)]
pub struct ToldBlocks {
    /// Height of the head on which the filter was installed.
    base: u64,
    /// The highest height that can no longer change.
    settled: u64,
    /// The last reported block of each height, on one branch; also that head.
    chain: BTreeMap<u64, B256>,
    /// False if a poll may have rewound the filter unseen, so that it reports a block again.
    is_exact: bool,
}

impl ToldBlocks {
    /// A filter that was installed on this head.
    pub fn new(base: u64, head: B256) -> Self {
        Self {
            base,
            settled: 0,
            chain: BTreeMap::from([(base, head)]),
            is_exact: true,
        }
    }

    /// Takes the changes of one poll: height, hash and parent of each block.
    ///
    /// # Errors
    /// A block that does not follow from the former ones.
    pub fn tell(&mut self, blocks: &[(u64, B256, B256)]) -> Result<(), String> {
        let mut last = None;
        for (number, hash, parent) in blocks {
            let odd = |what: &str| Err(format!("block {number} {hash} {what}"));
            if Some(*number) <= last {
                return odd("is out of order");
            }
            last = Some(*number);
            if *number <= self.settled {
                return odd("has a height that can no longer change");
            }
            if self.is_exact && self.chain.get(number) == Some(hash) {
                return odd("is reported twice");
            }
            self.chain.retain(|height, _| height < number);
            let follows = match self.chain.last_key_value() {
                Some((height, told)) => height + 1 == *number && told == parent,
                None => *number == self.base,
            };
            if !follows {
                return odd("does not follow the block reported before");
            }
            self.chain.insert(*number, *hash);
        }
        self.is_exact = false;
        Ok(())
    }

    /// Compares the last reported block with the head, which did not move during the poll.
    ///
    /// # Errors
    /// The difference, after which the call can be repeated.
    pub fn compare(&mut self, number: u64, head: B256, finalized: u64) -> Result<(), String> {
        let deepest = self.chain.last_key_value().map_or(0, |(height, _)| *height);
        if number + REMEMBERED <= deepest {
            return Ok(());
        }
        if number >= self.base {
            let told = self.chain.get(&number);
            if told != Some(&head) {
                return Err(format!(
                    "reported {told:?} at height {number}, the head is {head}"
                ));
            }
        }
        self.chain.retain(|height, _| *height <= number);
        self.is_exact = true;
        // The finalized block does not leave the chain, and the next one builds on it.
        self.settled = self.settled.max(finalized);
        let settled = self.settled;
        self.chain.retain(|height, _| *height >= settled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Log `index` of the block with this mark.
    fn log(number: u64, mark: u8, index: u64) -> Emitted {
        Emitted {
            block: B256::repeat_byte(mark),
            number,
            transaction: B256::repeat_byte(7),
            transaction_index: 0,
            index,
            address: Address::ZERO,
            topic: B256::repeat_byte(1),
            data: B256::ZERO,
        }
    }

    fn told(log: &Emitted, removed: bool) -> ToldLog {
        ToldLog {
            address: log.address,
            topics: vec![log.topic],
            data: Bytes::from(log.data.to_vec()),
            block_hash: log.block,
            block_number: U256::from(log.number),
            transaction_hash: log.transaction,
            transaction_index: U256::from(log.transaction_index),
            log_index: U256::from(log.index),
            removed,
        }
    }

    fn added(log: &Emitted) -> ToldLog {
        told(log, false)
    }

    fn gone(log: &Emitted) -> ToldLog {
        told(log, true)
    }

    #[test]
    fn a_reorganisation_takes_logs_back_and_adds_others() {
        let (old, new, next) = (log(6, 1, 0), log(6, 2, 0), log(7, 3, 0));
        let mut filter = ToldLogs::new(None, 5, vec![log(5, 9, 0)]);
        let chain = |logs: &[&Emitted]| {
            let all = std::iter::once(log(5, 9, 0));
            all.chain(logs.iter().map(|log| (*log).clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(filter.tell(&[added(&old)]), Ok(0));
        assert_eq!(filter.compare(9, chain(&[&old]), 0), Ok(()));
        assert_eq!(filter.tell(&[gone(&old), added(&new), added(&next)]), Ok(1));
        assert_eq!(filter.compare(9, chain(&[&new, &next]), 5), Ok(()));
        assert_eq!(filter.lowest(), 6);
    }

    #[test]
    fn wrong_sums_of_logs_are_found() {
        let (old, new, next) = (log(6, 1, 0), log(6, 2, 0), log(7, 3, 0));
        let filter = || {
            let mut filter = ToldLogs::new(None, 5, Vec::new());
            filter.tell(&[added(&old)]).expect("it is the first one");
            filter
        };
        let chain = || vec![new.clone(), next.clone()];
        let mut skips = filter();
        assert_eq!(skips.tell(&[gone(&old), added(&next)]), Ok(1));
        let lost = skips.compare(9, chain(), 0).expect_err("a log is missing");
        assert!(lost.contains("not reported"), "{lost}");
        let mut keeps = filter();
        assert_eq!(keeps.tell(&[added(&new), added(&next)]), Ok(0));
        let kept = keeps.compare(9, chain(), 0).expect_err("a log stays");
        assert!(kept.contains("not on the chain"), "{kept}");
        assert_eq!(keeps.compare(9, chain(), 6), Ok(()), "its block was pruned");
        let table: [(Vec<ToldLog>, &str); 6] = [
            (vec![added(&old)], "twice"),
            (vec![gone(&new)], "not reported before"),
            (vec![gone(&old), gone(&old)], "not reported before"),
            (vec![added(&next), added(&new)], "out of order"),
            (vec![added(&log(4, 8, 0))], "no longer change"),
            (
                vec![gone(&Emitted {
                    data: B256::repeat_byte(3),
                    ..old.clone()
                })],
                "otherwise",
            ),
        ];
        for (changes, expected) in table {
            let found = filter().tell(&changes).expect_err(expected);
            assert!(found.contains(expected), "{found}");
        }
        let mut of_topic = ToldLogs::new(Some(B256::repeat_byte(2)), 5, Vec::new());
        let found = of_topic.tell(&[added(&old)]).expect_err("another topic");
        assert!(found.contains("topic"), "{found}");
        assert_eq!(of_topic.compare(9, chain(), 0), Ok(()));
    }

    #[test]
    fn answers_over_ranges_are_compared_in_order() {
        let logs = [log(6, 2, 0), log(7, 3, 0)];
        let found: Vec<ToldLog> = logs.iter().map(added).collect();
        assert_eq!(same_logs(&found, &logs), Ok(()));
        assert!(same_logs(&found[1..], &logs).is_err());
        assert!(same_logs(&found[..1], &logs).is_err());
        assert!(same_logs(&[gone(&logs[0])], &logs[..1]).is_err());
    }

    #[test]
    fn told_blocks_are_one_branch_up_to_the_head() {
        let hash = |mark| B256::repeat_byte(mark);
        let mut filter = ToldBlocks::new(5, hash(5));
        assert_eq!(
            filter.tell(&[(6, hash(6), hash(5)), (7, hash(7), hash(6))]),
            Ok(())
        );
        assert_eq!(filter.compare(7, hash(7), 5), Ok(()));
        // Two blocks are replaced, then one is reported again after the head went back.
        assert_eq!(
            filter.tell(&[(6, hash(16), hash(5)), (7, hash(17), hash(16))]),
            Ok(())
        );
        assert_eq!(filter.compare(7, hash(17), 5), Ok(()));
        assert_eq!(filter.tell(&[]), Ok(()));
        assert_eq!(filter.compare(6, hash(16), 5), Ok(()));
        assert_eq!(filter.tell(&[(7, hash(17), hash(16))]), Ok(()));
        assert_eq!(filter.compare(7, hash(17), 6), Ok(()));
        let wrong = [
            (vec![(7, hash(17), hash(16))], "twice"),
            (vec![(9, hash(9), hash(8))], "follow"),
            (vec![(8, hash(8), hash(7))], "follow"),
            (vec![(6, hash(26), hash(5))], "no longer change"),
            (
                vec![(8, hash(8), hash(17)), (7, hash(27), hash(16))],
                "order",
            ),
        ];
        for (blocks, expected) in wrong {
            let mut filter = ToldBlocks {
                chain: filter.chain.clone(),
                ..filter
            };
            let found = filter.tell(&blocks).expect_err(expected);
            assert!(found.contains(expected), "{found}");
        }
        assert_eq!(filter.tell(&[]), Ok(()));
        assert!(filter.compare(8, hash(8), 6).is_err(), "a block is missing");
    }

    #[test]
    fn a_head_at_the_installation_is_told_once_it_is_replaced() {
        let hash = |mark| B256::repeat_byte(mark);
        let mut filter = ToldBlocks::new(5, hash(5));
        assert_eq!(
            filter.tell(&[(5, hash(15), hash(14)), (6, hash(16), hash(15))]),
            Ok(())
        );
        assert_eq!(filter.compare(6, hash(16), 4), Ok(()));
        let mut filter = ToldBlocks::new(5, hash(5));
        assert!(filter.tell(&[(4, hash(14), hash(13))]).is_err());
    }
}
