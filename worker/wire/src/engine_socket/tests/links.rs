//! What only links do.

use super::super::link::EngineLink;
use super::served::{ID, over};
use super::*;
use crate::lifeline::RankId;
use crate::{EngineClient, EngineState, Refused, Secret};
use tokio::sync::watch;

#[tokio::test]
async fn an_engine_is_offered_until_its_end() {
    let served = Served::start(Way::Link);
    let watcher = served.watcher();
    let (end, told) = watch::channel(false);
    let (address, secret) = (watcher.address.clone(), watcher.secret.clone());
    let engine = served.engine.clone();
    let offer = tokio::spawn(async move {
        EngineLink::offer(&address, Some(&secret), ID, engine, over(told)).await
    });
    let client = soon(watcher.engine().await.into_client()).await.unwrap();
    let _stream = soon(client.submit(request(1, 1))).await.unwrap();
    end.send(true).unwrap();
    until(|| client.state() == EngineState::Draining).await;
    drop(client);
    soon(offer).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_engine_that_nobody_wants_is_served_no_longer() {
    let served = Served::start(Way::Link);
    let watcher = served.watcher();
    let engine = served.engine.clone();
    let never = std::future::pending();
    let offer = EngineLink::offer(&watcher.address, Some(&watcher.secret), ID, engine, never);
    let (offered, ()) =
        soon(async { tokio::join!(offer, async { drop(watcher.engine().await) }) }).await;
    offered.unwrap();
}

#[tokio::test]
async fn an_engine_that_is_not_expected_is_refused() {
    let served = Served::start(Way::Link);
    let watcher = served.watcher();
    let offer = async |secret: &Secret, id| {
        let end = std::future::pending();
        soon(EngineLink::offer(&watcher.address, Some(secret), id, served.engine.clone(), end))
            .await
            .unwrap_err()
    };
    watcher.watch.expect(ID.instance, 1);
    let error = offer(&watcher.secret, ID).await;
    assert_eq!(
        error.to_string(),
        format!(
            "{} refused the connection: rank 0 of instance 1 is of attempt 0, but attempt 1 is the \
             current one",
            watcher.address
        )
    );
    let error = offer(&watcher.secret, RankId { instance: 7, ..ID }).await;
    assert!(matches!(error, SocketError::Refused { .. }), "{error}");
    let error = offer(&Secret::generate().unwrap(), ID).await;
    assert!(matches!(error, SocketError::WrongSecret { .. }), "{error}");
}

#[tokio::test]
async fn a_client_that_is_abandoned_ends_at_once_and_says_why() {
    let mut served = Served::start(Way::Link);
    let client = Arc::new(served.client().await);
    let mut running = soon(client.submit(request(1, 4))).await.unwrap();
    let (got, sink) = soon(served.said.submitted.recv()).await.unwrap();
    push(&sink, [1]);
    assert_eq!(soon(running.next()).await, Some(tokens(0, &[1])));
    served.engine.permits.forget_permits(1000);
    let submitter = client.clone();
    let waiting = tokio::spawn(async move { submitter.submit(request(2, 4)).await.map(drop) });
    tokio::task::yield_now().await;

    client.abandon("node b is gone");
    assert_eq!(read_all(&mut running).await, (vec![], false));
    let reason = "the engine was given up: node b is gone".to_owned();
    let refused = Refused::Unreachable { reason };
    assert_eq!(soon(waiting).await.unwrap().unwrap_err(), refused);
    assert_eq!(soon(client.submit(request(3, 4))).await.unwrap_err(), refused);
    assert_eq!(client.state(), EngineState::Stopped);
    // The other one may be cancelled first.
    while soon(served.said.cancelled.recv()).await.unwrap() != got.id {}
}
