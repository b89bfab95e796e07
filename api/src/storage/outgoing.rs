//! Webhooks, and the messages that wait for them.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::statement::Statement;
use super::tickets::parsed;
use super::{Dialect, Storage, StorageError, TicketEvent, Tx, new_id, now};

/// An address that is told of tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRecord {
    /// Its id.
    pub id: String,
    /// Where messages go.
    pub address: String,
    /// What signs them.
    pub secret: String,
    /// The kinds of events that it is told; empty: all.
    pub events: Vec<String>,
    /// Whether anything is sent.
    pub active: bool,
    /// Attempts that failed since the last one that did not.
    pub failures: i64,
    /// When it was made.
    pub created_at: i64,
    /// When it was last changed.
    pub changed_at: i64,
}

/// How a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits, or is tried right now.
    Pending,
    /// It was received.
    Done,
    /// It was tried often enough.
    Dead,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Done, Self::Dead];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}

impl std::str::FromStr for DeliveryState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// One event on its way to one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, the same at every attempt.
    pub id: String,
    /// The webhook.
    pub webhook_id: String,
    /// The ticket.
    pub ticket_id: String,
    /// The event's number in the ticket.
    pub seq: i64,
    /// The event's kind.
    pub event: String,
    /// How it stands.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: i64,
    /// When it is tried next.
    pub next_at: i64,
    /// When the event happened.
    pub created_at: i64,
    /// When it was received or given up.
    pub finished_at: Option<i64>,
    /// HTTP status of the last attempt.
    pub status: Option<i64>,
    /// What was wrong with the last attempt, one word.
    pub problem: Option<String>,
}

/// A message that is to be sent now, and how.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// The message.
    pub delivery: Delivery,
    /// Where it goes.
    pub address: String,
    /// What signs it.
    pub secret: String,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptOutcome {
    /// How the message stands now.
    pub state: DeliveryState,
    /// HTTP status, if there was one.
    pub status: Option<u16>,
    /// What was wrong, one word.
    pub problem: Option<&'static str>,
    /// When it is tried next, if it is.
    pub next_at: i64,
    /// Now.
    pub at: i64,
}

/// Which messages to list. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// How they stand.
    pub state: Option<DeliveryState>,
    /// Where they go.
    pub webhook_id: Option<String>,
}

fn webhook(row: &AnyRow) -> Result<WebhookRecord, StorageError> {
    Ok(WebhookRecord {
        id: row.try_get("id")?,
        address: row.try_get("address")?,
        secret: row.try_get("secret")?,
        events: parsed(row, "events")?,
        active: row.try_get::<i64, _>("active")? != 0,
        failures: row.try_get("failures")?,
        created_at: row.try_get("created_at")?,
        changed_at: row.try_get("changed_at")?,
    })
}

fn delivery(row: &AnyRow) -> Result<Delivery, StorageError> {
    let state: String = row.try_get("state")?;
    Ok(Delivery {
        id: row.try_get("id")?,
        webhook_id: row.try_get("webhook_id")?,
        ticket_id: row.try_get("ticket_id")?,
        seq: row.try_get("seq")?,
        event: row.try_get("event")?,
        state: state.parse().map_err(|()| StorageError::Unknown { what: "the state of a delivery", value: state })?,
        attempts: row.try_get("attempts")?,
        next_at: row.try_get("next_at")?,
        created_at: row.try_get("created_at")?,
        finished_at: row.try_get("finished_at")?,
        status: row.try_get("status")?,
        problem: row.try_get("problem")?,
    })
}

/// A message that is to be sent: its time has come, its webhook is on, and no earlier one about the same ticket waits.
const DUE: &str = "d.state = 'pending' AND d.next_at <= $1 AND w.active = 1 AND NOT EXISTS (\
     SELECT 1 FROM webhook_deliveries earlier WHERE earlier.webhook_id = d.webhook_id \
     AND earlier.ticket_id = d.ticket_id AND earlier.state = 'pending' AND earlier.seq < d.seq)";

impl Storage {
    /// All webhooks, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn webhooks(&self) -> Result<Vec<WebhookRecord>, StorageError> {
        let rows = sqlx::query("SELECT * FROM webhooks ORDER BY number").fetch_all(&self.readers).await?;
        rows.iter().map(webhook).collect()
    }

    /// A webhook, if it exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn webhook(&self, id: &str) -> Result<Option<WebhookRecord>, StorageError> {
        let row = sqlx::query("SELECT * FROM webhooks WHERE id = $1").bind(id).fetch_optional(&self.readers).await?;
        row.as_ref().map(webhook).transpose()
    }

    /// Messages, newest first, older than the message `before`, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Delivery>, StorageError> {
        // Ids begin with a UUID v7. `g` sorts behind all of them, in any locale.
        let mut sql = Statement::new("SELECT * FROM webhook_deliveries WHERE id < ");
        sql.push_bind(before.unwrap_or("g"));
        if let Some(state) = filter.state {
            sql.push(" AND state = ").push_bind(state.as_str());
        }
        if let Some(webhook_id) = &filter.webhook_id {
            sql.push(" AND webhook_id = ").push_bind(webhook_id.as_str());
        }
        sql.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        sql.build().fetch_all(&self.readers).await?.iter().map(delivery).collect()
    }

    /// A message, if it is kept.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn delivery(&self, id: &str) -> Result<Option<Delivery>, StorageError> {
        let row = sqlx::query("SELECT * FROM webhook_deliveries WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(delivery).transpose()
    }

    /// The webhooks that something is to be sent to now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn due_webhooks(&self, at: i64) -> Result<Vec<String>, StorageError> {
        let sql = format!(
            "SELECT DISTINCT d.webhook_id FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE {DUE}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(at).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Messages that are to be sent to a webhook now, each about another ticket, those that wait longest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn due_deliveries(
        &self,
        webhook_id: &str,
        at: i64,
        limit: i64,
    ) -> Result<Vec<DueDelivery>, StorageError> {
        let sql = format!(
            "SELECT d.*, w.address, w.secret FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id \
             WHERE {DUE} AND d.webhook_id = $2 ORDER BY d.next_at, d.id LIMIT $3"
        );
        let rows =
            sqlx::query(AssertSqlSafe(sql)).bind(at).bind(webhook_id).bind(limit).fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                Ok(DueDelivery {
                    delivery: delivery(row)?,
                    address: row.try_get("address")?,
                    secret: row.try_get("secret")?,
                })
            })
            .collect()
    }

    /// Begins the attempt that follows `attempts` others; nobody else makes it before `until`. Says whether nobody has begun it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn begin_delivery_attempt(&self, id: &str, attempts: i64, until: i64) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "UPDATE webhook_deliveries SET attempts = attempts + 1, next_at = $1 \
             WHERE id = $2 AND attempts = $3 AND state = 'pending'",
        )
        .bind(until)
        .bind(id)
        .bind(attempts)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// What happened to a ticket at one place of its history.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn ticket_event(&self, ticket_id: &str, seq: i64) -> Result<Option<TicketEvent>, StorageError> {
        let row = sqlx::query("SELECT * FROM ticket_events WHERE ticket_id = $1 AND seq = $2")
            .bind(ticket_id)
            .bind(seq)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(super::tickets::ticket_event).transpose()
    }

    /// Sends what was given up again, all of it or one webhook's. Returns how many messages that are.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn retry_dead(&self, webhook_id: Option<&str>, at: i64) -> Result<u64, StorageError> {
        let mut sql = Statement::new("UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_at = ");
        sql.push_bind(at).push(", finished_at = NULL WHERE state = 'dead'");
        if let Some(webhook_id) = webhook_id {
            sql.push(" AND webhook_id = ").push_bind(webhook_id);
        }
        Ok(sql.build().execute(&self.writer).await?.rows_affected())
    }

    /// Sends one message that was given up again. Says whether it was given up.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn retry_delivery(&self, id: &str, at: i64) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_at = $1, finished_at = NULL \
             WHERE id = $2 AND state = 'dead'",
        )
        .bind(at)
        .bind(id)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets what was received before one moment and given up before another, and what was meant for a webhook that is no more.
    /// Returns how many messages that were.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget_deliveries(&self, done_before: i64, dead_before: i64) -> Result<u64, StorageError> {
        let done = sqlx::query(
            "DELETE FROM webhook_deliveries WHERE (state = 'done' AND finished_at < $1) \
             OR (state = 'dead' AND finished_at < $2) OR webhook_id NOT IN (SELECT id FROM webhooks)",
        )
        .bind(done_before)
        .bind(dead_before)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected())
    }
}

impl Tx {
    /// Waits until no other replica makes a webhook.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn lock_webhooks(&mut self) -> Result<(), StorageError> {
        if self.dialect == Dialect::Postgres {
            sqlx::query("SELECT 1 FROM pg_advisory_xact_lock(20250712)").execute(self.connection()).await?;
        }
        Ok(())
    }

    /// How many webhooks there are.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_webhooks(&mut self) -> Result<i64, StorageError> {
        Ok(sqlx::query("SELECT COUNT(*) FROM webhooks").fetch_one(self.connection()).await?.try_get(0)?)
    }

    /// Keeps a new webhook. Lock them first: numbers are given one by one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_webhook(
        &mut self,
        address: &str,
        secret: &str,
        events: &[String],
    ) -> Result<WebhookRecord, StorageError> {
        let at = now();
        let record = WebhookRecord {
            id: new_id(),
            address: address.to_owned(),
            secret: secret.to_owned(),
            events: events.to_vec(),
            active: true,
            failures: 0,
            created_at: at,
            changed_at: at,
        };
        sqlx::query(
            "INSERT INTO webhooks (id, number, address, secret, events, active, failures, created_at, changed_at) \
             VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM webhooks), $2, $3, $4, 1, 0, $5, $6)",
        )
        .bind(record.id.as_str())
        .bind(address)
        .bind(secret)
        .bind(serde_json::json!(events).to_string())
        .bind(at)
        .bind(at)
        .execute(self.connection())
        .await?;
        Ok(record)
    }

    /// Stores what may change of a webhook. Says whether it exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn update_webhook(&mut self, webhook: &WebhookRecord) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "UPDATE webhooks SET address = $2, events = $3, active = $4, failures = $5, changed_at = $6 WHERE id = $1",
        )
        .bind(webhook.id.as_str())
        .bind(webhook.address.as_str())
        .bind(serde_json::json!(webhook.events).to_string())
        .bind(i64::from(webhook.active))
        .bind(webhook.failures)
        .bind(webhook.changed_at)
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Removes a webhook with all that was meant for it. Says whether it existed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn remove_webhook(&mut self, id: &str) -> Result<bool, StorageError> {
        // In the order in which an attempt that ends writes to them.
        sqlx::query("DELETE FROM webhook_deliveries WHERE webhook_id = $1").bind(id).execute(self.connection()).await?;
        let done = sqlx::query("DELETE FROM webhooks WHERE id = $1").bind(id).execute(self.connection()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes the ticket's last event for every webhook that is to be told of it.
    pub(super) async fn queue_deliveries(&mut self, ticket_id: &str, kind: &str, at: i64) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO webhook_deliveries \
             (id, webhook_id, ticket_id, seq, event, state, attempts, next_at, created_at) \
             SELECT $1 || '-' || CAST(w.number AS TEXT), w.id, $2, \
             (SELECT MAX(e.seq) FROM ticket_events e WHERE e.ticket_id = $3), $4, 'pending', 0, $5, $6 \
             FROM webhooks w WHERE w.active = 1 AND (w.events = '[]' OR w.events LIKE $7)",
        )
        .bind(new_id())
        .bind(ticket_id)
        .bind(ticket_id)
        .bind(kind)
        .bind(at)
        .bind(at)
        // A kind is a word of ours. Its `_` may stand for any letter here, which makes it no other kind.
        .bind(format!("%\"{kind}\"%"))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Keeps what came of an attempt, unless another one was begun since. Says whether it did.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn finish_attempt(
        &mut self,
        webhook_id: &str,
        id: &str,
        attempt: i64,
        outcome: &AttemptOutcome,
    ) -> Result<bool, StorageError> {
        let pending = outcome.state == DeliveryState::Pending;
        let done = sqlx::query(
            "UPDATE webhook_deliveries SET state = $1, next_at = $2, finished_at = $3, status = $4, problem = $5 \
             WHERE id = $6 AND attempts = $7 AND state = 'pending'",
        )
        // Not kept as a prepared statement: what is absent has no type, and PostgreSQL would hold later values to that.
        .persistent(false)
        .bind(outcome.state.as_str())
        .bind(outcome.next_at)
        .bind((!pending).then_some(outcome.at))
        .bind(outcome.status.map(i64::from))
        .bind(outcome.problem)
        .bind(id)
        .bind(attempt)
        .execute(self.connection())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let sql = match outcome.state {
            DeliveryState::Done => "UPDATE webhooks SET failures = 0 WHERE id = $1 AND failures > 0",
            DeliveryState::Pending | DeliveryState::Dead => "UPDATE webhooks SET failures = failures + 1 WHERE id = $1",
        };
        sqlx::query(sql).bind(webhook_id).execute(self.connection()).await?;
        Ok(true)
    }
}
