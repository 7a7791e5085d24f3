//! Buggify sites.

use super::*;

/// Evaluates two sites on two nodes many times: (short_read, short_write) of the first node, then
/// of the second.
fn fired(
    seed: u64,
    share_ppm: Option<u32>,
) -> (
    Vec<[bool; 4]>,
    std::collections::BTreeMap<&'static str, u64>,
) {
    const ROUNDS: usize = 400;
    let finished = sim::try_run(Options::new(seed), move |world| async move {
        world.set_buggify(share_ppm);
        let evaluate = || async {
            let mut fired = Vec::new();
            for _ in 0..ROUNDS {
                let read = alys_runtime::buggify!("runtime.net.short_read");
                let write = alys_runtime::buggify!("runtime.net.short_write", 10_000);
                fired.push((read, write));
            }
            fired
        };
        let a = world.node("a", ip(1), std::future::pending);
        let b = world.node("b", ip(2), std::future::pending);
        let a = world.spawn_on(a, "evaluate", evaluate());
        let b = world.spawn_on(b, "evaluate", evaluate());
        let a = a.await.expect("it ends");
        let b = b.await.expect("it ends");
        a.into_iter()
            .zip(b)
            .map(|((a, b), (c, d))| [a, b, c, d])
            .collect::<Vec<_>>()
    });
    (finished.result.expect("nothing panics"), finished.counters)
}

#[test]
fn enabled_sites_fire_with_their_probability_and_disabled_ones_never() {
    let (all, counters) = fired(1, Some(1_000_000));
    let count = |at: usize| all.iter().filter(|fired| fired[at]).count();
    for (frequent, rare) in [(0, 1), (2, 3)] {
        assert!(
            (60..140).contains(&count(frequent)),
            "a quarter of 400: {}",
            count(frequent)
        );
        assert!(count(rare) < 20, "a hundredth of 400: {}", count(rare));
    }
    assert_eq!(counters["site.runtime.net.short_read.on"], 1);
    assert_eq!(
        counters["site.runtime.net.short_read.fired"] as usize,
        count(0) + count(2)
    );
    assert_ne!(
        all.iter().map(|fired| fired[0]).collect::<Vec<_>>(),
        all.iter().map(|fired| fired[2]).collect::<Vec<_>>(),
        "each node has its own stream"
    );
    assert_eq!(
        fired(1, Some(1_000_000)),
        (all, counters),
        "the seed determines the firings"
    );

    for share in [None, Some(0)] {
        let (none, counters) = fired(1, share);
        assert!(none.iter().flatten().all(|fires| !fires));
        assert!(!counters.keys().any(|name| name.starts_with("site.")));
    }
}

#[test]
fn each_run_enables_a_different_quarter_of_the_sites() {
    let on = |seed| -> Vec<&'static str> {
        let (_, counters) = fired(seed, Some(sim::DEFAULT_SHARE_PPM));
        counters
            .into_keys()
            .filter(|name| name.ends_with(".on"))
            .collect()
    };
    let runs = 20;
    let sites = alys_runtime::buggify::SITES.len();
    let drawn: Vec<_> = (1..=runs).map(on).collect();
    let total: usize = drawn.iter().map(Vec::len).sum();
    let expected = sites * runs as usize / 4;
    assert!(
        (expected * 8 / 10..expected * 12 / 10).contains(&total),
        "{total} of {expected}"
    );
    assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn no_site_fires_on_an_exempt_node_or_in_the_world() {
    sim::run(Options::new(1), |world| async move {
        world.set_buggify(Some(1_000_000));
        let exempt = world.node("exempt", ip(1), std::future::pending);
        world.exempt_from_buggify(exempt);
        let fires = || alys_runtime::buggify!("runtime.net.short_read", 1_000_000);
        assert!(
            !world
                .spawn_on(exempt, "evaluate", async move { fires() })
                .await
                .expect("it ends")
        );
        assert!(!fires(), "in the world");
        let other = world.node("other", ip(2), std::future::pending);
        assert!(
            world
                .spawn_on(other, "evaluate", async move { fires() })
                .await
                .expect("it ends")
        );
        world.set_buggify(None);
        assert!(
            !world
                .spawn_on(other, "evaluate", async move { fires() })
                .await
                .expect("it ends")
        );
    });
}
