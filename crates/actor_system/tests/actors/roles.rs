//! Look-up of actors, and the rights of their roles.

use std::sync::Arc;

use alys_actor_system::{
    Addr, AskError, ChildSpec, LookupError, Reply, SendError, Strategy, TellError,
    access::{Access, AccessTable, Kinds, RateLimit, Role, Why},
};
use alys_runtime::time;
use futures::FutureExt;

use crate::{doer::*, kit::*};

/// The role `network` has limited rights to `chain`; `operations` has all rights to it.
fn rules() -> Access {
    let limit = RateLimit {
        burst: 3,
        per_second: 1,
    };
    let table = AccessTable::builder()
        .role("network")
        .role("chain")
        .role("operations")
        .allow(
            "network",
            "chain",
            Kinds::only(["note", "wire"]),
            Some(limit),
        )
        .allow("operations", "chain", Kinds::All, None)
        .build();
    Access::new(table.unwrap())
}

fn role(access: &Access, name: &str) -> Role {
    access.table().role(name).unwrap()
}

/// The result of `find` by an actor.
async fn found(by: &Doing, path: &'static str) -> Result<Addr<Job>, LookupError> {
    let (reply, answer) = Reply::channel();
    let finds = run_in("finds", move |ctx| {
        async move {
            reply.send(ctx.find::<Job>(path));
            Ok(())
        }
        .boxed()
    });
    by.addr.tell(finds).unwrap();
    time::timeout(LONG, answer).await.unwrap().unwrap()
}

#[test]
fn an_actor_finds_others_and_may_send_what_its_role_may() {
    in_world(|world| async move {
        let access = rules();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 0, None);
        let log = Arc::<Log>::default();
        let spec = |name: &str, of: &str| ChildSpec::new(name).role(role(&access, of));
        let network = doer_in(&log, &supervisor, spec("network", "network"), 8);
        let chain = doer_in(&log, &supervisor, spec("chain", "chain"), 8);
        let operations = doer_in(&log, &supervisor, spec("operations", "operations"), 8);
        let plain = doer(&supervisor, "plain", 8);
        world.worker(&supervisor, "worker");

        assert_eq!(world.system.audit(), None);
        found(&chain, "s/network")
            .await
            .unwrap()
            .tell(note(1))
            .unwrap();
        assert!(world.system.enforce(access.clone()));
        assert!(!world.system.enforce(rules()), "rules do not change");

        let granted = found(&network, "s/chain").await.unwrap();
        granted.tell(note(2)).unwrap();
        let Err(TellError::Refused { msg, refusal }) = granted.tell(fails()) else {
            panic!("it was let through")
        };
        assert_eq!((msg.kind, refusal.why()), ("fail", Why::NotAllowed));
        assert!(matches!(
            granted.send(panics()).await,
            Err(SendError::Refused { .. })
        ));
        let asked = granted.ask(answering(0), LONG).await;
        assert!(matches!(asked, Err(AskError::Refused { .. })));
        assert!(!asked.unwrap_err().may_pass());
        assert!(
            granted
                .tell_as(alys_actor_system::Priority::High, stop())
                .is_err()
        );
        // A copy has no more rights than the original, and shares its limit.
        granted.clone().tell(note(3)).unwrap();
        found(&network, "s/chain")
            .await
            .unwrap()
            .send(note(4))
            .await
            .unwrap();
        let over = granted.tell(note(5)).unwrap_err();
        assert!(over.to_string().contains("exceeds"), "{over}");
        assert_eq!(format!("{over:?}"), "Refused(..)");

        let denied = found(&chain, "s/network").await.unwrap_err();
        assert!(
            matches!(&denied, LookupError::Denied { path, .. } if path == "world/s/network"),
            "{denied}"
        );
        found(&operations, "s/chain")
            .await
            .unwrap()
            .tell(note(6))
            .unwrap();
        found(&plain, "s/chain")
            .await
            .unwrap()
            .tell(note(7))
            .unwrap();
        found(&network, "s/plain")
            .await
            .unwrap()
            .tell(note(8))
            .unwrap();
        assert_eq!(
            found(&network, "s/x").await.unwrap_err(),
            LookupError::Unknown {
                path: "world/s/x".into()
            }
        );
        let other = LookupError::OtherMessage {
            path: "world/s/worker".into(),
        };
        assert_eq!(found(&network, "s/worker").await.unwrap_err(), other);
        chain.settled().await;
        plain.settled().await;
        assert_eq!(log.notes("chain"), [2, 3, 4, 6, 7]);

        let audit = world.system.audit().unwrap();
        let count = |from: &str, to: &str, why| {
            audit
                .counts
                .get(&(role(&access, from), role(&access, to), why))
        };
        assert_eq!(count("network", "chain", Why::NotAllowed), Some(&4));
        assert_eq!(count("network", "chain", Why::RateExceeded), Some(&1));
        assert_eq!(count("chain", "network", Why::NoRule), Some(&1));
        assert_eq!(
            (audit.refused.len(), audit.denied.len(), audit.unknown_roles),
            (5, 1, 0)
        );

        // The owner of the system is not subject to the rules.
        world
            .system
            .find::<Job>("s/chain")
            .unwrap()
            .tell(Job::new("anything", 0, Act::Note))
            .unwrap();
        assert!(matches!(
            world.system.find::<Told>("s/chain"),
            Err(LookupError::OtherMessage { .. })
        ));
        let paths: Vec<_> = world
            .system
            .find_all::<Doer>()
            .iter()
            .map(|addr| addr.path().unwrap().to_string())
            .collect();
        assert_eq!(
            paths,
            [
                "world/s/chain",
                "world/s/network",
                "world/s/operations",
                "world/s/plain"
            ]
        );
        assert_eq!(world.system.find_all::<Worker>().len(), 1);
    });
}

#[test]
fn an_ended_actor_is_not_found() {
    supervised(0, |world, supervisor| async move {
        let spec = ChildSpec::new("a").restart(alys_actor_system::Restart::Transient);
        let doing = doer_as(&supervisor, spec, 8);
        assert!(world.system.find::<Job>("s/a").is_ok());
        doing.addr.tell(stop()).unwrap();
        world
            .wait("its end", |_| world.system.find::<Job>("s/a").is_err())
            .await;
        assert!(world.system.find_all::<Doer>().is_empty());
    });
}
