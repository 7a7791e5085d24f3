//! Gossip in both directions.

use libp2p::PeerId;
use libp2p::gossipsub::{self, MessageAcceptance, MessageId, PublishError, TopicHash};

use super::Service;
use crate::api::{Event, GossipId, Verdict};
use crate::gossip::{self, payload_key, topic_hash};
use crate::scores::Offence;
use crate::wire::{self, Topic};

impl Service {
    pub(super) fn on_gossip(&mut self, event: gossip::Event) {
        match event {
            gossip::Event::Offence { peer, offence } => self.punish(peer, offence),
            gossip::Event::Gossipsub(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                let verdict = self.on_message(propagation_source, &message_id, message);
                if let Err(acceptance) = verdict {
                    self.judge(&message_id, &propagation_source, acceptance);
                }
            }
            gossip::Event::Gossipsub(gossipsub::Event::Subscribed { peer_id, topic }) => {
                if let Some(topic) = self.topic_of(&topic) {
                    self.on_subscription(peer_id, topic, true);
                }
            }
            gossip::Event::Gossipsub(gossipsub::Event::Unsubscribed { peer_id, topic }) => {
                if let Some(topic) = self.topic_of(&topic) {
                    self.on_subscription(peer_id, topic, false);
                }
            }
            gossip::Event::Gossipsub(gossipsub::Event::SlowPeer { peer_id, .. }) => {
                tracing::debug!(peer = %peer_id, "peer does not take its messages in time");
            }
            gossip::Event::Gossipsub(gossipsub::Event::GossipsubNotSupported { peer_id }) => {
                tracing::debug!(peer = %peer_id, "peer speaks no gossip");
            }
        }
    }

    fn topic_of(&self, hash: &TopicHash) -> Option<Topic> {
        Topic::ALL
            .into_iter()
            .find(|topic| topic_hash(*topic, &self.config.chain) == *hash)
    }

    /// Hands a message to the node, or says what becomes of it instead.
    fn on_message(
        &mut self,
        from: PeerId,
        id: &MessageId,
        message: gossipsub::Message,
    ) -> Result<(), MessageAcceptance> {
        let topic = self
            .topic_of(&message.topic)
            .ok_or(MessageAcceptance::Ignore)?;
        if !self.heard(&from) {
            return Err(MessageAcceptance::Ignore);
        }
        let now_ms = self.now_ms();
        let within_rate = self
            .peers
            .get_mut(&from)
            .is_some_and(|peer| peer.gossip_rate.take(1, now_ms));
        if !within_rate {
            self.punish(from, Offence::GossipFlood);
            return Err(MessageAcceptance::Ignore);
        }
        let payload = wire::open(topic, message.data).map_err(|error| {
            tracing::debug!(peer = %from, ?topic, %error, "malformed gossip");
            self.punish(from, Offence::InvalidGossip);
            MessageAcceptance::Reject
        })?;
        if !self.repeats.admit(payload_key(topic, &payload), now_ms) {
            return Err(MessageAcceptance::Ignore);
        }
        if !self.has_room() {
            alys_runtime::trace::reached("state.net.no_room");
            self.dropped += 1;
            return Err(MessageAcceptance::Ignore);
        }
        let id = GossipId {
            message: id.clone(),
            from,
        };
        self.emit(Event::Gossip {
            id,
            from,
            topic,
            payload,
        });
        Ok(())
    }

    pub(super) fn on_verdict(&mut self, id: &GossipId, verdict: Verdict) {
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        self.judge(&id.message, &id.from, acceptance);
        if verdict == Verdict::Reject {
            self.punish(id.from, Offence::InvalidGossip);
        }
    }

    fn judge(&mut self, message: &MessageId, from: &PeerId, acceptance: MessageAcceptance) {
        let gossip = self.swarm.behaviour_mut().gossip.inner_mut();
        if !gossip.report_message_validation_result(message, from, acceptance) {
            tracing::debug!("the verdict came too late for the message to be forwarded");
        }
    }

    pub(super) fn publish(&mut self, topic: Topic, payload: &[u8]) {
        if payload.len() > topic.max_payload() {
            tracing::error!(
                ?topic,
                bytes = payload.len(),
                "our message is too long to be sent"
            );
            return;
        }
        self.nonce = self.nonce.wrapping_add(1);
        let data = wire::seal(self.nonce, payload);
        let hash = topic_hash(topic, &self.config.chain);
        match self
            .swarm
            .behaviour_mut()
            .gossip
            .inner_mut()
            .publish(hash, data)
        {
            Ok(_) => {}
            // Nobody is there yet: what matters is re-sent, see `Event::PeerListens`.
            Err(PublishError::NoPeersSubscribedToTopic) => {
                tracing::debug!(?topic, "nobody listens")
            }
            Err(error) => tracing::debug!(?topic, %error, "not published"),
        }
    }
}
