//! Runs the story of `src/pub_sub.rs`.

fn main() -> alys_actor_patterns::Outcome {
    alys_runtime::block_on_main(alys_actor_patterns::pub_sub::run())
}
