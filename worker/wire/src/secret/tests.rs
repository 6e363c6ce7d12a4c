use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

#[test]
fn a_secret_comes_back_from_its_file_and_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let secret = Secret::generate().unwrap();
    secret.write_to(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(Secret::read_from(&path).unwrap() == secret);
    let bytes = postcard::to_stdvec(&secret).unwrap();
    assert!(postcard::from_bytes::<Secret>(&bytes).unwrap() == secret);
    assert!(Secret::generate().unwrap() != secret);
    // What is there already stays.
    let error = Secret::generate().unwrap().write_to(&path).unwrap_err();
    assert!(matches!(error, SecretError::Write { .. }), "{error}");
    assert!(Secret::read_from(&path).unwrap() == secret);
}

#[test]
fn a_secret_is_not_shown() {
    assert_eq!(format!("{:?}", Secret([0xab; LEN])), "Secret(not shown)");
}

#[test]
fn files_that_others_can_touch_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    Secret::generate().unwrap().write_to(&path).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = Secret::read_from(&path).unwrap_err();
        let own = geteuid();
        assert_eq!(
            error.to_string(),
            format!(
                "the run's secret {} has mode 100{mode:03o} and belongs to user {own}: it must be a \
                 regular file of mode 0600 that belongs to user {own}",
                path.display()
            )
        );
    }
    std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    Secret::read_from(&path).unwrap();
    if geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        let error = Secret::read_from(&path).unwrap_err();
        assert!(matches!(error, SecretError::NotPrivate { owner: 65534, .. }), "{error}");
    }
}

#[test]
fn what_is_no_file_of_32_bytes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let refused = |name: &str| Secret::read_from(&path(name)).unwrap_err();

    Secret::generate().unwrap().write_to(&path("secret")).unwrap();
    symlink(path("secret"), path("link")).unwrap();
    assert!(matches!(refused("link"), SecretError::NotPrivate { mode: 0o120_777, .. }));
    nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(refused("pipe"), SecretError::NotPrivate { mode: 0o010_700, .. }));
    std::fs::create_dir(path("folder")).unwrap();
    std::fs::set_permissions(path("folder"), Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(refused("folder"), SecretError::NotPrivate { mode: 0o040_700, .. }));
    assert!(matches!(refused("nothing"), SecretError::Read { .. }));
    for len in [0, 31, 33] {
        let name = format!("of {len} bytes");
        std::fs::write(path(&name), vec![7; len]).unwrap();
        std::fs::set_permissions(path(&name), Permissions::from_mode(0o600)).unwrap();
        let error = refused(&name).to_string();
        assert!(error.ends_with(&format!("has {len} bytes: it must have 32")), "{error}");
    }
}
