//! The record of a run: lanes of machines with marks, spans and disk bursts, within limits.

use std::collections::BTreeMap;

use serde::Serialize;

use super::announcement::FaultCategory;
use super::messages::{Messages, Window};
use crate::params::MachineRole;

/// Most marks of a page. Fifteen nodes make 40,000 of them in ten minutes.
pub const MAX_MARKS: usize = 110_000;
/// Most spans: faults, and the downtime of processes and actors.
const MAX_SPANS: usize = 8_000;
/// Most bursts of disk operations.
const MAX_BURSTS: usize = 40_000;
/// Most bytes of all texts together.
const MAX_TEXT_BYTES: usize = 600_000;
/// Longest text, in bytes.
const MAX_TEXT: usize = 400;
/// Most machines.
pub const MAX_LANES: usize = 64;

/// The lane of the chain as a whole.
pub const CHAIN: u16 = 0;
/// The lane of the simulated world.
pub const WORLD: u16 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneKind {
    /// Quorums and first finality.
    Chain,
    World,
    Node,
    /// An execution client.
    Execution,
    /// Any other machine.
    Other,
}

impl From<MachineRole> for LaneKind {
    fn from(role: MachineRole) -> Self {
        match role {
            MachineRole::Node => Self::Node,
            MachineRole::Execution => Self::Execution,
        }
    }
}

/// A row of the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// The machine's name.
    pub name: String,
    pub kind: LaneKind,
    /// The authority, from 1, of nodes and execution clients.
    pub node: Option<u8>,
}

impl Lane {
    /// The lane of a machine. Its name has its role: `node3`, `execution3`.
    pub fn of_machine(name: &str) -> Self {
        let of_role = |role: MachineRole| {
            let node = name.strip_prefix(role.word())?.parse::<u8>().ok()?;
            Some((LaneKind::from(role), Some(node)))
        };
        let mut roles = MachineRole::ALL.into_iter();
        let (kind, node) = roles.find_map(of_role).unwrap_or((LaneKind::Other, None));
        let name = name.to_owned();
        Self { name, kind, node }
    }
}

/// The kinds of marks; pages number them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum MarkKind {
    /// A leader proposes a block.
    Proposal,
    /// An approval is signed.
    Approval,
    /// A confirmation is signed.
    Confirmation,
    /// A quorum has signed approvals of a block.
    Certified,
    /// A quorum has signed confirmations of a block.
    Confirmed,
    /// A block is final.
    Final,
    /// A node's execution head moves.
    Head,
    /// A node's number of peers changes.
    Peers,
    /// A node's message for its operator.
    Notice,
    /// A node has evidence against an authority.
    Evidence,
    /// A process starts.
    Start,
    /// A process has ended by itself.
    Exit,
    /// A process is killed, or its machine loses power.
    Death,
    /// A process is asked to stop.
    Stop,
    /// A process is paused or resumed.
    Pause,
    ActorDown,
    ActorUp,
    /// A fault hits an actor.
    Strike,
    /// Any other event of a fault.
    Fault,
    /// The end of the chaos.
    Heal,
    /// A wall clock changes.
    Clock,
    /// A disk is damaged.
    Disk,
    /// Links break or heal.
    Link,
    /// A connection is lost.
    Connection,
    /// The code took an unlikely turn on purpose.
    Buggify,
}

impl MarkKind {
    /// Every kind with the filter that it belongs to and its label, in the order of the numbers.
    pub const ALL: [(Self, &'static str, &'static str); 25] = [
        (Self::Proposal, "proposals", "proposal"),
        (Self::Approval, "approvals", "approval"),
        (Self::Confirmation, "confirmations", "confirmation"),
        (Self::Certified, "certificates", "quorum of approvals"),
        (Self::Confirmed, "certificates", "quorum of confirmations"),
        (Self::Final, "finality", "final"),
        (Self::Head, "heads", "head"),
        (Self::Peers, "peers", "peers"),
        (Self::Notice, "notices", "notice"),
        (Self::Evidence, "notices", "evidence"),
        (Self::Start, "processes", "start"),
        (Self::Exit, "processes", "exit"),
        (Self::Death, "processes", "killed"),
        (Self::Stop, "processes", "asked to stop"),
        (Self::Pause, "processes", "pause"),
        (Self::ActorDown, "actors", "actor down"),
        (Self::ActorUp, "actors", "actor running"),
        (Self::Strike, "faults", "actor struck"),
        (Self::Fault, "faults", "fault"),
        (Self::Heal, "faults", "recovery"),
        (Self::Clock, "clocks", "clock"),
        (Self::Disk, "disks", "disk fault"),
        (Self::Link, "links", "links"),
        (Self::Connection, "links", "connection"),
        (Self::Buggify, "buggify", "buggify"),
    ];
}

/// An event at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Microseconds from the start.
    pub at_us: u64,
    /// Number of the lane.
    pub lane: u16,
    pub kind: MarkKind,
    /// Height of the block, or 0.
    pub height: u64,
    /// Slot of the block from the start of the run, as plans count, or 0.
    pub slot: u64,
    /// Number of the block's hash, from 1, or 0.
    pub hash: u32,
    /// Number of the text, from 1, or 0.
    pub text: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// A fault of the plan.
    Fault,
    /// A process does not run.
    Down,
    /// A process is paused.
    Paused,
    /// An actor has failed and does not run yet.
    ActorDown,
}

/// A state with a duration, in the form of the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Number of the lane.
    #[serde(rename = "l")]
    pub lane: u16,
    /// Microseconds from the start.
    #[serde(rename = "a")]
    pub from_us: u64,
    /// `None`: to the end of the run.
    #[serde(rename = "b")]
    pub to_us: Option<u64>,
    pub kind: SpanKind,
    /// The plan's step, from 1, which several lanes share; 0 for other kinds.
    pub fault: u32,
    /// The fault's word or the actor's path.
    pub name: String,
    /// The fault's values.
    pub words: String,
    /// The category of a fault; `None` for other kinds.
    pub category: Option<FaultCategory>,
}

impl Span {
    pub fn new(lane: u16, from_us: u64, kind: SpanKind, name: &str) -> Self {
        Self {
            lane,
            from_us,
            to_us: None,
            kind,
            fault: 0,
            name: name.to_owned(),
            words: String::new(),
            category: None,
        }
    }
}

/// Disk operations of a machine in close succession.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// Microseconds from the start.
    pub at_us: u64,
    /// Time of the last operation.
    pub last_us: u64,
    /// Number of the lane.
    pub lane: u16,
    /// Operations other than syncs.
    pub writes: u32,
    pub syncs: u32,
    /// Bytes written.
    pub bytes: u64,
}

/// Texts by number, from 1; 0 is no text.
#[derive(Debug, Default)]
pub struct Numbered {
    texts: Vec<String>,
    numbers: BTreeMap<String, u32>,
    bytes: usize,
}

impl Numbered {
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The number of a text; `None` when there is no room for it.
    fn number(&mut self, text: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(text) {
            return Some(*number);
        }
        if self.bytes + text.len() > MAX_TEXT_BYTES || self.texts.len() >= MAX_MARKS {
            return None;
        }
        self.bytes += text.len();
        self.texts.push(text.to_owned());
        let number = self.texts.len() as u32;
        self.numbers.insert(text.to_owned(), number);
        Some(number)
    }
}

/// The recorded run.
#[derive(Debug)]
pub struct Record {
    /// True wall clock at the start, in milliseconds since the Unix epoch.
    pub start_ms: u64,
    /// The slot in which the run starts: slot 0 of plans.
    pub first_slot: u64,
    pub lanes: Vec<Lane>,
    /// Sorted by time.
    pub marks: Vec<Mark>,
    /// Sorted by start.
    pub spans: Vec<Span>,
    /// Sorted by start.
    pub bursts: Vec<Burst>,
    pub messages: Messages,
    pub texts: Numbered,
    pub hashes: Numbered,
    /// Counts of items beyond the limits.
    pub left_out: BTreeMap<&'static str, u64>,
}

impl Record {
    pub fn new(messages: Option<Window>) -> Self {
        let lane = |name: &str, kind| Lane {
            name: name.to_owned(),
            kind,
            node: None,
        };
        Self {
            start_ms: 0,
            first_slot: 0,
            lanes: vec![
                lane("chain", LaneKind::Chain),
                lane("world", LaneKind::World),
            ],
            marks: Vec::new(),
            spans: Vec::new(),
            bursts: Vec::new(),
            messages: Messages::new(messages),
            texts: Numbered::default(),
            hashes: Numbered::default(),
            left_out: BTreeMap::new(),
        }
    }

    fn leave_out(&mut self, what: &'static str) {
        *self.left_out.entry(what).or_default() += 1;
    }

    /// The number of a text, which is cut to [`MAX_TEXT`].
    pub fn text(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let cut = &text[..text.floor_char_boundary(MAX_TEXT)];
        let number = self.texts.number(cut);
        number.unwrap_or_else(|| {
            self.leave_out("texts");
            0
        })
    }

    pub fn hash(&mut self, hash: &str) -> u32 {
        let number = self.hashes.number(hash);
        number.unwrap_or_else(|| {
            self.leave_out("hashes");
            0
        })
    }

    /// Adds a mark without a block.
    pub fn mark(&mut self, at_us: u64, lane: u16, kind: MarkKind, text: &str) {
        let text = self.text(text);
        self.push(Mark {
            at_us,
            lane,
            kind,
            height: 0,
            slot: 0,
            hash: 0,
            text,
        });
    }

    pub fn push(&mut self, mark: Mark) {
        if self.marks.len() < MAX_MARKS {
            self.marks.push(mark);
        } else {
            self.leave_out("marks");
        }
    }

    /// Adds a span. Returns its place for [`Self::close`].
    pub fn open(&mut self, span: Span) -> Option<usize> {
        if self.spans.len() >= MAX_SPANS {
            self.leave_out("spans");
            return None;
        }
        self.spans.push(span);
        Some(self.spans.len() - 1)
    }

    pub fn close(&mut self, at_us: u64, span: Option<usize>) {
        if let Some(span) = span.and_then(|at| self.spans.get_mut(at)) {
            span.to_us = Some(at_us);
        }
    }

    pub fn keep_burst(&mut self, burst: Burst) {
        if self.bursts.len() < MAX_BURSTS {
            self.bursts.push(burst);
        } else {
            self.leave_out("disk bursts");
        }
    }

    /// Sorts the record after the last event.
    pub fn finish(&mut self) {
        self.bursts.sort_by_key(|burst| (burst.at_us, burst.lane));
        self.marks.sort_by_key(|mark| mark.at_us);
        self.messages.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed_in_the_order_of_their_numbers() {
        for (number, (kind, ..)) in MarkKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number, "{kind:?}");
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut record = Record::new(None);
        let number = record.text(&"é".repeat(MAX_TEXT));
        assert_eq!(record.texts.texts()[number as usize - 1].len(), MAX_TEXT);
        assert_eq!(record.text(""), 0);
        assert_eq!(record.lanes.len(), 2);
    }

    #[test]
    fn machines_are_of_their_authorities() {
        let lane = Lane::of_machine("execution12");
        assert_eq!((lane.kind, lane.node), (LaneKind::Execution, Some(12)));
        assert_eq!(Lane::of_machine("nodes").kind, LaneKind::Other);
    }
}
