//! The time before a deployment is ready.

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use shardrun_tests::{Client, Ready, Role, Setup, free_ports, model, until_some};

use super::prompt;

/// From the first moment that it can be reached: alive, and not ready while it loads.
#[test]
fn it_is_not_ready_while_it_loads() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let [http, metrics] = free_ports()?;
    let deployment = Setup::new(&model)?
        .set("server.http_port", http)
        .set("server.metrics_port", metrics)
        // A large cache takes its time.
        .set("kv_cache.max_tokens", 32768)
        .serve()?;
    let ready =
        Ready { http: format!("127.0.0.1:{http}"), metrics: format!("127.0.0.1:{metrics}") };
    let client = Client::new(ready.clone());
    let loading = Duration::from_secs(60);
    until_some("the port to be open", loading, || Ok(TcpStream::connect(&ready.http).ok()))?;
    // The follower is loading: as long as it stands still, nothing is ready.
    deployment.signal(Role::Rank(1), Signal::SIGSTOP)?;
    assert_eq!(client.get("/v2/health/live")?.status, 200);
    assert_eq!(client.get("/v2/health/ready")?.status, 400);
    assert_eq!(client.get("/v2/models/ensemble/ready")?.status, 400);
    assert_eq!(client.get("/v2/models/ensemble")?.status, 200);
    let reply = client.post("/v2/models/ensemble/generate", prompt("Hello", 4).to_string())?;
    let sentence = "the model is loading, please try again later";
    assert_eq!((reply.status, &*reply.error()?), (503, sentence));
    client.metrics()?;
    assert_eq!(deployment.stdout(), "", "ready is not said too early");
    deployment.signal(Role::Rank(1), Signal::SIGCONT)?;
    assert_eq!(deployment.ready()?, ready);
    assert_eq!(client.get("/v2/health/ready")?.status, 200);
    assert!(!client.generate(&prompt("Hello", 4))?.is_empty());
    Ok(())
}
