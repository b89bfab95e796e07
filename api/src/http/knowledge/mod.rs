//! `/v1/knowledge`: what the knowledge lacks, its entries, its files, and what of it is served.

pub(super) mod entries;
pub(super) mod files;
pub(super) mod gaps;
pub(super) mod releases;

use crate::chat::without_nul;
use crate::error::ApiError;

const MAX_LIMIT: i64 = 200;
/// Longest note, in characters.
const MAX_NOTE: usize = 500;

fn checked_note(note: String) -> Result<String, ApiError> {
    match note.chars().count() {
        0..=MAX_NOTE => Ok(without_nul(note)),
        length => Err(ApiError::field("note", format!("最多 {MAX_NOTE} 个字符，收到 {length} 个"))),
    }
}
