//! Text to tokens.

use std::fmt;

use super::{Place, SyntaxError};

/// What the text format is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word(String),
    Number(String),
    Text(String),
    /// `${name}`.
    Placeholder(String),
    /// A sign of ASCII.
    Sign(u8),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(word) => write!(f, "the name {word}"),
            Token::Number(number) => write!(f, "the number {number}"),
            Token::Text(_) => write!(f, "a string"),
            Token::Placeholder(name) => write!(f, "the placeholder ${{{name}}}"),
            Token::Sign(sign) => write!(f, "'{}'", char::from(*sign)),
            Token::End => write!(f, "the end of the file"),
        }
    }
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Where the next token begins, blanks and comments passed.
    start: usize,
    /// Where it begins, as told.
    place: Place,
    /// The next token with its end, if it was looked at.
    ahead: Option<(Token, usize)>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let place = Place { line: 1, column: 1 };
        let mut lexer = Self { text, start: 0, place, ahead: None };
        lexer.skip_blanks();
        lexer
    }

    /// Where the next token begins.
    pub(super) fn at(&self) -> Place {
        self.place
    }

    pub(super) fn peek(&mut self) -> Result<&Token, SyntaxError> {
        if self.ahead.is_none() {
            self.ahead = Some(self.scan()?);
        }
        Ok(&self.ahead.as_ref().expect("it was just looked at").0)
    }

    pub(super) fn next(&mut self) -> Result<Token, SyntaxError> {
        let (token, end) = match self.ahead.take() {
            Some(ahead) => ahead,
            None => self.scan()?,
        };
        self.go_to(end);
        self.skip_blanks();
        Ok(token)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.start..]
    }

    fn go_to(&mut self, end: usize) {
        self.place = self.place_of(end);
        self.start = end;
    }

    /// The place of an offset from the next token on.
    fn place_of(&self, offset: usize) -> Place {
        let passed = &self.text[self.start..offset];
        match passed.rfind('\n') {
            None => Place { column: self.place.column + passed.chars().count(), ..self.place },
            Some(newline) => Place {
                line: self.place.line + passed.matches('\n').count(),
                column: passed[newline + 1..].chars().count() + 1,
            },
        }
    }

    fn skip_blanks(&mut self) {
        let bytes = self.text.as_bytes();
        let mut end = self.start;
        while let Some(&byte) = bytes.get(end) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => end += 1,
                b'#' => end += self.text[end..].find('\n').unwrap_or(bytes.len() - end),
                _ => break,
            }
        }
        self.go_to(end);
    }

    /// The next token and its end.
    fn scan(&self) -> Result<(Token, usize), SyntaxError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok((Token::End, self.start)) };
        let digit_follows = rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        match first {
            'A'..='Z' | 'a'..='z' | '_' => {
                let word = &rest[..run(rest, is_word)];
                Ok((Token::Word(word.to_owned()), self.start + word.len()))
            }
            '0'..='9' => self.number(),
            '.' if digit_follows => self.number(),
            '"' | '\'' => self.string(first),
            '$' => self.placeholder(),
            '{' | '}' | '<' | '>' | '[' | ']' | ':' | ',' | ';' | '-' => {
                Ok((Token::Sign(first as u8), self.start + 1))
            }
            other => Err(self.error(self.start, format!("{other:?} is no part of the format"))),
        }
    }

    /// Integers in decimal, octal and hexadecimal; floats, also with `f` behind them.
    fn number(&self) -> Result<(Token, usize), SyntaxError> {
        let rest = self.rest();
        let mut end = run(rest, |c| is_word(c) || c == '.');
        // The sign of an exponent is the one sign within a number.
        let is_exponent = |text: &str| text.ends_with(['e', 'E']) && !text.starts_with("0x");
        if is_exponent(&rest[..end]) && rest[end..].starts_with(['+', '-']) {
            end += 1 + run(&rest[end + 1..], is_word);
        }
        let number = &rest[..end];
        match is_number(number) {
            true => Ok((Token::Number(number.to_owned()), self.start + end)),
            false => Err(self.error(self.start, format!("{number} is no number"))),
        }
    }

    fn placeholder(&self) -> Result<(Token, usize), SyntaxError> {
        let wrong = || self.error(self.start, "expected a placeholder, as in ${name}".to_owned());
        let name = self.rest().strip_prefix("${").ok_or_else(wrong)?;
        let name = &name[..run(name, is_word)];
        let end = self.start + 2 + name.len();
        match !name.is_empty() && self.text[end..].starts_with('}') {
            true => Ok((Token::Placeholder(name.to_owned()), end + 1)),
            false => Err(wrong()),
        }
    }

    fn string(&self, quote: char) -> Result<(Token, usize), SyntaxError> {
        let mut bytes = Vec::new();
        let mut at = self.start + 1;
        loop {
            let Some(next) = self.text[at..].chars().next() else {
                return Err(self.error(self.start, "the string has no end".to_owned()));
            };
            match next {
                '\n' => return Err(self.error(at, "a string ends on its line".to_owned())),
                '\\' => at = self.escape(at, &mut bytes)?,
                _ if next == quote => break,
                _ => {
                    bytes.extend(next.encode_utf8(&mut [0; 4]).as_bytes());
                    at += next.len_utf8();
                }
            }
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| self.error(self.start, "the string is not UTF-8".to_owned()))?;
        Ok((Token::Text(text), at + 1))
    }

    /// Undoes the escape at `at`, and gives its end.
    fn escape(&self, at: usize, bytes: &mut Vec<u8>) -> Result<usize, SyntaxError> {
        let wrong = || self.error(at, "an unknown escape".to_owned());
        let after = &self.text[at + 1..];
        let sign = after.chars().next().ok_or_else(wrong)?;
        let plain = |byte| (vec![byte], 1);
        let (value, len) = match sign {
            'a' => plain(0x07),
            'b' => plain(0x08),
            'f' => plain(0x0c),
            'n' => plain(b'\n'),
            'r' => plain(b'\r'),
            't' => plain(b'\t'),
            'v' => plain(0x0b),
            '?' | '\\' | '\'' | '"' => plain(sign as u8),
            '0'..='7' => {
                let digits = &after[..run(after, |c| c.is_digit(8)).min(3)];
                let value = u32::from_str_radix(digits, 8).map_err(|_| wrong())?;
                (vec![u8::try_from(value).map_err(|_| wrong())?], digits.len())
            }
            'x' | 'X' => {
                let digits = &after[1..];
                let digits = &digits[..run(digits, |c| c.is_ascii_hexdigit()).min(2)];
                let value = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
                (vec![value], 1 + digits.len())
            }
            'u' | 'U' => {
                let count = if sign == 'u' { 4 } else { 8 };
                let digits = after.get(1..1 + count).ok_or_else(wrong)?;
                let all_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let value = u32::from_str_radix(digits, 16).ok().filter(|_| all_digits);
                let value = value.and_then(char::from_u32).ok_or_else(wrong)?;
                (value.to_string().into_bytes(), 1 + count)
            }
            _ => return Err(wrong()),
        };
        bytes.extend(value);
        Ok(at + 1 + len)
    }

    fn error(&self, offset: usize, what: String) -> SyntaxError {
        SyntaxError { at: self.place_of(offset), what }
    }
}

/// Bytes of `text` that begin it and are all of `kind`.
fn run(text: &str, kind: impl Fn(char) -> bool) -> usize {
    text.find(|c| !kind(c)).unwrap_or(text.len())
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_number(text: &str) -> bool {
    let all = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return all(hex, 16);
    }
    if all(text, 10) {
        return text.len() == 1 || !text.starts_with('0') || all(text, 8);
    }
    // What is left is a float; Rust reads all that protobuf does but the sign behind.
    let float = text.strip_suffix(['f', 'F']).unwrap_or(text);
    float.starts_with(|c: char| c.is_ascii_digit() || c == '.') && float.parse::<f64>().is_ok()
}
