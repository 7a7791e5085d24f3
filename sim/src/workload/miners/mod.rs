//! Miners: machines that ask nodes for work over the mining RPC (rule 4.7), build proofs of it as
//! pools do, and submit them, each in its own conduct.
//!
//! **Owns** the proofs that it builds, with code of its own. **Guarantees** that each answer of a
//! node is judged by the invariants, that a valid proof meets the target that the node named, and
//! that each miner draws from its own random stream. **Never** hashes more than a fixed number of
//! headers at once: its rate is simulated time between two finds.

mod flaws;
pub mod proof;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_primitives::U256;
use alys_integrations::http::{CallError, ClientConfig, HttpClient};
use alys_runtime::sim::{NodeId, Rng, World};
use alys_runtime::time;
use alys_types::{Address, Hash};
use serde_json::{Value, json};

use crate::cluster::{MINING_PORT, Net, node_ip, now_ms};
use crate::invariants::{self, Judge, Offer, Place, Verdict, Violation};
use crate::params::accounts::miner_address;
use crate::params::{MinerConduct, MinerPlan};
use flaws::{Flaw, Submission, Work};
use proof::{Draft, Shape};

/// Most hashes for one proof. The target of a chain whose miners find more often than its spacing
/// becomes harder until this does not suffice, and easier while the chain waits.
const MOST_HASHES: u32 = 1 << 12;
/// Pause after an answer without work, and after a search without a result.
const RETRY: Duration = Duration::from_millis(700);
/// Finds of a burst, and the part of the usual time that they are apart.
const BURST: u64 = 4;
const BURST_PART: u64 = 8;
/// Part of its usual time that a miner needs after its silence.
const RETURN_PART: u64 = 10;
/// Proofs that a miner holds back or repeats.
const MOST_HELD: usize = 6;
/// Rounds of a flood in the usual time between two finds.
const FLOOD_PART: u64 = 12;
/// Addresses that a flood asks work for in each round.
const FLOOD_ADDRESSES: u64 = 6;

/// Codes of errors, those of Bitcoin Core: work that is not known, a proof that cannot be decoded,
/// one that breaks a rule, and work that is not needed any more.
const UNKNOWN: i64 = -8;
const UNDECODABLE: i64 = -22;
const INVALID: i64 = -25;
const CARRIED: i64 = -27;

/// A miner.
pub struct Miner {
    /// Its number, from 0.
    pub index: u8,
    pub plan: MinerPlan,
    /// The nodes that it asks, from 0.
    pub nodes: Vec<u8>,
    /// The length of a slot in milliseconds.
    pub slot_ms: u64,
    /// Its own random stream.
    pub rng: Rng,
    /// The invariants, which receive every answer.
    pub judge: Judge,
    /// Set at the end of the faults.
    pub is_healed: Arc<AtomicBool>,
    /// Set when the miner should stop.
    pub is_over: Arc<AtomicBool>,
    /// Proofs for later.
    pub held: VecDeque<Held>,
}

/// A proof that a miner keeps.
#[derive(Debug, Clone)]
pub struct Held {
    node: u8,
    place: Option<Place>,
    submission: Submission,
}

/// A client of the mining port of a node.
pub fn mining_rpc(node: u8) -> HttpClient {
    HttpClient::new(ClientConfig {
        deadline: Duration::from_secs(3),
        connect_timeout: Duration::from_secs(1),
        ..ClientConfig::new(SocketAddr::new(node_ip(node), MINING_PORT))
    })
}

/// The address of a miner's machine.
pub fn machine(index: u8) -> std::net::IpAddr {
    Net::Miners.ip(index)
}

/// An encoded proof of a commitment whose hash is wanted; `None` if `most` hashes do not suffice.
pub fn find_proof(
    commitment: Hash,
    chain_id: u16,
    most: u32,
    rng: &mut Rng,
    is_wanted: impl Fn(U256) -> bool,
) -> Option<Vec<u8>> {
    let mut draft = Draft::new(commitment, chain_id, Shape::PLAIN, rng);
    draft.grind(most, is_wanted).then(|| draft.encode())
}

/// Work with the place in the chain that the invariants found for it.
struct Asked {
    node: u8,
    work: Work,
    place: Option<Place>,
}

impl Miner {
    /// Mines until the run is over or an invariant is violated.
    pub async fn run(mut self) {
        let clients: Vec<(u8, HttpClient)> = self
            .nodes
            .iter()
            .map(|node| (*node, mining_rpc(*node)))
            .collect();
        while !self.is_over.load(Ordering::SeqCst) {
            let turn = self.turn(&clients).await;
            if let Err(violation) = turn {
                return self.judge.accuse(now_ms(World::current()), violation);
            }
        }
    }

    /// The conduct of now: once the faults have ended, a steady one. `None` for a miner that stops.
    fn conduct(&self) -> Option<MinerConduct> {
        let conduct = self.plan.conduct;
        match (self.is_healed.load(Ordering::SeqCst), conduct.is_valid()) {
            (false, _) => Some(conduct),
            (true, true) => Some(MinerConduct::Steady),
            (true, false) => None,
        }
    }

    async fn turn(&mut self, clients: &[(u8, HttpClient)]) -> Result<(), Violation> {
        let is_healed = self.is_healed.load(Ordering::SeqCst);
        // The chain must make progress soon, and a gate needs proofs for it.
        let most = if is_healed {
            2 * self.slot_ms
        } else {
            u64::MAX
        };
        let every = self.plan.every.0.min(most);
        let Some(conduct) = self.conduct() else {
            time::sleep(RETRY).await;
            return Ok(());
        };
        match conduct {
            MinerConduct::Steady => {
                self.pause(every).await;
                self.mine(clients).await
            }
            MinerConduct::Bursts => {
                self.pause(every * BURST).await;
                for _ in 0..BURST {
                    self.mine(clients).await?;
                    self.pause(every / BURST_PART).await;
                }
                Ok(())
            }
            MinerConduct::Silent => {
                let (from, until) = self.plan.silence();
                let now = now_ms(World::current());
                if (from..until).contains(&now) {
                    time::sleep(RETRY).await;
                    return Ok(());
                }
                let part = if now < from { 1 } else { RETURN_PART };
                self.pause(every / part).await;
                self.mine(clients).await
            }
            MinerConduct::Stale => {
                self.pause(every).await;
                let held = self.find(clients).await?;
                // Others find in the meantime.
                self.pause(every * 3).await;
                match held {
                    Some(held) => self.submit(clients, &held).await.map(|_| ()),
                    None => Ok(()),
                }
            }
            MinerConduct::Withhold => {
                self.pause(every).await;
                let held = self.find(clients).await?;
                self.held.extend(held);
                if self.held.len() >= MOST_HELD {
                    let all: Vec<Held> = self.held.drain(..).collect();
                    let kept = self.rng.below(MOST_HELD as u64) as usize;
                    for held in all.iter().skip(kept) {
                        self.submit(clients, held).await?;
                    }
                }
                Ok(())
            }
            MinerConduct::Replay => {
                self.pause(every / 2).await;
                self.replay(clients).await?;
                self.pause(every / 2).await;
                self.mine(clients).await
            }
            MinerConduct::Flood => {
                self.pause(every / FLOOD_PART).await;
                for _ in 0..FLOOD_ADDRESSES {
                    let address = Address([self.rng.below(256) as u8; 20]);
                    self.ask(clients, address).await?;
                }
                self.spoil(clients, &Flaw::ALL).await
            }
            MinerConduct::WrongOrders => {
                self.pause(every).await;
                self.spoil(clients, &Flaw::ORDERS).await
            }
            MinerConduct::OtherChains => {
                self.pause(every).await;
                self.spoil(clients, &Flaw::OTHERS).await
            }
        }
    }

    /// Waits for a drawn time with this mean, in milliseconds.
    async fn pause(&mut self, mean: u64) {
        let ms = mean / 4 + self.rng.below(mean * 3 / 2 + 1);
        time::sleep(Duration::from_millis(ms.max(1))).await;
    }

    /// Finds a proof and submits it.
    async fn mine(&mut self, clients: &[(u8, HttpClient)]) -> Result<(), Violation> {
        let Some(held) = self.find(clients).await? else {
            time::sleep(RETRY).await;
            return Ok(());
        };
        let is_accepted = self.submit(clients, &held).await?;
        if is_accepted && self.plan.conduct == MinerConduct::Replay {
            self.held.push_back(held);
            while self.held.len() > MOST_HELD {
                self.held.pop_front();
            }
        }
        Ok(())
    }

    /// Asks a node for work and finds a proof of it.
    async fn find(&mut self, clients: &[(u8, HttpClient)]) -> Result<Option<Held>, Violation> {
        let Some(asked) = self.ask(clients, miner_address(self.index)).await? else {
            return Ok(None);
        };
        let shape = Shape::draw(&mut self.rng);
        let found = flaws::valid(&asked.work, shape, MOST_HASHES, &mut self.rng);
        Ok(found.map(|submission| Held {
            node: asked.node,
            place: asked.place,
            submission,
        }))
    }

    /// Asks a drawn node for work for an address.
    async fn ask(
        &mut self,
        clients: &[(u8, HttpClient)],
        address: Address,
    ) -> Result<Option<Asked>, Violation> {
        let turn = self.rng.below(clients.len() as u64) as usize;
        let Some((node, client)) = clients.get(turn) else {
            return Ok(None);
        };
        let text = format!("0x{}", hex::encode(address.0));
        // `getauxblock` is the name of the same method in other chains.
        let answer: Result<Value, CallError> = match self.rng.below(8) {
            0 if address == miner_address(self.index) => {
                client
                    .call("createauxblock", json!([hex::encode(address.0)]))
                    .await
            }
            _ => client.call("createauxblock", (text,)).await,
        };
        let Ok(answer) = answer else { return Ok(None) };
        let name = ["target", "_target"][self.rng.below(2) as usize];
        let read = read(&answer, name);
        let wrong = |what: String| Violation::WrongWork {
            node: *node + 1,
            what: format!("{what} in {answer}"),
        };
        let mut oracles = self.judge.look();
        if !oracles.is_judged(*node) {
            let work = read.ok().map(|(work, _)| work);
            return Ok(work.map(|work| Asked {
                node: *node,
                work,
                place: None,
            }));
        }
        let (work, bits) = read.map_err(wrong)?;
        let offer = Offer {
            miner: address,
            commitment: work.commitment,
            bits,
        };
        let now = World::current().wall_ms(NodeId::WORLD) / 1_000;
        let slot_secs = self.slot_ms.div_ceil(1_000);
        let place = oracles.offered(*node, &offer, now, slot_secs)?;
        Ok(Some(Asked {
            node: *node,
            work,
            place,
        }))
    }

    /// Submits a proof to the node that handed out its work. Returns true if the node took it.
    async fn submit(
        &mut self,
        clients: &[(u8, HttpClient)],
        held: &Held,
    ) -> Result<bool, Violation> {
        self.count(self.plan.conduct.feature());
        self.hand_in(clients, held.node, held.place, None, &held.submission)
            .await
    }

    /// Submits a kept proof again, to any node. Another node than the one that handed out its work
    /// may refuse it: with a clock behind that of the first one it demands more work.
    async fn replay(&mut self, clients: &[(u8, HttpClient)]) -> Result<(), Violation> {
        if self.held.is_empty() {
            return Ok(());
        }
        let which = self.rng.below(self.held.len() as u64) as usize;
        let turn = self.rng.below(clients.len() as u64) as usize;
        let (Some(held), Some((node, _))) = (self.held.get(which).cloned(), clients.get(turn))
        else {
            return Ok(());
        };
        self.count("mine.replayed");
        let Some(verdict) = deliver(clients, *node, &held.submission).await else {
            return Ok(());
        };
        if *node != held.node && matches!(verdict, Verdict::Refused(_)) {
            return Ok(());
        }
        self.judge(*node, held.place, None, &verdict)
    }

    /// Submits a proof with a flaw of this list.
    async fn spoil(
        &mut self,
        clients: &[(u8, HttpClient)],
        flaws: &[Flaw],
    ) -> Result<(), Violation> {
        let Some(asked) = self.ask(clients, miner_address(self.index)).await? else {
            time::sleep(RETRY).await;
            return Ok(());
        };
        let flaw = flaws[self.rng.below(flaws.len() as u64) as usize];
        let found = flaws::flawed(&asked.work, flaw, MOST_HASHES, &mut self.rng);
        let Some(submission) = found else {
            return Ok(());
        };
        self.count(self.plan.conduct.feature());
        let (node, place) = (asked.node, asked.place);
        let word = Some(flaw.word());
        self.hand_in(clients, node, place, word, &submission)
            .await?;
        Ok(())
    }

    /// Submits to a node, and has the invariants judge the answer. Returns true if it was accepted.
    async fn hand_in(
        &self,
        clients: &[(u8, HttpClient)],
        node: u8,
        place: Option<Place>,
        flaw: Option<&str>,
        submission: &Submission,
    ) -> Result<bool, Violation> {
        let Some(verdict) = deliver(clients, node, submission).await else {
            return Ok(false);
        };
        self.judge(node, place, flaw, &verdict)?;
        Ok(verdict == Verdict::Accepted)
    }

    /// Has the invariants judge the answer of a node.
    fn judge(
        &self,
        node: u8,
        place: Option<Place>,
        flaw: Option<&str>,
        verdict: &Verdict,
    ) -> Result<(), Violation> {
        let mut oracles = self.judge.look();
        if oracles.is_judged(node) {
            let at_ms = now_ms(World::current());
            oracles.work.submitted(at_ms, node, place, flaw, verdict)?;
        }
        Ok(())
    }

    fn count(&self, feature: &'static str) {
        self.judge.look().ledger.coverage.count(feature);
    }
}

/// The answer of a node to a submission; `None` if the miner does not know the node.
async fn deliver(
    clients: &[(u8, HttpClient)],
    node: u8,
    submission: &Submission,
) -> Option<Verdict> {
    let (_, client) = clients.iter().find(|(other, _)| *other == node)?;
    let Submission { hash, auxpow } = submission;
    let answer: Result<Value, CallError> = client.call("submitauxblock", (hash, auxpow)).await;
    Some(verdict(answer))
}

/// Reads an answer with work, with the target of this name, and its bits.
fn read(answer: &Value, name: &str) -> Result<(Work, u32), String> {
    let text = |field: &str| {
        let value = answer.get(field).and_then(Value::as_str);
        value.ok_or_else(|| format!("no text {field}"))
    };
    let bytes = |field: &str| -> Result<[u8; 32], String> {
        let bytes = hex::decode(text(field)?).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| format!("{field} has not 64 hex digits"))
    };
    let mut commitment = bytes("hash")?;
    commitment.reverse();
    let target = U256::from_le_bytes(bytes(name)?);
    let bits = u32::from_str_radix(text("bits")?, 16).map_err(|_| "bits are no hex")?;
    if invariants::target(bits) != target {
        return Err(format!("{name} is not that of the bits"));
    }
    let chain_id = answer.get("chainid").and_then(Value::as_u64);
    let chain_id = chain_id.and_then(|id| u16::try_from(id).ok());
    let work = Work {
        commitment: Hash(commitment),
        chain_id: chain_id.ok_or("no chain id")?,
        target,
    };
    Ok((work, bits))
}

/// The verdict in an answer to a submission.
fn verdict(answer: Result<Value, CallError>) -> Verdict {
    match answer {
        Ok(Value::Bool(true)) => Verdict::Accepted,
        Ok(other) => Verdict::Refused(other.to_string()),
        Err(CallError::Rpc { error, .. }) => match error.code {
            UNDECODABLE | INVALID => Verdict::Refused(error.message),
            UNKNOWN | CARRIED => Verdict::Stale(error.message),
            _ => Verdict::None,
        },
        Err(_) => Verdict::None,
    }
}

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod tests;
