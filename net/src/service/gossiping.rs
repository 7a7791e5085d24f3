//! Publishing and receiving gossip.

use libp2p::PeerId;
use libp2p::gossipsub::{self, MessageAcceptance, MessageId, PublishError, TopicHash};

use super::Service;
use crate::api::{Event, GossipId, GossipVerdict};
use crate::budgets::Excess;
use crate::gossip::{self, payload_key, topic_hash};
use crate::interceptor;
use crate::scores::Offence;
use crate::wire::{self, Topic};

impl Service {
    pub(super) fn on_gossip(&mut self, event: gossip::Event) {
        match event {
            gossip::Event::Offence { peer, offence } => self.penalize(peer, offence),
            gossip::Event::Gossipsub(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                let forwarded = self.on_message(propagation_source, &message_id, message);
                if let Err(acceptance) = forwarded {
                    self.report_acceptance(&message_id, &propagation_source, acceptance);
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
                self.on_slow_peer(peer_id);
            }
            gossip::Event::Gossipsub(gossipsub::Event::GossipsubNotSupported { peer_id }) => {
                tracing::debug!(peer = %peer_id, "peer does not support gossip");
            }
        }
    }

    fn topic_of(&self, hash: &TopicHash) -> Option<Topic> {
        Topic::ALL
            .into_iter()
            .find(|topic| topic_hash(*topic, &self.config.chain) == *hash)
    }

    /// Passes a message to the node, or returns the verdict on a message that does not reach it.
    fn on_message(
        &mut self,
        from: PeerId,
        id: &MessageId,
        message: gossipsub::Message,
    ) -> Result<(), MessageAcceptance> {
        let topic = self
            .topic_of(&message.topic)
            .ok_or(MessageAcceptance::Ignore)?;
        if !self.note_activity(&from) {
            return Err(MessageAcceptance::Ignore);
        }
        let now_ms = self.now_ms();
        let is_known = self.is_known(&from);
        let bytes = message.data.len();
        match self
            .budgets
            .take_gossip(from, is_known, topic, bytes, now_ms)
        {
            Ok(()) => {}
            Err(Excess::Peer) => {
                alys_runtime::trace::reached("state.net.gossip_throttled");
                self.penalize(from, Offence::GossipFlood);
                return Err(MessageAcceptance::Ignore);
            }
            Err(Excess::Strangers) => return Err(MessageAcceptance::Ignore),
        }
        let payload = wire::open(topic, message.data).map_err(|error| {
            tracing::debug!(peer = %from, ?topic, %error, "malformed gossip");
            self.penalize(from, Offence::InvalidGossip);
            MessageAcceptance::Reject
        })?;
        // A message without room is not recorded as seen, so that a later copy passes.
        if !self.has_room() {
            alys_runtime::trace::reached("state.net.no_room");
            self.dropped += 1;
            if interceptor::remembers_dropped() {
                self.repeats.admit(payload_key(topic, &payload), now_ms);
            }
            return Err(MessageAcceptance::Ignore);
        }
        let key = payload_key(topic, &payload);
        if !self.repeats.admit(key, now_ms) {
            alys_runtime::trace::event("net.gossip.repeat", &key);
            return Err(MessageAcceptance::Ignore);
        }
        alys_runtime::trace::event("net.gossip.taken", &key);
        let id = GossipId {
            message: id.clone(),
            from,
            topic,
            bytes,
        };
        self.emit(Event::Gossip {
            id,
            from,
            topic,
            payload,
        });
        Ok(())
    }

    pub(super) fn on_verdict(&mut self, id: &GossipId, verdict: GossipVerdict) {
        let now_ms = self.now_ms();
        let acceptance = match verdict {
            GossipVerdict::Accept => {
                if self.budgets.take_relayed(id.topic, id.bytes, now_ms) {
                    self.add_to_backlogs(id.bytes, Some(&id.from));
                    MessageAcceptance::Accept
                } else {
                    alys_runtime::trace::reached("state.net.relay_throttled");
                    MessageAcceptance::Ignore
                }
            }
            GossipVerdict::Ignore => MessageAcceptance::Ignore,
            GossipVerdict::Reject => MessageAcceptance::Reject,
        };
        self.report_acceptance(&id.message, &id.from, acceptance);
        if verdict == GossipVerdict::Reject {
            self.penalize(id.from, Offence::InvalidGossip);
        }
    }

    /// Counts a message as queued for all peers but its sender. gossipsub sends it to fewer, those
    /// of the mesh without it; the count matters only while a peer does not read.
    fn add_to_backlogs(&mut self, bytes: usize, sender: Option<&PeerId>) {
        for (id, peer) in &mut self.peers {
            if Some(id) != sender {
                peer.backlog.add(bytes);
            }
        }
    }

    fn report_acceptance(
        &mut self,
        message: &MessageId,
        from: &PeerId,
        acceptance: MessageAcceptance,
    ) {
        let gossip = self.swarm.behaviour_mut().gossip.inner_mut();
        if !gossip.report_message_validation_result(message, from, acceptance) {
            tracing::debug!("the verdict is too late to forward the message");
        }
    }

    pub(super) fn publish(&mut self, topic: Topic, payload: &[u8]) {
        if payload.len() > topic.max_payload() {
            tracing::error!(
                ?topic,
                bytes = payload.len(),
                "our message exceeds its size limit"
            );
            return;
        }
        self.nonce = self.nonce.wrapping_add(1);
        let data = wire::seal(self.nonce, payload);
        let bytes = data.len();
        let hash = topic_hash(topic, &self.config.chain);
        match self
            .swarm
            .behaviour_mut()
            .gossip
            .inner_mut()
            .publish(hash, data)
        {
            Ok(_) => {
                // Own messages are always sent; they leave less to those of others.
                let now_ms = self.now_ms();
                self.budgets.take_relayed(topic, bytes, now_ms);
                self.add_to_backlogs(bytes, None);
            }
            // No peer is subscribed yet. The node rebroadcasts at `Event::PeerSubscribed`.
            Err(PublishError::NoPeersSubscribedToTopic) => {
                tracing::debug!(?topic, "no peer is subscribed")
            }
            Err(error) => tracing::debug!(?topic, %error, "not published"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::config;

    #[test]
    fn messages_without_a_subscriber_leave_the_budget_of_others_whole() {
        alys_runtime::block_on_main(async {
            let bound = Service::bind(config(1, vec![])).await;
            let (mut service, _handle, _events) = bound.expect("a free port");
            let topic = Topic::Transactions;
            let (burst, _) = topic.rate().messages;
            for _ in 0..burst {
                service.publish(topic, b"own");
            }
            let now_ms = service.now_ms();
            assert!(service.budgets.take_relayed(topic, 8, now_ms));
        });
    }
}
