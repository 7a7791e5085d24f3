//! Miners that all ask one node for work, and submit a proof of every work that they get.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alys_pow::{Bits, Target, Template, reversed};
use alys_types::Hash;
use serde_json::{Value, json};

use crate::answers::{Answers, add};
use crate::loads::{Counts, Targets};
use crate::requests::{connect, side_by_side};

/// Addresses of the callers.
const ADDRESSES: usize = 20;
/// One work in so many gets a real proof. The others get the proof of another work, so that the
/// chain does not carry more proofs than leaders make blocks for.
const REAL_ONE_IN: usize = 10;
/// Hashes of a proof: more than the difficulty rises within hours of development.
const TRIES: u32 = 1 << 24;
/// Bytes of the head of an answer, and of its body.
const MAX_HEAD: u64 = 16 << 10;
const MAX_BODY: usize = 1 << 20;
/// After a call without an answer, and before a proof is submitted again.
const RETRY_DELAY: Duration = Duration::from_millis(50);

// Codes of the miners' JSON-RPC (docs/mining.md).
const UNKNOWN: i64 = -8;
const NO_WORK: i64 = -10;
const VERIFY: i64 = -25;
const STALE: i64 = -27;
const BUSY: i64 = -32009;

/// Callers of `createauxblock`, each with one call at a time and the next one after its answer.
pub fn callers(targets: &Targets, counts: &Counts, callers: usize) {
    let seen = Seen::default();
    side_by_side(callers, |index| {
        let mut caller = Caller {
            port: targets.mining,
            connection: None,
            counts,
        };
        let address = format!("0x{:040x}", 0xa11ce + index % ADDRESSES);
        loop {
            let asked = Instant::now();
            let Ok(answer) = caller.call("createauxblock", json!([address])) else {
                thread::sleep(RETRY_DELAY);
                continue;
            };
            if code(&answer) == Some(BUSY) {
                counts.refused();
                thread::sleep(RETRY_DELAY);
                continue;
            }
            counts.made();
            counts.answers.after(asked.elapsed());
            if code(&answer) == Some(NO_WORK) {
                add(&counts.answers.no_work);
                thread::sleep(RETRY_DELAY);
                continue;
            }
            match Job::read(&answer["result"]) {
                Some(job) => {
                    if let Some(number) = seen.number(&job) {
                        caller.submit(&job, number);
                    }
                }
                None => {
                    eprintln!("error: no work: {answer}");
                    add(&counts.answers.wrong);
                }
            }
        }
    });
}

/// Work of `createauxblock`.
struct Job {
    /// As the node wrote it.
    hash: String,
    commitment: Hash,
    target: Target,
}

impl Job {
    fn read(result: &Value) -> Option<Job> {
        let hash = result["hash"].as_str()?;
        let bits: Bits = result["bits"].as_str()?.parse().ok()?;
        Some(Job {
            hash: hash.to_owned(),
            commitment: reversed(hash.parse().ok()?),
            target: bits.target(),
        })
    }

    /// A proof of this work, or of another one, in hex.
    fn proof(&self, is_real: bool) -> String {
        let commitment = if is_real {
            self.commitment
        } else {
            Hash([0x0f; 32])
        };
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = time.unwrap_or_default().as_secs() as u32;
        let (proof, _) = Template::new(commitment, time, 0).grind(self.target, TRIES);
        proof.map_or_else(String::new, |proof| hex::encode(proof.encode()))
    }
}

/// Work that a caller has submitted, or is submitting.
#[derive(Default)]
struct Seen(Mutex<BTreeSet<String>>);

impl Seen {
    /// The number of work that no caller had before.
    fn number(&self, job: &Job) -> Option<usize> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = seen.len();
        seen.insert(job.hash.clone()).then_some(number)
    }
}

/// A miner with its connection.
struct Caller<'a> {
    port: u16,
    connection: Option<BufReader<TcpStream>>,
    counts: &'a Counts,
}

impl Caller<'_> {
    /// Submits a proof of work until it is answered, and counts the answer.
    fn submit(&mut self, job: &Job, number: usize) {
        let is_real = number.is_multiple_of(REAL_ONE_IN);
        let proof = job.proof(is_real);
        let answer = loop {
            match self.call("submitauxblock", json!([job.hash, proof])) {
                Ok(answer) if code(&answer) != Some(BUSY) => break answer,
                Ok(_) | Err(_) => thread::sleep(RETRY_DELAY),
            }
        };
        judge(&answer, is_real, &self.counts.answers);
    }

    /// Calls a method. The connection stays open for the next call.
    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let answer = self.exchange(&request(method, &params));
        if answer.is_err() {
            self.connection = None;
            self.counts.refused();
        }
        answer
    }

    fn exchange(&mut self, request: &[u8]) -> Result<Value> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(BufReader::new(connect(self.port)?)),
        };
        connection.get_mut().write_all(request)?;
        read(connection)
    }
}

/// Counts the answer to a proof.
fn judge(answer: &Value, is_real: bool, answers: &Answers) {
    let count = match code(answer) {
        None if is_real && answer["result"] == true => &answers.accepted,
        Some(STALE) => &answers.stale,
        Some(VERIFY) if !is_real => &answers.refused,
        Some(UNKNOWN) => &answers.unknown,
        _ => &answers.wrong,
    };
    add(count);
    if std::ptr::eq(count, &answers.unknown) || std::ptr::eq(count, &answers.wrong) {
        eprintln!("error: answer to a proof (real: {is_real}): {answer}");
    }
}

/// The code of an error.
fn code(answer: &Value) -> Option<i64> {
    answer["error"]["code"].as_i64()
}

fn request(method: &str, params: &Value) -> Vec<u8> {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let body = call.to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Reads one answer with status 200 and a length.
fn read(from: &mut impl BufRead) -> Result<Value> {
    let mut head = from.by_ref().take(MAX_HEAD);
    let mut length = None;
    let mut line = String::new();
    head.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(Error::new(ErrorKind::InvalidData, line));
    }
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
    }
    let length = length.filter(|length| *length <= MAX_BODY);
    let mut body = vec![0; length.ok_or(ErrorKind::InvalidData)?];
    from.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use alys_pow::{AuxPow, Demand, VerifiedAuxPow};

    use super::*;

    fn job() -> Job {
        let result = json!({ "hash": "11".repeat(31) + "22", "bits": "207fffff" });
        Job::read(&result).expect("work")
    }

    #[test]
    fn a_real_proof_is_one_of_the_work_and_the_other_is_not() {
        let job = job();
        assert_eq!(job.commitment.0[0], 0x22);
        let verify = |is_real| {
            let bytes = hex::decode(job.proof(is_real)).expect("hex");
            let demand = Demand {
                chain_id: 21_212,
                commitment: job.commitment,
                target: job.target,
            };
            VerifiedAuxPow::new(AuxPow::decode(&bytes).expect("a proof"), demand).is_ok()
        };
        assert_eq!([true, false].map(verify), [true, false]);
    }

    #[test]
    fn each_work_has_one_number() {
        let (seen, mut job) = (Seen::default(), job());
        assert_eq!([seen.number(&job), seen.number(&job)], [Some(0), None]);
        job.hash.push('0');
        assert_eq!(seen.number(&job), Some(1));
    }

    #[test]
    fn answers_to_proofs_are_told_apart() {
        let answers = Answers::default();
        let error = |code: i64| json!({ "error": { "code": code } });
        for (answer, is_real) in [
            (json!({ "result": true }), true),
            (error(STALE), true),
            (error(STALE), false),
            (error(VERIFY), false),
            (error(UNKNOWN), true),
            (error(VERIFY), true),
            (json!({ "result": true }), false),
            (error(-1), true),
        ] {
            judge(&answer, is_real, &answers);
        }
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let counts = [
            &answers.accepted,
            &answers.stale,
            &answers.refused,
            &answers.unknown,
            &answers.wrong,
        ];
        assert_eq!(counts.map(count), [1, 2, 1, 1, 3]);
    }

    #[test]
    fn answers_are_read_one_after_the_other() {
        let one = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"result\":1}";
        let both = one.repeat(2);
        let mut both = both.as_bytes();
        for _ in 0..2 {
            let answer = read(&mut both).expect("an answer");
            assert_eq!(answer["result"], 1);
        }
        assert!(read(&mut both).is_err(), "closed");
        for wrong in ["HTTP/1.1 503 x\r\nContent-Length: 2\r\n\r\n{}", &one[..50]] {
            assert!(read(&mut wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
