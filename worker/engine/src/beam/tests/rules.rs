//! The rules, one by one.

use super::*;

#[test]
fn the_best_of_all_beams_go_on() {
    let mut beams = Beams::new(&request(9), SEARCH);
    assert_eq!(beams.live(), 1);
    let got = step(&mut beams, &[&[(5, -0.5), (6, -1.0), (7, -2.0), (8, -3.0)]]);
    assert_eq!(got, (Progress::Go, vec![(0, 5), (0, 6)]));
    let lists: [&[_]; 2] = [&[(1, -2.0), (2, -2.5)], &[(3, -0.25), (4, -0.75)]];
    let got = step(&mut beams, &lists);
    assert_eq!(got, (Progress::Go, vec![(1, 3), (1, 4)]));
}

#[test]
fn of_equals_the_lower_beam_and_token_come_first() {
    let mut beams = Beams::new(&request(9), SEARCH);
    step(&mut beams, &[&[(5, -1.0), (6, -1.0)]]);
    let got = step(&mut beams, &[&[(8, -1.0), (9, -1.0)], &[(1, -1.0), (2, -1.0)]]);
    assert_eq!(got.1, [(0, 8), (0, 9)]);
}

#[test]
fn diversity_favours_later_beams_and_counts() {
    let mut beams = Beams::new(&request(2), BeamSearch { diversity_rate: 0.5, ..SEARCH });
    step(&mut beams, &[&[(5, -1.0), (6, -1.25)]]);
    let got = step(&mut beams, &[&[(1, -1.0), (2, -1.1)], &[(3, -1.0), (4, -3.0)]]);
    assert_eq!(got, (Progress::Done, vec![]));
    let results = beams.results();
    assert_eq!(results[0].tokens, [6, 3]);
    assert_eq!(results[0].log_probs, [-1.25, -0.5]);
    assert_eq!(results[0].cum_log_prob, -1.75);
    assert_eq!(results[1].tokens, [5, 1]);
}

#[test]
fn an_end_token_counts_and_is_no_output() {
    let mut request = request(9);
    request.end_id = Some(3);
    let mut beams = Beams::new(&request, BeamSearch { length_penalty: 1.0, ..SEARCH });
    step(&mut beams, &[&[(5, -1.0), (6, -1.5)]]);
    let got = step(&mut beams, &[&[(3, -0.5), (1, -1.0)], &[(3, -0.75), (1, -2.0)]]);
    // The second ends at rank 2 of a width of 2: too late.
    assert_eq!(got, (Progress::Go, vec![(0, 1), (1, 1)]));
    let results = beams.results();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].tokens, [5]);
    assert_eq!(results[0].log_probs, [-1.0]);
    assert_eq!(results[0].cum_log_prob, -1.5);
    assert_eq!(results[0].score, -0.75);
    assert_eq!(results[0].reason, FinishReason::EndId);
}

#[test]
fn a_stop_word_over_several_steps_ends_a_beam_and_is_output() {
    let mut request = request(9);
    request.stop_words = vec![vec![5, 1], vec![], vec![0, 5]];
    let mut beams = Beams::new(&request, SEARCH);
    assert_eq!(step(&mut beams, &[&[(5, -1.0), (6, -1.5)]]).1, [(0, 5), (0, 6)]);
    let got = step(&mut beams, &[&[(1, -0.5), (2, -1.0)], &[(1, -0.75), (2, -2.0)]]);
    assert_eq!(got.1, [(0, 2), (1, 1)]);
    let results = beams.results();
    assert_eq!(results[0].tokens, [5, 1]);
    assert_eq!(results[0].reason, FinishReason::StopWords);
}

#[test]
fn many_stop_words_leave_enough_candidates() {
    let mut request = request(9);
    request.stop_words = (10..20).map(|token| vec![token]).collect();
    let mut beams = Beams::new(&request, SEARCH);
    assert!(beams.candidates() >= 13);
    let mut list: Vec<(u32, f32)> = (10..20).map(|token| (token, -0.1)).collect();
    list.extend([(1, -5.0), (2, -6.0)]);
    let got = step(&mut beams, &[&list]);
    assert_eq!(got, (Progress::Done, vec![]), "two have finished");
    let mut beams =
        Beams::new(&request, BeamSearch { early_stopping: 2, length_penalty: 9.0, ..SEARCH });
    assert_eq!(step(&mut beams, &[&list]), (Progress::Go, vec![(0, 1), (0, 2)]));
}

#[test]
fn a_beam_that_nothing_may_follow_ends_as_it_is() {
    let mut beams = Beams::new(&request(9), SEARCH);
    step(&mut beams, &[&[(5, -1.0), (6, -1.5)]]);
    assert_eq!(step(&mut beams, &[&[], &[(7, -1.0)]]), (Progress::Go, vec![(1, 7)]));
    assert_eq!(beams.live(), 1);
    assert_eq!(step(&mut beams, &[&[]]), (Progress::Done, vec![]));
    let results = beams.results();
    let tokens: Vec<&[u32]> = results.iter().map(|found| &found.tokens[..]).collect();
    assert_eq!(tokens, [&[5][..], &[6, 7]]);
    let mut none = Beams::new(&request(9), BeamSearch { length_penalty: 1.0, ..SEARCH });
    assert_eq!(step(&mut none, &[&[]]), (Progress::Done, vec![]));
    assert_eq!(none.results()[0].score, 0.0);
}
