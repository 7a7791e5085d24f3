//! The typed events of a run.
//!
//! The simulator's own events ([`Announcement`]) are hashed as JSON, so that sinks decode the data
//! that was hashed. Events of the runtime carry [`Detail`]. [`RunEvent::decode`] joins both.

use std::net::IpAddr;

use alys_actor_system::State;
use alys_runtime::sim::{Detail, Event};

use super::announcement::Announcement;

/// The cause of a process's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessEnd {
    Killed,
    PowerLost,
    /// The reason follows in [`Announcement::Exited`].
    Exited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    Cut,
    Clogged,
    Healed,
    Reset,
    HalfOpen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockChange {
    StepMs(i64),
    OffsetMs(i64),
    DriftPpm(i64),
}

/// Any event of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    Announced(Announcement),
    ProcessStarted {
        name: String,
        ip: IpAddr,
        incarnation: u32,
    },
    ProcessEnded(ProcessEnd),
    StopRequested,
    Paused,
    Resumed,
    ActorState {
        path: String,
        state: State,
    },
    /// A step of an actor's lifecycle, by its name in the actor system.
    ActorLife {
        path: String,
        step: String,
    },
    Sent {
        bytes: u64,
        connection: u64,
        to: IpAddr,
    },
    Received {
        bytes: u64,
        connection: u64,
        from: IpAddr,
    },
    ConnectionReset,
    ConnectionTimedOut,
    Link {
        change: LinkChange,
        between: [IpAddr; 2],
    },
    Clock(ClockChange),
    DiskWrite {
        bytes: u64,
    },
    DiskSync,
    /// A fault of a disk, by the runtime's name, and its detail.
    DiskFault {
        name: &'static str,
        detail: String,
    },
    /// A point of the code took an unlikely turn on purpose.
    Buggify {
        point: String,
    },
    /// An event that no page shows.
    Other,
}

impl RunEvent {
    /// The typed form of an event of the world.
    pub fn decode(event: &Event<'_>) -> Self {
        let payload = event.payload;
        match (event.kind, &event.detail) {
            (
                _,
                Detail::Started {
                    name,
                    ip,
                    incarnation,
                },
            ) => Self::ProcessStarted {
                name: name.clone(),
                ip: *ip,
                incarnation: *incarnation,
            },
            (
                _,
                &Detail::Sent {
                    bytes,
                    connection,
                    to,
                },
            ) => Self::Sent {
                bytes,
                connection,
                to,
            },
            (
                _,
                &Detail::Received {
                    bytes,
                    connection,
                    from,
                },
            ) => Self::Received {
                bytes,
                connection,
                from,
            },
            (kind, &Detail::Link { from, to }) => Self::link(kind, [from, to]),
            (kind, &Detail::Connections { between, .. }) => Self::link(kind, between),
            ("clock.step", &Detail::Clock { by }) => Self::Clock(ClockChange::StepMs(by)),
            ("clock.offset", &Detail::Clock { by }) => Self::Clock(ClockChange::OffsetMs(by)),
            ("clock.drift", &Detail::Clock { by }) => Self::Clock(ClockChange::DriftPpm(by)),
            ("node.kill", _) => Self::ProcessEnded(ProcessEnd::Killed),
            ("node.power_off", _) => Self::ProcessEnded(ProcessEnd::PowerLost),
            ("node.exit", _) => Self::ProcessEnded(ProcessEnd::Exited),
            ("node.stop", _) => Self::StopRequested,
            ("node.pause", _) => Self::Paused,
            ("node.resume", _) => Self::Resumed,
            ("net.was_reset", _) => Self::ConnectionReset,
            ("net.timed_out", _) => Self::ConnectionTimedOut,
            ("disk.write", _) => Self::DiskWrite {
                bytes: payload.len() as u64,
            },
            (
                "disk.make_file" | "disk.make_dir" | "disk.rename" | "disk.unlink" | "disk.set_len",
                _,
            ) => Self::DiskWrite { bytes: 0 },
            ("disk.sync" | "disk.sync_dir", _) => Self::DiskSync,
            ("buggify", _) => Self::Buggify {
                point: String::from_utf8_lossy(payload).into_owned(),
            },
            ("actor" | "actor.state", _) => Self::actor_event(event.kind, payload),
            (kind, _) if Announcement::KINDS.contains(&kind) => {
                serde_json::from_slice(payload).map_or(Self::Other, Self::Announced)
            }
            (kind, Detail::Text(detail)) if kind.starts_with("disk.") => Self::DiskFault {
                name: kind.trim_start_matches("disk."),
                detail: detail.clone(),
            },
            _ => Self::Other,
        }
    }

    fn link(kind: &str, between: [IpAddr; 2]) -> Self {
        let change = match kind {
            "link.cut" => LinkChange::Cut,
            "link.clog" => LinkChange::Clogged,
            "link.heal" => LinkChange::Healed,
            "link.reset_injected" => LinkChange::Reset,
            "link.half_open" => LinkChange::HalfOpen,
            _ => return Self::Other,
        };
        Self::Link { change, between }
    }

    /// The payload is the path and the name of a state or a step, separated by a zero byte.
    fn actor_event(kind: &str, payload: &[u8]) -> Self {
        let payload = String::from_utf8_lossy(payload);
        let Some((path, name)) = payload.split_once('\0') else {
            return Self::Other;
        };
        let path = path.to_owned();
        if kind == "actor" {
            let step = name.to_owned();
            return Self::ActorLife { path, step };
        }
        let state = State::ALL
            .into_iter()
            .find(|state| state.to_string() == name);
        state.map_or(Self::Other, |state| Self::ActorState { path, state })
    }

    /// The path of the actor of the event, which begins with the node's name.
    pub fn actor(&self) -> Option<&str> {
        match self {
            Self::ActorState { path, .. } | Self::ActorLife { path, .. } => Some(path),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alys_runtime::sim::NodeId;
    use alys_types::VoteKind;

    use super::super::announcement::{FaultBegan, FaultCategory};
    use super::super::node::{BlockId, Report};
    use super::*;

    fn decode(kind: &'static str, payload: &[u8], detail: Detail) -> RunEvent {
        RunEvent::decode(&Event {
            number: 1,
            at: Duration::ZERO,
            node: NodeId::WORLD,
            kind,
            payload,
            detail,
        })
    }

    #[test]
    fn announcements_are_decoded_from_the_bytes_that_are_hashed() {
        let block = BlockId {
            height: 18,
            slot: 1_716_997_645,
            hash: "9b5dc3dfa6".to_owned(),
        };
        let kind = VoteKind::Approval;
        let began = FaultBegan {
            step: 2,
            name: "kill".to_owned(),
            category: FaultCategory::Process,
            values: "machine all power".to_owned(),
            nodes: vec![1, 3],
            machines: vec!["node1".to_owned(), "node3".to_owned()],
            planned: "slot 7 + 300ms".to_owned(),
            is_instant: false,
        };
        assert_eq!(
            began.to_string(),
            "kill machine all power on 1,3 (slot 7 + 300ms)"
        );
        let node = "node1".to_owned();
        let all = [
            Announcement::Node {
                node: node.clone(),
                report: Report::Signed { kind, block },
            },
            Announcement::FaultBegan(began),
            Announcement::Exited {
                machine: node,
                reason: None,
            },
        ];
        for announcement in all {
            let payload = serde_json::to_vec(&announcement).expect("serializable");
            let text = Detail::Text(announcement.to_string());
            assert_eq!(
                decode(announcement.kind(), &payload, text),
                RunEvent::Announced(announcement)
            );
        }
    }

    #[test]
    fn every_actor_state_is_decoded() {
        for state in State::ALL {
            let payload = format!("node1/chain\0{state}");
            let decoded = decode(
                "actor.state",
                payload.as_bytes(),
                Detail::Text(String::new()),
            );
            let path = "node1/chain".to_owned();
            assert_eq!(decoded, RunEvent::ActorState { path, state });
        }
    }
}
