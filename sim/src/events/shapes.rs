//! What a record is made of: lanes, marks, spans, bursts.

/// The lane of the chain as a whole.
pub const CHAIN: u16 = 0;
/// The lane of what the world does.
pub const WORLD: u16 = 1;

/// What a lane shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneKind {
    /// Quorums and first finality.
    Chain,
    /// The world itself.
    World,
    /// A node.
    Node,
    /// An execution client.
    Client,
    /// Anything else that has a machine.
    Other,
}

impl LaneKind {
    /// The word in pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::World => "world",
            Self::Node => "node",
            Self::Client => "client",
            Self::Other => "other",
        }
    }
}

/// A lane of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The machine's name.
    pub name: String,
    /// What it is.
    pub kind: LaneKind,
    /// For nodes and their clients: the authority, from 1.
    pub node: Option<u8>,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $group:literal, $label:literal;)*) => {
        /// What a mark shows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[doc = $doc])* $kind,)* }

        impl Kind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The filter that it belongs to, and its words on pages.
            pub const fn words(self) -> (&'static str, &'static str) {
                match self { $(Self::$kind => ($group, $label),)* }
            }
        }
    };
}

kinds! {
    /// A leader proposes a block.
    Proposal = "proposals", "proposal";
    /// An approval is signed.
    Approval = "approvals", "approval";
    /// A confirmation is signed.
    Confirmation = "confirmations", "confirmation";
    /// A quorum has signed approvals of a block.
    Certified = "certificates", "quorum of approvals";
    /// A quorum has signed confirmations of a block.
    Confirmed = "certificates", "quorum of confirmations";
    /// A node calls a block final.
    Final = "finality", "final";
    /// A node's head moves.
    Head = "heads", "head";
    /// A node has another number of peers.
    Peers = "peers", "peers";
    /// A node says something for its operator.
    Notice = "notices", "notice";
    /// A node has evidence against an authority.
    Evidence = "notices", "evidence";
    /// A process starts.
    Start = "processes", "start";
    /// A process has ended by itself.
    Exit = "processes", "exit";
    /// A process is killed, or its power is taken.
    Death = "processes", "killed";
    /// A process is asked to stop.
    Stop = "processes", "asked to stop";
    /// A process stands still, or goes on.
    Pause = "processes", "pause";
    /// An actor went down.
    ActorDown = "actors", "actor down";
    /// An actor is back.
    ActorUp = "actors", "actor back";
    /// A fault hit an actor.
    Strike = "faults", "actor struck";
    /// Something about a fault, besides its beginning and its end.
    Fault = "faults", "fault";
    /// Everything heals.
    Heal = "faults", "everything heals";
    /// A wall clock changes.
    Clock = "clocks", "clock";
    /// A disk is damaged.
    Disk = "disks", "disk fault";
    /// Links break or heal.
    Link = "links", "links";
    /// A connection is lost.
    Connection = "links", "connection";
    /// The code took an unlikely turn on purpose.
    Buggify = "buggify", "buggify";
}

/// Something that happened at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Microseconds from the start.
    pub at_us: u64,
    /// Number of the lane.
    pub lane: u16,
    /// What.
    pub kind: Kind,
    /// Of the block, or 0.
    pub height: u64,
    /// Of the block, counted from the start as plans do, or 0.
    pub slot: u64,
    /// Number of the block's hash, from 1, or 0.
    pub hash: u32,
    /// Number of the text, from 1, or 0.
    pub text: u32,
}

/// What a span shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A fault that the plan has made.
    Fault,
    /// A process that does not run.
    Down,
    /// A process that stands still.
    Paused,
    /// An actor that is being made anew.
    Ailing,
}

impl SpanKind {
    /// The word in pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Down => "down",
            Self::Paused => "paused",
            Self::Ailing => "ailing",
        }
    }
}

/// Something that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Number of the lane.
    pub lane: u16,
    /// Microseconds from the start.
    pub from_us: u64,
    /// `None`: to the end of the run.
    pub to_us: Option<u64>,
    /// What.
    pub kind: SpanKind,
    /// Spans of one fault have one number, from 1; 0 for others.
    pub fault: u32,
    /// The fault's word, the actor's path.
    pub name: String,
    /// The fault's words.
    pub words: String,
}

/// Disk operations of a machine, close together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// Microseconds from the start.
    pub at_us: u64,
    /// Of the last operation.
    pub last_us: u64,
    /// Number of the lane.
    pub lane: u16,
    /// Operations that are no syncs.
    pub writes: u32,
    /// Syncs.
    pub syncs: u32,
    /// Bytes written.
    pub bytes: u64,
}

/// Which messages are all kept, in microseconds; of the rest there is a sample, and the end of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// From this moment.
    pub from_us: u64,
    /// To this one, excluded.
    pub to_us: u64,
}
