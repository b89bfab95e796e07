//! What those who follow sessions want to know, for many sessions at once.

use std::collections::BTreeMap;

use sqlx::Row;

use super::sessions::owner;
use super::statement::Statement;
use super::{Dialect, Owner, Storage, StorageError, Tx};
use crate::live::{Side, Standing};

/// Sessions that are read, and that are written, in one statement.
const READ_AT_ONCE: usize = 500;
const WRITTEN_AT_ONCE: usize = 60;

/// What of a session changes while it is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// Number of the last turn.
    pub last_seq: i64,
    /// Who answers.
    pub owner: Owner,
    /// The person who took the session's ticket.
    pub owner_agent: Option<String>,
}

impl Storage {
    /// Whether other replicas may write too.
    pub fn is_shared(&self) -> bool {
        self.dialect == Dialect::Postgres
    }

    /// How sessions stand; those that do not exist are left out.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn session_states(&self, ids: &[String]) -> Result<BTreeMap<String, SessionState>, StorageError> {
        let mut states = BTreeMap::new();
        for ids in ids.chunks(READ_AT_ONCE) {
            let mut sql = Statement::new("SELECT id, last_seq, owner, owner_agent FROM sessions WHERE id IN (");
            sql.push_list(ids.iter().map(String::as_str)).push(")");
            for row in sql.build().fetch_all(&self.readers).await? {
                let state = SessionState {
                    last_seq: row.try_get("last_seq")?,
                    owner: owner(&row)?,
                    owner_agent: row.try_get("owner_agent")?,
                };
                states.insert(row.try_get("id")?, state);
            }
        }
        Ok(states)
    }

    /// What both sides of sessions have received and read.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn standings(&self, ids: &[String]) -> Result<Vec<(String, Side, Standing)>, StorageError> {
        let mut standings = Vec::new();
        for ids in ids.chunks(READ_AT_ONCE) {
            let mut sql = Statement::new("SELECT * FROM live_sides WHERE session_id IN (");
            sql.push_list(ids.iter().map(String::as_str)).push(")");
            for row in sql.build().fetch_all(&self.readers).await? {
                let side: String = row.try_get("side")?;
                let side = side.parse().map_err(|()| StorageError::Unknown { what: "the side", value: side })?;
                let standing = Standing {
                    received_seq: row.try_get("received_seq")?,
                    read_seq: row.try_get("read_seq")?,
                    typing_at: row.try_get("typing_at")?,
                    seen_at: row.try_get("seen_at")?,
                    left_at: row.try_get("left_at")?,
                };
                standings.push((row.try_get("session_id")?, side, standing));
            }
        }
        Ok(standings)
    }

    /// Keeps what both sides of existing sessions have received and read; a number that is larger already stays. In the order of
    /// their ids, so that replicas never wait for each other in a circle.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing of it is kept.
    pub async fn keep_standings(&self, standings: &BTreeMap<(String, Side), Standing>) -> Result<(), StorageError> {
        let mut tx = self.begin().await?;
        let standings: Vec<_> = standings.iter().collect();
        for standings in standings.chunks(WRITTEN_AT_ONCE) {
            let mut sql = Statement::new(
                "INSERT INTO live_sides (session_id, side, received_seq, read_seq, typing_at, seen_at, left_at) VALUES ",
            );
            for (index, ((session_id, side), standing)) in standings.iter().enumerate() {
                sql.push(if index == 0 { "(" } else { ", (" });
                sql.push_bind(session_id.as_str()).push(", ").push_bind(side.as_str()).push(", ");
                let Standing { received_seq, read_seq, typing_at, seen_at, left_at } = **standing;
                sql.push_list([received_seq, read_seq, typing_at, seen_at, left_at]).push(")");
            }
            sql.push(" ON CONFLICT (session_id, side) DO UPDATE SET ");
            for (index, column) in
                ["received_seq", "read_seq", "typing_at", "seen_at", "left_at"].into_iter().enumerate()
            {
                let comma = if index == 0 { "" } else { ", " };
                sql.push(format_args!(
                    "{comma}{column} = CASE WHEN excluded.{column} > live_sides.{column} \
                     THEN excluded.{column} ELSE live_sides.{column} END"
                ));
            }
            sql.build().execute(tx.connection()).await?;
        }
        tx.commit().await
    }

    /// A mark that changes whenever something happens to any ticket.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn ticket_mark(&self) -> Result<(i64, i64), StorageError> {
        let sql = "SELECT at, COUNT(*) FROM ticket_events WHERE at = (SELECT MAX(at) FROM ticket_events) GROUP BY at";
        let row = sqlx::query(sql).fetch_optional(&self.readers).await?;
        Ok(row.map(|row| Ok::<_, StorageError>((row.try_get(0)?, row.try_get(1)?))).transpose()?.unwrap_or_default())
    }
}

impl Tx {
    /// Whether a reply with this id was stored in a session.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn has_reply(&mut self, session_id: &str, reply_id: &str) -> Result<bool, StorageError> {
        let row = sqlx::query("SELECT seq FROM turns WHERE session_id = $1 AND reply_id = $2")
            .bind(session_id)
            .bind(reply_id)
            .fetch_optional(self.connection())
            .await?;
        Ok(row.is_some())
    }
}
