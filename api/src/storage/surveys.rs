//! Surveys: whom we ask and what they said; and the secrets that sign what we send.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Storage, StorageError, Tx, new_id, now};
use crate::desk::{Rating, Survey, SurveyKind, Ticket};

fn survey(row: &AnyRow) -> Result<Survey, StorageError> {
    let kind: String = row.try_get("kind")?;
    Ok(Survey {
        id: row.try_get("id")?,
        ticket_id: row.try_get("ticket_id")?,
        kind: kind.parse().map_err(|()| StorageError::Unknown { what: "the survey", value: kind })?,
        session_id: row.try_get("session_id")?,
        user_id: row.try_get("user_id")?,
        due_at: row.try_get("due_at")?,
        sent_at: row.try_get("sent_at")?,
        expires_at: row.try_get("expires_at")?,
        answered_at: row.try_get("answered_at")?,
    })
}

impl Storage {
    /// A secret of ours in hex, if there is one of that name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn secret(&self, name: &str) -> Result<Option<String>, StorageError> {
        let row =
            sqlx::query("SELECT value FROM secrets WHERE name = $1").bind(name).fetch_optional(&self.readers).await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// Keeps a secret, unless there is one of that name by now. Returns the one that holds.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_secret(&self, name: &str, value: &str) -> Result<String, StorageError> {
        sqlx::query("INSERT INTO secrets (name, value, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(value)
            .bind(now())
            .execute(&self.writer)
            .await?;
        let row = sqlx::query("SELECT value FROM secrets WHERE name = $1").bind(name).fetch_one(&self.writer).await?;
        Ok(row.try_get(0)?)
    }

    /// A survey, if it exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn survey(&self, id: &str) -> Result<Option<Survey>, StorageError> {
        let row = sqlx::query("SELECT * FROM surveys WHERE id = $1").bind(id).fetch_optional(&self.readers).await?;
        row.as_ref().map(survey).transpose()
    }

    /// The surveys of a ticket.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn surveys_of(&self, ticket_id: &str) -> Result<Vec<Survey>, StorageError> {
        let rows = sqlx::query("SELECT * FROM surveys WHERE ticket_id = $1 ORDER BY kind")
            .bind(ticket_id)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(survey).collect()
    }

    /// Surveys that are to be sent at a moment, of sessions that are the bot's, the longest due first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn due_surveys(&self, at: i64, limit: i64) -> Result<Vec<Survey>, StorageError> {
        let rows = sqlx::query(
            "SELECT v.* FROM surveys v JOIN sessions s ON s.id = v.session_id \
             WHERE v.sent_at IS NULL AND v.due_at <= $1 AND v.expires_at > $2 AND s.owner = 'bot' \
             ORDER BY v.due_at, v.id LIMIT $3",
        )
        .bind(at)
        .bind(at)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(survey).collect()
    }

    /// Forgets surveys that were not sent in time.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn remove_expired_surveys(&self, at: i64) -> Result<(), StorageError> {
        let expired = "SELECT id FROM surveys WHERE sent_at IS NULL AND due_at <= $1 AND expires_at <= $2 LIMIT 1";
        let found = sqlx::query(expired).bind(at).bind(at).fetch_optional(&self.readers).await?;
        if found.is_some() {
            sqlx::query("DELETE FROM surveys WHERE sent_at IS NULL AND due_at <= $1 AND expires_at <= $2")
                .bind(at)
                .bind(at)
                .execute(&self.writer)
                .await?;
        }
        Ok(())
    }

    /// Tickets that were resolved up to a moment and not closed, the longest resolved first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn resolved_up_to(&self, until: i64, limit: i64) -> Result<Vec<String>, StorageError> {
        let rows = sqlx::query(
            "SELECT id FROM tickets WHERE status = 'resolved' AND resolved_at <= $1 ORDER BY resolved_at LIMIT $2",
        )
        .bind(until)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

impl Tx {
    /// Makes a survey of a ticket. One that was not sent yet begins anew; one that was sent stays as it is.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_survey(
        &mut self,
        ticket: &Ticket,
        kind: SurveyKind,
        user_id: Option<&str>,
        due_at: i64,
        expires_at: i64,
    ) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO surveys (id, ticket_id, kind, session_id, user_id, due_at, expires_at, reasons) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, '[]') ON CONFLICT (ticket_id, kind) DO UPDATE \
             SET user_id = excluded.user_id, due_at = excluded.due_at, expires_at = excluded.expires_at \
             WHERE surveys.sent_at IS NULL",
        )
        .persistent(false)
        .bind(new_id())
        .bind(ticket.id.as_str())
        .bind(kind.as_str())
        .bind(ticket.session_id.as_str())
        .bind(user_id)
        .bind(due_at)
        .bind(expires_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Notes that a survey is sent; says whether it was not before and is still to be.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn mark_survey_sent(&mut self, id: &str, at: i64) -> Result<bool, StorageError> {
        let sql = "UPDATE surveys SET sent_at = $2 WHERE id = $1 AND sent_at IS NULL AND expires_at > $3";
        let done = sqlx::query(sql).bind(id).bind(at).bind(at).execute(self.connection()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Removes a survey that makes no sense any more.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn remove_survey(&mut self, id: &str) -> Result<(), StorageError> {
        sqlx::query("DELETE FROM surveys WHERE id = $1").bind(id).execute(self.connection()).await?;
        Ok(())
    }

    /// Notes that a customer is asked how likely they recommend us; says whether they were not since `before`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn invite(&mut self, user_id: &str, at: i64, before: i64) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "INSERT INTO survey_invitations (user_id, at) VALUES ($1, $2) ON CONFLICT (user_id) DO UPDATE \
             SET at = excluded.at WHERE survey_invitations.at <= $3",
        )
        .bind(user_id)
        .bind(at)
        .bind(before)
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Keeps the answer to a survey; says whether it had none.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn answer_survey(&mut self, id: &str, answer: &Rating, at: i64) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "UPDATE surveys SET answered_at = $2, score = $3, reasons = $4, comment = $5 \
             WHERE id = $1 AND answered_at IS NULL",
        )
        .persistent(false)
        .bind(id)
        .bind(at)
        .bind(answer.score)
        .bind(serde_json::json!(answer.reasons).to_string())
        .bind(answer.comment.as_deref())
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Whether the customer has judged the help with a ticket.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn is_rated(&mut self, ticket_id: &str) -> Result<bool, StorageError> {
        let row = sqlx::query("SELECT 1 FROM ratings WHERE ticket_id = $1")
            .bind(ticket_id)
            .fetch_optional(self.connection())
            .await?;
        Ok(row.is_some())
    }
}
