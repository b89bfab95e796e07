//! Sessions and their turns.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::any::AnyRow;
use yingda_engine::{Role, SentimentScores};

use super::{Dialect, Storage, StorageError, Tx, new_id, now, sentiment};

/// Who answers the customer of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The engine.
    Bot,
    /// A person, or the queue of people while nobody has taken the ticket.
    Agent,
}

impl Owner {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Agent => "agent",
        }
    }
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The caller's id.
    pub id: String,
    /// The caller's id of the customer.
    pub user_id: Option<String>,
    /// Where the messages come from.
    pub channel: String,
    /// Who answers.
    pub owner: Owner,
    /// The person who took the session's ticket.
    pub owner_agent: Option<String>,
    /// What the caller said of the customer, masked JSON.
    pub profile: Option<String>,
    /// Where a guided flow waits for the customer, as JSON. Not masked: it may hold an order or phone number.
    pub flow: Option<String>,
    /// Number of the last turn.
    pub last_seq: i64,
    /// Turns up to this one were settled by a resolution.
    pub resolved_seq: i64,
    /// When the last ticket was resolved.
    pub resolved_at: Option<i64>,
    /// When the first message came.
    pub created_at: i64,
    /// When the last turn came.
    pub updated_at: i64,
}

/// What a message may say of its session besides its id.
#[derive(Clone, Debug, Default)]
pub struct SessionDetails {
    /// The caller's id of the customer.
    pub user_id: Option<String>,
    /// Where the message comes from; `api` when nobody said.
    pub channel: Option<String>,
    /// Masked JSON.
    pub profile: Option<String>,
}

/// One stored turn.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its id.
    pub id: String,
    /// Its number in the session, from 1.
    pub seq: i64,
    /// Who wrote it.
    pub role: Role,
    /// Its text, masked.
    pub text: String,
    /// What a person of the desk wrote, where masking changed it: for the customer's eyes and the desk's, and no other's.
    pub said: Option<String>,
    /// The caller's id of the message, or an agent's of the reply.
    pub message_id: Option<String>,
    /// Sentiment; user turns only.
    pub sentiment: Option<SentimentScores>,
    /// Likeliest intent with its probability; user turns only.
    pub intent: Option<(String, f64)>,
    /// What was decided; bot turns only.
    pub decision: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The knowledge entry that answered.
    pub knowledge_id: Option<String>,
    /// The model that read or wrote it.
    pub model: Option<String>,
    /// The person who wrote an agent turn.
    pub author: Option<String>,
    /// When.
    pub created_at: i64,
}

/// A turn to be stored.
#[derive(Clone, Debug, Default)]
pub struct NewTurn {
    /// Its text, masked.
    pub text: String,
    /// As in [`Turn`].
    pub said: Option<String>,
    /// The caller's id of the message.
    pub message_id: Option<String>,
    /// The exact answer, for the same message id sent again.
    pub response_json: Option<String>,
    /// Sentiment; user turns only.
    pub sentiment: Option<SentimentScores>,
    /// Likeliest intent with its probability.
    pub intent: Option<(String, f64)>,
    /// What was decided.
    pub decision: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The knowledge entry that answered.
    pub knowledge_id: Option<String>,
    /// The model that read or wrote it.
    pub model: Option<String>,
    /// The person who wrote an agent turn.
    pub author: Option<String>,
    /// The id that an agent's side gave a reply.
    pub reply_id: Option<String>,
}

/// The column `owner` of a row.
pub(super) fn owner(row: &AnyRow) -> Result<Owner, StorageError> {
    let owner: String = row.try_get("owner")?;
    match owner.as_str() {
        "bot" => Ok(Owner::Bot),
        "agent" => Ok(Owner::Agent),
        _ => Err(StorageError::Unknown { what: "the session owner", value: owner }),
    }
}

fn session(row: &AnyRow) -> Result<Session, StorageError> {
    Ok(Session {
        id: row.try_get("id")?,
        user_id: row.try_get("user_id")?,
        channel: row.try_get("channel")?,
        owner: owner(row)?,
        owner_agent: row.try_get("owner_agent")?,
        profile: row.try_get("profile")?,
        flow: row.try_get("flow")?,
        last_seq: row.try_get("last_seq")?,
        resolved_seq: row.try_get("resolved_seq")?,
        resolved_at: row.try_get("resolved_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

const MESSAGE: &str = "SELECT text_masked, response_json FROM turns WHERE session_id = $1 AND message_id = $2";

/// A message that was stored under an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its text, masked.
    pub text: String,
    /// The exact answer that it got; a form has none.
    pub answer: Option<String>,
}

fn message(row: &AnyRow) -> Result<StoredMessage, StorageError> {
    Ok(StoredMessage { text: row.try_get("text_masked")?, answer: row.try_get("response_json")? })
}

fn turn(row: &AnyRow) -> Result<Turn, StorageError> {
    let role: String = row.try_get("role")?;
    let intent: Option<String> = row.try_get("intent")?;
    let probability: Option<f64> = row.try_get("intent_probability")?;
    Ok(Turn {
        id: row.try_get("id")?,
        seq: row.try_get("seq")?,
        role: match role.as_str() {
            "user" => Role::User,
            "agent" => Role::Agent,
            "bot" => Role::Bot,
            _ => return Err(StorageError::Unknown { what: "the role", value: role }),
        },
        text: row.try_get("text_masked")?,
        said: row.try_get("said")?,
        message_id: match row.try_get("message_id")? {
            None => row.try_get("reply_id")?,
            id => id,
        },
        sentiment: sentiment(row)?,
        intent: intent.zip(probability),
        decision: row.try_get("decision")?,
        reason: row.try_get("reason")?,
        knowledge_id: row.try_get("knowledge_id")?,
        model: row.try_get("model")?,
        author: row.try_get("author")?,
        created_at: row.try_get("created_at")?,
    })
}

impl Storage {
    /// A session, if it exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn session(&self, id: &str) -> Result<Option<Session>, StorageError> {
        let row = sqlx::query("SELECT * FROM sessions WHERE id = $1").bind(id).fetch_optional(&self.readers).await?;
        row.as_ref().map(session).transpose()
    }

    /// Turns numbered above `after` and up to `until`, oldest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn turns(&self, session_id: &str, after: i64, until: i64, limit: i64) -> Result<Vec<Turn>, StorageError> {
        let rows =
            sqlx::query("SELECT * FROM turns WHERE session_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4")
                .bind(session_id)
                .bind(after)
                .bind(until)
                .bind(limit)
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(turn).collect()
    }

    /// The last `limit` turns numbered above `after`, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn last_turns(&self, session_id: &str, after: i64, limit: i64) -> Result<Vec<Turn>, StorageError> {
        let rows = sqlx::query("SELECT * FROM turns WHERE session_id = $1 AND seq > $2 ORDER BY seq DESC LIMIT $3")
            .bind(session_id)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().rev().map(turn).collect()
    }

    /// The message of a session that was stored under an id, if there is one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn message(&self, session_id: &str, message_id: &str) -> Result<Option<StoredMessage>, StorageError> {
        let query = sqlx::query(MESSAGE).bind(session_id).bind(message_id);
        query.fetch_optional(&self.readers).await?.as_ref().map(message).transpose()
    }

    /// Forgets the flows of sessions in which nothing has happened since `before`: they have waited in vain.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget_flows(&self, before: i64) -> Result<(), StorageError> {
        sqlx::query("UPDATE sessions SET flow = NULL WHERE flow IS NOT NULL AND updated_at < $1")
            .bind(before)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Forgets what people of the desk wrote before that moment, but for what masking left of it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget_said(&self, before: i64) -> Result<(), StorageError> {
        sqlx::query("UPDATE turns SET said = NULL WHERE said IS NOT NULL AND created_at < $1")
            .bind(before)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// How often the bot answered with each knowledge entry; one that never answered is not among them.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn answers_by_knowledge(&self) -> Result<BTreeMap<String, u64>, StorageError> {
        let sql = "SELECT knowledge_id, COUNT(*) FROM turns WHERE role = 'bot' AND knowledge_id IS NOT NULL GROUP BY 1";
        let rows = sqlx::query(sql).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)?.unsigned_abs()))).collect()
    }
}

impl Tx {
    /// The session, locked until the transaction ends; made if it is new, brought up to date with what a message says.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn lock_session(&mut self, id: &str, details: &SessionDetails) -> Result<Session, StorageError> {
        let at = now();
        self.sessions.push(id.to_owned());
        sqlx::query(
            "INSERT INTO sessions (id, channel, owner, last_seq, resolved_seq, created_at, updated_at) \
             VALUES ($1, $2, 'bot', 0, 0, $3, $4) ON CONFLICT (id) DO NOTHING",
        )
        .bind(id)
        .bind(details.channel.as_deref().unwrap_or(crate::chat::DEFAULT_CHANNEL))
        .bind(at)
        .bind(at)
        .execute(self.connection())
        .await?;
        // The update locks the row, in both databases.
        sqlx::query(
            "UPDATE sessions SET user_id = COALESCE($2, user_id), channel = COALESCE($3, channel), \
             profile = COALESCE($4, profile), updated_at = $5 WHERE id = $1",
        )
        .bind(id)
        .bind(details.user_id.as_deref())
        .bind(details.channel.as_deref())
        .bind(details.profile.as_deref())
        .bind(at)
        .execute(self.connection())
        .await?;
        let row = sqlx::query("SELECT * FROM sessions WHERE id = $1").bind(id).fetch_one(self.connection()).await?;
        session(&row)
    }

    /// An existing session, locked until the transaction ends.
    ///
    /// # Errors
    ///
    /// When the database fails or the session does not exist.
    pub async fn lock_existing_session(&mut self, id: &str) -> Result<Session, StorageError> {
        self.sessions.push(id.to_owned());
        // SQLite has one writer, and a transaction here is that writer from its start.
        let sql = match self.dialect {
            Dialect::Sqlite => "SELECT * FROM sessions WHERE id = $1",
            Dialect::Postgres => "SELECT * FROM sessions WHERE id = $1 FOR UPDATE",
        };
        let row = sqlx::query(sql).bind(id).fetch_one(self.connection()).await?;
        session(&row)
    }

    /// As [`Storage::message`].
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn message(&mut self, session_id: &str, message_id: &str) -> Result<Option<StoredMessage>, StorageError> {
        let query = sqlx::query(MESSAGE).bind(session_id).bind(message_id);
        query.fetch_optional(self.connection()).await?.as_ref().map(message).transpose()
    }

    /// The number of the last turn up to a moment; 0 when there is none.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn last_seq_at(&mut self, session_id: &str, at: i64) -> Result<i64, StorageError> {
        let query = sqlx::query("SELECT COALESCE(MAX(seq), 0) FROM turns WHERE session_id = $1 AND created_at <= $2");
        Ok(query.bind(session_id).bind(at).fetch_one(self.connection()).await?.try_get(0)?)
    }

    /// Adds a turn to a locked session and counts it in `session`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_turn(&mut self, session: &mut Session, role: Role, turn: NewTurn) -> Result<i64, StorageError> {
        let at = now();
        let seq = session.last_seq + 1;
        let (intent, probability) = turn.intent.unzip();
        let answered = role == Role::Bot && turn.decision.as_deref() == Some("reply");
        if session.owner == Owner::Agent {
            self.index_turn(&session.id, seq, &turn.text).await?;
        }
        sqlx::query(
            "INSERT INTO turns (id, session_id, seq, role, text_masked, message_id, response_json, \
             sentiment_negative, sentiment_neutral, sentiment_positive, intent, intent_probability, \
             decision, reason, knowledge_id, model, author, reply_id, created_at, said) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        )
        // Not kept as a prepared statement: sqlx 0.9's Any driver declares an absent DOUBLE as a REAL, and PostgreSQL would
        // hold later values of the same statement to that.
        .persistent(false)
        .bind(new_id())
        .bind(session.id.as_str())
        .bind(seq)
        .bind(match role {
            Role::User => "user",
            Role::Agent => "agent",
            Role::Bot => "bot",
        })
        .bind(turn.text)
        .bind(turn.message_id)
        .bind(turn.response_json)
        .bind(turn.sentiment.map(|scores| f64::from(scores.negative)))
        .bind(turn.sentiment.map(|scores| f64::from(scores.neutral)))
        .bind(turn.sentiment.map(|scores| f64::from(scores.positive)))
        .bind(intent)
        .bind(probability)
        .bind(turn.decision)
        .bind(turn.reason)
        .bind(turn.knowledge_id)
        .bind(turn.model)
        .bind(turn.author)
        .bind(turn.reply_id)
        .bind(at)
        .bind(turn.said)
        .execute(self.connection())
        .await?;
        sqlx::query(
            "UPDATE sessions SET last_seq = $2, updated_at = $3, answered_at = COALESCE(answered_at, $4) WHERE id = $1",
        )
        .bind(session.id.as_str())
        .bind(seq)
        .bind(at)
        .bind(answered.then_some(at))
        .execute(self.connection())
        .await?;
        if answered {
            self.count_answer(&session.id, seq - 1, at).await?;
        }
        session.last_seq = seq;
        Ok(seq)
    }

    /// Notes where the flow of a locked session waits, or that none does.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn set_flow(&mut self, session: &mut Session, flow: Option<String>) -> Result<(), StorageError> {
        sqlx::query("UPDATE sessions SET flow = $2 WHERE id = $1")
            .bind(session.id.as_str())
            .bind(flow.as_deref())
            .execute(self.connection())
            .await?;
        session.flow = flow;
        Ok(())
    }

    /// Gives a locked session to people: to nobody yet, or to one of them.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn give_to_agent(&mut self, session: &mut Session, agent: Option<&str>) -> Result<(), StorageError> {
        sqlx::query("UPDATE sessions SET owner = 'agent', owner_agent = $2 WHERE id = $1")
            .bind(session.id.as_str())
            .bind(agent)
            .execute(self.connection())
            .await?;
        session.owner = Owner::Agent;
        session.owner_agent = agent.map(str::to_owned);
        Ok(())
    }

    /// Gives a locked session back to the engine and settles all turns so far, so that an old hand-over is not judged again and
    /// no flow goes on with what is settled.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn give_to_bot(&mut self, session: &mut Session) -> Result<(), StorageError> {
        let at = now();
        sqlx::query(
            "UPDATE sessions SET owner = 'bot', owner_agent = NULL, flow = NULL, resolved_seq = last_seq, \
             resolved_at = $2, updated_at = $3 WHERE id = $1",
        )
        .bind(session.id.as_str())
        .bind(at)
        .bind(at)
        .execute(self.connection())
        .await?;
        session.owner = Owner::Bot;
        session.owner_agent = None;
        session.flow = None;
        session.resolved_seq = session.last_seq;
        session.resolved_at = Some(at);
        Ok(())
    }
}
