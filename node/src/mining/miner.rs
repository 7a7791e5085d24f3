//! A CPU miner for development, over the JSON-RPC of miners like any other one.
//!
//! Owns its connection and its parent blocks, which are of no other chain. Guarantees that its rate
//! stays below the limit, and that a node which is gone or has no work is asked again, with a
//! pause. Never ends by itself.

use std::convert::Infallible;

use alys_integrations::http::{CallError, ClientConfig, Endpoint, HttpClient, Login};
use alys_pow::{AuxPow, Bits, Target, Template, reversed};
use alys_runtime::time::{self, Duration, Instant};
use alys_runtime::{blocking, clock, par_map};
use alys_types::Hash;
use serde::Deserialize;

/// Interval at which work is asked for: it changes with every final block.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after an error, or while there is no work.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Time of the hashes between two looks at the clock, within which a stop is noticed.
const ROUND: Duration = Duration::from_millis(100);
/// Hashes of a thread in the first round, before the rate of the machine is known.
const FIRST_ROUND: u32 = 1_000;
/// Interval of [`MinerEvent::Rate`].
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which an accepted proof is given before another one of its number is looked for.
const CARRY_TIMEOUT: Duration = Duration::from_secs(60);
/// Threads at most.
pub const MAX_THREADS: usize = 64;

/// Settings of a miner.
#[derive(Debug, Clone)]
pub struct MinerConfig {
    pub endpoint: Endpoint,
    pub login: Option<Login>,
    /// EVM address that the work pays; `None` for the node's default.
    pub address: Option<String>,
    /// 1 to [`MAX_THREADS`].
    pub threads: usize,
    /// Most hashes per second of all threads together.
    pub rate: Option<u64>,
}

/// News of a miner.
#[derive(Debug, Clone, PartialEq)]
pub enum MinerEvent {
    /// Work for another proof than before.
    Work {
        sequence: Option<u64>,
        height: u64,
        bits: String,
    },
    /// A proof was accepted. `height` is that of the newest block that it makes final.
    Accepted { height: u64 },
    /// A proof was refused, or its answer is lost.
    Refused(String),
    /// There is no work, or the node does not answer. Reported once until it changes.
    Waiting(String),
    /// Hashes per second since the last such event, and all proofs so far.
    Rate { hashes_per_second: f64, proofs: u64 },
}

/// The fields of `createauxblock` that a miner needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Job {
    hash: Hash,
    bits: String,
    height: u64,
    sequence: Option<u64>,
}

/// A reason for which a node's work cannot be done.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the work of the node: {0}")]
    Bits(#[from] alys_pow::BitsError),
}

struct Miner {
    config: MinerConfig,
    client: HttpClient,
    /// Tells the coinbases of this process apart from each other and from those of others.
    extra: u64,
    job: Option<(Job, Target)>,
    templates: Vec<Template>,
    hashes: u64,
    proofs: u64,
    /// Hashes of a thread in the next round.
    round: u32,
}

/// Mines until the future is dropped.
pub async fn mine(config: MinerConfig, mut report: impl FnMut(MinerEvent)) -> Infallible {
    let client = HttpClient::new(ClientConfig {
        login: config.login.clone(),
        max_response_bytes: 1 << 20,
        max_connections: 1,
        ..ClientConfig::new(config.endpoint.clone())
    });
    let mut seed = [0; 8];
    alys_runtime::rand::fill(&mut seed);
    let mut miner = Miner {
        config,
        client,
        extra: u64::from_le_bytes(seed),
        job: None,
        templates: Vec::new(),
        hashes: 0,
        proofs: 0,
        round: FIRST_ROUND,
    };
    let mut waiting = None;
    let mut sequence = None;
    let mut polled = None;
    let mut rated = (time::now(), 0);
    let mut accepted: Option<(u64, Instant)> = None;
    loop {
        let is_due = |at: Instant| time::now().saturating_duration_since(at) >= POLL_INTERVAL;
        if miner.job.is_none() || polled.is_none_or(is_due) {
            polled = Some(time::now());
            if let Err(error) = miner.fetch().await {
                miner.job = None;
                let text = error.to_string();
                if waiting.as_ref() != Some(&text) {
                    waiting = Some(text.clone());
                    report(MinerEvent::Waiting(text));
                }
                time::sleep(RETRY_DELAY).await;
                continue;
            }
            waiting = None;
        }
        let Some((job, target)) = miner.job.clone() else {
            continue;
        };
        if sequence != Some(job.sequence) {
            sequence = Some(job.sequence);
            report(MinerEvent::Work {
                sequence: job.sequence,
                height: job.height,
                bits: job.bits.clone(),
            });
        }
        // Of the proofs of one number one is carried.
        let is_done = accepted.is_some_and(|(number, at)| {
            let since = time::now().saturating_duration_since(at);
            Some(number) == job.sequence && since < CARRY_TIMEOUT
        });
        if is_done {
            time::sleep(POLL_INTERVAL).await;
        } else if let Some(proof) = miner.grind(target).await {
            let event = miner.submit(&job, &proof).await;
            let is_accepted = matches!(event, MinerEvent::Accepted { .. });
            report(event);
            miner.job = None;
            if is_accepted {
                accepted = job.sequence.map(|number| (number, time::now()));
            } else {
                time::sleep(RETRY_DELAY).await;
            }
        }
        let elapsed = time::now().saturating_duration_since(rated.0);
        if elapsed >= RATE_INTERVAL {
            let hashes = miner.hashes.saturating_sub(rated.1);
            report(MinerEvent::Rate {
                hashes_per_second: hashes as f64 / elapsed.as_secs_f64(),
                proofs: miner.proofs,
            });
            rated = (time::now(), miner.hashes);
        }
    }
}

impl Miner {
    /// Asks for work, and begins it if it differs.
    async fn fetch(&mut self) -> Result<(), JobError> {
        let params: Vec<&str> = self.config.address.as_deref().into_iter().collect();
        let job: Job = self.client.call("createauxblock", params).await?;
        let target = job.bits.parse::<Bits>()?.target();
        let is_new = self
            .job
            .as_ref()
            .is_none_or(|(old, _)| old.hash != job.hash);
        if is_new {
            // Seconds wrap in 2106, when Bitcoin's headers do.
            let time = (clock::wall_ms() / 1_000) as u32;
            let commitment = reversed(job.hash);
            let first = self.extra;
            self.extra = self.extra.wrapping_add(self.config.threads as u64);
            let threads = 0..self.config.threads as u64;
            let template = |n: u64| Template::new(commitment, time, first.wrapping_add(n));
            self.templates = threads.map(template).collect();
        }
        self.job = Some((job, target));
        Ok(())
    }

    /// One round of hashes on all threads, within the rate.
    async fn grind(&mut self, target: Target) -> Option<AuxPow> {
        let threads = self.config.threads.max(1) as u64;
        let tries = match self.config.rate {
            // A round of the rate, at least one hash of one thread.
            Some(rate) => {
                let of_round = rate.saturating_mul(ROUND.as_millis() as u64) / 1_000 / threads;
                self.round
                    .min(u32::try_from(of_round.max(1)).unwrap_or(u32::MAX))
            }
            None => self.round,
        };
        let begun = time::now();
        let is_capped_below_threads = self.config.rate.is_some_and(|rate| rate < 10 * threads);
        let templates = if is_capped_below_threads {
            self.templates.get_mut(..1)
        } else {
            Some(&mut *self.templates)
        };
        let templates: Vec<&mut Template> = templates.into_iter().flatten().collect();
        let results = blocking(|| par_map(templates, |template| template.grind(target, tries)));
        let tried: u64 = results.iter().map(|(_, tried)| u64::from(*tried)).sum();
        self.hashes = self.hashes.saturating_add(tried);
        let took = time::now().saturating_duration_since(begun);
        self.adapt(took);
        let due = match self.config.rate {
            Some(rate) => Duration::from_secs_f64(tried as f64 / rate.max(1) as f64),
            None => Duration::ZERO,
        };
        if tried == 0 {
            // All nonces were tried: the next work has another time.
            self.job = None;
        }
        let found = results.into_iter().find_map(|(proof, _)| proof);
        // At least a yield, so that a stop is noticed.
        time::sleep(due.saturating_sub(took)).await;
        found
    }

    /// Moves the size of a round towards [`ROUND`].
    fn adapt(&mut self, took: Duration) {
        if took < ROUND / 2 {
            self.round = self.round.saturating_mul(2);
        } else if took > ROUND * 2 {
            self.round = (self.round / 2).max(1);
        }
    }

    async fn submit(&mut self, job: &Job, proof: &AuxPow) -> MinerEvent {
        let hash = hex::encode(job.hash.0);
        let auxpow = hex::encode(proof.encode());
        let answer = self.client.call("submitauxblock", (hash, auxpow)).await;
        match answer {
            Ok(true) => {
                self.proofs = self.proofs.saturating_add(1);
                MinerEvent::Accepted { height: job.height }
            }
            Ok(false) => MinerEvent::Refused("the node does not say why".to_owned()),
            Err(error) => MinerEvent::Refused(error.to_string()),
        }
    }
}
