//! Users: they sign valid and invalid transactions, submit them to any execution client, replace
//! and cancel them, leave nonce gaps, flood, read, and wait until a transaction of each nonce is in
//! a final block.
//!
//! [`Watcher`]s poll filters of the execution clients meanwhile.
//!
//! **Owns** only the transactions that it sends to the public ports of the execution clients.
//! **Guarantees** that every transaction is in the ledger of the invariants before it is submitted,
//! that each user draws from its own random stream, and that every feature reached is counted.
//! **Never** submits the valid transaction of a nonce after it has seen another transaction of that
//! nonce become final.

mod bids;
mod fees;
pub mod large_callers;
pub mod miners;
mod misconduct;
mod pool;
mod reads;
pub mod sign;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, TxKind, U64, U256};
use alys_integrations::http::{CallError, ClientConfig, HttpClient};
use alys_runtime::sim::{Rng, World};
use alys_runtime::time;

use crate::cluster::{RPC_PORT, machine_ip, now_ms};
use crate::invariants::coverage;
use crate::invariants::{Action, Judge, Receipt, Sent, Taken, Violation};
use crate::params::accounts::{sink_address, user_address, user_key};
use crate::params::transactions::{Contract, Form};
use crate::params::{Behaviour, MachineRole, WorkloadPlan};
use bids::precompile_gas;
pub use miners::Miner;
use sign::{ACCESS_LIST_GAS, Draft, Fees, Raw};
pub use watch::Watcher;

const GWEI: u128 = 1_000_000_000;
/// Fees of a transaction that should be included in a block.
const USUAL: Fees = Fees {
    cap: 50 * GWEI,
    tip: GWEI,
};
/// Fees of a loyal user: the base fee does not rise above what the others can pay, so that these
/// transactions always can.
const GENEROUS: Fees = Fees {
    cap: 200 * GWEI,
    tip: 2 * GWEI,
};
/// Accepted by every pool, but the cap is below the base fee of every block.
const TOO_LITTLE: Fees = Fees { cap: 1, tip: 1 };
/// Refused by every pool because the tip is zero.
const NOTHING: Fees = Fees {
    cap: 50 * GWEI,
    tip: 0,
};
/// Interval between two queries for receipts.
const LOOK: Duration = Duration::from_millis(600);
/// Queries after which a transaction is submitted again, to another execution client, because pools
/// lose their contents in crashes.
const LOOKS_BEFORE_RESEND: u32 = 6;
/// Most transactions that are resubmitted after one query, lowest nonces first.
const MOST_RESENT: usize = 8;
/// Bursts in one flood.
const FLOOD_BURSTS: u64 = 8;
/// Most transactions in one flood, independent of the burst: more than half of a small pool.
const MOST_FLOOD: u64 = 48;
/// Most nonces behind one gap.
const MOST_BEHIND_GAP: u64 = 4;
/// Most logs that one call emits.
const MOST_LOGS: u64 = 200;
/// Most gas that a call has beyond its need, for contracts that use all of their gas.
const MOST_SPARE_GAS: u64 = 1_500_000;
/// One transfer in this many carries call data.
const DATA_ONE_IN: u64 = 12;

/// A user that sends transactions to the execution clients.
pub struct User {
    /// The user's number, from 0.
    pub index: u8,
    /// Number of execution clients to choose from.
    pub execution_clients: u8,
    /// The only execution client that a loyal user sends to, from 0.
    pub home: Option<u8>,
    /// The behaviours to draw from, and their limits.
    pub plan: WorkloadPlan,
    /// The user's own random stream.
    pub rng: Rng,
    /// The invariants, which receive every observation of the user.
    pub judge: Judge,
    /// Set when the user should stop.
    pub is_over: Arc<AtomicBool>,
    /// The user's pending work.
    pub desk: Desk,
}

/// The pending work of a user.
#[derive(Default)]
pub struct Desk {
    /// The lowest unused nonce.
    nonce: u64,
    /// Nonces without a final transaction.
    open: BTreeMap<u64, Open>,
    /// Contracts whose deployment the user has signed.
    contracts: BTreeMap<Contract, Address>,
    /// The highest nonce with a final transaction.
    last_final: Option<u64>,
}

/// A nonce without a final transaction.
struct Open {
    /// In the order of signing.
    candidates: Vec<Candidate>,
    purpose: Purpose,
    looks: u32,
}

struct Candidate {
    raw: Raw,
    /// The fees that a pool sees.
    fees: Fees,
}

/// The reason why a nonce has several transactions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The nonce has one transaction.
    Single,
    Replace,
    Cancel,
    /// The first transaction offered too little.
    Underpriced,
}

/// An execution client's response to a submitted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Taken,
    Refused,
    Missing,
}

/// An RPC client for the public port of one execution client.
pub fn rpc(index: u8) -> HttpClient {
    let ip = machine_ip(index, MachineRole::Execution);
    HttpClient::new(ClientConfig {
        deadline: Duration::from_secs(3),
        connect_timeout: Duration::from_secs(1),
        ..ClientConfig::new(SocketAddr::new(ip, RPC_PORT))
    })
}

impl User {
    /// Repeats drawn behaviours until the run is over or an invariant is violated.
    pub async fn run(mut self) {
        let clients: Vec<HttpClient> = (0..self.execution_clients).map(rpc).collect();
        while !self.is_over() {
            let word = self.rng.below(self.plan.behaviours.len() as u64) as usize;
            // Plans have at least one behaviour; a user without any has nothing to do.
            let Some(behaviour) = self.plan.behaviours.get(word).copied() else {
                return;
            };
            // A loyal user only sends, so that each of its transactions must be mined.
            let behaviour = self.home.map_or(behaviour, |_| Behaviour::Transfer);
            let turn = async {
                self.act(&clients, behaviour).await?;
                self.wait(&clients).await
            };
            if let Err(violation) = turn.await {
                return self.judge.accuse(now_ms(World::current()), violation);
            }
            let pause = self.plan.pause_ms;
            time::sleep(Duration::from_millis(
                pause / 2 + self.rng.below(pause.max(1)),
            ))
            .await;
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn flip(&mut self) -> bool {
        self.rng.below(2) == 0
    }

    fn count(&self, feature: &'static str) {
        self.judge.look().ledger.coverage.count(feature);
    }

    async fn act(&mut self, clients: &[HttpClient], behaviour: Behaviour) -> Result<(), Violation> {
        let burst = 1 + self.rng.below(u64::from(self.plan.burst.max(1)));
        match behaviour {
            Behaviour::Transfer => self.transfers(clients, burst).await,
            Behaviour::Contract => {
                for _ in 0..burst {
                    let action = self.with_a_contract();
                    self.issue(clients, action, USUAL).await?;
                }
                Ok(())
            }
            Behaviour::Replace => self.second_thoughts(clients, Purpose::Replace).await,
            Behaviour::Cancel => self.second_thoughts(clients, Purpose::Cancel).await,
            Behaviour::Underprice => self.second_thoughts(clients, Purpose::Underpriced).await,
            Behaviour::Flood => {
                self.count("flood");
                self.flood(clients, (burst * FLOOD_BURSTS).min(MOST_FLOOD))
                    .await
            }
            Behaviour::Gap => self.gap(clients).await,
            Behaviour::SignBadly => self.sign_badly(clients).await,
            Behaviour::Bid => self.bids(clients, burst).await,
            Behaviour::Touch => self.touches(clients, burst).await,
            Behaviour::Read => {
                for _ in 0..burst {
                    self.read(clients).await?;
                }
                Ok(())
            }
        }
    }

    async fn transfers(&mut self, clients: &[HttpClient], count: u64) -> Result<(), Violation> {
        let fees = self.home.map_or(USUAL, |_| GENEROUS);
        for _ in 0..count {
            let action = self.transfer();
            self.issue(clients, action, fees).await?;
        }
        Ok(())
    }

    /// Sends transfers, or gas-heavy calls, which fill blocks faster.
    async fn flood(&mut self, clients: &[HttpClient], count: u64) -> Result<(), Violation> {
        let heavy = self
            .desk
            .contracts
            .get(&Contract::Spinner)
            .copied()
            .filter(|_| self.rng.below(2) == 0);
        for _ in 0..count {
            let action = match heavy {
                Some(at) => Action::Call { at, argument: 0 },
                None => self.transfer(),
            };
            self.issue(clients, action, USUAL).await?;
        }
        Ok(())
    }

    fn transfer(&mut self) -> Action {
        Action::Transfer {
            wei: 1 + self.rng.below(1_000_000_000),
        }
    }

    /// Deploys a drawn contract, or calls it if it is deployed.
    fn with_a_contract(&mut self) -> Action {
        let contract = Contract::ALL[self.rng.below(Contract::ALL.len() as u64) as usize];
        match self.desk.contracts.get(&contract) {
            Some(at) => Action::Call {
                at: *at,
                argument: self.rng.below(MOST_LOGS),
            },
            None => {
                let at = user_address(self.index).create(self.desk.nonce);
                self.desk.contracts.insert(contract, at);
                Action::Deploy { contract }
            }
        }
    }

    /// Signs two transactions with one nonce; the second offers more.
    async fn second_thoughts(
        &mut self,
        clients: &[HttpClient],
        purpose: Purpose,
    ) -> Result<(), Violation> {
        let nonce = self.desk.nonce;
        let fees = match purpose {
            Purpose::Underpriced if self.flip() => TOO_LITTLE,
            Purpose::Underpriced => NOTHING,
            _ => USUAL,
        };
        // If the second transaction replaces a deployment, later calls reach an account without
        // code.
        let action = if self.flip() {
            self.with_a_contract()
        } else {
            self.transfer()
        };
        self.issue(clients, action, fees).await?;
        time::sleep(Duration::from_millis(
            self.rng.below(2 * LOOK.as_millis() as u64),
        ))
        .await;
        let second = match purpose {
            Purpose::Cancel => Action::Cancel,
            _ => self.transfer(),
        };
        let Some(open) = self.desk.open.get_mut(&nonce) else {
            return Ok(());
        };
        open.purpose = purpose;
        let barely = open.candidates.last().map(|first| Fees {
            cap: first.fees.cap + 1,
            tip: first.fees.tip + 1,
        });
        if let Some(barely) =
            barely.filter(|_| purpose == Purpose::Replace && self.rng.below(3) == 0)
        {
            // An execution client that has the first transaction refuses this one; any other
            // execution client accepts it.
            let action = self.transfer();
            self.replace_barely(clients, nonce, action, barely).await?;
        }
        let Some(open) = self.desk.open.get(&nonce) else {
            return Ok(());
        };
        let raised = open
            .candidates
            .last()
            .map_or(USUAL, |first| first.fees.raised());
        let fees = Fees {
            cap: raised.cap.max(USUAL.cap),
            tip: raised.tip.max(USUAL.tip),
        };
        self.sign_and_send(clients, nonce, second, fees).await?;
        Ok(())
    }

    /// Sends transactions with higher nonces first, and fills the gap before them later.
    async fn gap(&mut self, clients: &[HttpClient]) -> Result<(), Violation> {
        let missing = self.desk.nonce;
        self.desk.nonce += 1;
        self.count("gap.made");
        for _ in 0..1 + self.rng.below(MOST_BEHIND_GAP) {
            let action = self.transfer();
            self.issue(clients, action, USUAL).await?;
        }
        time::sleep(Duration::from_millis(
            self.rng.below(4 * LOOK.as_millis() as u64),
        ))
        .await;
        self.check_gap(clients, missing).await?;
        self.count("gap.filled");
        let action = self.transfer();
        self.sign_and_send(clients, missing, action, USUAL).await?;
        Ok(())
    }

    /// Signs and sends a transaction with the next nonce.
    async fn issue(
        &mut self,
        clients: &[HttpClient],
        action: Action,
        fees: Fees,
    ) -> Result<(), Violation> {
        let nonce = self.desk.nonce;
        self.desk.nonce += 1;
        self.sign_and_send(clients, nonce, action, fees).await
    }

    async fn sign_and_send(
        &mut self,
        clients: &[HttpClient],
        nonce: u64,
        action: Action,
        fees: Fees,
    ) -> Result<(), Violation> {
        let raw = self.sign(nonce, action, fees);
        self.send(clients, &raw).await?;
        Ok(())
    }

    /// Signs a transaction, which the ledger and the desk know from now on.
    fn sign(&mut self, nonce: u64, action: Action, fees: Fees) -> Raw {
        // A form with a single gas price would offer the whole cap as a tip.
        let one_price_fits = fees != NOTHING;
        let form = if one_price_fits {
            self.form()
        } else {
            Form::DynamicFee
        };
        let draft = self.draft(form, nonce, action, fees);
        let extra = if form == Form::AccessList {
            ACCESS_LIST_GAS
        } else {
            0
        };
        let gas_limit = draft.gas_limit + extra;
        let raw = draft.sign(&user_key(self.index));
        let size = raw.bytes.len();
        let seen = fees.seen(form);
        let sent = Sent {
            user: self.index,
            nonce,
            action,
            form,
            gas_limit,
            size,
            taken: Taken::Never,
            cap: seen.cap,
            tip: seen.tip,
        };
        self.judge.look().ledger.sent.insert(raw.hash, sent);
        let candidate = Candidate {
            raw: raw.clone(),
            fees: seen,
        };
        let single = || Open {
            candidates: Vec::new(),
            purpose: Purpose::Single,
            looks: 0,
        };
        self.desk
            .open
            .entry(nonce)
            .or_insert_with(single)
            .candidates
            .push(candidate);
        raw
    }

    fn form(&mut self) -> Form {
        Form::ALL[self.rng.below(Form::ALL.len() as u64) as usize]
    }

    fn draft(&mut self, form: Form, nonce: u64, action: Action, fees: Fees) -> Draft {
        let user = user_address(self.index);
        let sink = sink_address(self.index);
        let plain = Draft::new(form, nonce, fees, sink);
        match action {
            Action::Transfer { wei } => {
                let most = self.plan.data;
                let has_data = self.rng.below(DATA_ONE_IN) == 0;
                let length = if has_data || most > WorkloadPlan::USUAL_DATA {
                    self.rng.below(most)
                } else {
                    0
                };
                // A non-zero byte of call data costs 16 gas.
                let gas_limit = plain.gas_limit + 16 * length;
                let input = Bytes::from(vec![0x55; length as usize]);
                Draft {
                    value: U256::from(wei),
                    gas_limit,
                    input,
                    ..plain
                }
            }
            Action::Touch { at } => Draft {
                to: TxKind::Call(at),
                gas_limit: plain.gas_limit + precompile_gas(at),
                ..plain
            },
            Action::Cancel => Draft {
                to: TxKind::Call(user),
                ..plain
            },
            Action::Deploy { contract } => Draft {
                to: TxKind::Create,
                gas_limit: 200_000,
                input: contract.init_code(),
                ..plain
            },
            Action::Call { at, argument } => {
                let input = Bytes::from(U256::from(argument).to_be_bytes::<32>().to_vec());
                // A log costs 375 gas, its topic as much, and each of its 32 bytes 8; the rest is
                // for the loop.
                let gas_limit = 80_000 + 1_200 * argument + self.rng.below(MOST_SPARE_GAS);
                Draft {
                    to: TxKind::Call(at),
                    gas_limit,
                    input,
                    ..plain
                }
            }
        }
    }

    /// Submits a transaction to a drawn execution client, or to that of a loyal user; after an
    /// unclear response, once more.
    async fn send(&mut self, clients: &[HttpClient], raw: &Raw) -> Result<Answer, Violation> {
        for _ in 0..2 {
            let drawn = self.rng.below(clients.len() as u64) as usize;
            let number = self.home.map_or(drawn, usize::from);
            match self.send_to(clients, number, raw).await? {
                Answer::Missing => {}
                answer => {
                    if let (Answer::Taken, Some(home)) = (answer, self.home) {
                        let at_ms = now_ms(World::current());
                        self.judge.look().handed_in(at_ms, home, raw.hash);
                    }
                    return Ok(answer);
                }
            }
        }
        Ok(Answer::Missing)
    }

    /// Submits a transaction to one execution client.
    async fn send_to(
        &self,
        clients: &[HttpClient],
        number: usize,
        raw: &Raw,
    ) -> Result<Answer, Violation> {
        let before = self.judge.look().ledger.handing_in(&raw.hash);
        let answer: Result<B256, CallError> = clients[number]
            .call("eth_sendRawTransaction", (&raw.bytes,))
            .await;
        let mut oracles = self.judge.look();
        let ledger = &mut oracles.ledger;
        match answer {
            Ok(hash) if hash == raw.hash => {
                ledger.taken(&raw.hash);
                let why = match ledger.sent.get(&raw.hash) {
                    Some(sent) if sent.tip == 0 => Some("its tip is zero"),
                    Some(_) | None => ledger.never.get(&raw.hash).copied(),
                };
                match why {
                    Some(why) => Err(wrongly_taken(number, raw, why)),
                    None => Ok(Answer::Taken),
                }
            }
            Ok(hash) => Err(wrongly_taken(
                number,
                raw,
                &format!("the execution client answered with the hash {hash}"),
            )),
            Err(CallError::Rpc { error, .. }) => {
                let Some(reason) = coverage::reason(&error.message) else {
                    return Ok(Answer::Missing);
                };
                ledger.coverage.count(reason);
                if reason == coverage::ALREADY_KNOWN {
                    ledger.taken(&raw.hash);
                    return Ok(Answer::Taken);
                }
                ledger.refused(&raw.hash, before);
                Ok(Answer::Refused)
            }
            // The execution client may have accepted the transaction without an answer.
            Err(_) => {
                ledger.coverage.count("unanswered");
                Ok(Answer::Missing)
            }
        }
    }

    /// Waits until each nonce has a final transaction; if the plan contains reads, reads meanwhile.
    async fn wait(&mut self, clients: &[HttpClient]) -> Result<(), Violation> {
        let reads = self.plan.behaviours.contains(&Behaviour::Read);
        while !self.desk.open.is_empty() && !self.is_over() {
            time::sleep(LOOK).await;
            let number = self.rng.below(clients.len() as u64) as usize;
            self.look(number, &clients[number]).await?;
            self.send_again(clients).await?;
            if reads && self.rng.below(4) == 0 {
                self.read(clients).await?;
            }
        }
        Ok(())
    }

    /// Queries one execution client for the receipts of the open nonces.
    async fn look(&mut self, number: usize, client: &HttpClient) -> Result<(), Violation> {
        for open in self.desk.open.values_mut() {
            open.looks += 1;
        }
        let asked = (user_address(self.index), "latest");
        let mined: Result<U64, CallError> = client.call("eth_getTransactionCount", asked).await;
        let Ok(mined) = mined else { return Ok(()) };
        let nonces: Vec<u64> = self
            .desk
            .open
            .range(..mined.to::<u64>())
            .map(|(nonce, _)| *nonce)
            .collect();
        for nonce in nonces {
            let Some(open) = self.desk.open.get(&nonce) else {
                continue;
            };
            let hashes: Vec<B256> = open
                .candidates
                .iter()
                .map(|candidate| candidate.raw.hash)
                .collect();
            for (place, hash) in hashes.into_iter().enumerate() {
                let receipt: Result<Option<Receipt>, CallError> =
                    client.call("eth_getTransactionReceipt", (hash,)).await;
                let Ok(Some(receipt)) = receipt else {
                    continue;
                };
                if receipt.transaction_hash != hash || receipt.from != user_address(self.index) {
                    return Err(Violation::StateDiffers {
                        node: number as u8 + 1,
                        height: receipt.block_number.saturating_to(),
                        what: format!(
                            "the receipt of {hash} is that of {} by {}",
                            receipt.transaction_hash, receipt.from
                        ),
                    });
                }
                if self.acknowledge(&receipt) {
                    self.close(nonce, place);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Closes a nonce whose transaction at `place` among the candidates is final.
    fn close(&mut self, nonce: u64, place: usize) {
        let Some(open) = self.desk.open.remove(&nonce) else {
            return;
        };
        self.desk.last_final = self.desk.last_final.max(Some(nonce));
        let is_last = place + 1 == open.candidates.len();
        match (open.purpose, is_last) {
            (Purpose::Single, _) | (Purpose::Underpriced, false) => {}
            (Purpose::Underpriced, true) => self.count("underpriced.replaced"),
            (Purpose::Replace, true) => self.count("replace.won"),
            (Purpose::Replace, false) => self.count("replace.lost"),
            (Purpose::Cancel, true) => self.count("cancel.won"),
            (Purpose::Cancel, false) => self.count("cancel.lost"),
        }
    }

    /// Resubmits transactions that have been pending for long: the last candidate of each nonce,
    /// because it offers most.
    async fn send_again(&mut self, clients: &[HttpClient]) -> Result<(), Violation> {
        let is_due =
            |open: &&Open| open.looks > 0 && open.looks.is_multiple_of(LOOKS_BEFORE_RESEND);
        let due = self
            .desk
            .open
            .values()
            .filter(is_due)
            .filter_map(|open| open.candidates.last());
        let due: Vec<Raw> = due
            .map(|candidate| candidate.raw.clone())
            .take(MOST_RESENT)
            .collect();
        for raw in due {
            self.count("resent");
            self.send(clients, &raw).await?;
        }
        Ok(())
    }

    /// Records in the ledger that a transaction is in a final block. False if the block is not
    /// final.
    fn acknowledge(&self, receipt: &Receipt) -> bool {
        let height = receipt.block_number.saturating_to::<u64>();
        let mut oracles = self.judge.look();
        let is_final = oracles
            .finality
            .blocks
            .get(&height)
            .is_some_and(|block| block.execution_hash.0 == receipt.block_hash.0);
        if is_final {
            oracles
                .ledger
                .acknowledged
                .insert(receipt.transaction_hash, (height, receipt.block_hash));
            oracles.handed.acknowledged(&receipt.transaction_hash);
        }
        is_final
    }
}

fn wrongly_taken(client: usize, raw: &Raw, why: &str) -> Violation {
    Violation::WronglyTaken {
        node: client as u8 + 1,
        transaction: raw.hash.to_string(),
        why: why.to_owned(),
    }
}
