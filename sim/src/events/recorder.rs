//! The recorder: turns the typed events of a run into its [`Record`].
//!
//! It receives every event of the world's sink and adds none: a run is the same with and without
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_actor_system::State;
use alys_runtime::sim::{Event, NodeId, World};
use alys_types::VoteKind;

use super::announcement::{Announcement, FaultBegan};
use super::event::{ClockChange, LinkChange, ProcessEnd, RunEvent};
use super::messages::Window;
use super::node::{BlockId, Report};
use super::record::{
    Burst, CHAIN, Lane, LaneKind, MAX_LANES, Mark, MarkKind, Record, Span, SpanKind, WORLD,
};
use crate::params::WorldPlan;

/// Longest pause between two disk operations of one burst, in microseconds.
const BURST_GAP_US: u64 = 5_000;
/// Most links that a mark names when many change at once.
const MAX_LINKS_NAMED: usize = 4;

/// Records a run. Clones share the record.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    /// `messages` is the window of which every message is kept.
    pub fn new(plan: &WorldPlan, messages: Option<Window>) -> Self {
        Self(Arc::new(Mutex::new(Recording::new(plan, messages))))
    }

    /// Records all further events of the world.
    pub fn attach(&self, world: World) {
        let start_ms = world.wall_ms(NodeId::WORLD);
        let mut recording = self.lock();
        recording.record.start_ms = start_ms;
        recording.record.first_slot = start_ms / recording.slot_ms;
        drop(recording);
        let recorder = self.clone();
        world.add_sink(Box::new(move |event: &Event<'_>| {
            recorder.lock().event(event);
        }));
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `read` with the record after the last event.
    pub fn finished<T>(&self, read: impl FnOnce(&Record) -> T) -> T {
        let mut recording = self.lock();
        recording.finish();
        read(&recording.record)
    }
}

/// Links that change in the same way at one moment.
#[derive(Debug)]
struct LinkGroup {
    at_us: u64,
    change: LinkChange,
    named: Vec<String>,
    count: usize,
}

/// The record with the state between events.
#[derive(Debug)]
struct Recording {
    record: Record,
    quorum: usize,
    slot_ms: u64,
    by_machine: BTreeMap<NodeId, u16>,
    by_name: BTreeMap<String, u16>,
    by_ip: BTreeMap<IpAddr, u16>,
    /// Open spans of processes, by lane.
    down: BTreeMap<u16, usize>,
    paused: BTreeMap<u16, usize>,
    /// Open spans of actors, by lane and path.
    actors_down: BTreeMap<(u16, String), usize>,
    /// Open spans of faults, by step of the plan.
    faults: BTreeMap<u32, Vec<usize>>,
    writing: BTreeMap<u16, Burst>,
    links: Option<LinkGroup>,
    signers: BTreeMap<(MarkKind, u32), BTreeSet<u16>>,
    /// Blocks with a mark on the lane of the chain.
    on_chain: BTreeSet<(MarkKind, u32)>,
}

impl Recording {
    fn new(plan: &WorldPlan, messages: Option<Window>) -> Self {
        Self {
            record: Record::new(messages),
            quorum: plan.quorum(),
            slot_ms: plan.slot_ms.max(1),
            by_machine: BTreeMap::from([(NodeId::WORLD, WORLD)]),
            by_name: BTreeMap::new(),
            by_ip: BTreeMap::new(),
            down: BTreeMap::new(),
            paused: BTreeMap::new(),
            actors_down: BTreeMap::new(),
            faults: BTreeMap::new(),
            writing: BTreeMap::new(),
            links: None,
            signers: BTreeMap::new(),
            on_chain: BTreeSet::new(),
        }
    }

    fn lane_of(&self, name: &str) -> u16 {
        self.by_name.get(name).copied().unwrap_or(WORLD)
    }

    fn lane_name(&self, lane: u16) -> &str {
        let lane = self.record.lanes.get(usize::from(lane));
        lane.map_or("", |lane| &lane.name)
    }

    fn event(&mut self, event: &Event<'_>) {
        let at_us = event.at.as_micros() as u64;
        let typed = RunEvent::decode(event);
        if !matches!(typed, RunEvent::Link { .. }) {
            self.mark_links();
        }
        if let RunEvent::ProcessStarted { name, ip, .. } = &typed {
            self.add_machine(event.node, name, *ip);
        }
        let lane = self.by_machine.get(&event.node).copied().unwrap_or(WORLD);
        let mark = |kind, text: String| Some((kind, text));
        let marked = match typed {
            RunEvent::Announced(announcement) => {
                self.announced(at_us, announcement);
                None
            }
            RunEvent::ProcessStarted { incarnation, .. } => {
                let down = self.down.remove(&lane);
                self.record.close(at_us, down);
                mark(MarkKind::Start, format!("incarnation {incarnation}"))
            }
            RunEvent::ProcessEnded(cause) => self.process_ended(at_us, lane, cause),
            RunEvent::StopRequested => mark(MarkKind::Stop, String::new()),
            RunEvent::Paused => {
                let span = Span::new(lane, at_us, SpanKind::Paused, "paused");
                let span = self.record.open(span);
                self.paused.extend(span.map(|span| (lane, span)));
                mark(MarkKind::Pause, "paused".to_owned())
            }
            RunEvent::Resumed => {
                let paused = self.paused.remove(&lane);
                self.record.close(at_us, paused);
                mark(MarkKind::Pause, "resumed".to_owned())
            }
            RunEvent::ActorState { path, state } => self.actor_state(at_us, lane, &path, state),
            RunEvent::Sent {
                bytes,
                connection,
                to,
            } => {
                if let Some(to) = self.other_lane(to, lane) {
                    let messages = &mut self.record.messages;
                    messages.sent(at_us, connection, (lane, to), bytes);
                }
                None
            }
            RunEvent::Received {
                bytes,
                connection,
                from,
            } => {
                if let Some(from) = self.other_lane(from, lane) {
                    let messages = &mut self.record.messages;
                    messages.received(at_us, connection, (from, lane), bytes);
                }
                None
            }
            RunEvent::ConnectionReset => mark(MarkKind::Connection, "was reset".to_owned()),
            RunEvent::ConnectionTimedOut => mark(MarkKind::Connection, "timed out".to_owned()),
            RunEvent::Link { change, between } => {
                self.link(at_us, change, between);
                None
            }
            RunEvent::Clock(change) => {
                clock_text(at_us, change).map(|text| (MarkKind::Clock, text))
            }
            RunEvent::DiskWrite { bytes } => {
                self.disk(at_us, lane, Some(bytes));
                None
            }
            RunEvent::DiskSync => {
                self.disk(at_us, lane, None);
                None
            }
            RunEvent::DiskFault { name, detail } => {
                let text = format!("{} {detail}", name.replace('_', " "));
                mark(MarkKind::Disk, text.trim_end().to_owned())
            }
            RunEvent::Buggify { point } => mark(MarkKind::Buggify, point),
            RunEvent::ActorLife { .. } | RunEvent::Other => None,
        };
        if let Some((kind, text)) = marked {
            self.record.mark(at_us, lane, kind, &text);
        }
    }

    fn other_lane(&self, ip: IpAddr, own: u16) -> Option<u16> {
        self.by_ip.get(&ip).copied().filter(|lane| *lane != own)
    }

    fn add_machine(&mut self, machine: NodeId, name: &str, ip: IpAddr) {
        if self.by_machine.contains_key(&machine) || self.record.lanes.len() >= MAX_LANES {
            return;
        }
        let lane = self.record.lanes.len() as u16;
        self.record.lanes.push(Lane::of_machine(name));
        self.by_machine.insert(machine, lane);
        self.by_name.insert(name.to_owned(), lane);
        self.by_ip.insert(ip, lane);
    }

    fn announced(&mut self, at_us: u64, announcement: Announcement) {
        let text = announcement.to_string();
        let lane = self.lane_of(announcement.machine().unwrap_or_default());
        match announcement {
            Announcement::Node { report, .. } => self.report(at_us, lane, &report),
            Announcement::FaultBegan(fault) => self.fault_began(at_us, fault),
            Announcement::FaultEnded { step, .. } => {
                let spans = self.faults.remove(&step).unwrap_or_default();
                self.close_all(at_us, spans);
            }
            Announcement::ActorStruck { .. } => {
                self.record.mark(at_us, lane, MarkKind::Strike, &text);
            }
            Announcement::DiskRestored { .. } => {
                self.record.mark(at_us, lane, MarkKind::Fault, &text);
            }
            Announcement::Exited { .. } => self.record.mark(at_us, lane, MarkKind::Exit, &text),
            Announcement::Healed { .. } => {
                self.record.mark(at_us, WORLD, MarkKind::Heal, &text);
                let open = std::mem::take(&mut self.faults);
                self.close_all(at_us, open.into_values().flatten());
            }
            Announcement::Reexecuted { .. } => {}
        }
    }

    fn close_all(&mut self, at_us: u64, spans: impl IntoIterator<Item = usize>) {
        for span in spans {
            self.record.close(at_us, Some(span));
        }
    }

    fn report(&mut self, at_us: u64, lane: u16, report: &Report) {
        let (kind, block) = match report {
            Report::Signed { kind, block } => match kind {
                VoteKind::Approval => (MarkKind::Approval, block),
                VoteKind::Confirmation => (MarkKind::Confirmation, block),
                // `Proposed` also has the number of transactions.
                VoteKind::Proposal => return,
            },
            Report::Proposed { block, .. } => (MarkKind::Proposal, block),
            Report::Head(block) => (MarkKind::Head, block),
            Report::Finalized(block) => (MarkKind::Final, block),
            // The vote itself follows; requests are too many for a page.
            Report::VotesFor { .. } | Report::Other(_) => return,
            Report::Peers { .. } => return self.mark_report(at_us, lane, MarkKind::Peers, report),
            Report::Evidence { .. } => {
                return self.mark_report(at_us, lane, MarkKind::Evidence, report);
            }
            Report::Banned { .. } | Report::Notice(_) => {
                return self.mark_report(at_us, lane, MarkKind::Notice, report);
            }
        };
        let text = match report {
            Report::Proposed { transactions, .. } => format!("{transactions} transactions"),
            _ => String::new(),
        };
        self.block(at_us, lane, kind, block, &text);
    }

    fn mark_report(&mut self, at_us: u64, lane: u16, kind: MarkKind, report: &Report) {
        self.record.mark(at_us, lane, kind, &report.to_string());
    }

    fn block(&mut self, at_us: u64, lane: u16, kind: MarkKind, block: &BlockId, text: &str) {
        let mark = Mark {
            at_us,
            lane,
            kind,
            height: block.height,
            slot: block.slot.saturating_sub(self.record.first_slot),
            hash: self.record.hash(&block.hash),
            text: self.record.text(text),
        };
        self.record.push(mark);
        self.mark_chain(mark);
    }

    /// Marks the vote that completes a quorum, the first proposal and the first finality.
    fn mark_chain(&mut self, mark: Mark) {
        // Twins sign with the key of a node and do not count.
        let lane = &self.record.lanes[usize::from(mark.lane)];
        if lane.kind != LaneKind::Node {
            return;
        }
        let (kind, needed) = match mark.kind {
            MarkKind::Approval => (MarkKind::Certified, self.quorum),
            MarkKind::Confirmation => (MarkKind::Confirmed, self.quorum),
            MarkKind::Final | MarkKind::Proposal => (mark.kind, 1),
            _ => return,
        };
        let signers = self.signers.entry((mark.kind, mark.hash)).or_default();
        signers.insert(mark.lane);
        if signers.len() < needed || !self.on_chain.insert((kind, mark.hash)) {
            return;
        }
        let node = self.lane_name(mark.lane);
        let text = match kind {
            MarkKind::Final => format!("first on {node}"),
            MarkKind::Proposal => format!("by {node}"),
            _ => format!("{needed} have signed, {node} as the last of them"),
        };
        let text = self.record.text(&text);
        self.record.push(Mark {
            lane: CHAIN,
            kind,
            text,
            ..mark
        });
    }

    fn process_ended(
        &mut self,
        at_us: u64,
        lane: u16,
        cause: ProcessEnd,
    ) -> Option<(MarkKind, String)> {
        let paused = self.paused.remove(&lane);
        self.record.close(at_us, paused);
        let actors = self.actors_down.extract_if(.., |(of, _), _| *of == lane);
        let spans: Vec<usize> = actors.map(|(_, span)| span).collect();
        self.close_all(at_us, spans);
        if !self.down.contains_key(&lane) {
            let down = self
                .record
                .open(Span::new(lane, at_us, SpanKind::Down, "down"));
            self.down.extend(down.map(|down| (lane, down)));
        }
        match cause {
            ProcessEnd::Killed => Some((MarkKind::Death, String::new())),
            ProcessEnd::PowerLost => Some((MarkKind::Death, "power loss".to_owned())),
            // `Announcement::Exited` follows with the reason.
            ProcessEnd::Exited => None,
        }
    }

    fn actor_state(
        &mut self,
        at_us: u64,
        lane: u16,
        path: &str,
        state: State,
    ) -> Option<(MarkKind, String)> {
        // The first segment of the path is the node.
        let path = path.split_once('/').map_or(path, |(_, path)| path);
        let key = (lane, path.to_owned());
        match state {
            State::Crashed | State::StartFailed | State::Failed => {
                if !self.actors_down.contains_key(&key) {
                    let span = Span::new(lane, at_us, SpanKind::ActorDown, path);
                    let span = self.record.open(span);
                    self.actors_down.extend(span.map(|span| (key, span)));
                }
                Some((MarkKind::ActorDown, format!("{path} {state}")))
            }
            State::Running => {
                let span = self.actors_down.remove(&key)?;
                self.record.close(at_us, Some(span));
                Some((MarkKind::ActorUp, path.to_owned()))
            }
            State::Uninitialized
            | State::Starting
            | State::Backoff
            | State::Restarting
            | State::Stopping
            | State::Stopped => None,
        }
    }

    fn fault_began(&mut self, at_us: u64, fault: FaultBegan) {
        let mut lanes: Vec<u16> = fault
            .machines
            .iter()
            .map(|name| self.lane_of(name))
            .collect();
        if lanes.is_empty() {
            lanes.push(WORLD);
        }
        lanes.sort_unstable();
        lanes.dedup();
        let words = format!("{} (planned for {})", fault.values, fault.planned);
        for lane in lanes {
            let span = self.record.open(Span {
                fault: fault.step,
                words: words.trim_start().to_owned(),
                to_us: fault.is_instant.then_some(at_us),
                category: Some(fault.category),
                ..Span::new(lane, at_us, SpanKind::Fault, &fault.name)
            });
            if !fault.is_instant {
                self.faults.entry(fault.step).or_default().extend(span);
            }
        }
    }

    /// Adds a write, or a sync without `written` bytes, to the burst of the machine.
    fn disk(&mut self, at_us: u64, lane: u16, written: Option<u64>) {
        let fresh = Burst {
            at_us,
            last_us: at_us,
            lane,
            writes: 0,
            syncs: 0,
            bytes: 0,
        };
        let burst = self.writing.entry(lane).or_insert(fresh);
        if at_us.saturating_sub(burst.last_us) > BURST_GAP_US {
            self.record.keep_burst(std::mem::replace(burst, fresh));
        }
        burst.last_us = at_us;
        burst.bytes += written.unwrap_or(0);
        if written.is_some() {
            burst.writes += 1;
        } else {
            burst.syncs += 1;
        }
    }

    fn link(&mut self, at_us: u64, change: LinkChange, between: [IpAddr; 2]) {
        let is_new = |links: &LinkGroup| links.at_us != at_us || links.change != change;
        if self.links.as_ref().is_some_and(is_new) {
            self.mark_links();
        }
        let [from, to] = between.map(|ip| match self.by_ip.get(&ip) {
            Some(lane) => self.lane_name(*lane).to_owned(),
            None => ip.to_string(),
        });
        let links = self.links.get_or_insert(LinkGroup {
            at_us,
            change,
            named: Vec::new(),
            count: 0,
        });
        links.count += 1;
        if links.named.len() < MAX_LINKS_NAMED {
            links.named.push(format!("{from} to {to}"));
        }
    }

    fn mark_links(&mut self) {
        let Some(links) = self.links.take() else {
            return;
        };
        let change = match links.change {
            LinkChange::Cut => "cut",
            LinkChange::Clogged => "clogged",
            LinkChange::Healed => "healed",
            LinkChange::Reset => "reset",
            LinkChange::HalfOpen => "half-open",
        };
        let mut text = format!("{change}: {}", links.named.join(", "));
        let more = links.count - links.named.len();
        if more > 0 {
            text.push_str(&format!(", and {more} more"));
        }
        self.record.mark(links.at_us, WORLD, MarkKind::Link, &text);
    }

    fn finish(&mut self) {
        self.mark_links();
        for burst in std::mem::take(&mut self.writing).into_values() {
            self.record.keep_burst(burst);
        }
        self.record.finish();
    }
}

/// `None` for changes without an effect: the recovery corrects every clock, also accurate ones.
fn clock_text(at_us: u64, change: ClockChange) -> Option<String> {
    let text = match change {
        ClockChange::StepMs(by) => format!("steps by {by:+} ms"),
        ClockChange::OffsetMs(0) | ClockChange::DriftPpm(0) => return None,
        ClockChange::OffsetMs(by) => format!("is off by {by:+} ms"),
        ClockChange::DriftPpm(by) => format!("drifts by {by:+} µs per second"),
    };
    // Plans set the clocks before the first event.
    (at_us > 0).then_some(text)
}
