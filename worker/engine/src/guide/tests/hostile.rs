//! Guides that are wrong are refused with a reason, and costly ones are refused or stay cheap.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use shardrun_wire::Guide;

use crate::guide::{
    GuideError,
    compile::MAX_GUIDE_BYTES,
    testing::{Dice, Model, ids, key},
};

/// They take a tenth of a second, but machines may be busy, and `RUST_BACKTRACE` has errors record
/// a stack that is thousands of calls deep.
const BEARABLE: Duration = Duration::from_secs(20);

fn refusal(guide: Guide) -> String {
    let since = Instant::now();
    let error = Model::bytes().vocabulary.compile(&guide).unwrap_err().to_string();
    assert!(since.elapsed() < BEARABLE, "{:?}: {error}", since.elapsed());
    assert!(error.len() < 1_000, "{error}");
    error
}

fn schema(schema: &Value) -> Guide {
    Guide::JsonSchema(schema.to_string())
}

#[test]
fn wrong_guides_are_refused_with_a_reason() {
    let grammar = |text: &str| Guide::Grammar(text.to_owned());
    for (guide, said) in [
        (Guide::JsonSchema("{".to_owned()), "json_schema: the schema is not JSON"),
        (Guide::JsonSchema("[]".to_owned()), "an object, true or false"),
        (Guide::JsonSchema("false".to_owned()), "no value fits"),
        (schema(&json!({"type": "array", "uniqueItems": true})), "uniqueItems"),
        (schema(&json!({"type": "object", "if": {}})), "\"if\""),
        (schema(&json!({"not": {"type": "null"}})), "\"not\""),
        (schema(&json!({"type": "string", "format": "phone"})), "phone"),
        (schema(&json!({"type": "strin"})), "strin"),
        (schema(&json!({"oneOf": [{"type": "integer"}, {"type": "number"}]})), "oneOf"),
        (schema(&json!({"$ref": "http://localhost:1/a.json"})), "http://localhost:1/a.json"),
        (schema(&json!({"$ref": "#/$defs/none"})), "none"),
        (schema(&json!({"x-guidance": {}})), "x-guidance"),
        (schema(&json!({"enum": []})), "json_schema"),
        (Guide::Regex("[a".to_owned()), "type regex"),
        (Guide::Regex("a\\".to_owned()), "backslash"),
        (Guide::Regex("(?=a)b".to_owned()), "look-around"),
        (Guide::Regex("(a)\\1".to_owned()), "backreferences"),
        (grammar("start: foo\n"), "ebnf_grammar: "),
        (grammar("start: /[/\n"), "invalid regex"),
        (grammar("root ::= [a-z] item"), "line 1: there is no rule item"),
        (grammar("root ::= root \"a\""), "no token"),
    ] {
        let error = refusal(guide.clone());
        assert!(error.contains(said), "{guide:?}: {error}");
    }
    match Model::bytes().vocabulary.compile(&Guide::Regex("a".repeat(MAX_GUIDE_BYTES + 1))) {
        Err(GuideError::TooLong { bytes, limit, .. }) => {
            assert_eq!((bytes, limit), (262_145, 262_144))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn alternatives_that_multiply_are_refused() {
    let properties = |count| -> Map<String, Value> {
        (0..count).map(|i| (format!("p{i}"), json!({}))).collect()
    };
    let pairs = |of: &str, count| vec![json!({of: vec![json!({"maxLength": 9}); 12]}); count];
    for bomb in [
        json!({"properties": properties(4_000), "oneOf": vec![true; 4_000]}),
        json!({"properties": properties(4_000), "enum": (0..4_000).collect::<Vec<_>>()}),
        json!({"properties": properties(2_000), "allOf": pairs("anyOf", 4)}),
        json!({"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {
            "a": {"oneOf": vec![true; 1_000]}, "b": {"properties": properties(2_000)}}}),
        json!({"oneOf": vec![json!({"properties": {"a": {}}}); 4_000]}),
    ] {
        assert!(refusal(schema(&bomb)).contains("multiply"));
        let inside = Guide::Grammar(format!("start: \"a\" %json {bomb}"));
        assert!(refusal(inside).contains("%json"));
    }
    let union = json!({"properties": properties(100), "anyOf": (0..100).map(
        |i| json!({"properties": {format!("p{i}"): {"const": i}}})).collect::<Vec<_>>()});
    let long = json!({"enum": (0..20_000).map(|i| format!("v{i}")).collect::<Vec<_>>()});
    for usual in [union, long] {
        Model::bytes().compile(&schema(&usual));
    }
}

#[test]
fn long_chains_and_deep_nesting_do_not_overflow_the_stack() {
    let model = Model::bytes();
    let chain = |count: usize, link: &dyn Fn(usize) -> String, last: &str| {
        (0..count).map(link).collect::<String>() + last
    };
    let parens = |i: usize| format!("a{i}: {}a{}{}\n", "(".repeat(27), i + 1, ")".repeat(27));
    let refs: Map<String, Value> = (0..9_000)
        .map(|i| (i.to_string(), json!({"$ref": format!("#/{}", i + 1)})))
        .chain([("9000".to_owned(), json!({"type": "null"}))])
        .chain([("$ref".to_owned(), json!("#/0"))])
        .collect();
    let mut nested = json!({"type": "null"});
    for _ in 0..60 {
        nested = json!({"items": nested});
    }
    for guide in [
        Guide::Grammar(format!("start: a0\n{}", chain(3_300, &parens, "a3300: \"x\""))),
        Guide::Grammar(format!(
            "start: A0\n{}",
            chain(9_000, &|i| format!("A{i}: A{} \"y\"\n", i + 1), "A9000: \"x\"")
        )),
        Guide::Grammar(chain(
            12_000,
            &|i| format!("r{i} ::= r{}\n", i + 1),
            "r12000 ::= root \"x\"\nroot ::= r0 | \"a\"",
        )),
        Guide::Grammar(format!("start: {}", "a{".repeat(100_000))),
        Guide::Grammar(format!("start: a::0\na::_: \"x\" %if {}true", "not(".repeat(60_000))),
        Guide::Grammar(format!("root ::= {}", "(".repeat(200_000))),
        Guide::Regex("(".repeat(200_000)),
        Guide::Regex(format!("{}a{}", "(?:".repeat(60_000), ")*".repeat(40_000))),
        Guide::JsonSchema("[".repeat(200_000)),
        schema(&Value::Object(refs)),
        schema(&nested),
    ] {
        let since = Instant::now();
        let compiled = model.vocabulary.compile(&guide);
        assert!(since.elapsed() < BEARABLE, "{:?}: {compiled:?}", since.elapsed());
        if let Err(error) = compiled {
            assert!(error.to_string().len() < 1_000);
        }
    }
}

#[test]
fn regular_expressions_whose_states_multiply_stay_cheap() {
    let model = Model::real().unwrap_or_else(Model::bytes);
    for regex in [
        "(((a{1,200}){1,200}){1,200}){1,200}",
        "(a|aa)*b{50000}",
        "(.*a){20}.{30}",
        "[^a]*a.{14}b",
        "(.*[ab].{12}c.*){8}",
        "(?:(?:\\p{L}|\\d){1,500}[^\\w]){1,500}",
        ".*(foo|bar|baz){3,}.{100,200}.*(x|y|z)+",
    ] {
        let since = Instant::now();
        let Ok(guide) = model.vocabulary.compile(&Guide::Regex(regex.to_owned())) else {
            assert!(since.elapsed() < BEARABLE);
            continue;
        };
        let mut worker = model.worker();
        worker.start(key(0), &guide, &[]);
        let mut dice = Dice(1);
        let mut slowest = Duration::ZERO;
        // A refusal on the way, since it has become too complex, is as good as any mask.
        for _ in 0..100 {
            worker.take_waited();
            let Ok(mask) = worker.mask(key(0)) else { break };
            let allowed = ids(mask);
            slowest = slowest.max(worker.take_waited());
            worker.accept(key(0), allowed[dice.below(allowed.len())]);
        }
        eprintln!("{regex}: slowest mask {slowest:?}");
        assert!(slowest < Duration::from_secs(1), "{regex}: {slowest:?}");
    }
}
