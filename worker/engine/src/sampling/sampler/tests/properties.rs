//! What holds for any row and any request.

use proptest::prelude::*;

use super::*;
use crate::sampling::scan;

/// What a row may look like: few different scores, so that there are ties, and what is no number.
fn row() -> impl Strategy<Value = Vec<f32>> {
    let score = prop_oneof![
        30 => (-40i32..40).prop_map(|score| score as f32 * 0.25),
        1 => Just(f32::NAN),
        1 => Just(NONE),
    ];
    prop::collection::vec(score, 1..400)
}

prop_compose! {
    fn sampling()(
        (temperature, top_k, top_p) in (0.2f32..3.0, 0u32..60, prop_oneof![Just(1.0), 0.01f32..1.0]),
        (min_p, seed) in (prop_oneof![Just(0.0), 0.0f32..1.0], any::<u64>()),
        (repetition_penalty, presence_penalty, frequency_penalty) in
            (prop_oneof![Just(1.0), 0.5f32..2.0], -1.0f32..1.0, -0.5f32..0.5),
        (no_repeat_ngram_size, min_tokens) in (0u32..4, 0u32..6),
        (top_p_decay, top_p_reset_id) in
            (prop_oneof![Just(1.0), 0.5f32..1.0], prop::option::of(0u32..9)),
    ) -> Sampling {
        Sampling {
            temperature, top_k, top_p, min_p, seed, repetition_penalty, presence_penalty,
            frequency_penalty, no_repeat_ngram_size, min_tokens, top_p_decay, top_p_reset_id,
            top_p_min: 1e-6,
        }
    }
}

prop_compose! {
    /// A request, its tokens and perhaps a mask.
    fn sequence()(
        sampling in sampling(),
        bad_words in prop::collection::vec(prop::collection::vec(0u32..9, 1..4), 0..4),
        embedding_bias in prop::collection::vec((0u32..500, -3.0f32..3.0), 0..4),
        tokens in prop::collection::vec(0u32..9, 1..30),
        prompt in 1usize..10,
        mask in prop::option::of(prop::collection::vec(any::<u32>(), 0..13)),
    ) -> (Request, Vec<u32>, Option<Vec<u32>>) {
        let mut request = request(sampling);
        request.prompt = tokens[..prompt.min(tokens.len())].to_vec();
        request.bad_words = bad_words;
        request.embedding_bias = embedding_bias;
        request.end_id = Some(4);
        request.wanted.log_probs = true;
        (request, tokens, mask)
    }
}

/// The documented choice, by sorting all.
fn plainly(logits: &[f32], view: &SequenceView<'_>) -> u32 {
    let sampling = &view.request.sampling;
    let mut processor = Processor::new(logits.len());
    let Some(row) = processor.row(logits, view) else { return 4 };
    let scores = row.scores;
    let mut tokens: Vec<u32> = (0..scores.len() as u32).collect();
    let score = |token: u32| scores[token as usize];
    tokens.retain(|&token| score(token) > NONE);
    tokens.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
    let weights = Weights::new(score(tokens[0]), sampling.temperature);
    let weight = |token: u32| f64::from(weights.of(score(token)));
    let sum = |tokens: &[u32]| tokens.iter().map(|&token| weight(token)).sum::<f64>();
    if sampling.top_k > 0 {
        tokens.truncate(sampling.top_k as usize);
    }
    let enough = current_top_p(sampling, view.generated()) * sum(&tokens);
    let nucleus = (1..tokens.len()).find(|&len| sum(&tokens[..len]) >= enough);
    tokens.truncate(nucleus.unwrap_or(tokens.len()));
    tokens.retain(|&token| weight(token) >= f64::from(sampling.min_p));
    tokens.sort();
    let uniform = uniform(sampling.seed, view.sequence, view.tokens.len() as u32);
    let share = uniform * sum(&tokens);
    let drawn = (1..tokens.len()).find(|&len| sum(&tokens[..len]) > share);
    tokens[drawn.unwrap_or(tokens.len()) - 1]
}

fn allowed(mask: &[u32], token: u32) -> bool {
    mask.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
}

proptest! {
    #[test]
    fn choices_are_the_documented_ones(logits in row(), (request, tokens, mask) in sequence()) {
        let view = SequenceView { mask: mask.as_deref(), ..view(&request, &tokens) };
        let sampled = Sampler::new(logits.len()).sample(&logits, &view);
        prop_assert_eq!(sampled.token, plainly(&logits, &view));
        prop_assert!(sampled.log_prob <= 1e-6, "{}", sampled.log_prob);
    }

    #[test]
    fn what_is_banned_never_comes(logits in row(), (request, tokens, mask) in sequence()) {
        let view = SequenceView { mask: mask.as_deref(), ..view(&request, &tokens) };
        let mut sampler = Sampler::new(logits.len());
        let mut tokens_seen = vec![sampler.sample(&logits, &view).token];
        let mut best = Vec::new();
        sampler.best(&logits, &view, 20, &mut best);
        tokens_seen.extend(best.iter().map(|candidate| candidate.token));
        let in_mask = |token| mask.as_ref().is_none_or(|mask| allowed(mask, token));
        let banned = |token: u32| {
            let mut next = tokens.clone();
            next.push(token);
            let size = request.sampling.no_repeat_ngram_size as usize;
            let again = size > 0 && tokens.len() >= size
                && tokens.windows(size).any(|run| next.ends_with(run));
            again
                || request.bad_words.iter().any(|word| next.ends_with(word))
                || token == 4 && view.end_is_too_early()
        };
        let all = 0..logits.len() as u32;
        let numbers = |token: &u32| logits[*token as usize] > NONE;
        let any_in_mask = all.clone().any(in_mask);
        let any_left = all.filter(numbers).any(|token| in_mask(token) && !banned(token));
        for token in tokens_seen {
            prop_assert!(in_mask(token) || !any_in_mask);
            prop_assert!(!any_left || (!banned(token) && numbers(&token)));
        }
    }

    #[test]
    fn a_sampler_remembers_nothing(
        rows in prop::collection::vec((row(), sequence()), 1..8),
        first in any::<prop::sample::Index>(),
    ) {
        let most = rows.iter().map(|(logits, _)| logits.len()).max().unwrap_or(0);
        let mut shared = Sampler::new(most);
        let mut rotated = rows.clone();
        rotated.rotate_left(first.index(rows.len()));
        for (logits, (request, tokens, mask)) in rows.iter().chain(&rotated) {
            let view = SequenceView { mask: mask.as_deref(), ..view(request, tokens) };
            let mut alone = Sampler::new(logits.len());
            prop_assert_eq!(shared.sample(logits, &view), alone.sample(logits, &view));
            let (mut best, mut best_alone) = (Vec::new(), Vec::new());
            shared.best(logits, &view, 7, &mut best);
            alone.best(logits, &view, 7, &mut best_alone);
            prop_assert_eq!(best, best_alone);
        }
    }

    #[test]
    fn greedy_is_the_best_of_the_candidates(
        logits in row(),
        (mut request, tokens, mut mask) in sequence(),
        bans_only in any::<bool>(),
    ) {
        request.sampling.top_k = 1;
        if bans_only {
            let Sampling { no_repeat_ngram_size, min_tokens, .. } = request.sampling;
            request.sampling =
                Sampling { no_repeat_ngram_size, min_tokens, ..Sampling::GREEDY };
            request.embedding_bias.clear();
            mask = None;
        }
        let view = SequenceView { mask: mask.as_deref(), ..view(&request, &tokens) };
        let mut best = Vec::new();
        Sampler::new(logits.len()).best(&logits, &view, 1, &mut best);
        let expected = best.first().map_or(4, |candidate| candidate.token);
        prop_assert_eq!(sample(&logits, &view), expected);
    }

    #[test]
    fn the_shortlist_takes_the_highest(logits in row(), count in 0usize..300) {
        let mut list = Shortlist::new(logits.len());
        list.take_top(&logits, count);
        list.sort_by_rank();
        let mut left = logits.clone();
        let mut expected = Vec::new();
        while let Some(best) = scan::best(&left).filter(|_| expected.len() < count) {
            expected.push(best.token);
            left[best.token as usize] = NONE;
        }
        let got: Vec<u32> = list.tokens().iter().map(|ranked| ranked.token()).collect();
        prop_assert_eq!(got, expected);
    }
}
