//! Transactions of the users, their acknowledgements as final, and the resulting state of every
//! account.
//!
//! Exactly one of several transactions with the same nonce may be final. A transaction that every
//! client refused, or that can never be valid, must not become final. Each final transaction must
//! have had exactly its expected effect, including calls of contracts.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};

use super::Violation;
use super::arithmetic::{GasModel, add_up};
use super::blocks::Blocks;
use super::finality::Finality;
use crate::invariants::coverage::Coverage;
use crate::params::accounts::{sink_address, user_address, user_funds};
use crate::params::transactions::Contract;
use crate::params::transactions::Form;

/// The effect of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Sends `wei` to the user's sink account.
    Transfer { wei: u64 },
    /// Sends nothing to the user itself, only to use up the nonce.
    Cancel,
    /// Sends nothing to an account that does not exist, or to a precompiled contract.
    Touch { at: Address },
    /// Deploys a contract.
    Deploy { contract: Contract },
    /// Calls the address of a contract that may not be deployed yet, with a number as argument.
    Call { at: Address, argument: u64 },
}

/// State of a transaction at the execution clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taken {
    /// Every execution client that received it has refused it.
    Never,
    /// An answer of an execution client is missing.
    Perhaps,
    /// An execution client accepted it.
    Yes,
}

/// A transaction that a user signed.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Index of the user, from 0.
    pub user: u8,
    pub nonce: u64,
    pub action: Action,
    /// Type of the envelope.
    pub form: Form,
    /// Limit in units of gas.
    pub gas_limit: u64,
    /// Encoded size in bytes.
    pub size: usize,
    /// The highest price and tip for a unit of gas, as a pool sees them.
    pub cap: u128,
    pub tip: u128,
    /// Answers of the execution clients so far.
    pub taken: Taken,
}

/// The fields of a receipt that the invariants use, as the execution client's RPC returns them.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    pub transaction_hash: B256,
    /// Hash of the execution block.
    pub block_hash: B256,
    /// Height of the execution block.
    pub block_number: U256,
    /// Place in the block.
    pub transaction_index: U256,
    /// Type of the transaction.
    #[serde(rename = "type")]
    pub kind: U256,
    /// 1 for success, 0 for a revert.
    pub status: U256,
    /// Units of gas charged to the sender.
    pub gas_used: U256,
    /// Units of gas charged in the block so far.
    pub cumulative_gas_used: U256,
    /// Price in wei per unit of gas.
    pub effective_gas_price: U256,
    pub from: Address,
    /// The deployed contract.
    #[serde(default)]
    pub contract_address: Option<Address>,
    #[serde(default)]
    pub logs: Vec<Log>,
}

/// The fields of a log that the invariants use.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    pub address: Address,
    pub topics: Vec<B256>,
    pub block_hash: B256,
    pub transaction_hash: B256,
    pub transaction_index: U256,
    pub log_index: U256,
}

/// An answer about an account at a final block, which must agree with the transactions up to it.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Number of the execution client, from 1.
    pub node: u8,
    pub height: u64,
    pub account: Address,
    pub asked: Asked,
    pub found: U256,
}

/// The subject of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Balance,
    Nonce,
    /// Storage slot 0.
    Slot,
}

/// Most answers that are kept; of more, the first ones.
const MOST_ANSWERS: usize = 512;
/// Heights whose answers are compared, because each takes the arithmetic of all blocks below.
const MOST_HEIGHTS: usize = 8;

/// All transactions of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Signed transactions by hash.
    pub sent: BTreeMap<B256, Sent>,
    /// Transactions that can never be valid although they were submitted, with the reason.
    pub never: BTreeMap<B256, &'static str>,
    /// Transactions seen in a final block: height and hash of the execution block.
    pub acknowledged: BTreeMap<B256, (u64, B256)>,
    /// Answers to reads of final state, by request: the node (from 1) that answered first, and the
    /// digest of its answer.
    pub reads: BTreeMap<String, (u8, B256)>,
    /// Answers about accounts, to be compared at the end.
    answers: Vec<Answered>,
    /// Features that the workload has reached.
    pub coverage: Coverage,
}

/// Expected state of the accounts at a height.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Balances in wei.
    pub balances: BTreeMap<Address, U256>,
    /// Number of final transactions of each account.
    pub nonces: BTreeMap<Address, u64>,
    /// Storage slot 0 of each contract that may have a counter.
    pub counts: BTreeMap<Address, U256>,
}

/// Expected result of executing a transaction.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    succeeds: bool,
    logs: u64,
    uses_all_gas: bool,
    feature: &'static str,
}

impl Ledger {
    /// Marks a transaction as submitted to an execution client. Returns its earlier state, which
    /// [`Self::refused`] restores.
    pub fn handing_in(&mut self, hash: &B256) -> Taken {
        let Some(sent) = self.sent.get_mut(hash) else {
            return Taken::Never;
        };
        let before = sent.taken;
        sent.taken = before.max(Taken::Perhaps);
        before
    }

    /// Records that an execution client accepted a transaction.
    pub fn taken(&mut self, hash: &B256) {
        if let Some(sent) = self.sent.get_mut(hash) {
            sent.taken = Taken::Yes;
        }
    }

    /// Records that an execution client refused a transaction; `before` is its state before it was
    /// submitted.
    pub fn refused(&mut self, hash: &B256, before: Taken) {
        if let Some(sent) = self.sent.get_mut(hash) {
            sent.taken = before;
        }
    }

    /// Computes the state of the accounts after exactly these receipts, which are in the order of
    /// the chain, and checks that they contain every acknowledged transaction up to `height`.
    ///
    /// # Errors
    /// [`Violation::AcknowledgedLost`], [`Violation::RefusedIsFinal`] or
    /// [`Violation::StateDiffers`].
    pub fn settle(
        &mut self,
        node: u8,
        height: u64,
        users: u8,
        receipts: &[Receipt],
    ) -> Result<Due, Violation> {
        let mut features = Vec::new();
        let due = self.due(node, height, users, receipts, &mut features)?;
        features
            .into_iter()
            .for_each(|feature| self.coverage.count(feature));
        Ok(due)
    }

    /// As [`Self::settle`], with the features of the workload that the transactions reach.
    fn due(
        &self,
        node: u8,
        height: u64,
        users: u8,
        receipts: &[Receipt],
        features: &mut Vec<&'static str>,
    ) -> Result<Due, Violation> {
        let mut due = Due::default();
        for user in 0..users {
            due.balances.insert(user_address(user), user_funds());
            due.balances.insert(sink_address(user), U256::ZERO);
            due.nonces.insert(user_address(user), 0);
        }
        let mut found = BTreeMap::new();
        let mut contracts = BTreeMap::new();
        for receipt in receipts {
            found.insert(receipt.transaction_hash, receipt.block_hash);
            let sent = self.vouched_for(node, receipt)?;
            let form = sent.form;
            let size = sent.size;
            let outcome = settle_one(node, height, sent, receipt, &mut due, &mut contracts)?;
            features.extend([form.feature(), outcome.feature]);
            if size >= LARGE {
                features.push("final.large");
            }
        }
        for (transaction, (at, block)) in self
            .acknowledged
            .iter()
            .filter(|(_, (at, _))| *at <= height)
        {
            let here = found.get(transaction);
            if here != Some(block) {
                return Err(Violation::AcknowledgedLost {
                    node: node + 1,
                    transaction: transaction.to_string(),
                    height: *at,
                    found: here.map_or("nowhere".to_owned(), |block| format!("in block {block}")),
                });
            }
        }
        Ok(due)
    }

    /// The accounts that these final transactions touched and left empty, the newest first.
    pub fn touched(&self, receipts: &[Receipt]) -> impl Iterator<Item = Address> {
        let sent = receipts.iter().rev();
        sent.filter_map(
            |receipt| match self.sent.get(&receipt.transaction_hash)?.action {
                Action::Touch { at } => Some(at),
                _ => None,
            },
        )
    }

    /// Keeps an answer about an account at a final block.
    pub fn answered(&mut self, answer: Answered) {
        if self.answers.len() < MOST_ANSWERS {
            self.answers.push(answer);
        }
    }

    /// Compares the receipts of all blocks up to `height` with the blocks, and their gas with that
    /// of the operations of the workload.
    ///
    /// # Errors
    /// [`Violation::WrongExecution`].
    pub fn check_receipts(
        &mut self,
        node: u8,
        height: u64,
        receipts: &[Receipt],
        blocks: &Blocks,
        finality: &Finality,
    ) -> Result<(), Violation> {
        let wrong = |height: u64, what: String| Violation::WrongExecution {
            node: node + 1,
            height,
            what,
        };
        let number_of = |receipt: &Receipt| receipt.block_number.saturating_to::<u64>();
        for (number, last) in finality.blocks.range(1..=height) {
            // A crash on every node can suppress the report of a block.
            let Some(proposed) = blocks.get(&last.hash) else {
                continue;
            };
            let first = receipts.partition_point(|receipt| number_of(receipt) < *number);
            let next = receipts.partition_point(|receipt| number_of(receipt) <= *number);
            let of_block = receipts.get(first..next).unwrap_or_default();
            add_up(&proposed.block.body.payload, of_block, &self.sent)
                .map_err(|what| wrong(*number, what))?;
        }
        let mut model = GasModel::default();
        for receipt in receipts {
            let Some(sent) = self.sent.get(&receipt.transaction_hash) else {
                continue;
            };
            let spent = model.spend(sent);
            if receipt.gas_used != U256::from(spent.gas) {
                let what = format!(
                    "transaction {} ({:?}) uses {} gas, expected {}",
                    receipt.transaction_hash, sent.action, receipt.gas_used, spent.gas
                );
                return Err(wrong(number_of(receipt), what));
            }
            self.coverage.count("model.gas");
            if spent.has_refund {
                self.coverage.count("call.refund");
            }
        }
        Ok(())
    }

    /// Compares the answers that users got about accounts with the transactions up to the height
    /// of each.
    ///
    /// # Errors
    /// [`Violation::WrongBalance`], or those of [`Self::settle`].
    pub fn check_answers(
        &mut self,
        users: u8,
        height: u64,
        receipts: &[Receipt],
    ) -> Result<(), Violation> {
        let mut dues: BTreeMap<u64, Due> = BTreeMap::new();
        let mut compared = 0;
        for answer in &self.answers {
            let is_new = !dues.contains_key(&answer.height);
            if answer.height > height || (is_new && dues.len() >= MOST_HEIGHTS) {
                continue;
            }
            if is_new {
                let node = answer.node.saturating_sub(1);
                let above = receipts
                    .partition_point(|receipt| receipt.block_number <= U256::from(answer.height));
                let until = receipts.get(..above).unwrap_or_default();
                let due = self.due(node, answer.height, users, until, &mut Vec::new())?;
                dues.insert(answer.height, due);
            }
            let Some(due) = dues.get(&answer.height) else {
                continue;
            };
            let (what, expected) = match answer.asked {
                Asked::Balance => ("balance", due.balances.get(&answer.account).copied()),
                Asked::Nonce => (
                    "nonce",
                    due.nonces.get(&answer.account).copied().map(U256::from),
                ),
                Asked::Slot => ("slot 0", due.counts.get(&answer.account).copied()),
            };
            // Every other account holds nothing.
            let expected = expected.unwrap_or_default();
            if answer.found != expected {
                return Err(Violation::WrongBalance {
                    node: answer.node,
                    account: format!("{what} of {}", answer.account),
                    height: answer.height,
                    expected: expected.to_string(),
                    found: answer.found.to_string(),
                });
            }
            compared += 1;
        }
        for _ in 0..compared {
            self.coverage.count("model.answer");
        }
        Ok(())
    }

    /// Returns the signed transaction of a receipt, if that transaction may be final.
    fn vouched_for(&self, node: u8, receipt: &Receipt) -> Result<&Sent, Violation> {
        let hash = receipt.transaction_hash;
        let refused = |why: &str| Violation::RefusedIsFinal {
            node: node + 1,
            transaction: hash.to_string(),
            height: receipt.block_number.saturating_to(),
            why: why.to_owned(),
        };
        if let Some(why) = self.never.get(&hash) {
            return Err(refused(why));
        }
        match self.sent.get(&hash) {
            None => Err(refused("no user sent it")),
            Some(sent) if sent.taken == Taken::Never => Err(refused(
                "every execution client that received it has refused it",
            )),
            Some(sent) => Ok(sent),
        }
    }
}

/// Encoded size in bytes from which a transaction counts as large.
const LARGE: usize = 4_096;

/// Applies one final transaction to `due` and `contracts`, and checks its receipt.
fn settle_one(
    node: u8,
    height: u64,
    sent: &Sent,
    receipt: &Receipt,
    due: &mut Due,
    contracts: &mut BTreeMap<Address, Contract>,
) -> Result<Outcome, Violation> {
    let differs = |what: String| Violation::StateDiffers {
        node: node + 1,
        height,
        what,
    };
    let sender = user_address(sent.user);
    let expected = outcome(sent, contracts);
    let is_done = receipt.status == U256::from(1);
    let all_gas = receipt.gas_used == U256::from(sent.gas_limit);
    let is_as_expected = is_done == expected.succeeds
        && receipt.logs.len() as u64 == expected.logs
        && (!expected.uses_all_gas || all_gas);
    if !is_as_expected {
        return Err(differs(format!(
            "transaction {} ({:?}) ends with status {}, {} logs and {} gas used of {}, \
             expected {expected:?}",
            receipt.transaction_hash,
            sent.action,
            receipt.status,
            receipt.logs.len(),
            receipt.gas_used,
            sent.gas_limit
        )));
    }
    let mut paid = receipt.gas_used * receipt.effective_gas_price;
    match sent.action {
        Action::Transfer { wei } => {
            paid += U256::from(wei);
            *due.balances.entry(sink_address(sent.user)).or_default() += U256::from(wei);
        }
        Action::Cancel | Action::Touch { .. } => {}
        Action::Deploy { contract } => {
            let at = sender.create(sent.nonce);
            contracts.insert(at, contract);
            due.counts.insert(at, U256::ZERO);
        }
        Action::Call { at, .. } if contracts.get(&at) == Some(&Contract::Counter) => {
            *due.counts.entry(at).or_default() += U256::from(1);
        }
        Action::Call { at, .. } if contracts.get(&at) == Some(&Contract::Toggle) => {
            let slot = due.counts.entry(at).or_default();
            *slot = U256::from(1) - *slot;
        }
        Action::Call { .. } => {}
    }
    let balance = due.balances.entry(sender).or_default();
    *balance = balance.checked_sub(paid).ok_or_else(|| {
        differs(format!(
            "user {} paid {paid} wei and had {balance}",
            sent.user
        ))
    })?;
    let nonce = due.nonces.entry(sender).or_default();
    if *nonce != sent.nonce {
        return Err(differs(format!(
            "nonce {} of user {} is used in place of {nonce}",
            sent.nonce, sent.user
        )));
    }
    *nonce += 1;
    Ok(expected)
}

/// Returns the expected result of a transaction, given the contracts deployed before it.
fn outcome(sent: &Sent, contracts: &BTreeMap<Address, Contract>) -> Outcome {
    let done = |feature, logs| Outcome {
        succeeds: true,
        logs,
        uses_all_gas: false,
        feature,
    };
    match sent.action {
        Action::Transfer { .. } => done("final.transfer", 0),
        Action::Cancel => done("final.cancel", 0),
        Action::Touch { .. } => done("final.touch", 0),
        Action::Deploy { contract } => done(contract.deployed(), 0),
        Action::Call { at, argument } => match contracts.get(&at) {
            None => done("call.nothing-there", 0),
            Some(Contract::Counter) => done(Contract::Counter.called(), 1),
            Some(Contract::Logger) => done(Contract::Logger.called(), argument),
            Some(Contract::Toggle) => done(Contract::Toggle.called(), 0),
            Some(contract @ Contract::Reverter) => Outcome {
                succeeds: false,
                logs: 0,
                uses_all_gas: false,
                feature: contract.called(),
            },
            Some(contract @ Contract::Spinner) => Outcome {
                succeeds: false,
                logs: 0,
                uses_all_gas: true,
                feature: contract.called(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(mark: u8, status: u64) -> Receipt {
        Receipt {
            transaction_hash: B256::repeat_byte(mark),
            block_hash: B256::repeat_byte(0xbb),
            block_number: U256::from(1),
            transaction_index: U256::ZERO,
            kind: U256::ZERO,
            status: U256::from(status),
            gas_used: U256::from(21_000),
            cumulative_gas_used: U256::from(21_000),
            effective_gas_price: U256::from(7),
            from: user_address(0),
            contract_address: None,
            logs: Vec::new(),
        }
    }

    fn logged(mark: u8, logs: usize) -> Receipt {
        Receipt {
            logs: vec![Log::default(); logs],
            ..receipt(mark, 1)
        }
    }

    /// Builds a ledger of transactions 1.. of user 0 with these nonces, all accepted by an
    /// execution client.
    fn ledger(all: &[(u64, Action)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (index, (nonce, action)) in all.iter().enumerate() {
            let sent = Sent {
                user: 0,
                nonce: *nonce,
                action: *action,
                form: Form::Legacy,
                gas_limit: 21_000,
                size: 100,
                taken: Taken::Yes,
                cap: 7,
                tip: 7,
            };
            ledger.sent.insert(B256::repeat_byte(index as u8 + 1), sent);
        }
        ledger
    }

    fn transfers() -> Ledger {
        ledger(&[
            (0, Action::Transfer { wei: 5 }),
            (1, Action::Transfer { wei: 6 }),
        ])
    }

    fn reason(result: Result<Due, Violation>) -> String {
        match result {
            Err(Violation::StateDiffers { what, .. }) => what,
            Err(Violation::RefusedIsFinal { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn accounts_hold_what_their_transactions_leave() {
        let counter = user_address(0).create(0);
        let mut ledger = ledger(&[
            (
                0,
                Action::Deploy {
                    contract: Contract::Counter,
                },
            ),
            (1, Action::Transfer { wei: 5 }),
            (
                2,
                Action::Call {
                    at: counter,
                    argument: 0,
                },
            ),
            (
                3,
                Action::Call {
                    at: sink_address(0),
                    argument: 9,
                },
            ),
        ]);
        let receipts = [receipt(1, 1), receipt(2, 1), logged(3, 1), receipt(4, 1)];
        let due = ledger.settle(0, 1, 1, &receipts).expect("all is well");
        let fees = U256::from(4 * 21_000 * 7);
        assert_eq!(due.balances[&sink_address(0)], U256::from(5));
        assert_eq!(
            due.balances[&user_address(0)],
            user_funds() - fees - U256::from(5)
        );
        assert_eq!(due.nonces[&user_address(0)], 4);
        assert_eq!(due.counts[&counter], U256::from(1));
        assert_eq!(
            ledger
                .coverage
                .counts()
                .find(|(name, _)| *name == "call.nothing-there")
                .map(|c| c.1),
            Some(1)
        );
    }

    #[test]
    fn calls_of_contracts_have_their_expected_result() {
        let at = user_address(0).create(0);
        let with = |contract| {
            ledger(&[
                (0, Action::Deploy { contract }),
                (1, Action::Call { at, argument: 4 }),
            ])
        };
        let cases = [
            (Contract::Counter, logged(2, 1), true),
            (Contract::Counter, logged(2, 0), false),
            (Contract::Logger, logged(2, 4), true),
            (Contract::Logger, logged(2, 3), false),
            (Contract::Reverter, receipt(2, 0), true),
            (Contract::Reverter, receipt(2, 1), false),
            (Contract::Spinner, receipt(2, 0), true),
            (
                Contract::Spinner,
                Receipt {
                    gas_used: U256::from(20_999),
                    ..receipt(2, 0)
                },
                false,
            ),
        ];
        for (contract, called, fits) in cases {
            let result = with(contract).settle(0, 1, 1, &[receipt(1, 1), called]);
            assert_eq!(result.is_ok(), fits, "{contract:?}");
        }
        let failed = transfers().settle(0, 1, 1, &[receipt(1, 0)]);
        assert!(
            reason(failed).contains("status 0"),
            "a transfer cannot fail"
        );
    }

    #[test]
    fn answers_about_accounts_are_compared_at_their_height() {
        let answer = |height, asked, found: U256| Answered {
            node: 2,
            height,
            account: user_address(0),
            asked,
            found,
        };
        let fee = U256::from(21_000 * 7);
        let later = Receipt {
            block_number: U256::from(2),
            ..receipt(2, 1)
        };
        let receipts = [receipt(1, 1), later];
        let table = [
            (answer(1, Asked::Nonce, U256::from(1)), true),
            (answer(2, Asked::Nonce, U256::from(2)), true),
            (answer(1, Asked::Nonce, U256::from(2)), false),
            (
                answer(1, Asked::Balance, user_funds() - fee - U256::from(5)),
                true,
            ),
            (answer(1, Asked::Balance, user_funds() - fee), false),
            (answer(1, Asked::Slot, U256::ZERO), true),
            (answer(9, Asked::Nonce, U256::from(9)), true),
        ];
        for (row, (answer, fits)) in table.into_iter().enumerate() {
            let mut ledger = transfers();
            ledger.answered(answer);
            let result = ledger.check_answers(1, 2, &receipts);
            assert_eq!(result.is_ok(), fits, "row {row}: {result:?}");
        }
    }

    #[test]
    fn acknowledged_transactions_must_be_in_their_blocks() {
        let mut ledger = transfers();
        ledger
            .acknowledged
            .insert(B256::repeat_byte(1), (1, B256::repeat_byte(0xbb)));
        assert!(ledger.settle(0, 1, 1, &[receipt(1, 1)]).is_ok());
        assert!(matches!(
            ledger.settle(0, 1, 1, &[]),
            Err(Violation::AcknowledgedLost { height: 1, .. })
        ));
        assert!(
            ledger.settle(0, 0, 1, &[]).is_ok(),
            "the block is above the checked height"
        );
        ledger
            .acknowledged
            .insert(B256::repeat_byte(1), (1, B256::repeat_byte(0xdd)));
        assert!(matches!(
            ledger.settle(0, 1, 1, &[receipt(1, 1)]),
            Err(Violation::AcknowledgedLost { .. })
        ));
    }

    #[test]
    fn unknown_transactions_and_nonce_gaps_are_found() {
        let mut ledger = transfers();
        assert_eq!(
            reason(ledger.settle(0, 1, 1, &[receipt(9, 1)])),
            "no user sent it"
        );
        assert!(reason(ledger.settle(0, 1, 1, &[receipt(2, 1)])).contains("nonce 1"));
    }

    #[test]
    fn one_transaction_of_a_nonce_is_final() {
        let both = [
            (0, Action::Transfer { wei: 5 }),
            (0, Action::Cancel),
            (1, Action::Cancel),
        ];
        for winner in [1, 2] {
            assert!(
                ledger(&both)
                    .settle(0, 1, 1, &[receipt(winner, 1), receipt(3, 1)])
                    .is_ok()
            );
        }
        let twice = ledger(&both).settle(0, 1, 1, &[receipt(1, 1), receipt(2, 1)]);
        assert!(reason(twice).contains("nonce 0 of user 0 is used in place of 1"));
    }

    #[test]
    fn a_transaction_refused_by_every_client_is_never_final() {
        let mut ledger = transfers();
        let hash = B256::repeat_byte(1);
        if let Some(sent) = ledger.sent.get_mut(&hash) {
            sent.taken = Taken::Never;
        }
        let before = ledger.handing_in(&hash);
        assert!(
            ledger.settle(0, 1, 1, &[receipt(1, 1)]).is_ok(),
            "the answer is missing"
        );
        ledger.refused(&hash, before);
        assert!(reason(ledger.settle(0, 1, 1, &[receipt(1, 1)])).contains("has refused it"));
        ledger.taken(&hash);
        let before = ledger.handing_in(&hash);
        ledger.refused(&hash, before);
        assert!(
            ledger.settle(0, 1, 1, &[receipt(1, 1)]).is_ok(),
            "another execution client accepted it"
        );
        ledger.never.insert(hash, "it is for another chain");
        assert!(reason(ledger.settle(0, 1, 1, &[receipt(1, 1)])).contains("another chain"));
    }
}
