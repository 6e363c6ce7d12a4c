//! The page about the interface has all of it.

use crate::client::get;
use crate::server::Server;

#[tokio::test]
async fn every_input_and_output_is_documented() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");
    let page = std::fs::read_to_string(page).unwrap();
    let server = Server::start().await;
    for model in ["ensemble", "tensorrt_llm_bls", "tensorrt_llm", "tiny"] {
        let metadata = get(server.http, &format!("/v2/models/{model}")).await.json();
        for tensor in ["inputs", "outputs"].iter().flat_map(|&list| {
            let list = metadata[list].as_array().unwrap();
            list.iter().map(|tensor| tensor["name"].as_str().unwrap())
        }) {
            assert!(page.contains(&format!("`{tensor}`")), "{model}: {tensor}");
        }
    }
}
