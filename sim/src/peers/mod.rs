//! Participants that do not follow the protocol: Byzantine authorities, and peers without a vote.

pub mod byzantine;
pub mod flooder;
pub mod key_thief;
pub mod light_client;
pub mod session;
pub mod staller;
