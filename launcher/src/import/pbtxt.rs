//! Protobuf's text format without a schema, as far as config.pbtxt files need it.
//!
//! The grammar is that of protobuf's text format specification: messages in `{}` or `<>`, lists,
//! adjacent strings, comments, `,` and `;` after fields. Names of extensions are refused. One thing is
//! added: a template's placeholder, `${name}`, may stand for a value.

mod lex;

use lex::{Lexer, Token};

/// Messages within messages.
const DEEPEST: usize = 64;

/// Fields in the order of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Message(pub(crate) Vec<Field>);

/// A field with its name and place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) at: Place,
    pub(crate) value: Value,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Scalar(Scalar),
    Message(Message),
    /// Scalars or messages, not lists.
    List(Vec<Value>),
}

/// A value without parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    /// A string, escapes undone.
    Text(String),
    /// A number as written, its sign with it.
    Number(String),
    /// A name: a truth value, or one of an enum.
    Word(String),
    /// A template's placeholder that was not filled in, by its name.
    Placeholder(String),
}

/// Line and column in characters, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Why a text is not in the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {what}", at.line, at.column)]
pub(crate) struct SyntaxError {
    pub(crate) at: Place,
    pub(crate) what: String,
}

impl Message {
    /// Reads a whole text.
    ///
    /// # Errors
    /// [`SyntaxError`] at the first place where the text leaves the format.
    pub(crate) fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut parser = Parser { lexer: Lexer::new(text), depth: 0 };
        parser.message(None)
    }

    /// All values of a field, those in lists one by one.
    pub(crate) fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |field| field.name == name).flat_map(|field| field.value.each())
    }

    /// The messages of a field.
    pub(crate) fn messages<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Message> {
        self.values(name).filter_map(|value| match value {
            Value::Message(message) => Some(message),
            Value::Scalar(_) | Value::List(_) => None,
        })
    }

    /// The last text of a field: a string, or a word.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let texts = self.values(name).filter_map(|value| match value {
            Value::Scalar(Scalar::Text(text) | Scalar::Word(text)) => Some(text.as_str()),
            _ => None,
        });
        texts.last()
    }
}

impl Value {
    /// The value, or those of the list.
    pub(crate) fn each(&self) -> &[Value] {
        match self {
            Value::List(values) => values,
            value => std::slice::from_ref(value),
        }
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    depth: usize,
}

impl Parser<'_> {
    /// Fields up to `close`, or to the end of the text.
    fn message(&mut self, close: Option<u8>) -> Result<Message, SyntaxError> {
        let mut fields = Vec::new();
        loop {
            let at = self.lexer.at();
            match self.lexer.next()? {
                Token::End if close.is_none() => return Ok(Message(fields)),
                Token::Sign(sign) if Some(sign) == close => return Ok(Message(fields)),
                Token::Word(name) => {
                    let value = self.value_of(&name)?;
                    fields.push(Field { name, at, value });
                    if let Token::Sign(b',' | b';') = self.lexer.peek()? {
                        self.lexer.next()?;
                    }
                }
                Token::Sign(b'[') => {
                    return Err(SyntaxError { at, what: "extensions are not known here".into() });
                }
                found => {
                    let close = close.map(|sign| format!(", or '{}'", char::from(sign)));
                    let what = format!(
                        "expected a field's name{}, found {found}",
                        close.unwrap_or_default()
                    );
                    return Err(SyntaxError { at, what });
                }
            }
        }
    }

    fn value_of(&mut self, name: &str) -> Result<Value, SyntaxError> {
        let colon = self.lexer.peek()? == &Token::Sign(b':');
        if colon {
            self.lexer.next()?;
        }
        let at = self.lexer.at();
        let value = match self.lexer.peek()? {
            Token::Sign(b'[') => self.list()?,
            _ => self.single()?,
        };
        let is_scalar = match &value {
            Value::Scalar(_) => true,
            Value::List(values) => matches!(values.first(), Some(Value::Scalar(_))),
            Value::Message(_) => false,
        };
        match is_scalar && !colon {
            true => Err(SyntaxError { at, what: format!("expected ':' after {name}") }),
            false => Ok(value),
        }
    }

    fn list(&mut self) -> Result<Value, SyntaxError> {
        self.lexer.next()?;
        let mut values = Vec::new();
        if self.lexer.peek()? == &Token::Sign(b']') {
            self.lexer.next()?;
            return Ok(Value::List(values));
        }
        loop {
            let at = self.lexer.at();
            let value = self.single()?;
            let is_message = |value: &Value| matches!(value, Value::Message(_));
            if values.first().is_some_and(|first| is_message(first) != is_message(&value)) {
                let what = "a list has messages or values, not both".to_owned();
                return Err(SyntaxError { at, what });
            }
            values.push(value);
            let at = self.lexer.at();
            match self.lexer.next()? {
                Token::Sign(b',') => {}
                Token::Sign(b']') => return Ok(Value::List(values)),
                found => {
                    let what = format!("expected ',' or ']', found {found}");
                    return Err(SyntaxError { at, what });
                }
            }
        }
    }

    fn single(&mut self) -> Result<Value, SyntaxError> {
        let at = self.lexer.at();
        let scalar = match self.lexer.next()? {
            Token::Sign(open @ (b'{' | b'<')) => {
                if self.depth == DEEPEST {
                    let what = format!("messages are nested more than {DEEPEST} deep");
                    return Err(SyntaxError { at, what });
                }
                self.depth += 1;
                let message = self.message(Some(if open == b'{' { b'}' } else { b'>' }))?;
                self.depth -= 1;
                return Ok(Value::Message(message));
            }
            Token::Text(mut text) => {
                while let Token::Text(_) = self.lexer.peek()? {
                    if let Token::Text(more) = self.lexer.next()? {
                        text.push_str(&more);
                    }
                }
                Scalar::Text(text)
            }
            Token::Number(number) => Scalar::Number(number),
            Token::Sign(b'-') => {
                let at = self.lexer.at();
                match self.lexer.next()? {
                    Token::Number(number) => Scalar::Number(format!("-{number}")),
                    Token::Word(word) if is_float_word(&word) => Scalar::Word(format!("-{word}")),
                    found => {
                        let what = format!("expected a number after '-', found {found}");
                        return Err(SyntaxError { at, what });
                    }
                }
            }
            Token::Word(word) => Scalar::Word(word),
            Token::Placeholder(name) => Scalar::Placeholder(name),
            found => {
                return Err(SyntaxError { at, what: format!("expected a value, found {found}") });
            }
        };
        Ok(Value::Scalar(scalar))
    }
}

fn is_float_word(word: &str) -> bool {
    ["inf", "infinity", "nan"].iter().any(|it| word.eq_ignore_ascii_case(it))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
