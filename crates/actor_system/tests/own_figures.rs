//! Two actors of one type both show figures of their own, each under its path.

use std::{convert::Infallible, time::Duration};

use alys_actor_system::{
    AlysActor, ChildSpec, Context, Message, Reply, Strategy, SupervisorSpec, System, metrics::Sheet,
};

struct Ping {
    reply: Reply<()>,
}

impl Message for Ping {
    fn kind(&self) -> &'static str {
        "ping"
    }
}

struct Pump(u64);

impl AlysActor for Pump {
    type Message = Ping;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Pump";

    async fn handle(&mut self, Ping { reply }: Ping, _: &Context<Self>) -> Result<(), Infallible> {
        reply.send(());
        Ok(())
    }

    fn metrics(&self, sheet: &mut Sheet) {
        sheet.counter("alys_pump_litres_total", "Litres moved.", self.0);
    }
}

#[test]
fn actors_of_one_type_show_their_own_figures_apart() {
    alys_runtime::block_on_main(async {
        let system = System::new("works");
        let supervisor = system
            .supervisor(SupervisorSpec::new("s", Strategy::OneForOne))
            .unwrap();
        for (name, litres) in [("near", 1), ("far", 2)] {
            let factory = move || async move { Ok::<_, Infallible>(Pump(litres)) };
            let addr = supervisor.start(ChildSpec::new(name), 8, factory).unwrap();
            addr.ask(|reply| Ping { reply }, Duration::from_secs(30))
                .await
                .unwrap();
        }
        let text = system.metrics().await;
        for line in [
            "alys_pump_litres_total{actor=\"works/s/near\"} 1",
            "alys_pump_litres_total{actor=\"works/s/far\"} 2",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is not in\n{text}"
            );
        }
    });
}
