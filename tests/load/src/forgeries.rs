//! Peers with forged statuses, each for a moment.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_net::{Command, Event, GossipVerdict, PeerId, Protocol, Refusal, Service};
use alys_runtime::{block_on_main, spawn, time};
use alys_types::bls::{SecretKey, Signature};
use alys_types::spec::HEADER_VERSION;
use alys_types::wire::{AuthorityProof, CertifiedHeader, HeldVotes, Message, Status, StatusAnswer};
use alys_types::{Bitmap, Certificate, Hash, Header, Vote, VoteKind, VoteTarget};

use crate::chain::{Chain, new_identity, say};
use crate::loads::{Counts, Targets};

/// Peers that exist at once. A validator has 50 places for strangers, so each peer gets one.
const AT_ONCE: u32 = 48;
/// Most new peers in a second. Each connects to all four validators: 100 connections.
const PER_SECOND: u32 = 25;
/// Longest wait for the first validator that asks for the status. A validator whose places or whose
/// budget for statuses of strangers are taken does not ask, and an attacker's next identity costs
/// less than the wait.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest stay of a peer that a validator has asked.
const STAY_TIMEOUT: Duration = Duration::from_secs(3);
/// From the last answer to the end of the connections, so that the answer leaves before it.
const LINGER: Duration = Duration::from_millis(100);
/// Slots by which the held votes are later than those that a validator has signed. There is no
/// window for them: any later vote would prove a loss.
const HELD_AHEAD: u64 = 100;
/// A part of the hashes that name nothing.
const MARK: u8 = 0xdc;

/// Peers that connect, exchange forged statuses, and are followed by others at once.
pub fn reconnecting(targets: &Targets, counts: &Arc<Counts>) {
    let chain = match Chain::load(targets) {
        Ok(chain) => chain,
        // Without connections the load counts as not made.
        Err(error) => return eprintln!("error: {error:#}"),
    };
    let forger = Arc::new(Forger::new(chain));
    let counts = Arc::clone(counts);
    block_on_main(async move {
        let tasks = (0..AT_ONCE).map(|index| {
            let (forger, counts) = (Arc::clone(&forger), Arc::clone(&counts));
            let first = Duration::from_secs(1) * index / PER_SECOND;
            spawn("peers", async move {
                come_and_go(&forger, &counts, first).await;
            })
        });
        // All tasks start before the first one is awaited.
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            if let Err(error) = task.await {
                eprintln!("error: {error}");
            }
        }
    });
}

/// One peer after the other, the first one after a pause. A late peer is followed at once, so that
/// the rate holds as long as stays are shorter than the period on average.
async fn come_and_go(forger: &Forger, counts: &Counts, first: Duration) {
    let period = Duration::from_secs(1) * AT_ONCE / PER_SECOND;
    let mut due = time::now() + first;
    loop {
        time::sleep_until(due).await;
        due += period;
        stay(forger, counts).await;
    }
}

/// Connects to all validators as a new identity, answers each one's request for the status, and
/// disconnects.
async fn stay(forger: &Forger, counts: &Counts) {
    let config = forger.chain.config(new_identity());
    let Ok((service, handle, mut events)) = Service::bind(config).await else {
        return counts.refused();
    };
    let status = forger.status().encode();
    say(&handle, Command::SetStatus { status });
    let running = spawn("service", service.run());
    let begun = time::now();
    let mut deadline = begun + FIRST_TIMEOUT;
    let validators = forger.chain.validators();
    for _ in 0..validators {
        counts.made();
    }
    let mut answered: BTreeSet<PeerId> = BTreeSet::new();
    loop {
        let left = deadline.saturating_duration_since(time::now());
        let Ok(Some(event)) = time::timeout(left, events.next()).await else {
            break;
        };
        match event {
            Event::Request {
                id,
                peer,
                protocol: Protocol::Status,
                payload,
            } => {
                let response = forger.answer(&payload);
                say(&handle, Command::Respond { id, response });
                answered.insert(peer);
                deadline = if answered.len() < validators {
                    begun + STAY_TIMEOUT
                } else {
                    time::now() + LINGER
                };
            }
            // A validator that cannot judge a certificate looks for blocks up to it.
            Event::Request { id, .. } => {
                let response = Err(Refusal::Unavailable);
                say(&handle, Command::Respond { id, response });
            }
            Event::Gossip { id, .. } => {
                let verdict = GossipVerdict::Ignore;
                say(&handle, Command::Judge { id, verdict });
            }
            Event::Response { .. }
            | Event::Status { .. }
            | Event::PeerConnected { .. }
            | Event::PeerSubscribed { .. }
            | Event::PeerDisconnected { .. }
            | Event::WrongChain { .. }
            | Event::Banned { .. } => {}
        }
    }
    for _ in answered.len()..validators {
        counts.refused();
    }
    say(&handle, Command::Shutdown);
    if let Err(error) = running.await {
        eprintln!("error: {error}");
    }
}

/// Forges statuses about the real chain and its authorities.
struct Forger {
    chain: Chain,
    /// A signature by no authority: well-formed, so that only the pairing shows that it is wrong.
    signature: Signature,
    /// The highest certified block that a validator has reported. The set of its successors is
    /// known to the validators, so the sender of a wrong certificate is to blame.
    highest: Mutex<Option<CertifiedHeader>>,
    /// Number of forged headers.
    forged: AtomicU64,
}

impl Forger {
    fn new(chain: Chain) -> Forger {
        Forger {
            chain,
            signature: SecretKey::derive(&[MARK; 32]).sign(b"another message"),
            highest: Mutex::default(),
            forged: AtomicU64::new(0),
        }
    }

    fn highest(&self) -> MutexGuard<'_, Option<CertifiedHeader>> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the highest block of a validator's status, and answers with a forged one.
    fn answer(&self, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let theirs = Status::decode(payload).map_err(|_| Refusal::Invalid)?;
        let held = self.held_votes(&theirs);
        if let Some(certified) = theirs.highest {
            let mut highest = self.highest();
            let known = highest.as_ref().map(|known| known.header.slot);
            if known.is_none_or(|known| known < certified.header.slot) {
                *highest = Some(certified);
            }
        }
        let status = self.status();
        Ok(StatusAnswer { status, held }.encode())
    }

    /// A status with the forged certificates of a successor of the highest block, and the forged
    /// proof of each authority's key in turn.
    fn status(&self) -> Status {
        let number = self.forged.fetch_add(1, Ordering::Relaxed);
        let authorities = self.chain.genesis.set().authorities();
        let header = self.next_header(number);
        let proof = AuthorityProof {
            key: authorities[number as usize % authorities.len()].public_key,
            signature: self.signature,
        };
        Status {
            head_height: header.height,
            head: header.execution_hash,
            highest: Some(self.certify(VoteKind::Approval, header.clone())),
            finalized: Some(self.certify(VoteKind::Confirmation, header)),
            authority: Some(proof),
            ..self.chain.status()
        }
    }

    /// A header on the highest block; different numbers make different headers.
    fn next_header(&self, number: u64) -> Header {
        let genesis = &self.chain.genesis;
        let highest = self.highest().clone();
        let (parent, parent_certificate) = match highest {
            Some(highest) => (highest.header, Some(highest.certificate)),
            None => (genesis.header().clone(), None),
        };
        let mut body_hash = [MARK; 32];
        body_hash[..8].copy_from_slice(&number.to_le_bytes());
        let slot = parent.slot.next();
        Header {
            version: HEADER_VERSION,
            evm_chain_id: genesis.spec().evm_chain_id,
            genesis_hash: genesis.hash(),
            height: parent.height.next(),
            slot,
            proposer: genesis.set().leader(slot),
            parent_hash: parent.hash(),
            parent_certificate,
            execution_hash: Hash([MARK; 32]),
            body_hash: Hash(body_hash),
            set_hash: genesis.set().hash(),
            ledger_hash: parent.ledger_hash,
        }
    }

    /// A certificate that names all authorities as its signers.
    fn certify(&self, kind: VoteKind, header: Header) -> CertifiedHeader {
        let authorities = self.chain.genesis.set().len();
        let mut signers = Bitmap::empty(authorities);
        (0..authorities as u8).for_each(|index| signers.set(index));
        let target = VoteTarget {
            kind,
            height: header.height,
            slot: header.slot,
            hash: header.hash(),
        };
        let certificate = Certificate {
            target,
            signers,
            signature: self.signature,
        };
        CertifiedHeader {
            header,
            certificate,
        }
    }

    /// Votes of the validator that sent this status, later than any that it signed. If their
    /// signatures were valid, it would have to fall silent (rule 3.8).
    fn held_votes(&self, theirs: &Status) -> HeldVotes {
        let set = self.chain.genesis.set();
        let signer = theirs.authority.and_then(|proof| set.index_of(&proof.key));
        let vote = |kind| {
            let target = VoteTarget {
                kind,
                height: theirs.head_height.next(),
                slot: theirs.slot.saturating_add(HELD_AHEAD),
                hash: Hash([MARK; 32]),
            };
            Some(Vote {
                target,
                signer: signer?,
                signature: self.signature,
            })
        };
        HeldVotes {
            approval: vote(VoteKind::Approval),
            confirmation: vote(VoteKind::Confirmation),
        }
    }
}

#[cfg(test)]
mod tests {
    use alys_types::bls::{self, Error};
    use alys_types::wire::AuthorityProofError;

    use super::*;
    use crate::chain::tests::{authority_key, chain};

    /// Anything else would be refused before the check of a signature, and be no load.
    #[test]
    fn forged_statuses_are_wrong_by_their_signatures_only() {
        let forger = Forger::new(chain());
        let genesis = &forger.chain.genesis;
        let id = genesis.chain_id();
        let peer = new_identity().peer_id().to_bytes();
        let proof = AuthorityProof::sign(&authority_key(2), &id, &peer);
        let highest = forger.certify(VoteKind::Approval, forger.next_header(7));
        let validators = Status {
            authority: Some(proof),
            highest: Some(highest.clone()),
            ..forger.chain.status()
        };
        let answer = forger.answer(&validators.encode()).expect("a status");
        let StatusAnswer { status, held } = StatusAnswer::decode(&answer).expect("an answer");

        let proof = status.authority.expect("a proof");
        assert_eq!(
            proof.verify(genesis.set(), &id, &peer),
            Err(AuthorityProofError::Signature(Error::Mismatch))
        );
        for (certified, kind) in [
            (status.highest, VoteKind::Approval),
            (status.finalized, VoteKind::Confirmation),
        ] {
            let certified = certified.expect("a certificate");
            let (header, certificate) = (certified.header, certified.certificate);
            let target = VoteTarget {
                kind,
                height: header.height,
                slot: header.slot,
                hash: header.hash(),
            };
            assert_eq!(certificate.target, target);
            assert_eq!(header.parent_hash, highest.header.hash());
            assert_eq!(certificate.signers.count(), 4);
            let verified = certificate.verify_signature(genesis.set(), &id);
            assert_eq!(verified, Err(Error::Mismatch));
        }
        for vote in [held.approval, held.confirmation] {
            let vote = vote.expect("a vote");
            assert_eq!(vote.signer, 2);
            assert!(vote.target.slot > validators.slot);
            let key = genesis.set().key(2).expect("one of four");
            let message = vote.target.message(&id);
            let verified = bls::verify(&[key], &message.0, &vote.signature);
            assert_eq!(verified, Err(Error::Mismatch));
        }
        assert_ne!(forger.status().highest, forger.status().highest);
    }
}
