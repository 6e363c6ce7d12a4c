//! What only links do.

use super::super::link::EngineLink;
use super::served::{ID, Watcher, over};
use super::*;
use crate::lifeline::RankId;
use crate::{EngineClient, EngineState, Secret};
use tokio::sync::watch;

/// As a leader dials its watcher.
async fn dial(watcher: &Watcher, secret: &Secret, id: RankId) -> Result<EngineLink, SocketError> {
    let (address, secret) = (watcher.address.clone(), secret.clone());
    let dial = move || EngineLink::dial(&address, Some(&secret), id);
    soon(tokio::task::spawn_blocking(dial)).await.unwrap()
}

#[tokio::test]
async fn an_engine_is_offered_until_its_end() {
    let served = Served::start(Way::Link);
    let watcher = served.watcher();
    let (end, told) = watch::channel(false);
    let link = dial(watcher, &watcher.secret, ID).await.unwrap();
    let offer = tokio::spawn(link.serve(served.engine.clone(), over(told)));
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
    let link = dial(watcher, &watcher.secret, ID).await.unwrap();
    drop(watcher.engine().await);
    soon(link.serve(served.engine.clone(), std::future::pending())).await.unwrap();
}

#[tokio::test]
async fn an_engine_that_is_not_expected_is_refused() {
    let served = Served::start(Way::Link);
    let watcher = served.watcher();
    let refused = async |secret: &Secret, id| dial(watcher, secret, id).await.unwrap_err();
    watcher.watch.expect(ID.instance, 1);
    let error = refused(&watcher.secret, ID).await;
    assert_eq!(
        error.to_string(),
        format!(
            "{} refused the connection: rank 0 of instance 1 is of attempt 0, but attempt 1 is the \
             current one",
            watcher.address
        )
    );
    let error = refused(&watcher.secret, RankId { instance: 7, ..ID }).await;
    assert!(matches!(error, SocketError::Refused { .. }), "{error}");
    let error = refused(&Secret::generate().unwrap(), ID).await;
    assert!(matches!(error, SocketError::WrongSecret { .. }), "{error}");
}
