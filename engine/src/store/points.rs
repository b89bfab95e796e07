//! A wording as a point, and what a point must be to be found: the same in both homes.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CHUNK, Contents, Retired, Scope, StoredReply};
use crate::{EngineError, KnowledgeEntry, terms::Terms};

/// A point as it is stored: a wording with all that belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPoint {
    pub(super) id: Uuid,
    pub(super) payload: Payload,
    pub(super) embedding: Vec<f32>,
    pub(super) terms: Terms,
}

impl StoredPoint {
    fn new(reply: &StoredReply, model_id: &str, release: i64) -> Result<Self, EngineError> {
        Ok(Self {
            id: point_id(reply, release),
            payload: Payload::new(reply, model_id, release)?,
            embedding: reply.embedding.clone(),
            terms: reply.terms.clone(),
        })
    }

    /// The points of `replies`, as many at a time as are written at once.
    pub(super) fn chunks(
        replies: &[StoredReply],
        model_id: &str,
        release: i64,
    ) -> impl Iterator<Item = Result<Vec<Self>, EngineError>> {
        let points =
            move |chunk: &[StoredReply]| chunk.iter().map(|reply| Self::new(reply, model_id, release)).collect();
        replies.chunks(CHUNK).map(points)
    }
}

/// The payload of a point; the same in both homes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Payload {
    pub(super) knowledge_id: String,
    pub(super) wording: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<String>,
    /// What is filtered by besides; an entry for all is for [`ALL`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) category: Option<String>,
    pub(super) channels: Vec<String>,
    pub(super) audiences: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) products: Vec<String>,
    /// `YYYYMMDD`; an open end is 0 or 99,991,231, so that one range filter fits all.
    pub(super) valid_from: i64,
    pub(super) valid_to: i64,
    /// The release from which on it counts; 0 when it was written with all others.
    pub(super) release: i64,
    pub(super) model_id: String,
    /// The entry as JSON, in one piece: most found points are never shown.
    pub(super) entry: String,
}

/// What stands for every channel and every audience.
pub(super) const ALL: &str = "*";

/// Fields that are filtered by; they are indexed before any point is written.
pub(super) const INTEGER_FIELDS: [&str; 3] = ["valid_from", "valid_to", "release"];
pub(super) const KEYWORD_FIELDS: [&str; 6] =
    ["knowledge_id", "intent", "category", "channels", "audiences", "products"];

/// A condition on the payload, in no home's own words.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Must {
    /// A number at most this.
    AtMost(&'static str, i64),
    /// A number at least this.
    AtLeast(&'static str, i64),
    /// One of these words.
    AnyOf(&'static str, Vec<String>),
    /// Not all of these.
    Not(Vec<Must>),
}

/// What a point must be to be of the current release.
pub(super) fn current(contents: &Contents) -> Vec<Must> {
    let retired = contents.retired.iter().map(|retired| Must::Not(out_of_use(retired)));
    std::iter::once(Must::AtMost("release", contents.release)).chain(retired).collect()
}

/// What a point must be to be found. What all of them are is not asked: every condition is looked at again and again during a
/// search. `clean`: there are points of the current release only.
pub(super) fn conditions(scope: &Scope, contents: &Contents, clean: bool) -> Vec<Must> {
    let mut must = if clean { Vec::new() } else { current(contents) };
    if contents.dated {
        must.extend([Must::AtMost("valid_from", scope.day), Must::AtLeast("valid_to", scope.day)]);
    }
    let or_all = |words: &[String]| [ALL.to_owned()].into_iter().chain(words.iter().cloned()).collect();
    if contents.restricted {
        if let Some(channel) = &scope.channel {
            must.push(Must::AnyOf("channels", or_all(std::slice::from_ref(channel))));
        }
        if let Some(audiences) = &scope.audiences {
            must.push(Must::AnyOf("audiences", or_all(audiences)));
        }
    }
    if !scope.products.is_empty() {
        must.push(Must::AnyOf("products", scope.products.clone()));
    }
    must
}

/// The points that a release put out of use.
pub(super) fn out_of_use(retired: &Retired) -> Vec<Must> {
    vec![Must::AnyOf("knowledge_id", retired.entries.clone()), Must::AtMost("release", retired.release - 1)]
}

/// What a change removes before it adds: what an unfinished one left, and what nobody searches any more.
pub(super) fn rubbish(contents: &Contents, now: i64) -> Vec<Vec<Must>> {
    let over = contents.retired.iter().filter(|retired| retired.is_over(now)).map(out_of_use);
    std::iter::once(vec![later(contents)]).chain(over).collect()
}

/// Of a release that does not count yet.
pub(super) fn later(contents: &Contents) -> Must {
    Must::AtLeast("release", contents.release + 1)
}

pub(super) fn read_entry(id: &str, body: &str) -> Result<KnowledgeEntry, EngineError> {
    serde_json::from_str(body).map_err(|error| EngineError::Store {
        store: "of replies".into(),
        message: format!("the entry {id} is damaged: {error}; fill the store again with `yingda index`"),
    })
}

impl Payload {
    fn new(reply: &StoredReply, model_id: &str, release: i64) -> Result<Self, EngineError> {
        let entry = &reply.entry;
        let day = |field: &str, value: &Option<String>, open: i64| {
            value.as_deref().map_or(Ok(open), |text| {
                parse_day(text).ok_or_else(|| EngineError::Knowledge {
                    id: entry.id.clone(),
                    message: format!("{field} is {text:?}; write a day as YYYY-MM-DD"),
                })
            })
        };
        let or_all = |words: &[String]| if words.is_empty() { vec![ALL.to_owned()] } else { words.to_vec() };
        Ok(Self {
            knowledge_id: entry.id.clone(),
            wording: reply.wording.clone(),
            intent: entry.intent.clone(),
            category: entry.category.clone(),
            channels: or_all(&entry.channels),
            audiences: or_all(&entry.audiences),
            products: entry.products.clone(),
            valid_from: day("valid_from", &entry.valid_from, 0)?,
            valid_to: day("valid_to", &entry.valid_to, 99_991_231)?,
            release,
            model_id: model_id.to_owned(),
            entry: serde_json::to_string(entry).expect("plain data is always JSON"),
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

/// The same wording of the same entry in the same release is the same point.
pub(super) fn point_id(reply: &StoredReply, release: i64) -> Uuid {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new()
        .chain_update(&reply.entry.id)
        .chain_update([0])
        .chain_update(&reply.wording)
        .chain_update([0])
        .chain_update(release.to_le_bytes())
        .finalize();
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
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
