//! The engine: one model, one reply store, one policy.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use yingda_models::{Encoded, Guarantee, ModelError, ModelFolder, Thresholds, context};

use crate::{
    Asker, Conversation, Decision, EngineError, Hit, KnowledgeEntry, ModelInfo, PastTurn, PolicyConfig, RankedLabel,
    Response, Role, SentimentScores, StoreConfig, Timings, Understanding, WorkerConfig,
    policy::{Gates, Situation},
    ranking::{
        LabelledQuestion, Ranked, Seen, TuneOptions, TuneReport, Tuning,
        features::{Features, Question},
        tune,
    },
    rules::{self, Call, Progress, Rules, Typed, Verdict},
    store::{Candidate, Contents, FORMAT, Method, ReplyStore, SearchQuery, Store, StoredReply, check_model},
    terms::Terms,
    worker::{Done, Worker},
};

/// Knowledge entries that a decision looks at.
const HITS: usize = 8;

/// Texts longer than this many bytes are tokenized off the async threads.
const LONG_TEXT: usize = 2048;

/// All that an engine is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Model folder.
    pub model: PathBuf,
    /// Where replies are kept.
    pub store: StoreConfig,
    /// Limits of the model thread.
    #[serde(default)]
    pub worker: WorkerConfig,
    /// Words, thresholds and fixed sentences of the reply decision.
    #[serde(default)]
    pub policy: PolicyConfig,
}

/// A model with its thread.
struct Serving {
    folder: Arc<ModelFolder>,
    worker: Worker,
    thresholds: Thresholds,
    /// What was certified for the model; thresholds that the settings file names take its place.
    guarantee: Option<Guarantee>,
    info: ModelInfo,
}

struct Shared {
    config: EngineConfig,
    store: Store,
    serving: RwLock<Arc<Serving>>,
    /// Knowledge entries in the store.
    entries: AtomicUsize,
    /// The second stage that goes with what is in the store.
    tuning: RwLock<Arc<Tuning>>,
    rules: RwLock<Arc<Rules>>,
    closed: AtomicBool,
}

/// Understands, retrieves, decides. Clones share one model and one store.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

impl Engine {
    /// Opens the model folder and the store, and runs one text through the model.
    ///
    /// # Errors
    /// When the folder or the store cannot be used, limits contradict each other, or the store was filled by another model.
    pub async fn open(config: EngineConfig) -> Result<Self, EngineError> {
        Self::open_checked(config, true).await
    }

    /// As [`Engine::open`], for filling the store anew, also beside a service that uses it: what is in the store is not opened,
    /// and what another model left there does not matter.
    ///
    /// # Errors
    /// When the folder or the store cannot be used, or limits contradict each other.
    pub async fn open_to_index(config: EngineConfig) -> Result<Self, EngineError> {
        Self::open_checked(config, false).await
    }

    async fn open_checked(config: EngineConfig, to_serve: bool) -> Result<Self, EngineError> {
        config.policy.validate()?;
        let folder = load_folder(&config).await?;
        let store =
            if to_serve { Store::open(&config.store).await? } else { Store::open_to_write(&config.store).await? };
        let contents = store.contents().await?;
        if to_serve {
            check_model(&store, contents.as_ref(), &folder.model_id)?;
        }
        let serving = RwLock::new(Arc::new(make_serving(folder, &config, &store).await?));
        let (entries, tuning, rules) = (AtomicUsize::new(0), RwLock::default(), RwLock::default());
        let closed = AtomicBool::new(false);
        let engine = Self(Arc::new(Shared { config, store, serving, entries, tuning, rules, closed }));
        engine.note(contents);
        Ok(engine)
    }

    /// Notes what the store holds now.
    fn note(&self, contents: Option<Contents>) {
        let (entries, tuning) = contents.map_or((0, None), |contents| (contents.entries, contents.tuning));
        self.0.entries.store(entries, Ordering::Relaxed);
        self.set_tuning(tuning.unwrap_or_default());
    }

    fn set_tuning(&self, tuning: Tuning) {
        *self.0.tuning.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tuning);
    }

    /// The second stage in use.
    pub fn tuning(&self) -> Arc<Tuning> {
        self.0.tuning.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks what a file of rules says, without using it. The intents that it names should be the model's, but need not.
    ///
    /// # Errors
    /// Everything that is wrong, a sentence each, with the rule or flow and the field.
    pub fn check_rules(&self, file: serde_json::Value) -> Result<Rules, Vec<String>> {
        let serving = self.serving();
        Rules::new(file, |text| serving.folder.tokenizer.contract().model_text(text))
    }

    /// Uses other rules from now on.
    pub fn set_rules(&self, rules: Rules) {
        for (rule, intent) in rules.unknown_intents(&self.serving().info.intents) {
            tracing::warn!(rule, intent, "a rule names an intent that the model does not know");
        }
        *self.0.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    fn rules(&self) -> Arc<Rules> {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on with a flow whose call was answered. `None` when the rules no longer have that flow.
    pub fn answered(
        &self,
        call: &Call,
        answer: &serde_json::Map<String, serde_json::Value>,
        asker: &Asker,
    ) -> Option<(Decision, Progress)> {
        self.rules().answered(call, answer, asker, &self.0.config.policy, now())
    }

    fn serving(&self) -> Arc<Serving> {
        self.0.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is served now.
    pub fn info(&self) -> ModelInfo {
        ModelInfo { knowledge_entries: self.0.entries.load(Ordering::Relaxed), ..self.serving().info.clone() }
    }

    /// Texts that wait for the model now.
    pub fn waiting(&self) -> usize {
        self.serving().worker.waiting()
    }

    /// The text with personal data masked, otherwise as it was typed: what may be stored and logged.
    pub fn mask(&self, text: &str) -> String {
        self.serving().folder.tokenizer.contract().mask(text).0
    }

    /// Understands texts, batched with whatever else waits; answers in order.
    ///
    /// # Errors
    /// When the queue is full or the model fails.
    pub async fn understand(&self, texts: Vec<String>) -> Result<Vec<Understanding>, EngineError> {
        let serving = self.serving();
        // Dropped with this future, so that a caller that leaves takes its texts out of the queue.
        let mut running = JoinSet::new();
        let all = texts.len();
        for (index, text) in texts.into_iter().enumerate() {
            let (engine, serving) = (self.clone(), Arc::clone(&serving));
            running.spawn(async move { (index, engine.understand_one(&serving, text, &[]).await) });
        }
        let mut understood: Vec<Option<Understanding>> = (0..all).map(|_| None).collect();
        while let Some(done) = running.join_next().await {
            let (index, result) = done.map_err(|_| EngineError::WorkerStopped)?;
            understood[index] = Some(result?.0);
        }
        let understood = understood.into_iter().flatten().collect();
        Ok(understood)
    }

    async fn understand_one(
        &self,
        serving: &Serving,
        text: String,
        turns: &[PastTurn],
    ) -> Result<(Understanding, Timings), EngineError> {
        if self.0.closed.load(Ordering::Relaxed) {
            return Err(EngineError::WorkerStopped);
        }
        let started = Instant::now();
        let encoded = if text.len() > LONG_TEXT {
            let (folder, turns) = (Arc::clone(&serving.folder), turns.to_vec());
            tokio::task::spawn_blocking(move || encode(&folder, &text, &turns))
                .await
                .map_err(|_| EngineError::WorkerStopped)??
        } else {
            encode(&serving.folder, &text, turns)?
        };
        let (tokens, truncated) = (encoded.ids.len(), encoded.truncated);
        let tokenizing = started.elapsed().as_secs_f64() * 1e3;
        let Done { prediction, queue_ms, model_ms } = serving.worker.run(encoded).await?;
        let labels = &serving.folder.settings.labels;
        let mut intents: Vec<RankedLabel> = labels
            .intents
            .iter()
            .zip(prediction.intents)
            .map(|(label, probability)| RankedLabel { label: label.clone(), probability })
            .collect();
        intents.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        let sentiment = match prediction.sentiments[..] {
            [negative, neutral, positive] => SentimentScores { negative, neutral, positive },
            _ => SentimentScores::default(),
        };
        let understanding = Understanding { intents, sentiment, embedding: prediction.embedding, tokens, truncated };
        let timings = Timings { queue_ms, model_ms: model_ms + tokenizing, ..Timings::default() };
        Ok((understanding, timings))
    }

    /// The knowledge entries that most likely answer a text, likeliest first, at most `limit`.
    ///
    /// # Errors
    /// When the queue is full, or the model or the store fails.
    pub async fn search(&self, text: &str, limit: usize) -> Result<Vec<Hit>, EngineError> {
        let serving = self.serving();
        let (understanding, _) = self.understand_one(&serving, text.to_owned(), &[]).await?;
        let model_text = serving.folder.tokenizer.contract().model_text(text);
        let mut ranked = self.retrieve(&serving, &understanding, &model_text, limit).await?;
        ranked.hits.truncate(limit);
        Ok(ranked.hits)
    }

    /// What the store is asked for a text that was understood.
    pub fn query(&self, understanding: &Understanding, text: &str, method: Method) -> SearchQuery {
        let model_text = self.serving().folder.tokenizer.contract().model_text(text);
        let (embedding, terms) = (understanding.embedding.clone(), Terms::of_query(&model_text));
        SearchQuery { embedding, terms, method, exact: false }
    }

    /// What the store finds, not yet judged: at least `entries` entries, where there are so many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn candidates(&self, query: &SearchQuery, entries: usize) -> Result<Vec<Candidate>, EngineError> {
        self.0.store.search(&self.serving().info.model_id, query, entries, today()).await
    }

    /// Searches for what was understood and judges what was found.
    async fn retrieve(
        &self,
        serving: &Serving,
        understanding: &Understanding,
        model_text: &str,
        entries: usize,
    ) -> Result<Ranked, EngineError> {
        let (embedding, terms) = (understanding.embedding.clone(), Terms::of_query(model_text));
        let query = SearchQuery { embedding, terms, method: Method::Fused, exact: false };
        let candidates = self.0.store.search(&serving.info.model_id, &query, entries, today()).await?;
        Ok(self.tuning().ranker.rank(&self.question(&query.terms, understanding), candidates))
    }

    fn question<'a>(&'a self, terms: &'a Terms, understanding: &'a Understanding) -> Question<'a> {
        Question {
            terms,
            intents: &understanding.intents,
            out_of_scope: &self.0.config.policy.out_of_scope_intents,
            negative: understanding.sentiment.negative,
        }
    }

    /// Decides what to do with a customer's message: understand, retrieve, decide.
    ///
    /// # Errors
    /// When the queue is full, or the model or the store fails.
    pub async fn respond(&self, conversation: &Conversation, text: &str) -> Result<Response, EngineError> {
        let started = Instant::now();
        let serving = self.serving();
        let (understanding, mut timings) = self.understand_one(&serving, text.to_owned(), &conversation.turns).await?;
        let searching = Instant::now();
        let model_text = serving.folder.tokenizer.contract().model_text(text);
        let found = self.retrieve(&serving, &understanding, &model_text, HITS).await;
        // Rules and people are there also when the store is not.
        let (Ranked { mut hits, relevant }, failure) = match found {
            Ok(ranked) => (ranked, None),
            Err(error) => (Ranked { hits: Vec::new(), relevant: 0.0 }, Some(error)),
        };
        hits.truncate(HITS);
        timings.search_ms = searching.elapsed().as_secs_f64() * 1e3;
        let situation = Situation {
            text: &model_text,
            intents: &understanding.intents,
            sentiment: understanding.sentiment,
            hits: &hits,
            relevant,
            conversation,
        };
        let policy = &self.0.config.policy;
        let gates = Gates {
            thresholds: &serving.thresholds,
            answers: policy.answers.unwrap_or(self.tuning().thresholds),
            guarantee: serving.guarantee.as_ref(),
        };
        let verdict = rules::decide(&self.rules(), Typed { text, now: now() }, &situation, policy, gates);
        if let Some(error) = failure {
            if !verdict.stands_without_store() {
                return Err(error);
            }
            tracing::warn!(%error, "decided without the reply store");
        }
        let Verdict { decision, rule, progress: flow } = verdict;
        timings.total_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(Response { decision, rule, flow, understanding, hits, relevant, timings })
    }

    /// Fits the second stage on labelled questions and, unless `dry_run`, keeps it with the store. A question that is a wording of
    /// the knowledge is judged as if that wording were not there. From `only_judged` nothing is learnt; they are in the report's
    /// figures. `progress(done, all)` counts questions.
    ///
    /// # Errors
    /// When there are too few questions, or the model or the store fails. Nothing is kept then.
    pub async fn tune(
        &self,
        questions: &[LabelledQuestion],
        only_judged: &[LabelledQuestion],
        options: TuneOptions,
        dry_run: bool,
        progress: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<(Tuning, TuneReport), EngineError> {
        let all = questions.len() + only_judged.len();
        let mut seen = Vec::with_capacity(all);
        for (done, question) in questions.iter().chain(only_judged).enumerate() {
            progress(done, all);
            seen.push(self.see(question).await?);
        }
        progress(all, all);
        let judged = seen.split_off(questions.len());
        let (tuning, report) = tokio::task::spawn_blocking(move || tune(&seen, &judged, options))
            .await
            .map_err(|_| EngineError::WorkerStopped)??;
        if !dry_run {
            self.0.store.keep_tuning(tuning.clone()).await?;
            self.set_tuning(tuning.clone());
        }
        Ok((tuning, report))
    }

    async fn see(&self, question: &LabelledQuestion) -> Result<Seen, EngineError> {
        /// As many as the figures look at.
        const ENTRIES: usize = 10;
        let (understanding, _) = self.understand_one(&self.serving(), question.text.clone(), &[]).await?;
        let mut query = self.query(&understanding, &question.text, Method::Dense);
        let mut orders: [(Vec<String>, f32); 3] = Default::default();
        let mut candidates: Vec<Candidate> = Vec::new();
        for (order, method) in orders.iter_mut().zip([Method::Dense, Method::Sparse, Method::Fused]) {
            query.method = method;
            candidates = self.candidates(&query, ENTRIES).await?;
            // Who asks in the very words of the knowledge is no test of it.
            for candidate in &mut candidates {
                candidate.wordings.retain(|wording| wording.text != question.text);
            }
            candidates.retain(|candidate| !candidate.wordings.is_empty());
            let best = candidates.first().map_or(0.0, Candidate::score);
            *order = (candidates.iter().map(|candidate| candidate.knowledge_id.clone()).collect(), best);
        }
        let asked = self.question(&query.terms, &understanding);
        let features = Features::new(&asked, &candidates);
        let ids = candidates.iter().map(|candidate| candidate.knowledge_id.clone()).collect();
        let right: HashSet<String> = question.knowledge.iter().cloned().collect();
        let without = (!right.is_empty()).then(|| {
            let (gone, left): (Vec<Candidate>, Vec<Candidate>) =
                candidates.into_iter().partition(|candidate| right.contains(&candidate.knowledge_id));
            // An intent that only they had would tell that they are gone.
            let has = |candidates: &[Candidate], label: &String| {
                candidates.iter().any(|candidate| candidate.intent.as_ref() == Some(label))
            };
            let mut intents = understanding.intents.clone();
            intents.retain(|intent| has(&left, &intent.label) || !has(&gone, &intent.label));
            let all: f32 = intents.iter().map(|intent| intent.probability).sum();
            intents.iter_mut().for_each(|intent| intent.probability /= all.max(1e-6));
            Features::new(&Question { intents: &intents, ..asked }, &left)
        });
        Ok(Seen { text: question.text.clone(), features, without, ids, right, orders })
    }

    /// Replaces the whole store by `entries`; `progress(done, all)` counts entries. Returns how many wordings were written.
    ///
    /// # Errors
    /// When an entry cannot be indexed, or the model or the store fails; the old content is then still served.
    pub async fn index(
        &self,
        entries: Vec<KnowledgeEntry>,
        progress: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<usize, EngineError> {
        let mut known = std::collections::HashSet::new();
        for entry in &entries {
            let problem = if entry.id.trim().is_empty() {
                "it has no id"
            } else if !known.insert(&entry.id) {
                "its id stands twice; give every entry its own"
            } else if entry.question.trim().is_empty() {
                "its question is empty"
            } else if entry.answer.trim().is_empty() {
                "its answer is empty"
            } else {
                continue;
            };
            return Err(EngineError::Knowledge { id: entry.id.clone(), message: problem.into() });
        }
        let serving = self.serving();
        let all = entries.len();
        let contract = serving.folder.tokenizer.contract();
        let wordings: Vec<(usize, String)> = entries
            .iter()
            .enumerate()
            .flat_map(|(at, entry)| entry.wordings().into_iter().map(move |wording| (at, wording.to_owned())))
            .collect();
        let length = |wording: &str| Terms::count(&contract.model_text(wording));
        let lengths: usize = wordings.iter().map(|(_, wording)| length(wording)).sum();
        let average = lengths as f32 / wordings.len().max(1) as f32;
        let mut replies = Vec::with_capacity(wordings.len());
        // Never more at once than may wait.
        let at_once = self.0.config.worker.queue.min(self.0.config.worker.batch_texts);
        for chunk in wordings.chunks(at_once) {
            progress(chunk[0].0, all);
            let understood = self.understand(chunk.iter().map(|(_, wording)| wording.clone()).collect()).await?;
            for (understanding, (at, wording)) in understood.into_iter().zip(chunk) {
                replies.push(StoredReply {
                    entry: entries[*at].clone(),
                    wording: wording.clone(),
                    embedding: understanding.embedding,
                    terms: Terms::of_wording(&contract.model_text(wording), average),
                });
            }
        }
        progress(all, all);
        let written = replies.len();
        // What was tuned for this model goes on being used, until it is tuned again.
        let old = self.0.store.contents().await?.filter(|old| old.model_id == serving.info.model_id);
        let contents = Contents {
            format: FORMAT,
            model_id: serving.info.model_id.clone(),
            dimension: serving.info.dimension,
            entries: all,
            wordings: written,
            tuning: old.and_then(|old| old.tuning),
        };
        self.0.store.replace(contents.clone(), replies).await?;
        self.note(Some(contents));
        Ok(written)
    }

    /// Reads the model folder again and looks for a new store content; both are served from then on, without a restart.
    ///
    /// # Errors
    /// When either cannot be used or they do not fit each other; what was served goes on being served.
    pub async fn reload(&self) -> Result<ModelInfo, EngineError> {
        let folder = load_folder(&self.0.config).await?;
        let model_id = folder.model_id.clone();
        let serving = make_serving(folder, &self.0.config, &self.0.store).await?;
        self.0.store.refresh(&model_id).await?;
        let contents = self.0.store.contents().await?;
        check_model(&self.0.store, contents.as_ref(), &model_id)?;
        self.note(contents);
        *self.0.serving.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(serving);
        Ok(self.info())
    }

    /// Takes no more texts. What was accepted is finished by whoever waits for it.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }
}

/// The tokens of a text, with as many of the turns before it as the model reads.
fn encode(folder: &ModelFolder, text: &str, turns: &[PastTurn]) -> Result<Encoded, ModelError> {
    let contract = folder.tokenizer.contract();
    let turns = &turns[turns.len().saturating_sub(folder.settings.context_turns)..];
    let turns: Vec<(bool, String)> =
        turns.iter().map(|turn| (turn.role == Role::User, contract.model_text(&turn.text))).collect();
    let context = context(turns.iter().map(|(customer, text)| (*customer, text.as_str())));
    folder.tokenizer.encode_with_context(&contract.model_text(text), &context)
}

async fn load_folder(config: &EngineConfig) -> Result<Arc<ModelFolder>, EngineError> {
    let path = config.model.clone();
    let folder = tokio::task::spawn_blocking(move || ModelFolder::open(&path, &yingda_models::device("cpu")?, false))
        .await
        .map_err(|_| EngineError::WorkerStopped)??;
    Ok(Arc::new(folder))
}

async fn make_serving(folder: Arc<ModelFolder>, config: &EngineConfig, store: &Store) -> Result<Serving, EngineError> {
    let info = ModelInfo {
        model_id: folder.model_id.clone(),
        intents: folder.settings.labels.intents.clone(),
        dimension: folder.model.encoder().config().hidden_size,
        max_tokens: folder.settings.max_tokens,
        knowledge_entries: 0,
        store: store.describe(),
    };
    let (thresholds, guarantee) = match config.policy.thresholds {
        Some(thresholds) => (thresholds, None),
        None => (folder.settings.thresholds, folder.settings.guarantee.clone()),
    };
    let start = {
        let (folder, config) = (Arc::clone(&folder), config.worker.clone());
        move || Worker::start(folder, &config)
    };
    let worker = tokio::task::spawn_blocking(start).await.map_err(|_| EngineError::WorkerStopped)??;
    Ok(Serving { folder, worker, thresholds, guarantee, info })
}

/// Milliseconds since 1970.
fn now() -> i64 {
    i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// Today in UTC+8, where the customers are, as `YYYYMMDD`.
fn today() -> i64 {
    let china = time::UtcOffset::from_hms(8, 0, 0).unwrap_or(time::UtcOffset::UTC);
    let now = time::OffsetDateTime::now_utc().to_offset(china);
    i64::from(now.year()) * 10_000 + i64::from(u8::from(now.month())) * 100 + i64::from(now.day())
}
