//! Runs the story of `src/request_response.rs`.

fn main() -> alys_actor_patterns::Outcome {
    alys_runtime::block_on_main(alys_actor_patterns::request_response::run())
}
