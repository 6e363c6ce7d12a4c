//! Which token is chosen from scores.

use super::*;

#[test]
fn greedy_takes_the_first_of_the_highest() {
    let request = request(Sampling::GREEDY);
    assert_eq!(sample(&[0.5, 2.0, f32::NAN, 2.0], &view(&request, &[0])), 1);
    assert_eq!(sample(&[f32::NAN, 1.0], &view(&request, &[0])), 1);
    assert_eq!(sample(&[NONE, f32::INFINITY, 1.0], &view(&request, &[0])), 1);
}

#[test]
fn tokens_come_as_often_as_they_are_likely() {
    let logits = [0.1f32.ln(), 0.6f32.ln(), 0.3f32.ln()];
    let tokens = draw_many(&logits, ALL);
    for (token, probability) in [(0, 0.1), (1, 0.6), (2, 0.3)] {
        assert!((share(&tokens, token) - probability).abs() < 0.03);
    }
    let sharper = draw_many(&logits, Sampling { temperature: 0.5, ..ALL });
    assert!((share(&sharper, 1) - 0.36 / 0.46).abs() < 0.03);
    let of_two = draw_many(&logits, Sampling { top_k: 2, ..ALL });
    assert!((share(&of_two, 1) - 0.6 / 0.9).abs() < 0.03);
}

#[test]
fn the_limits_leave_the_unlikely_out() {
    let logits = [0.1f32.ln(), 0.6f32.ln(), 0.3f32.ln()];
    let request = |sampling| super::request(sampling);
    let kept = |sampling| kept(&logits, &view(&request(sampling), &[0]));
    assert_eq!(kept(Sampling { top_k: 2, ..ALL }), [1, 2]);
    assert_eq!(kept(Sampling { top_p: 0.5, ..ALL }), [1]);
    assert_eq!(kept(Sampling { top_p: 0.85, ..ALL }), [1, 2]);
    assert_eq!(kept(Sampling { top_p: 0.95, ..ALL }), [0, 1, 2]);
    assert_eq!(kept(Sampling { min_p: 0.4, ..ALL }), [1, 2]);
    assert_eq!(kept(Sampling { min_p: 0.6, ..ALL }), [1]);
    assert_eq!(kept(Sampling { top_k: 2, top_p: 0.6, ..ALL }), [1], "0.6 of 0.9 is enough");
    assert_eq!(kept(Sampling { min_p: 1.0, top_p: 1e-6, ..ALL }), [1]);
}

#[test]
fn the_lower_ids_are_the_nucleus_of_a_tie() {
    let request = request(Sampling { top_p: 0.5, ..ALL });
    let expected: Vec<u32> = (0..1500).collect();
    assert_eq!(kept(&[0.0; 3000], &view(&request, &[0])), expected);
    let tokens = draw_many(&[0.0; 3000], request.sampling);
    assert!(tokens.iter().any(|&token| token < 100));
    assert!(tokens.iter().any(|&token| token > 1400));
}

#[test]
fn top_p_decays_and_comes_back() {
    let at = |top_p_reset_id, generated: &[u32]| {
        let decay = Sampling { top_p: 0.8, top_p_decay: 0.5, top_p_min: 0.15, ..ALL };
        current_top_p(&Sampling { top_p_reset_id, ..decay }, generated)
    };
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(close(at(None, &[]), 0.8));
    assert!(close(at(None, &[7]), 0.4));
    assert!(close(at(None, &[7, 7]), 0.2));
    assert!(close(at(None, &[7, 7, 7]), 0.15));
    assert!(close(at(Some(9), &[7, 7, 9]), 0.8));
    assert!(close(at(Some(9), &[9, 7, 9, 7]), 0.4));
    assert!(close(at(Some(9), &[7, 7]), 0.2));
}

#[test]
fn seeds_sequences_and_positions_draw_apart() {
    let logits: Vec<f32> = (0..500).map(|i| (i % 37) as f32 * 0.1).collect();
    let sampling = Sampling { temperature: 0.9, top_k: 80, top_p: 0.9, seed: 11, ..ALL };
    assert_eq!(draw_many(&logits, sampling), draw_many(&logits, sampling));
    assert_ne!(draw_many(&logits, sampling), draw_many(&logits, Sampling { seed: 12, ..sampling }));
    let request = request(sampling);
    let of = |sequence| sample(&logits, &SequenceView { sequence, ..view(&request, &[0; 9]) });
    assert!((1..50).any(|sequence| of(sequence) != of(0)));
}

#[test]
fn log_probabilities_are_of_the_logits_as_they_came() {
    let logits = [0.1f32.ln(), 0.6f32.ln(), 0.3f32.ln()];
    let mut request = request(Sampling { temperature: 0.1, ..Sampling::GREEDY });
    request.bad_words = vec![vec![1]];
    let plain = Sampler::new(3).sample(&logits, &view(&request, &[0]));
    assert_eq!(plain, Sampled { token: 2, log_prob: 0.0 });
    request.wanted.log_probs = true;
    let wanted = Sampler::new(3).sample(&logits, &view(&request, &[0]));
    assert_eq!(wanted.token, 2);
    assert!((wanted.log_prob - 0.3f32.ln()).abs() < 1e-6);
}

#[test]
fn the_best_come_in_order_with_what_all_changes_leave_them() {
    let logits = [1.0, 3.0, 3.0, 2.0, NONE, f32::NAN];
    let mut request = request(Sampling { temperature: 0.5, top_k: 1, ..ALL });
    request.bad_words = vec![vec![3]];
    let mut best = vec![Candidate { token: 9, log_prob: 9.0 }];
    Sampler::new(6).best(&logits, &view(&request, &[0]), 10, &mut best);
    let tokens: Vec<u32> = best.iter().map(|candidate| candidate.token).collect();
    assert_eq!(tokens, [1, 2, 0]);
    let sum = 2.0 + (-4.0f32).exp();
    for (candidate, expected) in best.iter().zip([0.0, 0.0, -4.0]) {
        assert!((candidate.log_prob - (expected - sum.ln())).abs() < 1e-6);
    }
    Sampler::new(6).best(&logits, &view(&request, &[0]), 1, &mut best);
    assert_eq!(best.len(), 1);
    let masked = SequenceView { mask: Some(&[0]), ..view(&request, &[0]) };
    Sampler::new(6).best(&logits, &masked, 3, &mut best);
    assert_eq!(best, []);
}
