//! A peer with the key of an authority, and its votes for blocks that do not exist.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alys_net::rate::TokenBucket;
use alys_net::{Command, Event, GossipVerdict, PeerId, Protocol, Refusal, Service, Topic};
use alys_node::keys::{self, Password};
use alys_runtime::disk::Dir;
use alys_runtime::{block_on_main, select, spawn, time};
use alys_tests::federation::PASSWORD;
use alys_types::bls::SecretKey;
use alys_types::wire::{AuthorityProof, HeldVotes, Message, Proposal, Status, StatusAnswer};
use alys_types::{Hash, Height, Vote, VoteKind, VoteTarget};
use anyhow::{Context, Result};

use crate::chain::{Chain, new_identity, say};
use crate::loads::{Counts, Targets};

/// Interval between two rounds of votes.
const ROUND: Duration = Duration::from_millis(20);
/// Most votes of a round: the burst of the budget leaves within two seconds and finds room in the
/// queues of the network.
const PER_ROUND: u32 = 20;
/// Interval between two requests for the statuses of the validators, which answer one in a second.
const ASK_INTERVAL: Duration = Duration::from_secs(2);
/// Slots ahead of the clock whose votes count (rule 3.15).
const EARLY_SLOTS: u64 = 2;
/// Different heights of the votes, above that of the latest proposal.
const HEIGHTS: u64 = 4;
/// A part of the hashes that name nothing.
const MARK: u8 = 0xda;

/// A peer proves the key of an authority, whose validator runs too, and publishes valid votes at
/// the rate of its budget. Votes count as made while all validators hold some of them.
pub fn of_one_authority(targets: &Targets, counts: &Arc<Counts>) {
    let counts = Arc::clone(counts);
    let ended = Voter::load(targets)
        .and_then(|voter| block_on_main(async move { publish(&voter, &counts).await }));
    // Without votes the load counts as not made.
    if let Err(error) = ended {
        eprintln!("error: {error:#}");
    }
}

/// Publishes votes until the network service ends.
async fn publish(voter: &Voter, counts: &Counts) -> Result<()> {
    let identity = new_identity();
    let proof = voter.prove(identity.peer_id());
    let status = || Status {
        authority: Some(proof),
        ..voter.chain.status()
    };
    let (service, handle, mut events) = Service::bind(voter.chain.config(identity)).await?;
    let set_status = Command::SetStatus {
        status: status().encode(),
    };
    handle.send(set_status).await?;
    spawn("service", service.run());

    let validators = voter.chain.validators();
    let mut subscribed: BTreeSet<PeerId> = BTreeSet::new();
    // Validators that hold a vote of this peer.
    let mut holders: BTreeSet<PeerId> = BTreeSet::new();
    // Height of the latest proposal.
    let mut latest: Option<Height> = None;
    let mut number: u64 = 0;
    // The validators' budget for this peer.
    let (burst, per_second) = Topic::Approvals.rate().messages;
    let mut budget = TokenBucket::new(burst, per_second, 0);
    let begun = time::now();
    let mut rounds = time::interval(ROUND);
    let mut asks = time::interval(ASK_INTERVAL);
    loop {
        let event = select! {
            event = events.next() => event.context("the network service has ended")?,
            () = rounds.tick() => {
                let Some(height) = latest.filter(|_| subscribed.len() == validators) else {
                    continue;
                };
                let elapsed = time::now().saturating_duration_since(begun);
                let elapsed_ms = u64::try_from(elapsed.as_millis())?;
                for _ in 0..PER_ROUND {
                    if !budget.take(1, elapsed_ms) {
                        break;
                    }
                    number += 1;
                    let payload = voter.vote(number, height).encode();
                    let topic = Topic::Approvals;
                    if handle.try_send(Command::Publish { topic, payload }).is_err() {
                        counts.refused();
                    } else if holders.len() == validators {
                        counts.made();
                    }
                }
                continue;
            }
            () = asks.tick() => {
                for peer in &subscribed {
                    // A full queue drops it; the next one follows soon.
                    let _ = handle.request(*peer, Protocol::Status, status().encode());
                }
                continue;
            }
        };
        match event {
            Event::Request {
                id,
                protocol: Protocol::Status,
                ..
            } => {
                let answer = StatusAnswer {
                    status: status(),
                    held: HeldVotes::default(),
                };
                let response = Ok(answer.encode());
                say(&handle, Command::Respond { id, response });
            }
            Event::Request { id, .. } => {
                let response = Err(Refusal::Unavailable);
                say(&handle, Command::Respond { id, response });
            }
            Event::Response {
                peer,
                result: Ok(answer),
                ..
            } => {
                let held = StatusAnswer::decode(&answer)?.held.approval;
                if held.is_some_and(|vote| is_of_no_block(&vote)) {
                    holders.insert(peer);
                }
            }
            Event::Gossip {
                id, topic, payload, ..
            } => {
                if topic == Topic::Blocks
                    && let Ok(proposal) = Proposal::decode(&payload)
                {
                    latest = latest.max(Some(proposal.block.header.height));
                }
                let verdict = GossipVerdict::Ignore;
                say(&handle, Command::Judge { id, verdict });
            }
            Event::PeerSubscribed { peer } => {
                subscribed.insert(peer);
            }
            Event::PeerDisconnected { peer, .. } => {
                subscribed.remove(&peer);
                holders.remove(&peer);
                counts.refused();
            }
            Event::Response { .. }
            | Event::Status { .. }
            | Event::PeerConnected { .. }
            | Event::WrongChain { .. }
            | Event::Banned { .. } => {}
        }
    }
}

/// The key of an authority.
struct Voter {
    chain: Chain,
    key: SecretKey,
    /// Index of the authority.
    signer: u8,
}

impl Voter {
    /// Reads the chain and the key.
    fn load(targets: &Targets) -> Result<Voter> {
        let dir = Dir::open(&targets.datadir)?;
        let key = keys::unlock(&dir, keys::KEYSTORE, &Password::new(PASSWORD))?;
        Voter::new(Chain::load(targets)?, key)
    }

    fn new(chain: Chain, key: SecretKey) -> Result<Voter> {
        let signer = chain.genesis.set().index_of(&key.public_key().to_bytes());
        let signer = signer.context("the key is not that of an authority")?;
        Ok(Voter { chain, key, signer })
    }

    fn prove(&self, peer: PeerId) -> AuthorityProof {
        let chain = self.chain.genesis.chain_id();
        AuthorityProof::sign(&self.key, &chain, &peer.to_bytes())
    }

    /// A valid approval of a block that does not exist, in a slot whose votes count; different
    /// numbers make different votes. `latest` is the height of the latest proposal.
    fn vote(&self, number: u64, latest: Height) -> Vote {
        let mut hash = [MARK; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        let ahead = number % (EARLY_SLOTS + 1);
        let target = VoteTarget {
            kind: VoteKind::Approval,
            height: latest.saturating_add(1 + number % HEIGHTS),
            slot: self.chain.slot().saturating_add(ahead),
            hash: Hash(hash),
        };
        let message = target.message(&self.chain.genesis.chain_id());
        Vote {
            target,
            signer: self.signer,
            signature: self.key.sign(&message.0),
        }
    }
}

/// True for the votes of [`Voter::vote`].
fn is_of_no_block(vote: &Vote) -> bool {
    vote.target.hash.0[8..] == [MARK; 24]
}

#[cfg(test)]
mod tests {
    use alys_types::bls;

    use super::*;
    use crate::chain::tests::{authority_key, chain};

    #[test]
    fn votes_are_valid_and_of_different_blocks_in_the_slots_that_count() {
        let voter = Voter::new(chain(), authority_key(3)).expect("an authority");
        let genesis = &voter.chain.genesis;
        let key = genesis.set().key(3).expect("one of four");
        let first = voter.chain.slot();
        let votes: Vec<Vote> = (0..12)
            .map(|number| voter.vote(number, Height(9)))
            .collect();
        let last = voter.chain.slot().saturating_add(EARLY_SLOTS);
        for vote in &votes {
            let message = vote.target.message(&genesis.chain_id());
            let verified = bls::verify(&[key], &message.0, &vote.signature);
            assert_eq!((vote.signer, verified), (3, Ok(())));
            assert!((first..=last).contains(&vote.target.slot));
            assert!(vote.target.height > Height(9));
            assert!(is_of_no_block(vote));
        }
        let hashes: BTreeSet<Hash> = votes.iter().map(|vote| vote.target.hash).collect();
        assert_eq!(hashes.len(), votes.len());
    }

    #[test]
    fn only_an_authority_proves_its_key() {
        let voter = Voter::new(chain(), authority_key(3)).expect("an authority");
        let genesis = &voter.chain.genesis;
        let peer = new_identity().peer_id();
        let proof = voter.prove(peer);
        let verified = proof.verify(genesis.set(), &genesis.chain_id(), &peer.to_bytes());
        assert_eq!(verified, Ok(()));
        assert!(Voter::new(chain(), authority_key(4)).is_err());
    }
}
