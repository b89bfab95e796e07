//! Questions that the knowledge did not answer. They are turns like all others; nothing is stored twice.

use sqlx::Row;

use super::{Storage, StorageError};

/// A question that the knowledge did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Id of the turn that said so.
    pub id: String,
    /// The session.
    pub session_id: String,
    /// The question, masked.
    pub text: String,
    /// Its likeliest intent.
    pub intent: Option<String>,
    /// What was decided.
    pub decision: String,
    /// When.
    pub created_at: i64,
}

impl Storage {
    /// Questions that were told that no answer is known, or handed over because none was sure enough: newest first, older than
    /// the one with the id `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn gaps(&self, before: Option<&str>, limit: i64) -> Result<Vec<Gap>, StorageError> {
        // Ids are UUID v7: they sort by the time they were made. `g` sorts behind all of them, in any locale.
        let rows = sqlx::query(
            "SELECT bot.id, bot.session_id, bot.decision, bot.created_at, customer.text_masked, customer.intent \
             FROM turns bot \
             JOIN turns customer ON customer.session_id = bot.session_id AND customer.seq = bot.seq - 1 \
             WHERE (bot.decision = 'no_answer' OR bot.reason = 'low_confidence') \
             AND COALESCE(bot.reason, '') <> 'knowledge_unavailable' AND bot.id < $1 \
             ORDER BY bot.id DESC LIMIT $2",
        )
        .bind(before.unwrap_or("g"))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Gap {
                    id: row.try_get("id")?,
                    session_id: row.try_get("session_id")?,
                    text: row.try_get("text_masked")?,
                    intent: row.try_get("intent")?,
                    decision: row.try_get("decision")?,
                    created_at: row.try_get("created_at")?,
                })
            })
            .collect()
    }
}
