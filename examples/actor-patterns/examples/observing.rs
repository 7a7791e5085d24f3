//! See `src/observing.rs`. Here with a line for each span, one a message, that says whom it was for, what it was,
//! and which message from outside it all began with.

use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

fn main() -> alys_actor_patterns::Outcome {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("alys_actor_system=debug"))
        .with_span_events(FmtSpan::CLOSE)
        .init();
    alys_runtime::block_on_main(alys_actor_patterns::observing::run())
}
