//! Coverage of a sweep: buggify sites, kinds of faults and their effects, states of the protocol,
//! features of the workload, forged messages.
//!
//! **Owns** the lists of expected items, except for those of the registry of faults, because
//! counters alone do not show an item that never occurred. **Promises** that every listed item that
//! was never reached is named. **Never** judges a run.

use std::collections::{BTreeMap, BTreeSet};

use alys_runtime::buggify::SITES;
use serde::Serialize;

use crate::faults;
use crate::invariants::Tolerance;
use crate::invariants::coverage::FEATURES;
use crate::peers::{mutator, other_chain};
use crate::run::outcome::Outcome;

/// States of the protocol that a sweep should reach, by the counters of `trace::reached` in the
/// nodes.
pub const STATES: &[&str] = &[
    "state.actors.breaker_open",
    "state.actors.gave_up",
    "state.actors.mailbox_full",
    "state.actors.restarted",
    "state.auxpow.accepted",
    "state.auxpow.carried",
    "state.auxpow.chain_busy",
    "state.auxpow.gossip_refused",
    "state.auxpow.learnt",
    "state.auxpow.published",
    "state.auxpow.published_again",
    "state.auxpow.refused",
    "state.auxpow.restored",
    "state.auxpow.stale",
    "state.auxpow.unknown",
    "state.chain.approved_ahead",
    "state.chain.authority_proven",
    "state.chain.certificate_learnt",
    "state.chain.certificate_made",
    "state.chain.certified_valid",
    "state.chain.clock_distrusted",
    "state.chain.clock_trusted",
    "state.chain.clock_unconfirmed",
    "state.chain.doubted",
    "state.chain.engine_busy",
    "state.chain.evidence",
    "state.chain.held_vote",
    "state.chain.lock_changed_branch",
    "state.chain.locked",
    "state.chain.own_block_invalid",
    "state.chain.parent_sought",
    "state.chain.range_taken",
    "state.chain.range_useless",
    "state.chain.refused",
    "state.chain.screened",
    "state.chain.stale_certificate",
    "state.chain.unfit_proposal",
    "state.chain.votes_lost",
    "state.chain.votes_regained",
    "state.engine.back",
    "state.engine.empty_build",
    "state.engine.fetched_receipts",
    "state.engine.forkchoice_refused",
    "state.engine.invalid",
    "state.engine.late",
    "state.engine.late_receipts",
    "state.engine.no_build",
    "state.engine.no_receipts",
    "state.engine.not_followed",
    "state.engine.refuses_token",
    "state.engine.replayed",
    "state.engine.syncing",
    "state.engine.unfit",
    "state.engine.unreachable",
    "state.engine.wrong_receipts",
    "state.net.banned",
    "state.net.gossip_throttled",
    "state.net.handshake_replaced",
    "state.net.no_room",
    "state.net.no_status",
    "state.net.rate_exceeded",
    "state.net.relay_throttled",
    "state.net.request_timeout",
    "state.net.returned_after_ban",
    "state.net.silent",
    "state.net.slow_reader",
    "state.net.unread_answers",
    "state.peers.receipts",
    "state.storage.blocks_served",
    "state.storage.blocks_unknown",
    "state.storage.range_empty",
    "state.storage.range_full",
    "state.storage.range_served",
    "state.store.checksum_wrong",
    "state.store.creation_cut_off",
    "state.store.page_wrong",
    "state.store.poisoned",
    "state.store.rewritten",
    "state.store.wrote_additions",
    "state.store.wrote_bodies",
    "state.store.wrote_certificates",
    "state.store.wrote_federation",
    "state.store.wrote_finality",
    "state.store.wrote_finalized",
    "state.store.wrote_headers",
    "state.store.wrote_highest",
    "state.store.wrote_ledger",
    "state.store.wrote_orders",
    "state.store.wrote_proofs",
    "state.store.wrote_sets",
    "state.store.wrote_votes",
    "state.validation.strangers_full",
];

/// Effects that no single kind of fault must have, because they depend on the moment or follow from
/// the end of all faults, by the counters of the simulated runtime. The kinds list the others.
pub const COMMON_EFFECTS: &[&str] = &[
    "clock.offset",
    "disk.names_lost",
    "disk.torn_files",
    "disk.unsynced_sectors_kept",
    "link.partial_read",
    "link.partial_write",
];

/// The effects of all kinds of faults, each once.
fn effects() -> BTreeSet<&'static str> {
    let of_kinds = faults::kinds().flat_map(|kind| kind.effects);
    of_kinds.chain(COMMON_EFFECTS).copied().collect()
}

/// All forged messages: the typed alterations, and those of other chains.
fn forgeries() -> impl Iterator<Item = (String, Tolerance)> {
    let of_others = other_chain::catalogue().map(|name| (name, Tolerance::Refused));
    mutator::catalogue().chain(of_others)
}

/// Events that nodes report to their observers, by counter.
pub const SAID: &[&str] = &[
    "said.evidence",
    "said.finalized",
    "said.head",
    "said.notice",
    "said.peers",
    "said.pow-final",
    "said.proposed",
    "said.signed.approval",
    "said.signed.confirmation",
    "said.signed.proposal",
];

/// A section of the coverage table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A site of `buggify`.
    Site,
    /// A kind of fault in plans.
    Fault,
    /// An effect that faults had.
    Effect,
    /// A state of the protocol, or an event that a node reports.
    State,
    /// A feature of the users' workload.
    Workload,
    /// A forged message that was sent.
    Forgery,
    /// A forged message that correct nodes refused.
    Refusal,
}

impl Kind {
    /// All sections, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Site,
        Self::Fault,
        Self::Effect,
        Self::State,
        Self::Workload,
        Self::Forgery,
        Self::Refusal,
    ];

    /// Returns the heading of the section.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Site => "sites of buggify",
            Self::Fault => "kinds of faults",
            Self::Effect => "effects of faults",
            Self::State => "states",
            Self::Workload => "features of the workload",
            Self::Forgery => "forged messages sent",
            Self::Refusal => "forged messages refused",
        }
    }
}

/// One listed item with its counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub kind: Kind,
    /// Name in the table; without the prefix of its counter for sites and faults.
    pub name: String,
    /// For sites, the number of runs in which the site was switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<u64>,
    /// Number of runs in which the item occurred.
    pub runs: u64,
    /// Occurrences over all runs.
    pub times: u64,
    /// The lowest seed in which the item occurred.
    pub first_seed: Option<u64>,
}

/// Accumulates the counters of runs.
#[derive(Debug, Default)]
pub struct Coverage {
    runs: u64,
    /// Runs, occurrences and lowest seed by counter.
    seen: BTreeMap<String, (u64, u64, u64)>,
}

impl Coverage {
    /// Adds the counters of a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        for (name, times) in &outcome.counters {
            let seen = self
                .seen
                .entry(name.clone())
                .or_insert((0, 0, outcome.seed));
            if *times > 0 {
                if seen.0 == 0 {
                    seen.2 = outcome.seed;
                }
                (seen.0, seen.1, seen.2) = (seen.0 + 1, seen.1 + times, seen.2.min(outcome.seed));
            }
        }
    }

    /// Returns the number of runs that were added.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    fn row(&self, kind: Kind, name: &str, counter: &str, on: Option<&str>) -> Row {
        let seen = |counter: &str| self.seen.get(counter).copied().unwrap_or_default();
        let (runs, times, first) = seen(counter);
        let first_seed = (runs > 0).then_some(first);
        Row {
            kind,
            name: name.to_owned(),
            on: on.map(|on| seen(on).0),
            runs,
            times,
            first_seed,
        }
    }

    /// Returns one row per listed item, in the order of the table.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        rows.extend(
            SITES
                .iter()
                .map(|s| self.row(Kind::Site, s.name, s.fired, Some(s.on))),
        );
        rows.extend(
            faults::kinds()
                .map(|kind| kind.name)
                .map(|name| self.row(Kind::Fault, name, &format!("fault.{name}"), None)),
        );
        rows.extend(
            effects()
                .into_iter()
                .map(|name| self.row(Kind::Effect, name, name, None)),
        );
        rows.extend(
            STATES
                .iter()
                .chain(SAID)
                .map(|name| self.row(Kind::State, name, name, None)),
        );
        let features = FEATURES.iter().map(|name| format!("workload.{name}"));
        rows.extend(features.map(|name| self.row(Kind::Workload, &name, &name, None)));
        for (name, tolerance) in forgeries() {
            rows.push(self.row(Kind::Forgery, &name, &format!("forged.{name}"), None));
            if tolerance == Tolerance::Refused {
                rows.push(self.row(Kind::Refusal, &name, &format!("refused.{name}"), None));
            }
        }
        rows
    }

    /// Returns the names of the items that were never reached, by section.
    pub fn missing(&self) -> BTreeMap<Kind, Vec<String>> {
        let mut missing: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
        for row in self.rows().into_iter().filter(|row| row.times == 0) {
            missing.entry(row.kind).or_default().push(row.name);
        }
        missing
    }

    /// Returns the table as text.
    pub fn table(&self) -> String {
        let rows = self.rows();
        let mut text = String::new();
        for kind in Kind::ALL {
            let of_kind: Vec<&Row> = rows.iter().filter(|row| row.kind == kind).collect();
            if of_kind.is_empty() {
                continue;
            }
            let reached = of_kind.iter().filter(|row| row.times > 0).count();
            text += &format!("{}: {reached} of {}\n", kind.title(), of_kind.len());
            text += &format!(
                "    {:<40} {:>6} {:>6} {:>10} {:>8}\n",
                "", "on in", "runs", "times", "seed"
            );
            for Row {
                name,
                on,
                runs,
                times,
                first_seed,
                ..
            } in of_kind
            {
                let or_dash = |n: &Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
                let on = or_dash(on);
                let seed = or_dash(first_seed);
                text += &format!("    {name:<40} {on:>6} {runs:>6} {times:>10} {seed:>8}\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn outcome(seed: u64, counters: &[(&str, u64)]) -> Outcome {
        Outcome {
            scenario: "test".into(),
            seed,
            stack: crate::params::Stack::Fast,
            mutant: None,
            found: None,
            timeout_s: None,
            trace_hash: String::new(),
            events: 0,
            simulated_ms: 0,
            final_height: 0,
            counters: counters
                .iter()
                .map(|(name, n)| ((*name).to_owned(), *n))
                .collect(),
            wall_ms: 0,
            peak_kib: 0,
            snapshots: Vec::new(),
        }
    }

    #[test]
    fn what_never_happened_is_missing_and_what_did_is_counted_with_its_first_seed() {
        let mut coverage = Coverage::default();
        let site = SITES[0];
        coverage.add(&outcome(
            9,
            &[
                (site.on, 1),
                (site.fired, 5),
                ("link.cut", 2),
                ("workload.flood", 1),
            ],
        ));
        coverage.add(&outcome(4, &[(site.on, 1), ("link.cut", 1)]));
        let rows = coverage.rows();
        let of = |name: &str| {
            rows.iter()
                .find(|row| row.name == name)
                .expect("listed")
                .clone()
        };
        assert_eq!(
            (of(site.name).on, of(site.name).runs, of(site.name).times),
            (Some(2), 1, 5)
        );
        assert_eq!(
            (
                of("link.cut").runs,
                of("link.cut").times,
                of("link.cut").first_seed
            ),
            (2, 3, Some(4))
        );
        let missing = coverage.missing();
        assert!(!missing[&Kind::Effect].contains(&"link.cut".to_owned()));
        assert!(missing[&Kind::Effect].contains(&"link.clog".to_owned()));
        assert!(!missing[&Kind::Workload].contains(&"workload.flood".to_owned()));
        assert_eq!(missing[&Kind::Workload].len(), FEATURES.len() - 1);
        assert_eq!(missing[&Kind::Site].len(), SITES.len() - 1);
    }

    #[test]
    fn effects_are_listed_once() {
        let of_kinds: BTreeSet<&str> = faults::kinds()
            .flat_map(|kind| kind.effects.iter().copied())
            .collect();
        let twice = COMMON_EFFECTS.iter().find(|name| of_kinds.contains(*name));
        assert_eq!(twice, None, "a kind has it");
        let names = effects();
        for name in ["node.kill", "link.cut", "execution.late", "fault.held-vote"] {
            assert!(names.contains(name), "{name}");
        }
    }

    /// Collects the Rust files of the workspace, without its comparison benchmarks.
    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        let skipped = ["target", ".git", "comparison"];
        for entry in std::fs::read_dir(dir)
            .expect("the tree can be read")
            .flatten()
        {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && !skipped.iter().any(|skipped| name == *skipped) {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// Returns the string literal after each of the openings, with any white space between.
    fn quoted_after(text: &str, openings: &[&str]) -> Vec<String> {
        let after = openings
            .iter()
            .flat_map(|opening| text.split(opening).skip(1));
        let quoted =
            after.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
        quoted.map(str::to_owned).collect()
    }

    /// Returns the texts of all source files outside of the simulator.
    fn texts() -> Vec<String> {
        let mut files = Vec::new();
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        sources(
            own.parent().expect("the simulator lies in the workspace"),
            &mut files,
        );
        assert!(files.len() > 100, "the whole tree is looked at");
        let files = files.iter().filter(|file| !file.starts_with(own));
        files
            .map(|file| std::fs::read_to_string(file).expect("a source file can be read"))
            .collect()
    }

    #[test]
    fn every_site_that_is_declared_stands_somewhere_and_the_other_way_round() {
        let macros = [
            "buggify!(",
            "buggify_below!(",
            "buggify_pause!(",
            "buggify_yield!(",
        ];
        let used: BTreeSet<String> = texts()
            .iter()
            .flat_map(|text| quoted_after(text, &macros))
            // `site` is a placeholder in the documentation of the macros.
            .filter(|name| name != "site")
            .collect();
        let declared: BTreeSet<String> = SITES.iter().map(|site| site.name.to_owned()).collect();
        assert_eq!(used, declared);
        assert!(declared.len() >= 60);
    }

    #[test]
    fn every_state_that_is_listed_is_marked_somewhere_and_the_other_way_round() {
        let texts = texts();
        let after = texts.iter().flat_map(|text| text.split("\"state.").skip(1));
        let marked: BTreeSet<String> = after
            .filter_map(|rest| Some(format!("state.{}", rest.split('"').next()?)))
            .collect();
        let listed: BTreeSet<String> = STATES.iter().map(|state| (*state).to_owned()).collect();
        assert_eq!(marked, listed);
        assert!(STATES.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
