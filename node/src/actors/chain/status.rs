//! The status exchange with a peer. This node sends its position, and the ValidationActor checks
//! the certificates and votes that the peer reports.

use alys_consensus::Input;
use alys_net::{Command, InboundId, Offence, PeerId, Refusal};
use alys_runtime::trace::reached;
use alys_types::bls::PublicKeyBytes;
use alys_types::wire::{
    AuthorityProof, CertifiedHeader, HeldVotes, Message as Wire, Status, StatusAnswer,
};

use super::{ChainActor, ChainError};
use crate::actors::peers::PeerMessage;
use crate::actors::validation::{Job, Source};
use crate::interceptor;

impl ChainActor {
    fn status(&self) -> Status {
        let summary = self.state.summary();
        Status {
            genesis: self.genesis.hash(),
            fork_id: self.genesis.fork_id(summary.head_height),
            head_height: summary.head_height,
            head: summary.head,
            highest: self.state.highest_certified(),
            finalized: self.state.last_final(),
            authority: self.proof,
            slot: self.state.slot_at(self.now()),
        }
    }

    /// Sends the status to the NetworkActor if it changed. If the NetworkActor does not accept it,
    /// it is sent again after the next input.
    pub(super) fn publish_status(&mut self) {
        let status = self.status();
        if self.published.as_ref() != Some(&status) {
            let is_taken = self.command(Command::SetStatus {
                status: status.encode(),
            });
            self.published = is_taken.then_some(status);
        }
    }

    /// Sends the keys of the newest set to the NetworkActor if they changed, as
    /// [`Self::publish_status`] does, because a member that left has no right to its place.
    pub(super) fn publish_authorities(&mut self) {
        let set = self.state.newest_set();
        if self.authorities.as_ref() != Some(&set) {
            let members = set.authorities().iter();
            let keys: Vec<PublicKeyBytes> = members.map(|member| member.public_key).collect();
            self.vouched.retain(&keys);
            let is_taken = self.command(Command::SetAuthorities { keys });
            self.authorities = is_taken.then_some(set);
        }
    }

    /// Requests the statuses of all peers while the clock of this node is not confirmed, because a
    /// status from the handshake may date from a time at which the peer's clock was wrong.
    pub(super) fn request_clocks(&mut self) {
        if self.state.awaits_clock() && self.catchup.is_status_due(self.now().mono_ms) {
            let status = self.status().encode();
            self.tell_peers(PeerMessage::AskStatus { status });
        }
    }

    pub(super) async fn on_status_request(
        &mut self,
        id: InboundId,
        peer: PeerId,
        is_known: bool,
        payload: &[u8],
    ) -> Result<(), ChainError> {
        let theirs = match Status::decode(payload) {
            Ok(theirs) => theirs,
            Err(error) => {
                tracing::debug!(%peer, %error, "malformed status");
                let response = Err(Refusal::Invalid);
                self.command(Command::Respond { id, response });
                let offence = Offence::InvalidRequest;
                self.command(Command::Report { peer, offence });
                return Ok(());
            }
        };
        let held = theirs
            .authority
            .map(|proof| self.state.held_votes(&proof.key));
        let answer = StatusAnswer {
            status: self.status(),
            held: held.unwrap_or(HeldVotes {
                approval: None,
                confirmation: None,
            }),
        };
        let response = Ok(answer.encode());
        self.command(Command::Respond { id, response });
        self.on_status(peer, is_known, theirs).await
    }

    pub(super) async fn on_status_answer(
        &mut self,
        peer: PeerId,
        is_known: bool,
        answer: StatusAnswer,
    ) -> Result<(), ChainError> {
        let StatusAnswer { status, held } = answer;
        for vote in held.approval.into_iter().chain(held.confirmation) {
            if self.state.would_prove_loss(&vote) {
                let set = self.state.set_for_vote(&vote);
                // The signer is this node, so the signature is checked against its own key: one
                // that fails is forged, whichever set decides on the block.
                let job = Job::HeldVote { vote, set };
                self.check(Source::status(peer, is_known), job, true);
            }
        }
        self.on_status(peer, is_known, status).await
    }

    async fn on_status(
        &mut self,
        peer: PeerId,
        is_known: bool,
        status: Status,
    ) -> Result<(), ChainError> {
        let head = self.state.summary().head_height;
        if let Err(mismatch) = self.genesis.check_fork_id(&status.fork_id, head) {
            self.command(Command::Refuse { peer, mismatch });
            return Ok(());
        }
        if let Some(proof) = status.authority {
            self.check_authority(peer, is_known, proof);
        }
        for certified in status.highest.into_iter().chain(status.finalized) {
            self.check_certified(Source::status(peer, is_known), certified);
        }
        // The proof is checked first, so only a later status of the peer states its clock.
        if let Some(authority) = self.vouched.key_of(&peer)
            && self.state.awaits_clock()
        {
            let slot = status.slot;
            self.input(Input::ClockStated { authority, slot }).await?;
        }
        Ok(())
    }

    /// Checks the proof, ahead of all other messages of strangers and in their share of the time:
    /// the network limits statuses, but any number of identities may send forged proofs.
    fn check_authority(&mut self, peer: PeerId, is_known: bool, proof: AuthorityProof) {
        let set = self.state.newest_set();
        if set.index_of(&proof.key).is_none() {
            return;
        }
        let is_proven = self.vouched.key_of(&peer) == Some(proof.key);
        if !is_proven {
            let job = Job::Authority { peer, proof, set };
            self.check(Source::status(peer, is_known), job, true);
        } else if !is_known {
            // The network lost the command, or forgot the peer.
            let key = proof.key;
            self.command(Command::Vouch { peer, key });
        }
    }

    /// Has the network keep a place for a peer that proved an authority's key.
    pub(super) fn on_authority(&mut self, peer: PeerId, key: PublicKeyBytes) {
        if self.state.newest_set().index_of(&key).is_none() {
            // It left the set during the check.
            return;
        }
        reached("state.chain.authority_proven");
        let is_taken = self.command(Command::Vouch { peer, key });
        if interceptor::counts_as_vouched(is_taken) {
            self.vouched.insert(peer, key);
        }
    }

    fn check_certified(&mut self, source: Source, certified: CertifiedHeader) {
        let target = certified.certificate.target;
        if self.state.knows_certificate(&target.hash, target.kind) {
            return;
        }
        if self.is_stale(&certified) {
            // The peer is behind, or on an abandoned branch.
            return;
        }
        let is_set_known = self.state.known_set(&certified.header).is_some();
        let set = self.state.set_for(&certified.header);
        let certified = Box::new(certified);
        self.check(source, Job::Certified { certified, set }, is_set_known);
    }
}
