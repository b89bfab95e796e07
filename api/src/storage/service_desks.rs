//! Tickets that are handed to service desks of others.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::tickets::{OPEN, ticket};
use super::{Storage, StorageError, Tx, now};
use crate::desk::Ticket;

/// A ticket to be handed to a service desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRemote {
    /// The ticket.
    pub ticket_id: String,
    /// Name of the service desk.
    pub service_desk: String,
    /// How often the ticket began again.
    pub round: i64,
    /// What it can be found by there.
    pub reference: String,
    /// One line, masked.
    pub summary: String,
    /// All that is told, masked.
    pub description: String,
}

/// A ticket that is handed to a service desk, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRecord {
    /// What was to be handed over.
    pub new: NewRemote,
    /// Whether a call was begun whose outcome is not known.
    pub begun: bool,
    /// Calls so far that were to make it there.
    pub attempts: i64,
    /// When it is tried next, or asked about.
    pub next_at: i64,
    /// What it is called there; `None` while it is not known to be.
    pub remote_id: Option<String>,
}

/// How a ticket stands at a service desk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteState {
    /// Name of the service desk.
    pub service_desk: String,
    /// How often our ticket began again.
    pub round: i64,
    /// What it is called there.
    pub remote_id: String,
    /// How it stands, in their words.
    pub status: String,
    /// Where people can read it there.
    pub address: String,
}

fn remote(row: &AnyRow) -> Result<RemoteRecord, StorageError> {
    Ok(RemoteRecord {
        new: NewRemote {
            ticket_id: row.try_get("ticket_id")?,
            service_desk: row.try_get("service_desk")?,
            round: row.try_get("round")?,
            reference: row.try_get("reference")?,
            summary: row.try_get("summary")?,
            description: row.try_get("description")?,
        },
        begun: row.try_get::<i64, _>("begun")? != 0,
        attempts: row.try_get("attempts")?,
        next_at: row.try_get("next_at")?,
        remote_id: row.try_get("remote_id")?,
    })
}

impl Storage {
    /// Open tickets of a team that its service desk is not to have yet, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn tickets_for_service_desk(
        &self,
        service_desk: &str,
        team: &str,
        limit: i64,
    ) -> Result<Vec<Ticket>, StorageError> {
        let sql = format!(
            "SELECT t.* FROM tickets t WHERE t.team = $1 AND t.status IN {OPEN} AND NOT EXISTS (\
             SELECT 1 FROM service_desk_tickets s WHERE s.ticket_id = t.id AND s.service_desk = $2 \
             AND s.round = t.reopened) ORDER BY t.id LIMIT $3"
        );
        let rows =
            sqlx::query(AssertSqlSafe(sql)).bind(team).bind(service_desk).bind(limit).fetch_all(&self.readers).await?;
        rows.iter().map(ticket).collect()
    }

    /// Notes that a service desk is to have a ticket, unless that is noted already.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_remote(&self, new: &NewRemote, at: i64) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO service_desk_tickets (ticket_id, service_desk, round, reference, summary, description, begun, \
             attempts, next_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, 0, 0, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(new.ticket_id.as_str())
        .bind(new.service_desk.as_str())
        .bind(new.round)
        .bind(new.reference.as_str())
        .bind(new.summary.as_str())
        .bind(new.description.as_str())
        .bind(at)
        .bind(now())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Tickets whose time has come, of a team that still has them: those that a service desk has (`made`) and is to be asked about,
    /// or those that it is to have.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn due_remotes(
        &self,
        service_desk: &str,
        team: &str,
        made: bool,
        at: i64,
        limit: i64,
    ) -> Result<Vec<RemoteRecord>, StorageError> {
        let made = if made { "IS NOT NULL" } else { "IS NULL" };
        let sql = format!(
            "SELECT s.* FROM service_desk_tickets s JOIN tickets t ON t.id = s.ticket_id AND t.reopened = s.round \
             WHERE s.service_desk = $1 AND s.next_at <= $2 AND s.remote_id {made} AND t.team = $3 AND t.status IN {OPEN} \
             ORDER BY s.next_at, s.ticket_id LIMIT $4"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(service_desk)
            .bind(at)
            .bind(team)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(remote).collect()
    }

    /// Begins a call about a ticket as it was read; nobody else makes it before `until`. Says whether nobody has begun it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn begin_remote(&self, record: &RemoteRecord, until: i64) -> Result<bool, StorageError> {
        // What is not known to be made there counts as begun from here on, also when this process ends with the call.
        let sql = if record.remote_id.is_some() {
            "UPDATE service_desk_tickets SET next_at = $1 \
             WHERE ticket_id = $2 AND service_desk = $3 AND round = $4 AND attempts = $5 AND next_at = $6"
        } else {
            "UPDATE service_desk_tickets SET next_at = $1, attempts = attempts + 1, begun = 1 \
             WHERE ticket_id = $2 AND service_desk = $3 AND round = $4 AND attempts = $5 AND next_at = $6"
        };
        let done = sqlx::query(sql)
            .bind(until)
            .bind(record.new.ticket_id.as_str())
            .bind(record.new.service_desk.as_str())
            .bind(record.new.round)
            .bind(record.attempts)
            .bind(record.next_at)
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes that a call made nothing there, or that it is not known (`begun`), and when it is tried again.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn postpone_remote(&self, new: &NewRemote, begun: bool, next_at: i64) -> Result<(), StorageError> {
        sqlx::query(
            "UPDATE service_desk_tickets SET begun = $1, next_at = $2 \
             WHERE ticket_id = $3 AND service_desk = $4 AND round = $5 AND remote_id IS NULL",
        )
        .bind(i64::from(begun))
        .bind(next_at)
        .bind(new.ticket_id.as_str())
        .bind(new.service_desk.as_str())
        .bind(new.round)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Asks nothing of a service desk before `until`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn pause_service_desk(&self, service_desk: &str, until: i64) -> Result<(), StorageError> {
        sqlx::query("UPDATE service_desk_tickets SET next_at = $1 WHERE service_desk = $2 AND next_at < $3")
            .bind(until)
            .bind(service_desk)
            .bind(until)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

impl Tx {
    /// Notes how a ticket stands at a service desk. Says whether that is news. Lock its session first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn note_remote(&mut self, ticket_id: &str, state: &RemoteState) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "UPDATE service_desk_tickets SET remote_id = $1, remote_status = $2, begun = 0 \
             WHERE ticket_id = $3 AND service_desk = $4 AND round = $5 \
             AND (remote_id IS NULL OR remote_id <> $6 OR remote_status <> $7)",
        )
        .bind(state.remote_id.as_str())
        .bind(state.status.as_str())
        .bind(ticket_id)
        .bind(state.service_desk.as_str())
        .bind(state.round)
        .bind(state.remote_id.as_str())
        .bind(state.status.as_str())
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
