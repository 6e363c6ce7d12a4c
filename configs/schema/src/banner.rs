//! What is printed when a deployment serves.

/// Where the deployment `name` is, and a command to copy that asks it something. The addresses are
/// `host:port`.
#[must_use]
pub fn ready_text(name: &str, http: &str, metrics: &str) -> String {
    format!(
        "\n{name} is ready.\n\
         \x20 HTTP     http://{http}\n\
         \x20 metrics  http://{metrics}/metrics\n\n\
         \x20 curl -s {http}/v2/models/ensemble/generate \
         -d '{{\"text_input\": \"What is machine learning?\", \"max_tokens\": 40}}'\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_copied() {
        let text = ready_text("smollm2", "127.0.0.1:8000", "127.0.0.1:8002");
        assert!(text.contains("metrics  http://127.0.0.1:8002/metrics\n"));
        assert!(text.contains(
            "curl -s 127.0.0.1:8000/v2/models/ensemble/generate -d '{\"text_input\": \"What is"
        ));
    }
}
