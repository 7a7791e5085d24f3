//! A subscriber that collects the lines logged at a level or above. An error is a bug, or a root
//! that gave up.

use std::{
    fmt::{Debug, Write},
    sync::{Mutex, MutexGuard, Once},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Collects lines of this level and above.
struct Collector(LevelFilter);

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0 && metadata.target().starts_with("alys_")
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        LINES.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

/// Installs the subscriber; later calls have no effect.
pub fn listen(least: LevelFilter) {
    static LISTENS: Once = Once::new();
    LISTENS.call_once(|| tracing::subscriber::set_global_default(Collector(least)).unwrap());
}

/// The lines logged so far, each with its level first, by all tests of the binary. Tests may run in
/// parallel, so a caller filters by path, or clears the list if it is the only test.
pub fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap()
}
