//! Several models of one deployment.

use super::*;

const PAIR: &str = "name = \"pair\"\n[model]\nsource = \"m.gguf\"\nthreads = 1\n\
    [kv_cache]\nmax_tokens = 4096\n[models.small]\ninstances = 2\n\
    [models.large]\nsource = \"l.gguf\"\ntp_size = 2\nkv_cache.max_tokens = 8192\n";

#[test]
fn models_have_their_own_tables_over_what_all_share() {
    let env = [("SHARDRUN_MODEL_THREADS", "3")];
    let flags = [("models.small.max_batch_size", "4"), ("model.max_batch_size", "8")];
    let loaded = load(PAIR, &env, &flags).unwrap();
    let deployment = &loaded.deployment;
    assert_eq!(deployment.mode, Mode::Orchestrator);
    let [small, large] = deployment.models.as_slice() else { panic!("{deployment:?}") };
    assert_eq!((&*small.name, &*large.name), ("small", "large"));
    assert_eq!((small.instances, large.instances, deployment.ranks()), (2, 1, 4));
    assert_eq!((small.threads, large.threads), (Threads::Fixed(3), Threads::Fixed(3)));
    assert_eq!((small.kv_cache.max_tokens, large.kv_cache.max_tokens), (4096, 8192));
    assert_eq!((small.max_batch_size, large.max_batch_size), (4, 8));
    assert_eq!(large.source, ModelSource::Path("/etc/d/l.gguf".into()));
    let of = |path: &str| loaded.settings.iter().find(|setting| setting.path == path);
    assert_eq!(of("models.large.tp_size").unwrap().origin.to_string(), "/etc/d/x.toml:11");
    assert!(of("model.tp_size").is_none() && of("server.host").is_some());
    let again = Deployment::from_resolved_toml(&deployment.to_toml().unwrap()).unwrap();
    assert_eq!(&again, deployment);
}

#[test]
fn a_single_model_is_named_as_its_deployment_and_led() {
    let loaded = load(&model(""), &[], &[]).unwrap().deployment;
    assert_eq!((loaded.mode, &*loaded.models[0].name), (Mode::Leader, "x"));
    let two = load(&model("instances = 2"), &[], &[]).unwrap().deployment;
    assert_eq!(two.mode, Mode::Orchestrator);
    let one = load(&model(""), &[], &[("mode", "orchestrator")]).unwrap().deployment;
    assert_eq!(one.mode, Mode::Orchestrator);
    assert_eq!(
        problems(&model("instances = 2"), &[], &[("mode", "leader")]),
        ["command line: mode = \"leader\" serves one instance of one model, and these are 2; \
          mode = \"orchestrator\" serves them all"]
    );
}

#[test]
fn what_is_wrong_in_a_models_table_has_its_place() {
    assert_eq!(
        problems("name = \"x\"\n[models.a]\ntp_sise = 2\n[models.B]\n", &[], &[]),
        [
            "/etc/d/x.toml:3:1: unknown key models.a.tp_sise; did you mean model.tp_size?",
            "/etc/d/x.toml:4:9: a model's name is \"B\"; allowed: a string of 1 to 32 of the \
             characters a-z 0-9 - _",
            "/etc/d/x.toml: models.a.source is missing: a path to a GGUF file, or \
             pypi:PACKAGE==VERSION/FILE",
        ]
    );
    let shared = format!("{PAIR}server.http_port = 70000\n");
    assert_eq!(problems(&shared.replace("server.", "[server]\n"), &[], &[]).len(), 1, "told once");
    let ids = format!("{PAIR}gpu_device_ids = \"0,1,2\"\n");
    assert_eq!(
        problems(&ids, &[], &[]),
        [
            "/etc/d/x.toml:13:18: model.gpu_device_ids is \"0,1,2\": a set has 3 ids; model.tp_size is 2"
        ]
    );
}

#[test]
fn names_that_clients_could_not_tell_apart_are_refused() {
    let reserved = "allowed: another than ensemble, tensorrt_llm, tensorrt_llm_bls: these always mean \
                    the deployment's default model";
    assert_eq!(
        problems("name = \"ensemble\"\nmodel.source = \"/m\"", &[], &[]),
        [format!("/etc/d/x.toml:1:8: name is \"ensemble\"; {reserved}")]
    );
    let two = |first: &str, second: &str| {
        format!("name = \"ensemble\"\nmodel.source = \"/m\"\n[models.{first}]\n[models.{second}]")
    };
    let told = problems(&two("a", "tensorrt_llm"), &[], &[]);
    assert_eq!(
        told,
        [format!("/etc/d/x.toml:4:9: a model's name is \"tensorrt_llm\"; {reserved}")]
    );
    for (first, second, route, taken) in [
        ("a", "ensemble_a", "ensemble_a", "a"),
        ("bls_a", "a", "tensorrt_llm_bls_a", "bls_a"),
        // The first has the plain names, too.
        ("a", "bls", "tensorrt_llm_bls", "a"),
    ] {
        assert_eq!(
            problems(&two(first, second), &[], &[]),
            [format!(
                "/etc/d/x.toml:4:9: a model's name is \"{second}\"; allowed: one under which nothing \
                 else is served; it would be served as {route}, which the model \"{taken}\" is"
            )]
        );
    }
    assert!(load(&two("bls", "a"), &[], &[]).is_ok());
    assert!(load(&two("ensembles", "a_b"), &[], &[]).is_ok());
    let flags = [("models.ensemble.tp_size", "2")];
    assert!(problems(&two("a", "b"), &[], &flags)[0].starts_with("command line: "));
}

#[test]
fn participants_are_ranks_of_one_world() {
    let text = "name = \"x\"\nmodel.source = \"/m\"\n[models.a]\ntp_size = 2\ninstances = 2\n\
                participant_ids = \"1,2;3,4\"\n[models.b]\nparticipant_ids = \"6\"";
    let deployment = load(text, &[], &[]).unwrap().deployment;
    assert_eq!(deployment.mode, Mode::Orchestrator);
    assert_eq!(deployment.shared_world_size(), 7);
    let seats: Vec<_> = (0..7).map(|rank| deployment.participant(rank)).collect();
    let expected =
        [None, Some((0, 0)), Some((0, 1)), Some((1, 0)), Some((1, 1)), None, Some((2, 0))];
    assert_eq!(seats, expected);
    let wrong = |from: &str, to: &str| problems(&text.replace(from, to), &[], &[]).join("\n");
    assert!(wrong("\"6\"", "\"4\"").ends_with("rank 4 would be in two places"));
    assert!(wrong("3,4", "0,4").contains("rank 0 is the orchestrator's"));
    assert!(wrong(";3,4", "").contains("it has 1 sets; model.instances is 2"));
    assert!(
        wrong("participant_ids = \"6\"", "").ends_with("every model needs participants, or none")
    );
}
