//! Who is recognised.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;

use super::*;

/// A peer that says what was thought of before.
struct Recorded {
    says: Cursor<Vec<u8>>,
    heard: Vec<u8>,
}

impl Recorded {
    fn new(says: &[u8]) -> Self {
        Self { says: Cursor::new(says.to_vec()), heard: Vec::new() }
    }
}

impl Read for Recorded {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.says.read(bytes)
    }
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a dialler with `secret` says first.
fn first_words(secret: &Secret) -> Vec<u8> {
    let mut nobody = Recorded::new(&[]);
    assert!(matches!(initiate(&mut nobody, secret), Err(HandshakeError::Ended)));
    nobody.heard
}

#[test]
fn another_secret_is_recognised_at_both_ends() {
    let (dialled, answered) = meet(&secret(), &secret());
    let message = |end: Result<End, HandshakeError>| end.unwrap_err().to_string();
    assert_eq!(message(dialled), "it has another secret");
    assert_eq!(message(answered), "it has another secret");
}

#[test]
fn a_listener_that_only_claims_to_know_the_secret_is_recognised() {
    // It can answer nothing but what it has heard before.
    let secret = secret();
    let mut liar = Recorded::new(&first_words(&secret));
    let error = initiate(&mut liar, &secret).unwrap_err();
    assert!(matches!(error, HandshakeError::WrongSecret), "{error}");
}

#[test]
fn a_handshake_that_was_overheard_opens_nothing() {
    let secret = secret();
    let overheard = first_words(&secret);
    let mut replayed = Recorded::new(&overheard);
    let (_, mut opener) = respond(&mut replayed, &secret).unwrap();
    // Whatever follows was sealed with another key.
    let ((mut sealer, _), _) = ends(&secret);
    let mut sealed = Vec::new();
    sealer.seal(b"let me in", &mut sealed).unwrap();
    let error = read(&mut opener, &mut sealed.as_slice(), &mut [0; 64]).unwrap_err();
    assert!(error.to_string().starts_with("record 0 of the stream is not genuine"), "{error}");
}

#[test]
fn every_change_to_the_first_words_is_noticed() {
    let secret = secret();
    let words = first_words(&secret);
    assert_eq!(words.len(), 50);
    for at in 0..words.len() {
        for damage in [1, 0x80] {
            let mut damaged = words.clone();
            damaged[at] ^= damage;
            let mut peer = Recorded::new(&damaged);
            let error = respond(&mut peer, &secret).unwrap_err();
            match error {
                HandshakeError::Foreign => assert!(at < 2 && peer.heard.is_empty()),
                HandshakeError::WrongSecret => assert_eq!(peer.heard, [0, 0]),
                // The high bit of a public key means nothing, but the bytes are authenticated.
                other => panic!("{other}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_read_no_further_than_a_handshake(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let secret = secret();
        let mut peer = Recorded::new(&garbage);
        prop_assert!(respond(&mut peer, &secret).is_err());
        prop_assert!(peer.says.position() <= 50);
        prop_assert!(peer.heard.is_empty() || peer.heard == [0, 0]);
        prop_assert!(initiate(&mut Recorded::new(&garbage), &secret).is_err());
    }

    #[test]
    fn garbage_of_a_handshakes_length_is_no_handshake(garbage in prop::collection::vec(any::<u8>(), 48..100)) {
        let secret = secret();
        let framed = [&[48, 0], garbage.as_slice()].concat();
        let wrong = |error| matches!(error, HandshakeError::WrongSecret);
        prop_assert!(respond(&mut Recorded::new(&framed), &secret).is_err_and(wrong));
        prop_assert!(initiate(&mut Recorded::new(&framed), &secret).is_err_and(wrong));
    }
}
