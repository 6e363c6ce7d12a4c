//! Many streams through any number of deaths: each gets what an undisturbed engine gives, or fails
//! after two.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use shardrun_gateway::{RouteConfig, RoutedEngine, Routing};
use shardrun_metrics::{MetricsPage, Model, ModelCounter, ModelLabel};
use shardrun_wire::{
    BeamSearch, EngineClient, FinishReason, Request, RequestId, Resumed, Search, Wanted,
};
use tokio::time::sleep;

use super::reader::{Read, request};
use super::scripted::{Death, Log, Parts, Scripted, token, undisturbed};

const STREAMS: u64 = 32;
const CASES: u32 = 300;

/// An instance's life, and how long it takes until it is noticed that it is over, and until the next
/// one serves.
#[derive(Clone, Debug)]
struct Life {
    fuse: u64,
    death: Death,
    /// Stopped on purpose after so long, unless it died before.
    retired_ms: Option<u64>,
    noticed_ms: u64,
    restart_ms: u64,
}

#[derive(Clone, Debug)]
struct Plan {
    submit_ms: u64,
    cancel_ms: Option<u64>,
    leaves: bool,
    prompt: usize,
    max_tokens: u32,
    search: Search,
    wanted: Wanted,
    /// The first sequence's token at this place is a stop word.
    stop_at: Option<usize>,
    /// It comes with so many tokens of its first sequence.
    resumed: usize,
}

impl Plan {
    fn request(&self, id: u64) -> Request {
        let mut request = request(id, self.max_tokens);
        request.prompt = (0..self.prompt as u32).map(|at| at % 7).collect();
        request.search = self.search;
        request.wanted = self.wanted;
        request.stop_words.extend(self.stop_at.map(|at| vec![token(id, 0, at)]));
        if let Search::Beam(_) = self.search {
            request.wanted.generation_logits = false;
        }
        request
    }

    /// The same as one that another engine has begun, if it has not ended with that.
    fn begun(&self, mut request: Request) -> (Request, Vec<u32>) {
        let (whole, _) = undisturbed(&request, 0);
        if self.resumed >= whole.len() || self.search != Search::ONE || self.resumed == 0 {
            return (request, Vec::new());
        }
        let tokens = whole[..self.resumed].to_vec();
        request.resume = vec![Resumed { tokens: tokens.clone(), finished: false }];
        (request, tokens)
    }
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let death =
        prop::sample::select(vec![Death::Silent, Death::Failing, Death::Frozen, Death::Hanging]);
    let retired_ms = prop::option::weighted(0.2, 5_u64..200);
    let life = (1_u64..400, death, retired_ms, 0_u64..300, 0_u64..200).prop_map(
        |(fuse, death, retired_ms, noticed_ms, restart_ms)| Life {
            fuse,
            death,
            retired_ms,
            noticed_ms,
            restart_ms,
        },
    );
    prop::collection::vec(life, 0..4)
}

fn plan() -> impl Strategy<Value = Plan> {
    let beams = (2_u32..4, 1_u32..3).prop_map(|(width, sequences)| {
        Search::Beam(BeamSearch {
            width,
            sequences,
            length_penalty: 0.0,
            diversity_rate: 0.0,
            early_stopping: 1,
        })
    });
    let search = prop_oneof![
        5 => Just(Search::ONE),
        2 => (2_u32..4).prop_map(|sequences| Search::Sample { sequences }),
        1 => beams,
    ];
    let wanted = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(
        |(log_probs, context_logits, generation_logits)| Wanted {
            log_probs,
            context_logits,
            generation_logits,
        },
    );
    let times = (0_u64..100, prop::option::weighted(0.1, 0_u64..300), any::<bool>());
    let stop_at = prop::option::weighted(0.3, 0_usize..60);
    (times, 1_usize..20, 1_u32..60, search, wanted, stop_at, 0_usize..20).prop_map(
        |(times, prompt, max_tokens, search, wanted, stop_at, resumed)| Plan {
            submit_ms: times.0,
            cancel_ms: times.1,
            leaves: times.2,
            prompt,
            max_tokens,
            search,
            wanted,
            stop_at,
            resumed,
        },
    )
}

/// Starts an instance again and again, as a supervisor does.
async fn supervise(
    engine: Arc<RoutedEngine>,
    instance: u32,
    lives: Vec<Life>,
    log: Arc<Mutex<Log>>,
) {
    let (step, answer) = (Duration::from_millis(5), Duration::from_millis(2));
    for Life { fuse, death, retired_ms, noticed_ms, restart_ms } in lives {
        let scripted = Scripted::new(Parts { log: log.clone(), step, answer, fuse, death });
        engine.attach(instance, scripted.clone());
        let retired = async {
            match retired_ms {
                Some(after) => sleep(Duration::from_millis(after)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = scripted.died() => {
                sleep(Duration::from_millis(noticed_ms)).await;
                engine.detach(instance);
            }
            () = retired => {
                engine.retire(instance);
                scripted.shut_down();
            }
        }
        sleep(Duration::from_millis(restart_ms)).await;
    }
    engine.attach(instance, Scripted::healthy(&log));
}

/// One client: reads to the end, cancels when its plan says so, or leaves while it waits.
async fn stream(engine: Arc<RoutedEngine>, plan: Plan, id: u64) -> Option<Read> {
    sleep(Duration::from_millis(plan.submit_ms)).await;
    let whole = plan.request(id);
    let (request, begun) = plan.begun(whole.clone());
    let outputs = match plan.cancel_ms.map(Duration::from_millis) {
        None => engine.submit(request).await.unwrap(),
        Some(after) => {
            let canceller = engine.clone();
            tokio::spawn(async move {
                sleep(after).await;
                canceller.cancel(RequestId(id));
            });
            // A client that leaves does not wait for the answer.
            let patience = if plan.leaves { after } else { Duration::MAX };
            tokio::time::timeout(patience, engine.submit(request)).await.ok()?.unwrap()
        }
    };
    // The rest is as if it had generated all.
    let mut read = Read::of(&whole);
    read.has(&begun);
    Some(read.rest(outputs).await)
}

async fn play(policy: Routing, lives: Vec<Vec<Life>>, plans: Vec<Plan>) {
    let page = Arc::new(MetricsPage::in_memory());
    let config = RouteConfig {
        policy,
        tokens_per_block: 4,
        max_waiting: 1000,
        deaths_allowed: 2,
        request_timeout: None,
        queue_timeout: None,
    };
    let engine = Arc::new(RoutedEngine::new(config, page.clone()));
    let log = Arc::new(Mutex::new(Log::default()));
    let supervisors: Vec<_> = lives
        .into_iter()
        .zip(0..)
        .map(|(lives, instance)| {
            tokio::spawn(supervise(engine.clone(), instance, lives, log.clone()))
        })
        .collect();
    engine.settled().await;
    let mut whole = 0;
    let streams: Vec<_> = plans
        .iter()
        .cloned()
        .zip(1..)
        .map(|(plan, id)| (plan.clone(), id, tokio::spawn(stream(engine.clone(), plan, id))))
        .collect();
    for (plan, id, stream) in streams {
        // Longer than all together take.
        let stream = tokio::time::timeout(Duration::from_secs(60), stream).await;
        let stream = stream.unwrap_or_else(|_| panic!("{id} hangs: {plan:?}"));
        let Some(read) = stream.unwrap() else { continue };
        let log = log.lock().unwrap();
        let count = |of: &std::collections::HashMap<u64, u32>| of.get(&id).copied().unwrap_or(0);
        let deaths = count(&log.deaths) + count(&log.unanswered) / 4;
        let cancelled = read.reasons().contains(&FinishReason::Cancelled);
        if let Some(failure) = read.failure() {
            assert!(failure.contains("when they died"), "{failure}");
            assert!(deaths >= 2, "{id}: {failure} after {deaths} deaths");
            read.is_a_beginning();
        } else if cancelled {
            assert!(plan.cancel_ms.is_some());
            read.is_a_beginning();
        } else {
            read.is_whole();
            whole += 1;
        }
    }
    engine.idle().await;
    let count = |counter| page.model(Model::TensorrtLlm, counter).get();
    let short = [ModelCounter::Cancelled, ModelCounter::Failed].map(count);
    assert_eq!(count(ModelCounter::Succeeded), whole);
    assert_eq!(whole + short.iter().sum::<u64>(), STREAMS, "each has one end: {short:?}");
    assert_eq!(engine.counts(ModelLabel::plain()).waiting, 0);
    // Their last instances may have nothing left to die of.
    supervisors.iter().for_each(tokio::task::JoinHandle::abort);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn no_token_is_lost_or_repeated(
        policy in prop::sample::select(
            vec![Routing::RoundRobin, Routing::LeastLoaded, Routing::PrefixAware],
        ),
        lives in prop::collection::vec(lives(), 1..4),
        plans in prop::collection::vec(plan(), STREAMS as usize),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(policy, lives, plans));
    }
}
