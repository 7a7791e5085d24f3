//! The logs of each block by independent arithmetic: those that the contracts of the workload emit,
//! computed from the transactions as their users signed them, along the branch of the block. No
//! execution client takes part, and blocks that are not canonical have logs, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256, keccak256};
use alys_types::{Block, ExecutionPayload};

use super::ledger::{Action, Sent};
use crate::params::accounts::user_address;
use crate::params::transactions::Contract;

/// The topic of the logs of a counter.
pub const COUNTER_TOPIC: u64 = 0x42;

/// A log as it must be in each answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// Hash of the execution block.
    pub block: B256,
    /// Height of the block.
    pub number: u64,
    pub transaction: B256,
    /// Place of the transaction in the block.
    pub transaction_index: u64,
    /// Place of the log in the block.
    pub index: u64,
    pub address: Address,
    pub topic: B256,
    pub data: B256,
}

/// The deployed contracts, each with the number of its calls if it counts them.
type Contracts = BTreeMap<Address, (Contract, u64)>;

#[derive(Debug)]
struct Executed {
    logs: Vec<Emitted>,
    after: Arc<Contracts>,
}

/// The blocks that authorities proposed, and the logs of those that were asked for.
#[derive(Debug, Default)]
pub struct Emissions {
    /// By the hash of the execution block.
    blocks: BTreeMap<B256, Arc<Block>>,
    executed: BTreeMap<B256, Executed>,
}

impl Emissions {
    /// Records a block of an authority.
    pub fn proposed(&mut self, block: &Arc<Block>) {
        let hash = B256::new(block.body.payload.block_hash.0);
        self.blocks.entry(hash).or_insert_with(|| block.clone());
    }

    /// The height of a block and the hash of its parent; `None` if no authority reported the block.
    pub fn place(&self, block: &B256) -> Option<(u64, B256)> {
        let payload = &self.blocks.get(block)?.body.payload;
        Some((payload.block_number, parent(payload)))
    }

    /// The logs of the blocks from a height up to a head, in their order; `None` if the contents of
    /// one of the blocks are unknown.
    pub fn between(
        &mut self,
        from: u64,
        head: B256,
        number: u64,
        sent: &BTreeMap<B256, Sent>,
    ) -> Option<Vec<Emitted>> {
        // Genesis has no logs.
        let from = from.max(1);
        let mut branch = Vec::new();
        let mut at = head;
        for height in (from..=number).rev() {
            let (found, parent) = self.place(&at)?;
            if found != height {
                return None;
            }
            branch.push(at);
            at = parent;
        }
        let mut logs = Vec::new();
        for block in branch.into_iter().rev() {
            logs.extend_from_slice(&self.execute(block, sent)?.logs);
        }
        Some(logs)
    }

    /// Executes a block, and before it all of its ancestors that were not executed yet.
    fn execute(&mut self, block: B256, sent: &BTreeMap<B256, Sent>) -> Option<&Executed> {
        let mut open = Vec::new();
        let mut at = block;
        let mut contracts: Arc<Contracts> = Arc::default();
        loop {
            if let Some(done) = self.executed.get(&at) {
                contracts = done.after.clone();
                break;
            }
            let (number, parent) = self.place(&at)?;
            open.push(at);
            if number <= 1 {
                break;
            }
            at = parent;
        }
        while let Some(hash) = open.pop() {
            let payload = &self.blocks.get(&hash)?.body.payload;
            let executed = run(hash, payload, contracts, sent)?;
            contracts = executed.after.clone();
            self.executed.insert(hash, executed);
        }
        self.executed.get(&block)
    }
}

fn parent(payload: &ExecutionPayload) -> B256 {
    B256::new(payload.parent_hash.0)
}

fn word(number: u64) -> B256 {
    B256::from(U256::from(number))
}

/// Executes the transactions of one block; `None` if no user signed one of them.
fn run(
    block: B256,
    payload: &ExecutionPayload,
    contracts: Arc<Contracts>,
    sent: &BTreeMap<B256, Sent>,
) -> Option<Executed> {
    let mut after = contracts;
    let mut logs: Vec<Emitted> = Vec::new();
    for (place, encoded) in payload.transactions.iter().enumerate() {
        let transaction = keccak256(encoded);
        let sent = sent.get(&transaction)?;
        let mut emit = |address: Address, topic: u64, data: u64| {
            let index = logs.len() as u64;
            logs.push(Emitted {
                block,
                number: payload.block_number,
                transaction,
                transaction_index: place as u64,
                index,
                address,
                topic: word(topic),
                data: word(data),
            });
        };
        match sent.action {
            Action::Transfer { .. } | Action::Cancel | Action::Touch { .. } => {}
            Action::Deploy { contract } => {
                let at = user_address(sent.user).create(sent.nonce);
                Arc::make_mut(&mut after).insert(at, (contract, 0));
            }
            Action::Call { at, argument } => match after.get(&at).copied() {
                Some((Contract::Counter, count)) => {
                    let count = count + 1;
                    Arc::make_mut(&mut after).insert(at, (Contract::Counter, count));
                    emit(at, COUNTER_TOPIC, count);
                }
                // The loop counts down from the argument.
                Some((Contract::Logger, _)) => {
                    for number in (1..=argument).rev() {
                        emit(at, number, number);
                    }
                }
                Some((Contract::Reverter | Contract::Spinner | Contract::Toggle, _)) | None => {}
            },
        }
    }
    Some(Executed { logs, after })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::Taken;
    use crate::params::transactions::Form;

    /// A block of an execution with this hash, parent, and number of its one transaction, if any.
    fn block(mark: u8, height: u64, parent: u8, transaction: Option<u8>) -> Arc<Block> {
        let (_, block) = crate::invariants::blocks::tests::block(1, 100, alys_types::Hash::ZERO);
        let mut block: Block = (*block).clone();
        let payload = &mut block.body.payload;
        payload.block_hash = alys_types::Hash([mark; 32]);
        payload.parent_hash = alys_types::Hash([parent; 32]);
        payload.block_number = height;
        payload.transactions = transaction.map(|number| vec![number]).into_iter().collect();
        Arc::new(block)
    }

    fn sent(all: &[(u8, u64, Action)]) -> BTreeMap<B256, Sent> {
        let one = |(number, nonce, action): &(u8, u64, Action)| {
            let sent = Sent {
                user: 0,
                nonce: *nonce,
                action: *action,
                form: Form::Legacy,
                gas_limit: 21_000,
                size: 100,
                taken: Taken::Yes,
                cap: 50,
                tip: 2,
            };
            (keccak256([*number]), sent)
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn logs_follow_the_branch_of_a_block() {
        let counter = user_address(0).create(0);
        let logger = user_address(0).create(1);
        let deploy = |contract| Action::Deploy { contract };
        let call = |at, argument| Action::Call { at, argument };
        let sent = sent(&[
            (1, 0, deploy(Contract::Counter)),
            (2, 1, deploy(Contract::Logger)),
            (3, 2, call(counter, 9)),
            (4, 3, call(logger, 2)),
            (5, 4, call(counter, 9)),
        ]);
        let mut emissions = Emissions::default();
        for block in [
            block(1, 1, 0, Some(1)),
            block(2, 2, 1, Some(3)),
            block(3, 3, 2, Some(5)),
            // The other branch deploys a logger and counts once.
            block(12, 2, 1, Some(2)),
            block(13, 3, 12, Some(4)),
            block(14, 4, 13, Some(3)),
            // The transaction is unknown.
            block(24, 4, 3, Some(77)),
        ] {
            emissions.proposed(&block);
        }
        let hash = |mark| B256::repeat_byte(mark);
        let mut of = |from, mark, number| {
            let logs = emissions.between(from, hash(mark), number, &sent)?;
            let short = |log: &Emitted| {
                let number = |word: B256| U256::from_be_bytes(word.0).to::<u64>();
                (log.number, log.index, number(log.topic), number(log.data))
            };
            Some(logs.iter().map(short).collect::<Vec<_>>())
        };
        assert_eq!(of(0, 1, 1), Some(vec![]));
        assert_eq!(of(0, 3, 3), Some(vec![(2, 0, 0x42, 1), (3, 0, 0x42, 2)]));
        assert_eq!(of(3, 3, 3), Some(vec![(3, 0, 0x42, 2)]));
        let other = vec![(3, 0, 2, 2), (3, 1, 1, 1), (4, 0, 0x42, 1)];
        assert_eq!(of(1, 14, 4), Some(other));
        assert_eq!(of(1, 24, 4), None, "no user signed its transaction");
        assert_eq!(of(1, 99, 4), None, "no authority proposed it");
        assert_eq!(of(1, 3, 4), None, "it has another height");
        assert_eq!(of(0, 0, 0), Some(vec![]), "genesis");
    }
}
