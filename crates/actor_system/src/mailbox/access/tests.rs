//! Tests of tables, grants and the audit trail.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;

const LIMIT: RateLimit = RateLimit {
    burst: 2,
    per_second: 1,
};

fn table() -> AccessTable {
    AccessTable::builder()
        .role("network")
        .role("chain")
        .role("engine")
        .allow(
            "network",
            "chain",
            Kinds::only(["block", "vote"]),
            Some(LIMIT),
        )
        .allow("chain", "engine", Kinds::All, None)
        .build()
        .unwrap()
}

fn start() -> Instant {
    alys_runtime::time::now()
}

#[test]
fn a_mistake_in_a_table_is_named_and_the_first_one_counts() {
    let two = || AccessTable::builder().role("a").role("b");
    let name = |name: &str| name.to_owned();
    let long = "r".repeat(MAX_ROLE_BYTES + 1);
    let crowd = (0..=MAX_ROLES).fold(AccessTable::builder(), |table, n| {
        table.role(&format!("r{n}"))
    });
    let kinds: Vec<&'static str> = (0..=MAX_KINDS).map(|n| &*format!("k{n}").leak()).collect();
    for (builder, error) in [
        (
            two().allow("a", "c", Kinds::All, None),
            TableError::UnknownRole { name: name("c") },
        ),
        (
            two().allow("c", "a", Kinds::All, None),
            TableError::UnknownRole { name: name("c") },
        ),
        (two().role("a"), TableError::RoleTwice { name: name("a") }),
        (two().role(""), TableError::BadRoleName { bytes: 0 }),
        (
            two().role(&long),
            TableError::BadRoleName {
                bytes: MAX_ROLE_BYTES + 1,
            },
        ),
        (crowd, TableError::TooManyRoles { limit: MAX_ROLES }),
        (
            two()
                .allow("a", "b", Kinds::All, None)
                .allow("a", "b", Kinds::only(["x"]), None),
            TableError::RuleTwice {
                from: name("a"),
                to: name("b"),
            },
        ),
        (
            two().allow("a", "b", Kinds::only([]), None),
            TableError::BadKinds {
                from: name("a"),
                to: name("b"),
                kinds: 0,
            },
        ),
        (
            two().allow("a", "b", Kinds::only(kinds), None),
            TableError::BadKinds {
                from: name("a"),
                to: name("b"),
                kinds: MAX_KINDS + 1,
            },
        ),
        (
            two().allow(
                "a",
                "b",
                Kinds::All,
                Some(RateLimit {
                    burst: 0,
                    per_second: 1,
                }),
            ),
            TableError::ZeroLimit {
                from: name("a"),
                to: name("b"),
            },
        ),
        (
            two().allow(
                "a",
                "b",
                Kinds::All,
                Some(RateLimit {
                    burst: 1,
                    per_second: 0,
                }),
            ),
            TableError::ZeroLimit {
                from: name("a"),
                to: name("b"),
            },
        ),
        (
            two().role("a").role(""),
            TableError::RoleTwice { name: name("a") },
        ),
    ] {
        assert_eq!(builder.build().unwrap_err(), error);
    }
}

#[test]
fn a_table_says_what_it_holds() {
    let table = table();
    assert_eq!(
        table.roles().map(Role::name).collect::<Vec<_>>(),
        ["chain", "engine", "network"]
    );
    let rules: Vec<_> = table
        .rules()
        .map(|(from, to, rule)| (from.name(), to.name(), rule.limit()))
        .collect();
    assert_eq!(
        rules,
        [("chain", "engine", None), ("network", "chain", Some(LIMIT))]
    );
    assert_eq!(
        table.role("miner").unwrap_err(),
        TableError::UnknownRole {
            name: "miner".into()
        }
    );
    let role = |name| table.role(name).unwrap();
    assert!(table.allows(&role("network"), &role("chain"), "vote"));
    assert!(!table.allows(&role("network"), &role("chain"), "import"));
    assert!(table.allows(&role("chain"), &role("engine"), "import"));
    assert!(!table.allows(&role("engine"), &role("chain"), "vote"));
    assert!(
        !table.allows(&role("chain"), &role("chain"), "vote"),
        "a role has no rights over itself"
    );
}

#[test]
fn an_address_is_handed_out_only_along_a_rule() {
    let access = Access::new(table());
    let role = |name| access.table().role(name).unwrap();
    let granted = access
        .grant(&role("chain"), &role("engine"), "s/engine")
        .unwrap();
    assert_eq!(granted.route().to_string(), "chain to engine (s/engine)");
    let denied = access
        .grant(&role("engine"), &role("chain"), "s/chain")
        .unwrap_err();
    assert_eq!(
        denied.to_string(),
        "no rule allows engine to chain (s/chain)"
    );

    let other = AccessTable::builder()
        .role("stranger")
        .build()
        .unwrap()
        .role("stranger")
        .unwrap();
    for (from, to) in [(&other, &role("chain")), (&role("chain"), &other)] {
        let denied = access.grant(from, to, "s/x").unwrap_err();
        assert_eq!(
            denied,
            Denied::UnknownRole {
                role: other.clone()
            }
        );
    }
    let audit = access.audit();
    assert_eq!(
        audit.counts,
        BTreeMap::from([((role("engine"), role("chain"), Why::NoRule), 1)])
    );
    assert_eq!(
        (audit.unknown_roles, audit.denied.len(), audit.refused.len()),
        (2, 3, 0)
    );
}

#[test]
fn a_refused_message_is_in_the_trail_and_an_admitted_one_is_not() {
    let (access, now) = (Access::new(table()), start());
    let role = |name| access.table().role(name).unwrap();
    let grant = access
        .grant(&role("network"), &role("chain"), "s/chain")
        .unwrap();
    assert_eq!(grant.admit("block", now), Ok(()));
    let refusal = grant.admit("import", now).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::NotAllowed {
            route: grant.route().clone(),
            kind: "import"
        }
    );
    assert_eq!(
        refusal.to_string(),
        "import is not allowed from network to chain (s/chain)"
    );
    assert_eq!(
        grant.admit("vote", now),
        Ok(()),
        "a refused message does not use up the limit"
    );
    let refusal = grant.admit("vote", now).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "vote from network to chain (s/chain) exceeds 1 a second in bursts of 2"
    );
    let later = now + Duration::from_secs(1);
    assert_eq!(grant.admit("vote", later), Ok(()));

    let audit = access.audit();
    let trail: Vec<_> = audit
        .refused
        .iter()
        .map(|one| (one.at, &*one.route.target, one.kind, one.why))
        .collect();
    assert_eq!(
        trail,
        [
            (now, "s/chain", "import", Why::NotAllowed),
            (now, "s/chain", "vote", Why::RateExceeded)
        ]
    );
    let key = |why| (role("network"), role("chain"), why);
    assert_eq!(
        audit.counts,
        BTreeMap::from([(key(Why::NotAllowed), 1), (key(Why::RateExceeded), 1)])
    );
}

#[test]
fn asking_for_the_address_again_gives_no_further_burst() {
    let (access, now) = (Access::new(table()), start());
    let role = |name| access.table().role(name).unwrap();
    let admitted = (0..10)
        .filter(|n| {
            let grant = access
                .clone()
                .grant(&role("network"), &role("chain"), &format!("s/{n}"))
                .unwrap();
            grant.admit("block", now).is_ok()
        })
        .count();
    assert_eq!(admitted, 2);
}

#[test]
fn the_trail_keeps_the_last_and_counts_all() {
    let (access, now) = (Access::new(table()), start());
    let role = |name| access.table().role(name).unwrap();
    let grant = access
        .grant(&role("network"), &role("chain"), "s/chain")
        .unwrap();
    let total = MAX_TRAIL as u64 * 3 + 1;
    for n in 0..total {
        assert!(
            grant
                .admit("import", now + Duration::from_nanos(n))
                .is_err()
        );
        assert!(
            access
                .grant(&role("engine"), &role("chain"), &n.to_string())
                .is_err()
        );
    }
    let audit = access.audit();
    assert_eq!(
        (audit.refused.len(), audit.denied.len()),
        (MAX_TRAIL, MAX_TRAIL)
    );
    assert_eq!(
        audit.refused.last().unwrap().at,
        now + Duration::from_nanos(total - 1)
    );
    assert_eq!(
        audit.refused[0].at,
        now + Duration::from_nanos(total - MAX_TRAIL as u64)
    );
    let last = (total - 1).to_string();
    assert!(
        matches!(&audit.denied[MAX_TRAIL - 1], Denied::NoRule(route) if *route.target == *last)
    );
    assert!(
        audit.counts.values().all(|count| *count == total) && audit.counts.len() == 2,
        "{audit:?}"
    );
}

#[test]
fn a_refusal_is_small() {
    assert!(
        size_of::<Refusal>() <= 5 * size_of::<usize>(),
        "{}",
        size_of::<Refusal>()
    );
}

const ROLES: [&str; 4] = ["a", "b", "c", "d"];
const KINDS: [&str; 4] = ["w", "x", "y", "z"];

type Rules = BTreeMap<(usize, usize), (Option<Vec<usize>>, Option<(u32, u32)>)>;

fn rules() -> impl Strategy<Value = Rules> {
    let kinds = prop::option::of(prop::collection::vec(0..4usize, 1..4));
    let limit = prop::option::of((1..4u32, 1..4u32));
    prop::collection::btree_map((0..4usize, 0..4usize), (kinds, limit), 0..10)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Compares each message with a table of the rules as plain data.
    #[test]
    fn rules_decide_about_each_message_and_refusals_are_counted(
        rules in rules(),
        messages in prop::collection::vec((0..4usize, 0..4usize, 0..4usize, 0..700u64), 0..200),
    ) {
        let mut builder = ROLES.into_iter().fold(AccessTable::builder(), Builder::role);
        let mut buckets = BTreeMap::new();
        for ((from, to), (kinds, limit)) in &rules {
            let named = kinds.as_ref().map(|kinds| kinds.iter().map(|kind| KINDS[*kind]));
            let kinds = named.map_or(Kinds::All, Kinds::only);
            let limit = limit.map(|(burst, per_second)| RateLimit { burst, per_second });
            builder = builder.allow(ROLES[*from], ROLES[*to], kinds, limit);
            buckets.insert((*from, *to), limit.map(TokenBucket::new));
        }
        let access = Access::new(builder.build().unwrap());
        let (mut now, mut counts, mut last) = (start(), BTreeMap::new(), Vec::new());
        for (from, to, kind, gap_ms) in messages {
            now += Duration::from_millis(gap_ms);
            let role = |index: usize| access.table().role(ROLES[index]).unwrap();
            let expected = match rules.get(&(from, to)) {
                None => Err(Why::NoRule),
                Some((Some(kinds), _)) if !kinds.contains(&kind) => Err(Why::NotAllowed),
                Some(_) => {
                    let bucket = buckets.get_mut(&(from, to)).and_then(Option::as_mut);
                    let admitted = bucket.is_none_or(|bucket| bucket.admit(now));
                    admitted.then_some(()).ok_or(Why::RateExceeded)
                }
            };
            let got = match access.grant(&role(from), &role(to), "t") {
                Err(_) => Err(Why::NoRule),
                Ok(grant) => grant.admit(KINDS[kind], now).map_err(|refusal| refusal.why()),
            };
            prop_assert_eq!(got, expected);
            if let Err(why) = expected {
                *counts.entry((role(from), role(to), why)).or_insert(0u64) += 1;
                if why != Why::NoRule {
                    last.push((now, KINDS[kind], why));
                }
            }
        }
        let audit = access.audit();
        prop_assert_eq!(audit.counts, counts);
        let kept: Vec<_> = audit.refused.iter().map(|one| (one.at, one.kind, one.why)).collect();
        prop_assert_eq!(kept, last);
    }
}
