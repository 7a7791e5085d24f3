//! Reading scenario files.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check::{Part, Problem, check};
use super::file::{Nested, STEP_WORDS};
use super::{File, Scenario, ScenarioError, meant, nearest, stem};
use crate::plan::Plan;

/// Parses a scenario in TOML. `file` appears in messages and gives the default name.
///
/// # Errors
/// [`ScenarioError::Wrong`].
pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let wrong = |at: usize, message: String, meant: Option<String>| {
        let before = text.get(..at).unwrap_or(text);
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.chars().rev().take_while(|c| *c != '\n').count();
        ScenarioError::Wrong {
            file: file.to_owned(),
            line,
            column,
            message,
            meant,
        }
    };
    let of_toml = |error: toml::de::Error, root: Option<&DeTable<'_>>| {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        let (message, meant) = reworded(&message, root.and_then(|root| fault_at(root, at)));
        wrong(at, message, meant)
    };
    let mut root = DeTable::parse(text).map_err(|error| of_toml(error, None))?;
    let places = root.get_ref().clone();
    nest(root.get_mut());
    let read = File::<Nested>::deserialize(toml::Deserializer::from(root));
    let file_read = read.map_err(|error| of_toml(error, Some(&places)))?.flat();
    let swarm = file_read.swarm.clone();
    let mut plan = Plan::from(file_read);
    check(&plan, swarm.as_ref()).map_err(
        |Problem {
             path,
             message,
             meant,
         }| { wrong(place(&places, &path).unwrap_or(0), message, meant) },
    )?;
    if plan.name.is_empty() {
        plan.name = stem(Path::new(file));
    }
    plan.why = plan.why.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Scenario {
        path: PathBuf::from(file),
        plan,
        swarm,
    })
}

/// Parses a scenario in JSON, as `cargo sim describe --json` writes it.
///
/// # Errors
/// [`ScenarioError::Wrong`]; an error of the semantic checks has the position 1:1, because values
/// keep no positions in JSON.
pub(super) fn parse_json(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let wrong = |line, column, message: String, meant| {
        let file = file.to_owned();
        ScenarioError::Wrong {
            file,
            line,
            column,
            message,
            meant,
        }
    };
    let read: File = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let meant = meant(&message);
        wrong(error.line(), error.column(), message, meant)
    })?;
    let swarm = read.swarm.clone();
    let mut plan = Plan::from(read);
    check(&plan, swarm.as_ref()).map_err(|problem| wrong(1, 1, problem.message, problem.meant))?;
    if plan.name.is_empty() {
        plan.name = stem(Path::new(file));
    }
    Ok(Scenario {
        path: PathBuf::from(file),
        plan,
        swarm,
    })
}

/// Moves the values of each fault into a separate table: `fault = "kill", power = true` becomes
/// `fault.kill.power = true`. Every value keeps its position in the text.
fn nest(root: &mut DeTable<'_>) {
    let Some(DeValue::Array(steps)) = root.get_mut("step").map(Spanned::get_mut) else {
        return;
    };
    for step in steps.iter_mut() {
        let span = step.span();
        let DeValue::Table(table) = step.get_mut() else {
            continue;
        };
        let Some(fault) = table.get("fault") else {
            continue;
        };
        let DeValue::String(kind) = fault.get_ref() else {
            continue;
        };
        let kind = Spanned::new(fault.span(), kind.clone());
        let mut values = DeTable::new();
        for (word, value) in std::mem::take(table) {
            let is_of_step = STEP_WORDS.contains(&word.get_ref().as_ref());
            if is_of_step {
                table.insert(word, value)
            } else {
                values.insert(word, value)
            };
        }
        let mut nested = DeTable::new();
        nested.insert(kind.clone(), Spanned::new(span, DeValue::Table(values)));
        let word = Spanned::new(kind.span(), Cow::Borrowed("fault"));
        table.insert(word, Spanned::new(kind.span(), DeValue::Table(nested)));
    }
}

/// Returns the fault of the step at this position of the text.
fn fault_at<'a>(root: &'a DeTable<'_>, at: usize) -> Option<&'a str> {
    let DeValue::Array(steps) = root.get("step")?.get_ref() else {
        return None;
    };
    let held = |step: &&Spanned<DeValue<'_>>| {
        let DeValue::Table(table) = step.get_ref() else {
            return false;
        };
        let end = table
            .values()
            .map(|value| value.span().end)
            .max()
            .unwrap_or(0);
        (step.span().start..end).contains(&at)
    };
    let DeValue::Table(step) = steps.iter().find(held)?.get_ref() else {
        return None;
    };
    match step.get("fault")?.get_ref() {
        DeValue::String(kind) => Some(kind.as_ref()),
        _ => None,
    }
}

/// Rewords a message of the TOML reader in the terms of scenario files, and returns the most
/// similar known word with it.
fn reworded(message: &str, fault: Option<&str>) -> (String, Option<String>) {
    let Some(fault) = fault else {
        return (message.to_owned(), meant(message));
    };
    if let Some(rest) = message.strip_prefix("missing field ") {
        return (format!("{fault} needs {rest}"), None);
    }
    // Serde quotes words in backquotes, the unknown one first.
    let mut words = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field ")
        && let Some(word) = words.next()
    {
        let known: Vec<&str> = words.collect();
        let listed = if known.is_empty() {
            "which takes no words of its own".to_owned()
        } else {
            format!("expected one of `{}`", known.join("`, `"))
        };
        let meant = nearest(word, known.into_iter().chain(STEP_WORDS));
        return (
            format!("unknown word `{word}` for {fault}, {listed}"),
            meant,
        );
    }
    (message.to_owned(), meant(message))
}

/// Returns the position of a value, or of the closest ancestor that is in the text.
fn place(root: &DeTable<'_>, path: &[Part]) -> Option<usize> {
    let Some((Part::Word(first), rest)) = path.split_first() else {
        return None;
    };
    let mut here = root.get(*first)?;
    for part in rest {
        let next = match (part, here.get_ref()) {
            (Part::Word(word), DeValue::Table(table)) => table.get(*word),
            (Part::Index(index), DeValue::Array(array)) => array.get(*index),
            _ => None,
        };
        let Some(next) = next else { break };
        here = next;
    }
    Some(here.span().start)
}
