//! Runs the story of `src/observing.rs`, with a line for each span, one a message: its receiver,
//! its kind, and the message from outside that caused it.

use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

fn main() -> alys_actor_patterns::Outcome {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("alys_actor_system=debug"))
        .with_span_events(FmtSpan::CLOSE)
        .init();
    alys_runtime::block_on_main(alys_actor_patterns::observing::run())
}
