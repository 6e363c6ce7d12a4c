//! The text of a grammar to its tree, by recursive descent.

use std::collections::HashMap;

use super::{Ebnf, Expression, GuideError, MAX_NESTING, MAX_REPEATS};

pub(super) fn read(text: &str) -> Result<Ebnf, GuideError> {
    let mut reader =
        Reader { rest: text, line: 1, nesting: 0, names: HashMap::new(), rules: vec![] };
    reader.skip_space();
    while !reader.rest.is_empty() {
        reader.rule()?;
    }
    for rule in &reader.rules {
        if rule.body.is_none() {
            return Err(problem(rule.line, format!("there is no rule {}", rule.name)));
        }
    }
    let Some(&root) = reader.names.get("root") else {
        return Err(problem(
            reader.line,
            "there is no rule root, where the text begins".to_owned(),
        ));
    };
    Ok(Ebnf { root, rules: reader.rules.into_iter().filter_map(|rule| rule.body).collect() })
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    nesting: usize,
    names: HashMap<&'a str, usize>,
    rules: Vec<Rule<'a>>,
}

/// A rule that was named so far, and perhaps defined.
struct Rule<'a> {
    name: &'a str,
    /// Where it was first named.
    line: usize,
    body: Option<Expression>,
}

fn problem(line: usize, problem: String) -> GuideError {
    GuideError::Grammar { line, problem }
}

impl<'a> Reader<'a> {
    fn rule(&mut self) -> Result<(), GuideError> {
        let line = self.line;
        let Some(name) = self.name() else {
            return Err(self.unexpected("a rule's name"));
        };
        self.skip_space();
        if !self.skip("::=") {
            return Err(self.unexpected(&format!("::= after {name}")));
        }
        self.skip_space();
        let index = self.index(name, line);
        let body = self.choice()?;
        if !self.rest.is_empty() && !self.at_rule() {
            return Err(self.unexpected("an expression or the next rule"));
        }
        match self.rules[index].body.replace(body) {
            Some(_) => Err(problem(line, format!("the rule {name} is defined twice"))),
            None => Ok(()),
        }
    }

    fn choice(&mut self) -> Result<Expression, GuideError> {
        let mut alternatives = vec![self.sequence()?];
        while self.skip("|") {
            self.skip_space();
            alternatives.push(self.sequence()?);
        }
        Ok(single(alternatives, Expression::Choice))
    }

    fn sequence(&mut self) -> Result<Expression, GuideError> {
        let mut items = vec![];
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) && !self.at_rule() {
            let item = self.item()?;
            self.skip_space();
            items.push(self.repeated(item)?);
        }
        Ok(single(items, Expression::Sequence))
    }

    fn item(&mut self) -> Result<Expression, GuideError> {
        match self.rest.chars().next() {
            Some('"') => self.literal(),
            Some('[') => self.class(),
            Some('(') => self.group(),
            Some('.') => {
                self.advance(1);
                Ok(Expression::Any)
            }
            _ => {
                let line = self.line;
                match self.name() {
                    Some(name) => Ok(Expression::Rule(self.index(name, line))),
                    None => Err(self.unexpected("a string, a class, a group or a rule's name")),
                }
            }
        }
    }

    fn group(&mut self) -> Result<Expression, GuideError> {
        let line = self.line;
        self.advance(1);
        self.skip_space();
        if self.rest.starts_with('=') {
            return Err(problem(line, "look-ahead (= ...) is not supported".to_owned()));
        }
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            let most = format!("groups are nested deeper than {MAX_NESTING}");
            return Err(problem(line, most));
        }
        let inner = self.choice()?;
        self.nesting -= 1;
        if !self.skip(")") {
            return Err(self.unexpected(&format!("the ) of the group of line {line}")));
        }
        Ok(inner)
    }

    /// What follows an item: how often it comes.
    fn repeated(&mut self, item: Expression) -> Result<Expression, GuideError> {
        let line = self.line;
        let (least, most) = match self.rest.chars().next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => self.bounds()?,
            _ => return Ok(item),
        };
        // Of bounds, this is their closing brace.
        self.advance(1);
        self.skip_space();
        if self.rest.starts_with(['*', '+', '?', '{']) {
            let twice = "a repetition follows a repetition; put the first in ( )";
            return Err(problem(self.line, twice.to_owned()));
        }
        if most.is_some_and(|most| most < least) {
            return Err(problem(
                line,
                format!("{{{least},...}} asks for fewer at most than at least"),
            ));
        }
        Ok(match most {
            Some(0) => Expression::Sequence(vec![]),
            _ => Expression::Repeat(Box::new(item), least, most),
        })
    }

    /// `{m}`, `{m,}` and `{m,n}`, up to the closing brace.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), GuideError> {
        self.advance(1);
        self.skip_space();
        let least = self.number()?;
        self.skip_space();
        let mut most = Some(least);
        if self.skip(",") {
            self.skip_space();
            most = if self.rest.starts_with('}') { None } else { Some(self.number()?) };
            self.skip_space();
        }
        if !self.rest.starts_with('}') {
            return Err(self.unexpected("the } of a repetition"));
        }
        Ok((least, most))
    }

    fn number(&mut self) -> Result<u32, GuideError> {
        let digits = self.take_while(|c| c.is_ascii_digit());
        match digits.parse::<u32>() {
            Ok(number) if number <= MAX_REPEATS => Ok(number),
            _ if digits.is_empty() => Err(self.unexpected("a number of repetitions")),
            _ => Err(problem(
                self.line,
                format!("a repetition of {digits}, expected at most {MAX_REPEATS}"),
            )),
        }
    }

    fn literal(&mut self) -> Result<Expression, GuideError> {
        let line = self.line;
        self.advance(1);
        let mut text = String::new();
        loop {
            match self.rest.chars().next() {
                Some('"') => break self.advance(1),
                Some('\n') | None => {
                    return Err(problem(line, "a string without its closing \"".to_owned()));
                }
                Some(_) => text.push(self.character()?),
            }
        }
        Ok(Expression::Literal(text))
    }

    fn class(&mut self) -> Result<Expression, GuideError> {
        let line = self.line;
        self.advance(1);
        let negated = self.skip("^");
        let mut ranges = vec![];
        loop {
            match self.rest.chars().next() {
                Some(']') => break self.advance(1),
                Some('\n') | None => {
                    return Err(problem(line, "a class without its closing ]".to_owned()));
                }
                Some(_) => {}
            }
            let first = self.character()?;
            let mut last = first;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.advance(1);
                if self.rest.is_empty() || self.rest.starts_with('\n') {
                    continue;
                }
                last = self.character()?;
            }
            if last < first {
                return Err(problem(line, format!("the range {first:?} to {last:?} is backwards")));
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() {
            return Err(problem(line, "a class without characters".to_owned()));
        }
        Ok(Expression::Class { negated, ranges })
    }

    /// One character of a string or a class, which may be escaped. There is one.
    fn character(&mut self) -> Result<char, GuideError> {
        let mut chars = self.rest.chars();
        let first = chars.next().unwrap_or_default();
        if first != '\\' {
            self.advance(first.len_utf8());
            return Ok(first);
        }
        let letter = chars.next().unwrap_or('\n');
        let digits = match letter {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let code = chars.as_str().get(..digits);
            let value = code
                .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|code| u32::from_str_radix(code, 16).ok())
                .and_then(char::from_u32);
            let Some(value) = value else {
                let wrong = format!("\\{letter} needs {digits} hexadecimal digits of a character");
                return Err(problem(self.line, wrong));
            };
            self.advance(2 + digits);
            return Ok(value);
        }
        let value = match letter {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            'e' => '\x1b',
            '"' | '\'' | '\\' | '/' | '[' | ']' | '-' | '^' | '?' => letter,
            '\n' => return Err(problem(self.line, "a \\ at the end of the line".to_owned())),
            other => return Err(problem(self.line, format!("unknown escape \\{other}"))),
        };
        self.advance(2);
        Ok(value)
    }

    /// The rule of this name, which may be defined later.
    fn index(&mut self, name: &'a str, line: usize) -> usize {
        *self.names.entry(name).or_insert_with(|| {
            self.rules.push(Rule { name, line, body: None });
            self.rules.len() - 1
        })
    }

    fn name(&mut self) -> Option<&'a str> {
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        (!name.is_empty()).then_some(name)
    }

    /// Whether the next rule begins here.
    fn at_rule(&self) -> bool {
        let mut ahead = Self { names: HashMap::new(), rules: vec![], ..*self };
        ahead.name().is_some() && {
            ahead.skip_space();
            ahead.skip("::=")
        }
    }

    /// Skips white space and comments.
    fn skip_space(&mut self) {
        loop {
            let space = self.take_while(char::is_whitespace);
            self.line += space.matches('\n').count();
            if !self.rest.starts_with('#') {
                break;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn skip(&mut self, token: &str) -> bool {
        let found = self.rest.starts_with(token);
        if found {
            self.advance(token.len());
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest;
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.advance(end);
        &rest[..end]
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn unexpected(&self, expected: &str) -> GuideError {
        let found = match self.rest.chars().next() {
            Some(letter) => format!("{letter:?}"),
            None => "the end".to_owned(),
        };
        problem(self.line, format!("expected {expected}, found {found}"))
    }
}

/// The only one of `parts`, or all of them.
fn single(mut parts: Vec<Expression>, all: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            all(parts)
        }
        None => all(parts),
    }
}
