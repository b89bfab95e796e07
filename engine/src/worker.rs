//! The model's own thread: a bounded queue, batches under a token budget, one forward pass each.
//!
//! Callers that left are dropped before a batch is made, and a full queue answers "busy" at once instead of growing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use yingda_models::{Batch, Encoded, ModelError, ModelFolder, Prediction};

use crate::EngineError;

/// Limits of the model thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// Texts that may wait; one more is told "busy".
    pub queue: usize,
    /// Most tokens of a batch; texts lie in it without padding.
    pub batch_tokens: usize,
    /// Most texts of a batch.
    pub batch_texts: usize,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { queue: 512, batch_tokens: 2048, batch_texts: 32 }
    }
}

struct Job {
    text: Encoded,
    queued: Instant,
    answer: oneshot::Sender<Result<Done, EngineError>>,
}

/// What the thread gives back for one text.
pub(crate) struct Done {
    pub(crate) prediction: Prediction,
    pub(crate) queue_ms: f64,
    pub(crate) model_ms: f64,
}

/// A running model thread. It ends when this is dropped, after what waits is done.
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    waiting: Arc<AtomicUsize>,
    capacity: usize,
}

impl Worker {
    /// Starts the thread and runs one text through it.
    pub(crate) fn start(folder: Arc<ModelFolder>, config: &WorkerConfig) -> Result<Self, EngineError> {
        if config.queue == 0 || config.batch_texts == 0 {
            return Err(EngineError::Limits("worker.queue and worker.batch_texts must be at least 1".into()));
        }
        if config.batch_tokens < folder.settings.max_tokens {
            return Err(EngineError::Limits(format!(
                "worker.batch_tokens is {} but the model reads texts of up to {} tokens, which would never fit; raise \
                 worker.batch_tokens",
                config.batch_tokens, folder.settings.max_tokens
            )));
        }
        // The first pass allocates and starts the thread pool: no customer should wait for it.
        folder.predict(&["你好"])?;
        let (jobs, queue) = mpsc::channel(config.queue);
        let waiting = Arc::new(AtomicUsize::new(0));
        let thread = Thread { folder, config: config.clone(), queue, waiting: Arc::clone(&waiting), next: None };
        std::thread::Builder::new()
            .name("model".into())
            .spawn(move || thread.run())
            .map_err(|error| EngineError::Limits(format!("cannot start the model thread: {error}")))?;
        Ok(Self { jobs, waiting, capacity: config.queue })
    }

    /// Texts that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Queues one text and waits for its answer. Dropping the future takes the text out of the queue.
    pub(crate) async fn run(&self, encoded: Encoded) -> Result<Done, EngineError> {
        let (answer, receive) = oneshot::channel();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let job = Job { text: encoded, queued: Instant::now(), answer };
        if let Err(error) = self.jobs.try_send(job) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => {
                    EngineError::Busy { waiting: self.waiting(), capacity: self.capacity }
                }
                mpsc::error::TrySendError::Closed(_) => EngineError::WorkerStopped,
            });
        }
        receive.await.map_err(|_| EngineError::WorkerStopped)?
    }
}

struct Thread {
    folder: Arc<ModelFolder>,
    config: WorkerConfig,
    queue: mpsc::Receiver<Job>,
    waiting: Arc<AtomicUsize>,
    /// A text that did not fit into the batch before.
    next: Option<Job>,
}

impl Thread {
    fn run(mut self) {
        while let Some(batch) = self.batch() {
            if batch.is_empty() {
                continue;
            }
            let started = Instant::now();
            let result = self.predict(&batch);
            let model_ms = started.elapsed().as_secs_f64() * 1e3;
            match result {
                Ok(predictions) => {
                    for (job, prediction) in batch.into_iter().zip(predictions) {
                        let queue_ms = (started - job.queued).as_secs_f64() * 1e3;
                        // A caller that left does not want it any more.
                        let _ = job.answer.send(Ok(Done { prediction, queue_ms, model_ms }));
                    }
                }
                Err(error) => {
                    let message = error.to_string();
                    for job in batch {
                        let _ = job.answer.send(Err(EngineError::Batch(message.clone())));
                    }
                }
            }
        }
    }

    /// The next batch; `None` when nobody can send any more and nothing is left.
    fn batch(&mut self) -> Option<Vec<Job>> {
        let first = match self.next.take() {
            Some(job) => job,
            None => self.queue.blocking_recv()?,
        };
        let mut batch = Vec::new();
        let mut tokens = 0;
        let mut candidate = Some(first);
        while let Some(job) = candidate.take() {
            if job.answer.is_closed() {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
            } else {
                tokens += job.text.ids.len();
                if !batch.is_empty() && (tokens > self.config.batch_tokens || batch.len() == self.config.batch_texts) {
                    self.next = Some(job);
                    break;
                }
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                batch.push(job);
            }
            candidate = self.queue.try_recv().ok();
        }
        Some(batch)
    }

    fn predict(&self, batch: &[Job]) -> Result<Vec<Prediction>, ModelError> {
        let mut texts = Batch::default();
        batch.iter().for_each(|job| texts.push(&job.text.ids, job.text.own));
        self.folder.model.predict(&texts, &self.folder.settings.temperatures)
    }
}
