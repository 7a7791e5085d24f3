//! The recorder and the page, compared with the counters of a whole run.

use std::collections::BTreeMap;

use serde_json::Value;

use super::run::SCRIPTS;
use super::{MAX_PAGE, page, run_page};
use crate::events::{FaultCategory, Recorder};
use crate::faults::SUBJECTS;
use crate::params::Stack;
use crate::plan::Plan;
use crate::plan::format;
use crate::run::outcome::Outcome;
use crate::run::{self, Look, Mode, View};

const WORLD: &str = r#"
why = "A little of everything, for the page about it."
until = "16s"
[[step]]
at = "5s"
for = "2s"
nodes = [2]
fault = "kill"
machine = "all"
power = true
[[step]]
at = "6s"
for = "2s"
nodes = [1, 3]
fault = "partition"
[[step]]
at = "9s"
for = "1s"
nodes = [4]
fault = "clock"
by = "100ms"
[[step]]
at = "11s"
for = "1s"
nodes = [3]
fault = "pause"
[[step]]
at = "12s"
nodes = ["any"]
fault = "reset"
[[step]]
at = "13s"
nodes = [1]
fault = "actor-panic"
actor = "engine"
"#;

fn plan() -> Plan {
    format::parse("everything.toml", WORLD)
        .expect("a scenario")
        .plan(3)
}

fn run(record: Option<Recorder>) -> Outcome {
    let mode = Mode {
        mutant: None,
        stack: Stack::Fast,
        view: View::NONE,
        is_held: false,
        canary: None,
        window: None,
        record,
        look: Look::default(),
    };
    run::run(&plan(), 3, mode)
}

/// The data of a page.
fn data_of(page: &str) -> Value {
    let (_, data) = page.split_once("id=\"data\">").expect("a page has data");
    let (data, _) = data.split_once("</script>").expect("which end");
    serde_json::from_str(data).expect("and are JSON")
}

fn numbers(value: &Value) -> Vec<i64> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_i64)
        .collect()
}

#[test]
fn every_category_of_faults_has_a_colour_in_both_themes() {
    for subject in SUBJECTS {
        assert!(
            FaultCategory::ALL.contains(&subject.category),
            "{:?} is not in the list of the pages",
            subject.category
        );
    }
    for category in FaultCategory::ALL {
        let name = serde_json::to_value(category).expect("a word");
        let colour = format!("--c-{}:", name.as_str().expect("a word"));
        assert_eq!(
            include_str!("page.css").matches(&colour).count(),
            2,
            "{colour}"
        );
    }
}

#[test]
fn a_recorded_run_is_the_same_run_and_its_page_shows_all_of_it() {
    let recorder = Recorder::new(&plan().world, None);
    let outcome = run(Some(recorder.clone()));
    assert_eq!(
        run(None).trace_hash,
        outcome.trace_hash,
        "recording changes nothing"
    );
    assert!(outcome.is_passed(), "{outcome}");

    let page = run_page(
        &plan(),
        &outcome,
        &recorder,
        "cargo sim run everything.toml --seed 3",
    )
    .expect("a page");
    assert!(page.len() < MAX_PAGE / 10, "{} bytes", page.len());
    let data = data_of(&page);
    assert_eq!(data["left_out"], serde_json::json!({}));
    assert_eq!(data["seed"], 3);

    let names: Vec<&str> = data["kinds"]
        .as_array()
        .expect("kinds")
        .iter()
        .filter_map(|k| k["name"].as_str())
        .collect();
    assert_eq!(data["roles"], serde_json::json!(["node", "execution"]));
    let lanes: Vec<&str> = data["lanes"]
        .as_array()
        .expect("lanes")
        .iter()
        .filter_map(|l| l["name"].as_str())
        .collect();
    let kinds = numbers(&data["marks"]["k"]);
    let on = numbers(&data["marks"]["l"]);
    let mut marks: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, lane) in kinds.iter().zip(&on) {
        let is_node = lanes[*lane as usize].starts_with("node");
        *marks
            .entry(if is_node {
                names[*kind as usize]
            } else {
                "elsewhere"
            })
            .or_default() += 1;
    }
    let said = [
        ("Approval", "said.signed.approval"),
        ("Confirmation", "said.signed.confirmation"),
        ("Proposal", "said.proposed"),
        ("Head", "said.head"),
        ("Final", "said.finalized"),
        ("Peers", "said.peers"),
    ];
    for (mark, counter) in said {
        assert_eq!(
            marks.get(mark),
            outcome.counters.get(counter),
            "{mark}: all that was said is drawn"
        );
    }
    let some = |kind: &str| assert!(marks.contains_key(kind), "{kind} is drawn: {marks:?}");
    [
        "Start",
        "Death",
        "Pause",
        "Clock",
        "Strike",
        "ActorDown",
        "ActorUp",
    ]
    .into_iter()
    .for_each(some);
    assert!(
        names
            .iter()
            .zip(0..)
            .any(|(name, at)| *name == "Heal" && kinds.contains(&at))
    );
    let first_finals = kinds
        .iter()
        .zip(&on)
        .filter(|(kind, lane)| names[**kind as usize] == "Final" && **lane == 0);
    assert_eq!(
        first_finals.count() as u64,
        outcome.final_height,
        "each block is final for the first time once"
    );

    let spans = data["spans"].as_array().expect("spans");
    let of = |kind: &str, name: &str| -> Vec<(&str, f64, Option<f64>)> {
        let those = spans
            .iter()
            .filter(|span| span["kind"] == kind && span["name"] == name);
        let ms = |value: &Value| value.as_f64().map(|us| us / 1e3);
        those
            .map(|s| {
                (
                    lanes[s["l"].as_u64().unwrap_or(0) as usize],
                    ms(&s["a"]).unwrap_or(0.0),
                    ms(&s["b"]),
                )
            })
            .collect()
    };
    let where_ =
        |kind: &str, name: &str| of(kind, name).iter().map(|span| span.0).collect::<Vec<_>>();
    assert_eq!(where_("fault", "kill"), ["execution2", "node2"]);
    assert_eq!(where_("fault", "partition"), ["node1", "node3"]);
    assert_eq!(where_("fault", "clock"), ["execution4", "node4"]);
    assert_eq!(where_("fault", "actor-panic"), ["node1"]);
    for (_, from, to) in of("fault", "kill") {
        assert!(
            (5_000.0..5_001.0).contains(&from)
                && to.is_some_and(|to| (7_000.0..7_002.0).contains(&to))
        );
    }
    assert_eq!(
        of("down", "down").len(),
        2,
        "two machines were down: {spans:?}"
    );
    assert!(
        of("down", "down")
            .iter()
            .all(|(_, from, to)| to.is_some_and(|to| to - from > 1_900.0))
    );
    assert_eq!(where_("paused", "paused"), ["node3"]);
    assert_eq!(where_("actor_down", "chain/engine"), ["node1"]);

    let sent = numbers(&data["messages"]["t"]).len() as u64;
    assert_eq!(
        (sent, data["messages_total"].as_u64()),
        (sent, Some(sent)),
        "a short run keeps all messages"
    );
    assert!(sent > 500, "{sent}");
    let delays = numbers(&data["messages"]["d"]);
    let unread = delays.iter().filter(|delay| **delay < 0).count();
    assert!(
        unread > 0 && unread * 10 < delays.len(),
        "some were cut off, most were read: {unread} of {}",
        delays.len()
    );
}

#[test]
fn a_page_is_one_file_and_data_cannot_leave_its_place() {
    let template = "<title>{{title}}</title><script>{{data}}</script>";
    let page = page(template, "a < b", &[], &"</script>{{title}}").expect("is made");
    assert_eq!(
        page,
        "<title>a &lt; b</title><script>\"\\u003c/script>{{title}}\"</script>"
    );
    for template in [include_str!("run.html"), include_str!("sweep.html")] {
        for name in ["{{title}}", "{{style}}", "{{data}}", "{{script}}"] {
            assert_eq!(template.matches(name).count(), 1, "{name}");
        }
    }
    let texts = [
        include_str!("run.html"),
        include_str!("sweep.html"),
        include_str!("page.css"),
        include_str!("page.js"),
        include_str!("sweep.js"),
    ];
    for text in texts.iter().chain(SCRIPTS) {
        for outside in [
            "http:", "https:", "import ", "@import", "fetch(", "url(", " src=",
        ] {
            assert!(!text.contains(outside), "{outside}");
        }
    }
}
