//! Commands of the node.

use super::Service;
use crate::api::{Command, DisconnectReason};
use crate::behaviour::millis;
use crate::wire::Protocol;

impl Service {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish { topic, payload } => self.publish(topic, &payload),
            Command::Judge { id, verdict } => self.on_verdict(&id, verdict),
            Command::Request {
                id,
                peer,
                protocol,
                payload,
            } => self.request(id, peer, protocol, payload),
            Command::Respond { id, response } => self.respond(id, response),
            Command::SetStatus { status } => self.set_status(status),
            Command::Dial { addr } => {
                self.add_address(addr);
                let now_ms = self.now_ms();
                self.dial_due(now_ms);
            }
            Command::Report { peer, offence } => self.penalize(peer, offence),
            Command::Refuse { peer, mismatch } => self.refuse_wrong_chain(peer, mismatch.into()),
            Command::Ban { peer, duration } => {
                let now_ms = self.now_ms();
                self.scores.ban(peer, millis(duration), now_ms);
                self.disconnect(peer, DisconnectReason::Banned);
            }
            Command::Vouch { peer, key } => self.swarm.behaviour_mut().gate.vouch(peer, key),
            Command::SetAuthorities { keys } => {
                self.swarm.behaviour_mut().gate.set_authorities(&keys);
            }
            Command::Pardon { peer } => self.scores.pardon(&peer),
            Command::Shutdown => self.closing = true,
        }
    }

    fn set_status(&mut self, status: Vec<u8>) {
        let bytes = status.len();
        let limit = Protocol::Status.max_request();
        if bytes > limit {
            tracing::error!(bytes, limit, "our status exceeds its size limit");
            return;
        }
        self.status = Some(status);
        let now_ms = self.now_ms();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.send_due_status(peer, now_ms);
        }
    }
}
