//! How requests, clients and servers end.

use super::*;
use crate::{EngineClient, EngineState, Refused};

both_ways! {
    a_request_that_the_engine_lost_ends_alone,
    the_requests_of_a_client_that_leaves_are_cancelled,
    the_end_of_the_server_ends_streams_without_a_finish,
    a_server_that_is_told_to_end_lets_requests_finish,
}

async fn a_request_that_the_engine_lost_ends_alone(way: Way) {
    let mut served = Served::start(way);
    let client = served.client().await;
    let mut lost = soon(client.submit(request(1, 4))).await.unwrap();
    let mut other = soon(client.submit(request(2, 4))).await.unwrap();
    let (_, sink) = soon(served.said.submitted.recv()).await.unwrap();
    let (_, sink_of_other) = soon(served.said.submitted.recv()).await.unwrap();
    push(&sink, [1]);
    drop(sink);
    assert_eq!(read_all(&mut lost).await, (vec![1], false));
    push(&sink_of_other, [2]);
    finish(&sink_of_other);
    assert_eq!(read_all(&mut other).await, (vec![2], true));
}

async fn the_requests_of_a_client_that_leaves_are_cancelled(way: Way) {
    let mut served = Served::start(way);
    let (leaving, staying) = (served.client().await, served.client().await);
    let mut stream = soon(leaving.submit(request(1, 4))).await.unwrap();
    let _kept = soon(staying.submit(request(1, 4))).await.unwrap();
    let (first, _sink) = soon(served.said.submitted.recv()).await.unwrap();
    drop(leaving);
    assert_eq!(soon(served.said.cancelled.recv()).await, Some(first.id));
    assert_eq!(read_all(&mut stream).await, (vec![], false));
    // A take is answered behind whatever might have been cancelled.
    soon(staying.take_iterations()).await;
    assert!(served.said.cancelled.is_empty());
}

async fn the_end_of_the_server_ends_streams_without_a_finish(way: Way) {
    let mut served = Served::start(way);
    let client = served.client().await;
    let mut stream = soon(client.submit(request(1, 4))).await.unwrap();
    let (got, sink) = soon(served.said.submitted.recv()).await.unwrap();
    push(&sink, [1]);
    assert_eq!(soon(stream.next()).await, Some(tokens(0, &[1])));
    served.server.abort();
    assert_eq!(soon(stream.next()).await, None);
    assert!(!stream.is_finished());
    assert_eq!(client.state(), EngineState::Stopped);
    assert_eq!(soon(served.said.cancelled.recv()).await, Some(got.id));
    assert!(!served.path().exists());
    let refused = soon(client.submit(request(2, 4))).await.unwrap_err();
    let reason = "the engine ended the connection: it gave no reason".into();
    assert_eq!(refused, Refused::Unreachable { reason });
    assert!(soon(client.take_iterations()).await.is_empty());
}

async fn a_server_that_is_told_to_end_lets_requests_finish(way: Way) {
    let mut served = Served::start(way);
    let client = served.client().await;
    let mut stream = soon(client.submit(request(1, 4))).await.unwrap();
    let (_, sink) = soon(served.said.submitted.recv()).await.unwrap();
    served.end();
    until(|| client.state() == EngineState::Draining).await;
    assert!(!served.path().exists());
    let refused = soon(client.submit(request(2, 4))).await.unwrap_err();
    assert_eq!(refused, Refused::Draining);
    push(&sink, [1, 2]);
    finish(&sink);
    assert_eq!(read_all(&mut stream).await, (vec![1, 2], true));
    soon(served.server).await.unwrap().unwrap();
    until(|| client.state() == EngineState::Stopped).await;
}

#[tokio::test]
async fn a_socket_is_this_users_alone_and_goes_with_its_server() {
    let folder = private_folder();
    let path = folder.path().join("engine");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let server = EngineServer::bind(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert!(matches!(EngineServer::bind(&path), Err(SocketError::InUse { .. })));
    drop(server);
    assert!(!path.exists());

    // What a killed process leaves.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(EngineServer::bind(&path).unwrap());

    std::fs::write(&path, "not a socket").unwrap();
    assert!(matches!(EngineServer::bind(&path), Err(SocketError::Bind { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"not a socket");

    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let error = EngineServer::bind(&folder.path().join("other")).unwrap_err();
    assert!(matches!(error, SocketError::OpenFolder { mode: 0o711, .. }), "{error}");
    assert!(!folder.path().join("other").exists());
}
