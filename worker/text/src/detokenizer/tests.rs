use proptest::prelude::*;

use super::*;
use crate::testing::{END, small, tokenizer};

fn byte(byte: u8) -> u32 {
    3 + u32::from(byte)
}

fn stream(skip_special: bool) -> Detokenizer {
    Arc::new(tokenizer(&small()).unwrap()).detokenizer(skip_special)
}

#[test]
fn characters_wait_for_their_last_byte() {
    let mut stream = stream(true);
    assert_eq!(stream.push(byte(b'a')), "a");
    for half in &"😀".as_bytes()[..3] {
        assert_eq!(stream.push(byte(*half)), "");
    }
    assert_eq!(stream.push(byte(0x80)), "😀");
    assert_eq!(stream.finish(), "");
}

#[test]
fn broken_characters_are_replaced_at_once() {
    let mut stream = stream(true);
    assert_eq!(stream.push(byte(0xff)), "\u{fffd}");
    assert_eq!(stream.push(byte(0xe2)), "");
    assert_eq!(stream.push(byte(0x82)), "");
    assert_eq!(stream.push(byte(b'a')), "\u{fffd}a");
    assert_eq!(stream.push(byte(0xe2)), "");
    assert_eq!(stream.push(byte(0xe2)), "\u{fffd}");
    assert_eq!(stream.push(u32::MAX), "");
    assert_eq!(stream.finish(), "\u{fffd}");
}

#[test]
fn special_tokens_are_skipped_or_shown() {
    assert_eq!(stream(true).push(END), "");
    assert_eq!(stream(false).push(END), "<end>");
}

proptest! {
    #[test]
    fn the_parts_make_the_whole(
        // Beginnings and middles of characters, text, specials and ids beyond the vocabulary.
        ids in prop::collection::vec(
            prop_oneof![0..270_u32, (0x80..=0xff_u8).prop_map(byte), any::<u32>()],
            0..40,
        ),
        skip_special: bool,
    ) {
        let tokenizer = Arc::new(tokenizer(&small()).unwrap());
        let mut stream = tokenizer.detokenizer(skip_special);
        let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
        prop_assert!(stream.pending.len() <= 3);
        text.push_str(&stream.finish());
        prop_assert_eq!(text, tokenizer.decode(&ids, skip_special));
    }
}
