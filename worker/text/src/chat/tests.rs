use super::*;
use crate::testing;

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.to_owned() }
}

fn render(source: &str, messages: &[ChatMessage]) -> Result<String, TextError> {
    ChatTemplate::compile(source, Some("<s>".to_owned()), None).unwrap().render(messages, true)
}

#[test]
fn blocks_leave_no_white_space() {
    let source = "\
{{ bos_token }}[{{ eos_token }}]
  {% for m in messages %}
{{ m.role }}: {{ m['content'] }}
  {% endfor %}
{% if add_generation_prompt %}
> {% endif %}
";
    let text = render(source, &[message("user", "<a> & \"b\""), message("x", "{{ y }}")]).unwrap();
    assert_eq!(text, "<s>[]\nuser: <a> & \"b\"\nx: {{ y }}\n> ");
}

#[test]
fn python_methods_and_loop_controls_work() {
    let source = "{% for m in messages %}{% if m.role == 'skip' %}{% continue %}{% endif %}\
        {{ m.content.strip() | upper }}{{ m.content.split(' ')[-1] }}\
        {% if not tools and documents is none %}.{% endif %}{% endfor %}";
    let text = render(source, &[message("skip", "no"), message("user", " a b")]).unwrap();
    assert_eq!(text, "A Bb.");
}

#[test]
fn json_is_written_as_python_writes_it() {
    let said = [message("user", "<é\n\"")];
    assert_eq!(
        render("{{ messages | tojson }}", &said).unwrap(),
        r#"[{"role": "user", "content": "<é\n\""}]"#
    );
    assert_eq!(
        render("{{ {'a': [1, 2.5, true, none]} | tojson(indent=2) }}", &[]).unwrap(),
        "{\n  \"a\": [\n    1,\n    2.5,\n    true,\n    null\n  ]\n}"
    );
}

#[test]
fn a_template_may_refuse_a_conversation() {
    let source = "{% if messages[0].role != 'user' %}\
        {{ raise_exception('Conversations start with the user') }}{% endif %}ok";
    assert_eq!(render(source, &[message("user", "")]).unwrap(), "ok");
    match render(source, &[message("assistant", "")]) {
        Err(TextError::Refused { message }) => {
            assert_eq!(message, "Conversations start with the user");
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_template_may_not_run_on() {
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        // 2^40 letters, were they to be made.
        "{% set n = namespace(x='a') %}\
         {% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{{ 'a' * 1000000000000 }}",
    ] {
        match render(source, &[]) {
            Err(TextError::TemplateFailed { source: error }) => {
                assert_eq!(error.kind(), ErrorKind::OutOfFuel, "{source}");
            }
            other => panic!("expected {source} to fail, got {other:?}"),
        }
    }
}

#[test]
fn long_conversations_are_within_the_limit() {
    let source = "{% for m in messages %}\
        <|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}";
    let many = vec![message("user", "a few words of text"); 20_000];
    assert!(render(source, &many).is_ok());
    let long = [message("user", &"word ".repeat(2_000_000))];
    assert!(render(source, &long).is_ok());
}

#[test]
fn recursion_ends_in_an_error() {
    let source = "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}";
    assert!(matches!(render(source, &[]), Err(TextError::TemplateFailed { .. })));
}

#[test]
fn the_models_own_template_agrees_with_the_reference() {
    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        messages: Vec<ChatMessage>,
        add_generation_prompt: bool,
        text: String,
    }
    for (tokenizer, file) in testing::model_tokenizers("chat_template.json") {
        let golden: Golden = testing::golden(&file);
        assert!(!golden.cases.is_empty());
        let template = tokenizer.chat_template().unwrap();
        for Case { messages, add_generation_prompt, text } in golden.cases {
            assert_eq!(template.render(&messages, add_generation_prompt).unwrap(), text);
        }
    }
}
