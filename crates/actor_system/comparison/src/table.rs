//! The results as a text table and as JSON.

use crate::{
    contender::{COLUMNS, FRAMEWORKS, OURS, RAW},
    options::Options,
    rounds::Line,
};

pub fn text(options: &Options, lines: &[Line]) -> String {
    let mut head = vec!["measure".to_owned(), "unit".to_owned()];
    head.extend(COLUMNS.iter().map(|column| column.name.to_owned()));
    head.extend(["vs best", "vs raw", "spread"].map(str::to_owned));
    let mut rows = vec![head];
    rows.extend(lines.iter().map(cells));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = format!(
        "Median of {} rounds; tokio runtime with {} workers.\n\
         vs best: the cost of ours in units of the best of {}; vs raw: of the bare channel. \
         Below 1.00x ours is ahead.\n\
         spread: highest less lowest round of the least steady column, as a part of its \
         median.\n\n",
        options.rounds,
        options.workers,
        FRAMEWORKS.join(", "),
    );
    for (index, row) in rows.iter().enumerate() {
        let padded = row.iter().zip(&widths).enumerate();
        let padded = padded.map(|(column, (cell, width))| {
            // Names to the left, numbers to the right.
            if column < 2 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        push_line(&mut text, padded);
        if index == 0 {
            push_line(&mut text, widths.iter().map(|width| "-".repeat(*width)));
        }
    }
    text
}

fn cells(line: &Line) -> Vec<String> {
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    let ratio = |others: &[&str]| {
        let cost = line.cost_against(OURS, others);
        or_dash(cost.map(|cost| format!("{cost:.2}x")))
    };
    let mut cells = vec![line.row.name.to_owned(), line.row.unit.to_owned()];
    cells.extend((0..COLUMNS.len()).map(|column| or_dash(line.median(column).map(digits))));
    cells.push(ratio(&FRAMEWORKS));
    cells.push(ratio(&[RAW]));
    cells.push(format!("{:.0}%", line.spread() * 100.0));
    cells
}

fn push_line(text: &mut String, cells: impl Iterator<Item = String>) {
    text.push_str("| ");
    text.push_str(&cells.collect::<Vec<_>>().join(" | "));
    text.push_str(" |\n");
}

/// Three significant digits.
fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// The table with the values of every round, as JSON. All names in it are ours, and need no
/// escapes.
pub fn json(options: &Options, lines: &[Line]) -> String {
    let rows: Vec<String> = lines.iter().map(json_row).collect();
    format!(
        "{{\n  \"rounds\": {},\n  \"workers\": {},\n  \"rows\": [\n{}\n  ]\n}}\n",
        options.rounds,
        options.workers,
        rows.join(",\n"),
    )
}

fn json_row(line: &Line) -> String {
    let number = |value: Option<f64>| value.map_or("null".to_owned(), |value| value.to_string());
    let median = json_columns(|column| number(line.median(column)));
    let rounds = json_columns(|column| format!("{:?}", line.values[column]));
    let vs_best = number(line.cost_against(OURS, &FRAMEWORKS));
    let vs_raw = number(line.cost_against(OURS, &[RAW]));
    format!(
        r#"    {{ "measure": "{}", "row": "{}", "unit": "{}", "more_is_better": {},
      "median": {median},
      "rounds": {rounds},
      "vs_best": {vs_best}, "vs_raw": {vs_raw} }}"#,
        line.measure.name, line.row.name, line.row.unit, line.row.is_rate,
    )
}

fn json_columns(value: impl Fn(usize) -> String) -> String {
    let columns = COLUMNS.iter().enumerate();
    let columns: Vec<String> = columns
        .map(|(index, column)| format!("\"{}\": {}", column.name, value(index)))
        .collect();
    format!("{{ {} }}", columns.join(", "))
}
