//! A peer that replays the messages of other chains with the same authorities: their keys are the
//! same, and only the chain under each signature differs. For each proposal that it hears, all
//! authorities of the other chain have signed votes for a block of the same height and slot, and
//! even for the same hash. None of it may count here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use alys_net::{Command, Event, GossipVerdict, NodeKey, Topic};
use alys_runtime::sim::{World, here};
use alys_runtime::{select, time};
use alys_types::bls::Signature;
use alys_types::vote::ChainId;
use alys_types::wire::{AuthorityProof, CertifiedHeader, Confirmation, Message, Proposal, Status};
use alys_types::{
    Bitmap, Certificate, ChainSpec, Genesis, Header, Slot, Vote, VoteKind, VoteTarget,
};

use super::mutator::target_of;
use super::session::{self, Outsider};
use crate::cluster::genesis::authority_key;
use crate::cluster::{Net, Shared};
use crate::invariants::{Forgery, Tolerance};

const IP: IpAddr = Net::OtherChain.ip(0);
/// Lifetime of an identity, shorter than a ban.
const LIFE: Duration = Duration::from_millis(2_000);
/// Pause before the next identity.
const REST: Duration = Duration::from_millis(100);
/// Interval between two messages.
const PAUSE: Duration = Duration::from_millis(120);

/// The names of all replays.
pub fn catalogue() -> impl Iterator<Item = String> {
    let of = |chain: &'static str| SHAPES.map(|shape| name(chain, shape.word()));
    CHAINS.into_iter().flat_map(of)
}

/// The difference of the other chain.
const CHAINS: [&str; 3] = ["genesis", "evm-chain-id", "both"];

/// A message of the other chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The leader's signature under a block of this chain, made for the other one.
    Proposal,
    /// A vote for a block of this chain, made for the other one.
    Approval,
    /// A vote with its certificate, both made for the other chain.
    Confirmation,
    /// The certificate of a block of this chain, made for the other one.
    Finality,
    /// A block of the other chain, as its leader proposed it.
    OwnProposal,
    /// A vote of the other chain for a block of its own.
    OwnApproval,
    /// The certificate of a block of the other chain.
    OwnFinality,
}

const SHAPES: [Shape; 7] = [
    Shape::Proposal,
    Shape::Approval,
    Shape::Confirmation,
    Shape::Finality,
    Shape::OwnProposal,
    Shape::OwnApproval,
    Shape::OwnFinality,
];

impl Shape {
    const fn word(self) -> &'static str {
        match self {
            Self::Proposal => "proposal",
            Self::Approval => "approval",
            Self::Confirmation => "confirmation",
            Self::Finality => "finality",
            Self::OwnProposal => "own-proposal",
            Self::OwnApproval => "own-approval",
            Self::OwnFinality => "own-finality",
        }
    }
}

fn name(chain: &str, shape: &str) -> String {
    format!("other-chain.{chain}.{shape}")
}

/// Adds the peer's machine.
pub fn add(world: World, shared: &Shared) {
    let shared = shared.clone();
    session::add_returning(world, "other", IP, LIFE, REST, move || {
        let shared = shared.clone();
        async move { life(&shared).await }
    });
}

async fn life(shared: &Shared) {
    let incarnation = here().incarnation;
    let mut identity = [0xd7; 32];
    identity[..4].copy_from_slice(&incarnation.to_le_bytes());
    let config = session::config(shared, identity, IP);
    let Some(mut peer) = Outsider::join(shared, config).await else {
        return;
    };
    // The three chains follow each other, one for each identity.
    let number = incarnation as usize % CHAINS.len();
    let other = Other::new(&shared.chain.genesis, number);
    peer.say(Command::SetStatus {
        status: other.status(shared, identity).encode(),
    });
    let mut latest: Option<Proposal> = None;
    let mut is_heard = false;
    // Each identity begins with another shape, because a ban may come after a few.
    let mut turn = incarnation as usize;
    let mut sends_at = time::now() + PAUSE;
    loop {
        let event = select! {
            event = peer.next() => event,
            () = time::sleep_until(sends_at) => {
                sends_at += PAUSE;
                if let Some(proposal) = latest.as_ref().filter(|_| is_heard) {
                    let shape = SHAPES[turn % SHAPES.len()];
                    turn += 1;
                    if let Some((topic, payload)) = other.message(proposal, shape) {
                        let forgery = Forgery {
                            name: name(CHAINS[number], shape.word()).into(),
                            tolerance: Tolerance::Refused,
                        };
                        shared.judge.look().forgeries.sent(&forgery, &payload);
                        peer.say(Command::Publish { topic, payload });
                    }
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(Event::PeerSubscribed { .. }) => is_heard = true,
            Some(Event::Gossip {
                id, topic, payload, ..
            }) => {
                let verdict = GossipVerdict::Ignore;
                peer.say(Command::Judge { id, verdict });
                if topic == Topic::Blocks
                    && let Ok(proposal) = Proposal::decode(&payload)
                {
                    latest = Some(proposal);
                }
            }
            Some(_) => {}
        }
    }
}

/// Another chain with the same authorities.
struct Other {
    chain: ChainId,
    nodes: u8,
}

impl Other {
    /// The chain `number` of [`CHAINS`].
    fn new(genesis: &Arc<Genesis>, number: usize) -> Self {
        let ours = genesis.chain_id();
        let spec = genesis.spec();
        let later = |evm_chain_id| {
            let spec = ChainSpec {
                evm_chain_id,
                start_slot: Slot(spec.start_slot.0 + 1),
                ..spec.clone()
            };
            let other = Genesis::new(spec).expect("the start of a good spec may be any slot");
            other.chain_id()
        };
        let chain = match CHAINS[number] {
            "genesis" => later(ours.evm),
            // A real chain of this kind has another genesis; this one tests the field alone.
            "evm-chain-id" => ChainId {
                evm: ours.evm + 1,
                ..ours
            },
            _ => later(ours.evm + 1),
        };
        let nodes = genesis.set().len() as u8;
        Self { chain, nodes }
    }

    fn sign(&self, target: VoteTarget, signer: u8) -> Vote {
        let signature: Signature = authority_key(signer).sign(&target.message(&self.chain).0);
        Vote {
            target,
            signer,
            signature,
        }
    }

    /// The certificate of all authorities.
    fn certificate(&self, target: VoteTarget) -> Option<Certificate> {
        let votes = (0..self.nodes).map(|signer| self.sign(target, signer).signature);
        let signatures: Vec<Signature> = votes.collect();
        let mut signers = Bitmap::empty(usize::from(self.nodes));
        (0..self.nodes).for_each(|signer| signers.set(signer));
        Some(Certificate {
            target,
            signers,
            signature: alys_types::bls::aggregate(&signatures).ok()?,
        })
    }

    fn certified(&self, header: &Header, kind: VoteKind) -> Option<CertifiedHeader> {
        Some(CertifiedHeader {
            header: header.clone(),
            certificate: self.certificate(target_of(kind, header))?,
        })
    }

    /// The header of this chain's block at the same place.
    fn header(&self, header: &Header) -> Header {
        Header {
            evm_chain_id: self.chain.evm,
            genesis_hash: self.chain.genesis,
            ..header.clone()
        }
    }

    fn message(&self, proposal: &Proposal, shape: Shape) -> Option<(Topic, Vec<u8>)> {
        let header = &proposal.block.header;
        let own = self.header(header);
        // One after the other, so that a quorum is complete after as many slots.
        let signer = (header.slot.0 % u64::from(self.nodes)) as u8;
        Some(match shape {
            Shape::Proposal | Shape::OwnProposal => {
                let mut block = proposal.block.clone();
                if shape == Shape::OwnProposal {
                    block.header = own;
                }
                let target = target_of(VoteKind::Proposal, &block.header);
                let vote = self.sign(target, header.proposer);
                (Topic::Blocks, Proposal { block, vote }.encode())
            }
            Shape::Approval => {
                let target = target_of(VoteKind::Approval, header);
                (Topic::Approvals, self.sign(target, signer).encode())
            }
            Shape::OwnApproval => {
                let target = target_of(VoteKind::Approval, &own);
                (Topic::Approvals, self.sign(target, signer).encode())
            }
            Shape::Confirmation => {
                let target = target_of(VoteKind::Confirmation, header);
                let confirmation = Confirmation {
                    vote: self.sign(target, signer),
                    certified: self.certified(header, VoteKind::Approval)?,
                };
                (Topic::Confirmations, confirmation.encode())
            }
            Shape::Finality => {
                let certified = self.certified(header, VoteKind::Confirmation)?;
                (Topic::Finality, certified.encode())
            }
            Shape::OwnFinality => {
                let certified = self.certified(&own, VoteKind::Confirmation)?;
                (Topic::Finality, certified.encode())
            }
        })
    }

    /// A status with a proof of an authority's key for this peer, made for the other chain.
    fn status(&self, shared: &Shared, identity: [u8; 32]) -> Status {
        let peer = NodeKey::from_bytes(identity).peer_id();
        let ours = &shared.chain.genesis;
        shared.judge.look().forgeries.impostor(peer.to_string());
        let authority = AuthorityProof::sign(&authority_key(0), &self.chain, &peer.to_bytes());
        Status {
            genesis: ours.hash(),
            fork_id: ours.fork_id(ours.header().height),
            head_height: ours.header().height,
            head: ours.hash(),
            highest: None,
            finalized: None,
            authority: Some(authority),
            slot: ours.header().slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alys_types::bls::SecretKey;
    use alys_types::{Address, Authority, Hash};

    use super::*;

    fn genesis() -> Arc<Genesis> {
        let authorities = (0..4).map(|index| {
            let key = SecretKey::derive(&[index + 1; 32]);
            Authority {
                public_key: key.public_key().to_bytes(),
                proof_of_possession: key.prove_possession(),
                fee_address: Address([index; 20]),
            }
        });
        let authorities = authorities.collect();
        let spec = ChainSpec::development(1, Slot(1), 1_000, Hash([9; 32]), authorities);
        Arc::new(Genesis::new(spec).expect("a good spec"))
    }

    #[test]
    fn each_other_chain_differs_in_what_its_name_says() {
        let genesis = genesis();
        let ours = genesis.chain_id();
        let differences = [(false, true), (true, false), (true, true)];
        for (number, (evm, other_genesis)) in differences.into_iter().enumerate() {
            let other = Other::new(&genesis, number).chain;
            let found = (other.evm != ours.evm, other.genesis != ours.genesis);
            assert_eq!(found, (evm, other_genesis), "{}", CHAINS[number]);
        }
    }

    #[test]
    fn replays_are_named_once() {
        let names: Vec<String> = catalogue().collect();
        let unique: BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), CHAINS.len() * SHAPES.len());
        assert_eq!(names.len(), unique.len());
    }
}
