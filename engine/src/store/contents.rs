//! What a store holds: of which model, in which release, and what makes the next one.

use serde::{Deserialize, Serialize};

use super::StoredReply;
use crate::ranking::Tuning;

/// Version of what a point holds; content of another version must be written anew.
pub const FORMAT: u32 = 3;

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
    /// Mean count of terms in a wording, by which [`Terms::of_wording`] weighs them.
    #[serde(default)]
    pub average_terms: f32,
    /// The release of the knowledge that is current; grows with every change.
    #[serde(default)]
    pub release: i64,
    /// Whether an entry is for some channels or audiences only.
    #[serde(default)]
    pub restricted: bool,
    /// Wordings that were added by [`ReplyStore::apply`] since all was written.
    #[serde(default)]
    pub added: usize,
    /// What does not count any more and is still there, for whoever has not seen the switch yet.
    #[serde(default)]
    pub retired: Vec<Retired>,
    /// What `yingda tune` found for this content; `None`: the second stage as it comes with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Tuning>,
}

impl Contents {
    /// Of a whole release that is written anew.
    pub fn new(model_id: &str, dimension: usize, release: i64, replies: &[StoredReply], average_terms: f32) -> Self {
        let mut ids: Vec<&str> = replies.iter().map(|reply| reply.entry.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        Self {
            format: FORMAT,
            model_id: model_id.to_owned(),
            dimension,
            entries: ids.len(),
            wordings: replies.len(),
            average_terms,
            release,
            restricted: replies.iter().any(|reply| reply.entry.is_restricted()),
            added: 0,
            retired: Vec::new(),
            tuning: None,
        }
    }

    /// After a change; `now` in milliseconds since 1970.
    pub(super) fn after(&self, change: &Change, now: i64) -> Self {
        let mut retired: Vec<Retired> = self.retired.iter().filter(|retired| !retired.is_over(now)).cloned().collect();
        if !change.retired.is_empty() {
            let entries = change.retired.clone();
            retired.push(Retired { release: change.release, at: now, entries });
        }
        Self {
            entries: change.entries,
            wordings: change.wordings,
            release: change.release,
            restricted: self.restricted || change.replies.iter().any(|reply| reply.entry.is_restricted()),
            added: self.added + change.replies.len(),
            retired,
            ..self.clone()
        }
    }
}

/// Points that a release put out of use: those of `entries` from releases before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retired {
    /// The release.
    pub release: i64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Ids of the entries that it changed or removed.
    pub entries: Vec<String>,
}

impl Retired {
    /// Whether nobody can still be searching the release before.
    pub(super) fn is_over(&self, now: i64) -> bool {
        now - self.at > KEPT_MILLISECONDS
    }
}

/// How long points stay that do not count any more. A replica looks for a new release far more often.
const KEPT_MILLISECONDS: i64 = 10_000;

/// What makes the next release of the current one.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its number; larger than the current one.
    pub release: i64,
    /// Wordings of entries that are new or changed.
    pub replies: Vec<StoredReply>,
    /// Ids of entries that are changed or removed.
    pub retired: Vec<String>,
    /// Entries in the new release.
    pub entries: usize,
    /// Wordings in the new release.
    pub wordings: usize,
}
