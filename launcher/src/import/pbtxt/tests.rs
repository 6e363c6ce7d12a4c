use proptest::prelude::*;

use super::*;

fn text(value: &str) -> Value {
    Value::Scalar(Scalar::Text(value.to_owned()))
}

fn number(value: &str) -> Value {
    Value::Scalar(Scalar::Number(value.to_owned()))
}

fn word(value: &str) -> Value {
    Value::Scalar(Scalar::Word(value.to_owned()))
}

/// Names and values, without places.
fn fields(message: &Message) -> Vec<(&str, &Value)> {
    message.0.iter().map(|field| (field.name.as_str(), &field.value)).collect()
}

fn only(input: &str) -> Value {
    let message = Message::parse(input).unwrap();
    assert_eq!(message.0.len(), 1, "{input}");
    message.0[0].value.clone()
}

fn error(input: &str) -> String {
    Message::parse(input).unwrap_err().to_string()
}

#[test]
fn fields_messages_and_lists() {
    let input = "name: \"a\" # a comment\nsize: 8, kind: KIND_CPU;\n\
                 group [ { count: 1 }, < count: 2 > ]\npolicy: { on: true }\nempty {}\nnone: []";
    let message = Message::parse(input).unwrap();
    assert_eq!(
        fields(&message)[..3],
        [("name", &text("a")), ("size", &number("8")), ("kind", &word("KIND_CPU")),]
    );
    let groups: Vec<_> = message.messages("group").map(|group| group.0[0].value.clone()).collect();
    assert_eq!(groups, [number("1"), number("2")]);
    assert_eq!(message.messages("policy").next().unwrap().text("on"), Some("true"));
    assert_eq!(message.0[5].value, Value::Message(Message::default()));
    assert_eq!(message.0[6].value, Value::List(Vec::new()));
    assert_eq!(message.0[2].at, Place { line: 2, column: 10 });
}

#[test]
fn strings_have_escapes_and_neighbours() {
    assert_eq!(
        only(r#"a: "b\n" 'c"\'' "\x41\102\u00e9\U0001F600\303\251""#),
        text("b\nc\"'ABé😀é")
    );
    assert_eq!(only("a: \"x\" # one\n \"y\""), text("xy"));
    for (wrong, says) in [
        ("a: \"b", "1:4: the string has no end"),
        ("a: \"b\nc\"", "1:6: a string ends on its line"),
        (r#"a: "\q""#, "1:5: an unknown escape"),
        (r#"a: "\x""#, "1:5: an unknown escape"),
        (r#"a: "\u12""#, "1:5: an unknown escape"),
        (r#"a: "\ud800""#, "1:5: an unknown escape"),
        (r#"a: "\777""#, "1:5: an unknown escape"),
        (r#"a: "\xff""#, "1:4: the string is not UTF-8"),
    ] {
        assert_eq!(error(wrong), says);
    }
}

#[test]
fn numbers_are_protobufs() {
    for good in ["0", "17", "0x1F", "017", "1.5", ".5", "1.", "1e3", "1E-3", "2f", "1.5F"] {
        assert_eq!(only(&format!("a: {good}")), number(good));
    }
    assert_eq!(only("a: - 3"), number("-3"));
    assert_eq!(only("a: -inf"), word("-inf"));
    for bad in ["08", "0x", "1.2.3", "1_000", "7a", "1e", "0xfg"] {
        assert_eq!(error(&format!("a: {bad}")), format!("1:4: {bad} is no number"));
    }
    assert_eq!(error("a: -b"), "1:5: expected a number after '-', found the name b");
}

#[test]
fn placeholders_stand_for_values() {
    let placeholder = |name: &str| Value::Scalar(Scalar::Placeholder(name.to_owned()));
    assert_eq!(only("a: ${max_batch_size}"), placeholder("max_batch_size"));
    assert_eq!(only("a: [ ${b} ]"), Value::List(vec![placeholder("b")]));
    for bad in ["a: $b", "a: ${}", "a: ${b", "a: ${b c}"] {
        assert_eq!(error(bad), "1:4: expected a placeholder, as in ${name}");
    }
}

#[test]
fn what_is_wrong_has_a_place() {
    for (wrong, says) in [
        ("a {", "1:4: expected a field's name, or '}', found the end of the file"),
        ("a: 1\n}", "2:1: expected a field's name, found '}'"),
        ("a { b: 1 >", "1:10: expected a field's name, or '}', found '>'"),
        ("a 1", "1:3: expected ':' after a"),
        ("a [1]", "1:3: expected ':' after a"),
        ("a:", "1:3: expected a value, found the end of the file"),
        ("a: [1,]", "1:7: expected a value, found ']'"),
        ("a: [1 2]", "1:7: expected ',' or ']', found the number 2"),
        ("a: [1, {}]", "1:8: a list has messages or values, not both"),
        ("a: [[1]]", "1:5: expected a value, found '['"),
        ("é: 1", "1:1: 'é' is no part of the format"),
        ("é", "1:1: 'é' is no part of the format"),
        ("a: 1,,", "1:6: expected a field's name, found ','"),
        ("[x.y]: 1", "1:1: extensions are not known here"),
        ("a: \"é\" b", "1:9: expected a value, found the end of the file"),
    ] {
        assert_eq!(error(wrong), says, "{wrong}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "a {".repeat(depth), "}".repeat(depth));
    assert!(Message::parse(&nested(DEEPEST)).is_ok());
    let says = format!(": messages are nested more than {DEEPEST} deep");
    assert!(error(&nested(DEEPEST + 1)).ends_with(&says));
    assert!(error(&nested(300_000)).ends_with(&says));
    assert!(error(&"a [{".repeat(300_000)).ends_with(&says));
}

fn written(message: &Message) -> String {
    let value = |value: &Value| match value {
        Value::Scalar(Scalar::Text(text)) => format!("\"{}\"", octal(text)),
        Value::Scalar(Scalar::Number(text) | Scalar::Word(text)) => text.clone(),
        Value::Scalar(Scalar::Placeholder(name)) => format!("${{{name}}}"),
        Value::Message(message) => format!("{{ {} }}", written(message)),
        Value::List(_) => unreachable!("lists hold no lists"),
    };
    let field = |field: &Field| match &field.value {
        Value::List(values) => {
            let values: Vec<_> = values.iter().map(value).collect();
            format!("{}: [{}]\n", field.name, values.join(", "))
        }
        single => format!("{}: {} # comment }}\n", field.name, value(single)),
    };
    message.0.iter().map(field).collect()
}

fn octal(text: &str) -> String {
    text.bytes().map(|byte| format!("\\{byte:03o}")).collect()
}

fn any_message() -> impl Strategy<Value = Message> {
    let scalar = prop_oneof![
        any::<String>().prop_map(Scalar::Text),
        any::<u32>().prop_map(|n| Scalar::Number(n.to_string())),
        "[A-Za-z_][A-Za-z0-9_]{0,8}".prop_map(Scalar::Word),
        "[a-z_0-9]{1,8}".prop_map(Scalar::Placeholder),
    ];
    let scalar = scalar.prop_map(Value::Scalar);
    let message_of = |value: BoxedStrategy<Value>| {
        let name = "[A-Za-z_][A-Za-z0-9_]{0,8}";
        let at = Place { line: 0, column: 0 };
        let field = (name, value).prop_map(move |(name, value)| Field { name, at, value });
        proptest::collection::vec(field, 0..4).prop_map(Message)
    };
    let list = proptest::collection::vec(scalar.clone(), 0..4).prop_map(Value::List);
    let leaf = message_of(prop_oneof![scalar.clone(), list].boxed());
    leaf.prop_recursive(4, 32, 4, move |inner| {
        let message = inner.prop_map(Value::Message);
        let list = proptest::collection::vec(message.clone(), 0..3).prop_map(Value::List);
        message_of(prop_oneof![scalar.clone(), message, list].boxed())
    })
}

fn without_places(message: Message) -> Message {
    let at = Place { line: 0, column: 0 };
    let of_value = |value| match value {
        Value::Message(message) => Value::Message(without_places(message)),
        other => other,
    };
    let fields = message.0.into_iter().map(|field| {
        let value = match field.value {
            Value::List(values) => Value::List(values.into_iter().map(of_value).collect()),
            single => of_value(single),
        };
        Field { at, value, ..field }
    });
    Message(fields.collect())
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in any_message()) {
        let read = Message::parse(&written(&message)).unwrap();
        prop_assert_eq!(without_places(read), message);
    }

    #[test]
    fn no_text_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_text_of_its_signs_panics(text in "[a{}<>:;,\\[\\]\"'\\\\$#\n 0-9xufe.é-]{0,60}") {
        if let Err(error) = Message::parse(&text) {
            prop_assert!(error.at.line <= text.matches('\n').count() + 1);
            prop_assert!(error.at.column <= text.chars().count() + 1);
        }
    }
}
