//! The lines of events, read back: what nodes say, what faults are, what went over a connection.
//!
//! Lines of an unknown form are shown as they are, or not at all; they never fail a run.

use std::net::IpAddr;

use super::shapes::Kind;

/// What a node said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// Something about a block. `slot` is the protocol's.
    Block {
        kind: Kind,
        height: u64,
        slot: u64,
        hash: &'a str,
        text: &'a str,
    },
    /// How many peers it has.
    Peers,
    /// Somebody contradicted himself.
    Evidence,
    /// Something for its operator.
    Notice,
}

/// Reads what a node said: its number and the rest. `None`: an unknown form, or something that another event tells as well.
pub fn said(line: &str) -> Option<(u8, Said<'_>)> {
    let (name, rest) = line.split_once(' ')?;
    let number = name.strip_prefix("node")?.parse().ok()?;
    let said = match rest.split_once(' ').unwrap_or((rest, "")) {
        ("signs", rest) => {
            let (kind, rest) = rest.split_once(" of ")?;
            let kind = match kind {
                // The event of the proposal itself says more.
                "proposal" => return None,
                "approval" => Kind::Approval,
                "confirmation" => Kind::Confirmation,
                _ => return None,
            };
            block(kind, rest)?
        }
        ("proposes", rest) => block(Kind::Proposal, rest)?,
        ("head", rest) => block(Kind::Head, rest.strip_prefix("is ")?)?,
        ("final", rest) => block(Kind::Final, rest.strip_prefix("is ")?)?,
        ("Peers", _) => Said::Peers,
        ("Evidence", _) => Said::Evidence,
        _ => Said::Notice,
    };
    Some((number, said))
}

/// `height 3 slot 17 0abc..`, and what follows.
fn block(kind: Kind, text: &str) -> Option<Said<'_>> {
    let mut words = text.splitn(6, ' ');
    let mut number = |name| match words.next() {
        Some(word) if word == name => words.next()?.parse().ok(),
        _ => None,
    };
    let (height, slot) = (number("height")?, number("slot")?);
    Some(Said::Block {
        kind,
        height,
        slot,
        hash: words.next()?,
        text: words.next().unwrap_or_default(),
    })
}

/// What a node said without its name, and without the marks of a value that is printed for programmers.
pub fn plain(line: &str) -> &str {
    let rest = line.split_once(' ').map_or(line, |(_, rest)| rest);
    rest.strip_prefix("Notice(\"")
        .and_then(|rest| rest.strip_suffix("\")"))
        .unwrap_or(rest)
}

/// What went over a connection: bytes, the connection's number, the address of the other end.
pub fn transfer(line: &str) -> Option<(u64, u64, IpAddr)> {
    let mut words = line.split(' ');
    let bytes = words.next()?.parse().ok()?;
    let conn = words
        .find(|word| *word == "connection")
        .and_then(|_| words.next())?
        .parse()
        .ok()?;
    Some((bytes, conn, words.nth(1)?.parse().ok()?))
}

/// A fault, as its event tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its word in scenario files.
    pub name: String,
    /// What else was said of it.
    pub words: String,
    /// Authorities, from 1.
    pub nodes: Vec<u8>,
}

/// Reads `kill machine client power on 1,3 (slot 7 + 300ms)`.
pub fn fault(line: &str) -> Told {
    let (rest, at) = match line
        .strip_suffix(')')
        .and_then(|line| line.rsplit_once(" ("))
    {
        Some((rest, at)) => (rest, at),
        None => (line, ""),
    };
    let (what, nodes) = match rest.rsplit_once(" on ") {
        Some((what, nodes)) if nodes.chars().all(|c| c.is_ascii_digit() || c == ',') => {
            (what, nodes)
        }
        _ => (rest, ""),
    };
    let (name, words) = what.split_once([' ', '(', '{']).unwrap_or((what, ""));
    let words = words.trim_matches([' ', '{', '}', '(', ')']);
    let words = if at.is_empty() {
        words.to_owned()
    } else {
        format!("{words} (planned for {at})")
    };
    Told {
        name: kebab(name),
        words: words.trim().to_owned(),
        nodes: nodes
            .split(',')
            .filter_map(|number| number.parse().ok())
            .collect(),
    }
}

fn kebab(word: &str) -> String {
    let mut text = String::new();
    for (at, c) in word.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

impl Told {
    /// The machine that is named, if one is.
    fn machine(&self) -> Option<String> {
        let mut words = self
            .words
            .split([' ', ':', ','])
            .filter(|word| !word.is_empty());
        words
            .find(|word| *word == "machine")
            .and_then(|_| words.next())
            .map(str::to_lowercase)
    }

    /// Whether it is drawn on the nodes.
    pub fn hits_node(&self) -> bool {
        self.machine().as_deref() != Some("client") && !self.name.contains("client")
    }

    /// Whether it is drawn on the execution clients.
    pub fn hits_client(&self) -> bool {
        let is_for_both = ["clock", "drift"].contains(&self.name.as_str());
        matches!(self.machine().as_deref(), Some("client" | "both"))
            || self.name.contains("client")
            || is_for_both
    }

    /// Whether it is over as it begins.
    pub fn is_instant(&self) -> bool {
        self.name == "reset" || self.name.starts_with("actor-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_say_is_read_back() {
        let block = |kind, text| Said::Block {
            kind,
            height: 18,
            slot: 1716997645,
            hash: "9b5dc3dfa6",
            text,
        };
        let table = [
            (
                "node1 signs approval of height 18 slot 1716997645 9b5dc3dfa6",
                Some((1, block(Kind::Approval, ""))),
            ),
            (
                "node14 signs confirmation of height 18 slot 1716997645 9b5dc3dfa6",
                Some((14, block(Kind::Confirmation, ""))),
            ),
            (
                "node1 signs proposal of height 18 slot 1716997645 9b5dc3dfa6",
                None,
            ),
            (
                "node2 proposes height 18 slot 1716997645 9b5dc3dfa6 with 1 transactions",
                Some((2, block(Kind::Proposal, "with 1 transactions"))),
            ),
            (
                "node4 final is height 18 slot 1716997645 9b5dc3dfa6",
                Some((4, block(Kind::Final, ""))),
            ),
            (
                "node4 head is height 18 slot 1716997645 9b5dc3dfa6",
                Some((4, block(Kind::Head, ""))),
            ),
            ("node2 Peers { connected: 3 }", Some((2, Said::Peers))),
            (
                "node2 Evidence { signer: 3, slot: Slot(7) }",
                Some((2, Said::Evidence)),
            ),
            (
                "node2 Notice(\"the disk is slow\")",
                Some((2, Said::Notice)),
            ),
            ("node2 final is height x slot 7 ab", None),
            ("user1 says hello", None),
            ("", None),
        ];
        for (line, expected) in table {
            assert_eq!(said(line), expected, "{line}");
        }
        assert_eq!(
            plain("node2 Notice(\"the disk is slow\")"),
            "the disk is slow"
        );
        assert_eq!(
            plain("node2 Peers { connected: 3 }"),
            "Peers { connected: 3 }"
        );
    }

    #[test]
    fn faults_are_read_back() {
        let table = [
            (
                "kill machine client power on 1,3 (slot 7 + 300ms)",
                "kill",
                &[1, 3][..],
                (false, true),
            ),
            ("kill machine both on 2 (12s)", "kill", &[2], (true, true)),
            (
                "partition way both held on 1,2,4 (12s)",
                "partition",
                &[1, 2, 4],
                (true, false),
            ),
            (
                "slow-client delay 300ms on 4 (12s)",
                "slow-client",
                &[4],
                (false, true),
            ),
            ("clock by -2s on 4 (12s)", "clock", &[4], (true, true)),
            ("reset on  (12s)", "reset", &[], (true, false)),
            (
                "HoldVotes { vote: Approval, ms: 41 } on 3 (slot 11 + 728ms)",
                "hold-votes",
                &[3],
                (true, false),
            ),
            (
                "Kill { machine: Client, power: true } on 3 (9s)",
                "kill",
                &[3],
                (false, true),
            ),
        ];
        for (line, name, nodes, hits) in table {
            let told = fault(line);
            assert_eq!(
                (told.name.as_str(), &told.nodes[..]),
                (name, nodes),
                "{line}"
            );
            assert_eq!((told.hits_node(), told.hits_client()), hits, "{line}");
            assert!(told.words.contains("planned for"), "{told:?}");
        }
        assert_eq!(
            fault("kill power on 1 (12s)").words,
            "power (planned for 12s)"
        );
    }

    #[test]
    fn transfers_are_read_back() {
        let to: IpAddr = "10.0.0.3".parse().expect("an address");
        assert_eq!(
            transfer("512 bytes on connection 7 to 10.0.0.3"),
            Some((512, 7, to))
        );
        assert_eq!(
            transfer("512 bytes on connection 7 from 10.0.0.3"),
            Some((512, 7, to))
        );
        assert_eq!(transfer("connection 7"), None);
    }
}
