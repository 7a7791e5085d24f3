//! Participants that do not follow the protocol: Byzantine authorities, and peers without a vote;
//! and the interceptor in front of every node, which carries out the conduct of the Byzantine ones.

pub mod byzantine;
pub mod certificate_flooder;
pub mod crowd;
pub mod duster;
pub mod flooder;
pub mod hang_up;
pub mod idler;
pub mod interceptor;
pub mod key_thief;
pub mod light_client;
pub mod mutator;
pub mod old_finality;
pub mod other_chain;
pub mod puppet;
pub mod session;
pub mod staller;
pub mod vanisher;
pub mod vote_flooder;

use alys_runtime::sim::World;

use crate::cluster::Shared;
use crate::params::{Stranger, WorldPlan};

/// Adds the machines of an attack by strangers.
pub fn add_stranger(world: World, plan: &WorldPlan, shared: &Shared, stranger: Stranger) {
    match stranger {
        Stranger::Idle => idler::add(world, shared),
        Stranger::Dust => duster::add(world, shared),
        Stranger::Vanish => vanisher::add(world, shared),
        Stranger::Certificates => certificate_flooder::add(world, shared),
        Stranger::Forgeries => {
            let mutator = mutator::shared(world, plan, &shared.chain, &shared.judge, None);
            puppet::add(world, shared, mutator, None);
        }
        Stranger::OtherChain => other_chain::add(world, shared),
        Stranger::Votes => {
            if let Some(number) = plan.forger {
                vote_flooder::add(world, shared, number.saturating_sub(1));
            }
        }
        Stranger::HangUp => hang_up::add(world, shared),
        Stranger::OldFinality => old_finality::add(world, shared),
    }
}
