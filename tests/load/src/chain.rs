//! The chain of the validators, as a peer without a vote knows it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use alys_net::{ChainTag, Command, Config, Handle, NodeKey, PeerAddr};
use alys_node::genesis::{CHAIN_FILE, ChainFiles, EXECUTION_FILE};
use alys_runtime::{clock, rand};
use alys_types::wire::Status;
use alys_types::{Genesis, Height, Slot};
use anyhow::Result;

use crate::loads::Targets;

/// The chain, and the addresses of its validators.
#[derive(Debug, Clone)]
pub struct Chain {
    pub genesis: Arc<Genesis>,
    validators: Vec<PeerAddr>,
}

impl Chain {
    /// Reads the files of the chain.
    ///
    /// # Errors
    /// When they are missing or malformed.
    pub fn load(targets: &Targets) -> Result<Chain> {
        let spec = targets.chain.join(CHAIN_FILE);
        let files = ChainFiles::load(&spec, &targets.chain.join(EXECUTION_FILE))?;
        Ok(Chain::new(files.genesis, &targets.peers))
    }

    /// `ports` are those of the validators on this machine.
    pub fn new(genesis: Arc<Genesis>, ports: &[u16]) -> Chain {
        let validators = ports.iter().map(|port| PeerAddr {
            socket: SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
            peer: None,
        });
        Chain {
            genesis,
            validators: validators.collect(),
        }
    }

    /// The number of validators.
    pub fn validators(&self) -> usize {
        self.validators.len()
    }

    /// The network service of a peer that connects to all validators.
    pub fn config(&self, identity: NodeKey) -> Config {
        let tag = ChainTag {
            genesis: self.genesis.hash().0,
        };
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Config::new(identity, tag, any_port, self.validators.clone())
    }

    /// The current slot.
    pub fn slot(&self) -> Slot {
        Slot::at(clock::wall_ms(), self.genesis.spec().slot_duration_ms)
    }

    /// A status that claims nothing but genesis.
    pub fn status(&self) -> Status {
        let genesis = &self.genesis;
        Status {
            genesis: genesis.hash(),
            fork_id: genesis.fork_id(Height(0)),
            head_height: Height(0),
            head: genesis.hash(),
            highest: None,
            finalized: None,
            authority: None,
            slot: self.slot(),
        }
    }
}

/// A new identity.
pub fn new_identity() -> NodeKey {
    let mut secret = [0; 32];
    rand::fill(&mut secret);
    NodeKey::from_bytes(secret)
}

/// Sends a command; a full queue drops it.
pub fn say(handle: &Handle, command: Command) {
    let _ = handle.try_send(command);
}

#[cfg(test)]
pub mod tests {
    use alys_node::genesis::NewChain;
    use alys_node::keys::PublicAuthority;
    use alys_types::FaultModel;
    use alys_types::bls::SecretKey;
    use alys_types::spec::BitcoinSpec;

    use super::*;

    /// The key of an authority of [`chain`].
    pub fn authority_key(index: u8) -> SecretKey {
        SecretKey::derive(&[index + 1; 32])
    }

    /// A chain with four authorities.
    pub fn chain() -> Chain {
        let authority = |index| PublicAuthority::of(&authority_key(index), None).complete();
        let new = NewChain {
            chain_id: 7,
            start_slot: Slot(1_000_000_000),
            slot_duration_ms: 1000,
            fault_model: FaultModel::Byzantine,
            authorities: (0..4).map(authority).collect(),
            governance: Default::default(),
            fork: Default::default(),
            bitcoin: BitcoinSpec::regtest(),
            funded: Vec::new(),
        };
        let (files, _) = ChainFiles::new(&new).expect("a good chain");
        Chain::new(files.genesis, &[1, 2, 3, 4])
    }
}
