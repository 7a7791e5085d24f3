use std::time::Duration;

use alys_runtime::block_on_main;

use super::{LONG, REFUSE, SILENCE, SOON, TestNode, config, eventually};
use crate::{Protocol, Refusal, RequestError};

pub(super) async fn ask(
    from: &TestNode,
    to: &TestNode,
    protocol: Protocol,
    payload: &[u8],
) -> Result<Vec<u8>, RequestError> {
    let id = from
        .handle
        .request(to.id(), protocol, payload.to_vec())
        .expect("the queue has room");
    eventually("an answer", SOON, || {
        from.seen().responses.contains_key(&id)
    })
    .await;
    from.seen().responses[&id].clone()
}

async fn pair() -> (TestNode, TestNode) {
    let asked = TestNode::start(config(1, vec![])).await;
    let mut asker = config(2, vec![asked.addr()]);
    asker.timing.request_timeout = Duration::from_secs(2);
    let asker = TestNode::start(asker).await;
    asked.connected_with(1).await;
    asker.connected_with(1).await;
    (asker, asked)
}

#[test]
fn every_request_gets_one_answer_or_error() {
    block_on_main(async {
        let (asker, asked) = pair().await;
        for protocol in Protocol::ALL
            .into_iter()
            .filter(|protocol| *protocol != Protocol::Status)
        {
            assert_eq!(
                ask(&asker, &asked, protocol, b"abc").await,
                Ok(b"cba".to_vec())
            );
        }
        assert_eq!(
            ask(&asked, &asker, Protocol::Status, b"hi").await,
            Ok(b"answered".to_vec())
        );
        assert_eq!(
            ask(&asker, &asked, Protocol::BlocksByHash, LONG).await,
            Ok(vec![7; 100 * 1024])
        );
        assert_eq!(
            ask(&asker, &asked, Protocol::BlocksByRange, REFUSE).await,
            Err(RequestError::Refused(Refusal::Unavailable))
        );
        let limit = Protocol::BlocksByRange.max_request();
        assert_eq!(
            ask(&asker, &asked, Protocol::BlocksByRange, &vec![0; limit + 1]).await,
            Err(RequestError::TooLong {
                length: limit + 1,
                limit
            })
        );
        assert_eq!(
            ask(&asker, &asked, Protocol::BlocksByRange, SILENCE).await,
            Err(RequestError::Timeout)
        );
        assert_eq!(
            ask(&asker, &asked, Protocol::BlocksByRange, b"ab").await,
            Ok(b"ba".to_vec())
        );
    });
}

#[test]
fn requests_to_a_disconnected_peer_fail() {
    block_on_main(async {
        let (asker, asked) = pair().await;
        let to = asked.id();
        let waiting = asker
            .handle
            .request(to, Protocol::BlocksByRange, SILENCE.to_vec())
            .expect("room");
        super::pause(200).await;
        asked.stop().await;
        eventually("an answer", SOON, || {
            asker.seen().responses.contains_key(&waiting)
        })
        .await;
        assert_eq!(
            asker.seen().responses[&waiting],
            Err(RequestError::Disconnected)
        );
        eventually("disconnected", SOON, || asker.seen().peers() == 0).await;
        let late = asker
            .handle
            .request(to, Protocol::BlocksByRange, b"x".to_vec())
            .expect("room");
        eventually("an answer", SOON, || {
            asker.seen().responses.contains_key(&late)
        })
        .await;
        assert_eq!(
            asker.seen().responses[&late],
            Err(RequestError::NotConnected)
        );
    });
}

#[test]
fn concurrent_requests_beyond_the_limit_are_refused() {
    block_on_main(async {
        let (asker, asked) = pair().await;
        let ids: Vec<_> = (0..12)
            .map(|_| {
                asker
                    .handle
                    .request(asked.id(), Protocol::BlocksByHash, SILENCE.to_vec())
                    .expect("room")
            })
            .collect();
        eventually("all end", SOON, || {
            ids.iter().all(|id| asker.seen().responses.contains_key(id))
        })
        .await;
        let count = |wanted: RequestError| {
            ids.iter()
                .filter(|id| asker.seen().responses[id] == Err(wanted.clone()))
                .count()
        };
        assert_eq!(
            (
                count(RequestError::Timeout),
                count(RequestError::Refused(Refusal::Busy))
            ),
            (8, 4)
        );
    });
}

#[test]
fn requests_beyond_the_rate_are_refused_and_lead_to_a_ban() {
    block_on_main(async {
        let (asker, asked) = pair().await;
        // A burst of 64 and 32 per second are allowed; each further request costs 5 points.
        let mut answered = 0;
        while asked.seen().banned.is_empty() {
            let batch: Vec<_> = (0..8)
                .map(|_| {
                    asker
                        .handle
                        .request(asked.id(), Protocol::HeadersByRange, b"x".to_vec())
                        .expect("room")
                })
                .collect();
            let all = || {
                batch
                    .iter()
                    .all(|id| asker.seen().responses.contains_key(id))
            };
            eventually("answers", SOON, all).await;
            answered += batch
                .iter()
                .filter(|id| asker.seen().responses[id].is_ok())
                .count();
            assert!(answered < 1000, "no ban");
        }
        assert!(answered >= 64, "only {answered} answers");
        assert_eq!(asked.seen().banned, [asker.id()]);
    });
}
