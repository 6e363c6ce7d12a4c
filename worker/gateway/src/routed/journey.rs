//! A request from its submission to its end, through as many instances as that takes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use shardrun_wire::{
    BlockHash, EngineState, FinishReason, Finished, Output, OutputSink, OutputStream, Refused,
    Request, RequestId, output_stream,
};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use super::ends::{Ends, Measures};
use super::engine::Registered;
use super::fleet::{Attachment, Departure, Fleet, Load};
use super::place::Placing;
use super::retained::{Misfit, Retained};
use super::times::Times;

/// How long a failure that an instance tells is held back: that the instance itself has failed is known
/// by then.
const DOUBT: Duration = Duration::from_secs(1);

/// So many deaths of instances that had not answered count as one.
const UNANSWERED_A_DEATH: u32 = 4;

/// Where the client's answer goes.
pub(super) type Accept = oneshot::Sender<Result<OutputStream, Refused>>;

/// A request on its way.
pub(super) struct Journey {
    pub(super) fleet: Arc<Fleet>,
    /// As it was submitted.
    pub(super) request: Request,
    pub(super) registered: Registered,
    pub(super) blocks: Vec<BlockHash>,
    pub(super) retained: Retained,
    pub(super) times: Times,
    pub(super) client: Client,
    /// An instance accepted it, once.
    pub(super) started: bool,
    /// Another one had it before the one that has it.
    again: bool,
    /// Instances that died with it, and such that had not answered.
    deaths: u32,
    unanswered: u32,
    /// Attachments that could not be reached: they are dead for it.
    unreachable: Vec<u64>,
    /// Where it was lost last: better not there again.
    avoided: Option<u64>,
    ends: Ends,
}

/// Whoever submitted the request.
pub(super) enum Client {
    /// Waits for the answer. The outputs' memory is made with that: nothing is kept of a request that an
    /// instance refuses.
    Waits(Accept),
    /// Reads, or has left.
    Reads(OutputSink),
    /// Has been told that there is nothing to read.
    Refused,
}

impl Client {
    /// Waits until it no longer waits for an answer; for ever once it has one.
    pub(super) async fn left(&mut self) {
        match self {
            Self::Waits(accept) => accept.closed().await,
            Self::Reads(_) | Self::Refused => std::future::pending().await,
        }
    }

    /// Where outputs go, once it reads.
    fn sink(&self) -> Option<&OutputSink> {
        match self {
            Self::Waits(_) | Self::Refused => None,
            Self::Reads(sink) => Some(sink),
        }
    }
}

/// The request in an instance that has accepted it.
pub(super) struct Stay {
    pub(super) attachment: Arc<Attachment>,
    /// Its id there.
    pub(super) id: RequestId,
    pub(super) outputs: OutputStream,
    pub(super) load: Load,
    /// Values in a row of logits.
    pub(super) vocab_size: usize,
    /// Ends that are held back: sequences that failed, or waited too long for a start that they have
    /// had.
    pub(super) doubtful: Vec<Finished>,
    pub(super) cancelled: bool,
}

/// How a stay ends.
enum Left {
    /// The request has ended.
    Ended,
    /// The instance is lost for it.
    Lost,
    /// The instance let it wait for too long.
    Expired,
}

/// Why a request is not placed.
pub(super) enum Stop {
    /// It ends so.
    End(FinishReason),
    /// No instance takes it.
    Refused(Refused),
    /// Nobody waits for it.
    Left,
}

impl Journey {
    pub(super) fn new(
        fleet: Arc<Fleet>,
        request: Request,
        registered: Registered,
        accept: Accept,
    ) -> Self {
        let timeout = request.timeout.or(fleet.config.request_timeout);
        let retained = Retained::new(&request);
        Self {
            blocks: fleet.blocks(&request),
            ends: Ends::of(retained.open().count()),
            retained,
            times: Times::begin(timeout),
            client: Client::Waits(accept),
            started: false,
            again: false,
            deaths: 0,
            unanswered: 0,
            unreachable: Vec::new(),
            avoided: None,
            fleet,
            request,
            registered,
        }
    }

    pub(super) async fn run(mut self) {
        self.travel().await;
        self.count();
    }

    fn count(&mut self) {
        let before: usize = self.request.resume.iter().map(|resumed| resumed.tokens.len()).sum();
        let measures = Measures {
            prompt_tokens: self.request.prompt.len(),
            generated: self.retained.generated().saturating_sub(before),
            age: self.times.age(),
        };
        self.ends.count(&measures, &self.fleet.page);
    }

    async fn travel(&mut self) {
        loop {
            let placed = Placing::new(self).place().await;
            let mut stay = match placed {
                Ok(stay) => stay,
                Err(stop) => return self.stop(stop),
            };
            match self.stay(&mut stay).await {
                Left::Ended => return,
                Left::Expired => {}
                Left::Lost => self.lost(&stay),
            }
            let Stay { attachment, cancelled, .. } = stay;
            if self.retained.is_over() {
                return;
            }
            if cancelled {
                return self.stop(Stop::End(FinishReason::Cancelled));
            }
            if let Some(reason) = self.doomed() {
                return self.stop(Stop::End(reason));
            }
            info!(
                request = self.request.id.0,
                instance = attachment.instance,
                deaths = self.deaths,
                "a request goes on elsewhere"
            );
            self.avoided = Some(attachment.id);
        }
    }

    /// Hands on what comes, until the request or the instance has ended.
    async fn stay(&mut self, stay: &mut Stay) -> Left {
        let attachment = stay.attachment.clone();
        let departed = attachment.departed();
        tokio::pin!(departed);
        loop {
            tokio::select! {
                biased;
                output = stay.outputs.next() => match output {
                    Some(output) => {
                        if let Err(misfit) = self.take_all(stay, output) {
                            let (request, instance) = (self.request.id.0, attachment.instance);
                            warn!(request, instance, %misfit, "an output doesn't fit its request");
                            attachment.client.cancel(stay.id);
                            return Left::Lost;
                        }
                    }
                    None => break,
                },
                () = self.registered.cancelled(), if !stay.cancelled => {
                    stay.cancelled = true;
                    attachment.client.cancel(stay.id);
                }
                () = &mut departed => {
                    attachment.client.cancel(stay.id);
                    return Left::Lost;
                }
            }
        }
        if self.retained.is_over() {
            return Left::Ended;
        }
        if !stay.outputs.is_finished() {
            return Left::Lost;
        }
        self.judge(stay).await
    }

    /// What to think of an instance that ended sequences so that they should not have.
    async fn judge(&mut self, stay: &mut Stay) -> Left {
        if stay.doubtful.iter().all(|end| end.reason == FinishReason::Expired) {
            return Left::Expired;
        }
        let attachment = &stay.attachment;
        if self.fleet.notice(attachment) == EngineState::Stopped
            || timeout(DOUBT, attachment.departed()).await.is_ok()
        {
            return Left::Lost;
        }
        for end in std::mem::take(&mut stay.doubtful) {
            self.tell(end);
        }
        self.publish();
        Left::Ended
    }

    /// Takes in an output, and those that are there with it, and lets the client see them at once.
    fn take_all(&mut self, stay: &mut Stay, first: Output) -> Result<(), Misfit> {
        let mut next = Some(first);
        let mut taken = Ok(());
        while let Some(output) = next
            && taken.is_ok()
        {
            taken = self.take(stay, output);
            next = stay.outputs.next().now_or_never().flatten();
        }
        self.publish();
        taken
    }

    fn take(&mut self, stay: &mut Stay, output: Output) -> Result<(), Misfit> {
        match output {
            Output::Tokens(tokens) => {
                let had = self.retained.tokens(&tokens)?;
                let log_prob = |at: usize| tokens.log_probs.get(at).copied().unwrap_or_default();
                if let Some(sink) = self.client.sink() {
                    for (at, &token) in tokens.tokens.iter().enumerate().skip(had) {
                        sink.push(tokens.sequence, token, log_prob(at));
                    }
                }
                stay.load.less(tokens.tokens.len() - had);
                self.times.token_came();
            }
            Output::Logits(logits) => {
                let new = self.retained.logits(logits, stay.vocab_size)?;
                if let (Some(new), Some(sink)) = (new, self.client.sink()) {
                    sink.logits(new);
                }
            }
            Output::Finished(end) => match end.reason {
                FinishReason::Failed(_) => stay.doubtful.push(end),
                FinishReason::Expired if self.again => stay.doubtful.push(end),
                _ => self.finish(end)?,
            },
        }
        Ok(())
    }

    fn finish(&mut self, mut end: Finished) -> Result<(), Misfit> {
        if self.retained.finish(end.sequence)? {
            end.account = end.account.map(|account| self.times.whole(account));
            self.tell(end);
        }
        Ok(())
    }

    /// Tells the client of a sequence's end.
    fn tell(&mut self, end: Finished) {
        self.ends.note(&end.reason);
        if let Some(sink) = self.client.sink() {
            sink.finish(end);
        }
    }

    /// Lets the client see all that has come. Whoever sees the end finds it counted.
    fn publish(&mut self) {
        if self.ends.are_all() {
            self.count();
        }
        if let Some(sink) = self.client.sink() {
            sink.publish();
        }
    }

    /// The instance is lost; some of its sequences may have ended without saying so.
    fn lost(&mut self, stay: &Stay) {
        self.fleet.notice(&stay.attachment);
        for (sequence, reason) in self.retained.complete(&self.request) {
            let end = Finished { sequence, reason, score: None, account: None };
            self.finish(end).expect("an open sequence is one of the request's");
        }
        self.publish();
        if stay.attachment.departure() != Some(Departure::Retired) {
            self.deaths += 1;
        }
    }

    /// An instance died before it had answered.
    pub(super) fn unanswered(&mut self, attachment: &Arc<Attachment>) -> Option<FinishReason> {
        self.fleet.notice(attachment);
        self.unreachable.push(attachment.id);
        if attachment.departure() != Some(Departure::Retired) {
            self.unanswered += 1;
        }
        self.doomed()
    }

    /// The instances that may take it, the best first.
    pub(super) fn candidates(&self) -> Vec<Arc<Attachment>> {
        let mut order = self.fleet.order(&self.blocks);
        order.retain(|one| !self.unreachable.contains(&one.id));
        order.sort_by_key(|one| self.avoided == Some(one.id));
        order
    }

    /// Whether too many have died with it.
    fn doomed(&self) -> Option<FinishReason> {
        let deaths = self.deaths + self.unanswered / UNANSWERED_A_DEATH;
        (deaths >= self.fleet.config.deaths_allowed).then(|| {
            FinishReason::Failed(format!(
                "it was running in {deaths} instances of the model when they died, and is not tried \
                 again"
            ))
        })
    }

    /// An instance has it.
    pub(super) fn placed(&mut self) {
        self.again = std::mem::replace(&mut self.started, true);
        if self.again {
            self.fleet.counts.resubmitted.fetch_add(1, Ordering::Relaxed);
        }
        self.times.placed();
    }

    /// Tells the client that its request is accepted, the first time; says whether it still waits.
    pub(super) fn accept(&mut self) -> bool {
        match std::mem::replace(&mut self.client, Client::Refused) {
            Client::Waits(accept) => {
                let (sink, outputs) = output_stream(&self.request);
                self.client = Client::Reads(sink);
                accept.send(Ok(outputs)).is_ok()
            }
            before => {
                self.client = before;
                true
            }
        }
    }

    /// No instance takes it. Whoever hears that counts it.
    fn refuse(&mut self, refused: Refused) {
        if let Client::Waits(accept) = std::mem::replace(&mut self.client, Client::Refused)
            && accept.send(Err(refused)).is_err()
        {
            self.ends.note(&FinishReason::Cancelled);
        }
    }

    fn stop(&mut self, stop: Stop) {
        let reason = match stop {
            Stop::Left => return self.ends.note(&FinishReason::Cancelled),
            Stop::End(reason) => reason,
            Stop::Refused(refused) if self.started => FinishReason::Failed(refused.to_string()),
            Stop::Refused(refused) => return self.refuse(refused),
        };
        self.accept();
        let open: Vec<u32> = self.retained.open().collect();
        for sequence in open {
            let reason = reason.clone();
            self.tell(Finished { sequence, reason, score: None, account: None });
        }
        self.publish();
    }
}
