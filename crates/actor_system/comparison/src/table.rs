//! What was measured, for people and for programs.

use std::fmt::Write;

use crate::{
    measure::{CONTENDERS, FRAMEWORKS, OURS, RAW},
    options::Options,
    rounds::Line,
};

/// The table as text.
pub fn text(options: &Options, lines: &[Line]) -> String {
    let mut head = vec!["measure".to_owned(), "unit".to_owned()];
    head.extend(CONTENDERS.map(|(name, _)| name.to_owned()));
    head.extend(["vs best", "vs raw", "spread"].map(str::to_owned));
    let mut cells = vec![head];
    for line in lines {
        let mut row = vec![line.row.name.to_owned(), line.row.unit.to_owned()];
        row.extend(
            (0..CONTENDERS.len()).map(|index| line.median(index).map_or("-".to_owned(), digits)),
        );
        for others in [&FRAMEWORKS[..], &[RAW]] {
            let cost = line.cost_against(OURS, others);
            row.push(cost.map_or("-".to_owned(), |cost| format!("{cost:.2}x")));
        }
        row.push(format!("{:.0}%", line.spread() * 100.0));
        cells.push(row);
    }
    let widths: Vec<usize> = (0..cells[0].len())
        .map(|column| cells.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = format!(
        "Median of {} rounds; tokio runtime with {} workers.\n\
         vs best: what ours costs, in units of the best of {}; vs raw: of the bare channel. Below 1.00x ours is \
         ahead.\nspread: how far the rounds of the least steady column lie apart.\n\n",
        options.rounds,
        options.workers,
        FRAMEWORKS.join(", "),
    );
    for (index, row) in cells.iter().enumerate() {
        line(
            &mut text,
            row.iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    // Names to the left, numbers to the right.
                    if column < 2 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                }),
        );
        if index == 0 {
            line(&mut text, widths.iter().map(|width| "-".repeat(*width)));
        }
    }
    text
}

fn line(text: &mut String, cells: impl Iterator<Item = String>) {
    text.push_str("| ");
    text.push_str(&cells.collect::<Vec<_>>().join(" | "));
    text.push_str(" |\n");
}

/// Three digits that matter.
fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// The table with the values of every round, as JSON. All names in it are ours, and need no escapes.
pub fn json(options: &Options, lines: &[Line]) -> String {
    let rows: Vec<String> = lines
        .iter()
        .map(|line| {
            let number = |value: Option<f64>| value.map_or("null".to_owned(), |value| value.to_string());
            let mut row = String::new();
            let _ = write!(
                row,
                "    {{ \"measure\": \"{}\", \"row\": \"{}\", \"unit\": \"{}\", \"more_is_better\": {},",
                line.measure.name(),
                line.row.name,
                line.row.unit,
                line.row.is_rate,
            );
            let medians = columns(|index| number(line.median(index)));
            let rounds = columns(|index| format!("{:?}", line.values[index]));
            let (best, raw) = (line.cost_against(OURS, &FRAMEWORKS), line.cost_against(OURS, &[RAW]));
            let _ = write!(
                row,
                "\n      \"median\": {medians},\n      \"rounds\": {rounds},\n      \"vs_best\": {}, \"vs_raw\": {} }}",
                number(best),
                number(raw),
            );
            row
        })
        .collect();
    format!(
        "{{\n  \"rounds\": {},\n  \"workers\": {},\n  \"rows\": [\n{}\n  ]\n}}\n",
        options.rounds,
        options.workers,
        rows.join(",\n"),
    )
}

fn columns(value: impl Fn(usize) -> String) -> String {
    let columns: Vec<String> = CONTENDERS
        .iter()
        .enumerate()
        .map(|(index, (name, _))| format!("\"{name}\": {}", value(index)))
        .collect();
    format!("{{ {} }}", columns.join(", "))
}
