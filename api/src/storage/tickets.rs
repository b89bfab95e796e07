//! Tickets and their events.

use sqlx::Row;
use sqlx::any::AnyRow;
use yingda_engine::SentimentScores;

use super::{Storage, StorageError, Tx, new_id, now, sentiment};
use crate::desk::{Priority, Status, Ticket};

/// A ticket to be opened.
#[derive(Clone, Debug)]
pub struct NewTicket {
    /// Its session.
    pub session_id: String,
    /// Why the session was handed over, stable snake case.
    pub reason: String,
    /// The word or score behind the reason, masked.
    pub detail: String,
    /// How soon a person should look.
    pub priority: Priority,
    /// Likeliest intent of the message with its probability.
    pub intent: Option<(String, f64)>,
    /// Sentiment of the message.
    pub sentiment: Option<SentimentScores>,
    /// The model that judged.
    pub model: String,
    /// First turn that led to it.
    pub from_seq: i64,
    /// Last turn that led to it.
    pub to_seq: i64,
}

/// Something that happened to a ticket.
#[derive(Clone, Debug)]
pub struct TicketEvent {
    /// Its number in the ticket, from 1.
    pub seq: i64,
    /// `opened`, `customer_message`, `escalated_again`, `taken`, `agent_reply` or `resolved`.
    pub kind: String,
    /// Who did it: `bot`, `customer`, or the name of a person.
    pub actor: String,
    /// More of it, JSON.
    pub data: String,
    /// When.
    pub at: i64,
}

/// Which tickets to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketFilter {
    /// All of them.
    All,
    /// All that are not resolved.
    Open,
    /// Those of one status.
    Status(Status),
}

fn ticket(row: &AnyRow) -> Result<Ticket, StorageError> {
    let status: String = row.try_get("status")?;
    let priority: String = row.try_get("priority")?;
    let intent: Option<String> = row.try_get("intent")?;
    let probability: Option<f64> = row.try_get("intent_probability")?;
    Ok(Ticket {
        id: row.try_get("id")?,
        session_id: row.try_get("session_id")?,
        status: status.parse().map_err(|()| StorageError::Unknown { what: "the ticket status", value: status })?,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        priority: priority
            .parse()
            .map_err(|()| StorageError::Unknown { what: "the ticket priority", value: priority })?,
        intent: intent.zip(probability),
        sentiment: sentiment(row)?,
        model: row.try_get("model")?,
        from_seq: row.try_get("from_seq")?,
        to_seq: row.try_get("to_seq")?,
        assignee: row.try_get("assignee")?,
        assignee_key: row.try_get("assignee_key")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        taken_at: row.try_get("taken_at")?,
        first_reply_at: row.try_get("first_reply_at")?,
        resolved_at: row.try_get("resolved_at")?,
    })
}

impl Storage {
    /// A ticket, if it exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn ticket(&self, id: &str) -> Result<Option<Ticket>, StorageError> {
        let row = sqlx::query("SELECT * FROM tickets WHERE id = $1").bind(id).fetch_optional(&self.readers).await?;
        row.as_ref().map(ticket).transpose()
    }

    /// The open ticket of a session, if it has one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn open_ticket_of(&self, session_id: &str) -> Result<Option<Ticket>, StorageError> {
        let row = sqlx::query("SELECT * FROM tickets WHERE session_id = $1 AND status <> 'resolved'")
            .bind(session_id)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(ticket).transpose()
    }

    /// Tickets, newest first, older than the ticket `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn tickets(
        &self,
        filter: TicketFilter,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Ticket>, StorageError> {
        // Ids are UUID v7: they sort by the time they were made. `g` sorts behind all of them, in any locale.
        let before = before.unwrap_or("g");
        let query = match filter {
            TicketFilter::All => sqlx::query("SELECT * FROM tickets WHERE id < $1 ORDER BY id DESC LIMIT $2"),
            TicketFilter::Open => {
                sqlx::query("SELECT * FROM tickets WHERE id < $1 AND status <> 'resolved' ORDER BY id DESC LIMIT $2")
            }
            TicketFilter::Status(_) => {
                sqlx::query("SELECT * FROM tickets WHERE id < $1 AND status = $3 ORDER BY id DESC LIMIT $2")
            }
        };
        let query = query.bind(before).bind(limit);
        let query = match filter {
            TicketFilter::Status(status) => query.bind(status.as_str()),
            TicketFilter::All | TicketFilter::Open => query,
        };
        query.fetch_all(&self.readers).await?.iter().map(ticket).collect()
    }

    /// All that happened to a ticket, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn ticket_events(&self, ticket_id: &str) -> Result<Vec<TicketEvent>, StorageError> {
        let rows = sqlx::query("SELECT * FROM ticket_events WHERE ticket_id = $1 ORDER BY seq")
            .bind(ticket_id)
            .fetch_all(&self.readers)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(TicketEvent {
                    seq: row.try_get("seq")?,
                    kind: row.try_get("kind")?,
                    actor: row.try_get("actor")?,
                    data: row.try_get("data")?,
                    at: row.try_get("at")?,
                })
            })
            .collect()
    }
}

impl Tx {
    /// A ticket, if it exists. Lock its session first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn ticket(&mut self, id: &str) -> Result<Option<Ticket>, StorageError> {
        let row = sqlx::query("SELECT * FROM tickets WHERE id = $1").bind(id).fetch_optional(self.connection()).await?;
        row.as_ref().map(ticket).transpose()
    }

    /// The open ticket of a locked session, if it has one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn open_ticket_of(&mut self, session_id: &str) -> Result<Option<Ticket>, StorageError> {
        let row = sqlx::query("SELECT * FROM tickets WHERE session_id = $1 AND status <> 'resolved'")
            .bind(session_id)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(ticket).transpose()
    }

    /// Opens a ticket for a locked session that has no open one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_ticket(&mut self, new: &NewTicket) -> Result<String, StorageError> {
        let id = new_id();
        let at = now();
        let (intent, probability) = new.intent.clone().unzip();
        sqlx::query(
            "INSERT INTO tickets (id, session_id, status, reason, detail, priority, intent, intent_probability, \
             sentiment_negative, sentiment_neutral, sentiment_positive, model, from_seq, to_seq, created_at, updated_at) \
             VALUES ($1, $2, 'new', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        // Not kept as a prepared statement: sqlx 0.9's Any driver declares an absent DOUBLE as a REAL, and PostgreSQL would
        // hold later values of the same statement to that.
        .persistent(false)
        .bind(id.as_str())
        .bind(new.session_id.as_str())
        .bind(new.reason.as_str())
        .bind(new.detail.as_str())
        .bind(new.priority.as_str())
        .bind(intent)
        .bind(probability)
        .bind(new.sentiment.map(|scores| f64::from(scores.negative)))
        .bind(new.sentiment.map(|scores| f64::from(scores.neutral)))
        .bind(new.sentiment.map(|scores| f64::from(scores.positive)))
        .bind(new.model.as_str())
        .bind(new.from_seq)
        .bind(new.to_seq)
        .bind(at)
        .bind(at)
        .execute(self.connection())
        .await?;
        Ok(id)
    }

    /// Stores what may change of a ticket.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn update_ticket(&mut self, ticket: &Ticket) -> Result<(), StorageError> {
        sqlx::query(
            "UPDATE tickets SET status = $2, assignee = $3, assignee_key = $4, taken_at = $5, first_reply_at = $6, \
             resolved_at = $7, updated_at = $8 WHERE id = $1",
        )
        .bind(ticket.id.as_str())
        .bind(ticket.status.as_str())
        .bind(ticket.assignee.as_deref())
        .bind(ticket.assignee_key.as_deref())
        .bind(ticket.taken_at)
        .bind(ticket.first_reply_at)
        .bind(ticket.resolved_at)
        .bind(ticket.updated_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Appends to what happened to a ticket. Lock its session first: numbers are given one by one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_ticket_event(
        &mut self,
        ticket_id: &str,
        kind: &str,
        actor: &str,
        data: &serde_json::Value,
    ) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO ticket_events (ticket_id, seq, kind, actor, data, at) \
             SELECT $1, COALESCE(MAX(seq), 0) + 1, $3, $4, $5, $6 FROM ticket_events WHERE ticket_id = $2",
        )
        .bind(ticket_id)
        .bind(ticket_id)
        .bind(kind)
        .bind(actor)
        .bind(data.to_string())
        .bind(now())
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
