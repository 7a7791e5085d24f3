//! What the crate logs as an error: that the root gave up, which a plan may bring about, or a bug.

use std::{
    fmt::{Debug, Write},
    mem,
    sync::Mutex,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Errors;

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.target().starts_with("alys_actor_system")
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        LINES.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

/// Hears all errors from now on.
pub fn listen() {
    let _is_first = tracing::subscriber::set_global_default(Errors);
}

/// The errors since the last run, which was that of the system of this name: one run after the other.
pub fn of(name: &str, may_give_up: bool) -> Vec<String> {
    let lines = mem::take(&mut *LINES.lock().unwrap());
    let giving_up = format!("system={name} ");
    let is_fine = |line: &String| may_give_up && line.contains(&giving_up) && line.contains("gave up");
    lines.into_iter().filter(|line| !is_fine(line)).map(|line| format!("logged: {line}")).collect()
}
