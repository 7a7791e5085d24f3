//! The frameworks, one file each: messages, handler, and the operations of a scenario in their
//! terms.

pub mod actix;
pub mod alys;
pub mod kameo;
pub mod ractor;
pub mod raw;
