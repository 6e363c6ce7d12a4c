//! `docs/config.md`, from the key table.

use std::fmt::Write as _;

use crate::keys::{Fallback, KEYS, Key, SECTIONS};

const HEAD: &str = "\
# The deployment file

<!-- Written from the key table by `UPDATE_DOCS=1 cargo test -p shardrun-config reference`. -->

A deployment is one TOML file. Each key has a default unless it is marked as required; an unknown
key is an error. A value is decided by the last of these that sets it:

1. the default,
2. the site's files: `/etc/shardrun/site.toml`, then `shardrun/site.toml` in `$XDG_CONFIG_HOME` or
   `~/.config`; if `SHARDRUN_SITE` is set, the file that it names instead, and none if it is empty. They
   take what is not a deployment's own: no `name`, `mode`, `[model]` or `[kv_cache]`,
3. the file,
4. the environment: `SHARDRUN_` and the key in capitals, with `_` for the dot, as in
   `SHARDRUN_MODEL_TP_SIZE=4` (a variable that begins like a section and names no key is an error),
5. the command line: `--set model.tp_size=4`.

`shardrun config check FILE` says what is wrong with a file, `shardrun config show FILE` prints
every value with where it came from.

Relative paths in the file begin at the file's folder; elsewhere they begin at the working
directory. `~` is the home folder.
";

/// The reference of the deployment file, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    let top = ("", "Keys above the first section");
    for (section, doc) in std::iter::once(&top).chain(SECTIONS) {
        let keys = KEYS.iter().filter(|key| section_of(key) == *section);
        let title = if section.is_empty() { (*doc).to_owned() } else { format!("`[{section}]`") };
        let intro = if section.is_empty() { String::new() } else { format!("{doc}\n\n") };
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {title}\n\n{intro}| key | takes | default | meaning |\n|---|---|---|---|\n"
        );
        for key in keys {
            let leaf = key.path.rsplit('.').next().unwrap_or(key.path);
            let (takes, default) = (takes(key), default(key));
            let _ = writeln!(page, "| `{leaf}` | {takes} | {default} | {} |", key.doc);
        }
    }
    page
}

fn section_of(key: &Key) -> &'static str {
    key.path.split_once('.').map_or("", |(section, _)| section)
}

fn takes(key: &Key) -> String {
    let takes = key.kind.takes();
    takes.strip_prefix("one of ").unwrap_or(&takes).replace('"', "`")
}

fn default(key: &Key) -> String {
    match key.fallback {
        Fallback::Required(_) => "required".to_owned(),
        Fallback::Is(text) => format!("`{text}`"),
        Fallback::AtMost(number, other) => format!("`{number}`, or `{other}` if that is less"),
        Fallback::Absent(what) => what.to_owned(),
        Fallback::StateFolder => {
            "`$XDG_STATE_HOME/shardrun`, or `~/.local/state/shardrun`".to_owned()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_in_docs_is_this_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, reference()).unwrap();
        }
        let page = std::fs::read_to_string(&path).unwrap();
        assert!(
            page == reference(),
            "docs/config.md is old: UPDATE_DOCS=1 cargo test -p shardrun-config reference"
        );
    }

    #[test]
    fn every_key_has_a_row() {
        let page = reference();
        for key in KEYS {
            let leaf = key.path.rsplit('.').next().unwrap();
            assert!(page.contains(&format!("\n| `{leaf}` | ")), "{}", key.path);
        }
    }
}
