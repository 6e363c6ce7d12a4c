//! A JSON object, written as it is built. Rows of logits may be hundreds of megabytes: they become
//! text while the body is sent, a piece at a time.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;

/// Numbers that become text at once.
const NUMBERS_A_CHUNK: usize = 16 << 10;
/// Room for a response with a token or two, so that its memory is made once.
const USUAL_BYTES: usize = 256;

/// A JSON object that is not at its end.
pub(super) struct Object {
    parts: VecDeque<Part>,
    text: Vec<u8>,
}

/// A JSON object.
#[derive(Default)]
pub(in crate::generate) struct Body {
    parts: VecDeque<Part>,
}

enum Part {
    Text(Vec<u8>),
    /// Numbers with commas between them.
    Rows(Rows),
}

struct Rows {
    rows: VecDeque<Vec<f32>>,
    /// Numbers of the first row that are text already.
    done: usize,
    /// Whether a number was written.
    begun: bool,
}

impl Object {
    pub(super) fn new() -> Self {
        let mut text = Vec::with_capacity(USUAL_BYTES);
        text.push(b'{');
        Self { parts: VecDeque::new(), text }
    }

    /// Adds a member; `name` is a name that needs no escapes.
    pub(super) fn member(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.name(name);
        write(&mut self.text, value);
    }

    /// Adds a tensor's elements: a list, or a scalar if there is one.
    pub(super) fn list<T: Serialize>(&mut self, name: &str, elements: &[T]) {
        match elements {
            [one] => self.member(name, one),
            elements => self.member(name, elements),
        }
    }

    /// Adds rows of numbers as one list.
    pub(super) fn rows(&mut self, name: &str, rows: Vec<Vec<f32>>) {
        self.name(name);
        self.text.push(b'[');
        self.parts.push_back(Part::Text(std::mem::take(&mut self.text)));
        self.parts.push_back(Part::Rows(Rows { rows: rows.into(), done: 0, begun: false }));
        self.text.push(b']');
    }

    pub(super) fn end(mut self) -> Body {
        self.text.push(b'}');
        self.parts.push_back(Part::Text(self.text));
        Body { parts: self.parts }
    }

    fn name(&mut self, name: &str) {
        if self.text != b"{" {
            self.text.push(b',');
        }
        write(&mut self.text, name);
        self.text.push(b':');
    }
}

impl Body {
    /// As an event: a line of data, and an empty line.
    pub(in crate::generate) fn into_event(mut self) -> Self {
        // An object begins and ends with text.
        if let Some(Part::Text(first)) = self.parts.front_mut() {
            first.splice(..0, *b"data: ");
        }
        if let Some(Part::Text(last)) = self.parts.back_mut() {
            last.extend(b"\n\n");
        }
        self
    }

    /// The body of a response.
    pub(in crate::generate) fn into_http(mut self) -> axum::body::Body {
        match self.parts.make_contiguous() {
            [Part::Text(text)] => std::mem::take(text).into(),
            _ => axum::body::Body::from_stream(self.into_stream()),
        }
    }

    pub(in crate::generate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::iter(self).map(Ok)
    }
}

/// Its bytes, in pieces.
impl Iterator for Body {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut bytes = Vec::new();
        while bytes.is_empty() {
            match self.parts.front_mut()? {
                Part::Text(text) => {
                    bytes = std::mem::take(text);
                    self.parts.pop_front();
                }
                Part::Rows(rows) => {
                    if !rows.write_some(&mut bytes) {
                        self.parts.pop_front();
                    }
                }
            }
        }
        Some(bytes.into())
    }
}

impl Rows {
    /// Writes the next numbers. Says whether more follow.
    fn write_some(&mut self, bytes: &mut Vec<u8>) -> bool {
        let Some(row) = self.rows.front() else { return false };
        let end = row.len().min(self.done + NUMBERS_A_CHUNK);
        for number in &row[self.done..end] {
            if self.begun {
                bytes.push(b',');
            }
            self.begun = true;
            write(bytes, number);
        }
        self.done = end;
        if end == row.len() {
            self.rows.pop_front();
            self.done = 0;
        }
        !self.rows.is_empty()
    }
}

fn write(text: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(text, value).expect("texts and numbers can be written into memory");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn text(body: Body) -> String {
        body.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect()
    }

    #[test]
    fn members_lists_and_scalars() {
        let mut object = Object::new();
        object.member("a", "\"\n");
        object.list("b", &[1, 2]);
        object.list("c", &[3]);
        object.list("d", &[0_u8; 0]);
        object.list("e", &[0.1_f32, -1.0, 1e-30]);
        object.rows("f", vec![vec![0.25, f32::NEG_INFINITY], vec![], vec![-3.5]]);
        object.rows("g", vec![]);
        object.member("h", &true);
        let expected = r#"{"a":"\"\n","b":[1,2],"c":3,"d":[],"e":[0.1,-1.0,1e-30],"f":[0.25,null,-3.5],"g":[],"h":true}"#;
        assert_eq!(text(object.end()), expected);
        assert_eq!(text(Object::new().end()), "{}");
    }

    #[test]
    fn a_first_member_of_rows_needs_no_comma() {
        let mut object = Object::new();
        object.rows("a", vec![vec![1.0]]);
        object.member("b", &1);
        assert_eq!(text(object.end()), r#"{"a":[1.0],"b":1}"#);
    }

    #[test]
    fn many_rows_come_in_pieces() {
        let row: Vec<f32> = (0..NUMBERS_A_CHUNK + 5).map(|n| n as f32 / 8.0).collect();
        let mut object = Object::new();
        object.rows("a", vec![row.clone(), row.clone()]);
        let pieces: Vec<Bytes> = object.end().collect();
        assert_eq!(pieces.len(), 6);
        let value: Value = serde_json::from_slice(&pieces.concat()).unwrap();
        assert_eq!(value, json!({"a": ([row.clone(), row].concat())}));
    }

    #[test]
    fn an_event_is_one_line() {
        let mut object = Object::new();
        object.member("a", "x\ny");
        assert_eq!(text(object.end().into_event()), "data: {\"a\":\"x\\ny\"}\n\n");
    }
}
