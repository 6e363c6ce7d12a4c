//! The golden scripts are what shellcheck would have them be. The unit tests say that they are what
//! is written.

use std::path::Path;
use std::process::Command;

#[test]
fn golden_scripts_are_clean() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = std::fs::read_dir(folder).expect("the folder of golden scripts");
    let scripts: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    assert!(scripts.len() >= 3, "{scripts:?}");
    let output = match Command::new("shellcheck").args(&scripts).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: shellcheck cannot be run: {error}");
            return;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
