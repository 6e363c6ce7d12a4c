//! Writes a grammar as Lark.
//!
//! llguidance runs a lexer below its parser: terminals are regular expressions, matched as far as
//! they go, and only rules may be recursive. So what is regular becomes one terminal, as large as
//! can be: a rule that leads to no recursion, or neighbours in a sequence. A grammar without
//! recursion is one terminal, and allows exactly its language. In one with recursion, text is not
//! allowed if it would need a terminal to end before it must: `item` followed by "x" where `item`
//! may end in `[a-z]+`. What is allowed belongs to the language in any case.

use super::{Ebnf, Expression};

pub(super) fn write(grammar: &Ebnf) -> String {
    let mut writer = Writer { regular: regular_rules(grammar), terminals: vec![] };
    let mut text = String::new();
    for (index, body) in grammar.rules.iter().enumerate() {
        let name = writer.name(index);
        let body = match writer.regular[index] {
            true => writer.terminal(body),
            false => writer.rule(body),
        };
        text += &format!("{name}: {body}\n");
    }
    for (index, body) in writer.terminals.iter().enumerate() {
        text += &format!("T{index}: {body}\n");
    }
    format!("start: {}\n{text}", writer.name(grammar.root))
}

/// Which rules lead to no recursion: those that use none, or only such.
fn regular_rules(grammar: &Ebnf) -> Vec<bool> {
    let mut users = vec![vec![]; grammar.rules.len()];
    let mut unsettled = vec![0_usize; grammar.rules.len()];
    for (user, body) in grammar.rules.iter().enumerate() {
        uses(body, &mut |used| {
            users[used].push(user);
            unsettled[user] += 1;
        });
    }
    let mut regular = vec![false; grammar.rules.len()];
    let mut settled: Vec<usize> =
        (0..unsettled.len()).filter(|&rule| unsettled[rule] == 0).collect();
    while let Some(rule) = settled.pop() {
        regular[rule] = true;
        for &user in &users[rule] {
            unsettled[user] -= 1;
            if unsettled[user] == 0 {
                settled.push(user);
            }
        }
    }
    regular
}

/// Calls `used` with each rule that `expression` uses, as often as it does.
fn uses(expression: &Expression, used: &mut impl FnMut(usize)) {
    match expression {
        Expression::Literal(_) | Expression::Class { .. } | Expression::Any => {}
        Expression::Rule(rule) => used(*rule),
        Expression::Sequence(parts) | Expression::Choice(parts) => {
            parts.iter().for_each(|part| uses(part, used));
        }
        Expression::Repeat(part, ..) => uses(part, used),
    }
}

struct Writer {
    /// Which rules are terminals.
    regular: Vec<bool>,
    /// Terminals made of parts of rules.
    terminals: Vec<String>,
}

impl Writer {
    fn name(&self, rule: usize) -> String {
        format!("{}{rule}", if self.regular[rule] { 'R' } else { 'r' })
    }

    fn is_regular(&self, expression: &Expression) -> bool {
        let mut regular = true;
        uses(expression, &mut |rule| regular &= self.regular[rule]);
        regular
    }

    /// A part of a rule.
    fn rule(&mut self, expression: &Expression) -> String {
        match expression {
            regular if self.is_regular(regular) => self.lifted(std::slice::from_ref(regular)),
            Expression::Rule(rule) => self.name(*rule),
            Expression::Choice(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.rule(part)).collect();
                parts.join(" | ")
            }
            Expression::Sequence(parts) => {
                let mut text = String::new();
                let mut rest = parts.as_slice();
                while let Some(first) = rest.first() {
                    let run = rest.iter().take_while(|part| self.is_regular(part)).count();
                    let part = match run {
                        0 => grouped(first, self.rule(first)),
                        _ => self.lifted(&rest[..run]),
                    };
                    text += &part;
                    text.push(' ');
                    rest = &rest[run.max(1)..];
                }
                text
            }
            Expression::Repeat(part, least, most) => {
                repeated(part, self.rule(part)) + &bounds(*least, *most)
            }
            Expression::Literal(_) | Expression::Class { .. } | Expression::Any => {
                unreachable!("regular")
            }
        }
    }

    /// A terminal of these parts, one after the other.
    fn lifted(&mut self, parts: &[Expression]) -> String {
        if let [Expression::Rule(rule)] = parts {
            return self.name(*rule);
        }
        let body: Vec<_> = parts.iter().map(|part| grouped(part, self.terminal(part))).collect();
        self.terminals.push(body.join(" "));
        format!("T{}", self.terminals.len() - 1)
    }

    /// A part of a terminal.
    fn terminal(&self, expression: &Expression) -> String {
        match expression {
            Expression::Literal(text) => string(text),
            Expression::Class { negated, ranges } => class(*negated, ranges),
            Expression::Any => "/(?s:.)/ ".to_owned(),
            Expression::Rule(rule) => self.name(*rule),
            Expression::Sequence(parts) if parts.is_empty() => string(""),
            Expression::Sequence(parts) => {
                let parts: Vec<_> =
                    parts.iter().map(|part| grouped(part, self.terminal(part))).collect();
                parts.join(" ")
            }
            Expression::Choice(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.terminal(part)).collect();
                parts.join(" | ")
            }
            Expression::Repeat(part, least, most) => {
                repeated(part, self.terminal(part)) + &bounds(*least, *most)
            }
        }
    }
}

/// `text`, which `expression` became, as one item of a sequence. No more groups than the grammar
/// itself has, since Lark limits their nesting, too.
fn grouped(expression: &Expression, text: String) -> String {
    match expression {
        Expression::Sequence(_) | Expression::Choice(_) => format!("( {text} )"),
        _ => text,
    }
}

/// `text`, which `expression` became, so that a repetition may follow it.
fn repeated(expression: &Expression, text: String) -> String {
    match expression {
        Expression::Repeat(..) => format!("( {text} )"),
        _ => grouped(expression, text),
    }
}

fn bounds(least: u32, most: Option<u32>) -> String {
    match (least, most) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (least, None) => format!("{{{least},}}"),
        (least, Some(most)) => format!("{{{least},{most}}}"),
    }
}

/// A Lark string, which is written as in JSON. A space keeps flags off it.
fn string(text: &str) -> String {
    let mut string = "\"".to_owned();
    for letter in text.chars() {
        match letter {
            '"' | '\\' => string.extend(['\\', letter]),
            '\0'..='\x1f' | '\x7f' => string += &format!("\\u{:04x}", u32::from(letter)),
            _ => string.push(letter),
        }
    }
    string + "\" "
}

/// A class as a regular expression.
fn class(negated: bool, ranges: &[(char, char)]) -> String {
    let mut class = format!("/[{}", if negated { "^" } else { "" });
    for (first, last) in ranges {
        let (first, last) = (u32::from(*first), u32::from(*last));
        class += &format!("\\x{{{first:x}}}-\\x{{{last:x}}}");
    }
    class + "]/ "
}
