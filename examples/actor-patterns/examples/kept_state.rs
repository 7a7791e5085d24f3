//! See `src/kept_state.rs`.

fn main() -> alys_actor_patterns::Outcome {
    alys_runtime::block_on_main(alys_actor_patterns::kept_state::run())
}
