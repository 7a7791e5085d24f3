//! Selection and order of the runs of a sweep: presets and shards.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A run of a sweep: the index of its scenario in the sweep's list, and its seed.
pub type Run = (usize, u64);

/// Seeds of each fixed scenario in [`Preset::Change`].
const SEEDS_ON_CHANGE: u64 = 3;
/// Length of the repeating pattern of runs in [`Preset::Night`].
const NIGHT_ROUND: u64 = 5;
/// Runs of the pattern that go to generated scenarios, because each of their seeds is another
/// world.
const NIGHT_DRAWN: u64 = 3;

/// A predefined sweep. Only [`Preset::Long`] has the long scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// One minute: every handwritten scenario once, then the mixed one.
    Smoke,
    /// Five minutes: every handwritten scenario with several seeds, alternating with the mixed one.
    Change,
    /// Until stopped, or for --minutes: all scenarios, generated ones more often, with new seeds
    /// each time.
    Night,
    /// Ten minutes: every handwritten long scenario once, then the generated one.
    Long,
    /// Every handwritten scenario once, and no generated one.
    Written,
}

impl Preset {
    /// Returns the default time after which no more runs are started.
    pub fn limit(self) -> Option<Duration> {
        match self {
            // Less than a minute, because the sweep waits for the runs in progress.
            Self::Smoke => Some(Duration::from_secs(50)),
            Self::Change => Some(Duration::from_secs(285)),
            Self::Night | Self::Written => None,
            Self::Long => Some(Duration::from_secs(600)),
        }
    }

    /// Returns true if the preset has the scenarios of many simulated minutes, and no others.
    pub fn is_long(self) -> bool {
        self == Self::Long
    }

    /// Returns the number of seeds of each fixed scenario, or `None` without a limit.
    pub fn seeds(self) -> Option<u64> {
        match self {
            Self::Smoke | Self::Long | Self::Written => Some(1),
            Self::Change => Some(SEEDS_ON_CHANGE),
            Self::Night => None,
        }
    }

    /// Returns the runs, endless unless every scenario is fixed and their seeds are limited.
    /// `is_drawn` is true for each scenario that is generated from its seed; the first of them is
    /// the mixed one.
    pub fn runs(self, is_drawn: &[bool]) -> Box<dyn Iterator<Item = Run>> {
        let those = |drawn: bool| -> Vec<usize> {
            (0..is_drawn.len())
                .filter(|at| is_drawn.get(*at) == Some(&drawn))
                .collect()
        };
        let fixed = those(false);
        let drawn = those(true);
        let mixed = drawn.first().copied();
        let rest = |from: u64| {
            mixed
                .into_iter()
                .flat_map(move |mixed| (from..).map(move |seed| (mixed, seed)))
        };
        match self {
            Self::Smoke | Self::Long => {
                Box::new(fixed.into_iter().map(|one| (one, 1)).chain(rest(1)))
            }
            Self::Written => Box::new(fixed.into_iter().map(|one| (one, 1))),
            Self::Change => {
                let mut first = Vec::new();
                for (at, (seed, one)) in (1..).zip(
                    (1..=SEEDS_ON_CHANGE)
                        .flat_map(|seed| fixed.iter().map(move |one| (seed, *one))),
                ) {
                    first.push((one, seed));
                    first.extend(mixed.map(|mixed| (mixed, at)));
                }
                let used = first.len() as u64 / 2;
                Box::new(first.into_iter().chain(rest(used + 1)))
            }
            Self::Night => Box::new(Night {
                queues: [turns(&fixed), turns(&drawn)],
                at: 0,
            }),
        }
    }
}

/// Returns the queue of a round robin over the scenarios, each with its next seed.
fn turns(scenarios: &[usize]) -> VecDeque<Run> {
    scenarios.iter().map(|one| (*one, 1)).collect()
}

struct Night {
    queues: [VecDeque<Run>; 2],
    at: u64,
}

impl Iterator for Night {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let [fixed, drawn] = &mut self.queues;
        let wants_drawn = self.at % NIGHT_ROUND < NIGHT_DRAWN;
        self.at += 1;
        let queue = if (wants_drawn && !drawn.is_empty()) || fixed.is_empty() {
            drawn
        } else {
            fixed
        };
        let (one, seed) = queue.pop_front()?;
        queue.push_back((one, seed + 1));
        Some((one, seed))
    }
}

/// One of several disjoint parts of a sweep, to be run on different machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Number of this shard, from 0.
    index: u64,
    /// Number of shards.
    of: u64,
}

impl Shard {
    /// The only shard of an undivided sweep.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Returns the number of shards.
    pub fn count(self) -> u64 {
        self.of
    }

    /// Returns true for the runs of this shard: the seed modulo the number of shards, shifted by
    /// one from scenario to scenario so that scenarios with few seeds are distributed too.
    pub fn has(self, run: Run) -> bool {
        let (scenario, seed) = run;
        (seed % self.of + scenario as u64 % self.of) % self.of == self.index
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('/')
            .and_then(|(index, of)| index.parse().ok().zip(of.parse().ok()));
        match parts {
            Some((index, of)) if index < of => Ok(Self { index, of }),
            _ => Err(format!(
                "{text:?}: a shard is i/n with i from 0 to n-1, as 0/8"
            )),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Three fixed scenarios and two generated ones.
    const WORLDS: [bool; 5] = [false, true, false, true, false];

    #[test]
    fn presets_run_what_they_say() {
        let first = |preset: Preset, n: usize| preset.runs(&WORLDS).take(n).collect::<Vec<_>>();
        assert_eq!(
            first(Preset::Smoke, 6),
            [(0, 1), (2, 1), (4, 1), (1, 1), (1, 2), (1, 3)]
        );
        let change = first(Preset::Change, 20);
        for one in [0, 2, 4] {
            let seeds: Vec<u64> = change
                .iter()
                .filter(|run| run.0 == one)
                .map(|run| run.1)
                .collect();
            assert_eq!(seeds, [1, 2, 3]);
        }
        let mixed: Vec<u64> = change
            .iter()
            .filter(|run| run.0 == 1)
            .map(|run| run.1)
            .collect();
        assert_eq!(
            mixed,
            (1..=11).collect::<Vec<u64>>(),
            "each seed once, none left out"
        );
        let night = first(Preset::Night, 1_000);
        assert_eq!(night.iter().filter(|run| WORLDS[run.0]).count(), 600);
        assert_eq!(
            night.iter().collect::<BTreeSet<_>>().len(),
            1_000,
            "nothing twice"
        );
        assert_eq!(
            Preset::Smoke.runs(&[false]).count(),
            1,
            "without drawn scenarios it ends"
        );
        assert_eq!(
            first(Preset::Written, 6),
            [(0, 1), (2, 1), (4, 1)],
            "it ends, and draws nothing"
        );
        assert_eq!(Preset::Night.runs(&[false]).take(9).count(), 9);
        assert_eq!(Preset::Night.runs(&[]).count(), 0);
        assert_eq!(first(Preset::Long, 6), first(Preset::Smoke, 6));
        assert!(Preset::Long.is_long() && !Preset::Night.is_long());
    }

    #[test]
    fn every_run_is_of_exactly_one_shard_and_shards_are_alike() {
        for of in 1..9 {
            let shards: Vec<Shard> = (0..of)
                .map(|index| format!("{index}/{of}").parse().expect("a shard"))
                .collect();
            let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
            for run in Preset::Smoke
                .runs(&[false; 40])
                .chain(Preset::Night.runs(&WORLDS).take(400))
            {
                let mine: Vec<&Shard> = shards.iter().filter(|shard| shard.has(run)).collect();
                assert_eq!(mine.len(), 1, "{run:?} of {of}");
                *sizes.entry(mine[0].to_string()).or_default() += 1;
            }
            let least = sizes.values().min().copied();
            let most = sizes.values().max().copied();
            assert!(
                least
                    .zip(most)
                    .is_some_and(|(least, most)| most < least * 3 / 2),
                "{of}: {sizes:?}"
            );
        }
        let of_eight: Shard = "3/8".parse().expect("a shard");
        assert!(
            of_eight.has((0, 11)) && !of_eight.has((0, 12)),
            "a single scenario goes by its seed"
        );
        for wrong in ["8/8", "1", "a/2", "1/0", "-1/2", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
