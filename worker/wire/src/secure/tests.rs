//! Two ends that know a secret, and what others can do to them.

mod handshake;
mod polled;
mod records;

use std::os::unix::net::UnixStream;

use super::*;
use crate::Secret;

/// One end's two directions.
type End = (Sealer, Opener);

/// The one who dialled, and the one who listened.
fn ends(secret: &Secret) -> (End, End) {
    let (dialled, answered) = meet(secret, secret);
    (dialled.unwrap(), answered.unwrap())
}

fn meet(
    dialler: &Secret,
    listener: &Secret,
) -> (Result<End, HandshakeError>, Result<End, HandshakeError>) {
    let (mut here, mut there) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        // Closed at its end, as a refused connection is.
        let answered = scope.spawn(move || respond(&mut there, listener));
        (initiate(&mut here, dialler), answered.join().unwrap())
    })
}

fn secret() -> Secret {
    Secret::generate().unwrap()
}

/// Some bytes, different everywhere.
fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}
