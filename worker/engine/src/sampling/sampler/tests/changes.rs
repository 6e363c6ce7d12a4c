//! What becomes of logits.

use super::*;

#[test]
fn biases_add_up_and_unknown_tokens_are_no_matter() {
    let mut request = request(Sampling { repetition_penalty: 2.0, frequency_penalty: 1.0, ..ALL });
    request.embedding_bias = vec![(1, 0.5), (1, 1.5), (99, 3.0)];
    request.bad_words = vec![vec![98], vec![], vec![97, 2]];
    let scores = scores(&[0.0, 1.0, 1.0], &view(&request, &[98, 99, 97, 98]));
    assert_eq!(scores, [0.0, 3.0, 1.0]);
}

#[test]
fn presence_and_frequency_look_at_the_output_repetition_at_all() {
    let mut request = request(ALL);
    request.prompt = vec![1, 2];
    let tokens = [1, 2, 2, 3, 3];
    let logits = [4.0; 5];
    request.sampling = Sampling { presence_penalty: 0.5, frequency_penalty: 0.25, ..ALL };
    assert_eq!(scores(&logits, &view(&request, &tokens)), [4.0, 4.0, 3.25, 3.0, 4.0]);
    request.sampling = Sampling { repetition_penalty: 2.0, ..ALL };
    assert_eq!(scores(&logits, &view(&request, &tokens)), [4.0, 2.0, 2.0, 2.0, 4.0]);
    assert_eq!(scores(&[-4.0; 5], &view(&request, &tokens)), [-4.0, -8.0, -8.0, -8.0, -4.0]);
    request.sampling.presence_penalty = 0.5;
    request.embedding_bias = vec![(3, 4.0)];
    let scores = scores(&logits, &view(&request, &tokens));
    assert_eq!(scores, [4.0, 2.0, 1.5, 3.5, 4.0], "bias, then repetition, then presence");
}

#[test]
fn the_mask_bans_all_that_it_lacks() {
    let request = request(ALL);
    let mask = [1 << 3 | 1 << 31, 1 << 1];
    let masked = SequenceView { mask: Some(&mask), ..view(&request, &[0]) };
    assert_eq!(kept(&[1.0; 100], &masked), [3, 31, 33]);
}

#[test]
fn where_bans_leave_nothing_the_mask_alone_holds() {
    let mut request = request(Sampling { min_tokens: 5, ..Sampling::GREEDY });
    request.end_id = Some(2);
    request.bad_words = vec![vec![1]];
    let logits = [9.0, 1.0, 0.5, f32::NAN, NONE];
    let with =
        |mask: &[u32]| sample(&logits, &SequenceView { mask: Some(mask), ..view(&request, &[0]) });
    assert_eq!(with(&[0b111]), 0);
    assert_eq!(with(&[0b110]), 1, "the bans give way");
    assert_eq!(with(&[0b100]), 2, "min_tokens gives way, too");
    assert_eq!(with(&[0b11000]), 3, "no number is as good as another");
    assert_eq!(with(&[0]), 2, "an empty mask ends the sequence");
    assert_eq!(with(&[]), 2);
    request.end_id = None;
    let masked = SequenceView { mask: Some(&[0]), ..view(&request, &[0]) };
    assert_eq!(sample(&logits, &masked), 0);
}

#[test]
fn the_end_comes_at_min_tokens() {
    let mut request = request(Sampling { min_tokens: 2, ..Sampling::GREEDY });
    request.end_id = Some(1);
    let logits = [0.0, 9.0];
    assert_eq!(sample(&logits, &view(&request, &[0])), 0);
    assert_eq!(sample(&logits, &view(&request, &[0, 0])), 0);
    assert_eq!(sample(&logits, &view(&request, &[0, 0, 0])), 1);
}

#[test]
fn rows_without_any_number_give_every_token() {
    let tokens = draw_many(&[f32::NAN; 3], Sampling { top_p: 0.99, ..ALL });
    for token in 0..3 {
        assert!((share(&tokens, token) - 1.0 / 3.0).abs() < 0.03);
    }
}
