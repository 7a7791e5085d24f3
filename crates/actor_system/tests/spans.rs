//! Spans follow a message across actors: the span of each message follows from that of its sender.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeMap, convert::Infallible, fmt::Debug, sync::Mutex, time::Duration};

use alys_actor_system::{
    Addr, AlysActor, ChildSpec, Context, Message, Reply, Strategy, SupervisorSpec, System,
};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, Registry, layer, layer::SubscriberExt};

#[derive(Default, Clone)]
struct Seen {
    name: &'static str,
    fields: BTreeMap<&'static str, String>,
    follows: Option<u64>,
}

static SPANS: Mutex<BTreeMap<u64, Seen>> = Mutex::new(BTreeMap::new());

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(
            field.name(),
            format!("{value:?}").trim_matches('"').to_owned(),
        );
    }
}

/// A layer that records all spans.
struct Spans;

impl<S: Subscriber> Layer<S> for Spans {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        _: layer::Context<'_, S>,
    ) {
        let mut seen = Seen {
            name: attributes.metadata().name(),
            ..Seen::default()
        };
        attributes.record(&mut seen);
        SPANS.lock().unwrap().insert(id.into_u64(), seen);
    }
    fn on_follows_from(&self, span: &span::Id, follows: &span::Id, _: layer::Context<'_, S>) {
        let mut spans = SPANS.lock().unwrap();
        spans.get_mut(&span.into_u64()).unwrap().follows = Some(follows.into_u64());
    }
}

enum Along {
    Pass(Vec<Addr<Along>>, Reply<()>),
}

impl Message for Along {
    fn kind(&self) -> &'static str {
        "pass"
    }
}

struct Passes;

impl AlysActor for Passes {
    type Message = Along;
    type Error = Infallible;
    type Config = ();
    const NAME: &'static str = "Passes";

    async fn handle(&mut self, msg: Along, _: &Context<Self>) -> Result<(), Infallible> {
        let Along::Pass(mut rest, reply) = msg;
        match rest.pop() {
            Some(next) => drop(next.tell(Along::Pass(rest, reply)).unwrap()),
            None => drop(reply.send(())),
        }
        Ok(())
    }
}

#[test]
fn the_span_of_a_message_follows_from_that_of_its_sender() {
    tracing::subscriber::set_global_default(Registry::default().with(Spans)).unwrap();
    alys_runtime::block_on_main(async {
        let system = System::new("spans");
        let supervisor = system
            .supervisor(SupervisorSpec::new("s", Strategy::OneForOne))
            .unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| {
            supervisor
                .start(ChildSpec::new(name), 4, || async {
                    Ok::<_, Infallible>(Passes)
                })
                .unwrap()
        });
        let (reply, answer) = Reply::channel();
        let outside = tracing::info_span!("outside");
        outside.in_scope(|| a.tell(Along::Pass(vec![c, b], reply)).unwrap());
        answer.await.unwrap();
        assert!(system.shutdown(Duration::from_secs(30)).await.is_clean());
    });
    let spans = SPANS.lock().unwrap().clone();
    let of = |actor: &str| {
        let path = format!("spans/s/{actor}");
        let mut own = spans
            .iter()
            .filter(|(_, seen)| seen.fields.get("actor") == Some(&path));
        let found = own.next().unwrap();
        assert!(own.next().is_none(), "one message, one span");
        found
    };
    let outside = spans
        .iter()
        .find(|(_, seen)| seen.name == "outside")
        .unwrap()
        .0;
    let mut before = outside;
    for actor in ["a", "b", "c"] {
        let (id, seen) = of(actor);
        assert_eq!((seen.name, &*seen.fields["kind"]), ("message", "pass"));
        assert_eq!(seen.follows, Some(*before));
        assert_eq!(seen.fields["correlation"], of("a").1.fields["id"]);
        before = id;
    }
}
