//! Misconduct of users: transactions that no execution client may accept.

use alloy_primitives::{Bytes, TxKind, U256};
use alys_integrations::http::HttpClient;
use alys_runtime::sim::Rng;
use k256::ecdsa::SigningKey;

use super::sign::{Draft, Fees, Raw};
use super::{GWEI, USUAL, User};
use crate::invariants::Violation;
use crate::params::accounts::{CHAIN_ID, sink_address, user_funds, user_key};
use crate::params::transactions::Form;

/// Longest garbage, in bytes.
const MOST_GARBAGE: u64 = 300;
/// One byte more than a pool accepts.
const OVERSIZED: usize = 128 * 1024 + 1;
/// One byte more than the init code of a deployment may have (EIP-3860).
const LONG_INIT_CODE: usize = 2 * 24_576 + 1;

impl User {
    /// Submits an invalid transaction. Execution clients must refuse it, and it must never become
    /// final.
    pub(super) async fn sign_badly(&mut self, clients: &[HttpClient]) -> Result<(), Violation> {
        let (raw, why) = self.bad();
        if let Some(why) = why {
            self.judge.look().ledger.never.insert(raw.hash, why);
        }
        match why {
            Some(_) => {
                self.send(clients, &raw).await?;
            }
            None => self.send_used_nonce(clients, &raw).await?,
        }
        if why.is_none() {
            // An execution client that is behind may accept it, so the ledger bans it from finality
            // only now.
            self.judge
                .look()
                .ledger
                .never
                .insert(raw.hash, "its nonce was used before it was signed");
        }
        Ok(())
    }

    /// Draws one form of misconduct. The reason is `None` where an execution client that is behind
    /// may accept the transaction.
    fn bad(&mut self) -> (Raw, Option<&'static str>) {
        let key = user_key(self.index);
        let block_gas = self.plan.block_gas;
        let form = self.form();
        let good = Draft::new(form, self.desk.nonce, USUAL, sink_address(self.index));
        let (raw, why) = match self.rng.below(14) {
            0 => (
                foreign_chain(good, &key, &mut self.rng),
                "it is for another chain",
            ),
            1 => (good.sign_malleably(&key), "its signature has a high s"),
            2 => (without_chain(good, &key), "it has no chain id"),
            3 => (garbage(&mut self.rng), "it is random bytes"),
            4 => (truncated(good, &key, &mut self.rng), "it is truncated"),
            5 => (tip_above_cap(good, &key), "its tip is above its cap"),
            6 => (below_intrinsic_gas(good, &key), "its gas limit is too low"),
            7 => (
                above_block_gas(good, &key, block_gas),
                "it does not fit into a block",
            ),
            8 => (
                long_init_code(good, &key, block_gas),
                "its init code is too long",
            ),
            9 => (oversized(good, &key), "it is too large"),
            10 => (unaffordable(good, &key), "its sender cannot afford it"),
            11 => (
                unaffordable_with_gas(good, &key),
                "its sender cannot afford its gas beside its value",
            ),
            12 => (
                dynamic_fee(good).sign_for_authorizations(&key),
                "its type is not supported",
            ),
            _ => match self.desk.last_final {
                Some(nonce) => return (reused_nonce(good, &key, nonce), None),
                None => (empty_blob(), "it is an empty blob transaction"),
            },
        };
        (raw, Some(why))
    }
}

fn dynamic_fee(draft: Draft) -> Draft {
    Draft {
        form: Form::DynamicFee,
        ..draft
    }
}

fn foreign_chain(draft: Draft, key: &SigningKey, rng: &mut Rng) -> Raw {
    let chain_id = Some(CHAIN_ID + 1 + rng.below(1_000));
    Draft { chain_id, ..draft }.sign(key)
}

/// A legacy transaction without replay protection (EIP-155).
fn without_chain(draft: Draft, key: &SigningKey) -> Raw {
    let draft = Draft {
        form: Form::Legacy,
        chain_id: None,
        ..draft
    };
    draft.sign(key)
}

fn garbage(rng: &mut Rng) -> Raw {
    let length = 1 + rng.below(MOST_GARBAGE);
    let bytes = (0..length).map(|_| rng.below(256) as u8).collect();
    Raw::of(bytes)
}

/// A prefix of a good transaction, as left by a wallet that crashes while it writes.
fn truncated(draft: Draft, key: &SigningKey, rng: &mut Rng) -> Raw {
    let mut bytes = draft.sign(key).bytes.to_vec();
    let kept = 1 + rng.below(bytes.len() as u64 - 1) as usize;
    bytes.truncate(kept);
    Raw::of(bytes)
}

fn tip_above_cap(draft: Draft, key: &SigningKey) -> Raw {
    let fees = Fees {
        cap: GWEI,
        tip: 2 * GWEI,
    };
    let draft = Draft {
        fees,
        ..dynamic_fee(draft)
    };
    draft.sign(key)
}

/// One unit of gas less than the intrinsic cost of a transfer.
fn below_intrinsic_gas(draft: Draft, key: &SigningKey) -> Raw {
    let draft = Draft {
        gas_limit: 20_999,
        ..dynamic_fee(draft)
    };
    draft.sign(key)
}

fn above_block_gas(draft: Draft, key: &SigningKey, block_gas: u64) -> Raw {
    let draft = Draft {
        gas_limit: block_gas + 1,
        ..dynamic_fee(draft)
    };
    draft.sign(key)
}

fn long_init_code(draft: Draft, key: &SigningKey, block_gas: u64) -> Raw {
    let draft = Draft {
        to: TxKind::Create,
        input: Bytes::from(vec![0; LONG_INIT_CODE]),
        gas_limit: block_gas,
        ..dynamic_fee(draft)
    };
    draft.sign(key)
}

fn oversized(draft: Draft, key: &SigningKey) -> Raw {
    let draft = Draft {
        input: Bytes::from(vec![0; OVERSIZED]),
        ..dynamic_fee(draft)
    };
    draft.sign(key)
}

fn unaffordable(draft: Draft, key: &SigningKey) -> Raw {
    let value = user_funds() + U256::from(1);
    Draft { value, ..draft }.sign(key)
}

/// One wei more than a user ever has, of which the gas is a part.
fn unaffordable_with_gas(draft: Draft, key: &SigningKey) -> Raw {
    let draft = dynamic_fee(draft);
    let gas = U256::from(draft.fees.cap) * U256::from(draft.gas_limit);
    let value = user_funds() + U256::from(1) - gas;
    Draft { value, ..draft }.sign(key)
}

/// A transaction with the nonce of a final one. Its hash differs from the final one's because no
/// behaviour sends one wei to a sink at this price.
fn reused_nonce(draft: Draft, key: &SigningKey, nonce: u64) -> Raw {
    let draft = Draft {
        nonce,
        fees: USUAL.raised(),
        value: U256::from(1),
        ..draft
    };
    draft.sign(key)
}

/// The type byte of a blob transaction (EIP-4844) and an empty list.
fn empty_blob() -> Raw {
    Raw::of(vec![0x03, 0xc0])
}
