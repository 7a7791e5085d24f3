//! Prints events for people: `cargo sim run --trace` and `cargo sim replay`.

use std::collections::BTreeMap;

use alys_runtime::sim::{Event, NodeId, World};

use super::event::RunEvent;

/// Most bytes of a binary payload that are printed.
const MAX_HEX_BYTES: usize = 48;

/// The kinds of events that `--trace faults` prints.
const FAULT_KINDS: [&str; 11] = [
    "said",
    "fault.",
    "node.",
    "link.cut",
    "link.clog",
    "link.heal",
    "clock.",
    "disk.power_lost",
    "disk.sync_failed",
    "exit",
    "heal",
];

/// Selects the events that are printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Machines by name (`node3`, `execution1`, `world`); all when empty.
    pub machines: Vec<String>,
    /// Prefixes of kinds (`said`, `net.`, `disk.sync`); all when empty.
    pub kinds: Vec<String>,
    /// A part of an actor's path (`chain/engine`): only events of such actors.
    pub actor: Option<String>,
    /// From this simulated millisecond on.
    pub from_ms: u64,
    /// Up to this simulated millisecond.
    pub to_ms: Option<u64>,
}

impl Filter {
    /// Faults, starts and ends of processes, links that break and heal, reports of nodes.
    pub fn faults() -> Self {
        Self {
            kinds: FAULT_KINDS.map(str::to_owned).into(),
            ..Self::default()
        }
    }

    fn passes(&self, machine: &str, at_ms: u64, kind: &str, actor: Option<&str>) -> bool {
        let is_in_time = at_ms >= self.from_ms && self.to_ms.is_none_or(|to_ms| at_ms <= to_ms);
        let is_of_machine =
            self.machines.is_empty() || self.machines.iter().any(|known| known == machine);
        let is_of_kind =
            self.kinds.is_empty() || self.kinds.iter().any(|prefix| kind.starts_with(prefix));
        let is_of_actor = self
            .actor
            .as_deref()
            .is_none_or(|part| actor.is_some_and(|path| path.contains(part)));
        is_in_time && is_of_machine && is_of_kind && is_of_actor
    }
}

/// Prints the selected events of the run, one per line, to the standard error.
pub fn print_events(world: World, filter: Filter) {
    let mut names = BTreeMap::from([(NodeId::WORLD, "world".to_owned())]);
    world.add_sink(Box::new(move |event: &Event<'_>| {
        let typed = RunEvent::decode(event);
        if let RunEvent::ProcessStarted { name, .. } = &typed {
            names.insert(event.node, name.clone());
        }
        let announced = match &typed {
            RunEvent::Announced(announcement) => announcement.machine(),
            _ => None,
        };
        let machine = announced.or(names.get(&event.node).map(String::as_str));
        let machine = machine.unwrap_or_default();
        let at_ms = event.at.as_millis() as u64;
        if filter.passes(machine, at_ms, event.kind, typed.actor()) {
            let mut text = event.detail.to_string();
            if text.is_empty() {
                text = printable(event.payload);
            }
            let ms = event.at.as_micros() as f64 / 1e3;
            let number = event.number;
            let kind = event.kind;
            eprintln!("{number:>8} {ms:>12.3} ms {machine:<8} {kind:<16} {text}");
        }
    }));
}

/// A payload as text if it is text, else as hex.
fn printable(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c == '\0') => text.replace('\0', " "),
        _ => hex::encode(&payload[..payload.len().min(MAX_HEX_BYTES)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_select_by_machine_kind_actor_and_time() {
        assert!(Filter::default().passes("node1", 5, "net.send", None));
        let filter = Filter {
            machines: vec!["node1".into(), "world".into()],
            kinds: vec!["net.".into(), "actor".into()],
            actor: None,
            from_ms: 10,
            to_ms: Some(20),
        };
        assert!(filter.passes("node1", 10, "net.send", None));
        assert!(filter.passes("world", 20, "net.cut", None));
        for (machine, at_ms, kind) in [
            ("node2", 15, "net.send"),
            ("node1", 9, "net.send"),
            ("node1", 21, "net.send"),
            ("node1", 15, "disk.sync"),
        ] {
            assert!(
                !filter.passes(machine, at_ms, kind, None),
                "{machine} {at_ms} {kind}"
            );
        }
        let actor = Filter {
            actor: Some("chain/engine".into()),
            ..Filter::default()
        };
        assert!(actor.passes("node1", 1, "actor.state", Some("node1/chain/engine")));
        assert!(!actor.passes("node1", 1, "actor.state", Some("node1/chain/storage")));
        assert!(!actor.passes("node1", 1, "said", None));
    }
}
