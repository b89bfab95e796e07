//! The engine: one model, one reply store, one policy. This file understands and answers; [`knowledge`] fills the store, and
//! [`tuning`] fits the second stage.

mod knowledge;
mod tuning;

use std::{
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
    Asker, Conversation, Decision, EngineError, Hit, ModelInfo, PastTurn, PolicyConfig, RankedLabel, Related, Response,
    Role, SentimentScores, StoreConfig, Timings, Understanding, WorkerConfig,
    clock::{now, today},
    follow_up::Earlier,
    policy::{Gates, Situation, calls_off},
    ranking::{Ranked, Tuning, features::Question},
    rules::{self, Call, FlowState, NextStep, Progress, Rules, Typed, Verdict},
    store::{Candidate, Contents, Method, ReplyStore, Scope, SearchQuery, Store, check_model},
    terms::Terms,
    worker::{Done, Worker},
};

/// Knowledge entries that a decision looks at.
const HITS: usize = 8;

/// Entries that are offered after an answer.
const RELATED: usize = 3;

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
    /// Whether the store answered when it was last asked.
    reachable: AtomicBool,
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
        let (reachable, closed) = (AtomicBool::new(true), AtomicBool::new(false));
        let engine = Self(Arc::new(Shared { config, store, serving, entries, tuning, rules, reachable, closed }));
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

    /// What a flow that waits asks for next. `None` when it has waited for too long, or the rules no longer have it.
    pub fn next_step(&self, state: &FlowState, asker: &Asker) -> Option<NextStep> {
        self.rules().next_step(state, asker, now())
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

    /// What is said to a customer who waits for a person, if with this text they call it off. Nothing where something that they said
    /// `before` must reach a person.
    pub fn called_off<'a>(&self, text: &str, before: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let policy = &self.0.config.policy;
        let serving = self.serving();
        let model_text = |text: &str| serving.folder.tokenizer.contract().model_text(text);
        let before: Vec<String> = before.into_iter().map(model_text).collect();
        calls_off(&model_text(text), &before, policy).then(|| policy.called_off_text.clone())
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
        let asked = self.asked(&serving, &understanding, &model_text, &Conversation::default()).await?;
        let ranked = self.retrieve(&serving, &asked, limit, &Scope::on(today())).await?;
        hits(ranked.candidates, limit, &Asker::default())
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
        self.0.store.search(&self.serving().info.model_id, query, entries, &Scope::on(today())).await
    }

    /// What is searched for: a message, and of a short one also what the customer said before it.
    async fn asked(
        &self,
        serving: &Serving,
        understanding: &Understanding,
        model_text: &str,
        conversation: &Conversation,
    ) -> Result<Asked, EngineError> {
        let own_terms = Terms::of_query(model_text);
        let mut asked = Asked {
            query: SearchQuery {
                embedding: understanding.embedding.clone(),
                terms: own_terms.clone(),
                method: Method::Fused,
                exact: false,
            },
            own_terms,
            intents: understanding.intents.clone(),
            negative: understanding.sentiment.negative,
        };
        let acknowledgements = &self.0.config.policy.acknowledgements;
        // Whoever is asked for something answers that, or asks for something else in so many words.
        let is_asked = conversation.flow.as_ref().is_some_and(|state| state.waits(crate::clock::now()));
        if !is_asked && let Some(earlier) = Earlier::of(conversation, model_text, acknowledgements) {
            let together = match self.understand_one(serving, earlier.together(model_text), &[]).await {
                Ok((together, _)) => together,
                // The message alone is better than none.
                Err(EngineError::Busy { .. }) => return Ok(asked),
                Err(error) => return Err(error),
            };
            let earlier_text = serving.folder.tokenizer.contract().model_text(&earlier.text);
            asked.query.embedding = earlier.embedding(&understanding.embedding, &together.embedding);
            asked.query.terms = earlier.terms(&asked.own_terms, &Terms::of_query(&earlier_text));
            asked.intents = earlier.intents(&understanding.intents, &together.intents);
        }
        Ok(asked)
    }

    /// Searches and judges what was found.
    async fn retrieve(
        &self,
        serving: &Serving,
        asked: &Asked,
        entries: usize,
        scope: &Scope,
    ) -> Result<Ranked, EngineError> {
        let candidates = self.0.store.search(&serving.info.model_id, &asked.query, entries, scope).await?;
        Ok(self.tuning().ranker.rank(&asked.question(&self.0.config.policy), candidates))
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
        let asker = &conversation.asker;
        let scope =
            Scope { channel: asker.channel.clone(), audiences: Some(asker.audiences.clone()), ..Scope::on(today()) };
        let found = match self.0.reachable.load(Ordering::Relaxed) {
            true => {
                let asked = self.asked(&serving, &understanding, &model_text, conversation).await?;
                self.retrieve(&serving, &asked, HITS, &scope).await.map(|ranked| Some((asked, ranked)))
            }
            // Nobody waits for a store that did not answer, until it does.
            false => Ok(None),
        };
        let (asked, hits, relevant, unavailable) = match found {
            Ok(Some((asked, Ranked { candidates, relevant }))) => {
                (Some(asked), hits(candidates, HITS, asker)?, relevant, false)
            }
            Ok(None) => (None, Vec::new(), 0.0, true),
            Err(error @ (EngineError::Store { .. } | EngineError::StoreOfAnotherModel { .. })) => {
                tracing::error!(%error, "a message is answered without the reply store");
                self.0.reachable.store(false, Ordering::Relaxed);
                (None, Vec::new(), 0.0, true)
            }
            Err(error) => return Err(error),
        };
        timings.search_ms = searching.elapsed().as_secs_f64() * 1e3;
        let situation = Situation {
            text: &model_text,
            intents: &understanding.intents,
            sentiment: understanding.sentiment,
            hits: &hits,
            relevant,
            unavailable,
            conversation,
        };
        let policy = &self.0.config.policy;
        let gates = Gates {
            thresholds: &serving.thresholds,
            answers: policy.answers.unwrap_or(self.tuning().thresholds),
            guarantee: serving.guarantee.as_ref(),
        };
        let verdict = rules::decide(&self.rules(), Typed { text, now: now() }, &situation, policy, gates);
        let Verdict { decision, rule, progress: flow } = verdict;
        let related = match (&decision, asked) {
            (Decision::Reply { knowledge_id: Some(answered), .. }, Some(asked)) => {
                self.related(&serving, &asked, answered, asker, scope).await
            }
            _ => Vec::new(),
        };
        timings.total_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(Response { decision, rule, flow, understanding, hits, related, relevant, unavailable, timings })
    }

    /// Entries about products that the customer bought or looked at: those of the present intent and near to the message first. An
    /// offer is no answer, so what goes wrong here is logged and nothing is offered.
    async fn related(
        &self,
        serving: &Serving,
        asked: &Asked,
        answered: &str,
        asker: &Asker,
        scope: Scope,
    ) -> Vec<Related> {
        let known =
            || asker.bought.iter().map(|product| (product, true)).chain(asker.viewed.iter().map(|it| (it, false)));
        let products: Vec<String> = known().map(|(product, _)| product.clone()).collect();
        if products.is_empty() {
            return Vec::new();
        }
        let query = SearchQuery { method: Method::Dense, ..asked.query.clone() };
        let found = self.0.store.search(&serving.info.model_id, &query, HITS, &Scope { products, ..scope }).await;
        let mut candidates = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "nothing can be offered beside an answer");
            Vec::new()
        });
        let of_intent = |candidate: &Candidate| {
            let intent = asked.intents.iter().find(|intent| Some(&intent.label) == candidate.intent.as_ref());
            candidate.cosine() + intent.map_or(0.0, |intent| intent.probability)
        };
        candidates.retain(|candidate| candidate.knowledge_id != answered);
        candidates.sort_by(|a, b| of_intent(b).total_cmp(&of_intent(a)));
        let related = candidates.iter().filter_map(|candidate| {
            let entry = candidate.entry().ok()?;
            let (product, bought) = known().find(|(product, _)| entry.products.contains(product))?;
            Some(Related { knowledge_id: entry.id, question: entry.question, product: product.clone(), bought })
        });
        related.take(RELATED).collect()
    }

    /// Reads the model folder again and looks for a new store content; both are served from then on, without a restart.
    ///
    /// # Errors
    /// When either cannot be used or they do not fit each other; what was served goes on being served.
    pub async fn reload(&self) -> Result<ModelInfo, EngineError> {
        let folder = load_folder(&self.0.config).await?;
        let model_id = folder.model_id.clone();
        let serving = make_serving(folder, &self.0.config, &self.0.store).await?;
        self.note(self.0.store.refresh(&model_id).await?);
        *self.0.serving.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(serving);
        Ok(self.info())
    }

    /// Takes no more texts. What was accepted is finished by whoever waits for it.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }
}

/// What is searched for, and judged by.
struct Asked {
    query: SearchQuery,
    own_terms: Terms,
    intents: Vec<RankedLabel>,
    negative: f32,
}

impl Asked {
    fn question<'a>(&'a self, policy: &'a PolicyConfig) -> Question<'a> {
        Question {
            terms: &self.query.terms,
            own_terms: &self.own_terms,
            intents: &self.intents,
            out_of_scope: &policy.out_of_scope_intents,
            negative: self.negative,
        }
    }
}

/// The likeliest candidates as `asker` is answered with them.
fn hits(candidates: Vec<(Candidate, f32)>, limit: usize, asker: &Asker) -> Result<Vec<Hit>, EngineError> {
    let hit = |(candidate, probability): (Candidate, f32)| {
        let entry = candidate.entry()?;
        let answer = entry.answer_for(asker);
        Ok(Hit {
            parts: answer.parts.to_vec(),
            personal: answer.personal,
            answer: answer.text,
            probability,
            score: candidate.cosine(),
            matched: candidate.wordings.first().map(|wording| wording.text.clone()).unwrap_or_default(),
            knowledge_id: entry.id,
            question: entry.question,
            intent: entry.intent,
        })
    };
    candidates.into_iter().take(limit).map(hit).collect()
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
