//! Tickets and their events.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use yingda_engine::SentimentScores;

use super::statement::Statement;
use super::{Storage, StorageError, Tx, new_id, now, sentiment};
use crate::desk::{Priority, Rating, Status, Ticket};

/// A ticket to be opened.
#[derive(Clone, Debug)]
pub struct NewTicket {
    /// Its session.
    pub session_id: String,
    /// Who opens it: `escalation`, `form` or `agent`.
    pub source: &'static str,
    /// Why the session was handed over, stable snake case.
    pub reason: String,
    /// The word or score behind the reason, masked.
    pub detail: String,
    /// How soon a person should look.
    pub priority: Priority,
    /// Likeliest intent of the message with its probability.
    pub intent: Option<(String, f64)>,
    /// Whether the customer is a VIP.
    pub vip: bool,
    /// The language that they speak, where it is known.
    pub language: Option<String>,
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
    /// What: an action's [`event`](crate::desk::Action::event), or `opened`, `escalated_again`, `note`, `amended`, `linked`,
    /// `merged_here`, `service_level`, `external_status`, `rated`, `survey_sent`, `intervention`, `alert`, `alert_acknowledged`,
    /// `coupon`, `shared` or `unshared`.
    pub kind: String,
    /// Who did it: `bot`, `customer`, `system`, or the name of a person.
    pub actor: String,
    /// Why, if they said so.
    pub reason: Option<String>,
    /// What it changed: the fields as they were.
    pub before: Map<String, Value>,
    /// And as they are from then on.
    pub after: Map<String, Value>,
    /// More of it.
    pub data: Value,
    /// When.
    pub at: i64,
}

/// Something to be noted of a ticket.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub(crate) kind: &'static str,
    pub(crate) actor: String,
    pub(crate) reason: Option<String>,
    pub(crate) before: Map<String, Value>,
    pub(crate) after: Map<String, Value>,
    pub(crate) data: Value,
}

impl NewEvent {
    /// That somebody did something.
    pub fn new(kind: &'static str, actor: &str) -> Self {
        let (before, after) = (Map::new(), Map::new());
        Self { kind, actor: actor.to_owned(), reason: None, before, after, data: Value::Object(Map::new()) }
    }

    /// Adds why.
    pub fn because(self, reason: Option<String>) -> Self {
        Self { reason, ..self }
    }

    /// Adds more of it.
    pub fn with(self, data: Value) -> Self {
        Self { data, ..self }
    }
}

/// What a person put right of what the model said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The ticket.
    pub ticket_id: String,
    /// Its session.
    pub session_id: String,
    /// The turn that was judged.
    pub seq: i64,
    /// `intent`, `sentiment` or `priority`.
    pub field: String,
    /// What the model, or somebody before, said.
    pub was: Option<String>,
    /// What it is.
    pub is_now: String,
    /// The model that judged.
    pub model: String,
    /// Who put it right.
    pub author: String,
}

/// Which tickets to list. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketFilter {
    /// Where they stand: one of these; empty: anywhere.
    pub statuses: Vec<Status>,
    /// How soon a person should look.
    pub priority: Option<Priority>,
    /// What they are about.
    pub category: Option<String>,
    /// Whose queue they are in.
    pub team: Option<String>,
    /// Who has them.
    pub assignee: Option<String>,
    /// Whose customer wrote.
    pub user_id: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// The organisation with which they are shared.
    pub organisation: Option<String>,
}

impl TicketFilter {
    /// All that are not done.
    pub fn open() -> Self {
        let statuses = Status::ALL.into_iter().filter(|status| status.is_open()).collect();
        Self { statuses, ..Self::default() }
    }
}

/// The states of a ticket that is not done, in SQL.
pub(super) const OPEN: &str = "('new', 'assigned', 'in_progress', 'waiting_customer')";

pub(super) fn ticket(row: &AnyRow) -> Result<Ticket, StorageError> {
    let status: String = row.try_get("status")?;
    let priority: String = row.try_get("priority")?;
    let intent: Option<String> = row.try_get("intent")?;
    let probability: Option<f64> = row.try_get("intent_probability")?;
    Ok(Ticket {
        id: row.try_get("id")?,
        session_id: row.try_get("session_id")?,
        source: row.try_get("source")?,
        status: status.parse().map_err(|()| StorageError::Unknown { what: "the ticket status", value: status })?,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        priority: priority
            .parse()
            .map_err(|()| StorageError::Unknown { what: "the ticket priority", value: priority })?,
        category: row.try_get("category")?,
        team: row.try_get("team")?,
        tags: parsed(row, "tags")?,
        fields: parsed(row, "fields")?,
        merged_into: row.try_get("merged_into")?,
        intent: intent.zip(probability),
        sentiment: sentiment(row)?,
        model: row.try_get("model")?,
        from_seq: row.try_get("from_seq")?,
        to_seq: row.try_get("to_seq")?,
        assignee: row.try_get("assignee")?,
        assignee_key: row.try_get("assignee_key")?,
        accepted: row.try_get::<i64, _>("accepted")? != 0,
        last_assignee: row.try_get("last_assignee")?,
        declined: parsed(row, "declined")?,
        gaps: parsed(row, "gaps")?,
        by_hand: row.try_get::<i64, _>("by_hand")? != 0,
        vip: row.try_get::<i64, _>("vip")? != 0,
        language: row.try_get("language")?,
        reopened: row.try_get("reopened")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        queued_at: row.try_get("queued_at")?,
        assigned_at: row.try_get("assigned_at")?,
        taken_at: row.try_get("taken_at")?,
        first_reply_at: row.try_get("first_reply_at")?,
        resolved_at: row.try_get("resolved_at")?,
        closed_at: row.try_get("closed_at")?,
    })
}

pub(super) fn ticket_event(row: &AnyRow) -> Result<TicketEvent, StorageError> {
    Ok(TicketEvent {
        seq: row.try_get("seq")?,
        kind: row.try_get("kind")?,
        actor: row.try_get("actor")?,
        reason: row.try_get("reason")?,
        before: parsed(row, "before")?,
        after: parsed(row, "after")?,
        data: parsed(row, "data")?,
        at: row.try_get("at")?,
    })
}

/// A column of JSON that we wrote.
pub(super) fn parsed<T: DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<T, StorageError> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|_| StorageError::Unknown { what: column, value: text })
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
        let row =
            sqlx::query(AssertSqlSafe(format!("SELECT * FROM tickets WHERE session_id = $1 AND status IN {OPEN}")))
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
        filter: &TicketFilter,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Ticket>, StorageError> {
        // Ids are UUID v7: they sort by the time they were made. `g` sorts behind all of them, in any locale.
        let mut sql = Statement::new("SELECT * FROM tickets WHERE id < ");
        sql.push_bind(before.unwrap_or("g"));
        if !filter.statuses.is_empty() {
            sql.push(" AND status IN (").push_list(filter.statuses.iter().map(|status| status.as_str())).push(")");
        }
        let fields = [
            ("priority", filter.priority.map(|priority| priority.as_str().to_owned())),
            ("category", filter.category.clone()),
            ("team", filter.team.clone()),
            ("assignee", filter.assignee.clone()),
            ("session_id", filter.session_id.clone()),
        ];
        for (column, value) in fields {
            if let Some(value) = value {
                sql.push(" AND ").push(column).push(" = ").push_bind(value);
            }
        }
        if let Some(user) = &filter.user_id {
            sql.push(" AND session_id IN (SELECT id FROM sessions WHERE user_id = ").push_bind(user.clone()).push(")");
        }
        if let Some(organisation) = &filter.organisation {
            sql.push(" AND id IN (SELECT ticket_id FROM ticket_shares WHERE organisation = ");
            sql.push_bind(organisation.clone()).push(")");
        }
        sql.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        sql.build().fetch_all(&self.readers).await?.iter().map(ticket).collect()
    }

    /// The tickets that a ticket is linked with, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn linked_tickets(&self, id: &str) -> Result<Vec<String>, StorageError> {
        let rows = sqlx::query("SELECT other_id FROM ticket_links WHERE ticket_id = $1 ORDER BY other_id")
            .bind(id)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// How the customer judged the help with a ticket, if they did.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn rating(&self, id: &str) -> Result<Option<Rating>, StorageError> {
        let row =
            sqlx::query("SELECT * FROM ratings WHERE ticket_id = $1").bind(id).fetch_optional(&self.readers).await?;
        row.map(|row| {
            Ok(Rating {
                score: row.try_get("score")?,
                reasons: parsed(&row, "reasons")?,
                comment: row.try_get("comment")?,
            })
        })
        .transpose()
    }

    /// Other tickets of a category that are done, newest first, with what was noted when they were resolved.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn solved(
        &self,
        category: &str,
        but: &str,
        limit: i64,
    ) -> Result<Vec<(Ticket, Option<String>)>, StorageError> {
        let rows = sqlx::query(
            "SELECT t.*, (SELECT e.data FROM ticket_events e WHERE e.ticket_id = t.id AND e.kind = 'resolved' \
             ORDER BY e.seq DESC LIMIT 1) AS resolution \
             FROM tickets t WHERE t.category = $1 AND t.id <> $2 AND t.status IN ('resolved', 'closed') \
             ORDER BY t.id DESC LIMIT $3",
        )
        .bind(category)
        .bind(but)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let resolution: Option<String> = row.try_get("resolution")?;
                let data: Value = resolution.and_then(|data| serde_json::from_str(&data).ok()).unwrap_or_default();
                Ok((ticket(row)?, data["note"].as_str().map(str::to_owned)))
            })
            .collect()
    }

    /// What people put right, oldest first, with the text that was judged.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn corrections(&self) -> Result<Vec<(Correction, String)>, StorageError> {
        let sql = "SELECT c.*, t.text_masked FROM corrections c \
                   JOIN turns t ON t.session_id = c.session_id AND t.seq = c.seq ORDER BY c.id";
        let rows = sqlx::query(sql).fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                let correction = Correction {
                    ticket_id: row.try_get("ticket_id")?,
                    session_id: row.try_get("session_id")?,
                    seq: row.try_get("seq")?,
                    field: row.try_get("field")?,
                    was: row.try_get("was")?,
                    is_now: row.try_get("is_now")?,
                    model: row.try_get("model")?,
                    author: row.try_get("author")?,
                };
                Ok((correction, row.try_get("text_masked")?))
            })
            .collect()
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
        rows.iter().map(ticket_event).collect()
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
        let row =
            sqlx::query(AssertSqlSafe(format!("SELECT * FROM tickets WHERE session_id = $1 AND status IN {OPEN}")))
                .bind(session_id)
                .fetch_optional(self.connection())
                .await?;
        row.as_ref().map(ticket).transpose()
    }

    /// The newest ticket of a locked session, if it has any.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn last_ticket_of(&mut self, session_id: &str) -> Result<Option<Ticket>, StorageError> {
        let query = sqlx::query("SELECT * FROM tickets WHERE session_id = $1 ORDER BY id DESC LIMIT 1");
        query.bind(session_id).fetch_optional(self.connection()).await?.as_ref().map(ticket).transpose()
    }

    /// Opens a ticket for a locked session that has no open one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_ticket(&mut self, new: &NewTicket) -> Result<Ticket, StorageError> {
        let id = new_id();
        let at = now();
        let (intent, probability) = new.intent.clone().unzip();
        sqlx::query(
            "INSERT INTO tickets (id, session_id, source, status, reason, detail, priority, category, tags, fields, intent, \
             intent_probability, sentiment_negative, sentiment_neutral, sentiment_positive, model, from_seq, to_seq, \
             accepted, declined, vip, language, reopened, created_at, updated_at, queued_at, number) \
             VALUES ($1, $2, $3, 'new', $4, $5, $6, $7, '[]', '{}', $8, $9, $10, $11, $12, $13, $14, $15, 0, '[]', $16, $17, 0, $18, \
             $19, $20, (SELECT COALESCE(MAX(number), 0) + 1 FROM tickets))",
        )
        // Not kept as a prepared statement: sqlx 0.9's Any driver declares an absent DOUBLE as a REAL, and PostgreSQL would
        // hold later values of the same statement to that.
        .persistent(false)
        .bind(id.as_str())
        .bind(new.session_id.as_str())
        .bind(new.source)
        .bind(new.reason.as_str())
        .bind(new.detail.as_str())
        .bind(new.priority.as_str())
        .bind(intent.clone())
        .bind(intent)
        .bind(probability)
        .bind(new.sentiment.map(|scores| f64::from(scores.negative)))
        .bind(new.sentiment.map(|scores| f64::from(scores.neutral)))
        .bind(new.sentiment.map(|scores| f64::from(scores.positive)))
        .bind(new.model.as_str())
        .bind(new.from_seq)
        .bind(new.to_seq)
        .bind(i64::from(new.vip))
        .bind(new.language.as_deref())
        .bind(at)
        .bind(at)
        .bind(at)
        .execute(self.connection())
        .await?;
        let row = sqlx::query("SELECT * FROM tickets WHERE id = $1").bind(id).fetch_one(self.connection()).await?;
        let ticket = ticket(&row)?;
        self.index_earlier_turns(&ticket).await?;
        self.count_handover(&ticket.session_id, at).await?;
        Ok(ticket)
    }

    /// Stores what may change of a ticket.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn update_ticket(&mut self, ticket: &Ticket) -> Result<(), StorageError> {
        sqlx::query(
            "UPDATE tickets SET status = $2, assignee = $3, assignee_key = $4, taken_at = $5, first_reply_at = $6, \
             resolved_at = $7, updated_at = $8, priority = $9, category = $10, team = $11, tags = $12, fields = $13, \
             merged_into = $14, accepted = $15, last_assignee = $16, reopened = $17, assigned_at = $18, closed_at = $19, \
             queued_at = $20, declined = $21, language = $22, gaps = $23, by_hand = $24 \
             WHERE id = $1",
        )
        .bind(ticket.id.as_str())
        .bind(ticket.status.as_str())
        .bind(ticket.assignee.as_deref())
        .bind(ticket.assignee_key.as_deref())
        .bind(ticket.taken_at)
        .bind(ticket.first_reply_at)
        .bind(ticket.resolved_at)
        .bind(ticket.updated_at)
        .bind(ticket.priority.as_str())
        .bind(ticket.category.as_deref())
        .bind(ticket.team.as_deref())
        .bind(serde_json::json!(ticket.tags).to_string())
        .bind(serde_json::json!(ticket.fields).to_string())
        .bind(ticket.merged_into.as_deref())
        .bind(i64::from(ticket.accepted))
        .bind(ticket.last_assignee.as_deref())
        .bind(ticket.reopened)
        .bind(ticket.assigned_at)
        .bind(ticket.closed_at)
        .bind(ticket.queued_at)
        .bind(serde_json::json!(ticket.declined).to_string())
        .bind(ticket.language.as_deref())
        .bind(serde_json::json!(ticket.gaps).to_string())
        .bind(i64::from(ticket.by_hand))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Appends to what happened to a ticket, and notes it for every webhook that is to be told. Lock its session first: numbers are
    /// given one by one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_ticket_event(&mut self, ticket_id: &str, event: NewEvent) -> Result<(), StorageError> {
        let at = now();
        let says = event.reason.is_some() || matches!(event.kind, "opened" | "amended" | "note" | "resolved");
        sqlx::query(
            "INSERT INTO ticket_events (ticket_id, seq, kind, actor, reason, before, after, data, at) \
             SELECT $1, COALESCE(MAX(seq), 0) + 1, $3, $4, $5, $6, $7, $8, $9 FROM ticket_events WHERE ticket_id = $2",
        )
        .bind(ticket_id)
        .bind(ticket_id)
        .bind(event.kind)
        .bind(event.actor)
        .bind(event.reason)
        .bind(Value::Object(event.before).to_string())
        .bind(Value::Object(event.after).to_string())
        .bind(event.data.to_string())
        .bind(at)
        .execute(self.connection())
        .await?;
        self.queue_deliveries(ticket_id, event.kind, at).await?;
        if says {
            self.index_last_event(ticket_id).await?;
        }
        self.count_event(ticket_id, event.kind).await
    }

    /// Keeps what a person put right.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_correction(&mut self, correction: &Correction) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO corrections (id, ticket_id, session_id, seq, field, was, is_now, model, author, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(new_id())
        .bind(correction.ticket_id.as_str())
        .bind(correction.session_id.as_str())
        .bind(correction.seq)
        .bind(correction.field.as_str())
        .bind(correction.was.as_deref())
        .bind(correction.is_now.as_str())
        .bind(correction.model.as_str())
        .bind(correction.author.as_str())
        .bind(now())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Links two tickets with each other; says whether they were not linked yet.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn link_tickets(&mut self, one: &str, other: &str) -> Result<bool, StorageError> {
        let mut new = false;
        for (from, to) in [(one, other), (other, one)] {
            let sql = "INSERT INTO ticket_links (ticket_id, other_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            new |= sqlx::query(sql).bind(from).bind(to).execute(self.connection()).await?.rows_affected() > 0;
        }
        Ok(new)
    }

    /// Keeps how the customer judged the help; says whether they had not before.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_rating(&mut self, ticket_id: &str, rating: &Rating) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "INSERT INTO ratings (ticket_id, score, reasons, comment, created_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (ticket_id) DO NOTHING",
        )
        .bind(ticket_id)
        .bind(rating.score)
        .bind(serde_json::json!(rating.reasons).to_string())
        .bind(rating.comment.as_deref())
        .bind(now())
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
