//! The loads, and the process that makes one of them.

use std::io;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::answers::{Answered, Answers};
use crate::{connections, forgeries, mining, peers, requests, votes};

/// A load: one kind of work that others can demand.
#[derive(Debug)]
pub struct Load {
    pub name: &'static str,
    /// The unit of [`Load::wanted`].
    pub unit: &'static str,
    /// The least amount; with less, the row does not show that the validators withstand the load.
    pub wanted: Amount,
    run: fn(&Targets, &Arc<Counts>),
}

/// An amount of a load.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    InAll(u64),
    PerSecond(u64),
}

impl Amount {
    /// The amount of a load of this duration.
    pub fn within(self, duration: Duration) -> u64 {
        match self {
            Amount::InAll(amount) => amount,
            Amount::PerSecond(amount) => amount * duration.as_secs(),
        }
    }
}

/// All loads, in the order of their measurement. `docs/measurements.md` describes each.
pub const LOADS: [Load; 9] = [
    Load {
        name: "slow-connections",
        unit: "connections",
        wanted: Amount::InAll(300),
        run: |targets, counts| connections::slow(targets, counts, 300),
    },
    Load {
        name: "held-bodies",
        unit: "bodies",
        wanted: Amount::InAll(200),
        run: |targets, counts| connections::held(targets, counts, 200),
    },
    Load {
        name: "large-bodies",
        unit: "bodies",
        wanted: Amount::InAll(8),
        run: |targets, counts| requests::large(targets, counts, 8),
    },
    Load {
        name: "keccak-loops",
        unit: "calls",
        // Some at each of four validators.
        wanted: Amount::InAll(8 * 4),
        run: |targets, counts| requests::keccak(targets, counts, 8),
    },
    Load {
        name: "malformed-requests",
        unit: "requests",
        wanted: Amount::InAll(10_000),
        run: |targets, counts| requests::malformed(targets, counts, 10_000),
    },
    Load {
        name: "mining",
        unit: "calls",
        // An answer a second for each caller.
        wanted: Amount::PerSecond(200),
        run: |targets, counts| mining::callers(targets, counts, 200),
    },
    Load {
        name: "vanishing-peers",
        unit: "peers",
        wanted: Amount::InAll(500),
        run: |targets, counts| peers::vanishing(targets, counts, 500),
    },
    Load {
        name: "forged-statuses",
        unit: "connections",
        // A hundred are planned, and the validators come first on a busy machine.
        wanted: Amount::PerSecond(80),
        run: forgeries::reconnecting,
    },
    // The last one, because validators hold its votes for a while: should the authority's own
    // validator reconnect, it would take them for its lost votes (rule 3.8).
    Load {
        name: "authority-votes",
        unit: "votes",
        // The peer's budget grants 120; the first seconds do not count.
        wanted: Amount::PerSecond(80),
        run: votes::of_one_authority,
    },
];

/// The load of a name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static Load> {
    let found = LOADS.iter().find(|load| load.name == name);
    found.with_context(|| {
        let names: Vec<&str> = LOADS.iter().map(|load| load.name).collect();
        format!(
            "no load is called {name:?}; there are: {}",
            names.join(", ")
        )
    })
}

/// The ports of the validators, the files of their chain, a key of theirs, and the duration of the
/// load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// JSON-RPC.
    pub rpc: Vec<u16>,
    /// libp2p.
    pub peers: Vec<u16>,
    /// The JSON-RPC of miners, at one validator.
    pub mining: u16,
    /// The directory of `chain.toml` and `execution-genesis.json`.
    pub chain: PathBuf,
    /// The data directory of one validator, with its key.
    pub datadir: PathBuf,
    pub duration: Duration,
}

impl Targets {
    /// The value of `--make` for the process that makes a load.
    pub fn to_argument(&self) -> String {
        let argument = json!({
            "rpc": self.rpc,
            "peers": self.peers,
            "mining": self.mining,
            "chain": self.chain.display().to_string(),
            "datadir": self.datadir.display().to_string(),
            "seconds": self.duration.as_secs(),
        });
        argument.to_string()
    }

    /// Reads the argument of [`Targets::to_argument`].
    ///
    /// # Errors
    /// For any other text.
    pub fn parse(argument: &str) -> Result<Targets> {
        let value: Value = serde_json::from_str(argument)?;
        let port = |port: &Value| -> Result<u16> {
            let port = port.as_u64().and_then(|port| port.try_into().ok());
            port.context("not a port")
        };
        let ports = |name: &str| -> Result<Vec<u16>> {
            let ports = value[name].as_array().context("no list of ports")?;
            ports.iter().map(port).collect()
        };
        let path = |name: &str| -> Result<PathBuf> {
            let path = value[name].as_str().context("no path")?;
            Ok(path.into())
        };
        let seconds = value["seconds"].as_u64().context("no seconds")?;
        let targets = Targets {
            rpc: ports("rpc")?,
            peers: ports("peers")?,
            mining: port(&value["mining"])?,
            chain: path("chain")?,
            datadir: path("datadir")?,
            duration: Duration::from_secs(seconds),
        };
        if targets.rpc.is_empty() || targets.peers.is_empty() {
            bail!("no ports");
        }
        Ok(targets)
    }

    pub fn rpc(&self, index: usize) -> u16 {
        self.rpc[index % self.rpc.len()]
    }

    pub fn peer(&self, index: usize) -> u16 {
        self.peers[index % self.peers.len()]
    }
}

/// The amount of a load so far.
#[derive(Debug, Default)]
pub struct Counts {
    made: AtomicU64,
    refused: AtomicU64,
    /// Of loads whose callers wait for them.
    pub answers: Answers,
}

impl Counts {
    /// Another connection, with its request if it has one.
    pub fn made(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    /// The validator did not accept a connection, or closed it before the end of its request or
    /// without an answer.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Connects, and uses the connection. False when the validator refused it.
    pub fn record(&self, port: u16, work: impl FnOnce(TcpStream) -> io::Result<()>) -> bool {
        let worked = requests::connect(port).and_then(|stream| {
            self.made();
            work(stream)
        });
        if worked.is_err() {
            self.refused();
        }
        worked.is_ok()
    }
}

/// The amount of a load at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    pub made: u64,
    pub refused: u64,
    /// Of loads whose callers wait for them.
    pub answers: Option<Answered>,
}

impl Made {
    /// The line that ends the output of a process that makes a load.
    pub fn to_line(self) -> String {
        json!({ "made": self.made, "refused": self.refused, "answers": self.answers }).to_string()
    }

    /// Reads the line of [`Made::to_line`].
    ///
    /// # Errors
    /// For any other text.
    pub fn parse(line: &str) -> Result<Made> {
        let mut value: Value = serde_json::from_str(line).with_context(|| format!("{line:?}"))?;
        let answers = serde_json::from_value(value["answers"].take())?;
        let number = |name: &str| value[name].as_u64().with_context(|| format!("no {name}"));
        Ok(Made {
            made: number("made")?,
            refused: number("refused")?,
            answers,
        })
    }
}

/// Makes a load until its time is over. Its threads and connections last until this process ends.
pub fn make(load: &'static Load, targets: &Targets) -> Made {
    let counts = Arc::new(Counts::default());
    thread::spawn({
        let (targets, counts) = (targets.clone(), Arc::clone(&counts));
        move || (load.run)(&targets, &counts)
    });
    thread::sleep(targets.duration);
    Made {
        made: counts.made.load(Ordering::Relaxed),
        refused: counts.refused.load(Ordering::Relaxed),
        answers: counts.answers.figures(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_results_are_read_as_they_were_written() {
        let targets = Targets {
            rpc: vec![1, 2],
            peers: vec![65_535],
            mining: 3,
            chain: "a/chain".into(),
            datadir: "a/node".into(),
            duration: Duration::from_secs(60),
        };
        let read = Targets::parse(&targets.to_argument()).expect("its own text");
        assert_eq!(read, targets);
        for wrong in [
            "",
            r#"{"rpc":[],"peers":[1],"mining":1,"chain":"a","datadir":"b","seconds":1}"#,
            r#"{"rpc":[65536],"peers":[1],"mining":1,"chain":"a","datadir":"b","seconds":1}"#,
            r#"{"rpc":[1],"peers":[1],"mining":1,"chain":"a","seconds":1}"#,
            r#"{"rpc":[1],"peers":[1],"chain":"a","datadir":"b","seconds":1}"#,
        ] {
            assert!(Targets::parse(wrong).is_err(), "{wrong}");
        }
        let answers = Answers::default();
        answers.after(Duration::from_millis(3));
        let made = Made {
            made: 7,
            refused: 1,
            answers: answers.figures(),
        };
        assert_eq!(Made::parse(&made.to_line()).expect("its own text"), made);
        assert!(Made::parse(r#"{"made":1}"#).is_err());
    }

    #[test]
    fn each_load_is_described_in_the_order_of_measurement() {
        let page = include_str!("../../../docs/measurements.md");
        let rows = page
            .lines()
            .skip_while(|line| *line != "| load | made by |")
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let described: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
        let names: Vec<&str> = LOADS.iter().map(|load| load.name).collect();
        assert_eq!(described, names);
    }

    #[test]
    fn an_unknown_load_is_an_error_with_the_names() {
        let found = find("held-bodies").expect("it exists");
        let minute = Duration::from_secs(60);
        assert_eq!(found.wanted.within(minute), 200);
        assert_eq!(Amount::PerSecond(80).within(minute), 4_800);
        let error = find("held").expect_err("unknown").to_string();
        assert!(error.contains("slow-connections, held-bodies"), "{error}");
    }
}
