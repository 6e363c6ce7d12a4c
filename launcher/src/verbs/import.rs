//! `shardrun import triton`: a deployment file from a Triton model repository.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::Context as _;

use crate::cli::{ImportArgs, ImportTritonArgs, ImportVerb};
use crate::import::{self, Imported};

pub(crate) fn run(args: &ImportArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    match &args.verb {
        ImportVerb::Triton(args) => triton(args, out, &mut std::io::stderr().lock()),
    }
}

fn triton(
    args: &ImportTritonArgs,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> anyhow::Result<()> {
    let Imported { toml, report } = import::triton(&args.repository, &args.source)?;
    match &args.output {
        None => out.write_all(toml.as_bytes())?,
        Some(file) => create(file, &toml)?,
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report.json()).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    // The file goes before the table where both are on one terminal.
    out.flush()?;
    write!(errors, "{}", report.table())?;
    if let Some(file) = &args.output {
        writeln!(errors, "\nnext: shardrun config check {}", file.display())?;
    }
    Ok(())
}

fn create(file: &Path, text: &str) -> anyhow::Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).open(file);
    if created.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists) {
        anyhow::bail!("{} exists, and is not overwritten; name another --output", file.display());
    }
    let written = created.and_then(|mut created| created.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    /// What goes to standard output and to standard error.
    fn ran(line: &[&str]) -> anyhow::Result<(String, String)> {
        let line = ["shardrun", "import", "triton"].iter().chain(line);
        let Verb::Import(ImportArgs { verb: ImportVerb::Triton(args) }) =
            Cli::try_parse_from(line)?.verb
        else {
            panic!("not import");
        };
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        triton(&args, &mut out, &mut errors)?;
        Ok((String::from_utf8(out)?, String::from_utf8(errors)?))
    }

    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("repo/tensorrt_llm");
        std::fs::create_dir_all(&model).unwrap();
        let config = "backend: \"tensorrtllm\"\nmax_batch_size: 8\n";
        std::fs::write(model.join("config.pbtxt"), config).unwrap();
        dir
    }

    #[test]
    fn the_file_and_the_report_go_where_they_are_asked_for() {
        let dir = repository();
        let repo = dir.path().join("repo");
        let (repo, file) = (repo.to_str().unwrap(), dir.path().join("d.toml"));
        let (toml, table) = ran(&[repo]).unwrap();
        assert!(toml.contains("\nmax_batch_size = 8\n"), "{toml}");
        assert!(table.contains("model.max_batch_size = 8"), "{table}");

        let output = ["--output", file.to_str().unwrap()];
        let (none, table) = ran(&[&[repo], &output[..]].concat()).unwrap();
        assert_eq!(none, "");
        assert!(table.ends_with(&format!("\nnext: shardrun config check {}\n", file.display())));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), toml);

        let again = ran(&[&[repo], &output[..]].concat()).unwrap_err().to_string();
        assert!(again.contains("exists, and is not overwritten"), "{again}");
        std::fs::remove_file(&file).unwrap();
        let (json, nothing) = ran(&[&[repo, "--json"], &output[..]].concat()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["items"][2]["key"], "model.max_batch_size");
        assert_eq!(nothing, "");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), toml);
    }

    #[test]
    fn json_is_for_a_report_beside_a_file() {
        let error = Cli::try_parse_from(["shardrun", "import", "triton", "r", "--json"]);
        assert_eq!(error.unwrap_err().exit_code(), 2);
    }
}
