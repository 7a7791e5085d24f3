//! Messages from other processes.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use alys_actor_extras::gateway::{Frame, Gateway, GatewayError, Head};
use alys_actor_system::{
    AlysActor, ChildSpec, Context, EnvelopeInfo, Message, MessageId, Reason, Strategy,
    access::{Access, AccessTable, Kinds, RateLimit, Role},
};
use alys_runtime::time;

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

#[derive(serde::Serialize, serde::Deserialize)]
struct Wire(u64);

impl Message for Wire {
    fn kind(&self) -> &'static str {
        "wire"
    }
}

/// Records the messages of the gateway and their envelopes.
struct Receiver(
    Arc<Log>,
    Arc<std::sync::Mutex<Vec<EnvelopeInfo>>>,
    Arc<Gate>,
);

impl AlysActor for Receiver {
    type Message = Wire;
    type Error = Never;
    type Config = ();
    const NAME: &'static str = "Receiver";

    async fn handle(&mut self, msg: Wire, ctx: &Context<Self>) -> Result<(), Never> {
        if msg.0 == 0 {
            self.2.pass().await;
        }
        if msg.0 == 99 {
            ctx.stop();
        }
        self.1.lock().unwrap().push(ctx.envelope().unwrap());
        self.0.write("receiver", msg.0.to_string());
        Ok(())
    }
}

#[test]
fn a_gateway_keeps_correlations_and_deadlines() {
    in_world(|world| async move {
        let access = rules();
        let supervisor = world.supervisor("s", Strategy::OneForOne, 0, None);
        let (log, envelopes, gate) = (
            Arc::<Log>::default(),
            Arc::default(),
            Arc::<Gate>::default(),
        );
        let held = (log.clone(), Arc::clone(&envelopes), gate.clone());
        let factory = move || {
            let (log, envelopes, gate) = held.clone();
            async move { Ok::<_, Never>(Receiver(log, envelopes, gate)) }
        };
        let spec = ChildSpec::new("r").restart(alys_actor_system::Restart::Transient);
        let addr = supervisor.start(spec, 1, factory).unwrap();
        let (operations, chain) = (role(&access, "operations"), role(&access, "chain"));
        let grant = access.grant(&operations, &chain, "world/s/r").unwrap();
        let gateway = Gateway::new(addr.clone(), grant, 1024);
        let outside = MessageId::from_parts(NonZeroU64::MIN, 77);
        let put = |n, remaining_ms| {
            let sender = "outside".to_owned();
            let head = Head {
                id: n,
                correlation: Some(outside),
                sender,
                remaining_ms,
                trace: None,
            };
            let bytes = Frame {
                head,
                payload: Wire(n),
            }
            .encode(1024)
            .unwrap();
            gateway.deliver(time::now(), &bytes)
        };
        let delivered = put(0, None).unwrap();
        assert_eq!((delivered.head.id, delivered.kind), (0, "wire"));
        gate.reached().await;
        put(1, Some(1)).unwrap();
        assert!(matches!(
            put(2, None),
            Err(GatewayError::Full { kind: "wire" })
        ));
        assert!(matches!(
            put(2, Some(0)),
            Err(GatewayError::Expired { kind: "wire" })
        ));
        time::sleep(Duration::from_millis(5)).await;
        gate.open();
        world
            .wait("one that expired", |_| {
                world.system.dead_letters().of(Reason::Expired) == 1
            })
            .await;
        put(3, Some(60_000)).unwrap();
        log.wait_for("receiver", "3").await;
        assert_eq!(log.notes("receiver"), [0, 3]);
        let seen = envelopes.lock().unwrap().clone();
        assert_eq!(seen[0].correlation, outside);
        assert_eq!((seen[0].deadline, seen[0].sender.clone()), (None, None));
        assert!(seen[1].deadline.is_some());
        put(99, None).unwrap();
        addr.closed().await;
        assert!(matches!(
            put(4, None),
            Err(GatewayError::Closed { kind: "wire" })
        ));

        let network = access
            .grant(&role(&access, "network"), &chain, "world/s/r")
            .unwrap();
        let limited = Gateway::new(addr, network, 1024);
        let head = Head {
            id: 1,
            correlation: None,
            sender: "x".into(),
            remaining_ms: None,
            trace: None,
        };
        let bytes = Frame {
            head,
            payload: Wire(1),
        }
        .encode(1024)
        .unwrap();
        for _ in 0..3 {
            assert!(matches!(
                limited.deliver(time::now(), &bytes),
                Err(GatewayError::Closed { .. })
            ));
        }
        assert!(matches!(
            limited.deliver(time::now(), &bytes),
            Err(GatewayError::Refused(_))
        ));
    });
}
