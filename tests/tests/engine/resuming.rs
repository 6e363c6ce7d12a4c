//! A request that goes on with the tokens that it had, in the same engine or another.

use shardrun_tests::{golden, model};
use shardrun_wire::{Request, RequestId, Resumed, Sampling, Search};

use super::{ask, connect, run, setup};

#[test]
fn a_resubmitted_request_gets_the_tokens_that_it_would_have_got() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let prompt = golden()?.prompts[2].ids.clone();
    let deployment = setup(&model)?.serve()?;
    run(async {
        let engine = connect(&deployment).await?;
        let mut ids = 0;
        let sampled = Sampling {
            top_k: 40,
            top_p: 0.9,
            top_p_decay: 0.97,
            temperature: 1.2,
            repetition_penalty: 1.1,
            frequency_penalty: 0.3,
            no_repeat_ngram_size: 3,
            seed: 77,
            ..Sampling::GREEDY
        };
        for sampling in [Sampling::GREEDY, sampled] {
            for sequences in [1u32, 3] {
                ids += 20;
                let mut request = Request::new(RequestId(ids), prompt.clone(), 40);
                request.sampling = sampling;
                request.search = Search::Sample { sequences };
                request.wanted.log_probs = true;
                let whole = ask(&engine, request.clone()).await?;
                for had in [1, 17, 39] {
                    let mut resumed = request.clone();
                    resumed.id = RequestId(ids + 1 + had as u64 % 10);
                    let part = |n: u32| Resumed {
                        tokens: whole.tokens[&n][..had].to_vec(),
                        finished: false,
                    };
                    resumed.resume = (0..sequences).map(part).collect();
                    let rest = ask(&engine, resumed).await?;
                    for n in 0..sequences {
                        assert_eq!(rest.tokens[&n], whole.tokens[&n][had..], "{n} after {had}");
                        assert_eq!(rest.log_probs[&n], whole.log_probs[&n][had..]);
                    }
                }
            }
        }
        Ok(())
    })
}
