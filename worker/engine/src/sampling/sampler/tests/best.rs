//! Rows of which nothing but the likeliest token is looked at.

use super::*;

#[test]
fn a_greedy_row_as_it_is_takes_the_best() {
    let request = request(Sampling::GREEDY);
    let view = view(&request, &[0]);
    assert!(view.takes_best());
    for (logits, best) in
        [(vec![1.0, 3.0, 2.0, 3.0], 1), (vec![f32::NAN, NONE], 0), (vec![NONE, -7.0, f32::NAN], 1)]
    {
        assert_eq!(sample(&logits, &view), best, "as the head finds it: {logits:?}");
    }
}

#[test]
fn whatever_looks_at_other_logits_needs_them() {
    let changes: [fn(&mut Request); 9] = [
        |request| request.sampling = ALL,
        |request| request.sampling.repetition_penalty = 1.1,
        |request| request.sampling.presence_penalty = 0.1,
        |request| request.sampling.frequency_penalty = 0.1,
        |request| request.sampling.no_repeat_ngram_size = 2,
        |request| request.embedding_bias = vec![(1, 2.0)],
        |request| request.bad_words = vec![vec![1]],
        |request| (request.end_id, request.sampling.min_tokens) = (Some(1), 3),
        |request| request.wanted.log_probs = true,
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut request = request(Sampling::GREEDY);
        change(&mut request);
        assert!(!view(&request, &[0]).takes_best(), "change {at}");
    }
    let plain = request(Sampling::GREEDY);
    let masked = SequenceView { mask: Some(&[7]), ..view(&plain, &[0]) };
    assert!(!masked.takes_best());
}
