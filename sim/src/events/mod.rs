//! The events of a run: their types, their record, and their printing.
//!
//! **Owns** [`RunEvent`] and the [`Recorder`]. **Guarantees** that recording and printing do not
//! change a run, and that a record stays within limits, so that its page does ([`crate::report`]).
//! **Never** judges a run; [`crate::invariants`] does.

mod announcement;
mod event;
mod messages;
mod node;
mod record;
mod recorder;
mod trace;

pub use announcement::{Announcement, FaultBegan, FaultCategory};
pub use event::RunEvent;
pub use messages::{Message, Window, parse_window};
pub use node::{Report, short};
pub use record::{Burst, LaneKind, Mark, MarkKind, Record};
pub use recorder::Recorder;
pub use trace::{Filter, print_events};
