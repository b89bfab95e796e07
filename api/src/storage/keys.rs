//! API keys. Only their hashes are kept.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Dialect, Storage, StorageError, Tx, new_id, now};
use crate::auth::Role;

/// One key, as it may be shown.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// Its id; not the key.
    pub id: String,
    /// Who uses it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The organisation outside the house whose it is.
    pub organisation: Option<String>,
    /// When it was made.
    pub created_at: i64,
    /// Since when it is refused.
    pub revoked_at: Option<i64>,
}

fn key(row: &AnyRow) -> Result<KeyRecord, StorageError> {
    let role: String = row.try_get("role")?;
    Ok(KeyRecord {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        role: role.parse().map_err(|_| StorageError::Unknown { what: "the role", value: role })?,
        organisation: row.try_get("organisation")?,
        created_at: row.try_get("created_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

impl Storage {
    /// The key with this hash, unless it was revoked.
    ///
    /// Found by the index on the hash: what the time of the search may tell is about the hash of a guess, not about a key.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn key_by_hash(&self, hash: &str) -> Result<Option<KeyRecord>, StorageError> {
        let row = sqlx::query(
            "SELECT id, name, role, organisation, created_at, revoked_at FROM api_keys WHERE hash = $1 AND revoked_at IS NULL",
        )
        .bind(hash)
        .fetch_optional(&self.readers)
        .await?;
        row.as_ref().map(key).transpose()
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, StorageError> {
        let rows = sqlx::query("SELECT id, name, role, organisation, created_at, revoked_at FROM api_keys ORDER BY id")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(key).collect()
    }

    /// Refuses a key from now on; `false` when there is none with this id.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn revoke_key(&self, id: &str) -> Result<bool, StorageError> {
        let done = sqlx::query("UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1")
            .bind(id)
            .bind(now())
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() > 0)
    }
}

impl Tx {
    /// Waits until no other replica makes the first key.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn lock_keys(&mut self) -> Result<(), StorageError> {
        if self.dialect == Dialect::Postgres {
            sqlx::query("SELECT 1 FROM pg_advisory_xact_lock(20250711)").execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Whether any key was ever made.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn has_keys(&mut self) -> Result<bool, StorageError> {
        Ok(sqlx::query("SELECT id FROM api_keys LIMIT 1").fetch_optional(self.connection()).await?.is_some())
    }

    /// Stores a new key's hash.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_key(&mut self, name: &str, role: Role, hash: &str) -> Result<KeyRecord, StorageError> {
        self.store_key(name, role, None, hash).await
    }

    /// Stores the hash of a new key of an organisation that exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_outside_key(
        &mut self,
        name: &str,
        organisation: &str,
        hash: &str,
    ) -> Result<KeyRecord, StorageError> {
        self.store_key(name, Role::Agent, Some(organisation.to_owned()), hash).await
    }

    async fn store_key(
        &mut self,
        name: &str,
        role: Role,
        organisation: Option<String>,
        hash: &str,
    ) -> Result<KeyRecord, StorageError> {
        let id = new_id();
        let record = KeyRecord { id, name: name.to_owned(), role, organisation, created_at: now(), revoked_at: None };
        sqlx::query(
            "INSERT INTO api_keys (id, name, role, hash, organisation, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .persistent(false)
        .bind(record.id.as_str())
        .bind(name)
        .bind(role.as_str())
        .bind(hash)
        .bind(record.organisation.as_deref())
        .bind(record.created_at)
        .execute(self.connection())
        .await?;
        Ok(record)
    }
}
