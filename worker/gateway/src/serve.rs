//! Answering on both ports until told to stop.

use std::future::Future;

use axum::serve::ListenerExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::{GatewayError, GatewayState, Listeners, observe, routes};

/// Serves until `shutdown` is done, then takes no more connections and returns when the running
/// responses have been sent: the caller bounds that time. `/metrics` answers to the end.
///
/// # Errors
/// [`GatewayError::Serve`] if a listener cannot be used.
pub async fn serve(
    listeners: Listeners,
    state: GatewayState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), GatewayError> {
    let http = TcpListener::from_std(listeners.http).map_err(GatewayError::Serve)?;
    let metrics = TcpListener::from_std(listeners.metrics).map_err(GatewayError::Serve)?;
    let (answered, all_answered) = oneshot::channel::<()>();
    let scrapes =
        axum::serve(metrics, observe::router(state.clone())).with_graceful_shutdown(async move {
            // Ends by the drop of its sender.
            let _ = all_answered.await;
        });
    let answers = async {
        let router = routes::router(state);
        let result =
            axum::serve(http.tap_io(send_at_once), router).with_graceful_shutdown(shutdown).await;
        drop(answered);
        result
    };
    let (answers, scrapes) = tokio::join!(answers, async { scrapes.await });
    answers.and(scrapes).map_err(GatewayError::Serve)
}

/// A token is a small packet that nothing follows for a while: waiting to fill it would delay it.
fn send_at_once(stream: &mut TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
}
