//! Limits on tasks, timers, names and children.

use alys_actor_system::{
    ChildSpec, MAX_CHILDREN, MAX_TASKS, MAX_TIMERS, Restart, StartError, Strategy, SupervisorSpec,
};

use crate::kit::*;

#[test]
fn tasks_of_an_incarnation_are_bounded() {
    supervised(1, |world, supervisor| async move {
        let addr = world.worker(&supervisor, "a");
        let spawned = addr.ask(|reply| Told::CountTasks { reply }, LONG).await;
        assert_eq!(spawned, Ok(MAX_TASKS));
    });
}

#[test]
fn timers_of_an_incarnation_are_bounded_and_one_more_is_a_failure() {
    supervised(1, |world, supervisor| async move {
        let addr = world.worker(&supervisor, "a");
        addr.tell(Told::CountTimers(MAX_TIMERS)).unwrap();
        settled(&addr).await;
        assert_eq!(world.child("s/a").restarts, 0);
        addr.tell(Told::CountTimers(1)).unwrap();
        settled(&addr).await;
        let child = world.child("s/a");
        assert_eq!(child.restarts, 1);
        assert_eq!(
            child.last_error,
            Some(format!("more than {MAX_TIMERS} timers at once"))
        );
    });
}

#[test]
fn names_are_unique_and_children_bounded() {
    supervised(1, |world, supervisor| async move {
        let taken = world
            .system
            .supervisor(SupervisorSpec::new("s", Strategy::OneForOne))
            .unwrap_err();
        assert_eq!(
            taken,
            StartError::NameTaken {
                supervisor: "world".to_owned(),
                name: "s".to_owned()
            }
        );
        for n in 0..MAX_CHILDREN {
            world.worker_as(&supervisor, ChildSpec::new(n.to_string()), 1);
        }
        let spec = SupervisorSpec {
            parent: Some(supervisor),
            ..SupervisorSpec::new("one more", Strategy::OneForOne)
        };
        let refused = world.system.supervisor(spec).unwrap_err();
        assert_eq!(
            refused,
            StartError::TooManyChildren {
                supervisor: "world/s".to_owned(),
                limit: MAX_CHILDREN
            }
        );
    });
}

#[test]
fn ended_children_do_not_accumulate() {
    supervised(1, |world, supervisor| async move {
        for n in 0..100 {
            let spec = ChildSpec::new(n.to_string()).restart(Restart::Temporary);
            let addr = world.worker_as(&supervisor, spec, 1);
            addr.tell(Told::End).unwrap();
            addr.closed().await;
        }
        world
            .wait("the last retirement", |tree| {
                tree.find("s").unwrap().children.len() <= 16
            })
            .await;
    });
}
