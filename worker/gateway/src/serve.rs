//! Answering on both ports until told to stop.

use std::future::Future;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::{GatewayError, GatewayState, Listeners, connections, observe, routes};

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
    let Listeners { http, metrics } = listeners;
    let limits = state.connections();
    let http = TcpListener::from_std(http).map_err(GatewayError::Serve)?;
    let metrics = TcpListener::from_std(metrics).map_err(GatewayError::Serve)?;
    let (answered, all_answered) = oneshot::channel::<()>();
    let scrapes = connections::serve(metrics, observe::router(state.clone()), limits, async {
        // Ends by the drop of its sender.
        let _ = all_answered.await;
    });
    let answers = async {
        connections::serve(http, routes::router(state), limits, shutdown).await;
        drop(answered);
    };
    tokio::join!(answers, scrapes);
    Ok(())
}
