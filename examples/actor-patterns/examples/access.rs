//! Runs the story of `src/access.rs`.

fn main() -> alys_actor_patterns::Outcome {
    alys_runtime::block_on_main(alys_actor_patterns::access::run())
}
