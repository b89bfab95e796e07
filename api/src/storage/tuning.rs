//! What supervisors changed of routing and targets.

use sqlx::Row;

use super::{Storage, StorageError, now};

/// A change of routing and targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TuningRecord {
    /// Its number, from 1.
    pub version: i64,
    /// JSON; `None`: what the configuration file says.
    pub tuning: Option<String>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub note: String,
    /// When.
    pub created_at: i64,
}

impl Storage {
    /// The last change, if there was one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn tuning(&self) -> Result<Option<TuningRecord>, StorageError> {
        let sql = "SELECT * FROM desk_tunings ORDER BY version DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(&self.readers).await?;
        row.map(|row| {
            Ok(TuningRecord {
                version: row.try_get("version")?,
                tuning: row.try_get("tuning")?,
                author: row.try_get("author")?,
                note: row.try_get("note")?,
                created_at: row.try_get("created_at")?,
            })
        })
        .transpose()
    }

    /// Adds a change after the last one, which must be `version` (0 for none). Says whether it was.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_tuning(
        &self,
        version: i64,
        tuning: Option<&str>,
        author: &str,
        note: &str,
    ) -> Result<bool, StorageError> {
        let mut tx = self.begin().await?;
        let added = sqlx::query(
            "INSERT INTO desk_tunings (version, tuning, author, note, created_at) SELECT $1, $2, $3, $4, $5 \
             WHERE $6 = COALESCE((SELECT MAX(version) FROM desk_tunings), 0) ON CONFLICT (version) DO NOTHING",
        )
        .persistent(false)
        .bind(version + 1)
        .bind(tuning)
        .bind(author)
        .bind(note)
        .bind(now())
        .bind(version)
        .execute(tx.connection())
        .await?;
        tx.commit().await?;
        Ok(added.rows_affected() == 1)
    }
}
