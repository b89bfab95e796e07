//! Where replies are kept and found, by meaning and by words: one trait, two homes with the same content and the same results.
//!
//! [`EdgeStore`] is Qdrant Edge in this process, on disk, with nothing to install; [`ServerStore`] is a Qdrant server or
//! cluster. A store is always replaced whole: the new content is written beside the old and one switch makes it current, so
//! nobody ever searches half of it.

mod edge;
mod server;

use std::{collections::BTreeMap, path::PathBuf};

pub use edge::EdgeStore;
use serde::{Deserialize, Serialize};
pub use server::ServerStore;

use crate::{EngineError, Hit, KnowledgeEntry, ranking::Tuning, terms::Terms};

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
    },
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

/// Version of what a point holds; content of another version must be written anew.
pub const FORMAT: u32 = 2;

/// What the current content of a store was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// [`FORMAT`] of the program that wrote it.
    #[serde(default)]
    pub format: u32,
    /// The model that made the embeddings.
    pub model_id: String,
    /// Length of an embedding.
    pub dimension: usize,
    /// Knowledge entries.
    pub entries: usize,
    /// Wordings of all entries: points.
    #[serde(default)]
    pub wordings: usize,
    /// What `yingda tune` found for this content; `None`: the second stage as it comes with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Tuning>,
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
    /// Its standard question.
    pub question: String,
    /// Its answer.
    pub answer: String,
    /// The intent that it belongs to.
    pub intent: Option<String>,
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

    pub(crate) fn into_hit(self, probability: f32) -> Hit {
        let (score, matched) =
            self.wordings.into_iter().next().map_or((0.0, String::new()), |wording| (wording.cosine, wording.text));
        Hit {
            knowledge_id: self.knowledge_id,
            question: self.question,
            matched,
            answer: self.answer,
            intent: self.intent,
            probability,
            score,
        }
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

    /// At least `entries` entries that are valid on `day` (`YYYYMMDD`), where there are so many, in the order of their scores.
    /// The embedding is of `model_id`; content of another model is an error, never an answer.
    fn search(
        &self,
        model_id: &str,
        query: &SearchQuery,
        entries: usize,
        day: i64,
    ) -> impl Future<Output = Result<Vec<Candidate>, EngineError>> + Send;

    /// Keeps what was tuned for the current content.
    fn keep_tuning(&self, tuning: Tuning) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Looks again which content is current, after another process replaced it. Content of another model than `model_id` is an
    /// error, and what was current stays so.
    fn refresh(&self, model_id: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
}

/// Either home.
pub enum Store {
    /// In this process.
    Edge(EdgeStore),
    /// At a server.
    Server(ServerStore),
}

impl Store {
    /// Opens the store of a configuration.
    ///
    /// # Errors
    /// When the folder or the server cannot be used, or another process holds the folder.
    pub async fn open(config: &StoreConfig) -> Result<Self, EngineError> {
        Ok(match config {
            StoreConfig::Edge { path } => Self::Edge(EdgeStore::open(path).await?),
            StoreConfig::Server { url, api_key, collection } => {
                Self::Server(ServerStore::open(url, api_key.as_deref(), collection).await?)
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

    async fn search(
        &self,
        model_id: &str,
        query: &SearchQuery,
        entries: usize,
        day: i64,
    ) -> Result<Vec<Candidate>, EngineError> {
        either!(self, store => store.search(model_id, query, entries, day).await)
    }

    async fn keep_tuning(&self, tuning: Tuning) -> Result<(), EngineError> {
        either!(self, store => store.keep_tuning(tuning).await)
    }

    async fn refresh(&self, model_id: &str) -> Result<(), EngineError> {
        either!(self, store => store.refresh(model_id).await)
    }
}

/// The payload of a point; the same in both homes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Payload {
    knowledge_id: String,
    question: String,
    wording: String,
    answer: String,
    #[serde(default)]
    intent: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    /// `YYYYMMDD`; an open end is 0 or 99,991,231, so that one range filter fits all.
    valid_from: i64,
    valid_to: i64,
    model_id: String,
}

/// Fields that are filtered by; they are indexed before any point is written.
const INTEGER_FIELDS: [&str; 2] = ["valid_from", "valid_to"];
const KEYWORD_FIELDS: [&str; 2] = ["knowledge_id", "intent"];

/// Points per write.
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
        Some(contents) if contents.model_id != model_id => Err(EngineError::StoreOfAnotherModel {
            store: store.describe(),
            found: contents.model_id.clone(),
            wanted: model_id.to_owned(),
        }),
        _ => Ok(()),
    }
}

impl Payload {
    fn new(reply: &StoredReply, model_id: &str) -> Result<Self, EngineError> {
        let day = |field: &str, value: &Option<String>, open: i64| {
            value.as_deref().map_or(Ok(open), |text| {
                parse_day(text).ok_or_else(|| EngineError::Knowledge {
                    id: reply.entry.id.clone(),
                    message: format!("{field} is {text:?}; write a day as YYYY-MM-DD"),
                })
            })
        };
        Ok(Self {
            knowledge_id: reply.entry.id.clone(),
            question: reply.entry.question.clone(),
            wording: reply.wording.clone(),
            answer: reply.entry.answer.clone(),
            intent: reply.entry.intent.clone(),
            tags: reply.entry.tags.clone(),
            valid_from: day("valid_from", &reply.entry.valid_from, 0)?,
            valid_to: day("valid_to", &reply.entry.valid_to, 99_991_231)?,
            model_id: model_id.to_owned(),
        })
    }
}

/// `2026-03-09` as 20,260,309.
pub(crate) fn parse_day(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let mut next = |digits: usize, range: std::ops::RangeInclusive<i64>| {
        let part = parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        part.parse().ok().filter(|number| range.contains(number))
    };
    let day = next(4, 1..=9999)? * 10_000 + next(2, 1..=12)? * 100 + next(2, 1..=31)?;
    parts.next().is_none().then_some(day)
}

/// The same wording of the same entry is the same point.
fn point_id(reply: &StoredReply) -> uuid::Uuid {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new().chain_update(&reply.entry.id).chain_update([0]).chain_update(&reply.wording).finalize();
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Puts the wordings of each entry together: entries in the order of their best scores, and of their ids where these are
/// equal, so that both homes agree.
fn group(found: Vec<(Payload, Found)>) -> Vec<Candidate> {
    let mut by_entry: BTreeMap<String, Candidate> = BTreeMap::new();
    for (payload, found) in found {
        let Payload { knowledge_id, question, answer, intent, .. } = payload;
        by_entry
            .entry(knowledge_id.clone())
            .or_insert_with(|| Candidate { knowledge_id, question, answer, intent, wordings: Vec::new() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        assert_eq!(parse_day("2026-03-09"), Some(20_260_309));
        for wrong in ["2026-3-9", "2026-13-01", "2026-00-10", "20260309", "2026-03-09-01", "", "２０２６-03-09"] {
            assert_eq!(parse_day(wrong), None, "{wrong}");
        }
    }
}
