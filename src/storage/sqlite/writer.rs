//! The one writer: takes all jobs that wait, runs them in one transaction, commits, answers.
//!
//! Owns the writing connection and with it the order of the log. Nobody is answered before their
//! commit. A job that fails does not fail the others: the transaction is rolled back and each job
//! runs again in one of its own, so jobs must not change anything but the unit they are given.
//!
//! A job that nobody waits for does not cause a commit: it rides with the next that somebody does
//! wait for. Jobs are committed in the order in which they were handed in, whatever they are.

use std::{fs::File, marker::PhantomData, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    error::{again, closed, fenced, is_outage},
    messages,
    recent::Recent,
    requests,
    unit::{Committed, Unit},
};
use crate::{
    domain::{cursor::Position, ids::InstanceNumber},
    storage::{MessageRecord, RequestMark, Result, StorageError},
};

/// Most jobs that wait; more have to wait for a place.
const QUEUE: usize = 1_024;
/// Most jobs of one transaction.
const BATCH: usize = 512;
/// How long jobs that nobody waits for may go without a commit.
const PATIENCE: Duration = Duration::from_millis(20);

/// Something to be written, and what is to be said about it.
#[async_trait]
pub(super) trait Work: Send + Sync + 'static {
    /// The answer.
    type Output: Send + Sync + 'static;
    /// Messages that are stored before the job runs, together with those of all other jobs. The
    /// job finds in `Unit::new_messages` which of them were new.
    fn messages(&self) -> &[MessageRecord] {
        &[]
    }
    /// A request that is remembered before the job runs, together with those of all other jobs.
    fn request(&self) -> Option<(&RequestMark, InstanceNumber, &str)> {
        None
    }
    /// A status that is raised before the job runs, together with those of all other jobs. The job
    /// finds in `Unit::raised` which messages rose.
    fn rise(&self) -> Option<&messages::Raise> {
        None
    }
    /// Does it. May be called again after a rollback.
    async fn run(&self, unit: &mut Unit) -> Result<Self::Output>;
}

/// Work made of its data and a function.
pub(super) struct Steps<Data, Function, Output> {
    data: Data,
    function: Function,
    output: PhantomData<fn() -> Output>,
}

impl<Data, Function, Output> Steps<Data, Function, Output> {
    pub(super) fn new(data: Data, function: Function) -> Self
    where
        Function: for<'a> Fn(&'a Data, &'a mut Unit) -> BoxFuture<'a, Result<Output>>,
    {
        Self {
            data,
            function,
            output: PhantomData,
        }
    }
}

#[async_trait]
impl<Data, Function, Output> Work for Steps<Data, Function, Output>
where
    Data: Send + Sync + 'static,
    Output: Send + Sync + 'static,
    Function:
        for<'a> Fn(&'a Data, &'a mut Unit) -> BoxFuture<'a, Result<Output>> + Send + Sync + 'static,
{
    type Output = Output;

    async fn run(&self, unit: &mut Unit) -> Result<Output> {
        (self.function)(&self.data, unit).await
    }
}

/// Work on its way, whatever its answer is.
#[async_trait]
trait Job: Send + Sync {
    fn messages(&self) -> &[MessageRecord];
    fn request(&self) -> Option<(&RequestMark, InstanceNumber, &str)>;
    fn rise(&self) -> Option<&messages::Raise>;
    async fn run(&mut self, unit: &mut Unit) -> Result<()>;
    fn answer(self: Box<Self>, outcome: Result<()>);
    /// Whether nobody waits for it.
    fn is_patient(&self) -> bool;
}

struct Asked<W: Work> {
    work: W,
    output: Option<W::Output>,
    /// `None` where nobody waits.
    reply: Option<oneshot::Sender<Result<W::Output>>>,
    fence: Option<CancellationToken>,
}

#[async_trait]
impl<W: Work> Job for Asked<W> {
    fn messages(&self) -> &[MessageRecord] {
        self.work.messages()
    }

    fn request(&self) -> Option<(&RequestMark, InstanceNumber, &str)> {
        self.work.request()
    }

    fn rise(&self) -> Option<&messages::Raise> {
        self.work.rise()
    }

    async fn run(&mut self, unit: &mut Unit) -> Result<()> {
        if self
            .fence
            .as_ref()
            .is_some_and(|fence| fence.is_cancelled())
        {
            return Err(fenced());
        }
        self.output = Some(self.work.run(unit).await?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<()>) {
        let Self {
            output,
            reply,
            fence,
            ..
        } = *self;
        // Here, in the order of the log, and before any later job of the same handle runs.
        if let (Err(_), Some(fence)) = (&outcome, fence) {
            fence.cancel();
        }
        if let Some(reply) = reply {
            // Nobody minds if the asker is gone: what is written is written.
            let _ = reply.send(outcome.and_then(|()| output.ok_or_else(closed)));
        }
    }

    fn is_patient(&self) -> bool {
        self.reply.is_none()
    }
}

/// Hands jobs to the writer.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    closing: CancellationToken,
    ended: CancellationToken,
    /// Cut by the first write of this handle that fails; then none of them runs any more.
    fence: Option<CancellationToken>,
}

/// What the writer tells everybody.
pub(super) struct Signals {
    pub(super) recent: Arc<Recent>,
    pub(super) head: watch::Sender<Position>,
    pub(super) writable: watch::Sender<bool>,
    pub(super) commits: watch::Sender<u64>,
}

impl Writer {
    pub(super) fn spawn(
        unit: Unit,
        lock: File,
        probe_interval: Duration,
        signals: Signals,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let writer = Self {
            jobs,
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            fence: None,
        };
        let task = Task {
            unit,
            signals,
            probe_interval,
            _lock: lock,
        };
        let closing = writer.closing.clone();
        let ended = writer.ended.clone().drop_guard();
        tokio::spawn(async move {
            task.run(waiting, closing).await;
            drop(ended);
        });
        writer
    }

    /// The same writer for somebody whose writes build on one another: once one fails, all later
    /// ones are refused and the token says so. What is on disk then is what a crash would leave.
    pub(super) fn fenced(&self) -> (Self, CancellationToken) {
        let fence = CancellationToken::new();
        let writer = Self {
            fence: Some(fence.clone()),
            ..self.clone()
        };
        (writer, fence)
    }

    /// Waits for the commit of this work.
    pub(super) async fn write<W: Work>(&self, work: W) -> Result<W::Output> {
        let (reply, answer) = oneshot::channel();
        let job = Asked {
            work,
            output: None,
            reply: Some(reply),
            fence: self.fence.clone(),
        };
        self.jobs.send(Box::new(job)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Hands this work in and does not wait for its commit, which comes before that of anything
    /// handed in later. If it fails, the fence of this handle says so.
    pub(super) async fn write_soon<W: Work>(&self, work: W) -> Result<()> {
        let job = Asked {
            work,
            output: None,
            reply: None,
            fence: self.fence.clone(),
        };
        self.jobs.send(Box::new(job)).await.map_err(|_| closed())
    }

    /// Waits for the commit of what this function does with this data.
    pub(super) async fn steps<Data, Output, Function>(
        &self,
        data: Data,
        function: Function,
    ) -> Result<Output>
    where
        Data: Send + Sync + 'static,
        Output: Send + Sync + 'static,
        Function: for<'a> Fn(&'a Data, &'a mut Unit) -> BoxFuture<'a, Result<Output>>
            + Send
            + Sync
            + 'static,
    {
        self.write(Steps::new(data, function)).await
    }

    /// Takes no more jobs, does those that wait, and closes the connection.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.ended.cancelled().await;
    }
}

struct Task {
    unit: Unit,
    signals: Signals,
    probe_interval: Duration,
    /// Held as long as the connection is open.
    _lock: File,
}

impl Task {
    async fn run(mut self, mut waiting: mpsc::Receiver<Box<dyn Job>>, closing: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut probe_at = Instant::now();
        // When the jobs in hand go, though nobody waits for them.
        let mut patient_until = Instant::now();
        loop {
            let writable = *self.signals.writable.borrow();
            let in_hand = batch.len();
            tokio::select! {
                biased;
                () = closing.cancelled(), if !waiting.is_closed() => waiting.close(),
                taken = waiting.recv_many(&mut batch, BATCH - in_hand) => {
                    if taken == 0 {
                        self.run_batch(&mut batch).await;
                        break;
                    }
                    if in_hand == 0 {
                        patient_until = Instant::now() + PATIENCE;
                    }
                    if batch.len() < BATCH && batch[in_hand..].iter().all(|job| job.is_patient()) {
                        continue;
                    }
                    self.run_batch(&mut batch).await;
                    probe_at = Instant::now() + self.probe_interval;
                }
                () = sleep_until(patient_until), if in_hand > 0 => {
                    self.run_batch(&mut batch).await;
                    probe_at = Instant::now() + self.probe_interval;
                }
                () = sleep_until(probe_at), if !writable => {
                    self.probe().await;
                    probe_at = Instant::now() + self.probe_interval;
                }
            }
        }
        self.signals.writable.send_replace(false);
        let Self { unit, _lock, .. } = self;
        if let Err(error) = unit.transaction.close().await {
            tracing::warn!(error = %error, "the database did not close cleanly");
        }
    }

    async fn run_batch(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        if batch.is_empty() {
            return;
        }
        let many = batch.len() > 1;
        let outcome = self.transaction(batch).await;
        match outcome {
            Ok(()) => {
                for job in batch.drain(..) {
                    job.answer(Ok(()));
                }
            }
            Err(error) if batch.len() == 1 || is_outage(&error) => {
                for job in batch.drain(..) {
                    job.answer(Err(again(&error)));
                }
            }
            Err(_) => {
                for mut job in batch.drain(..) {
                    let outcome = self.transaction(std::slice::from_mut(&mut job)).await;
                    job.answer(outcome);
                }
            }
        }
        if many {
            // Those who were answered may have more to write: let them say so, or the first of them
            // gets a transaction of its own and all others wait for it.
            tokio::task::yield_now().await;
        }
    }

    /// Runs these jobs in one transaction: all of them or none.
    async fn transaction(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<()> {
        let outcome = attempt(&mut self.unit, jobs).await;
        match outcome {
            // It says nothing about the disk.
            Ok(Committed { wrote: false, .. }) => Ok(()),
            Ok(Committed {
                head,
                events,
                rewrote,
                ..
            }) => {
                if rewrote {
                    self.signals.recent.forget(head);
                } else {
                    self.signals.recent.append(events);
                }
                self.signals.commits.send_modify(|commits| *commits += 1);
                self.signals.head.send_if_modified(|known| {
                    let moved = *known != head;
                    *known = head;
                    moved
                });
                self.set_writable(true);
                Ok(())
            }
            Err(error) => {
                self.unit.roll_back().await;
                self.note(&error);
                Err(error)
            }
        }
    }

    async fn probe(&mut self) {
        let outcome = async {
            self.unit.begin().await?;
            sqlx::query("UPDATE log_state SET probe = probe + 1")
                .execute(self.unit.connection().await?)
                .await?;
            self.unit.commit().await
        }
        .await;
        match outcome {
            Ok(_) => {
                self.set_writable(true);
            }
            Err(error) => {
                self.unit.roll_back().await;
                self.note(&error);
            }
        }
    }

    fn note(&self, error: &StorageError) {
        if is_outage(error) && self.set_writable(false) {
            tracing::error!(error = %error, "the database can't be written");
        }
    }

    /// Says whether this is news.
    fn set_writable(&self, now: bool) -> bool {
        self.signals.writable.send_if_modified(|known| {
            let news = *known != now;
            *known = now;
            news
        })
    }
}

async fn attempt(unit: &mut Unit, jobs: &mut [Box<dyn Job>]) -> Result<Committed> {
    unit.begin().await?;
    messages::store_new(unit, jobs.iter().flat_map(|job| job.messages())).await?;
    requests::store_new(unit, jobs.iter().filter_map(|job| job.request())).await?;
    messages::raise_all(unit, jobs.iter().filter_map(|job| job.rise())).await?;
    for job in jobs.iter_mut() {
        job.run(unit).await?;
    }
    unit.commit().await
}
