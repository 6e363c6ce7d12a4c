//! What can be done to records.

use std::io::{self, Read};

use proptest::prelude::*;

use super::*;

/// Opens all of `sealed`: what comes, and how it ends.
fn open(opener: &mut Opener, mut sealed: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let mut out = Vec::new();
    let mut piece = vec![0; 4096];
    loop {
        match read(opener, &mut sealed, &mut piece) {
            Ok(0) => return (out, Ok(())),
            Ok(len) => out.extend_from_slice(&piece[..len]),
            Err(error) => return (out, Err(error)),
        }
    }
}

/// Three records with ten bytes each, and their text.
fn three(sealer: &mut Sealer) -> ([Vec<u8>; 3], Vec<u8>) {
    let text = bytes(30);
    let mut at = 0;
    let records = [(); 3].map(|()| {
        let mut record = Vec::new();
        sealer.seal(&text[at..at + 10], &mut record).unwrap();
        at += 10;
        record
    });
    (records, text)
}

fn is_forged(ended: io::Result<()>, number: u64) -> bool {
    let error = ended.unwrap_err();
    error.kind() == io::ErrorKind::InvalidData
        && error.to_string().starts_with(&format!("record {number} of the stream is not genuine"))
}

/// A stream that gives as many bytes at a time as it is told.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = out.len().min(*self.sizes.next().unwrap());
        self.bytes.read(&mut out[..size])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_sealed_comes_out_in_any_pieces(
        messages in prop::collection::vec(0_usize..200_000, 1..6),
        came in prop::collection::vec(1_usize..100_000, 1..8),
        taken in 1_usize..100_000,
    ) {
        let ((mut sealer, _), (_, mut opener)) = ends(&secret());
        let text = bytes(messages.iter().sum());
        let (mut sealed, mut at) = (Vec::new(), 0);
        for len in messages {
            sealer.seal(&text[at..at + len], &mut sealed).unwrap();
            at += len;
        }
        let mut stream = Pieces { bytes: &sealed, sizes: came.iter().cycle() };
        let (mut out, mut piece) = (Vec::new(), vec![0; taken]);
        loop {
            match read(&mut opener, &mut stream, &mut piece).unwrap() {
                0 => break,
                len => out.extend_from_slice(&piece[..len]),
            }
        }
        prop_assert!(out == text);
    }

    #[test]
    fn garbage_opens_nothing(garbage in prop::collection::vec(any::<u8>(), 1..400)) {
        let (_, (_, mut opener)) = ends(&secret());
        let (out, ended) = open(&mut opener, &garbage);
        prop_assert!(out.is_empty() && ended.is_err());
    }
}

#[test]
fn both_directions_are_open_and_hold_what_they_carry_secret() {
    let ((mut sealer, mut opener), (mut their_sealer, mut their_opener)) = ends(&secret());
    let text = b"the quick brown fox".as_slice();
    let mut sealed = Vec::new();
    sealer.seal(text, &mut sealed).unwrap();
    assert!(!sealed.windows(5).any(|window| text.windows(5).any(|plain| plain == window)));
    assert_eq!(open(&mut their_opener, &sealed).0, text);
    let mut answer = Vec::new();
    their_sealer.seal(text, &mut answer).unwrap();
    assert_ne!(answer, sealed);
    assert_eq!(open(&mut opener, &answer).0, text);
}

#[test]
fn a_record_is_at_most_64_kib() {
    let ((mut sealer, _), _) = ends(&secret());
    let mut sealed = Vec::new();
    sealer.seal(&bytes(65_519), &mut sealed).unwrap();
    assert_eq!((sealed.len(), &sealed[..2]), (2 + 65_535, [0xff; 2].as_slice()));
    sealed.clear();
    sealer.seal(&bytes(65_520), &mut sealed).unwrap();
    assert_eq!(sealed.len(), 2 + 65_535 + 2 + 17);
}

#[test]
fn a_change_to_any_bit_is_noticed() {
    for at in 0..3 * 28 * 8 {
        let ((mut sealer, _), (_, mut opener)) = ends(&secret());
        let (records, text) = three(&mut sealer);
        let mut sealed = records.concat();
        sealed[at / 8] ^= 1 << (at % 8);
        let (out, ended) = open(&mut opener, &sealed);
        let before = at / 8 / 28;
        assert!(ended.is_err(), "bit {at}");
        assert_eq!(out, text[..before * 10], "bit {at}");
    }
}

#[test]
fn records_count_only_in_their_place() {
    let ((mut sealer, mut own_opener), (_, mut opener)) = ends(&secret());
    let ([first, second, third], text) = three(&mut sealer);
    let mut opens = |records: &[&[u8]]| open(&mut opener, &records.concat());
    // One after the other, until a record comes again.
    let (out, ended) = opens(&[&first, &second, &second, &third]);
    assert_eq!(out, text[..20]);
    assert!(is_forged(ended, 2));
    // A stream that has failed stays failed, whatever comes.
    let (out, ended) = opens(&[&third]);
    assert!(out.is_empty() && is_forged(ended, 2));
    // Nor are records taken back by the one who made them.
    let (out, ended) = open(&mut own_opener, &first);
    assert!(out.is_empty() && is_forged(ended, 0));
}

#[test]
fn records_that_are_left_out_swapped_or_of_another_stream_are_noticed() {
    let secret = secret();
    let ((mut sealer, _), _) = ends(&secret);
    let ([_, foreign, _], _) = three(&mut sealer);
    for case in ["left out", "swapped", "foreign"] {
        let ((mut sealer, _), (_, mut opener)) = ends(&secret);
        let ([first, second, third], text) = three(&mut sealer);
        let rest = match case {
            "left out" => third,
            "swapped" => [third, second].concat(),
            _ => foreign.clone(),
        };
        let (out, ended) = open(&mut opener, &[first, rest].concat());
        assert_eq!(out, text[..10], "{case}");
        assert!(is_forged(ended, 1), "{case}");
    }
}

#[test]
fn an_end_within_a_record_is_no_proper_end() {
    for end in 0..=3 * 28 {
        let ((mut sealer, _), (_, mut opener)) = ends(&secret());
        let (records, text) = three(&mut sealer);
        let (out, ended) = open(&mut opener, &records.concat()[..end]);
        assert_eq!(out, text[..end / 28 * 10]);
        match ended {
            Ok(()) => assert_eq!(end % 28, 0),
            Err(error) => {
                assert_ne!(end % 28, 0);
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                assert_eq!(error.to_string(), "the stream ended within a record");
            }
        }
    }
}

#[test]
fn a_record_too_short_to_prove_itself_is_refused() {
    for len in 0..=16_u8 {
        let (_, (_, mut opener)) = ends(&secret());
        let (_, ended) = open(&mut opener, &[&[len, 0], [7; 16].as_slice()].concat());
        let message = format!("a record of {len} bytes: from 17 to 65535 are allowed");
        assert_eq!(ended.unwrap_err().to_string(), message);
    }
}
