//! What a store holds: of which model, in which release, and what makes the next one.

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{QUANTIZED_FROM, StoredReply};
use crate::{ranking::Tuning, terms::Terms};

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
    /// Whether an entry is valid on some days only.
    #[serde(default = "yes")]
    pub dated: bool,
    /// Terms that stand in many of the wordings that were written first, the rarest of them first; see [`Contents::asked`].
    #[serde(default)]
    pub common: Vec<u32>,
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
            dated: replies.iter().any(|reply| reply.entry.is_dated()),
            common: common(replies),
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
            dated: self.dated || change.replies.iter().any(|reply| reply.entry.is_dated()),
            added: self.added + change.replies.len(),
            retired,
            ..self.clone()
        }
    }
}

impl Contents {
    /// The terms of a question by which a store looks for wordings. A term that stands everywhere tells no wording from another, and
    /// going through all its wordings takes most of the time where there are many: such terms are left out, unless there are hardly any
    /// others; then the rarest of them stay.
    pub(super) fn asked(&self, terms: &Terms) -> Terms {
        let rank = |index: &u32| self.common.iter().position(|common| common == index);
        let mut ranks: Vec<usize> = terms.indices.iter().filter_map(rank).collect();
        ranks.sort_unstable();
        let kept = ENOUGH.saturating_sub(terms.indices.len() - ranks.len());
        let Some(&from) = ranks.get(kept) else { return terms.clone() };
        let pairs = terms.indices.iter().copied().zip(terms.values.iter().copied());
        pairs.filter(|(index, _)| rank(index).is_none_or(|rank| rank < from)).collect()
    }
}

/// A term is common that stands in more than one of so many wordings.
const COMMON: usize = 50;
/// Terms that are enough to look by.
const ENOUGH: usize = 4;

/// The common terms of wordings, the rarest first; none of a few wordings, which are searched in no time.
fn common(replies: &[StoredReply]) -> Vec<u32> {
    if replies.len() < QUANTIZED_FROM {
        return Vec::new();
    }
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for index in replies.iter().flat_map(|reply| &reply.terms.indices) {
        *counts.entry(*index).or_default() += 1;
    }
    let often = counts.into_iter().filter(|(_, count)| *count > replies.len() / COMMON);
    let mut often: Vec<(usize, u32)> = often.map(|(index, count)| (count, index)).collect();
    often.sort_unstable();
    often.into_iter().map(|(_, index)| index).collect()
}

fn yes() -> bool {
    true
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
        Duration::from_millis(u64::try_from(now - self.at).unwrap_or(0)) > KEPT
    }
}

/// How long points stay that do not count any more: another process may still be searching the release before. A replica looks
/// for a new release far more often.
pub(crate) const KEPT: Duration = Duration::from_secs(10);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KnowledgeEntry;

    fn contents(common: &[u32]) -> Contents {
        Contents { common: common.to_vec(), ..Contents::new("m", 2, 1, &[], 1.0) }
    }

    fn terms(indices: &[u32]) -> Terms {
        indices.iter().map(|index| (*index, *index as f32)).collect()
    }

    #[test]
    fn what_stands_everywhere_is_not_looked_for() {
        let contents = contents(&[5, 3, 9]);
        for (asked, looked_for) in [
            (&[1, 2, 4, 6, 3, 9][..], &[1, 2, 4, 6][..]),
            (&[1, 2, 3, 5, 7, 9], &[1, 2, 5, 7]),
            (&[1, 3, 9], &[1, 3, 9]),
            (&[3, 5, 9], &[3, 5, 9]),
            (&[1, 2], &[1, 2]),
            (&[], &[]),
        ] {
            let mut asked = asked.to_vec();
            asked.sort_unstable();
            assert_eq!(contents.asked(&terms(&asked)), terms(looked_for), "{asked:?}");
        }
    }

    #[test]
    fn terms_are_counted_where_there_are_many_wordings() {
        let reply = |number: usize| StoredReply {
            entry: KnowledgeEntry::default(),
            wording: String::new(),
            embedding: Vec::new(),
            // 7 in all, 3 in every fourth, 11 in one of fifty, and one of its own.
            terms: [(3, 4), (7, 1), (11, 50), (100 + number as u32, 1)]
                .into_iter()
                .filter(|(_, every)| number.is_multiple_of(*every))
                .map(|(index, _)| (index, 1.0))
                .collect(),
        };
        let replies: Vec<StoredReply> = (0..QUANTIZED_FROM).map(reply).collect();
        assert_eq!(common(&replies), [3, 7], "the rarest first");
        assert_eq!(common(&replies[1..]), [0; 0], "of a few, none");
    }

    #[test]
    fn what_an_older_program_wrote_may_be_dated() {
        let mut old = serde_json::to_value(contents(&[])).expect("plain data");
        for field in ["dated", "common"] {
            old.as_object_mut().expect("an object").remove(field);
        }
        let read: Contents = serde_json::from_value(old).expect("the same data");
        assert!(read.dated && read.common.is_empty());
        assert!(!contents(&[]).dated);
    }
}
