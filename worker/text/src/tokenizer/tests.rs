use proptest::prelude::*;
use serde::Deserialize;
use shardrun_files::{Array, Value, testing::GgufBuilder};

use crate::testing::{BEGIN, END, WORD, golden, model_tokenizers, small, tokenizer};

/// The id of a byte in the small vocabulary, and of its merges.
fn byte(byte: u8) -> u32 {
    3 + u32::from(byte)
}
const HE: u32 = 3 + 256;
const LL: u32 = HE + 1;
const SPACE_HE: u32 = HE + 2;

fn error(builder: GgufBuilder) -> String {
    let message = tokenizer(&builder).unwrap_err().to_string();
    // The path, which differs from run to run, comes first.
    message.split_once(".gguf").unwrap().1.trim_start_matches(": ").to_owned()
}

fn without(key: &str) -> GgufBuilder {
    let mut builder = small();
    assert!(builder.remove(key), "{key}");
    builder
}

#[test]
fn words_are_merged_and_special_tokens_found() {
    let tokenizer = tokenizer(&small()).unwrap();
    assert_eq!(
        tokenizer.encode("hello he1<end>un cut!", false).unwrap(),
        [HE, LL, byte(b'o'), SPACE_HE, byte(b'1'), END, WORD, byte(b'!')]
    );
    assert_eq!(tokenizer.encode("é", false).unwrap(), [byte(0xc3), byte(0xa9)]);
    assert!(tokenizer.encode("", true).unwrap().is_empty());
    assert_eq!(tokenizer.vocab_size(), 262);
    assert_eq!((tokenizer.end_id(), tokenizer.pad_id()), (Some(END), None));
    assert!(tokenizer.chat_template().is_none());
}

#[test]
fn the_longest_special_token_wins() {
    let mut builder = without("tokenizer.ggml.tokens");
    let _ = builder.remove("tokenizer.ggml.token_type");
    let builder = builder
        .strings(
            "tokenizer.ggml.tokens",
            ["<a>", "<a><b>", "x", "h", "e", "l", "Ġ", "he", "ll", "Ġhe"],
        )
        .value(
            "tokenizer.ggml.token_type",
            Value::Array(Array::U8(vec![3, 3, 1, 1, 1, 1, 1, 1, 1, 1])),
        );
    let tokenizer = tokenizer(&builder).unwrap();
    assert_eq!(tokenizer.encode("<a><b><a>x<a><", false).unwrap(), [1, 0, 2, 0]);
}

#[test]
fn the_first_token_is_added_where_the_file_says_so() {
    let builder = small().value("tokenizer.ggml.add_bos_token", Value::Bool(true));
    let tokenizer = tokenizer(&builder).unwrap();
    assert_eq!(tokenizer.encode("h", true).unwrap(), [BEGIN, byte(b'h')]);
    assert_eq!(tokenizer.encode("h", false).unwrap(), [byte(b'h')]);
}

#[test]
fn decoding_skips_what_is_asked_and_what_is_unknown() {
    let tokenizer = tokenizer(&small()).unwrap();
    let ids = [BEGIN, SPACE_HE, WORD, 9999, END, u32::MAX];
    assert_eq!(tokenizer.decode(&ids, true), " heun cut");
    assert_eq!(tokenizer.decode(&ids, false), "<begin> heun cut<end>");
    assert_eq!(tokenizer.decode(&[byte(0xe2), byte(0x82), byte(b'a')], true), "\u{fffd}a");
}

#[test]
fn what_is_not_supported_is_named() {
    let other = |key, value| without(key).string(key, value);
    assert_eq!(
        error(other("tokenizer.ggml.model", "llama")),
        "tokenizer.ggml.model is \"llama\"; supported: gpt2"
    );
    assert_eq!(
        error(other("tokenizer.ggml.pre", "llama-bpe")),
        "tokenizer.ggml.pre is \"llama-bpe\"; supported: gpt-2, qwen2, smollm"
    );
    for key in ["model", "pre", "tokens", "merges"].map(|name| format!("tokenizer.ggml.{name}")) {
        assert_eq!(error(without(&key)), format!(" has no {key}"));
    }
}

#[test]
fn a_tokenizer_at_odds_with_itself_is_refused() {
    let key = "tokenizer.ggml.merges";
    for merge in ["he ll", "he", "h  e", "h é", ""] {
        assert_eq!(
            error(without(key).strings(key, ["h e", merge])),
            format!(
                "{key}[1] is {merge:?}, expected two tokens of the vocabulary that make a third"
            )
        );
    }
    let key = "tokenizer.ggml.token_type";
    assert_eq!(
        error(without(key).value(key, Value::Array(Array::U32(vec![1; 3])))),
        format!("{key} has 3 entries for 262 tokens")
    );
    let key = "tokenizer.ggml.eos_token_id";
    assert_eq!(
        error(without(key).value(key, Value::U32(262))),
        format!("{key} is 262, expected less than the 262 tokens of the vocabulary")
    );
    let key = "tokenizer.ggml.bos_token_id";
    let add = without(key).value("tokenizer.ggml.add_bos_token", Value::Bool(true));
    assert_eq!(error(add), format!(" has no {key}"));
    let key = "tokenizer.ggml.tokens";
    assert_eq!(
        error(without(key).strings::<String>(key, [])),
        "tokenizer.ggml.tokens holds 0 tokens, expected 1 to 4294967295"
    );
    assert_eq!(
        error(small().string("tokenizer.chat_template", "{% if %}")),
        "tokenizer.chat_template does not compile"
    );
}

#[test]
fn the_template_sees_the_special_tokens() {
    let builder = small().string("tokenizer.chat_template", "{{ bos_token }}{{ eos_token }}");
    let tokenizer = tokenizer(&builder).unwrap();
    assert_eq!(tokenizer.chat_template().unwrap().render(&[], true).unwrap(), "<begin><end>");
}

#[test]
fn padding_is_never_text() {
    let mut builder = without("tokenizer.ggml.tokens");
    builder.remove("tokenizer.ggml.token_type");
    let builder = builder
        .strings("tokenizer.ggml.tokens", ["e", "b", "x", "h", "he", "l", "ll", "Ġ", "Ġhe", "[P]"])
        .value(
            "tokenizer.ggml.token_type",
            Value::Array(Array::U8(vec![1, 1, 1, 1, 1, 1, 1, 1, 1, 5])),
        );
    let tokenizer = tokenizer(&builder).unwrap();
    assert_eq!(tokenizer.vocab_size(), 10);
    assert_eq!(tokenizer.encode("x[P]", false).unwrap(), [2]);
    assert_eq!(tokenizer.decode(&[2, 9, 4], false), "xhe");
}

#[test]
fn the_models_own_tokens_agree_with_the_reference() {
    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
    }
    for (tokenizer, file) in model_tokenizers("tokenizer.json") {
        let golden: Golden = golden(&file);
        assert!(!golden.cases.is_empty());
        for Case { text, ids } in golden.cases {
            assert_eq!(tokenizer.encode(&text, true).unwrap(), ids, "{text:?}");
        }
    }
}

/// Work of order n^2 would take many minutes here.
#[test]
fn long_runs_are_no_trouble() {
    let mut text = String::new();
    for run in ["h", "l", " ", "\n", "7", "\u{301}", "<end", "😀", " he", "un cu"] {
        text.push_str(&run.repeat(400_000 / run.len()));
    }
    for pre in ["smollm", "qwen2"] {
        let builder = without("tokenizer.ggml.pre").string("tokenizer.ggml.pre", pre);
        let tokenizer = tokenizer(&builder).unwrap();
        let ids = tokenizer.encode(&text, false).unwrap();
        assert!(tokenizer.decode(&ids, false) == text, "{pre}");
    }
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(text: String) {
        let tokenizer = tokenizer(&small()).unwrap();
        let ids = tokenizer.encode(&text, false).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false), text);
    }
}
