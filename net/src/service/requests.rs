//! Requests and responses in both directions.

use std::collections::BTreeMap;

use libp2p::PeerId;
use libp2p::request_response::{
    Event as Rr, InboundRequestId, Message, OutboundFailure, OutboundRequestId,
};

use super::Service;
use super::peers::{STATUS_DROPPED_RETRY_MS, STATUS_RETRY_MS};
use crate::api::{Event, InboundId, RequestError, RequestId};
use crate::behaviour::{Channel, RequestEvent, millis};
use crate::budgets::Excess;
use crate::codec::{FrameError, Refusal, Request, Response};
use crate::handshake::{ChainTag, check_tag};
use crate::interceptor;
use crate::scores::Offence;
use crate::wire::Protocol;

/// A request of a peer that the node has not answered.
struct Inbound {
    peer: PeerId,
    protocol: Protocol,
    request: InboundRequestId,
    channel: Channel,
}

/// An outstanding request of ours. Without an id it is the status request of the handshake.
struct Outbound {
    id: Option<RequestId>,
    peer: PeerId,
    sent_ms: u64,
}

/// All outstanding requests.
#[derive(Default)]
pub(super) struct Requests {
    inbound: BTreeMap<InboundId, Inbound>,
    outbound: BTreeMap<(Protocol, OutboundRequestId), Outbound>,
    /// Answers that their peers have not read yet, with their bytes. The service does not see the
    /// bytes in flight, so an answer counts until all of it is sent. Bounded by the streams of a
    /// connection, because each answer has its own.
    unread: BTreeMap<(Protocol, InboundRequestId), (PeerId, usize)>,
    last_inbound: u64,
}

impl Requests {
    /// Numbers of unanswered requests from peers, of unanswered requests to peers, and of answers
    /// that are not read.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.inbound.len(), self.outbound.len(), self.unread.len())
    }

    /// Drops the unanswered requests of a disconnected peer.
    pub(super) fn forget_peer(&mut self, peer: &PeerId) {
        self.inbound.retain(|_, inbound| inbound.peer != *peer);
        self.unread.retain(|_, (of, _)| of != peer);
    }

    fn forget(&mut self, protocol: Protocol, request: InboundRequestId) {
        self.inbound
            .retain(|_, inbound| (inbound.protocol, inbound.request) != (protocol, request));
        self.unread.remove(&(protocol, request));
    }

    /// Bytes of answers that are not read yet: those of the peer, and all.
    fn unread_bytes(&self, peer: &PeerId) -> (usize, usize) {
        let mut sums = (0, 0);
        for (of, bytes) in self.unread.values() {
            sums.1 += bytes;
            if of == peer {
                sums.0 += bytes;
            }
        }
        sums
    }

    fn of_peer(&self, peer: &PeerId) -> usize {
        self.inbound
            .values()
            .filter(|inbound| inbound.peer == *peer)
            .count()
    }
}

fn offence_of(error: FrameError) -> Offence {
    match error {
        FrameError::TooLong { .. } => Offence::OversizedFrame,
        FrameError::Tag { .. } => Offence::MalformedFrame,
    }
}

impl Service {
    pub(super) fn on_request_event(&mut self, protocol: Protocol, event: RequestEvent) {
        match event {
            Rr::Message {
                peer,
                message:
                    Message::Request {
                        request_id,
                        request,
                        channel,
                    },
                ..
            } => {
                self.on_request(protocol, peer, request_id, request, channel);
            }
            Rr::Message {
                peer,
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                self.on_response(protocol, peer, request_id, response);
            }
            Rr::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                self.on_request_failed(protocol, peer, request_id, &error);
            }
            Rr::InboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                tracing::debug!(%peer, ?protocol, %error, "a peer's request ended unanswered");
                self.requests.forget(protocol, request_id);
            }
            Rr::ResponseSent { request_id, .. } => {
                self.requests.unread.remove(&(protocol, request_id));
            }
        }
    }

    fn on_request(
        &mut self,
        protocol: Protocol,
        peer: PeerId,
        request: InboundRequestId,
        payload: Request,
        channel: Channel,
    ) {
        if !self.note_activity(&peer) {
            return;
        }
        let payload = match payload {
            Ok(payload) => payload,
            Err(error) => {
                tracing::debug!(%peer, ?protocol, %error, "malformed request");
                return self.penalize(peer, offence_of(error));
            }
        };
        let now_ms = self.now_ms();
        let is_known = self.is_known(&peer);
        let taken = self.budgets.take_request(peer, is_known, protocol, now_ms);
        if !interceptor::is_within_request_rate(taken != Err(Excess::Peer)) {
            alys_runtime::trace::reached("state.net.rate_exceeded");
            self.refuse(protocol, channel, Refusal::RateExceeded);
            return self.penalize(peer, Offence::RateExceeded);
        }
        let limits = &self.config.limits;
        if taken == Err(Excess::Strangers)
            || !self.has_room()
            || self.requests.inbound.len() >= limits.max_inbound
            || self.requests.of_peer(&peer) >= limits.max_inbound_per_peer
            || !self.has_room_for_answer(&peer, 0)
        {
            return self.refuse(protocol, channel, Refusal::Busy);
        }
        let payload = match protocol {
            Protocol::Status => match self.check_status(peer, payload) {
                Some(status) => status,
                None => return self.refuse(protocol, channel, Refusal::Invalid),
            },
            Protocol::HeadersByRange
            | Protocol::BlocksByRange
            | Protocol::BlocksByHash
            | Protocol::Receipts => payload,
        };
        self.requests.last_inbound += 1;
        let id = InboundId(self.requests.last_inbound);
        self.requests.inbound.insert(
            id,
            Inbound {
                peer,
                protocol,
                request,
                channel,
            },
        );
        self.emit(Event::Request {
            id,
            peer,
            protocol,
            payload,
        });
    }

    /// Strips and checks the chain tag of a status message, and admits the peer. `None` when the
    /// peer is refused.
    fn check_status(&mut self, peer: PeerId, message: Vec<u8>) -> Option<Vec<u8>> {
        let Some((theirs, status)) = ChainTag::split(&message) else {
            self.penalize(peer, Offence::MalformedFrame);
            return None;
        };
        match check_tag(&self.config.chain, &theirs) {
            Ok(()) => {
                self.admit(peer);
                Some(status.to_vec())
            }
            Err(mismatch) => {
                self.refuse_wrong_chain(peer, mismatch);
                None
            }
        }
    }

    pub(super) fn respond(&mut self, id: InboundId, response: Result<Vec<u8>, Refusal>) {
        let Some(Inbound {
            peer,
            protocol,
            request,
            channel,
        }) = self.requests.inbound.remove(&id)
        else {
            tracing::debug!(?id, "the answer is too late");
            return;
        };
        let max_response = self.config.limits.max_response(protocol);
        let response = match (protocol, response) {
            (_, Ok(payload)) if payload.len() > max_response => {
                let bytes = payload.len();
                tracing::error!(%peer, ?protocol, bytes, "our answer exceeds its size limit");
                Err(Refusal::Unavailable)
            }
            (Protocol::Status, Ok(status)) => Ok(self.config.chain.prefix(&status)),
            (_, Ok(payload)) if !self.has_room_for_answer(&peer, payload.len()) => {
                alys_runtime::trace::reached("state.net.unread_answers");
                tracing::debug!(%peer, ?protocol, "the peer does not read its answers");
                Err(Refusal::Busy)
            }
            (_, response) => response,
        };
        let bytes = response.as_ref().ok().map(Vec::len);
        let is_sent = self.answer(protocol, channel, response);
        if let Some(bytes) = bytes
            && is_sent
        {
            let unread = (peer, bytes);
            self.requests.unread.insert((protocol, request), unread);
        }
    }

    /// True while `more` bytes of answers to the peer stay within the limits. Strangers may use
    /// half of the limit of all, so that they cannot keep members of the federation from syncing.
    fn has_room_for_answer(&self, peer: &PeerId, more: usize) -> bool {
        let limits = &self.config.limits;
        let total = if self.is_known(peer) {
            limits.max_answer_bytes
        } else {
            limits.max_answer_bytes / 2
        };
        let (of_peer, of_all) = self.requests.unread_bytes(peer);
        of_peer.saturating_add(more) <= limits.max_answer_bytes_per_peer
            && of_all.saturating_add(more) <= total
    }

    fn refuse(&mut self, protocol: Protocol, channel: Channel, refusal: Refusal) {
        self.answer(protocol, channel, Err(refusal));
    }

    /// False if the connection has ended, so that the answer is no longer needed.
    fn answer(
        &mut self,
        protocol: Protocol,
        channel: Channel,
        response: Result<Vec<u8>, Refusal>,
    ) -> bool {
        self.swarm
            .behaviour_mut()
            .requests(protocol)
            .send_response(channel, Ok(response))
            .is_ok()
    }

    pub(super) fn request(
        &mut self,
        id: RequestId,
        peer: PeerId,
        protocol: Protocol,
        payload: Vec<u8>,
    ) {
        let limit = self.config.limits.max_outbound;
        let refused = if payload.len() > protocol.max_request() {
            Some(RequestError::TooLong {
                length: payload.len(),
                limit: protocol.max_request(),
            })
        } else if self
            .peers
            .get(&peer)
            .is_none_or(|peer| peer.closing.is_some())
        {
            Some(RequestError::NotConnected)
        } else if self.requests.outbound.len() >= limit {
            Some(RequestError::TooMany { limit })
        } else {
            None
        };
        if let Some(error) = refused {
            return self.emit(Event::Response {
                id,
                peer,
                result: Err(error),
            });
        }
        let payload = match protocol {
            Protocol::Status => self.config.chain.prefix(&payload),
            Protocol::HeadersByRange
            | Protocol::BlocksByRange
            | Protocol::BlocksByHash
            | Protocol::Receipts => payload,
        };
        self.send_request(Some(id), peer, protocol, payload);
    }

    /// The status request of the handshake.
    pub(super) fn send_own_status(&mut self, peer: PeerId, status: &[u8]) {
        alys_runtime::trace::event("net.status.asked", &peer.to_bytes());
        let payload = self.config.chain.prefix(status);
        self.send_request(None, peer, Protocol::Status, payload);
    }

    fn send_request(
        &mut self,
        id: Option<RequestId>,
        peer: PeerId,
        protocol: Protocol,
        payload: Vec<u8>,
    ) {
        let sent_ms = self.now_ms();
        let behaviour = self.swarm.behaviour_mut().requests(protocol);
        let request = behaviour.send_request(&peer, Ok(payload));
        self.requests
            .outbound
            .insert((protocol, request), Outbound { id, peer, sent_ms });
    }

    fn on_response(
        &mut self,
        protocol: Protocol,
        peer: PeerId,
        request: OutboundRequestId,
        response: Response,
    ) {
        let Some(Outbound { id, .. }) = self.requests.outbound.remove(&(protocol, request)) else {
            return;
        };
        let is_connected = self.note_activity(&peer);
        let result = match response {
            Err(error) => {
                self.penalize(peer, offence_of(error));
                Err(RequestError::Malformed(error))
            }
            Ok(Err(refusal)) => Err(RequestError::Refused(refusal)),
            Ok(Ok(_)) if protocol == Protocol::Status && !is_connected => {
                Err(RequestError::Disconnected)
            }
            Ok(Ok(message)) if protocol == Protocol::Status => self.take_status(peer, message),
            Ok(Ok(payload)) => Ok(payload),
        };
        self.finish(id, peer, result);
    }

    /// The status in an answer, if it is within the budgets. The peer is admitted even if not.
    fn take_status(&mut self, peer: PeerId, message: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        let status = self.check_status(peer, message);
        let status = status.ok_or(RequestError::WrongChain)?;
        let now_ms = self.now_ms();
        let is_known = self.is_known(&peer);
        if self.budgets.take_status(peer, is_known, now_ms).is_err() {
            tracing::debug!(%peer, "more statuses than the budget allows: one is dropped");
            return Err(RequestError::TooManyStatuses);
        }
        Ok(status)
    }

    fn on_request_failed(
        &mut self,
        protocol: Protocol,
        peer: PeerId,
        request: OutboundRequestId,
        error: &OutboundFailure,
    ) {
        let Some(Outbound { id, sent_ms, .. }) =
            self.requests.outbound.remove(&(protocol, request))
        else {
            return;
        };
        tracing::debug!(%peer, ?protocol, %error, "request failed");
        let error = match error {
            OutboundFailure::DialFailure => RequestError::NotConnected,
            OutboundFailure::Timeout => {
                alys_runtime::trace::reached("state.net.request_timeout");
                // A silent peer may be behind a broken link, which is not its fault.
                let half_ms = millis(self.config.timing.request_timeout) / 2;
                if self.was_active_since(&peer, sent_ms + half_ms) {
                    self.penalize(peer, Offence::SlowAnswer);
                }
                RequestError::Timeout
            }
            OutboundFailure::ConnectionClosed | OutboundFailure::Io(_) => {
                RequestError::Disconnected
            }
            OutboundFailure::UnsupportedProtocols => RequestError::Unsupported,
        };
        self.finish(id, peer, Err(error));
    }

    fn finish(
        &mut self,
        id: Option<RequestId>,
        peer: PeerId,
        result: Result<Vec<u8>, RequestError>,
    ) {
        match (id, result) {
            (Some(id), result) => self.emit(Event::Response { id, peer, result }),
            (None, Ok(status)) => self.emit(Event::Status { peer, status }),
            (None, Err(RequestError::TooManyStatuses)) => {
                alys_runtime::trace::event("net.status.dropped", &peer.to_bytes());
                self.retry_status(&peer, STATUS_DROPPED_RETRY_MS);
            }
            (None, Err(error)) => {
                alys_runtime::trace::event("net.status.failed", &peer.to_bytes());
                let is_refused = matches!(error, RequestError::Refused(_));
                if interceptor::repeats_status(is_refused) {
                    self.retry_status(&peer, STATUS_RETRY_MS);
                }
            }
        }
    }

    /// Answers all outstanding requests with an error, because the service ends.
    pub(super) fn fail_all_requests(&mut self) {
        for (_, Outbound { id, peer, .. }) in std::mem::take(&mut self.requests.outbound) {
            if let Some(id) = id {
                self.emit(Event::Response {
                    id,
                    peer,
                    result: Err(RequestError::Shutdown),
                });
            }
        }
    }
}
