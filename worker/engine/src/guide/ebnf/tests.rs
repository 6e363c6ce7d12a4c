use super::*;

fn lark(text: &str) -> String {
    to_lark(text).unwrap()
}

#[test]
fn a_grammar_without_recursion_is_one_terminal() {
    let text =
        "root ::= \"a\" | item{2,} # not \"this\"\n\n  item ::= [a-z_]+ \"\\n\" |\n \"\\\"\" .?\n";
    assert_eq!(
        lark(text),
        "start: R0\n\
         R0: \"a\"  | R1{2,}\n\
         R1: /[\\x{61}-\\x{7a}\\x{5f}-\\x{5f}]/ + \"\\u000a\"  | \"\\\"\"  /(?s:.)/ ?\n"
    );
}

#[test]
fn a_grammar_with_recursion_has_terminals_as_large_as_can_be() {
    let text = "root ::= list\nlist ::= \"[\" (ws root (\",\" ws root)*)? ws \"]\" | num\n\
                num ::= [0-9] [0-9]*\nws ::= \" \"*";
    assert_eq!(
        lark(text),
        "start: r0\n\
         r0: r1\n\
         r1: T0 ( R2 r0 ( T1 r0  )*  )? T2  | R3\n\
         R2: \" \" *\n\
         R3: /[\\x{30}-\\x{39}]/  /[\\x{30}-\\x{39}]/ *\n\
         T0: \"[\" \n\
         T1: \",\"  R2\n\
         T2: R2 \"]\" \n"
    );
}

#[test]
fn strings_and_classes_have_escapes() {
    let text = r#"root ::= "\x41\u00e9\U0001F600\t\\\/" [^\]\-a\x00-\x1f]"#;
    assert_eq!(
        lark(text),
        "start: R0\nR0: \"Aé😀\\u0009\\\\/\"  \
         /[^\\x{5d}-\\x{5d}\\x{2d}-\\x{2d}\\x{61}-\\x{61}\\x{0}-\\x{1f}]/ \n"
    );
}

#[test]
fn classes_may_hold_a_minus_at_either_end() {
    let ranges = |text| match &reader::read(text).unwrap().rules[0] {
        Expression::Class { ranges, .. } => ranges.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(ranges("root ::= [-a]"), [('-', '-'), ('a', 'a')]);
    assert_eq!(ranges("root ::= [a-]"), [('a', 'a'), ('-', '-')]);
    assert_eq!(ranges("root ::= [+-9]"), [('+', '9')]);
}

#[test]
fn nothing_is_something() {
    assert_eq!(lark("root ::="), "start: R0\nR0: \"\" \n");
    assert_eq!(lark("root ::= \"a\" | "), "start: R0\nR0: \"a\"  | \"\" \n");
    assert_eq!(lark("root ::= [a]{0} [b]{0,0}"), "start: R0\nR0: ( \"\"  ) ( \"\"  )\n");
}

#[test]
fn errors_name_the_line() {
    let deep = "(".repeat(MAX_NESTING + 1);
    for (text, line, said) in [
        ("", 1, "no rule root"),
        ("# a\nroot = \"a\"", 2, "expected ::= after root, found '='"),
        ("root ::= item\n\n# c\nroot2 ::= \"a\"", 1, "there is no rule item"),
        ("root ::= \"a\"\n\nroot ::= \"b\"", 3, "root is defined twice"),
        ("root ::=\n \"abc\n", 2, "closing \""),
        ("root ::= \n\n[abc", 3, "closing ]"),
        ("root ::= []", 1, "without characters"),
        ("root ::= [z-a]", 1, "backwards"),
        ("root ::= (\"a\"\n| \"b\"", 2, "the ) of the group of line 1, found the end"),
        ("root ::= \"a\" )", 1, "found ')'"),
        ("root ::= \"a\" ]", 1, "found ']'"),
        ("root ::= \"\\q\"", 1, "unknown escape \\q"),
        ("root ::= \"\\u12\"", 1, "\\u needs 4"),
        ("root ::= \"\\ud800\"", 1, "\\u needs 4"),
        ("root ::= \"\\", 1, "at the end of the line"),
        ("root ::= \"a\"{3,2}", 1, "fewer at most"),
        ("root ::= \"a\"{x}", 1, "a number of repetitions, found 'x'"),
        ("root ::= \"a\"{2", 1, "the } of a repetition"),
        ("root ::= \"a\"{99999999999}", 1, "99999999999, expected at most 100000"),
        ("root ::= \"a\"**", 1, "follows a repetition"),
        ("root ::= (= \"a\")", 1, "look-ahead"),
        (&format!("root ::= {deep}"), 1, "deeper than 24"),
    ] {
        match to_lark(text) {
            Err(GuideError::Grammar { line: found, problem }) => {
                assert_eq!(found, line, "{text}: {problem}");
                assert!(problem.contains(said), "{text}: {problem}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

mod arbitrary {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_of_any_kind_is_read_or_refused(text in "(root|::=|[a-z\"\\[\\](){}|*+?.,\\\\0-9^# \n-]){0,60}") {
            let _ = super::to_lark(&text);
        }
    }
}
