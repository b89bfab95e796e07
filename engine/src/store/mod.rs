//! Where replies are kept and found, by meaning and by words: one trait, two homes with the same content and the same results.
//!
//! [`EdgeStore`] is Qdrant Edge in this process, on disk, with nothing to install; [`ServerStore`] is a Qdrant server or
//! cluster. What is searched is a *release* of the knowledge. [`ReplyStore::replace`] writes a whole release beside the old one;
//! [`ReplyStore::apply`] adds what changed. Either way one switch makes the new release current, so nobody ever searches half
//! of it: a point tells from which release on it counts, [`Contents::retired`] which older points do not count any more, and no
//! point that is being served is ever changed.

mod contents;
mod copy;
mod edge;
mod points;
mod server;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub(crate) use contents::KEPT;
pub use contents::{Change, Contents, FORMAT, Retired};
pub use copy::Copied;
pub use edge::EdgeStore;
pub use points::StoredPoint;
pub(crate) use points::parse_day;
use points::{Payload, read_entry};
use serde::{Deserialize, Serialize};
pub use server::ServerStore;

use crate::{EngineError, KnowledgeEntry, ranking::Tuning, terms::Terms};

/// Where replies are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StoreConfig {
    /// Qdrant Edge in a folder.
    Edge {
        /// The folder; made when absent.
        path: PathBuf,
    },
    /// A Qdrant server or cluster over gRPC.
    Server {
        /// Such as `http://localhost:6334`, or `https://...` for TLS.
        url: String,
        /// The server's API key, if it wants one.
        #[serde(default)]
        api_key: Option<String>,
        /// Alias under which the current collection is found.
        #[serde(default = "default_collection")]
        collection: String,
        /// How it is asked, and how a collection is spread over a cluster.
        #[serde(default)]
        settings: ServerSettings,
    },
}

/// How a server is asked, and how a collection is spread over a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Milliseconds after which a search is given up: the message is then answered without the knowledge.
    pub deadline_ms: u64,
    /// Shards of a new collection; `None`: what the server thinks right.
    pub shards: Option<u32>,
    /// Copies of each shard of a new collection; `None`: what the server thinks right.
    pub copies: Option<u32>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { deadline_ms: 2000, shards: None, copies: None }
    }
}

fn default_collection() -> String {
    "yingda".into()
}

/// One wording of one knowledge entry with its embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredReply {
    /// The entry.
    pub entry: KnowledgeEntry,
    /// The standard question or one of the similar ones.
    pub wording: String,
    /// Embedding of the wording, of length 1.
    pub embedding: Vec<f32>,
    /// Its terms, by [`Terms::of_wording`].
    pub terms: Terms,
}

/// What is searched for.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchQuery {
    /// Embedding of the question, of length 1.
    pub embedding: Vec<f32>,
    /// Its terms, by [`Terms::of_query`].
    pub terms: Terms,
    /// What counts as near.
    pub method: Method,
    /// Look at every point instead of walking the search graph: slow, for measuring what the graph misses.
    pub exact: bool,
}

/// Which entries may be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The day on which they must be valid, as `YYYYMMDD`.
    pub day: i64,
    /// The channel that they must be for; `None`: any.
    pub channel: Option<String>,
    /// Audiences of which they must be for one, if they are not for all; `None`: any.
    pub audiences: Option<Vec<String>>,
    /// Products of which they must be about one; empty: any or none.
    pub products: Vec<String>,
}

impl Scope {
    /// All that is valid on a day.
    pub fn on(day: i64) -> Self {
        Self { day, ..Self::default() }
    }
}

/// What counts as near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Cosine of the embeddings.
    Dense,
    /// BM25 over terms.
    Sparse,
    /// Both, put together by the store: reciprocal rank fusion (Cormack et al. 2009, <https://doi.org/10.1145/1571941.1572114>).
    #[default]
    Fused,
}

/// One wording that the store found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The wording.
    pub text: String,
    /// Cosine similarity to the question, in `[-1, 1]`.
    pub cosine: f32,
    /// What the store ranks by: cosine, BM25 or fused ranks, by the method of the search.
    pub score: f32,
    /// Its terms, ascending.
    pub terms: Vec<u32>,
}

/// A knowledge entry of which the store found at least one wording.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Id of the entry.
    pub knowledge_id: String,
    /// The intent that it belongs to.
    pub intent: Option<String>,
    /// The whole entry as JSON; [`Candidate::entry`] reads it.
    pub body: String,
    /// What was found of it, highest cosine first; at least one.
    pub wordings: Vec<Found>,
}

impl Candidate {
    /// Cosine of the nearest wording.
    pub fn cosine(&self) -> f32 {
        self.wordings.first().map_or(0.0, |wording| wording.cosine)
    }

    /// The best score of its wordings.
    pub fn score(&self) -> f32 {
        self.wordings.iter().map(|wording| wording.score).fold(f32::NEG_INFINITY, f32::max)
    }

    /// The entry. Only those that are shown are worth reading.
    ///
    /// # Errors
    /// When what the store holds is no entry.
    pub fn entry(&self) -> Result<KnowledgeEntry, EngineError> {
        read_entry(&self.knowledge_id, &self.body)
    }
}

/// Finding replies.
pub trait ReplyStore {
    /// Where it is, for messages.
    fn describe(&self) -> String;

    /// What the current content was made of; `None` while the store is empty.
    fn contents(&self) -> impl Future<Output = Result<Option<Contents>, EngineError>> + Send;

    /// Replaces everything by `replies`, visible to searches when it returns.
    fn replace(
        &self,
        contents: Contents,
        replies: Vec<StoredReply>,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Makes the next release out of the current one, visible to searches when it returns. What is served is not changed before,
    /// and not at all when it fails. One writer at a time; the store must hold content of the same model.
    fn apply(&self, change: Change) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// At least `entries` entries of `scope`, where there are so many, in the order of their scores. The embedding is of
    /// `model_id`; content of another model is an error, never an answer.
    fn search(
        &self,
        model_id: &str,
        query: &SearchQuery,
        entries: usize,
        scope: &Scope,
    ) -> impl Future<Output = Result<Vec<Candidate>, EngineError>> + Send;

    /// All entries of the current release, by id, whether they are valid today or not.
    fn entries(&self) -> impl Future<Output = Result<Vec<KnowledgeEntry>, EngineError>> + Send
    where
        Self: Sync,
    {
        async {
            let (mut bodies, mut after) = (BTreeMap::new(), None);
            loop {
                let page = self.page(after, CHUNK).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id);
                bodies.extend(page.into_iter().map(|point| (point.payload.knowledge_id, point.payload.entry)));
            }
            bodies.into_iter().map(|(id, body)| read_entry(&id, &body)).collect()
        }
    }

    /// Points of the current release with ids above `after`, in the order of their ids, at most `limit`.
    fn page(
        &self,
        after: Option<uuid::Uuid>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredPoint>, EngineError>> + Send;

    /// Removes what no search looks at any more.
    fn tidy(&self) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Whether [`ReplyStore::forget`] would remove something that every search names, without waiting: as it was when it was last
    /// looked at.
    fn may_forget(&self) -> bool {
        false
    }

    /// Removes what the last releases put out of use, once each of them has been current for `kept`, and waits until then: so long
    /// somebody may be searching the release before. For whoever is publishing, and for nobody else: it switches, too.
    fn forget(&self, kept: Duration) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Keeps what was tuned for the current content.
    fn keep_tuning(&self, tuning: Tuning) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Looks again which content is current, after another process replaced it, and returns what it was made of. Content of another
    /// model than `model_id` is an error, and what was current stays so.
    fn refresh(&self, model_id: &str) -> impl Future<Output = Result<Option<Contents>, EngineError>> + Send;
}

/// Either home.
pub enum Store {
    /// In this process.
    Edge(EdgeStore),
    /// At a server.
    Server(Box<ServerStore>),
}

impl Store {
    /// Opens the store of a configuration.
    ///
    /// # Errors
    /// When the folder or the server cannot be used, or another process holds the folder.
    pub async fn open(config: &StoreConfig) -> Result<Self, EngineError> {
        Ok(match config {
            StoreConfig::Edge { path } => Self::Edge(EdgeStore::open(path).await?),
            StoreConfig::Server { url, api_key, collection, settings } => {
                Self::Server(Box::new(ServerStore::open(url, api_key.as_deref(), collection, settings).await?))
            }
        })
    }

    /// As [`Store::open`], for replacing the content only: another process may be using what is there.
    ///
    /// # Errors
    /// When the folder or the server cannot be used.
    pub async fn open_to_write(config: &StoreConfig) -> Result<Self, EngineError> {
        match config {
            StoreConfig::Edge { path } => Ok(Self::Edge(EdgeStore::open_to_write(path).await?)),
            StoreConfig::Server { .. } => Self::open(config).await,
        }
    }
}

macro_rules! either {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Store::Edge($store) => $call,
            Store::Server($store) => $call,
        }
    };
}

impl ReplyStore for Store {
    fn describe(&self) -> String {
        either!(self, store => store.describe())
    }

    async fn contents(&self) -> Result<Option<Contents>, EngineError> {
        either!(self, store => store.contents().await)
    }

    async fn replace(&self, contents: Contents, replies: Vec<StoredReply>) -> Result<(), EngineError> {
        either!(self, store => store.replace(contents, replies).await)
    }

    async fn apply(&self, change: Change) -> Result<(), EngineError> {
        either!(self, store => store.apply(change).await)
    }

    async fn search(
        &self,
        model_id: &str,
        query: &SearchQuery,
        entries: usize,
        scope: &Scope,
    ) -> Result<Vec<Candidate>, EngineError> {
        either!(self, store => store.search(model_id, query, entries, scope).await)
    }

    async fn page(&self, after: Option<uuid::Uuid>, limit: usize) -> Result<Vec<StoredPoint>, EngineError> {
        either!(self, store => store.page(after, limit).await)
    }

    async fn tidy(&self) -> Result<(), EngineError> {
        either!(self, store => store.tidy().await)
    }

    fn may_forget(&self) -> bool {
        either!(self, store => store.may_forget())
    }

    async fn forget(&self, kept: Duration) -> Result<(), EngineError> {
        either!(self, store => store.forget(kept).await)
    }

    async fn keep_tuning(&self, tuning: Tuning) -> Result<(), EngineError> {
        either!(self, store => store.keep_tuning(tuning).await)
    }

    async fn refresh(&self, model_id: &str) -> Result<Option<Contents>, EngineError> {
        either!(self, store => store.refresh(model_id).await)
    }
}

/// A change must fit what is there.
fn check_change(store: String, contents: &Contents, change: &Change) -> Result<(), EngineError> {
    if change.release > contents.release {
        return Ok(());
    }
    Err(EngineError::Store {
        store,
        message: format!(
            "release {} cannot be written: release {} is there already; somebody else changed the store, try again",
            change.release, contents.release
        ),
    })
}

/// Points per write, and per page when all are read.
const CHUNK: usize = 256;

/// Names of a point's two vectors.
const DENSE: &str = "meaning";
const SPARSE: &str = "words";

/// Points that each of the two searches contributes at first: what the second stage was measured with. An entry has several
/// wordings, so more are asked for where they do not make enough entries.
const POINTS: usize = 50;

/// The constant of reciprocal rank fusion, as its authors chose it.
const FUSION: usize = 60;

/// From so many points on vectors are searched in 8 bits and the best rescored with all of theirs: below it there is nothing to
/// gain.
const QUANTIZED_FROM: usize = 20_000;

/// How many times the wanted points are taken by their 8-bit vectors, to be rescored.
const OVERSAMPLING: f64 = 2.0;

/// Candidates that the search graph keeps in view: more find more, and take longer.
const BEAM: usize = 160;

/// Content of another model is an error: its embeddings mean nothing to this one.
pub(crate) fn check_model(
    store: &impl ReplyStore,
    contents: Option<&Contents>,
    model_id: &str,
) -> Result<(), EngineError> {
    match contents {
        Some(contents) if contents.format != FORMAT => {
            Err(EngineError::StoreOfAnotherVersion { store: store.describe() })
        }
        Some(contents) if !is_same_model(&contents.model_id, model_id) => Err(EngineError::StoreOfAnotherModel {
            store: store.describe(),
            found: contents.model_id.clone(),
            wanted: model_id.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Whether two ids are of the same model. What stands before the `@` is only how its folder was called.
pub(crate) fn is_same_model(one: &str, other: &str) -> bool {
    fn fingerprint(id: &str) -> &str {
        id.rsplit_once('@').map_or(id, |(_, fingerprint)| fingerprint)
    }
    fingerprint(one) == fingerprint(other)
}

/// Puts the wordings of each entry together: entries in the order of their best scores, and of their ids where these are
/// equal, so that both homes agree.
fn group(found: Vec<(Payload, Found)>) -> Vec<Candidate> {
    let mut by_entry: BTreeMap<String, Candidate> = BTreeMap::new();
    for (payload, found) in found {
        let Payload { knowledge_id, intent, entry: body, .. } = payload;
        by_entry
            .entry(knowledge_id.clone())
            .or_insert_with(|| Candidate { knowledge_id, intent, body, wordings: Vec::new() })
            .wordings
            .push(found);
    }
    let mut candidates: Vec<Candidate> = by_entry.into_values().collect();
    for candidate in &mut candidates {
        candidate.wordings.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then_with(|| a.text.cmp(&b.text)));
    }
    // Stable: equal ones stay in the order of their ids.
    candidates.sort_by(|a, b| b.score().total_cmp(&a.score()).then_with(|| b.cosine().total_cmp(&a.cosine())));
    candidates
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
