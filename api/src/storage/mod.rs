//! All that the service remembers: sessions, turns, tickets, keys, people. One set of SQL for SQLite and PostgreSQL.
//!
//! Only this module and its children write SQL. Texts come here masked. Several writes that belong together go through
//! one [`Tx`], which the caller commits.

mod agents;
mod attachments;
mod bulk;
mod gaps;
mod interventions;
mod keys;
mod knowledge;
mod live;
mod organisations;
mod outgoing;
mod reports;
mod search;
mod service_desks;
mod sessions;
mod statement;
mod surveys;
mod tickets;
mod tuning;
mod users;

use std::path::Path;
use std::time::Duration;

pub use agents::{AgentRecord, Queued};
pub use attachments::{Attachment, Belongs};
pub use gaps::Gap;
pub use keys::KeyRecord;
pub use knowledge::{KnowledgeFilter, NewVersion, Release, ReleaseKind, ReleaseState, Version, VersionState};
pub use live::SessionState;
pub use outgoing::{AttemptOutcome, Delivery, DeliveryFilter, DeliveryState, DueDelivery, WebhookRecord};
pub use reports::{AgentLoad, Board, Cell, Column, Group, Report, ReportFilter, Span, Table};
pub use search::{Found, FoundPage, Place, SEARCHED};
pub use service_desks::{NewRemote, RemoteRecord, RemoteState};
pub use sessions::{NewTurn, Owner, Session, SessionDetails, StoredMessage, Turn};
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, AnyPool, Connection, Row, Transaction};
pub use statement::Item;
pub use tickets::{Correction, NewEvent, NewTicket, TicketEvent, TicketFilter};
use tokio::sync::broadcast;
pub use tuning::TuningRecord;
pub use users::{Login, NewLogin, User};

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It cannot be opened or reached.
    #[error(
        "the database {database} cannot be opened: {message}. Check --database (or --data) and that it is running and writable"
    )]
    Open {
        /// Its address, without a password.
        database: String,
        /// What the driver said.
        message: String,
    },
    /// Migrations failed.
    #[error(
        "the tables of the database {database} cannot be brought up to date: {source}. \
         If a newer version of yingda made them, run that version"
    )]
    Migrate {
        /// Its address, without a password.
        database: String,
        /// What the migration said.
        source: sqlx::migrate::MigrateError,
    },
    /// The disk is full.
    #[error("the disk that holds the database is full; free some space, nothing was written ({0})")]
    Full(sqlx::Error),
    /// The database cannot be written.
    #[error("the database is read-only; make the data folder and its files writable for this user ({0})")]
    ReadOnly(sqlx::Error),
    /// Any other failure of the database.
    #[error("the database failed: {0}")]
    Database(sqlx::Error),
    /// It does not answer a simple question.
    #[error("the database did not answer within 2 seconds")]
    Slow,
    /// A row holds what this version does not know.
    #[error("the database holds {what} `{value}`, which this version of yingda does not know")]
    Unknown {
        /// What kind of value.
        what: &'static str,
        /// The value.
        value: String,
    },
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        // The words of SQLITE_FULL and SQLITE_READONLY/SQLITE_CANTOPEN, and PostgreSQL's classes 53 and 25.
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        if text.contains("database or disk is full") || code.as_deref() == Some("53100") {
            Self::Full(error)
        } else if text.contains("readonly database") || code.as_deref() == Some("25006") {
            Self::ReadOnly(error)
        } else {
            Self::Database(error)
        }
    }
}

/// The database behind the one set of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A file of our own.
    Sqlite,
    /// A server that several replicas may share.
    Postgres,
}

impl Dialect {
    /// The dialect that a database address asks for.
    pub fn of(url: &str) -> Option<Self> {
        match url.split_once(':')?.0 {
            "sqlite" => Some(Self::Sqlite),
            "postgres" | "postgresql" => Some(Self::Postgres),
            _ => None,
        }
    }
}

/// The open database.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Reads outside a transaction.
    readers: AnyPool,
    /// All writes. One connection for SQLite, which knows a single writer anyway: waiting here in turn is cheaper than
    /// being refused there. The same pool as `readers` for PostgreSQL.
    writer: AnyPool,
    dialect: Dialect,
    /// Ids of sessions, told after each commit that may have changed them.
    changes: broadcast::Sender<String>,
}

/// Changes that a listener may lag behind before it has to look at everything.
const CHANGES: usize = 4096;

/// Writes that become true together, at [`Tx::commit`], or not at all.
pub struct Tx {
    inner: Transaction<'static, sqlx::Any>,
    dialect: Dialect,
    /// Sessions that were locked, to be told of when it is true.
    sessions: Vec<String>,
    changes: broadcast::Sender<String>,
}

/// The address of a SQLite file.
pub fn sqlite_url(path: &Path) -> String {
    // `%` first: sqlx decodes the address once.
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace(' ', "%20");
    format!("sqlite:{path}?mode=rwc")
}

/// An address as it may be shown: without user name, password and parameters.
pub fn shown(url: &str) -> String {
    let url = url.split('?').next().unwrap_or(url);
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

impl Storage {
    /// Connects and brings the tables up to date.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached, written or migrated.
    pub async fn open(url: &str) -> Result<Self, StorageError> {
        sqlx::any::install_default_drivers();
        let dialect = Dialect::of(url).ok_or_else(|| StorageError::Open {
            database: shown(url),
            message: "an address starts with sqlite: or postgres:".to_owned(),
        })?;
        let failed = |error: sqlx::Error| StorageError::Open { database: shown(url), message: error.to_string() };
        let options = || {
            AnyPoolOptions::new()
                .acquire_timeout(Duration::from_secs(10))
                .after_release(|connection, _| Box::pin(left_clean(connection)))
        };
        let (changes, _) = broadcast::channel(CHANGES);
        let storage = match dialect {
            Dialect::Sqlite => {
                let options = || {
                    options()
                        .max_lifetime(None)
                        .idle_timeout(None)
                        .after_connect(|connection, _| Box::pin(pragmas(connection)))
                };
                // The writer first: it makes the file, and sets it to WAL before a reader opens it.
                let writer = options().max_connections(1).min_connections(1).connect(url).await.map_err(failed)?;
                let readers = options().max_connections(8).connect(url).await.map_err(failed)?;
                Self { readers, writer, dialect, changes }
            }
            Dialect::Postgres => {
                // A pool tries again and again and in the end says no more than that it did. One plain attempt says why.
                let attempt = tokio::time::timeout(Duration::from_secs(10), AnyConnection::connect(url));
                let connection = attempt.await.map_err(|_| failed(sqlx::Error::PoolTimedOut))?.map_err(failed)?;
                connection.close().await.map_err(failed)?;
                let pool = options().max_connections(16).connect(url).await.map_err(failed)?;
                Self { readers: pool.clone(), writer: pool, dialect, changes }
            }
        };
        sqlx::migrate!("./migrations")
            .run(&storage.writer)
            .await
            .map_err(|source| StorageError::Migrate { database: shown(url), source })?;
        storage.prepare_search().await?;
        Ok(storage)
    }

    /// Starts writes that belong together.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn begin(&self) -> Result<Tx, StorageError> {
        let inner = match self.dialect {
            // Another process (`yingda keys`) may write too: take the write lock now, where waiting for it works.
            Dialect::Sqlite => self.writer.begin_with("BEGIN IMMEDIATE").await?,
            Dialect::Postgres => self.writer.begin().await?,
        };
        Ok(Tx { inner, dialect: self.dialect, sessions: Vec::new(), changes: self.changes.clone() })
    }

    /// Ids of sessions that this process changes from now on, each after the commit.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StorageError> {
        sqlx::query("SELECT 1").fetch_one(&self.readers).await?;
        Ok(())
    }

    /// Closes all connections after what they are doing now.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl Tx {
    /// Makes the writes true.
    ///
    /// # Errors
    ///
    /// When the database refuses; then none of them is.
    pub async fn commit(self) -> Result<(), StorageError> {
        self.inner.commit().await?;
        for id in self.sessions {
            // An error means that nobody listens.
            let _ = self.changes.send(id);
        }
        Ok(())
    }

    fn connection(&mut self) -> &mut AnyConnection {
        &mut self.inner
    }
}

async fn pragmas(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    for pragma in [
        "PRAGMA busy_timeout = 10000",
        "PRAGMA journal_mode = WAL",
        // FULL: an answer that was sent is on the disk, also after a power cut.
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
    ] {
        sqlx::query(pragma).fetch_optional(&mut *connection).await?;
    }
    Ok(())
}

/// Whether a connection came back without a transaction. SQLite ends one by itself when the disk is full; the driver's own
/// roll-back then fails, and it would believe for ever that the connection is inside one. Such a connection is closed.
async fn left_clean(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // A roll-back is only sent when a transaction is dropped; this waits until it is done.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// Milliseconds since 1970, now.
pub fn now() -> i64 {
    let nanoseconds = time::OffsetDateTime::now_utc().unix_timestamp_nanos();
    i64::try_from(nanoseconds / 1_000_000).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 as RFC 3339 in UTC, as callers read it; always with three digits behind the second.
pub fn rfc3339(milliseconds: i64) -> String {
    let whole = time::OffsetDateTime::from_unix_timestamp(milliseconds.div_euclid(1000))
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default();
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), milliseconds.rem_euclid(1000))
}

/// A fresh id: UUID v7, so that ids sort by the time they were made.
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The three sentiment columns of a row.
fn sentiment(row: &sqlx::any::AnyRow) -> Result<Option<yingda_engine::SentimentScores>, StorageError> {
    let negative: Option<f64> = row.try_get("sentiment_negative")?;
    let neutral: Option<f64> = row.try_get("sentiment_neutral")?;
    let positive: Option<f64> = row.try_get("sentiment_positive")?;
    Ok(match (negative, neutral, positive) {
        (Some(negative), Some(neutral), Some(positive)) => Some(yingda_engine::SentimentScores {
            negative: negative as f32,
            neutral: neutral as f32,
            positive: positive as f32,
        }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(shown("postgres://me:secret@db:5432/yingda?sslmode=require"), "postgres://db:5432/yingda");
        assert_eq!(shown("sqlite:yingda-data/yingda.sqlite?mode=rwc"), "sqlite:yingda-data/yingda.sqlite");
    }

    #[test]
    fn a_sqlite_path_may_hold_odd_characters() {
        assert_eq!(sqlite_url(Path::new("a b/50%?.sqlite")), "sqlite:a%20b/50%25%3F.sqlite?mode=rwc");
    }

    #[test]
    fn times_are_rfc3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
