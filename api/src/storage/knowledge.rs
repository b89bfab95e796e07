//! The knowledge with its history: versions of entries, and the releases that they were published in.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::any::AnyRow;

use super::statement::{Item, Statement};
use super::{Dialect, Storage, StorageError, Tx, now};

/// Entries that one statement names.
const AT_ONCE: usize = 200;

/// Where a version of an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionState {
    /// To be published.
    Draft,
    /// Being published.
    Writing,
    /// In the current release.
    Published,
    /// Was in a release.
    Past,
    /// Never was in one.
    Discarded,
}

/// One version of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The entry.
    pub entry_id: String,
    /// Its number, from 1.
    pub version: i64,
    /// Where it stands.
    pub state: VersionState,
    /// JSON of the entry; `None` where it is removed.
    pub body: Option<String>,
    /// Who wrote it.
    pub author: String,
    /// Why.
    pub note: String,
    /// When.
    pub created_at: i64,
    /// The first release that it was in.
    pub from_release: Option<i64>,
    /// The first one after that it was not in any more.
    pub to_release: Option<i64>,
}

/// A version to be written.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// The entry.
    pub entry_id: String,
    /// JSON of the entry; `None` removes it.
    pub body: Option<String>,
    /// How many wordings it has.
    pub wordings: i64,
}

/// How a release came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseKind {
    /// Drafts were published.
    Publish,
    /// A file took the place of everything.
    Import,
    /// An earlier release was brought back.
    Rollback,
}

impl ReleaseKind {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Import => "import",
            Self::Rollback => "rollback",
        }
    }
}

/// Where a release stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseState {
    /// It is being written.
    Writing,
    /// It was made current; the highest of these is.
    Published,
    /// It never was.
    Failed,
}

impl ReleaseState {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Published => "published",
            Self::Failed => "failed",
        }
    }
}

/// One release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its number.
    pub release: i64,
    /// How it came about.
    pub kind: ReleaseKind,
    /// Of a rollback: what it brought back.
    pub restores: Option<i64>,
    /// Where it stands.
    pub state: ReleaseState,
    /// Who made it.
    pub author: String,
    /// Why.
    pub note: String,
    /// Entries that it changes.
    pub changes: i64,
    /// How many of them are written.
    pub done: i64,
    /// Entries in the whole release.
    pub entries: i64,
    /// Why it failed.
    pub problem: Option<String>,
    /// When it was begun.
    pub created_at: i64,
    /// When it last moved.
    pub updated_at: i64,
}

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct KnowledgeFilter {
    /// Only entries with a draft.
    pub drafts: bool,
    /// Only entries in whose JSON this stands.
    pub text: Option<String>,
    /// Only entries whose id follows this one.
    pub after: Option<String>,
    /// Most entries.
    pub limit: i64,
}

fn version(row: &AnyRow) -> Result<Version, StorageError> {
    let state: String = row.try_get("state")?;
    Ok(Version {
        entry_id: row.try_get("entry_id")?,
        version: row.try_get("version")?,
        state: match state.as_str() {
            "draft" => VersionState::Draft,
            "writing" => VersionState::Writing,
            "published" => VersionState::Published,
            "past" => VersionState::Past,
            "discarded" => VersionState::Discarded,
            _ => return Err(StorageError::Unknown { what: "the state of a version", value: state }),
        },
        body: row.try_get("body")?,
        author: row.try_get("author")?,
        note: row.try_get("note")?,
        created_at: row.try_get("created_at")?,
        from_release: row.try_get("from_release")?,
        to_release: row.try_get("to_release")?,
    })
}

fn release(row: &AnyRow) -> Result<Release, StorageError> {
    let (kind, state): (String, String) = (row.try_get("kind")?, row.try_get("state")?);
    Ok(Release {
        release: row.try_get("release")?,
        kind: match kind.as_str() {
            "publish" => ReleaseKind::Publish,
            "import" => ReleaseKind::Import,
            "rollback" => ReleaseKind::Rollback,
            _ => return Err(StorageError::Unknown { what: "the kind of a release", value: kind }),
        },
        restores: row.try_get("restores")?,
        state: match state.as_str() {
            "writing" => ReleaseState::Writing,
            "published" => ReleaseState::Published,
            "failed" => ReleaseState::Failed,
            _ => return Err(StorageError::Unknown { what: "the state of a release", value: state }),
        },
        author: row.try_get("author")?,
        note: row.try_get("note")?,
        changes: row.try_get("changes")?,
        done: row.try_get("done")?,
        entries: row.try_get("entries")?,
        problem: row.try_get("problem")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// A text as `LIKE` finds it anywhere; `\` is the escape.
fn anywhere(text: &str) -> String {
    format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

impl Storage {
    /// The versions that count of the entries that a filter lets through, by id of the entry: draft, in writing, published.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn knowledge(&self, filter: &KnowledgeFilter) -> Result<Vec<Version>, StorageError> {
        let rows = sqlx::query(
            "SELECT * FROM knowledge_versions WHERE state IN ('draft', 'writing', 'published') AND entry_id IN ( \
                 SELECT DISTINCT entry_id FROM knowledge_versions \
                 WHERE (state = 'draft' OR ($1 = 0 AND state IN ('writing', 'published') AND body IS NOT NULL)) \
                 AND entry_id > $2 AND LOWER(COALESCE(body, '')) LIKE LOWER($3) ESCAPE '\\' ORDER BY entry_id LIMIT $4 \
             ) ORDER BY entry_id, version",
        )
        .bind(i64::from(filter.drafts))
        .bind(filter.after.as_deref().unwrap_or(""))
        .bind(anywhere(filter.text.as_deref().unwrap_or("")))
        .bind(filter.limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(version).collect()
    }

    /// All versions of an entry, latest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn knowledge_history(&self, entry_id: &str) -> Result<Vec<Version>, StorageError> {
        let rows = sqlx::query("SELECT * FROM knowledge_versions WHERE entry_id = $1 ORDER BY version DESC")
            .bind(entry_id)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(version).collect()
    }

    /// The JSON of every entry of the current release, by id.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn published_knowledge(&self) -> Result<Vec<String>, StorageError> {
        let sql =
            "SELECT body FROM knowledge_versions WHERE state = 'published' AND body IS NOT NULL ORDER BY entry_id";
        let rows = sqlx::query(sql).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// The versions that a release is made of while it is being written.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn versions_in_writing(&self, number: i64) -> Result<Vec<Version>, StorageError> {
        let sql = "SELECT * FROM knowledge_versions WHERE state = 'writing' AND from_release = $1 ORDER BY entry_id";
        let rows = sqlx::query(sql).bind(number).fetch_all(&self.readers).await?;
        rows.iter().map(version).collect()
    }

    /// Releases below `before`, latest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn releases(&self, before: i64, limit: i64) -> Result<Vec<Release>, StorageError> {
        let sql = "SELECT * FROM knowledge_releases WHERE release < $1 ORDER BY release DESC LIMIT $2";
        let rows = sqlx::query(sql).bind(before).bind(limit).fetch_all(&self.readers).await?;
        rows.iter().map(release).collect()
    }

    /// One release.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn release(&self, number: i64) -> Result<Option<Release>, StorageError> {
        let sql = "SELECT * FROM knowledge_releases WHERE release = $1";
        let row = sqlx::query(sql).bind(number).fetch_optional(&self.readers).await?;
        row.as_ref().map(release).transpose()
    }

    /// The current release: the highest that was published.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn current_release(&self) -> Result<Option<Release>, StorageError> {
        let sql = "SELECT * FROM knowledge_releases WHERE state = 'published' ORDER BY release DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(&self.readers).await?;
        row.as_ref().map(release).transpose()
    }

    /// The release that is being written, if one is.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn release_in_writing(&self) -> Result<Option<Release>, StorageError> {
        let sql = "SELECT * FROM knowledge_releases WHERE state = 'writing'";
        let row = sqlx::query(sql).fetch_optional(&self.readers).await?;
        row.as_ref().map(release).transpose()
    }

    /// Says how far a release has come.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn release_moved(&self, number: i64, done: i64) -> Result<(), StorageError> {
        self.release_moved_at(number, done, None).await
    }

    /// As [`Storage::release_moved`], at a time of one's choice.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn release_moved_at(&self, number: i64, done: i64, at: Option<i64>) -> Result<(), StorageError> {
        let sql = "UPDATE knowledge_releases SET done = $2, updated_at = $3 WHERE release = $1 AND state = 'writing'";
        // The time is that of the write and not that of the wait for it.
        let mut connection = self.writer.acquire().await?;
        let at = at.unwrap_or_else(now);
        sqlx::query(sql).bind(number).bind(done).bind(at).execute(&mut *connection).await?;
        Ok(())
    }
}

impl Tx {
    /// The versions that count of one entry: draft, in writing, published.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn versions(&mut self, entry_id: &str) -> Result<Vec<Version>, StorageError> {
        let sql = "SELECT * FROM knowledge_versions WHERE entry_id = $1 AND state IN ('draft', 'writing', 'published') \
                   ORDER BY version";
        let rows = sqlx::query(sql).bind(entry_id).fetch_all(self.connection()).await?;
        rows.iter().map(version).collect()
    }

    /// Waits until nobody else changes the knowledge, in any replica; a database of one writer waits already.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn lock_knowledge(&mut self) -> Result<(), StorageError> {
        if self.dialect == Dialect::Postgres {
            sqlx::query("SELECT 1 FROM pg_advisory_xact_lock(20250715)").execute(self.connection()).await?;
        }
        Ok(())
    }

    /// What is not served yet: versions in writing, then drafts.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn upcoming(&mut self) -> Result<Vec<Version>, StorageError> {
        let sql = "SELECT * FROM knowledge_versions WHERE state IN ('writing', 'draft') ORDER BY state DESC, entry_id";
        let rows = sqlx::query(sql).fetch_all(self.connection()).await?;
        rows.iter().map(version).collect()
    }

    /// Puts a version behind all others of its entry, as `draft` or `writing`. A draft takes the place of an earlier one. Its
    /// number.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_version(
        &mut self,
        new: &NewVersion,
        author: &str,
        note: &str,
        in_writing: Option<i64>,
    ) -> Result<i64, StorageError> {
        Ok(self.add_versions(std::slice::from_ref(new), author, note, in_writing).await?[0])
    }

    /// As [`Tx::add_version`], for many entries, each of them once. The numbers in their order.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_versions(
        &mut self,
        new: &[NewVersion],
        author: &str,
        note: &str,
        in_writing: Option<i64>,
    ) -> Result<Vec<i64>, StorageError> {
        const COLUMNS: [&str; 9] =
            ["entry_id", "version", "state", "body", "wordings", "author", "note", "created_at", "from_release"];
        let at = now();
        let mut numbers = Vec::with_capacity(new.len());
        for some in new.chunks(AT_ONCE) {
            let ids = || some.iter().map(|version| version.entry_id.as_str());
            if in_writing.is_none() {
                let mut sql =
                    Statement::new("UPDATE knowledge_versions SET state = 'discarded' WHERE state = 'draft' AND ");
                sql.push("entry_id IN (").push_list(ids()).push(")");
                sql.build().execute(self.connection()).await?;
            }
            let mut sql = Statement::new("SELECT entry_id, MAX(version) FROM knowledge_versions WHERE entry_id IN (");
            sql.push_list(ids()).push(") GROUP BY entry_id");
            let rows = sql.build().fetch_all(self.connection()).await?;
            let last = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
            let last: HashMap<String, i64> = last.collect::<Result<_, StorageError>>()?;
            let row = |new: &NewVersion| {
                let number = last.get(&new.entry_id).copied().unwrap_or(0) + 1;
                numbers.push(number);
                let state = if in_writing.is_some() { "writing" } else { "draft" };
                vec![
                    new.entry_id.as_str().into(),
                    number.into(),
                    state.into(),
                    new.body.as_deref().map_or(Item::NoText, Item::from),
                    new.wordings.into(),
                    author.into(),
                    note.into(),
                    at.into(),
                    in_writing.map_or(Item::NoWhole, Item::from),
                ]
            };
            self.add_rows("knowledge_versions", &COLUMNS, some.iter().map(row).collect()).await?;
        }
        Ok(numbers)
    }

    /// Gives a draft up. Whether there was one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn discard_draft(&mut self, entry_id: &str) -> Result<bool, StorageError> {
        let sql = "UPDATE knowledge_versions SET state = 'discarded' WHERE entry_id = $1 AND state = 'draft'";
        Ok(sqlx::query(sql).bind(entry_id).execute(self.connection()).await?.rows_affected() > 0)
    }

    /// The entries that differ between two releases, each with its JSON in the earlier one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn versions_of_release(&mut self, earlier: i64, later: i64) -> Result<Vec<NewVersion>, StorageError> {
        let rows = sqlx::query(
            "SELECT changed.entry_id AS entry_id, old.body AS body, COALESCE(old.wordings, 0) AS wordings FROM ( \
                 SELECT DISTINCT entry_id FROM knowledge_versions WHERE state IN ('published', 'past') \
                 AND from_release > $1 AND from_release <= $2 \
             ) changed LEFT JOIN knowledge_versions old ON old.entry_id = changed.entry_id \
                 AND old.state IN ('published', 'past') AND old.from_release <= $1 \
                 AND (old.to_release IS NULL OR old.to_release > $1) \
             ORDER BY changed.entry_id",
        )
        .bind(earlier)
        .bind(later)
        .fetch_all(self.connection())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(NewVersion {
                    entry_id: row.try_get("entry_id")?,
                    body: row.try_get("body")?,
                    wordings: row.try_get("wordings")?,
                })
            })
            .collect()
    }

    /// The JSON of every entry of the current release, by id.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn published(&mut self) -> Result<Vec<(String, String)>, StorageError> {
        let sql = "SELECT entry_id, body FROM knowledge_versions WHERE state = 'published' AND body IS NOT NULL";
        let rows = sqlx::query(sql).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Begins a release with a number above all others and above `at_least`.
    ///
    /// # Errors
    ///
    /// When the database fails, also where another release is being written.
    pub async fn begin_release(
        &mut self,
        kind: ReleaseKind,
        restores: Option<i64>,
        at_least: i64,
        author: &str,
        note: &str,
    ) -> Result<i64, StorageError> {
        let sql = "SELECT COALESCE(MAX(release), 0) FROM knowledge_releases";
        let last: i64 = sqlx::query(sql).fetch_one(self.connection()).await?.try_get(0)?;
        let (number, at) = (last.max(at_least) + 1, now());
        sqlx::query(
            "INSERT INTO knowledge_releases (release, kind, restores, state, author, note, changes, done, entries, created_at, \
             updated_at) VALUES ($1, $2, $3, 'writing', $4, $5, 0, 0, 0, $6, $7)",
        )
        .bind(number)
        .bind(kind.as_str())
        .bind(restores)
        .bind(author)
        .bind(note)
        .bind(at)
        .bind(at)
        .execute(self.connection())
        .await?;
        Ok(number)
    }

    /// Puts all drafts, or those of some entries, into the release that is being written. How many there were.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn take_drafts(&mut self, ids: Option<&[String]>, number: i64) -> Result<u64, StorageError> {
        let take = || {
            let mut sql = Statement::new("UPDATE knowledge_versions SET state = 'writing', from_release = ");
            sql.push_bind(number).push(" WHERE state = 'draft'");
            sql
        };
        let Some(ids) = ids else {
            return Ok(take().build().execute(self.connection()).await?.rows_affected());
        };
        let mut taken = 0;
        for some in ids.chunks(AT_ONCE) {
            let mut sql = take();
            sql.push(" AND entry_id IN (").push_list(some.iter().map(String::as_str)).push(")");
            taken += sql.build().execute(self.connection()).await?.rows_affected();
        }
        Ok(taken)
    }

    /// Entries and wordings of the release that is being written, noted with it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_release(&mut self, number: i64, changes: usize) -> Result<(i64, i64), StorageError> {
        let row = sqlx::query(
            "SELECT COUNT(*), CAST(COALESCE(SUM(wordings), 0) AS BIGINT) FROM knowledge_versions WHERE body IS NOT NULL AND (state = 'writing' \
             OR (state = 'published' AND entry_id NOT IN ( \
                 SELECT entry_id FROM knowledge_versions WHERE state = 'writing')))",
        )
        .fetch_one(self.connection())
        .await?;
        let (entries, wordings): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        sqlx::query("UPDATE knowledge_releases SET changes = $2, entries = $3, updated_at = $4 WHERE release = $1")
            .bind(number)
            .bind(changes as i64)
            .bind(entries)
            .bind(now())
            .execute(self.connection())
            .await?;
        Ok((entries, wordings))
    }

    /// Makes the release that is being written the current one. Whether it was still being written.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn end_release(&mut self, number: i64) -> Result<bool, StorageError> {
        let sql = "UPDATE knowledge_releases SET state = 'published', done = changes, updated_at = $2 \
                   WHERE release = $1 AND state = 'writing'";
        if sqlx::query(sql).bind(number).bind(now()).execute(self.connection()).await?.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "UPDATE knowledge_versions SET state = 'past', to_release = $1 WHERE state = 'published' AND entry_id IN ( \
             SELECT entry_id FROM knowledge_versions WHERE state = 'writing' AND from_release = $1)",
        )
        .bind(number)
        .execute(self.connection())
        .await?;
        let sql = "UPDATE knowledge_versions SET state = 'published' WHERE state = 'writing' AND from_release = $1";
        sqlx::query(sql).bind(number).execute(self.connection()).await?;
        Ok(true)
    }

    /// Gives up the release that is being written: what it was to publish is a draft again, unless there is a newer one. Not where
    /// it has moved since `moved_at`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn fail_release(
        &mut self,
        number: i64,
        moved_at: Option<i64>,
        problem: &str,
    ) -> Result<(), StorageError> {
        let mut sql = Statement::new("UPDATE knowledge_releases SET state = 'failed', problem = ");
        sql.push_bind(problem).push(", updated_at = ").push_bind(now());
        sql.push(" WHERE state = 'writing' AND release = ").push_bind(number);
        if let Some(moved_at) = moved_at {
            sql.push(" AND updated_at = ").push_bind(moved_at);
        }
        let failed = sql.build().execute(self.connection()).await?;
        if failed.rows_affected() == 0 {
            return Ok(());
        }
        sqlx::query(
            "UPDATE knowledge_versions SET state = 'discarded', from_release = NULL WHERE state = 'writing' \
             AND from_release = $1 AND (entry_id IN (SELECT entry_id FROM knowledge_versions WHERE state = 'draft') \
             OR EXISTS (SELECT 1 FROM knowledge_releases WHERE release = $1 AND kind <> 'publish'))",
        )
        .bind(number)
        .execute(self.connection())
        .await?;
        let sql = "UPDATE knowledge_versions SET state = 'draft', from_release = NULL \
                   WHERE state = 'writing' AND from_release = $1";
        sqlx::query(sql).bind(number).execute(self.connection()).await?;
        Ok(())
    }
}
