//! Where replies are kept and found by embedding: one trait, two homes with the same content and the same results.
//!
//! [`EdgeStore`] is Qdrant Edge in this process, on disk, with nothing to install; [`ServerStore`] is a Qdrant server or
//! cluster. A store is always replaced whole: the new content is written beside the old and one switch makes it current, so
//! nobody ever searches half of it.

mod edge;
mod server;

use std::{collections::HashSet, path::PathBuf};

pub use edge::EdgeStore;
use serde::{Deserialize, Serialize};
pub use server::ServerStore;

use crate::{EngineError, Hit, KnowledgeEntry};

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
}

/// What the current content of a store was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The model that made the embeddings.
    pub model_id: String,
    /// Length of an embedding.
    pub dimension: usize,
    /// Knowledge entries.
    pub entries: usize,
}

/// Finding replies by embedding.
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

    /// The `limit` nearest entries that are valid on `day` (`YYYYMMDD`), best first, one hit per entry. The embedding is of
    /// `model_id`; content of another model is an error, never an answer.
    fn search(
        &self,
        model_id: &str,
        embedding: Vec<f32>,
        limit: usize,
        day: i64,
    ) -> impl Future<Output = Result<Vec<Hit>, EngineError>> + Send;

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
        embedding: Vec<f32>,
        limit: usize,
        day: i64,
    ) -> Result<Vec<Hit>, EngineError> {
        either!(self, store => store.search(model_id, embedding, limit, day).await)
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

/// An entry is indexed under several wordings, so more points than entries are asked for, and more again if that was not enough.
const POINTS_PER_HIT: usize = 8;

/// Content of another model is an error: its embeddings mean nothing to this one.
pub(crate) fn check_model(
    store: &impl ReplyStore,
    contents: Option<&Contents>,
    model_id: &str,
) -> Result<(), EngineError> {
    match contents {
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

    fn into_hit(self, score: f32) -> Hit {
        Hit {
            knowledge_id: self.knowledge_id,
            question: self.question,
            matched: self.wording,
            answer: self.answer,
            intent: self.intent,
            score,
        }
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

/// Keeps the best hit of each entry; equal scores in the order of their ids, so that both homes agree.
fn group(mut hits: Vec<Hit>, limit: usize) -> Vec<Hit> {
    let name = |hit: &Hit| (hit.knowledge_id.clone(), hit.matched.clone());
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| name(a).cmp(&name(b))));
    let mut seen = HashSet::new();
    hits.retain(|hit| seen.insert(hit.knowledge_id.clone()));
    hits.truncate(limit);
    hits
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
