//! The figures of a measurement, and their judgement.

use serde_json::{Value, json};

use crate::answers::Answered;

/// The least share of slots with blocks, in percent.
const MIN_SHARE: u64 = 95;
/// The largest memory after a load, in percent of the memory before it.
const MAX_AFTER: u64 = 120;
/// The longest time within which 99 of 100 callers are answered: a slot, after which there is new
/// work.
const MAX_P99_US: u64 = 1_000_000;

/// Resident memory of a validator in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    pub before: u64,
    pub peak: u64,
    pub after: u64,
}

impl Memory {
    fn is_back(&self) -> bool {
        self.after * 100 <= self.before * MAX_AFTER
    }
}

/// The figures of one load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub unit: String,
    /// The least amount of the load.
    pub wanted: u64,
    pub made: u64,
    pub refused: u64,
    /// Of loads whose callers wait for them.
    pub answers: Option<Answered>,
    /// Slots while the load lasted.
    pub slots: u64,
    /// Those with a final block.
    pub blocks: u64,
    /// Of each validator.
    pub memory: Vec<Memory>,
}

impl Row {
    fn has_blocks(&self) -> bool {
        self.blocks * 100 >= self.slots * MIN_SHARE
    }

    /// The share of slots with blocks in percent.
    fn share(&self) -> f64 {
        100.0 * self.blocks as f64 / self.slots.max(1) as f64
    }

    /// The memory of the validator that had most of it.
    fn largest(&self) -> Memory {
        let largest = self.memory.iter().max_by_key(|memory| memory.peak);
        largest.copied().unwrap_or_default()
    }

    /// The reasons why it has not passed.
    fn failures(&self) -> Vec<&'static str> {
        let mut failures = Vec::new();
        if !self.has_blocks() {
            failures.push("blocks");
        }
        if !self.memory.iter().all(Memory::is_back) {
            failures.push("memory");
        }
        if self.made < self.wanted {
            failures.push("load");
        }
        if let Some(answers) = &self.answers {
            if answers.p99_us > MAX_P99_US {
                failures.push("answers");
            }
            if answers.accepted == 0 || answers.unknown > 0 || answers.wrong > 0 {
                failures.push("proofs");
            }
        }
        failures
    }
}

/// The figures of all loads; the first row is without a load.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub rows: Vec<Row>,
    /// The first ERROR or panic of each validator that logged one.
    pub errors: Vec<String>,
}

impl Table {
    /// True when enough slots had blocks in each row, memory came back at each validator, each load
    /// was made in full, and no validator logged an ERROR.
    pub fn has_passed(&self) -> bool {
        self.errors.is_empty() && self.rows.iter().all(|row| row.failures().is_empty())
    }

    /// The share of a row in percent of the share without a load.
    fn relative(&self, row: &Row) -> f64 {
        let undisturbed = self.rows.first().map_or(0.0, Row::share);
        100.0 * row.share() / undisturbed.max(f64::MIN_POSITIVE)
    }

    /// For people. Memory is that of the largest validator.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{:<18} {:>6} {:>7} {:>5} {:>6} {:>7} {:>9} {:>6} {:>6} {:>6}  {}\n",
            "load",
            "made",
            "refused",
            "slots",
            "blocks",
            "share",
            "relative",
            "before",
            "peak",
            "after",
            "result"
        );
        for row in &self.rows {
            let memory = row.largest();
            let failures = row.failures();
            let result = if failures.is_empty() {
                "ok".to_owned()
            } else {
                format!("FAILED: {}", failures.join(", "))
            };
            text += &format!(
                "{:<18} {:>6} {:>7} {:>5} {:>6} {:>5.1} % {:>7.1} % {:>6} {:>6} {:>6}  {result}\n",
                row.name,
                row.made,
                row.refused,
                row.slots,
                row.blocks,
                row.share(),
                self.relative(row),
                memory.before / 1024,
                memory.peak / 1024,
                memory.after / 1024,
            );
        }
        text += "memory: MiB of the largest validator\n";
        for row in &self.rows {
            if let Some(answers) = &row.answers {
                text += &format!("{}: {}\n", row.name, to_line(answers));
            }
        }
        for error in &self.errors {
            text += &format!("FAILED: {error}\n");
        }
        text
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let memory = row.memory.iter().map(|memory| {
                json!({
                    "before_kib": memory.before,
                    "peak_kib": memory.peak,
                    "after_kib": memory.after,
                })
            });
            json!({
                "load": row.name,
                "unit": row.unit,
                "wanted": row.wanted,
                "made": row.made,
                "refused": row.refused,
                "answers": row.answers,
                "slots": row.slots,
                "blocks": row.blocks,
                "share_percent": row.share(),
                "relative_percent": self.relative(row),
                "validators": memory.collect::<Vec<_>>(),
                "failures": row.failures(),
            })
        });
        let rows: Vec<_> = rows.collect();
        json!({ "passed": self.has_passed(), "rows": rows, "errors": self.errors })
    }
}

fn to_line(answers: &Answered) -> String {
    let Answered {
        p50_us,
        p99_us,
        slowest_us,
        no_work,
        accepted,
        stale,
        refused,
        unknown,
        wrong,
    } = answers;
    let ms = |us: &u64| *us as f64 / 1e3;
    format!(
        "answers p50 {:.1} ms, p99 {:.1} ms, slowest {:.1} ms, {no_work} without work; proofs: \
         {accepted} accepted, {stale} stale, {refused} refused by a rule, {unknown} unknown, \
         {wrong} wrong",
        ms(p50_us),
        ms(p99_us),
        ms(slowest_us)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(blocks: u64, after: u64, made: u64) -> Row {
        let memory = |after| Memory {
            before: 1024,
            peak: 4096 - after,
            after,
        };
        Row {
            name: "a-load".into(),
            unit: "calls".into(),
            wanted: 10,
            made,
            refused: 3,
            answers: None,
            slots: 60,
            blocks,
            memory: vec![memory(1000), memory(after)],
        }
    }

    #[test]
    fn a_row_fails_for_blocks_memory_and_the_amount_of_the_load() {
        let table: [(Row, &[&str]); 5] = [
            (row(60, 1024, 10), &[]),
            (row(57, 1228, 11), &[]),
            (row(56, 1228, 10), &["blocks"]),
            (row(57, 1229, 10), &["memory"]),
            (row(0, 2000, 9), &["blocks", "memory", "load"]),
        ];
        for (row, expected) in table {
            assert_eq!(row.failures(), expected, "{row:?}");
            let mut table = Table {
                rows: vec![row],
                errors: Vec::new(),
            };
            assert_eq!(table.has_passed(), expected.is_empty());
            table.errors.push("node 2 logged: x".into());
            assert!(!table.has_passed());
            assert!(table.to_text().ends_with("FAILED: node 2 logged: x\n"));
        }
    }

    #[test]
    fn a_row_fails_for_late_answers_and_lost_work() {
        let good = Answered {
            p50_us: 2_000,
            p99_us: MAX_P99_US,
            slowest_us: 9_000_000,
            no_work: 3,
            accepted: 1,
            stale: 2,
            refused: 4,
            unknown: 0,
            wrong: 0,
        };
        let change = |change: fn(&mut Answered)| {
            let mut answers = good;
            change(&mut answers);
            answers
        };
        let table: [(Answered, &[&str]); 5] = [
            (good, &[]),
            (change(|answers| answers.p99_us += 1), &["answers"]),
            (change(|answers| answers.accepted = 0), &["proofs"]),
            (change(|answers| answers.unknown = 1), &["proofs"]),
            (change(|answers| answers.wrong = 1), &["proofs"]),
        ];
        for (answers, expected) in table {
            let row = Row {
                answers: Some(answers),
                ..row(60, 1024, 10)
            };
            assert_eq!(row.failures(), expected, "{answers:?}");
        }
        let row = Row {
            answers: Some(good),
            ..row(60, 1024, 10)
        };
        let table = Table {
            rows: vec![row],
            errors: Vec::new(),
        };
        let line = "a-load: answers p50 2.0 ms, p99 1000.0 ms, slowest 9000.0 ms, 3 without work; \
                    proofs: 1 accepted, 2 stale, 4 refused by a rule, 0 unknown, 0 wrong\n";
        assert!(table.to_text().contains(line), "{}", table.to_text());
        assert_eq!(table.to_json()["rows"][0]["answers"]["stale"], 2);
    }

    #[test]
    fn shares_are_shown_beside_the_first_row() {
        let table = Table {
            rows: vec![row(60, 1024, 10), row(30, 1024, 10)],
            errors: Vec::new(),
        };
        assert!(!table.has_passed());
        let text = table.to_text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("100.0 %   100.0 %"), "{text}");
        assert!(lines[2].contains(" 50.0 %    50.0 %"), "{text}");
        assert!(lines[2].ends_with("FAILED: blocks"), "{text}");
        let json = table.to_json();
        assert_eq!(json["passed"], false);
        assert_eq!(json["rows"][1]["share_percent"], 50.0);
        assert_eq!(json["rows"][1]["validators"][1]["after_kib"], 1024);
    }
}
