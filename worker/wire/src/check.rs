//! What an engine refuses by its limits, before a request takes a place in its queue.

use crate::{
    BeamSearch, EngineLimits, Refused, Request, Resumed, Retention, RetentionPriority, Sampling,
    Search,
};

/// Most stop words, bad words, biased tokens: each is looked at for every token.
const MOST_WORDS: usize = 1024;
/// Most tokens of one stop word or bad word.
const MOST_WORD_TOKENS: usize = 256;
/// Most bytes of a cache salt.
const MOST_SALT_BYTES: usize = 1024;

impl EngineLimits {
    /// Refuses what an engine of these limits could never run, but for what its cache is too small for.
    /// Whoever takes requests for an engine in another process asks this before it keeps anything of
    /// them.
    ///
    /// # Errors
    /// [`Refused::Invalid`], naming the field, its value and what is allowed, or [`Refused::TooLong`].
    pub fn check(&self, request: &Request) -> Result<(), Refused> {
        let vocab = Vocabulary(self.vocab_size);
        prompt(request, &vocab)?;
        search(&request.search, self)?;
        sampling(&request.sampling, &vocab)?;
        words(request, &vocab)?;
        resume(request, &vocab)?;
        logits(request, self)?;
        rest(request)?;
        length(request, self)
    }
}

fn refuse<T>(field: &str, value: impl ToString, allowed: impl Into<String>) -> Result<T, Refused> {
    let (field, value) = (field.to_owned(), value.to_string());
    Err(Refused::Invalid { field, value, allowed: allowed.into() })
}

/// A number that must lie in a range.
fn within<T: PartialOrd + ToString + Copy>(
    field: &str,
    value: T,
    holds: impl FnOnce(T) -> bool,
    allowed: &str,
) -> Result<(), Refused> {
    if holds(value) { Ok(()) } else { refuse(field, value, allowed) }
}

struct Vocabulary(u32);

impl Vocabulary {
    fn has(&self, field: &str, mut tokens: impl Iterator<Item = u32>) -> Result<(), Refused> {
        match tokens.find(|&token| token >= self.0) {
            Some(token) => {
                refuse(field, format!("token {token}"), format!("token ids are below {}", self.0))
            }
            None => Ok(()),
        }
    }
}

fn prompt(request: &Request, vocab: &Vocabulary) -> Result<(), Refused> {
    if request.prompt.is_empty() {
        return refuse("prompt", "empty", "at least one token is needed");
    }
    within("max_tokens", request.max_tokens, |tokens| tokens > 0, "at least 1 is needed")?;
    vocab.has("prompt", request.prompt.iter().copied())
}

fn search(search: &Search, limits: &EngineLimits) -> Result<(), Refused> {
    let most = limits.max_batch_size;
    match *search {
        Search::Sample { sequences } => within(
            "num_return_sequences",
            sequences,
            |sequences| (1..=most).contains(&sequences),
            &format!("1 to {most} are allowed (model.max_batch_size)"),
        ),
        Search::Beam(BeamSearch { width, sequences, length_penalty, diversity_rate, .. }) => {
            let widest = limits.max_beam_width.min(most).min(limits.vocab_size / 2);
            within(
                "beam_width",
                width,
                |width| (2..=widest).contains(&width),
                &format!("1 to {widest} are allowed (model.max_beam_width)"),
            )?;
            within(
                "num_return_sequences",
                sequences,
                |sequences| (1..=width).contains(&sequences),
                &format!("1 to the beam_width of {width} are allowed"),
            )?;
            within("length_penalty", length_penalty, f32::is_finite, "it must be a number")?;
            let rate = |rate: f32| rate.is_finite();
            within("beam_search_diversity_rate", diversity_rate, rate, "it must be a number")
        }
    }
}

fn sampling(sampling: &Sampling, vocab: &Vocabulary) -> Result<(), Refused> {
    let above_0 = |value: f32| value.is_finite() && value > 0.0;
    let share = |value: f32| value > 0.0 && value <= 1.0;
    const SHARE: &str = "it must be above 0 and at most 1";
    within("temperature", sampling.temperature, above_0, "it must be above 0")?;
    within("top_p", sampling.top_p, share, SHARE)?;
    within("top_p_decay", sampling.top_p_decay, share, SHARE)?;
    within("top_p_min", sampling.top_p_min, share, SHARE)?;
    within("min_p", sampling.min_p, |p| (0.0..=1.0).contains(&p), "it must be from 0 to 1")?;
    within("repetition_penalty", sampling.repetition_penalty, above_0, "it must be above 0")?;
    let finite = |field, value: f32| within(field, value, f32::is_finite, "it must be a number");
    finite("presence_penalty", sampling.presence_penalty)?;
    finite("frequency_penalty", sampling.frequency_penalty)?;
    vocab.has("top_p_reset_ids", sampling.top_p_reset_id.into_iter())
}

fn words(request: &Request, vocab: &Vocabulary) -> Result<(), Refused> {
    for (field, words) in [("stop_words", &request.stop_words), ("bad_words", &request.bad_words)] {
        within(
            field,
            words.len(),
            |count| count <= MOST_WORDS,
            &format!("at most {MOST_WORDS} words are allowed"),
        )?;
        for word in words {
            within(
                field,
                word.len(),
                |tokens| (1..=MOST_WORD_TOKENS).contains(&tokens),
                &format!("1 to {MOST_WORD_TOKENS} tokens make a word"),
            )?;
            vocab.has(field, word.iter().copied())?;
        }
    }
    vocab.has("embedding_bias", request.embedding_bias.iter().map(|&(token, _)| token))?;
    if let Some((_, bias)) = request.embedding_bias.iter().find(|(_, bias)| bias.is_nan()) {
        return refuse("embedding_bias", bias, "it must be a number");
    }
    vocab.has("end_id", request.end_id.into_iter())
}

fn resume(request: &Request, vocab: &Vocabulary) -> Result<(), Refused> {
    if request.resume.is_empty() {
        return Ok(());
    }
    if matches!(request.search, Search::Beam(_)) {
        return refuse("resume", "there", "a beam search starts over");
    }
    let sequences = request.search.sequences() as usize;
    within(
        "resume",
        request.resume.len(),
        |count| count == sequences,
        &format!("one for each of the {sequences} sequences is needed"),
    )?;
    if request.resume.iter().all(|resumed| resumed.finished) {
        return refuse("resume", "finished", "a sequence must be left to go on with");
    }
    for Resumed { tokens, finished } in &request.resume {
        let most = request.max_tokens as usize - usize::from(!finished);
        within(
            "resume",
            tokens.len(),
            |count| count <= most,
            &format!("at most {most} tokens can be there already"),
        )?;
        vocab.has("resume", tokens.iter().copied())?;
    }
    Ok(())
}

fn logits(request: &Request, limits: &EngineLimits) -> Result<(), Refused> {
    let wanted = request.wanted;
    if wanted.generation_logits && matches!(request.search, Search::Beam(_)) {
        return refuse("return_generation_logits", true, "beams come without logits");
    }
    let sequences = u64::from(request.search.sequences());
    let context = if wanted.context_logits { request.prompt.len() as u64 } else { 0 };
    let generation = match wanted.generation_logits {
        true => sequences * u64::from(request.max_tokens),
        false => 0,
    };
    let most = limits.max_logits_rows;
    within(
        "logits",
        context + generation,
        |rows| rows <= u64::from(most),
        &format!("rows are asked for, one a token, and {most} are allowed (model.max_logits_rows)"),
    )
}

fn rest(request: &Request) -> Result<(), Refused> {
    let share = |priority: f32| (0.0..=1.0).contains(&priority);
    within("priority", request.priority, share, "it must be from 0 to 1")?;
    if request.timeout.is_some_and(|timeout| timeout.is_zero()) {
        return refuse("timeout", 0, "it must be above 0");
    }
    if request.guide.is_some() && matches!(request.search, Search::Beam(_)) {
        return refuse("guided_decoding_guide_type", "there", "beams can't be guided");
    }
    let salt = request.cache_salt.as_ref().map_or(0, String::len);
    within(
        "cache_salt",
        salt,
        |bytes| bytes <= MOST_SALT_BYTES,
        &format!("at most {MOST_SALT_BYTES} bytes are allowed"),
    )?;
    retention(&request.retention)
}

fn retention(retention: &Retention) -> Result<(), Refused> {
    let ranges = &retention.ranges;
    within(
        "retention_token_range_starts",
        ranges.len(),
        |count| count <= MOST_WORDS,
        &format!("at most {MOST_WORDS} ranges are allowed"),
    )?;
    let priorities = ranges.iter().map(|range| range.priority).chain([retention.decode_priority]);
    for RetentionPriority(priority) in priorities {
        let most = RetentionPriority::MAX.0;
        within(
            "retention priority",
            priority,
            |priority| priority <= most,
            &format!("0 to {most} are allowed"),
        )?;
    }
    Ok(())
}

fn length(request: &Request, limits: &EngineLimits) -> Result<(), Refused> {
    let prompt = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
    let (max_tokens, limit) = (request.max_tokens, limits.max_seq_len);
    if u64::from(prompt) + u64::from(max_tokens) > u64::from(limit) {
        return Err(Refused::TooLong { prompt, max_tokens, limit });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::RequestId;

    const LIMITS: EngineLimits = EngineLimits {
        max_seq_len: 100,
        kv_cache_tokens: 400,
        max_queue_size: 8,
        vocab_size: 10,
        max_batch_size: 8,
        max_beam_width: 4,
        max_logits_rows: 20,
    };

    #[test]
    fn prompt_and_output_fit_the_context_to_the_token() {
        let request = |max_tokens| Request::new(RequestId(1), vec![1; 40], max_tokens);
        assert_eq!(LIMITS.check(&request(60)), Ok(()));
        for max_tokens in [61, i32::MAX as u32, u32::MAX] {
            let refused = Refused::TooLong { prompt: 40, max_tokens, limit: 100 };
            assert_eq!(LIMITS.check(&request(max_tokens)), Err(refused));
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        let mut request = Request::new(RequestId(1), vec![1], 5);
        request.search = Search::Sample { sequences: 9 };
        let refused = LIMITS.check(&request).unwrap_err().to_string();
        assert_eq!(refused, "num_return_sequences is 9: 1 to 8 are allowed (model.max_batch_size)");
        let mut request = Request::new(RequestId(1), vec![1, 10], 5);
        let refused = LIMITS.check(&request).unwrap_err().to_string();
        assert_eq!(refused, "prompt is token 10: token ids are below 10");
        request.prompt.clear();
        let refused = LIMITS.check(&request).unwrap_err().to_string();
        assert_eq!(refused, "prompt is empty: at least one token is needed");
    }
}
