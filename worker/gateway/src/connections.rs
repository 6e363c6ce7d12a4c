//! Taking connections, and serving each within its bounds.

use std::future::Future;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::ConnectionLimits;

/// Silence after which a connection is asked whether its client is still there, time between such
/// questions, and how many of them may stay without an answer.
const KEEPALIVE: (u32, u32, u32) = (60, 15, 4);

/// How long to wait when the system gives no more connections, for want of file descriptors for one.
const BREATH: Duration = Duration::from_millis(200);

/// Serves `router` until `shutdown` is done, then takes no more connections and returns when the
/// responses that run have been sent.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()>,
) {
    let free = Arc::new(Semaphore::new(limits.most.min(Semaphore::MAX_PERMITS)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    let graceful = GracefulShutdown::new();
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let place = free.clone().acquire_owned().await.expect("the semaphore is never closed");
            (accept(&listener).await, place)
        };
        let (stream, place) = tokio::select! {
            next = next => next,
            () = &mut shutdown => break,
        };
        send_at_once(&stream);
        notice_the_dead(&stream);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection has ended");
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => match error.kind() {
                // That connection's own trouble.
                ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset => {}
                _ => {
                    tracing::warn!(%error, "no connection can be taken");
                    sleep(BREATH).await;
                }
            },
        }
    }
}

/// A token is a small packet that nothing follows for a while: waiting to fill it would delay it.
fn send_at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
}

/// A client whose machine or network is gone says nothing, and while it is sent nothing, as before a long
/// answer, nothing else tells.
fn notice_the_dead(stream: &TcpStream) {
    let (idle, interval, count) = KEEPALIVE;
    let set = setsockopt(stream, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepIdle, &idle))
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepInterval, &interval))
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepCount, &count));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set TCP keepalive");
    }
}
