//! Files beside a conversation. Their bytes are in the database, so that all replicas have them.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Storage, StorageError, Tx, now};
use crate::desk::attachments::File;

/// Milliseconds within which the files of a session are counted.
const HOUR: i64 = 60 * 60 * 1000;
/// All that is told of a file; its bytes are read by themselves.
const TOLD: &str = "id, session_id, seq, ticket_id, organisation, name, media_type, size, created_at";

/// A stored file, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its id.
    pub id: String,
    /// Its session.
    pub session_id: String,
    /// The turn that it came with; `None`: only colleagues see it.
    pub seq: Option<i64>,
    /// The ticket in whose history it stands, where only colleagues see it.
    pub ticket_id: Option<String>,
    /// Whose colleagues: an organisation's; `None`: the house's.
    pub organisation: Option<String>,
    /// Its name, without a path.
    pub name: String,
    /// Its type, by its bytes.
    pub media_type: String,
    /// Its size in bytes.
    pub size: i64,
    /// When it came.
    pub created_at: i64,
}

/// Where a file belongs.
#[derive(Clone, Copy, Debug)]
pub enum Belongs<'a> {
    /// To a turn.
    Turn(i64),
    /// To the history of a ticket, for colleagues only.
    Ticket {
        /// The ticket.
        id: &'a str,
        /// Whose colleagues: an organisation's; `None`: the house's.
        organisation: Option<&'a str>,
    },
}

fn attachment(row: &AnyRow) -> Result<Attachment, StorageError> {
    Ok(Attachment {
        id: row.try_get("id")?,
        session_id: row.try_get("session_id")?,
        seq: row.try_get("seq")?,
        ticket_id: row.try_get("ticket_id")?,
        organisation: row.try_get("organisation")?,
        name: row.try_get("name")?,
        media_type: row.try_get("media_type")?,
        size: row.try_get("size")?,
        created_at: row.try_get("created_at")?,
    })
}

impl Storage {
    /// What is known of a file, if it exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn attachment(&self, id: &str) -> Result<Option<Attachment>, StorageError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {TOLD} FROM attachments WHERE id = $1"));
        let row = sqlx::query(sql).bind(id).fetch_optional(&self.readers).await?;
        row.as_ref().map(attachment).transpose()
    }

    /// The bytes of a file that exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn attachment_content(&self, id: &str) -> Result<Vec<u8>, StorageError> {
        let row = sqlx::query("SELECT content FROM attachments WHERE id = $1").bind(id);
        Ok(row.fetch_one(&self.readers).await?.try_get(0)?)
    }

    /// The files of turns numbered above `after` and up to `until`, by turn.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn attachments_of_turns(
        &self,
        session_id: &str,
        after: i64,
        until: i64,
    ) -> Result<BTreeMap<i64, Vec<Attachment>>, StorageError> {
        let sql =
            format!("SELECT {TOLD} FROM attachments WHERE session_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq, id");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(session_id)
            .bind(after)
            .bind(until)
            .fetch_all(&self.readers)
            .await?;
        let mut found: BTreeMap<i64, Vec<Attachment>> = BTreeMap::new();
        for row in &rows {
            let attachment = attachment(row)?;
            found.entry(attachment.seq.unwrap_or_default()).or_default().push(attachment);
        }
        Ok(found)
    }
}

impl Tx {
    /// As [`Storage::attachment`].
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn attachment(&mut self, id: &str) -> Result<Option<Attachment>, StorageError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {TOLD} FROM attachments WHERE id = $1"));
        let row = sqlx::query(sql).bind(id).fetch_optional(self.connection()).await?;
        row.as_ref().map(attachment).transpose()
    }

    /// Whether a locked session may get one more file: after how many milliseconds it may, `None` for now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn wait_for_attachment(&mut self, session_id: &str, per_hour: u32) -> Result<Option<i64>, StorageError> {
        let at = now();
        let row = sqlx::query(
            "SELECT created_at FROM attachments WHERE session_id = $1 AND created_at > $2 \
             ORDER BY created_at DESC LIMIT 1 OFFSET $3",
        )
        .bind(session_id)
        .bind(at - HOUR)
        .bind(i64::from(per_hour.max(1)) - 1)
        .fetch_optional(self.connection())
        .await?;
        let oldest: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
        Ok(if per_hour == 0 { Some(HOUR) } else { oldest.map(|oldest| (oldest + HOUR - at).max(1)) })
    }

    /// Keeps a file of a locked session under an id.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_attachment(
        &mut self,
        id: String,
        session_id: &str,
        belongs: Belongs<'_>,
        file: &File,
    ) -> Result<Attachment, StorageError> {
        let (seq, ticket_id, organisation) = match belongs {
            Belongs::Turn(seq) => (Some(seq), None, None),
            Belongs::Ticket { id, organisation } => (None, Some(id.to_owned()), organisation.map(str::to_owned)),
        };
        let kept = Attachment {
            id,
            session_id: session_id.to_owned(),
            seq,
            ticket_id,
            organisation,
            name: file.name.clone(),
            media_type: file.media_type.to_owned(),
            size: i64::try_from(file.content.len()).unwrap_or(i64::MAX),
            created_at: now(),
        };
        sqlx::query(
            "INSERT INTO attachments (id, session_id, seq, ticket_id, organisation, name, media_type, size, content, \
             created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .persistent(false)
        .bind(kept.id.as_str())
        .bind(session_id)
        .bind(kept.seq)
        .bind(kept.ticket_id.as_deref())
        .bind(kept.organisation.as_deref())
        .bind(kept.name.as_str())
        .bind(kept.media_type.as_str())
        .bind(kept.size)
        .bind(file.content.as_slice())
        .bind(kept.created_at)
        .execute(self.connection())
        .await?;
        Ok(kept)
    }
}
