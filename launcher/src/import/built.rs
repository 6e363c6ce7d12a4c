//! What an engine's own config.json says of its ranks and limits.

use std::path::Path;

use serde_json::Value;

use super::error::ImportError;
use super::folder;
use super::leaf::{Given, Leaf};
use super::rules::BUILT;

pub(crate) const CONFIG: &str = "config.json";

/// The values that matter here, from the engine's folder if it can be reached; none if it can't.
///
/// # Errors
/// [`ImportError`] for a file that can't be read or is not JSON.
pub(crate) fn leaves(engine: Option<&str>) -> Result<Vec<Leaf>, ImportError> {
    let Some(engine) = engine else { return Ok(Vec::new()) };
    let path = Path::new(engine).join(CONFIG);
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let config: Value = serde_json::from_str(&folder::read(&path)?)
        .map_err(|source| ImportError::Json { path: path.clone(), source })?;
    let file = path.display().to_string();
    let leaf = |path: &'static str| {
        let value = path.split('.').try_fold(&config, |value, name| value.get(name))?;
        let given = match value {
            Value::Number(number) => Given::text(&number.to_string()),
            Value::String(text) => Given::text(text),
            Value::Null => Given::Unset("null".to_owned()),
            other => Given::Parts(other.to_string()),
        };
        Some(Leaf::new(&file, path, given))
    };
    Ok(BUILT.iter().filter_map(|known| leaf(known.path)).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_matters_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str();
        assert!(leaves(None).unwrap().is_empty());
        assert!(leaves(path).unwrap().is_empty());
        let config = r#"{"version": "1", "pretrained_config": {"mapping": {"tp_size": 2}},
                         "build_config": {"max_seq_len": 4096, "max_num_tokens": null}}"#;
        std::fs::write(dir.path().join(CONFIG), config).unwrap();
        let leaves = leaves(path).unwrap();
        let told: Vec<_> =
            leaves.iter().map(|leaf| format!("{} = {}", leaf.path, leaf.given)).collect();
        assert_eq!(
            told,
            [
                "pretrained_config.mapping.tp_size = 2",
                "build_config.max_seq_len = 4096",
                "build_config.max_num_tokens = null",
            ]
        );
        std::fs::write(dir.path().join(CONFIG), "{").unwrap();
        let error = super::leaves(path).unwrap_err().to_string();
        assert!(error.contains("config.json: not JSON: "), "{error}");
    }
}
