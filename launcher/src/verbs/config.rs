//! `shardrun config check` and `shardrun config show`.

use std::io::Write;
use std::net::SocketAddr;

use serde_json::json;
use shardrun_config::keys::Fallback;
use shardrun_config::{Loaded, Model, Setting, Value};

use super::print_json;
use crate::cli::{CheckArgs, ConfigArgs, ConfigVerb, ShowArgs};

pub(crate) fn run(args: &ConfigArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    match &args.verb {
        ConfigVerb::Check(args) => check(args, out),
        ConfigVerb::Show(args) => show(args, out),
    }
}

fn check(args: &CheckArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let loaded = args.deployment.load()?;
    let deployment = &loaded.deployment;
    if args.json {
        let model = |model: &Model| {
            json!({
                "name": model.name,
                "source": model.source.to_string(),
                "instances": model.instances,
            })
        };
        let server = &deployment.server;
        let value = json!({
            "file": args.deployment.file,
            "name": deployment.name,
            "models": deployment.models.iter().map(model).collect::<Vec<_>>(),
            "ranks": deployment.ranks(),
            "http": SocketAddr::new(server.host, server.http_port),
            "metrics": SocketAddr::new(server.host, server.metrics_port),
        });
        return Ok(print_json(out, &value)?);
    }
    writeln!(out, "{}: ok", args.deployment.file.display())?;
    for model in &deployment.models {
        let instances = match model.instances {
            1 => String::new(),
            instances => format!(", {instances} instances"),
        };
        writeln!(out, "  {}: {}{instances}", model.name, model.source)?;
    }
    let (ranks, server) = (deployment.ranks(), &deployment.server);
    writeln!(
        out,
        "  {ranks} rank{}, API on {}, metrics on port {}",
        if ranks == 1 { "" } else { "s" },
        SocketAddr::new(server.host, server.http_port),
        server.metrics_port,
    )?;
    Ok(())
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let loaded = args.deployment.load()?;
    match args.json {
        true => as_json(&loaded, out),
        false => as_table(&loaded, out),
    }
}

/// The origin first, as git does: it has the width that varies least.
fn as_table(loaded: &Loaded, out: &mut dyn Write) -> anyhow::Result<()> {
    let origins: Vec<_> = loaded.settings.iter().map(|s| s.origin.to_string()).collect();
    let width = origins.iter().map(|origin| origin.chars().count()).max().unwrap_or(0);
    for (setting, origin) in loaded.settings.iter().zip(&origins) {
        writeln!(out, "{origin:width$}  {} = {}", setting.path, shown(setting))?;
    }
    Ok(())
}

fn shown(setting: &Setting) -> String {
    match (&setting.value, setting.key.fallback) {
        (Some(value), _) => value.to_string(),
        (None, Fallback::Absent(what)) => format!("({})", what.replace('`', "")),
        (None, _) => "(none)".to_owned(),
    }
}

fn as_json(loaded: &Loaded, out: &mut dyn Write) -> anyhow::Result<()> {
    let values: Vec<_> = loaded
        .settings
        .iter()
        .map(|setting| {
            let value = setting.value.as_ref().map(|value| match value {
                Value::Integer(n) => json!(n),
                Value::Integers(list) => json!(list),
                Value::Texts(list) => json!(list),
                Value::Bool(truth) => json!(truth),
                Value::Text(text) => json!(text),
            });
            json!({
                "key": setting.path,
                "value": value,
                "origin": setting.origin.to_string(),
            })
        })
        .collect();
    Ok(print_json(out, &values)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::DeploymentArgs;

    const FILE: &str = "name = \"demo\"\nmodel.source = \"/m.gguf\"\nrun.dir = \"/r\"\n";

    fn printed(text: &str, verb: impl Fn(DeploymentArgs) -> ConfigVerb) -> anyhow::Result<String> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("x.toml");
        std::fs::write(&file, text)?;
        let tp_size = Some("4".to_owned());
        let args = DeploymentArgs { file: file.clone(), tp_size, ..DeploymentArgs::default() };
        let mut out = Vec::new();
        run(&ConfigArgs { verb: verb(args) }, &mut out)?;
        Ok(String::from_utf8(out)?.replace(&*file.to_string_lossy(), "x.toml"))
    }

    #[test]
    fn check_says_ok_and_what_the_file_is() {
        let check = |deployment| ConfigVerb::Check(CheckArgs { deployment, json: false });
        assert_eq!(
            printed(FILE, check).unwrap(),
            "x.toml: ok\n  demo: /m.gguf\n  4 ranks, API on 127.0.0.1:8000, metrics on port 8002\n"
        );
        assert!(printed("name = \"demo\"", check).is_err());
        let check = |deployment| ConfigVerb::Check(CheckArgs { deployment, json: true });
        let json: serde_json::Value = serde_json::from_str(&printed(FILE, check).unwrap()).unwrap();
        assert_eq!((&json["ranks"], &json["http"]), (&json!(4), &json!("127.0.0.1:8000")));
        let model = json!([{ "name": "demo", "source": "/m.gguf", "instances": 1 }]);
        assert_eq!(json["models"], model);
    }

    #[test]
    fn show_has_every_key_with_its_origin() {
        let show = |json| move |deployment| ConfigVerb::Show(ShowArgs { deployment, json });
        let table = printed(FILE, show(false)).unwrap();
        assert_eq!(table.lines().count(), shardrun_config::keys::KEYS.len());
        let line = |end: &str| table.lines().find(|line| line.ends_with(end)).unwrap().to_owned();
        assert!(line("  name = \"demo\"").starts_with("x.toml:1 "));
        assert!(line("  model.tp_size = 4").starts_with("command line "));
        assert!(line("  model.isa = \"auto\"").starts_with("default "));
        assert!(line("  model.max_seq_len = (the model's own context)").starts_with("default "));

        let json: serde_json::Value =
            serde_json::from_str(&printed(FILE, show(true)).unwrap()).unwrap();
        let tp_size =
            json.as_array().unwrap().iter().find(|it| it["key"] == "model.tp_size").unwrap();
        let expected = json!({"key": "model.tp_size", "value": 4, "origin": "command line"});
        assert_eq!(*tp_size, expected);
    }
}
