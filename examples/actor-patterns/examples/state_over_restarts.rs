//! Runs the story of `src/state_over_restarts.rs`.

fn main() -> alys_actor_patterns::Outcome {
    alys_runtime::block_on_main(alys_actor_patterns::state_over_restarts::run())
}
