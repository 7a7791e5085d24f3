//! Writing scenario files, which [`super::parse`] reads back as the same plan.

use std::fmt::Write;

use serde::Serialize;

use super::File;
use crate::params::{LinkPlan, WorkloadPlan, WorldPlan};
use crate::plan::{Expect, Plan};

/// Line width of the text of `why`.
const WIDTH: usize = 100;

/// Returns the plan as a scenario file. It omits default values, and the name, because the file's
/// name provides it.
pub fn to_toml(plan: &Plan) -> String {
    let File {
        name: _,
        why,
        covers,
        seed,
        mutant,
        until_ms,
        world,
        links,
        workload,
        expect,
        swarm: _,
        step,
    } = File::from(plan.clone());
    let mut text = reason(&why);
    let mut line =
        |word: &str, value: String| writeln!(text, "{word} = {value}").unwrap_or_default();
    if !covers.is_empty() {
        line("covers", value(&covers));
    }
    if let Some(seed) = seed {
        line("seed", seed.to_string());
    }
    if let Some(mutant) = mutant {
        line("mutant", value(&mutant));
    }
    line("until", value(&crate::params::Ms(until_ms)));
    section(&mut text, "world", &world, &WorldPlan::default());
    section(&mut text, "links", &links, &LinkPlan::default());
    section(&mut text, "workload", &workload, &WorkloadPlan::default());
    section(&mut text, "expect", &expect, &Expect::default());
    for step in &step {
        let step =
            toml::to_string(step).expect("a step is a table of texts, numbers and arrays of them");
        text.push_str("\n[[step]]\n");
        text.push_str(&step);
    }
    text
}

/// Formats the `why` of a plan: wrapped to [`WIDTH`], or as one escaped string where it needs
/// escapes.
fn reason(why: &str) -> String {
    if why.contains(['"', '\\']) || why.chars().any(char::is_control) || why.len() + 8 <= WIDTH {
        return format!("why = {}\n", value(&why));
    }
    let lines = lines(why, WIDTH - 1).join("\n");
    format!("why = \"\"\"\n{lines}\n\"\"\"\n")
}

/// Breaks a text into lines of at most `width` bytes, except for longer words.
pub fn lines(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn value(of: &impl Serialize) -> String {
    toml::Value::try_from(of)
        .expect("plans are texts, numbers and arrays of them")
        .to_string()
}

/// Appends a table with the values that differ from the defaults.
fn section<T: Serialize>(text: &mut String, name: &str, of: &T, absent: &T) {
    let table = |of: &T| toml::Table::try_from(of).expect("parts of plans are tables");
    let absent = table(absent);
    let given: toml::Table = table(of)
        .into_iter()
        .filter(|(word, value)| absent.get(word) != Some(value))
        .collect();
    if !given.is_empty() {
        let _ = writeln!(text, "\n[{name}]");
        for (word, value) in given {
            let _ = writeln!(text, "{word} = {value}");
        }
    }
}
