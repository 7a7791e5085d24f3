//! The recorder: what of a run's events a page shows, as typed records within limits.
//!
//! It hears every event of the world's sink and never speaks: a run is the same with and without it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_runtime::sim::{Event, NodeId};

use super::messages::Messages;
use super::shapes::{Burst, CHAIN, Kind, Lane, LaneKind, Mark, Span, SpanKind, WORLD, Window};
use super::words::{self, Said, Told};
use crate::params::WorldPlan;

/// Most marks of a page. Fifteen nodes make 40,000 of them in ten minutes.
pub const MAX_MARKS: usize = 110_000;
/// Most spans: faults, times in which a process or an actor is away.
pub const MAX_SPANS: usize = 8_000;
/// Most bursts of disk operations.
pub const MAX_BURSTS: usize = 40_000;
/// Most bytes of all texts together.
pub const MAX_TEXT_BYTES: usize = 600_000;
/// Longest text, in bytes.
pub const MAX_TEXT: usize = 400;
/// Most machines.
pub const MAX_LANES: usize = 64;
/// Disk operations of a machine with less than so many microseconds between them are one burst.
const BURST_GAP_US: u64 = 5_000;
/// Links that are named when many break at once.
const LINKS_NAMED: usize = 4;

/// The recorder. Clones are the same.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    /// A recorder that has heard nothing.
    pub fn new(plan: &WorldPlan, messages: Option<Window>) -> Self {
        Self(Arc::new(Mutex::new(Record::new(plan, messages))))
    }

    /// The run begins at this moment of the true wall clock, in milliseconds since the Unix epoch.
    pub fn begin(&self, start_ms: u64) {
        let mut record = self.look();
        record.start_ms = start_ms;
        record.first_slot = start_ms / record.slot_ms;
    }

    /// Something has happened.
    pub fn event(&self, event: &Event<'_>) {
        self.look().event(event);
    }

    /// What has been heard.
    pub fn look(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Links that break or heal at one moment.
#[derive(Debug)]
struct Links {
    at_us: u64,
    kind: &'static str,
    named: Vec<String>,
    count: usize,
}

/// What has been heard.
#[derive(Debug)]
pub struct Record {
    quorum: usize,
    slot_ms: u64,
    /// True wall clock at the start, in milliseconds since the Unix epoch.
    pub start_ms: u64,
    /// The slot in which the run starts: slot 0 of plans.
    pub first_slot: u64,
    /// The lanes, by number.
    pub lanes: Vec<Lane>,
    by_machine: BTreeMap<NodeId, u16>,
    by_name: BTreeMap<String, u16>,
    by_ip: BTreeMap<IpAddr, u16>,
    /// In the order of time.
    pub marks: Vec<Mark>,
    /// By their beginning.
    pub spans: Vec<Span>,
    /// By their end.
    pub bursts: Vec<Burst>,
    /// See [`Messages`].
    pub messages: Messages,
    /// Numbered from 1.
    pub texts: Vec<String>,
    text_numbers: BTreeMap<String, u32>,
    text_bytes: usize,
    /// Numbered from 1.
    pub hashes: Vec<String>,
    hash_numbers: BTreeMap<String, u32>,
    /// What was left out, because there was no room.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Where a span is that is not over: process, or actor, or fault.
    down: BTreeMap<u16, usize>,
    paused: BTreeMap<u16, usize>,
    ailing: BTreeMap<(u16, String), usize>,
    faults: BTreeMap<String, VecDeque<Vec<usize>>>,
    next_fault: u32,
    writing: BTreeMap<u16, Burst>,
    links: Option<Links>,
    /// Who signed for a block; blocks that a quorum signed for, or that are final somewhere, are told of once.
    signers: BTreeMap<(Kind, u32), BTreeSet<u16>>,
    told: BTreeSet<(Kind, u32)>,
}

impl Record {
    fn new(plan: &WorldPlan, messages: Option<Window>) -> Self {
        let lane = |name: &str, kind| Lane {
            name: name.to_owned(),
            kind,
            node: None,
        };
        Self {
            quorum: plan.quorum(),
            slot_ms: plan.slot_ms.max(1),
            start_ms: 0,
            first_slot: 0,
            lanes: vec![
                lane("chain", LaneKind::Chain),
                lane("world", LaneKind::World),
            ],
            by_machine: BTreeMap::from([(NodeId::WORLD, WORLD)]),
            by_name: BTreeMap::new(),
            by_ip: BTreeMap::new(),
            marks: Vec::new(),
            spans: Vec::new(),
            bursts: Vec::new(),
            messages: Messages::new(messages),
            texts: Vec::new(),
            text_numbers: BTreeMap::new(),
            text_bytes: 0,
            hashes: Vec::new(),
            hash_numbers: BTreeMap::new(),
            left_out: BTreeMap::new(),
            down: BTreeMap::new(),
            paused: BTreeMap::new(),
            ailing: BTreeMap::new(),
            faults: BTreeMap::new(),
            next_fault: 1,
            writing: BTreeMap::new(),
            links: None,
            signers: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    fn leave_out(&mut self, what: &'static str) {
        *self.left_out.entry(what).or_default() += 1;
    }

    fn text(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let mut end = text.len().min(MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = &text[..end];
        if let Some(number) = self.text_numbers.get(text) {
            return *number;
        }
        if self.text_bytes + text.len() > MAX_TEXT_BYTES {
            self.leave_out("texts");
            return 0;
        }
        self.text_bytes += text.len();
        self.texts.push(text.to_owned());
        let number = self.texts.len() as u32;
        self.text_numbers.insert(text.to_owned(), number);
        number
    }

    fn hash(&mut self, hash: &str) -> u32 {
        if let Some(number) = self.hash_numbers.get(hash) {
            return *number;
        }
        if self.hashes.len() >= MAX_MARKS {
            self.leave_out("hashes");
            return 0;
        }
        self.hashes.push(hash.to_owned());
        let number = self.hashes.len() as u32;
        self.hash_numbers.insert(hash.to_owned(), number);
        number
    }

    fn mark(&mut self, at_us: u64, lane: u16, kind: Kind, text: &str) {
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

    fn push(&mut self, mark: Mark) {
        match self.marks.len() < MAX_MARKS {
            true => self.marks.push(mark),
            false => self.leave_out("marks"),
        }
    }

    fn open(&mut self, span: Span) -> Option<usize> {
        if self.spans.len() >= MAX_SPANS {
            self.leave_out("spans");
            return None;
        }
        self.spans.push(span);
        Some(self.spans.len() - 1)
    }

    fn close(&mut self, at_us: u64, span: Option<usize>) {
        if let Some(span) = span.and_then(|number| self.spans.get_mut(number)) {
            span.to_us = Some(at_us);
        }
    }

    fn lane(&self, machine: NodeId) -> u16 {
        self.by_machine.get(&machine).copied().unwrap_or(WORLD)
    }

    fn lane_of_node(&self, number: u8) -> u16 {
        self.by_name
            .get(&format!("node{number}"))
            .copied()
            .unwrap_or(WORLD)
    }

    fn add_machine(&mut self, machine: NodeId, name: &str, ip: Option<IpAddr>) {
        if self.by_machine.contains_key(&machine) || self.lanes.len() >= MAX_LANES {
            return;
        }
        let number = |prefix: &str| {
            name.strip_prefix(prefix)
                .and_then(|number| number.parse::<u8>().ok())
        };
        let (kind, node) = match (number("node"), number("client")) {
            (Some(node), _) => (LaneKind::Node, Some(node)),
            (_, Some(node)) => (LaneKind::Client, Some(node)),
            _ => (LaneKind::Other, None),
        };
        let lane = self.lanes.len() as u16;
        self.lanes.push(Lane {
            name: name.to_owned(),
            kind,
            node,
        });
        self.by_machine.insert(machine, lane);
        self.by_name.insert(name.to_owned(), lane);
        self.by_ip.extend(ip.map(|ip| (ip, lane)));
    }

    fn event(&mut self, event: &Event<'_>) {
        let at_us = event.at.as_micros() as u64;
        let (kind, detail) = (event.kind, event.detail.as_str());
        if !kind.starts_with("link.") {
            self.tell_links();
        }
        match kind {
            "said" => self.said(at_us, detail),
            "net.send" => self.sent(at_us, event),
            "net.receive" => self.received(at_us, event),
            "net.was_reset" | "net.timed_out" => {
                let (lane, text) = (
                    self.lane(event.node),
                    kind.trim_start_matches("net.").replace('_', " "),
                );
                self.mark(at_us, lane, Kind::Connection, &format!("{detail} {text}"));
            }
            "net.banned" => {
                let lane = self.lane(event.node);
                self.mark(at_us, lane, Kind::Connection, "bans a peer");
            }
            "actor.state" => self.actor(at_us, event),
            "exit" => {
                let (name, reason) = detail.split_once(": ").unwrap_or((detail, ""));
                let lane = self.by_name.get(name).copied().unwrap_or(WORLD);
                self.mark(
                    at_us,
                    lane,
                    Kind::Exit,
                    &format!("the process ended: {reason}"),
                );
            }
            "heal" => self.heal(at_us, detail),
            _ => match kind.split_once('.') {
                Some(("node", what)) => self.process(at_us, event, what),
                Some(("fault", what)) => self.fault(at_us, event.node, what, detail),
                Some(("clock", what)) => self.clock(at_us, event.node, what, detail),
                Some(("disk", what)) => self.disk(at_us, event, what),
                Some(("link", _)) => self.link(at_us, kind, detail),
                Some(("buggify", what)) => {
                    let lane = self.lane(event.node);
                    self.mark(at_us, lane, Kind::Buggify, &format!("{what} {detail}"));
                }
                None if kind == "buggify" => {
                    let (lane, payload) = (
                        self.lane(event.node),
                        String::from_utf8_lossy(event.payload),
                    );
                    let text = if detail.is_empty() { &payload } else { detail };
                    self.mark(at_us, lane, Kind::Buggify, text);
                }
                _ => {}
            },
        }
    }

    fn process(&mut self, at_us: u64, event: &Event<'_>, what: &str) {
        if what == "start" {
            let mut words = event.detail.split(' ');
            let name = words.next().unwrap_or_default();
            self.add_machine(
                event.node,
                name,
                words.next().and_then(|ip| ip.parse().ok()),
            );
        }
        let lane = self.lane(event.node);
        let ended = ["kill", "power_off", "exit"].contains(&what);
        match what {
            "start" => {
                let down = self.down.remove(&lane);
                self.close(at_us, down);
                let life = event.detail.rsplit(' ').next().unwrap_or_default();
                self.mark(at_us, lane, Kind::Start, &format!("starts, life {life}"));
            }
            "kill" => self.mark(at_us, lane, Kind::Death, "is killed"),
            "power_off" => self.mark(at_us, lane, Kind::Death, "loses its power"),
            // The reason comes with the event `exit`.
            "exit" => {}
            "stop" => self.mark(at_us, lane, Kind::Stop, "is asked to stop"),
            "pause" => {
                self.mark(at_us, lane, Kind::Pause, "stands still");
                let span = self.open(span(lane, at_us, SpanKind::Paused, "paused"));
                self.paused.extend(span.map(|span| (lane, span)));
            }
            "resume" => {
                self.mark(at_us, lane, Kind::Pause, "goes on");
                let paused = self.paused.remove(&lane);
                self.close(at_us, paused);
            }
            other => self.mark(at_us, lane, Kind::Stop, other),
        }
        if ended {
            let paused = self.paused.remove(&lane);
            self.close(at_us, paused);
            let actors: Vec<_> = self
                .ailing
                .keys()
                .filter(|(of, _)| *of == lane)
                .cloned()
                .collect();
            for actor in actors {
                let ailing = self.ailing.remove(&actor);
                self.close(at_us, ailing);
            }
            if !self.down.contains_key(&lane) {
                let down = self.open(span(lane, at_us, SpanKind::Down, "down"));
                self.down.extend(down.map(|down| (lane, down)));
            }
        }
    }

    fn said(&mut self, at_us: u64, detail: &str) {
        let Some((number, said)) = words::said(detail) else {
            return;
        };
        let lane = self.lane_of_node(number);
        match said {
            Said::Block {
                kind,
                height,
                slot,
                hash,
                text,
            } => {
                let (hash, text) = (self.hash(hash), self.text(text));
                let slot = slot.saturating_sub(self.first_slot);
                let mark = Mark {
                    at_us,
                    lane,
                    kind,
                    height,
                    slot,
                    hash,
                    text,
                };
                self.push(mark);
                self.count_votes(mark);
            }
            Said::Peers => self.mark(at_us, lane, Kind::Peers, words::plain(detail)),
            Said::Evidence => self.mark(at_us, lane, Kind::Evidence, words::plain(detail)),
            Said::Notice => self.mark(at_us, lane, Kind::Notice, words::plain(detail)),
        }
    }

    /// Whether this vote is the one that makes a quorum, or this finality the first.
    fn count_votes(&mut self, mark: Mark) {
        let made = match mark.kind {
            Kind::Approval => Kind::Certified,
            Kind::Confirmation => Kind::Confirmed,
            Kind::Final | Kind::Proposal => mark.kind,
            _ => return,
        };
        let needed = if made == mark.kind { 1 } else { self.quorum };
        let signers = self.signers.entry((mark.kind, mark.hash)).or_default();
        signers.insert(mark.lane);
        if signers.len() >= needed && self.told.insert((made, mark.hash)) {
            let by = self
                .lanes
                .get(usize::from(mark.lane))
                .map_or(String::new(), |lane| lane.name.clone());
            let text = match made {
                Kind::Certified | Kind::Confirmed => {
                    format!("{needed} have signed, {by} as the last of them")
                }
                Kind::Final => format!("first on {by}"),
                _ => format!("by {by}"),
            };
            let text = self.text(&text);
            self.push(Mark {
                lane: CHAIN,
                kind: made,
                text,
                ..mark
            });
        }
    }

    fn actor(&mut self, at_us: u64, event: &Event<'_>) {
        let payload = String::from_utf8_lossy(event.payload);
        let Some((path, state)) = payload.split_once('\0') else {
            return;
        };
        let lane = self.lane(event.node);
        // The first word of the path is the node.
        let path = path.split_once('/').map_or(path, |(_, path)| path);
        let key = (lane, path.to_owned());
        match state {
            "crashed" | "start_failed" | "failed" => {
                self.mark(at_us, lane, Kind::ActorDown, &format!("{path} {state}"));
                if !self.ailing.contains_key(&key) {
                    let ailing = self.open(span(lane, at_us, SpanKind::Ailing, path));
                    self.ailing.extend(ailing.map(|ailing| (key, ailing)));
                }
            }
            "running" => {
                if let Some(ailing) = self.ailing.remove(&key) {
                    self.close(at_us, Some(ailing));
                    self.mark(at_us, lane, Kind::ActorUp, &format!("{path} runs again"));
                }
            }
            _ => {}
        }
    }

    fn fault(&mut self, at_us: u64, machine: NodeId, what: &str, detail: &str) {
        match what {
            "begins" => {
                let told = words::fault(detail);
                let spans = self.fault_lanes(&told).into_iter().filter_map(|lane| {
                    let Told { name, words, .. } = &told;
                    self.open(Span {
                        fault: self.next_fault,
                        words: words.clone(),
                        to_us: told.is_instant().then_some(at_us),
                        ..span(lane, at_us, SpanKind::Fault, name)
                    })
                });
                let spans: Vec<usize> = spans.collect();
                self.next_fault += 1;
                if !told.is_instant() {
                    self.faults
                        .entry(detail.to_owned())
                        .or_default()
                        .push_back(spans);
                }
            }
            "ends" => {
                let spans = self.faults.get_mut(detail).and_then(VecDeque::pop_front);
                spans
                    .into_iter()
                    .flatten()
                    .for_each(|span| self.close(at_us, Some(span)));
            }
            "strikes" => {
                let name = detail.split(' ').next().unwrap_or_default();
                let lane = self.by_name.get(name).copied().unwrap_or(WORLD);
                let text = if lane == WORLD {
                    detail
                } else {
                    detail.get(name.len()..).unwrap_or_default()
                };
                self.mark(at_us, lane, Kind::Strike, text.trim());
            }
            other => {
                let lane = self.lane(machine);
                self.mark(at_us, lane, Kind::Fault, &format!("{other} {detail}"));
            }
        }
    }

    /// Where a fault is drawn.
    fn fault_lanes(&self, told: &Told) -> Vec<u16> {
        let mut lanes = Vec::new();
        for number in &told.nodes {
            let node = self.lane_of_node(*number);
            let client = self
                .by_name
                .get(&format!("client{number}"))
                .copied()
                .unwrap_or(node);
            lanes.extend(told.hits_node().then_some(node));
            lanes.extend(told.hits_client().then_some(client));
        }
        lanes.sort_unstable();
        lanes.dedup();
        if lanes.is_empty() { vec![WORLD] } else { lanes }
    }

    fn heal(&mut self, at_us: u64, detail: &str) {
        self.mark(at_us, WORLD, Kind::Heal, detail);
        let open: Vec<usize> = std::mem::take(&mut self.faults)
            .into_values()
            .flatten()
            .flatten()
            .collect();
        open.into_iter()
            .for_each(|span| self.close(at_us, Some(span)));
    }

    fn clock(&mut self, at_us: u64, machine: NodeId, what: &str, detail: &str) {
        // Healing sets every clock right, also those that were.
        if at_us == 0 || (detail == "0" && what != "step") {
            return;
        }
        let lane = self.lane(machine);
        let by: i64 = detail.parse().unwrap_or(0);
        let text = match what {
            "step" => format!("the clock steps by {by:+} ms"),
            "offset" => format!("the clock is {by:+} ms off"),
            "drift" => format!("the clock drifts by {by:+} µs a second"),
            other => format!("clock {other} {detail}"),
        };
        self.mark(at_us, lane, Kind::Clock, &text);
    }

    fn disk(&mut self, at_us: u64, event: &Event<'_>, what: &str) {
        const ORDINARY: [&str; 8] = [
            "write",
            "sync",
            "sync_dir",
            "make_file",
            "make_dir",
            "rename",
            "unlink",
            "set_len",
        ];
        let lane = self.lane(event.node);
        if !ORDINARY.contains(&what) {
            self.mark(
                at_us,
                lane,
                Kind::Disk,
                format!("{} {}", what.replace('_', " "), event.detail).trim(),
            );
            return;
        }
        let (is_sync, bytes) = (
            what.starts_with("sync"),
            if what == "write" {
                event.payload.len() as u64
            } else {
                0
            },
        );
        let new = Burst {
            at_us,
            last_us: at_us,
            lane,
            writes: 0,
            syncs: 0,
            bytes: 0,
        };
        let burst = self.writing.entry(lane).or_insert(new);
        let over = (at_us.saturating_sub(burst.last_us) > BURST_GAP_US)
            .then(|| std::mem::replace(burst, new));
        burst.last_us = at_us;
        burst.bytes += bytes;
        let count = if is_sync {
            &mut burst.syncs
        } else {
            &mut burst.writes
        };
        *count += 1;
        self.keep(over);
    }

    fn keep(&mut self, burst: Option<Burst>) {
        let Some(burst) = burst else { return };
        match self.bursts.len() < MAX_BURSTS {
            true => self.bursts.push(burst),
            false => self.leave_out("disk bursts"),
        }
    }

    fn link(&mut self, at_us: u64, kind: &'static str, detail: &str) {
        // The quality of links goes with the faults that set it.
        if ![
            "link.cut",
            "link.clog",
            "link.heal",
            "link.reset_injected",
            "link.half_open",
        ]
        .contains(&kind)
        {
            return;
        }
        let named: Vec<String> = detail.split(' ').map(|word| self.named(word)).collect();
        let named = named.join(" ");
        if self
            .links
            .as_ref()
            .is_some_and(|links| links.at_us != at_us || links.kind != kind)
        {
            self.tell_links();
        }
        let links = self.links.get_or_insert(Links {
            at_us,
            kind,
            named: Vec::new(),
            count: 0,
        });
        links.count += 1;
        if links.named.len() < LINKS_NAMED {
            links.named.push(named);
        }
    }

    /// An address as the name of its machine, or the word as it is.
    fn named(&self, word: &str) -> String {
        let lane = word.parse().ok().and_then(|ip: IpAddr| self.by_ip.get(&ip));
        let lane = lane.and_then(|lane| self.lanes.get(usize::from(*lane)));
        lane.map_or(word.to_owned(), |lane| lane.name.clone())
    }

    fn tell_links(&mut self) {
        let Some(Links {
            at_us,
            kind,
            named,
            count,
        }) = self.links.take()
        else {
            return;
        };
        let what = match kind {
            "link.cut" => "cut",
            "link.clog" => "clogged",
            "link.heal" => "work again",
            "link.reset_injected" => "reset",
            _ => "half-open",
        };
        let more = count - named.len();
        let more = if more > 0 {
            format!(", and {more} more")
        } else {
            String::new()
        };
        self.mark(
            at_us,
            WORLD,
            Kind::Link,
            &format!("{what}: {}{more}", named.join(", ")),
        );
    }

    fn sent(&mut self, at_us: u64, event: &Event<'_>) {
        let Some((_, conn, ip)) = words::transfer(&event.detail) else {
            return;
        };
        let (from, to) = (self.lane(event.node), self.by_ip.get(&ip).copied());
        if let Some(to) = to.filter(|to| *to != from) {
            self.messages
                .sent(at_us, conn, (from, to), event.payload.len() as u64);
        }
    }

    fn received(&mut self, at_us: u64, event: &Event<'_>) {
        let Some((bytes, conn, ip)) = words::transfer(&event.detail) else {
            return;
        };
        let (to, from) = (self.lane(event.node), self.by_ip.get(&ip).copied());
        if let Some(from) = from.filter(|from| *from != to) {
            self.messages.received(at_us, conn, (from, to), bytes);
        }
    }

    /// The run is over: what is still held back is put where it belongs.
    pub fn finish(&mut self) {
        self.tell_links();
        for burst in std::mem::take(&mut self.writing).into_values() {
            self.keep(Some(burst));
        }
        self.bursts.sort_by_key(|burst| (burst.at_us, burst.lane));
        self.marks.sort_by_key(|mark| mark.at_us);
        self.messages.finish();
    }
}

fn span(lane: u16, from_us: u64, kind: SpanKind, name: &str) -> Span {
    Span {
        lane,
        from_us,
        to_us: None,
        kind,
        fault: 0,
        name: name.to_owned(),
        words: String::new(),
    }
}
