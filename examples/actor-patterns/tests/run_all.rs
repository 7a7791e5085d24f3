//! Every story is true, in both worlds.

use alys_actor_patterns::Outcome;

fn tell<F: Future<Output = Outcome> + Send + 'static>(story: F) {
    let told = alys_runtime::block_on_main(story);
    assert!(told.is_ok(), "{told:?}");
}

macro_rules! stories {
    ($($story:ident),+ $(,)?) => {
        $(
            #[test]
            fn $story() {
                tell(alys_actor_patterns::$story::run());
            }
        )+
    };
}

stories! {
    access,
    backpressure,
    configuration,
    dependencies,
    faults,
    kept_state,
    observing,
    pool,
    priorities,
    pub_sub,
    request_response,
    supervision,
}

/// What the guide begins with is the code of `start.rs`, to the letter, so that its test is the guide's.
#[test]
fn the_guide_begins_with_code_that_is_tested() {
    let guide = include_str!("../../../docs/v2/actor-system-guide.md");
    let start = include_str!("../src/start.rs");
    assert!(guide.contains(&format!("```rust\n{start}```\n")), "src/start.rs is not in the guide as it is");
}
