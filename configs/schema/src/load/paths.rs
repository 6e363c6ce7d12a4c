//! Paths of a deployment, made absolute.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::settle::Settled;
use crate::keys::KEYS;
use crate::kind::{Kind, Value};
use crate::{ConfigError, Origin};

/// Makes paths absolute: `~` is the home folder, relative ones begin at the folder of the
/// file that says them, else at the working directory.
pub(super) fn make_absolute(
    settled: &mut Settled,
    env: &HashMap<String, String>,
) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for key in KEYS {
        let Some((Value::Text(text), origin)) = settled.get_mut(key.path) else { continue };
        let is_path = match key.kind {
            Kind::Path => true,
            Kind::Source => !text.starts_with("pypi:"),
            _ => false,
        };
        if !is_path {
            continue;
        }
        let home = env.get("HOME").filter(|home| !home.is_empty());
        let path = match (text.strip_prefix('~'), home) {
            (Some(""), Some(home)) => PathBuf::from(home),
            (Some(rest), Some(home)) if rest.starts_with('/') => {
                Path::new(home).join(rest.trim_start_matches('/'))
            }
            (Some(rest), None) if rest.is_empty() || rest.starts_with('/') => {
                errors.push(ConfigError::NoHome { origin: origin.clone(), key: key.path });
                continue;
            }
            _ => match &*origin {
                Origin::File(at) => match at.file.parent() {
                    Some(folder) => folder.join(&*text),
                    None => PathBuf::from(&*text),
                },
                _ => PathBuf::from(&*text),
            },
        };
        // Only a working directory that is gone makes this fail; then the path stays relative.
        let path = std::path::absolute(&path).unwrap_or(path);
        match path.into_os_string().into_string() {
            Ok(absolute) => *text = absolute,
            Err(path) => errors.push(ConfigError::NotUtf8 {
                origin: origin.clone(),
                key: key.path,
                path: path.into(),
            }),
        }
    }
    errors
}
