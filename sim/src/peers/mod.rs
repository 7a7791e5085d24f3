//! Participants that do not follow the protocol: Byzantine authorities, and peers without a vote;
//! and the interceptor in front of every node, which carries out the conduct of the Byzantine ones.

pub mod byzantine;
pub mod certificate_flooder;
pub mod crowd;
pub mod duster;
pub mod flooder;
pub mod idler;
pub mod interceptor;
pub mod key_thief;
pub mod light_client;
pub mod mutator;
pub mod other_chain;
pub mod puppet;
pub mod session;
pub mod staller;
pub mod vanisher;
pub mod vote_flooder;
