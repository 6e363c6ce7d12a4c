//! The letters in which byte-level BPE writes bytes: printable Latin-1 stands for itself, and the
//! other 68 bytes are the letters from U+0100 on (Radford et al., 2019; `bytes_to_unicode` in
//! GPT-2's encoder.py).

/// The letter of each byte.
pub(crate) const CHARS: [char; 256] = chars();

/// The byte of each letter up to the last one in use.
const BYTES: [Option<u8>; 0x144] = bytes();

/// The byte that a letter stands for.
pub(crate) fn byte(letter: char) -> Option<u8> {
    BYTES.get(letter as usize).copied().flatten()
}

const fn chars() -> [char; 256] {
    let mut chars = ['\0'; 256];
    let mut byte = 0;
    let mut next = 0x100;
    while byte < 256 {
        chars[byte] = match byte as u8 {
            printable @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => printable as char,
            _ => {
                next += 1;
                char::from_u32(next - 1).expect("letters below U+0200")
            }
        };
        byte += 1;
    }
    chars
}

const fn bytes() -> [Option<u8>; 0x144] {
    let mut bytes = [None; 0x144];
    let mut byte = 0;
    while byte < 256 {
        bytes[CHARS[byte] as usize] = Some(byte as u8);
        byte += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_letters_are_one_to_one() {
        for value in 0..=255_u8 {
            assert_eq!(byte(CHARS[usize::from(value)]), Some(value));
        }
        assert_eq!(BYTES.iter().flatten().count(), 256);
        assert_eq!(byte('\u{144}'), None);
        assert_eq!(byte(' '), None);
    }

    #[test]
    fn letters_are_those_of_gpt2() {
        for (value, letter) in [(b' ', 'Ġ'), (b'\n', 'Ċ'), (b'\t', 'ĉ'), (b'a', 'a'), (0xad, 'Ń')]
        {
            assert_eq!(CHARS[usize::from(value)], letter);
        }
    }
}
