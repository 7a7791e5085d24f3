//! Runs every story, in both worlds, and compares the guide with the code.

use alys_actor_patterns::Outcome;

fn check<F: Future<Output = Outcome> + Send + 'static>(story: F) {
    let outcome = alys_runtime::block_on_main(story);
    assert!(outcome.is_ok(), "{outcome:?}");
}

macro_rules! stories {
    ($($story:ident),+ $(,)?) => {
        $(
            #[test]
            fn $story() {
                check(alys_actor_patterns::$story::run());
            }
        )+
    };
}

stories! {
    access,
    dependencies,
    faults,
    mailboxes,
    observing,
    pool,
    pub_sub,
    request_response,
    state_over_restarts,
    supervision,
}

/// `start.rs` is compared to the letter, so that its test is the guide's.
#[test]
fn the_guide_begins_with_code_that_is_tested() {
    let guide = include_str!("../../../docs/v2/actor-system-guide.md");
    let start = include_str!("../src/start.rs");
    assert!(
        guide.contains(&format!("```rust\n{start}```\n")),
        "src/start.rs is not in the guide as it is"
    );
}

#[test]
fn the_guide_lists_the_limits_of_the_code() {
    let guide = include_str!("../../../docs/v2/actor-system-guide.md");
    macro_rules! limits {
        ($from:ident: $($($part:ident)::+),+ $(,)?) => {
            [$((stringify!($($part)::+), $from::$($part)::+ as u64)),+]
        };
    }
    let core = limits![
        alys_actor_system:
        MAX_CHILDREN,
        MAX_TASKS,
        MAX_TIMERS,
        MAX_OVERTAKES,
        DEAD_LETTERS_KEPT,
        MAX_PLANNED,
        MAX_SEEN,
        access::MAX_ROLES,
        access::MAX_ROLE_BYTES,
        access::MAX_KINDS,
        access::MAX_TRAIL,
    ];
    let extras = limits![
        alys_actor_extras:
        MAX_POOL,
        MAX_MEMBERS,
        MAX_SUBSCRIPTIONS,
        MAX_NESTED_PUBLISHES,
        gateway::MAX_FRAME_BYTES,
        gateway::MAX_SENDER_BYTES,
    ];
    for (name, value) in core.into_iter().chain(extras) {
        let row = format!("| `{}` | {value} |", name.replace(' ', ""));
        assert!(guide.contains(&row), "the guide has no row {row}");
    }
}
