//! Tests of frames, invalid bytes and delivery.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    num::NonZeroU64,
    sync::{Arc, Mutex},
};

use alys_runtime::time::now;
use proptest::prelude::*;

use super::*;
use alys_actor_system::{
    AlysActor, ChildSpec, Context, Slot, Strategy as Supervision, SupervisorSpec, System,
    access::{Access, AccessTable, Kinds, RateLimit, Why},
    mailbox,
};

use crate::lock;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Wire {
    Ping,
    Note(String),
    Block {
        height: u64,
        hash: [u8; 4],
        parts: Vec<Vec<u8>>,
        parent: Option<Box<i32>>,
    },
    Named(BTreeMap<u8, String>),
    Secret,
}

impl Message for Wire {
    fn kind(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Note(_) => "note",
            Self::Block { .. } => "block",
            Self::Named(_) => "named",
            Self::Secret => "secret",
        }
    }
}

const ROOM: usize = 64 * 1024;

fn trace() -> TraceContext {
    TraceContext::new([0xAB; 16], [0xCD; 8], TraceContext::SAMPLED).unwrap()
}

fn source(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).unwrap()
}

fn head() -> Head {
    Head {
        id: 7,
        correlation: None,
        sender: "bridge".into(),
        remaining_ms: None,
        trace: None,
    }
}

fn frame<M>(payload: M) -> Frame<M> {
    Frame {
        head: head(),
        payload,
    }
}

fn encoded(payload: &Wire) -> Vec<u8> {
    frame(payload.clone()).encode(ROOM).unwrap()
}

#[test]
fn the_bytes_of_a_frame_are_the_golden_ones() {
    let full = Head {
        id: 0x0102,
        correlation: Some(MessageId::from_parts(source(2), 5)),
        sender: "net/a".into(),
        remaining_ms: Some(1500),
        trace: Some(trace()),
    };
    let block = Wire::Block {
        height: 9,
        hash: [1, 2, 3, 4],
        parts: vec![vec![0xEE]],
        parent: Some(Box::new(-2)),
    };
    for (frame, golden) in [
        (
            frame(Wire::Ping),
            "02 0700000000000000 00 0600000000000000 627269646765 00 00 00000000",
        ),
        (
            Frame {
                head: full,
                payload: block,
            },
            "02 0201000000000000 01 0200000000000000 0500000000000000 \
             0500000000000000 6e65742f61 01 dc05000000000000 01 \
             abababababababababababababababab cdcdcdcdcdcdcdcd 01 02000000 0900000000000000 01020304 0100000000000000 0100000000000000 ee 01 feffffff",
        ),
    ] {
        let bytes = frame.encode(ROOM).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden.replace(' ', ""));
        assert_eq!(Frame::decode(&bytes, ROOM).unwrap(), frame);
    }
}

#[test]
fn a_frame_fits_exactly_or_not_at_all() {
    let frame = frame(Wire::Note("x".repeat(100)));
    let bytes = frame.encode(ROOM).unwrap();
    assert_eq!(frame.encode(bytes.len()).unwrap(), bytes);
    for limit in 0..bytes.len() {
        assert_eq!(frame.encode(limit), Err(EncodeError::TooLarge { limit }));
    }
    assert!(Frame::<Wire>::decode(&bytes, bytes.len()).is_ok());
    let refused = Frame::<Wire>::decode(&bytes, bytes.len() - 1).unwrap_err();
    assert!(matches!(refused, DecodeError::TooLarge { bytes: found, limit } if found == limit + 1));
    let huge = vec![VERSION; MAX_FRAME_BYTES + 1];
    let refused = Frame::<Wire>::decode(&huge, usize::MAX).unwrap_err();
    assert!(matches!(
        refused,
        DecodeError::TooLarge {
            limit: MAX_FRAME_BYTES,
            ..
        }
    ));
    let text = Frame {
        head: head(),
        payload: "x".repeat(MAX_FRAME_BYTES),
    };
    assert_eq!(
        text.encode(usize::MAX),
        Err(EncodeError::TooLarge {
            limit: MAX_FRAME_BYTES
        })
    );
}

#[test]
fn frames_of_every_size_class_come_back() {
    for bytes in [
        4_000,
        4_096,
        5_000,
        64 * 1024,
        70_000,
        1024 * 1024,
        1_100_000,
        MAX_FRAME_BYTES - 100,
    ] {
        let frame = Frame {
            head: head(),
            payload: "x".repeat(bytes),
        };
        let encoded = frame.encode(usize::MAX).unwrap();
        assert!(
            Frame::<String>::decode(&encoded, usize::MAX).unwrap() == frame,
            "{bytes}"
        );
    }
}

#[test]
fn bytes_that_are_no_frame_are_refused_with_the_reason() {
    let good = encoded(&Wire::Ping);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let decode = |bytes: &[u8]| Frame::<Wire>::decode(bytes, ROOM).unwrap_err();
    assert!(matches!(decode(&[]), DecodeError::Empty));
    assert!(matches!(
        decode(&changed(0, 1)),
        DecodeError::UnknownVersion { version: 1 }
    ));
    assert!(matches!(
        decode(&[good.clone(), vec![0]].concat()),
        DecodeError::Trailing { bytes: 1 }
    ));
    let control = DecodeError::BadSender(BadSender::ControlCharacter).to_string();
    assert_eq!(decode(&changed(18, b'\n')).to_string(), control);
    for (what, bytes) in [
        ("no tag of an option", changed(9, 2)),
        ("no UTF-8", changed(18, 0xFF)),
        ("no variant", changed(26, 9)),
        ("a name longer than there is", changed(16, 1)),
        ("a name of half the address space", changed(17, 0x7F)),
    ] {
        let error = decode(&bytes);
        assert!(
            matches!(error, DecodeError::Malformed { .. }),
            "{what}: {error:?}"
        );
        assert!(Error::source(&error).is_some(), "{what}");
    }
    for end in 0..good.len() {
        decode(&good[..end]);
    }
    let correlated = Frame {
        head: Head {
            correlation: Some(MessageId::from_parts(source(1), 5)),
            ..head()
        },
        payload: Wire::Ping,
    };
    let mut bytes = correlated.encode(ROOM).unwrap();
    // An id without a source.
    bytes[10] = 0;
    assert!(matches!(decode(&bytes), DecodeError::Malformed { .. }));
}

#[test]
fn a_sender_has_a_short_name_of_plain_text() {
    for (sender, error) in [
        (String::new(), BadSender::Length { bytes: 0 }),
        (
            "s".repeat(MAX_SENDER_BYTES + 1),
            BadSender::Length {
                bytes: MAX_SENDER_BYTES + 1,
            },
        ),
        ("a\u{1b}[2J".into(), BadSender::ControlCharacter),
    ] {
        let head = Head { sender, ..head() };
        assert_eq!(
            Frame {
                head: head.clone(),
                payload: Wire::Ping
            }
            .encode(ROOM),
            Err(error.into())
        );
        let mut foreign = vec![VERSION];
        foreign.extend(bincode::serde::encode_to_vec((&head, Wire::Ping), CONFIG).unwrap());
        let refused = Frame::<Wire>::decode(&foreign, ROOM).unwrap_err();
        assert!(
            matches!(refused, DecodeError::BadSender(found) if found == error),
            "{refused:?}"
        );
    }
    let longest = Head {
        sender: "ä".repeat(MAX_SENDER_BYTES / 2),
        ..head()
    };
    assert!(
        Frame {
            head: longest,
            payload: Wire::Ping
        }
        .encode(ROOM)
        .is_ok()
    );
}

#[test]
fn a_message_that_cannot_be_written_is_an_error() {
    struct Stubborn;
    impl Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("will not"))
        }
    }
    let error = frame(Stubborn).encode(ROOM).unwrap_err();
    assert!(
        matches!(&error, EncodeError::Unencodable { reason } if reason.contains("will not")),
        "{error}"
    );
}

#[test]
fn a_trace_context_is_its_header_and_nothing_else_is() {
    let text = "00-abababababababababababababababab-cdcdcdcdcdcdcdcd-01";
    assert_eq!(trace().to_string(), text);
    assert_eq!(text.parse(), Ok(trace()));
    assert_eq!(
        (trace().trace_id(), trace().span_id(), trace().flags()),
        ([0xAB; 16], [0xCD; 8], 1)
    );
    let zero = "0".repeat(32);
    for (bad, error) in [
        (text.replace("00-", "01-"), BadTrace::Malformed),
        (text.replace("ab", "AB"), BadTrace::Malformed),
        (text.replace("-01", "-+1"), BadTrace::Malformed),
        (text.replace("-01", ""), BadTrace::Malformed),
        (format!("{text}-00"), BadTrace::Malformed),
        (text.replace("cd-", "c-"), BadTrace::Malformed),
        (String::new(), BadTrace::Malformed),
        ("ä".repeat(28), BadTrace::Malformed),
        (format!("00-{zero}-cdcdcdcdcdcdcdcd-01"), BadTrace::ZeroId),
        (
            text.replace("cdcdcdcdcdcdcdcd", &zero[..16]),
            BadTrace::ZeroId,
        ),
    ] {
        assert_eq!(bad.parse::<TraceContext>(), Err(error), "{bad}");
    }
    let traced = Frame {
        head: Head {
            trace: Some(trace()),
            ..head()
        },
        payload: Wire::Ping,
    };
    let mut bytes = traced.encode(ROOM).unwrap();
    let id = bytes
        .windows(16)
        .position(|window| window == [0xAB; 16])
        .unwrap();
    bytes[id..id + 16].fill(0);
    let refused = Frame::<Wire>::decode(&bytes, ROOM).unwrap_err();
    assert!(
        matches!(refused, DecodeError::Malformed { .. }),
        "{refused:?}"
    );
}

#[test]
fn a_deadline_counts_from_the_arrival_and_ends_within_a_year() {
    let now = now();
    for (remaining_ms, after) in [
        (None, None),
        (Some(0), Some(Duration::ZERO)),
        (Some(1500), Some(Duration::from_millis(1500))),
        (Some(u64::MAX), Some(MAX_REMAINING)),
    ] {
        assert_eq!(
            Head {
                remaining_ms,
                ..head()
            }
            .deadline(now),
            after.map(|after| now + after)
        );
    }
}

fn access() -> Access {
    let kinds = Kinds::only(["ping", "note"]);
    let limit = RateLimit {
        burst: 3,
        per_second: 1,
    };
    let table = AccessTable::builder().role("peer").role("chain").allow(
        "peer",
        "chain",
        kinds,
        Some(limit),
    );
    Access::new(table.build().unwrap())
}

fn gateway(access: &Access, addr: &Addr<Wire>) -> Gateway<Wire> {
    let role = |name| access.table().role(name).unwrap();
    let grant = access
        .grant(&role("peer"), &role("chain"), "s/chain")
        .unwrap();
    Gateway::new(addr.clone(), grant, ROOM)
}

#[test]
fn a_gateway_delivers_what_the_connection_may_send() {
    struct Chain(Arc<Mutex<Vec<Wire>>>);
    impl AlysActor for Chain {
        type Message = Wire;
        type Error = Infallible;
        type Config = ();
        const NAME: &'static str = "Chain";
        async fn handle(&mut self, msg: Wire, _: &Context<Self>) -> Result<(), Infallible> {
            lock(&self.0).push(msg);
            Ok(())
        }
    }
    alys_runtime::block_on_main(async {
        let handled = Arc::<Mutex<Vec<Wire>>>::default();
        let system = System::new("s");
        let supervisor = system
            .supervisor(SupervisorSpec::new("all", Supervision::OneForOne))
            .unwrap();
        let seen = handled.clone();
        let factory = move || std::future::ready(Ok::<_, Infallible>(Chain(seen.clone())));
        let addr = supervisor
            .start(ChildSpec::new("chain"), 8, factory)
            .unwrap();
        let access = access();
        let gateway = gateway(&access, &addr);
        assert_eq!(
            (
                gateway.max_frame_bytes(),
                gateway.grant().route().from.name()
            ),
            (ROOM, "peer")
        );

        let (now, note) = (now(), encoded(&Wire::Note("hi".into())));
        let delivered = gateway.deliver(now, &note).unwrap();
        assert_eq!(
            delivered,
            Delivered {
                head: head(),
                kind: "note",
                bytes: note.len()
            }
        );

        // The claimed sender has no effect: the rights are those of the connection, a peer.
        let forged = Frame {
            head: Head {
                sender: "chain".into(),
                ..head()
            },
            payload: Wire::Secret,
        };
        let refused = gateway
            .deliver(now, &forged.encode(ROOM).unwrap())
            .unwrap_err();
        let GatewayError::Refused(refusal) = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!((refusal.why(), refusal.kind()), (Why::NotAllowed, "secret"));
        assert!(refused.is_senders_fault());

        let malformed = gateway.deliver(now, &note[1..]).unwrap_err();
        assert!(matches!(malformed, GatewayError::Decode(_)) && malformed.is_senders_fault());
        let long = encoded(&Wire::Note("x".repeat(ROOM - 100)));
        let narrow = Gateway::new(addr.clone(), gateway.grant().clone(), 100);
        let too_long = narrow.deliver(now, &long).unwrap_err();
        assert!(matches!(
            too_long,
            GatewayError::Decode(DecodeError::TooLarge { limit: 100, .. })
        ));
        assert!(
            Gateway::new(addr, gateway.grant().clone(), usize::MAX).max_frame_bytes()
                == MAX_FRAME_BYTES
        );

        // Only allowed messages count against the limit: one so far.
        gateway.deliver(now, &encoded(&Wire::Ping)).unwrap();
        gateway.deliver(now, &encoded(&Wire::Ping)).unwrap();
        let exceeded = gateway.deliver(now, &encoded(&Wire::Ping)).unwrap_err();
        assert!(matches!(
            &exceeded,
            GatewayError::Refused(refusal) if refusal.why() == Why::RateExceeded
        ));
        gateway
            .deliver(now + Duration::from_secs(1), &note)
            .unwrap();

        let report = system.shutdown(Duration::from_secs(60)).await;
        assert!(report.is_clean(), "{report:?}");
        let hi = Wire::Note("hi".into());
        assert_eq!(*lock(&handled), [hi.clone(), Wire::Ping, Wire::Ping, hi]);
        let closed = gateway
            .deliver(now + Duration::from_secs(2), &note)
            .unwrap_err();
        assert!(
            matches!(closed, GatewayError::Closed { kind: "note" }) && !closed.is_senders_fault()
        );
        assert_eq!(
            access
                .audit()
                .refused
                .iter()
                .map(|one| one.kind)
                .collect::<Vec<_>>(),
            ["secret", "ping"]
        );
    });
}

#[test]
fn a_late_message_and_one_without_room_are_not_delivered() {
    let (addr, _slot): (Addr<Wire>, Slot<Wire>) = mailbox(1);
    let gateway = gateway(&access(), &addr);
    let late = Frame {
        head: Head {
            remaining_ms: Some(0),
            ..head()
        },
        payload: Wire::Ping,
    };
    let expired = gateway
        .deliver(now(), &late.encode(ROOM).unwrap())
        .unwrap_err();
    assert!(
        matches!(expired, GatewayError::Expired { kind: "ping" }) && !expired.is_senders_fault()
    );
    assert_eq!(addr.depth(), 0);
    gateway.deliver(now(), &encoded(&Wire::Ping)).unwrap();
    let full = gateway.deliver(now(), &encoded(&Wire::Ping)).unwrap_err();
    assert!(matches!(full, GatewayError::Full { kind: "ping" }) && !full.is_senders_fault());
    assert_eq!(addr.depth(), 1);
}

fn payloads() -> impl Strategy<Value = Wire> {
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    let parts = prop::collection::vec(bytes, 0..5);
    prop_oneof![
        Just(Wire::Ping),
        any::<String>().prop_map(Wire::Note),
        (
            any::<u64>(),
            any::<[u8; 4]>(),
            parts,
            prop::option::of(any::<i32>())
        )
            .prop_map(|(height, hash, parts, parent)| Wire::Block {
                height,
                hash,
                parts,
                parent: parent.map(Box::new)
            }),
    ]
}

fn maps() -> impl Strategy<Value = Wire> {
    prop::collection::btree_map(any::<u8>(), any::<String>(), 0..5).prop_map(Wire::Named)
}

fn heads() -> impl Strategy<Value = Head> {
    let sender = "[^\\pC]{1,20}";
    let trace = (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<u8>())
        .prop_filter_map("an id is zero", |(trace, span, flags)| {
            TraceContext::new(trace, span, flags).ok()
        });
    let options = (
        any::<Option<(NonZeroU64, u64)>>(),
        any::<Option<u64>>(),
        prop::option::of(trace),
    );
    (any::<u64>(), sender, options).prop_map(|(id, sender, (correlation, remaining_ms, trace))| {
        Head {
            id,
            correlation: correlation.map(|(source, n)| MessageId::from_parts(source, n)),
            sender,
            remaining_ms,
            trace,
        }
    })
}

/// Accepted bytes are the canonical encoding of their frame.
fn check_foreign(bytes: &[u8]) {
    if let Ok(frame) = Frame::<Wire>::decode(bytes, ROOM) {
        // Maps are excluded, because their entries may be reordered or repeated.
        if !matches!(frame.payload, Wire::Named(_)) {
            assert_eq!(frame.encode(ROOM).unwrap(), bytes, "{frame:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_frame_comes_back_as_it_was(
        head in heads(),
        payload in prop_oneof![4 => payloads(), 1 => maps()],
    ) {
        let frame = Frame { head, payload };
        let bytes = frame.encode(ROOM).unwrap();
        prop_assert_eq!(bytes[0], VERSION);
        prop_assert_eq!(Frame::decode(&bytes, ROOM).unwrap(), frame);
    }

    #[test]
    fn a_trace_context_comes_back_from_its_header(head in heads()) {
        if let Some(trace) = head.trace {
            prop_assert_eq!(trace.to_string().parse(), Ok(trace));
        }
    }

    #[test]
    fn no_part_of_a_frame_and_nothing_longer_is_a_frame(
        head in heads(),
        payload in payloads(),
        cut in any::<prop::sample::Index>(),
        more in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let bytes = Frame { head, payload }.encode(ROOM).unwrap();
        prop_assert!(Frame::<Wire>::decode(&bytes[..cut.index(bytes.len())], ROOM).is_err());
        let extra = more.len();
        let refused = Frame::<Wire>::decode(&[bytes, more].concat(), ROOM).unwrap_err();
        let is_trailing = matches!(refused, DecodeError::Trailing { bytes } if bytes == extra);
        prop_assert!(is_trailing);
    }

    #[test]
    fn a_frame_with_flipped_bits_is_refused_or_the_one_encoding_of_another(
        head in heads(),
        payload in payloads(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..4),
    ) {
        let mut bytes = Frame { head, payload }.encode(ROOM).unwrap();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        check_foreign(&bytes);
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(
        mut bytes in prop::collection::vec(prop_oneof![3 => 0..4u8, 1 => any::<u8>()], 0..200),
        with_version in any::<bool>(),
    ) {
        if let (true, Some(first)) = (with_version, bytes.first_mut()) {
            *first = VERSION;
        }
        check_foreign(&bytes);
    }
}
