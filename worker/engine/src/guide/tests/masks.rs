//! Masks, and the thread that makes them.

use std::time::{Duration, Instant};

use shardrun_wire::Guide;

use crate::guide::{
    GuideError, GuideVocabulary, MaskWorker,
    testing::{BEGIN, Dice, END, LOGITS, Model, ids, key, walk},
};

fn regex(text: &str) -> Guide {
    Guide::Regex(text.to_owned())
}

#[test]
fn the_end_is_allowed_where_the_text_may_end_and_alone_where_it_must() {
    let model = Model::bytes();
    let guide = model.compile(&regex("ab(c)?"));
    assert_eq!(guide.end_id(), END);
    let mut worker = model.worker();
    worker.start(key(0), &guide, &[]);
    let (a, b, c) = (97, 98, 99);
    let ab = 256 + 8;
    assert_eq!(ids(worker.mask(key(0)).unwrap()), [a, ab, ab + 1]);
    worker.accept(key(0), a);
    assert_eq!(ids(worker.mask(key(0)).unwrap()), [b]);
    worker.accept(key(0), b);
    assert_eq!(ids(worker.mask(key(0)).unwrap()), [c, END]);
    worker.accept(key(0), c);
    assert_eq!(ids(worker.mask(key(0)).unwrap()), [END]);
}

#[test]
fn masks_have_a_bit_for_every_logit_and_none_for_control_tokens() {
    let model = Model::bytes();
    let guide = model.compile(&regex("(?s:.)*"));
    for logits in [LOGITS, 300, END as usize + 1, 200] {
        let mut worker = MaskWorker::new(logits, || ()).unwrap();
        worker.start(key(0), &guide, &[]);
        let mask = worker.mask(key(0)).unwrap();
        assert_eq!(mask.len(), logits.div_ceil(32));
        let allowed = ids(mask);
        assert!(!allowed.contains(&BEGIN) && !allowed.contains(&255));
        assert!(allowed.iter().all(|&id| id < logits.min(END as usize + 1) as u32));
        assert_eq!(allowed.contains(&END), logits > END as usize);
    }
}

#[test]
fn lark_cannot_reach_control_tokens() {
    let model = Model::bytes();
    let token = |text: String| model.vocabulary.compile(&Guide::Grammar(text));
    assert!(token("start: <|im_start|>".to_owned()).is_err());
    let any = token(format!("start: <[{}-{BEGIN}]> \"a\"", BEGIN - 1)).unwrap();
    let mut worker = model.worker();
    worker.start(key(0), &any, &[]);
    assert_eq!(ids(worker.mask(key(0)).unwrap()), [BEGIN - 1]);
    let none = token(format!("start: <[{BEGIN}]>")).unwrap();
    worker.start(key(1), &none, &[]);
    assert!(matches!(worker.mask(key(1)), Err(GuideError::Mask { .. })));
}

#[test]
fn a_resumed_sequence_has_the_same_masks() {
    let model = Model::bytes();
    let guide = model.compile(&Guide::Json);
    let mut worker = model.worker();
    for seed in 0..20 {
        let tokens = walk(&model, &mut worker, &guide, &mut Dice(seed));
        worker.start(key(1), &guide, &[]);
        for (position, &token) in tokens.iter().enumerate() {
            worker.start(key(2), &guide, &tokens[..position]);
            let resumed = worker.mask(key(2)).unwrap().to_vec();
            assert_eq!(worker.mask(key(1)).unwrap(), resumed);
            worker.accept(key(1), token);
        }
    }
}

#[test]
fn copies_go_their_own_ways() {
    let model = Model::bytes();
    let guide = model.compile(&regex("x(aa|bb)"));
    let mut worker = model.worker();
    worker.start(key(0), &guide, &[]);
    worker.accept(key(0), 120);
    worker.fork(key(0), key(1));
    worker.fork(key(1), key(2));
    assert_eq!(ids(worker.mask(key(2)).unwrap()), [97, 98]);
    worker.accept(key(0), 97);
    worker.accept(key(1), 98);
    worker.end(key(2));
    assert_eq!(ids(worker.mask(key(0)).unwrap()), [97]);
    assert_eq!(ids(worker.mask(key(1)).unwrap()), [98]);
    assert!(matches!(worker.mask(key(2)), Err(GuideError::NotStarted { sequence: 2, .. })));
}

#[test]
fn a_sequence_fails_alone() {
    let model = Model::bytes();
    let guide = model.compile(&regex("[a-z]{9}"));
    let mut worker = model.worker();
    for sequence in 0..3 {
        worker.start(key(sequence), &guide, &[]);
    }
    worker.start(key(3), &guide, &[97, 48]);
    worker.accept(key(1), 48);
    worker.accept(key(2), BEGIN);
    worker.fork(key(1), key(4));
    for (sequence, wrong) in [(1, 48), (2, BEGIN), (3, 48), (4, 48)] {
        for _ in 0..2 {
            match worker.mask(key(sequence)) {
                Err(GuideError::Token { token, .. }) => assert_eq!(token, wrong),
                other => panic!("{sequence}: {other:?}"),
            }
            worker.accept(key(sequence), 97);
        }
    }
    assert!(ids(worker.mask(key(0)).unwrap()).contains(&97));
    // The place of one that failed serves the next.
    worker.end(key(1));
    worker.start(key(5), &guide, &[97]);
    assert!(ids(worker.mask(key(5)).unwrap()).contains(&97));
}

#[test]
fn masks_of_a_sequence_that_ended_do_not_reach_the_next() {
    let model = Model::bytes();
    let (first, second) = (model.compile(&regex("a{99}")), model.compile(&regex("b{99}")));
    let mut worker = model.worker();
    for _ in 0..300 {
        worker.start(key(0), &first, &[97; 40]);
        worker.end(key(0));
        worker.start(key(1), &second, &[]);
        worker.accept(key(1), 98);
        assert_eq!(ids(worker.mask(key(1)).unwrap()), [98]);
        worker.end(key(1));
    }
}

#[test]
fn a_mask_that_is_there_is_not_waited_for() {
    let Some(model) = Model::real() else {
        return;
    };
    let guide = model.compile(&Guide::Json);
    let mut worker = model.worker();
    worker.start(key(0), &guide, &[]);
    worker.mask(key(0)).unwrap();
    assert!(worker.take_waited() > Duration::ZERO);
    let mut waited = vec![];
    for token in model.spelled("{\"name\": [1, 2, \"some words\", {\"x\": true}]}") {
        worker.accept(key(0), token);
        // The device computes an iteration.
        std::thread::sleep(Duration::from_millis(5));
        worker.mask(key(0)).unwrap();
        waited.push(worker.take_waited());
    }
    waited.sort_unstable();
    assert!(waited[waited.len() / 2] < Duration::from_micros(500), "{waited:?}");
}

/// Not a check but a figure: `cargo test --release mask_times -- --nocapture`.
#[test]
fn mask_times() {
    let Some(model) = Model::real() else {
        return;
    };
    let since = Instant::now();
    model.compile(&regex("a"));
    eprintln!("{} tokens: vocabulary {:?}", model.tokens.len(), since.elapsed());
    let schema = r#"{"type":"object","properties":{"name":{"type":"string"},"age":{"type":
        "integer","minimum":0,"maximum":150},"tags":{"type":"array","items":{"type":"string"}}},
        "required":["name","age","tags"],"additionalProperties":false}"#;
    let json = "{\"name\": \"Ada Lovelace\", \"age\": 36, \"tags\": [\"mathematics\", \"x\"]}";
    for (guide, text) in [
        (Guide::Json, json),
        (Guide::JsonSchema(schema.to_owned()), json),
        (
            regex("[A-Z][a-z]+ [A-Z][a-z]+, born \\d{4} in \\w+\\."),
            "Ada Lovelace, born 1815 in London.",
        ),
        (regex(".{1,200}"), "Ada Lovelace, born 1815 in London."),
    ] {
        let since = Instant::now();
        let compiled = model.compile(&guide);
        let compiling = since.elapsed();
        let mut worker = model.worker();
        worker.start(key(0), &compiled, &[]);
        worker.mask(key(0)).unwrap();
        let first = worker.take_waited();
        let mut times = vec![];
        for _ in 0..3 {
            worker.start(key(0), &compiled, &[]);
            worker.mask(key(0)).unwrap();
            worker.take_waited();
            for token in model.spelled(text) {
                worker.accept(key(0), token);
                worker.mask(key(0)).unwrap();
                times.push(worker.take_waited());
            }
        }
        times.sort_unstable();
        let at = |percent| times[(times.len() - 1) * percent / 100];
        eprintln!(
            "{guide:?}: compiled in {compiling:?}, first mask {first:?}, then median {:?}, \
             p90 {:?}, most {:?}",
            at(50),
            at(90),
            at(100)
        );
        assert!(at(50) < Duration::from_millis(20));
    }
}

#[test]
fn a_tokenizer_without_an_end_cannot_guide() {
    let vocabulary = GuideVocabulary::new(None, Vec::new);
    assert_eq!(vocabulary.end_id(), None);
    assert!(matches!(vocabulary.compile(&Guide::Json), Err(GuideError::NoEnd)));
    let beyond = GuideVocabulary::new(Some(9), || vec![b"a".to_vec(); 9]);
    assert!(matches!(beyond.compile(&Guide::Json), Err(GuideError::Vocabulary { .. })));
    let long = GuideVocabulary::new(Some(0), || vec![vec![b'a'; 5_000]; 2]);
    assert!(matches!(long.compile(&Guide::Json), Err(GuideError::Vocabulary { .. })));
}

#[test]
fn the_vocabulary_is_read_when_it_is_needed() {
    let read = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = read.clone();
    let vocabulary = GuideVocabulary::new(Some(END), move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        crate::guide::testing::tokens()
    });
    let reads = || read.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(reads(), 0);
    vocabulary.clone().compile(&Guide::Json).unwrap();
    vocabulary.compile(&regex("a")).unwrap();
    assert_eq!(reads(), 1);
}
