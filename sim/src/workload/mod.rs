//! Users: they sign transactions, well and badly, hand them to any execution client, replace and cancel them, leave gaps,
//! flood, read, and wait until they see what they sent in a final block.
//!
//! **Owns** nothing that the network sees but bytes on the clients' public ports. **Promises** that everything handed in is
//! in the ledger of the oracles before it leaves, that each user draws from a stream of its own, and that what was reached
//! is counted. **Never** hands in the valid transaction of a nonce after another of that nonce was seen final.

mod misconduct;
mod reads;
pub mod sign;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, TxKind, U64, U256};
use alys_integrations::http::{CallError, ClientConfig, HttpClient};
use alys_runtime::sim::{Rng, World};
use alys_runtime::time;

use crate::cluster::{RPC_PORT, client_ip, now_ms};
use crate::invariants::coverage;
use crate::invariants::{Action, Judge, Receipt, Sent, Taken, Violation};
use crate::params::{Behaviour, WorkloadPlan};
use crate::params::accounts::{sink_address, user_address, user_key};
use crate::params::transactions::{Contract, Form};
use sign::{ACCESS_LIST_GAS, Draft, Fees, Raw};

const GWEI: u128 = 1_000_000_000;
/// What is offered for a transaction that should get through.
const USUAL: Fees = Fees {
    cap: 50 * GWEI,
    tip: GWEI,
};
/// Taken by every pool, and below the base fee of every block.
const TOO_LITTLE: Fees = Fees { cap: 1, tip: 1 };
/// Refused by every pool.
const NOTHING: Fees = Fees {
    cap: 50 * GWEI,
    tip: 0,
};
/// Between two looks for receipts.
const LOOK: Duration = Duration::from_millis(600);
/// After so many looks a transaction is handed in again, to another client: pools are lost in crashes.
const LOOKS_BEFORE_RESEND: u32 = 6;
/// Transactions that are handed in again at one look, lowest nonces first.
const MOST_RESENT: usize = 8;
/// A flood is so many bursts at once.
const FLOOD_BURSTS: u64 = 8;
/// Transactions of one flood, whatever the burst: more than half of a small pool.
const MOST_FLOOD: u64 = 48;
/// Nonces behind one gap.
const MOST_BEHIND_GAP: u64 = 4;
/// Bytes of call data that a transfer carries in vain.
const MOST_DATA: u64 = 20_000;
/// Logs of one call.
const MOST_LOGS: u64 = 200;
/// Gas of a call beyond what it needs, for contracts that use all there is.
const MOST_SPARE_GAS: u64 = 1_500_000;
/// One in so many transfers carries data.
const DATA_ONE_IN: u64 = 12;

/// A user of the network.
pub struct User {
    /// From 0.
    pub index: u8,
    /// Execution clients to choose from.
    pub clients: u8,
    /// What it does.
    pub plan: WorkloadPlan,
    /// Its choices.
    pub rng: Rng,
    /// Where what it sees is written down.
    pub judge: Judge,
    /// Set when it should come to an end.
    pub is_over: Arc<AtomicBool>,
    /// What it has under way.
    pub desk: Desk,
}

/// What a user has under way.
#[derive(Default)]
pub struct Desk {
    /// The first nonce that it has not used.
    nonce: u64,
    /// Nonces of which nothing was seen final yet.
    open: BTreeMap<u64, Open>,
    /// Contracts whose deployment it signed.
    contracts: BTreeMap<Contract, Address>,
    /// A nonce that is final.
    last_final: Option<u64>,
}

/// A nonce of which nothing was seen final yet.
struct Open {
    /// In the order in which they were signed.
    candidates: Vec<Candidate>,
    purpose: Purpose,
    looks: u32,
}

struct Candidate {
    raw: Raw,
    /// As a pool sees them.
    fees: Fees,
}

/// Why there are several transactions of a nonce.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// There are not.
    Single,
    Replace,
    Cancel,
    /// The first offered too little.
    Underpriced,
}

/// What a client said to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Taken,
    Refused,
    Missing,
}

/// A client of one execution client's public port.
pub fn rpc(index: u8) -> HttpClient {
    HttpClient::new(ClientConfig {
        deadline: Duration::from_secs(3),
        connect_timeout: Duration::from_secs(1),
        ..ClientConfig::new(SocketAddr::new(client_ip(index), RPC_PORT))
    })
}

impl User {
    /// Does what it does until it is over, or until it has seen what may not be.
    pub async fn run(mut self) {
        let clients: Vec<HttpClient> = (0..self.clients).map(rpc).collect();
        while !self.is_over() {
            let word = self.rng.below(self.plan.behaviours.len() as u64) as usize;
            // Plans have at least one; a user without any would only wait.
            let Some(behaviour) = self.plan.behaviours.get(word).copied() else {
                return;
            };
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
            Behaviour::Read => {
                for _ in 0..burst {
                    self.read(clients).await?;
                }
                Ok(())
            }
        }
    }

    async fn transfers(&mut self, clients: &[HttpClient], count: u64) -> Result<(), Violation> {
        for _ in 0..count {
            let action = self.transfer();
            self.issue(clients, action, USUAL).await?;
        }
        Ok(())
    }

    /// Transfers, or what fills blocks faster.
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

    /// Deploys a contract of a kind that it has not, or calls one.
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

    /// Two transactions of one nonce, the second with more to offer.
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
        // What a nonce of a deployment is used for instead is the call of nothing.
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
            // A client that has the first refuses it; one that has not takes it.
            let action = self.transfer();
            self.sign_and_send(clients, nonce, action, barely).await?;
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

    /// Higher nonces first, and after a while the one before them.
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
        self.count("gap.filled");
        let action = self.transfer();
        self.sign_and_send(clients, missing, action, USUAL).await?;
        Ok(())
    }

    /// The next nonce.
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
        // Forms with one price would offer all of the cap as a tip.
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
        let sent = Sent {
            user: self.index,
            nonce,
            action,
            form,
            gas_limit,
            size,
            taken: Taken::Never,
        };
        self.judge.look().ledger.sent.insert(raw.hash, sent);
        let candidate = Candidate {
            raw: raw.clone(),
            fees: fees.seen(form),
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
        self.send(clients, &raw).await?;
        Ok(())
    }

    fn form(&mut self) -> Form {
        Form::ALL[self.rng.below(Form::ALL.len() as u64) as usize]
    }

    fn draft(&mut self, form: Form, nonce: u64, action: Action, fees: Fees) -> Draft {
        let (user, sink) = (user_address(self.index), sink_address(self.index));
        let plain = Draft::new(form, nonce, fees, sink);
        match action {
            Action::Transfer { wei } => {
                let length = if self.rng.below(DATA_ONE_IN) == 0 {
                    self.rng.below(MOST_DATA)
                } else {
                    0
                };
                // Bytes that are not zero cost 16.
                let gas_limit = plain.gas_limit + 16 * length;
                let input = Bytes::from(vec![0x55; length as usize]);
                Draft {
                    value: U256::from(wei),
                    gas_limit,
                    input,
                    ..plain
                }
            }
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
                // 375 for a log, as much for its topic, 8 for each of its 32 bytes, and the loop around it.
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

    /// Hands a transaction to one client or another.
    async fn send(&mut self, clients: &[HttpClient], raw: &Raw) -> Result<Answer, Violation> {
        for _ in 0..2 {
            let number = self.rng.below(clients.len() as u64) as usize;
            let before = self.judge.look().ledger.handing_in(&raw.hash);
            let answer: Result<B256, CallError> = clients[number]
                .call("eth_sendRawTransaction", (&raw.bytes,))
                .await;
            let mut oracles = self.judge.look();
            let ledger = &mut oracles.ledger;
            match answer {
                Ok(hash) if hash == raw.hash => {
                    ledger.taken(&raw.hash);
                    return match ledger.never.get(&raw.hash) {
                        Some(why) => Err(wrongly_taken(number, raw, why)),
                        None => Ok(Answer::Taken),
                    };
                }
                Ok(hash) => {
                    return Err(wrongly_taken(
                        number,
                        raw,
                        &format!("it is called {hash} in the answer"),
                    ));
                }
                Err(CallError::Rpc { error, .. }) => {
                    let Some(reason) = coverage::reason(&error.message) else {
                        continue;
                    };
                    ledger.coverage.count(reason);
                    if reason == coverage::ALREADY_KNOWN {
                        ledger.taken(&raw.hash);
                        return Ok(Answer::Taken);
                    }
                    ledger.refused(&raw.hash, before);
                    return Ok(Answer::Refused);
                }
                // It may have been taken all the same.
                Err(_) => ledger.coverage.count("unanswered"),
            }
        }
        Ok(Answer::Missing)
    }

    /// Waits until something of each nonce is in a final block, and reads now and then meanwhile.
    async fn wait(&mut self, clients: &[HttpClient]) -> Result<(), Violation> {
        let reads = self.plan.behaviours.contains(&Behaviour::Read);
        while !self.desk.open.is_empty() && !self.is_over() {
            time::sleep(LOOK).await;
            let number = self.rng.below(clients.len() as u64) as usize;
            self.look(&clients[number]).await;
            self.send_again(clients).await?;
            if reads && self.rng.below(4) == 0 {
                self.read(clients).await?;
            }
        }
        Ok(())
    }

    /// Asks one client what of the open nonces is in a block.
    async fn look(&mut self, client: &HttpClient) {
        for open in self.desk.open.values_mut() {
            open.looks += 1;
        }
        let asked = (user_address(self.index), "latest");
        let mined: Result<U64, CallError> = client.call("eth_getTransactionCount", asked).await;
        let Ok(mined) = mined else { return };
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
                if matches!(receipt, Ok(Some(receipt)) if self.acknowledge(&receipt)) {
                    self.close(nonce, place);
                    break;
                }
            }
        }
    }

    /// A transaction of a nonce is final; `place` is which.
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

    /// What has waited for long is handed in again: the last of each nonce, which offers most.
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

    /// Writes down that a transaction is in a final block, if it is.
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
