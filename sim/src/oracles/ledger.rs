//! What users sent, what was acknowledged to them as final, and what every account must hold in consequence.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};

use super::Violation;
use crate::genesis::{sink_address, user_address, user_funds};

/// What a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Sends so many wei to the user's sink.
    Transfer { wei: u64 },
    /// Makes the counter contract.
    Deploy,
    /// Counts up in it.
    Count { contract: Address },
}

/// A transaction that a user signed.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Whose.
    pub user: u8,
    /// Its number among the user's.
    pub nonce: u64,
    /// What it does.
    pub action: Action,
}

/// A receipt, as far as it matters here.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Which transaction.
    pub transaction_hash: B256,
    /// The block.
    pub block_hash: B256,
    /// Its number.
    pub block_number: U256,
    /// 1: it did what it should.
    pub status: U256,
    /// Paid for.
    pub gas_used: U256,
    /// At this price.
    pub effective_gas_price: U256,
}

/// All transactions of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By hash.
    pub sent: BTreeMap<B256, Sent>,
    /// Seen in a final block: its height and execution hash.
    pub acknowledged: BTreeMap<B256, (u64, B256)>,
}

/// What accounts must hold at a height.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Balances in wei.
    pub balances: BTreeMap<Address, U256>,
    /// Transactions of each account.
    pub nonces: BTreeMap<Address, u64>,
    /// Slot 0 of each counter.
    pub counts: BTreeMap<Address, U256>,
}

impl Ledger {
    /// What accounts hold when exactly these receipts have been made, and whether all that was acknowledged is among them.
    pub fn settle(&self, node: u8, height: u64, users: u8, receipts: &[Receipt]) -> Result<Due, Violation> {
        let mut due = Due::default();
        for user in 0..users {
            due.balances.insert(user_address(user), user_funds());
            due.balances.insert(sink_address(user), U256::ZERO);
            due.nonces.insert(user_address(user), 0);
        }
        let mut found = BTreeMap::new();
        for receipt in receipts {
            found.insert(receipt.transaction_hash, receipt.block_hash);
            let Some(sent) = self.sent.get(&receipt.transaction_hash) else {
                let what = format!("transaction {} was sent by nobody", receipt.transaction_hash);
                return Err(Violation::StateDiffers { node: node + 1, height, what });
            };
            let sender = user_address(sent.user);
            let mut paid = receipt.gas_used * receipt.effective_gas_price;
            let is_done = receipt.status == U256::from(1);
            match sent.action {
                Action::Transfer { wei } if is_done => {
                    paid += U256::from(wei);
                    *due.balances.entry(sink_address(sent.user)).or_default() += U256::from(wei);
                }
                Action::Count { contract } if is_done => {
                    *due.counts.entry(contract).or_default() += U256::from(1);
                }
                _ => {}
            }
            let balance = due.balances.entry(sender).or_default();
            *balance = balance.saturating_sub(paid);
            let nonce = due.nonces.entry(sender).or_default();
            if *nonce != sent.nonce {
                let what = format!("nonce {} of user {} is used in place of {nonce}", sent.nonce, sent.user);
                return Err(Violation::StateDiffers { node: node + 1, height, what });
            }
            *nonce += 1;
        }
        for (transaction, (at, block)) in self.acknowledged.iter().filter(|(_, (at, _))| *at <= height) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(mark: u8, status: u64) -> Receipt {
        Receipt {
            transaction_hash: B256::repeat_byte(mark),
            block_hash: B256::repeat_byte(0xbb),
            block_number: U256::from(1),
            status: U256::from(status),
            gas_used: U256::from(21_000),
            effective_gas_price: U256::from(7),
        }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        let contract = Address::repeat_byte(0xcc);
        let actions = [Action::Transfer { wei: 5 }, Action::Transfer { wei: 6 }, Action::Count { contract }];
        for (nonce, action) in actions.into_iter().enumerate() {
            let sent = Sent { user: 0, nonce: nonce as u64, action };
            ledger.sent.insert(B256::repeat_byte(nonce as u8 + 1), sent);
        }
        ledger
    }

    #[test]
    fn accounts_hold_what_their_transactions_leave() {
        let due =
            ledger().settle(0, 1, 1, &[receipt(1, 1), receipt(2, 0), receipt(3, 1)]).expect("all is well");
        let fees = U256::from(3 * 21_000 * 7);
        assert_eq!(due.balances[&sink_address(0)], U256::from(5), "the failed one moved nothing");
        assert_eq!(due.balances[&user_address(0)], user_funds() - fees - U256::from(5));
        assert_eq!(due.nonces[&user_address(0)], 3);
        assert_eq!(due.counts[&Address::repeat_byte(0xcc)], U256::from(1));
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let mut ledger = ledger();
        ledger.acknowledged.insert(B256::repeat_byte(1), (1, B256::repeat_byte(0xbb)));
        assert!(ledger.settle(0, 1, 1, &[receipt(1, 1)]).is_ok());
        assert!(matches!(ledger.settle(0, 1, 1, &[]), Err(Violation::AcknowledgedLost { height: 1, .. })));
        assert!(ledger.settle(0, 0, 1, &[]).is_ok(), "it is above the height that is looked at");
        ledger.acknowledged.insert(B256::repeat_byte(1), (1, B256::repeat_byte(0xdd)));
        assert!(matches!(ledger.settle(0, 1, 1, &[receipt(1, 1)]), Err(Violation::AcknowledgedLost { .. })));
    }

    #[test]
    fn strangers_and_gaps_are_found() {
        let ledger = ledger();
        assert!(matches!(ledger.settle(0, 1, 1, &[receipt(9, 1)]), Err(Violation::StateDiffers { .. })));
        assert!(matches!(ledger.settle(0, 1, 1, &[receipt(2, 1)]), Err(Violation::StateDiffers { .. })));
    }
}
