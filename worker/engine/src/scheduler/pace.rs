//! How many prompt tokens go beside tokens that are generated, learned from how long iterations took.
//!
//! An iteration with `d` sequences that generate and `p` prompt tokens is taken to last
//! `generating(d) + p * per_token`: a line that iterations without prompts give, and an average of what the
//! others took beyond it. Both forget, since the time of a token grows with what attention reads. Where a
//! prompt always waits, every iteration would have some and the line would stay as it was, right or wrong:
//! one time doesn't say which of the two has changed. So now and then an iteration goes without.

use std::time::Duration;

/// Most prompt tokens of an iteration in which sequences generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefillBudget {
    /// As many as make it twice as long as it will be once all that runs generates, and 16 at
    /// least; but none in one iteration of 17, which shows what generating takes.
    Auto,
    /// So many; at least one.
    Tokens(usize),
}

/// Prompts may double the time between tokens. It is not the sequences that generate now that are
/// counted, but all that run: else few of them would leave prompts little time, and stay few.
const STRETCH: f64 = 2.0;
/// Prompts always get on, if only by so many tokens.
const LEAST_TOKENS: usize = 16;
/// After so many iterations with prompts and others that generate, one goes without prompts.
const ALONE_AFTER: usize = 16;
/// An iteration that took longer than so many times what was expected counts as that: it may have
/// been the system's doing.
const OUTLIER: f64 = 3.0;
/// What an earlier iteration counts when the next one has come.
const KEEP: f64 = 0.96;
/// Numbers of sequences must vary by more than this before their times tell the slope rather than what a
/// prompt's token takes does: few are kept where most iterations have prompts.
const VARIANCE: f64 = 4.0;

/// What is known of the time of iterations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    budget: PrefillBudget,
    generating: Line,
    prompt_tokens: f64,
    /// What they took.
    prompt_seconds: f64,
    /// Iterations with both since one without prompts.
    mixed: usize,
    /// What the last plan has.
    planned: Load,
}

/// What takes an iteration's time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Tokens of prompts, and of what was lost and is computed again.
    pub(super) prompt: usize,
    /// Sequences that generate.
    pub(super) generating: usize,
}

impl Pace {
    pub(super) fn new(budget: PrefillBudget) -> Self {
        Self {
            budget,
            generating: Line::default(),
            prompt_tokens: 0.0,
            prompt_seconds: 0.0,
            mixed: 0,
            planned: Load::default(),
        }
    }

    /// Notes what the next iteration does.
    pub(super) fn plan(&mut self, load: Load) {
        self.planned = load;
    }

    /// Takes in how long it took.
    pub(super) fn took(&mut self, time: Duration) {
        let Load { prompt, generating } = self.planned;
        let expected = self.seconds(self.planned);
        let mut seconds = time.as_secs_f64();
        if expected > 0.0 {
            seconds = seconds.min(OUTLIER * expected);
        }
        if prompt == 0 {
            self.mixed = 0;
            return self.generating.add(generating as f64, seconds);
        }
        // Before anything was generated alone, a token is a token.
        let alone = generating > 0 && self.generating.is_known();
        let (tokens, beside) = match alone {
            true => (prompt, self.generating(generating)),
            false => (prompt + generating, 0.0),
        };
        self.prompt_tokens = KEEP * self.prompt_tokens + tokens as f64;
        self.prompt_seconds = KEEP * self.prompt_seconds + (seconds - beside).max(0.0);
        if generating > 0 {
            self.mixed += 1;
            self.generating.age();
        }
    }

    /// Most prompt tokens beside so many sequences that generate, of so many that run.
    pub(super) fn most_prompt_tokens(&self, generating: usize, running: usize) -> usize {
        match self.budget {
            _ if generating == 0 => usize::MAX,
            PrefillBudget::Tokens(tokens) => tokens,
            PrefillBudget::Auto if self.mixed >= ALONE_AFTER => 0,
            PrefillBudget::Auto => {
                let left = STRETCH * self.generating(running) - self.generating(generating);
                // Nothing known, or nothing measurable: a cast of what is no number gives 0.
                ((left / self.per_token()) as usize).max(LEAST_TOKENS)
            }
        }
    }

    fn seconds(&self, load: Load) -> f64 {
        let generating = if load.generating > 0 { self.generating(load.generating) } else { 0.0 };
        generating + load.prompt as f64 * self.per_token()
    }

    fn generating(&self, sequences: usize) -> f64 {
        self.generating.at(sequences as f64, self.per_token())
    }

    /// Seconds of a prompt's token; 0 as long as none was measured.
    fn per_token(&self) -> f64 {
        if self.prompt_tokens > 0.0 { self.prompt_seconds / self.prompt_tokens } else { 0.0 }
    }
}

/// Seconds as a line over numbers of sequences: least squares over past iterations.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    weight: f64,
    sequences: f64,
    seconds: f64,
    sequences_squared: f64,
    sequences_seconds: f64,
}

impl Line {
    fn is_known(&self) -> bool {
        self.weight > 0.0
    }

    fn add(&mut self, sequences: f64, seconds: f64) {
        self.age();
        self.weight += 1.0;
        self.sequences += sequences;
        self.seconds += seconds;
        self.sequences_squared += sequences * sequences;
        self.sequences_seconds += sequences * seconds;
    }

    /// Makes what is known count less beside what comes.
    fn age(&mut self) {
        let Self { weight, sequences, seconds, sequences_squared, sequences_seconds } = self;
        for sum in [weight, sequences, seconds, sequences_squared, sequences_seconds] {
            *sum *= KEEP;
        }
    }

    /// The seconds of so many sequences. Numbers of sequences that hardly differed say nothing of the
    /// slope, which then is `usual_slope`.
    fn at(&self, sequences: f64, usual_slope: f64) -> f64 {
        if !self.is_known() {
            return usual_slope * sequences;
        }
        let mean = |sum: f64| sum / self.weight;
        let (mean_sequences, mean_seconds) = (mean(self.sequences), mean(self.seconds));
        let variance = mean(self.sequences_squared) - mean_sequences * mean_sequences;
        let covariance = mean(self.sequences_seconds) - mean_sequences * mean_seconds;
        let slope = (covariance + VARIANCE * usual_slope) / (variance.max(0.0) + VARIANCE);
        // More sequences don't take less time, nor does none take less than none.
        let slope = slope.max(0.0).min(mean_seconds / mean_sequences);
        mean_seconds + slope * (sequences - mean_sequences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds of an iteration on some machine.
    #[derive(Clone, Copy)]
    struct Machine {
        fixed: f64,
        sequence: f64,
        prompt: f64,
    }

    const SMALL: Machine = Machine { fixed: 3.0, sequence: 0.375, prompt: 0.5 };

    impl Machine {
        fn time(self, load: Load) -> f64 {
            let rows = |each: f64, rows: usize| each * rows as f64;
            // What is fixed is hidden behind a long prompt's arithmetic.
            let beside = rows(self.sequence, load.generating) + rows(self.prompt, load.prompt);
            beside + if load.generating > 0 { self.fixed } else { 0.0 }
        }

        fn teach(self, pace: &mut Pace, prompt: usize, generating: usize) {
            let load = Load { prompt, generating };
            pace.plan(load);
            pace.took(Duration::from_secs_f64(self.time(load) / 1e3));
        }
    }

    fn taught(loads: &[(usize, usize)]) -> Pace {
        let mut pace = Pace::new(PrefillBudget::Auto);
        loads.iter().for_each(|&(prompt, generating)| SMALL.teach(&mut pace, prompt, generating));
        pace
    }

    #[test]
    fn nothing_limits_prompts_that_nobody_waits_for() {
        let budgets = [PrefillBudget::Auto, PrefillBudget::Tokens(7)];
        assert!(
            budgets
                .map(Pace::new)
                .iter()
                .all(|pace| { pace.most_prompt_tokens(0, 9) == usize::MAX })
        );
        assert_eq!(Pace::new(PrefillBudget::Tokens(7)).most_prompt_tokens(3, 9), 7);
    }

    #[test]
    fn an_iteration_with_prompts_takes_twice_as_long_as_one_of_all_that_run() {
        let mut pace = taught(&[(512, 0), (200, 4)]);
        for generating in [4, 8, 8, 20, 31, 32] {
            SMALL.teach(&mut pace, 0, generating);
        }
        for generating in [4, 16, 32] {
            let prompt = pace.most_prompt_tokens(generating, 32);
            let time = SMALL.time(Load { prompt, generating });
            let all = SMALL.time(Load { prompt: 0, generating: 32 });
            assert!((0.85..=1.1).contains(&(time / (2.0 * all))), "{generating}: {prompt} tokens");
        }
    }

    #[test]
    fn before_anything_was_generated_alone_a_sequence_is_a_token() {
        let pace = taught(&[(512, 0), (100, 12)]);
        // Twice 32 tokens less 12.
        assert_eq!(pace.most_prompt_tokens(12, 32), 52);
    }

    #[test]
    fn prompts_get_on_even_if_that_takes_long() {
        let slow = Machine { prompt: 50.0, ..SMALL };
        let mut pace = Pace::new(PrefillBudget::Auto);
        assert_eq!(pace.most_prompt_tokens(1, 1), LEAST_TOKENS, "nothing is known");
        slow.teach(&mut pace, 512, 0);
        slow.teach(&mut pace, 0, 1);
        assert_eq!(pace.most_prompt_tokens(1, 2), LEAST_TOKENS);
    }

    #[test]
    fn what_changes_is_learned_anew_and_one_slow_iteration_is_not() {
        let mut pace = taught(&[(512, 0), (0, 8), (0, 8), (64, 8), (64, 8)]);
        let before = pace.most_prompt_tokens(8, 16);
        pace.plan(Load { prompt: 0, generating: 8 });
        pace.took(Duration::from_secs(5));
        let after = pace.most_prompt_tokens(8, 16);
        assert!(after <= 3 * before, "{before} {after}");
        // Attention has more to read: prompts take four times as long.
        let later = Machine { prompt: 2.0, ..SMALL };
        for _ in 0..40 {
            let prompt = pace.most_prompt_tokens(8, 16);
            later.teach(&mut pace, prompt, 8);
            later.teach(&mut pace, 0, 8);
        }
        let prompt = pace.most_prompt_tokens(8, 16);
        let time = later.time(Load { prompt, generating: 8 });
        let all = later.time(Load { prompt: 0, generating: 16 });
        assert!(prompt == LEAST_TOKENS || time < 2.4 * all, "{prompt} tokens");
    }

    /// Iterations on a machine, with a prompt always there; gives the milliseconds of the last one that
    /// had some of it.
    fn serve(machine: Machine, pace: &mut Pace, iterations: u64, generating: usize) -> f64 {
        let mut last = 0.0;
        for iteration in 0..iterations {
            let prompt = pace.most_prompt_tokens(generating, 32).min(512 - generating);
            let load = Load { prompt, generating };
            // A tenth more or less.
            let mixed = iteration.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let noise = 0.9 + (mixed % 201) as f64 / 1e3;
            pace.plan(load);
            pace.took(Duration::from_secs_f64(machine.time(load) * noise / 1e3));
            if prompt > 0 {
                last = machine.time(load);
            }
        }
        last
    }

    #[test]
    fn what_generating_takes_is_learned_anew_where_a_prompt_is_always_there() {
        let short = Machine { fixed: 3.0, sequence: 0.6, prompt: 0.42 };
        let long = Machine { sequence: 3.65, ..short };
        for (before, after) in [(long, short), (short, long)] {
            let twice = 2.0 * after.time(Load { prompt: 0, generating: 32 });
            let mut pace = Pace::new(PrefillBudget::Auto);
            before.teach(&mut pace, 512, 0);
            (0..40).for_each(|_| before.teach(&mut pace, 0, 32));
            serve(before, &mut pace, 100, 30);
            let time = serve(after, &mut pace, 120, 30);
            assert!((0.75..=1.25).contains(&(time / twice)), "{time} ms, twice is {twice} ms");
            for _ in 0..30 {
                let time = serve(after, &mut pace, 100, 30);
                assert!((0.8..=1.2).contains(&(time / twice)), "drifts: {time} of {twice} ms");
            }
        }
    }

    #[test]
    fn one_iteration_of_seventeen_goes_without_prompts_and_only_beside_those_who_generate() {
        let mut pace = taught(&[(512, 0), (0, 8)]);
        for _ in 0..3 {
            for _ in 0..16 {
                let prompt = pace.most_prompt_tokens(8, 16);
                assert!(prompt > 0);
                SMALL.teach(&mut pace, prompt, 8);
            }
            assert_eq!(pace.most_prompt_tokens(8, 16), 0);
            assert_eq!(pace.most_prompt_tokens(0, 16), usize::MAX);
            SMALL.teach(&mut pace, 0, 8);
        }
    }

    #[test]
    fn times_that_make_no_sense_give_a_budget_all_the_same() {
        let mut pace = Pace::new(PrefillBudget::Auto);
        for (prompt, generating, time) in [
            (0, 1, Duration::ZERO),
            (512, 0, Duration::ZERO),
            (16, 3, Duration::MAX),
            (0, 4096, Duration::ZERO),
            (1, 1, Duration::from_nanos(1)),
        ] {
            pace.plan(Load { prompt, generating });
            pace.took(time);
            assert!(pace.most_prompt_tokens(5, 7) >= LEAST_TOKENS);
        }
    }
}
