//! Text that is sampled at random under a guide is what the guide asks for, as others see it.

use regex::Regex;
use serde_json::Value;
use shardrun_wire::Guide;

use crate::guide::testing::{Dice, Model, walk};

const WALKS: u64 = 200;

/// llama.cpp's grammar of JSON, with its unbounded white space.
const JSON_EBNF: &str = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escape sequences
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"#;

const SCHEMAS: [&str; 8] = [
    r#"{"type":"object","properties":{"name":{"type":"string","maxLength":12},"age":
       {"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":{"enum":
       ["a","b","ab"]},"minItems":1,"maxItems":3}},"required":["name","age"],
       "additionalProperties":false}"#,
    r##"{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":
       "boolean"},"next":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/node"}]}},"required":
       ["v","next"],"additionalProperties":false}}}"##,
    r#"{"oneOf":[{"type":"integer","minimum":-5,"exclusiveMaximum":7},{"type":"string",
       "pattern":"^[a-c]{2,4}$"},{"const":null}]}"#,
    r#"{"type":"array","prefixItems":[{"type":"string","format":"date"},{"type":"number",
       "multipleOf":0.5}],"items":{"type":"string","format":"uuid"},"minItems":2,"maxItems":3}"#,
    r#"{"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},
       {"properties":{"b":{"enum":[1,"two",[3],{"four":4}]}},"required":["b"]}],
       "additionalProperties":false,"properties":{"a":{},"b":{}}}"#,
    r#"{"type":"object","patternProperties":{"^x":{"type":"boolean"}},"additionalProperties":
       {"type":"null"},"maxProperties":3}"#,
    r#"{"type":["string","null","boolean"]}"#,
    "true",
];

const REGEXES: [&str; 8] = [
    "(?:[0-9]{1,3}\\.){3}[0-9]{1,3}",
    "[a-z]+@[a-z]+\\.(com|org)",
    "^(yes|no|maybe/not)$",
    "(ab|abc)(c|d)?[^a-z\\s]{2}",
    "\\d{4}-\\d{2}-\\d{2}( \\w+)?",
    ".{3,10}\\\\",
    "(?i:true)|é+",
    "",
];

const EBNFS: [(&str, &str); 4] = [
    (
        "root ::= greeting (\", \" name)? [.!]{1,2}\ngreeting ::= \"hi\" | \"hello\"\n\
         name ::= [A-Z] [a-z]+",
        "(hi|hello)(, [A-Z][a-z]+)?[.!]{1,2}",
    ),
    // A prefix of one alternative is another.
    ("root ::= [a-z]{0,3} \"abc\" ([0-9]? | \"x\"){2}", "[a-z]{0,3}abc([0-9]?|x){2}"),
    ("root ::= \"(\" . \")\" | \"\\\"\\\\/\" | \"\\u00e9\"", "\\((?s:.)\\)|\"\\\\/|é"),
    ("root ::= a | b\na ::= \"a\" a | \"\"\nb ::= b \"b\" | \"b\"", "a*|b+"),
];

const LARKS: [(&str, &str); 2] = [
    ("start: \"a\" WORD+\nWORD: / [a-z]{1,5}/\n", "a( [a-z]{1,5})+"),
    ("start: \"(\" start \")\" | /[0-9]{2}/\n", "\\(*[0-9]{2}\\)*"),
];

/// The value of a text in JSON. Exponents are cut where they must be: JSON does not limit them,
/// serde_json does.
fn parsed(text: &str) -> Value {
    let exponents = Regex::new("([0-9][eE][-+]?[0-9]{1,2})[0-9]*").unwrap();
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&exponents.replace_all(text, "$1")))
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn texts(model: &Model, guide: &Guide, walks: u64, check: impl Fn(&str)) {
    let compiled = model.compile(guide);
    let mut worker = model.worker();
    for seed in 0..walks {
        let tokens = walk(model, &mut worker, &compiled, &mut Dice(seed));
        check(&model.text(&tokens));
    }
}

fn all_kinds(model: &Model, walks: u64) {
    texts(model, &Guide::Json, walks, |text| {
        assert!(parsed(text).is_object(), "{text}");
    });
    for schema in SCHEMAS {
        let described = serde_json::from_str(schema).unwrap();
        let validator =
            jsonschema::options().should_validate_formats(true).build(&described).unwrap();
        texts(model, &Guide::JsonSchema(schema.to_owned()), walks, |text| {
            assert!(validator.is_valid(&parsed(text)), "{schema}: {text}");
        });
    }
    let expected = |regex: &str| Regex::new(&format!("^(?:{regex})$")).unwrap();
    for regex in REGEXES {
        let expected = expected(regex);
        texts(model, &Guide::Regex(regex.to_owned()), walks, |text| {
            assert!(expected.is_match(text), "{regex}: {text:?}");
        });
    }
    for (grammar, regex) in EBNFS.iter().chain(&LARKS) {
        let expected = expected(regex);
        texts(model, &Guide::Grammar((*grammar).to_owned()), walks, |text| {
            assert!(expected.is_match(text), "{grammar}: {text:?}");
        });
    }
    texts(model, &Guide::Grammar(JSON_EBNF.to_owned()), walks, |text| {
        assert!(parsed(text).is_object(), "{text}");
    });
}

#[test]
fn random_texts_are_what_the_guide_asks_for() {
    all_kinds(&Model::bytes(), WALKS);
}

#[test]
fn random_texts_of_the_real_vocabulary_are_what_the_guide_asks_for() {
    if let Some(model) = Model::real() {
        all_kinds(&model, 20);
    }
}

#[test]
fn json_has_at_most_a_space_after_a_comma_or_colon() {
    let schema = r#"{"type":"object","properties":{"a":{"const":1},"b":{"const":[2,{}]}},
                    "required":["a","b"],"additionalProperties":false}"#;
    let expected = Regex::new(r#"^\{"a": ?1, ?"b": ?\[2, ?\{\}\]\}$"#).unwrap();
    let model = Model::bytes();
    texts(&model, &Guide::JsonSchema(schema.to_owned()), WALKS, |text| {
        assert!(expected.is_match(text), "{text:?}");
    });
    texts(&model, &Guide::Json, WALKS, |text| {
        let outside_strings = Regex::new(r#""(?:[^"\\]|\\.)*""#).unwrap().replace_all(text, "\"\"");
        assert!(!outside_strings.contains("  ") && !outside_strings.contains('\n'), "{text}");
    });
}
