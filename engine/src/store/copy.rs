//! Moving what one store holds into another, of either home.
//!
//! Points go over in the order of their ids, page by page, into content beside what the other store serves; at the end one switch
//! makes it current there. A copy that was interrupted goes on where it was: what has arrived is kept under a name that says what
//! it is a copy of. Afterwards both stores are read once more, side by side, and compared point by point.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{CHUNK, Contents, FORMAT, ReplyStore, Store, StoredPoint, edge::EdgeFilling, server::ServerFilling};
use crate::EngineError;

/// Points between two notes of how far a copy has come.
const NOTED: usize = 20 * CHUNK;

/// What was copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Copied {
    /// Points: wordings of entries.
    pub points: usize,
    /// How many of them an earlier, interrupted copy had brought over.
    pub resumed: usize,
    /// SHA-256 over ids, payloads and terms of all points, in the order of their ids; the same in both stores.
    pub checksum: String,
    /// The largest difference between a number of an embedding here and there. A store brings embeddings to length 1 when it takes
    /// them, so the last digit may differ.
    pub largest_difference: f32,
}

/// Content that is being filled.
pub(super) enum Filling {
    Edge(EdgeFilling),
    Server(ServerFilling),
}

/// How far a filling has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Progress {
    /// Id of the last point that is safe there.
    pub(super) after: Option<Uuid>,
    /// Points up to it.
    pub(super) points: usize,
}

impl Store {
    /// Copies what is current here into `to`, in place of what is current there; `progress(done, all)` counts points, first those
    /// that are copied, then those that are compared.
    ///
    /// # Errors
    /// When there is nothing to copy, a store fails, the source changes meanwhile, or the copy is not the same. What `to` served is
    /// served on, unless the comparison fails.
    pub async fn copy_to(&self, to: &Self, progress: impl Fn(usize, usize) + Sync) -> Result<Copied, EngineError> {
        let failed = |message: &str| EngineError::Store { store: self.describe(), message: message.into() };
        let Some(source) = self.contents().await? else { return Err(failed("it is empty; there is nothing to copy")) };
        if source.format != FORMAT {
            return Err(EngineError::StoreOfAnotherVersion { store: self.describe() });
        }
        let contents = Contents { retired: Vec::new(), added: 0, ..source.clone() };
        let key = key(self, &contents);
        let filling = to.begin(&contents, &key).await?;
        let begun = filling.progress();
        let (mut done, mut noted) = (begun, begun.points);
        loop {
            let page = self.page(done.after, CHUNK).await?;
            let Some(last) = page.last() else { break };
            done = Progress { after: Some(last.id), points: done.points + page.len() };
            to.put(&filling, page).await?;
            if done.points - noted >= NOTED {
                to.note(&filling, &contents, done).await?;
                noted = done.points;
            }
            progress(done.points, contents.wordings.max(done.points));
        }
        if self.contents().await?.is_none_or(|now| now.release != source.release) {
            return Err(failed("it was changed while it was copied; nothing was switched, copy again"));
        }
        to.finish(filling, contents).await?;
        let (checksum, largest_difference) = self.compare(to, done.points, &progress).await?;
        Ok(Copied { points: done.points, resumed: begun.points, checksum, largest_difference })
    }

    /// Reads both stores side by side.
    async fn compare(
        &self,
        other: &Self,
        points: usize,
        progress: &(impl Fn(usize, usize) + Sync),
    ) -> Result<(String, f32), EngineError> {
        let differs = |what: String| EngineError::Store {
            store: other.describe(),
            message: format!("it is no true copy of {}: {what}; copy again", self.describe()),
        };
        let (mut after, mut done, mut digest, mut largest) = (None, 0, Sha256::new(), 0.0_f32);
        loop {
            let (here, there) = (self.page(after, CHUNK).await?, other.page(after, CHUNK).await?);
            if here.len() != there.len() {
                return Err(differs(format!("{} points stand against {} after {done}", there.len(), here.len())));
            }
            for (here, there) in here.iter().zip(&there) {
                let same = here.id == there.id && here.bytes() == there.bytes();
                let difference = here.embedding.iter().zip(&there.embedding).map(|(a, b)| (a - b).abs());
                largest = difference.fold(largest, f32::max);
                if !same || here.embedding.len() != there.embedding.len() || largest > 1e-4 {
                    return Err(differs(format!("the wording {:?} is another one there", here.payload.wording)));
                }
                digest.update(here.bytes());
            }
            done += here.len();
            progress(done, points);
            match here.last() {
                Some(last) => after = Some(last.id),
                None => return Ok((hex(&digest.finalize()), largest)),
            }
        }
    }

    async fn begin(&self, contents: &Contents, key: &str) -> Result<Filling, EngineError> {
        Ok(match self {
            Self::Edge(store) => Filling::Edge(store.begin(contents, key).await?),
            Self::Server(store) => Filling::Server(store.begin(contents, key).await?),
        })
    }

    async fn put(&self, filling: &Filling, points: Vec<StoredPoint>) -> Result<(), EngineError> {
        match (self, filling) {
            (Self::Edge(store), Filling::Edge(filling)) => store.put(filling, points).await,
            (Self::Server(store), Filling::Server(filling)) => store.put(filling, points).await,
            _ => unreachable!("a filling is put into the store that began it"),
        }
    }

    async fn note(&self, filling: &Filling, contents: &Contents, progress: Progress) -> Result<(), EngineError> {
        match (self, filling) {
            (Self::Edge(store), Filling::Edge(filling)) => store.note(filling, progress).await,
            (Self::Server(store), Filling::Server(filling)) => store.note(filling, contents, progress).await,
            _ => unreachable!("a filling is noted by the store that began it"),
        }
    }

    async fn finish(&self, filling: Filling, contents: Contents) -> Result<(), EngineError> {
        match (self, filling) {
            (Self::Edge(store), Filling::Edge(filling)) => store.finish(filling, contents).await,
            (Self::Server(store), Filling::Server(filling)) => store.finish(filling, contents).await,
            _ => unreachable!("a filling is finished by the store that began it"),
        }
    }
}

impl Filling {
    fn progress(&self) -> Progress {
        match self {
            Self::Edge(filling) => filling.progress,
            Self::Server(filling) => filling.progress,
        }
    }
}

impl StoredPoint {
    /// What must be the same in a copy, without the embedding.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.id.as_bytes().to_vec();
        bytes.extend(serde_json::to_vec(&self.payload).expect("plain data is always JSON"));
        let terms = self.terms.indices.iter().zip(&self.terms.values);
        bytes.extend(terms.flat_map(|(index, value)| [index.to_le_bytes(), value.to_le_bytes()].concat()));
        bytes
    }
}

/// What a copy is of.
fn key(from: &Store, contents: &Contents) -> String {
    let what = serde_json::json!([from.describe(), contents.model_id, contents.release, contents.wordings]);
    hex(&Sha256::digest(what.to_string()))[..12].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
