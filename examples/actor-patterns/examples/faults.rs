//! Runs the story of `src/faults.rs`.

fn main() -> alys_actor_patterns::Outcome {
    alys_runtime::block_on_main(alys_actor_patterns::faults::run())
}
