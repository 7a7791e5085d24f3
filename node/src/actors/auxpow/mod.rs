//! AuxPowActor: work for miners, and their proofs.
//!
//! Owns the [`desk`] of this incarnation. Guarantees that a proof is durable before its miner hears
//! that it is accepted and before peers get it, that held proofs survive a restart, and that they
//! reach the chain again until a final block carries one of their number. Publishes one proof of
//! its own miners at a time, and again in each slot until a block of the chain carries one of its
//! number. Judges the proofs of peers, and holds those that meet every rule beside its own. Never
//! decides which proof is carried: the state machine of agreement does. Handles bytes of strangers:
//! its addresses of other actors accept only the messages listed in `node/src/rights.rs`.

pub mod desk;
#[cfg(test)]
pub(crate) mod kit;
mod messages;
mod metrics;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use alys_actor_system::{Addr, AlysActor, AskError, Context};
use alys_net::{Command, GossipVerdict, Topic};
use alys_runtime::buggify_pause;
use alys_runtime::log_limit::LogLimit;
use alys_runtime::time::{self, Instant};
use alys_runtime::trace::reached;
use alys_types::bls::PublicKeyBytes;
use alys_types::limits::MAX_AUXPOW_BYTES;
use alys_types::spec::vault_address;
use alys_types::wire::{Message as Wire, WorkProof};
use alys_types::{Address, Genesis, Hash, codec};

use crate::actors::chain::ChainMessage;
use crate::actors::network::NetworkMessage;
use crate::actors::storage;
use crate::actors::validation::Source;
use crate::interceptor;
use desk::{Accepted, BadProof, Changes, Desk, Gossiped, Refused, Submission};

/// Largest encoded [`HeldProof`] with its origin: an AuxPoW and 200 bytes of other fields.
const MAX_HELD_PROOF_BYTES: usize = MAX_AUXPOW_BYTES + 256;

pub use alys_consensus::{HeldProof, PowFinal, WorkOffer};
pub use messages::{
    AuxPowMessage, DeskError, Handle, MAX_GOSSIPED, MAX_QUESTIONS, MAX_SUBMISSIONS, PeerProofs,
    Queue,
};
pub use metrics::Metrics;

/// Interval at which held proofs are sent to the chain again, which may have had no room for them:
/// a slot of the default length.
const RESEND_INTERVAL: Duration = Duration::from_secs(2);
/// Shortest time between two publications, so that half of the rate that peers grant
/// ([`Topic::rate`]) is left to proofs that the node forwards.
const PUBLISH_INTERVAL: Duration = RESEND_INTERVAL;

/// A fault of the actor itself. The supervisor restarts it from the storage.
#[derive(Debug, thiserror::Error)]
pub enum AuxPowError {
    #[error("storage: {0}")]
    Storage(#[from] AskError),
}

/// Addresses of the actors that this one sends to.
#[derive(Clone)]
pub struct Mailboxes {
    pub storage: storage::Handle,
    pub chain: Addr<ChainMessage>,
    pub network: Addr<NetworkMessage>,
}

pub struct AuxPowActor {
    desk: Desk,
    /// The commitment of the proof that was published last, and when.
    published: Option<(Hash, Instant)>,
    /// Time after which the same proof is published again: a slot, and no less than
    /// [`PUBLISH_INTERVAL`].
    repeat_interval: Duration,
    mailboxes: Mailboxes,
    /// Limits the lines about refused proofs, because everyone who reaches the port can cause them.
    refusal_lines: LogLimit,
    metrics: Metrics,
}

/// The address of miners who name none: the configured one, or the fee address of this node's
/// authority in the first federation. An authority without one has that of the vault, which no key
/// opens, so it is none for miners.
pub fn default_address(
    configured: Option<Address>,
    genesis: &Genesis,
    key: Option<&PublicKeyBytes>,
) -> Option<Address> {
    let own = key.and_then(|key| {
        let members = genesis.set().authorities();
        let own = members.iter().find(|member| member.public_key == *key);
        own.map(|member| member.fee_address)
    });
    configured.or(own.filter(|address| *address != vault_address()))
}

impl AuxPowActor {
    /// Restores the held proofs from the storage.
    ///
    /// # Errors
    /// The storage does not answer.
    pub async fn restore(
        genesis: &Genesis,
        fee_address: Option<Address>,
        mailboxes: Mailboxes,
        metrics: Metrics,
    ) -> Result<AuxPowActor, AuxPowError> {
        let chain_id = genesis.spec().auxpow.chain_id;
        let mut desk = Desk::new(genesis.hash(), chain_id, fee_address);
        let mut stored = mailboxes.storage.proofs().await?;
        if !interceptor::restores_proofs() {
            stored.clear();
        }
        for (key, bytes) in stored {
            match codec::decode::<(HeldProof, bool)>(&bytes, MAX_HELD_PROOF_BYTES) {
                Ok((proof, is_own)) => {
                    reached("state.auxpow.restored");
                    desk.restore(key, proof, is_own);
                }
                // The miner finds another one; a node that stops for it would find none.
                Err(error) => tracing::warn!(%key, %error, "a stored proof of work is left out"),
            }
        }
        let slot = Duration::from_millis(genesis.spec().slot_duration_ms);
        Ok(AuxPowActor {
            desk,
            published: None,
            repeat_interval: slot.max(PUBLISH_INTERVAL),
            mailboxes,
            refusal_lines: LogLimit::default(),
            metrics,
        })
    }

    async fn on_work(&mut self, offer: Option<Arc<WorkOffer>>) -> Result<(), AuxPowError> {
        let blocks = offer.as_ref().map_or(0, |offer| offer.range.len());
        self.metrics.on_offer(blocks);
        if let (Some(offer), None) = (&offer, self.desk.last_final()) {
            let WorkOffer {
                final_sequence,
                final_end,
                ..
            } = **offer;
            self.metrics.on_final(final_sequence, final_end.0);
        }
        match self.desk.on_work(offer) {
            Ok(Changes { send, delete }) => {
                for proof in send {
                    self.send(proof);
                }
                self.delete(delete).await
            }
            Err(error) => {
                tracing::error!(%error, "the chain offers work that no miner can do");
                Ok(())
            }
        }
    }

    async fn on_final(&mut self, last: PowFinal) -> Result<(), AuxPowError> {
        self.metrics.on_final(last.sequence, last.end.0);
        let delete = self.desk.on_final(last);
        if !delete.is_empty() {
            reached("state.auxpow.carried");
        }
        self.delete(delete).await
    }

    async fn submit(&mut self, commitment: Hash, auxpow: &[u8]) -> Result<Submission, AuxPowError> {
        let submission = self.desk.submit(commitment, auxpow, time::now());
        self.metrics.on_submission(&submission);
        match &submission {
            Submission::Accepted(Accepted::New {
                key,
                proof,
                displaced,
            }) => {
                let (proof, displaced) = (proof.clone(), displaced.clone());
                self.write(*key, &proof, true, displaced).await?;
                reached("state.auxpow.accepted");
                tracing::info!(
                    sequence = proof.sequence,
                    blocks = proof.count,
                    miner = %proof.miner,
                    "a proof of work is accepted"
                );
                self.send(proof);
                self.publish();
            }
            Submission::Accepted(Accepted::Again | Accepted::Superseded) => {}
            Submission::Stale(_) => reached("state.auxpow.stale"),
            Submission::Refused(refused) => {
                reached("state.auxpow.refused");
                self.log_refusal(refused);
            }
            Submission::Unknown { .. } => reached("state.auxpow.unknown"),
        }
        Ok(submission)
    }

    fn log_refusal(&mut self, refused: &Refused) {
        let Refused {
            rule,
            expected,
            found,
            ..
        } = refused;
        const LINE: &str = "a proof of work is refused";
        if let Some(left_out) = self.refusal_lines.admit(time::now()) {
            tracing::info!(rule, expected, found, left_out, "{LINE}");
        } else {
            tracing::debug!(rule, expected, found, "{LINE}");
        }
    }

    /// Sends a proof to the chain. One that finds no room is sent again later.
    fn send(&self, proof: Arc<HeldProof>) {
        if self
            .mailboxes
            .chain
            .tell(ChainMessage::Proof(proof))
            .is_err()
        {
            reached("state.auxpow.chain_busy");
        }
    }

    /// Returns once the proof is durable and those that it displaces are gone.
    async fn write(
        &self,
        key: Hash,
        proof: &HeldProof,
        is_own: bool,
        displaced: Vec<Hash>,
    ) -> Result<(), AuxPowError> {
        let bytes = codec::encode(&(proof, is_own));
        let storage = &self.mailboxes.storage;
        storage.put_proof(key, bytes, displaced).await?;
        Ok(())
    }

    /// Publishes the best durable proof of an own miner, if it is due.
    fn publish(&mut self) {
        let now = time::now();
        let Some((key, proof)) = self.desk.to_publish() else {
            return;
        };
        let is_again = self.published.is_some_and(|(last, _)| last == key);
        if let Some((_, at)) = self.published {
            let interval = if is_again {
                self.repeat_interval
            } else {
                PUBLISH_INTERVAL
            };
            if now.saturating_duration_since(at) < interval {
                return;
            }
        }
        if !interceptor::gossips_proofs() {
            return;
        }
        let publish = NetworkMessage::Command(Box::new(Command::Publish {
            topic: Topic::Work,
            payload: proof.encode(),
        }));
        if self.mailboxes.network.tell(publish).is_ok() {
            reached(if is_again {
                "state.auxpow.published_again"
            } else {
                "state.auxpow.published"
            });
            self.published = Some((key, now));
        }
    }

    /// Judges the proof of a peer, and holds it if it meets every rule.
    async fn on_gossip(&mut self, source: &Source, payload: &[u8]) -> Result<(), AuxPowError> {
        let gossiped = match WorkProof::decode(payload) {
            Ok(message) => self.desk.on_gossip(message),
            Err(error) => Gossiped::Refused(BadProof::Message(error)),
        };
        self.metrics.on_gossip(&gossiped);
        let verdict = match &gossiped {
            Gossiped::New { .. } => GossipVerdict::Accept,
            Gossiped::Unused(_) => GossipVerdict::Ignore,
            Gossiped::Refused(error) => {
                reached("state.auxpow.gossip_refused");
                tracing::debug!(peer = ?source.peer, %error, "a gossiped proof is refused");
                GossipVerdict::Reject
            }
        };
        if let Some(gossip) = source.gossip.clone() {
            let judge = NetworkMessage::Judge { gossip, verdict };
            if self.mailboxes.network.tell(judge).is_err() {
                tracing::debug!("the NetworkActor is busy: a verdict is dropped");
            }
        }
        if let Gossiped::New {
            key,
            proof,
            displaced,
        } = gossiped
        {
            self.write(key, &proof, false, displaced).await?;
            reached("state.auxpow.learnt");
            self.send(proof);
        }
        Ok(())
    }

    async fn delete(&self, keys: Vec<Hash>) -> Result<(), AuxPowError> {
        if !keys.is_empty() {
            self.mailboxes.storage.delete_proofs(keys).await?;
        }
        Ok(())
    }
}

impl AlysActor for AuxPowActor {
    type Message = AuxPowMessage;
    type Error = AuxPowError;
    type Config = ();
    const NAME: &'static str = "AuxPowActor";

    async fn started(&mut self, ctx: &Context<Self>) -> Result<(), AuxPowError> {
        ctx.send_after(RESEND_INTERVAL, AuxPowMessage::Resend);
        // Without the present work, miners would get none until it changes. This wait for room
        // ends, because the ChainActor never waits for this actor.
        let started = ChainMessage::AuxPowStarted;
        if ctx.incarnation() > 1 && self.mailboxes.chain.send(started).await.is_err() {
            tracing::debug!("the ChainActor is stopping");
        }
        Ok(())
    }

    async fn handle(&mut self, msg: AuxPowMessage, ctx: &Context<Self>) -> Result<(), AuxPowError> {
        buggify_pause!("node.auxpow.slow", 50_000, 100);
        match msg {
            AuxPowMessage::Work(offer) => self.on_work(offer).await?,
            AuxPowMessage::PowFinal(last) => self.on_final(last).await?,
            AuxPowMessage::Resend => {
                ctx.send_after(RESEND_INTERVAL, AuxPowMessage::Resend);
                for proof in self.desk.held() {
                    self.send(proof);
                }
                self.publish();
            }
            AuxPowMessage::Gossip {
                source, payload, ..
            } => self.on_gossip(&source, &payload).await?,
            AuxPowMessage::Create { miner, reply, .. } => {
                self.metrics.created.inc();
                let handed = self.desk.create(miner, time::now());
                reply.send(handed);
            }
            AuxPowMessage::Submit {
                commitment,
                auxpow,
                reply,
                ..
            } => {
                let submission = self.submit(commitment, &auxpow).await?;
                reply.send(submission);
            }
            AuxPowMessage::GetStatus {
                commitment, reply, ..
            } => {
                reply.send(self.desk.status(&commitment));
            }
            AuxPowMessage::GetQueued { reply, .. } => {
                reply.send(Queue {
                    next: self.desk.queued(),
                    held: self.desk.sizes().held,
                    last_final: self.desk.last_final().copied(),
                });
            }
        }
        self.metrics.on_sizes(self.desk.sizes());
        Ok(())
    }
}
