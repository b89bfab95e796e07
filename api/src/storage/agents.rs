//! Who works at the desk, what waits there, and what only one replica does at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::AssertSqlSafe;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::tickets::{OPEN, parsed, ticket};
use super::{Storage, StorageError, Tx, now};
use crate::desk::routing::Presence;
use crate::desk::service_level::Pause;
use crate::desk::{Status, Ticket};

/// A person who works at the desk, as routing knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRecord {
    /// The name that tickets are assigned to.
    pub name: String,
    /// The team.
    pub team: String,
    /// Skills with their level, 1 to 3.
    pub skills: BTreeMap<String, u8>,
    /// Languages that they speak; empty: any.
    pub languages: BTreeSet<String>,
    /// Channels that they serve; empty: any.
    pub channels: BTreeSet<String>,
    /// Load that they can carry at once.
    pub capacity: u32,
    /// Whether they serve the VIP lane.
    pub vip_lane: bool,
    /// Name of the calendar of their shifts.
    pub shift: Option<String>,
    /// What they last said.
    pub presence: Presence,
    /// When they were last heard of.
    pub seen_at: i64,
    /// When they were last given a ticket.
    pub last_given_at: Option<i64>,
}

/// A ticket that nobody has, with what routing asks of its session.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The ticket.
    pub ticket: Ticket,
    /// Where the customer writes.
    pub channel: String,
    /// Who served this customer last, with another ticket.
    pub served_by: Option<String>,
}

impl Presence {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Offline => "offline",
        }
    }
}

fn agent(row: &AnyRow) -> Result<AgentRecord, StorageError> {
    let presence: String = row.try_get("presence")?;
    Ok(AgentRecord {
        name: row.try_get("name")?,
        team: row.try_get("team")?,
        skills: parsed(row, "skills")?,
        languages: parsed(row, "languages")?,
        channels: parsed(row, "channels")?,
        capacity: u32::try_from(row.try_get::<i64, _>("capacity")?).unwrap_or(0),
        vip_lane: row.try_get::<i64, _>("vip_lane")? != 0,
        shift: row.try_get("shift")?,
        presence: [Presence::Online, Presence::Away, Presence::Offline]
            .into_iter()
            .find(|known| known.as_str() == presence)
            .ok_or(StorageError::Unknown { what: "the presence", value: presence })?,
        seen_at: row.try_get("seen_at")?,
        last_given_at: row.try_get("last_given_at")?,
    })
}

impl Storage {
    /// All who work at the desk, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn agents(&self) -> Result<Vec<AgentRecord>, StorageError> {
        let rows = sqlx::query("SELECT * FROM agents ORDER BY name").fetch_all(&self.readers).await?;
        rows.iter().map(agent).collect()
    }

    /// Notes that somebody is there, or not. Says whether they work at the desk.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn set_presence(&self, name: &str, presence: Presence) -> Result<bool, StorageError> {
        let done = sqlx::query("UPDATE agents SET presence = $2, seen_at = $3 WHERE name = $1")
            .bind(name)
            .bind(presence.as_str())
            .bind(now())
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes that somebody was given a ticket.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn note_given(&self, name: &str, at: i64) -> Result<(), StorageError> {
        sqlx::query("UPDATE agents SET last_given_at = $2 WHERE name = $1")
            .bind(name)
            .bind(at)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Takes what only one replica does at a time, or keeps it; nobody else gets it before `until`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn take_lease(&self, name: &str, holder: &str, until: i64) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "INSERT INTO leases (name, holder, until) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE \
             SET holder = $4, until = $5 WHERE leases.holder = $6 OR leases.until < $7",
        )
        .bind(name)
        .bind(holder)
        .bind(until)
        .bind(holder)
        .bind(until)
        .bind(holder)
        .bind(now())
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// All tickets that nobody has, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn queue(&self) -> Result<Vec<Queued>, StorageError> {
        let rows = sqlx::query(
            "SELECT t.*, s.channel AS session_channel, \
             (SELECT p.last_assignee FROM tickets p JOIN sessions q ON q.id = p.session_id \
              WHERE q.user_id = s.user_id AND p.last_assignee IS NOT NULL AND p.id < t.id ORDER BY p.id DESC LIMIT 1) \
             AS served_by \
             FROM tickets t JOIN sessions s ON s.id = t.session_id WHERE t.status = 'new' ORDER BY t.id",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Queued {
                    ticket: ticket(row)?,
                    channel: row.try_get("session_channel")?,
                    served_by: row.try_get("served_by")?,
                })
            })
            .collect()
    }

    /// All open tickets that somebody has.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn held_tickets(&self) -> Result<Vec<Ticket>, StorageError> {
        let sql = "SELECT * FROM tickets WHERE status IN ('assigned', 'in_progress', 'waiting_customer') ORDER BY id";
        sqlx::query(sql).fetch_all(&self.readers).await?.iter().map(ticket).collect()
    }

    /// All open tickets.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn open_tickets(&self) -> Result<Vec<Ticket>, StorageError> {
        let sql = AssertSqlSafe(format!("SELECT * FROM tickets WHERE status IN {OPEN} ORDER BY id"));
        sqlx::query(sql).fetch_all(&self.readers).await?.iter().map(ticket).collect()
    }

    /// Whether somebody may be given tickets: an account, somebody of the desk or a key of that name, and anybody where the desk knows
    /// neither accounts nor people.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn may_be_given_to(&self, name: &str) -> Result<bool, StorageError> {
        let sql = "SELECT (SELECT COUNT(*) FROM agents) + (SELECT COUNT(*) FROM users), \
                   (SELECT COUNT(*) FROM agents WHERE name = $1) \
                   + (SELECT COUNT(*) FROM users WHERE name = $2 AND disabled_at IS NULL) \
                   + (SELECT COUNT(*) FROM api_keys WHERE name = $3 AND revoked_at IS NULL)";
        let row = sqlx::query(sql).bind(name).bind(name).bind(name).fetch_one(&self.readers).await?;
        Ok(row.try_get::<i64, _>(0)? == 0 || row.try_get::<i64, _>(1)? > 0)
    }

    /// Of all open tickets that ever waited for their customer: when they did.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn pauses(&self) -> Result<HashMap<String, Vec<Pause>>, StorageError> {
        let sql = AssertSqlSafe(format!(
            "SELECT e.ticket_id, e.at, e.after FROM ticket_events e JOIN tickets t ON t.id = e.ticket_id \
             WHERE t.status IN {OPEN} \
             AND EXISTS (SELECT 1 FROM ticket_events w WHERE w.ticket_id = t.id AND w.kind = 'waiting') \
             ORDER BY e.ticket_id, e.seq"
        ));
        let rows = sqlx::query(sql).fetch_all(&self.readers).await?;
        let mut pauses: HashMap<String, Vec<Pause>> = HashMap::new();
        for row in &rows {
            let after: serde_json::Map<String, serde_json::Value> = parsed(row, "after")?;
            let Some(status) = after.get("status").and_then(serde_json::Value::as_str) else { continue };
            let at: i64 = row.try_get("at")?;
            let pauses = pauses.entry(row.try_get("ticket_id")?).or_default();
            if status == Status::WaitingCustomer.as_str() {
                pauses.push(Pause { from: at, to: None });
            } else if let Some(last) = pauses.last_mut().filter(|pause| pause.to.is_none()) {
                last.to = Some(at);
            }
        }
        Ok(pauses)
    }
}

impl Tx {
    /// Keeps what routing is to know of a person. What they said of their presence, and when they were given something, stays.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn put_agent(&mut self, agent: &AgentRecord) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO agents (name, team, skills, languages, channels, capacity, vip_lane, shift, presence, seen_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (name) DO UPDATE SET team = excluded.team, \
             skills = excluded.skills, languages = excluded.languages, channels = excluded.channels, \
             capacity = excluded.capacity, vip_lane = excluded.vip_lane, shift = excluded.shift",
        )
        .bind(agent.name.as_str())
        .bind(agent.team.as_str())
        .bind(serde_json::json!(agent.skills).to_string())
        .bind(serde_json::json!(agent.languages).to_string())
        .bind(serde_json::json!(agent.channels).to_string())
        .bind(i64::from(agent.capacity))
        .bind(i64::from(agent.vip_lane))
        .bind(agent.shift.as_deref())
        .bind(agent.presence.as_str())
        .bind(agent.seen_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Removes a person from the desk; says whether they were there. Their tickets stay theirs.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn remove_agent(&mut self, name: &str) -> Result<bool, StorageError> {
        let done = sqlx::query("DELETE FROM agents WHERE name = $1").bind(name).execute(self.connection()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes that a warning or a breach is told; says whether it was not before.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_service_level_mark(
        &mut self,
        ticket: &Ticket,
        target: &str,
        state: &str,
    ) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "INSERT INTO service_level_marks (ticket_id, target, state, round, at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT DO NOTHING",
        )
        .bind(ticket.id.as_str())
        .bind(target)
        .bind(state)
        .bind(ticket.reopened)
        .bind(now())
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
