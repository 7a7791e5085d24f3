//! Pool rules as a small model: the answers of one execution client about one account, compared
//! with each other. Another client may lack a transaction or a block, so that nothing follows from
//! its answers.

use std::time::Duration;

use alloy_primitives::{B256, U64};
use alys_integrations::http::{CallError, HttpClient};
use alys_runtime::time;
use serde::Deserialize;

use super::sign::{Fees, Raw};
use super::{Answer, User, wrongly_taken};
use crate::invariants::{Action, Violation};
use crate::params::accounts::user_address;

/// Longest time of the requests whose answers are compared. A client that restarts meanwhile, and
/// loses and regains its transactions, takes longer.
const AT_ONCE: Duration = Duration::from_millis(400);

/// Capacity of a pool that users never fill.
const ROOMY_POOL: usize = 1_000;

/// A transaction and its place; `block_hash` is null while it is in the pool.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    hash: B256,
    #[serde(default)]
    block_hash: Option<B256>,
}

impl User {
    /// Signs a replacement that raises the fees by one wei. A client whose pool has the first
    /// transaction refuses it; once that one is in a block, its nonce is used.
    pub(super) async fn replace_barely(
        &mut self,
        clients: &[HttpClient],
        nonce: u64,
        action: Action,
        fees: Fees,
    ) -> Result<(), Violation> {
        let open = self.desk.open.get(&nonce);
        let first = open.and_then(|open| open.candidates.last());
        let first = first.map(|candidate| candidate.raw.hash);
        let raw = self.sign(nonce, action, fees);
        let number = self.rng.below(clients.len() as u64) as usize;
        let Some(first) = first else {
            self.send_to(clients, number, &raw).await?;
            return Ok(());
        };
        let client = &clients[number];
        let begun = time::now();
        let before = is_pooled(client, first).await;
        let answer = self.send_to(clients, number, &raw).await?;
        // A full pool may have dropped the first transaction in between.
        let is_roomy = self.plan.pool >= ROOMY_POOL;
        if !before || !is_roomy || begun.elapsed() > AT_ONCE {
            return Ok(());
        }
        self.count("model.replacement");
        match answer {
            Answer::Taken => Err(wrongly_taken(
                number,
                &raw,
                "it raises the fees of a transaction in the pool by less than a tenth",
            )),
            Answer::Refused | Answer::Missing => Ok(()),
        }
    }

    /// Checks that no client counts beyond a nonce for which no transaction was signed yet.
    pub(super) async fn check_gap(
        &mut self,
        clients: &[HttpClient],
        missing: u64,
    ) -> Result<(), Violation> {
        let number = self.rng.below(clients.len() as u64) as usize;
        let asked = (user_address(self.index), "pending");
        let next: Result<U64, CallError> =
            clients[number].call("eth_getTransactionCount", asked).await;
        let Ok(next) = next else { return Ok(()) };
        self.count("model.gap");
        if next.to::<u64>() <= missing {
            return Ok(());
        }
        Err(Violation::StateDiffers {
            node: number as u8 + 1,
            height: 0,
            what: format!("the next nonce is {next} without a transaction of nonce {missing}"),
        })
    }

    /// Submits a transaction whose nonce is used at the head of the client before and after it.
    pub(super) async fn send_used_nonce(
        &mut self,
        clients: &[HttpClient],
        raw: &Raw,
    ) -> Result<(), Violation> {
        let Some(used) = self.desk.last_final else {
            return Ok(());
        };
        // The same one was sent before; a client that is behind may still accept it.
        if self.judge.look().ledger.never.contains_key(&raw.hash) {
            return Ok(());
        }
        let number = self.rng.below(clients.len() as u64) as usize;
        let client = &clients[number];
        let begun = time::now();
        let before = self.is_used(client, used).await;
        let answer = self.send_to(clients, number, raw).await?;
        if !before || !self.is_used(client, used).await || begun.elapsed() > AT_ONCE {
            return Ok(());
        }
        self.count("model.nonce");
        match answer {
            Answer::Taken => Err(wrongly_taken(
                number,
                raw,
                "its nonce was used at the head of the execution client",
            )),
            Answer::Refused | Answer::Missing => Ok(()),
        }
    }

    async fn is_used(&self, client: &HttpClient, nonce: u64) -> bool {
        let asked = (user_address(self.index), "latest");
        let next: Result<U64, CallError> = client.call("eth_getTransactionCount", asked).await;
        next.is_ok_and(|next| next.to::<u64>() > nonce)
    }
}

/// True if the pool of an execution client has a transaction.
async fn is_pooled(client: &HttpClient, hash: B256) -> bool {
    let place: Result<Option<Place>, CallError> =
        client.call("eth_getTransactionByHash", (hash,)).await;
    matches!(place, Ok(Some(place)) if place.hash == hash && place.block_hash.is_none())
}
