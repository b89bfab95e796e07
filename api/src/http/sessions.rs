//! `GET /v1/sessions/{id}`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use yingda_engine::Role;

use super::AppState;
use super::attachments::with_files;
use super::extract::{ApiPath, ApiQuery, Caller, number};
use crate::chat::{AttachmentItem, IntentScore, Sentiment};
use crate::desk::Ticket;
use crate::error::{ApiError, ErrorBody};
use crate::storage::{Owner, Turn, rfc3339};

const MAX_TURNS: i64 = 200;

/// Which turns to return.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SessionQuery {
    /// Only turns with a larger number; 0 for all.
    after: Option<String>,
    /// Most turns to return, 1 to 200.
    limit: Option<String>,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionBody {
    /// The caller's id.
    session_id: String,
    /// The caller's id of the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    /// Where its messages come from.
    channel: String,
    /// Who answers: `bot` or `agent`.
    #[schema(example = "bot")]
    owner: String,
    /// The person who took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_agent: Option<String>,
    /// What the caller said of the customer, masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    profile: Option<serde_json::Value>,
    /// The open ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<SessionTicket>,
    /// When the first message came.
    created_at: String,
    /// When the last turn came.
    updated_at: String,
    /// When the last ticket was resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_at: Option<String>,
    /// Number of the last turn there is.
    last_seq: i64,
    /// Turns, oldest first. Ask again with `after` for what is missing up to `last_seq`.
    turns: Vec<TurnBody>,
}

/// The open ticket of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct SessionTicket {
    /// Its id.
    ticket_id: String,
    /// `new`, `assigned`, `in_progress` or `waiting_customer`.
    status: String,
    /// Why the session was handed over.
    reason: String,
    /// The person who took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    assignee: Option<String>,
}

impl From<Ticket> for SessionTicket {
    fn from(ticket: Ticket) -> Self {
        Self {
            ticket_id: ticket.id,
            status: ticket.status.as_str().to_owned(),
            reason: ticket.reason,
            assignee: ticket.assignee,
        }
    }
}

/// One turn.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TurnBody {
    /// Its number in the session, from 1.
    seq: i64,
    /// `user`, `bot` or `agent`.
    role: String,
    /// Its text; personal data is masked, but in what a person of the desk wrote in the last month.
    text: String,
    /// The caller's id of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    /// Likeliest intent.
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<IntentScore>,
    /// How the customer felt.
    #[serde(skip_serializing_if = "Option::is_none")]
    sentiment: Option<Sentiment>,
    /// What was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The knowledge entry that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    knowledge_id: Option<String>,
    /// The person who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    /// Files that came with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) attachments: Vec<AttachmentItem>,
    /// When.
    created_at: String,
}

impl From<Turn> for TurnBody {
    fn from(turn: Turn) -> Self {
        Self {
            seq: turn.seq,
            role: match turn.role {
                Role::User => "user",
                Role::Agent => "agent",
                Role::Bot => "bot",
            }
            .to_owned(),
            text: turn.said.unwrap_or(turn.text),
            message_id: turn.message_id,
            intent: turn.intent.map(|(label, probability)| IntentScore { label, probability: probability as f32 }),
            sentiment: turn.sentiment.map(Sentiment::from),
            decision: turn.decision,
            reason: turn.reason,
            knowledge_id: turn.knowledge_id,
            author: turn.author,
            attachments: Vec::new(),
            created_at: rfc3339(turn.created_at),
        }
    }
}

/// Read a session
///
/// Its turns, its owner and its open ticket. A customer's page asks for it every few seconds, with `after`, to show what a
/// person answers.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}", tag = "chat", security(("api_key" = [])),
    params(("session_id" = String, Path, description = "The caller's id of the session"), SessionQuery),
    responses(
        (status = 200, description = "The session", body = SessionBody),
        (status = 404, description = "No such session", body = ErrorBody),
    )
)]
pub(super) async fn session(
    State(state): State<AppState>,
    _caller: Caller,
    ApiPath(id): ApiPath,
    ApiQuery(query): ApiQuery<SessionQuery>,
) -> Result<Json<SessionBody>, ApiError> {
    let after = number("after", query.after.as_deref(), 0, 0, i64::MAX)?;
    let limit = number("limit", query.limit.as_deref(), MAX_TURNS, 1, MAX_TURNS)?;
    // PostgreSQL refuses NUL even to look for it.
    let session = if id.contains('\0') { None } else { state.0.storage.session(&id).await? };
    let session = session.ok_or(ApiError::SessionNotFound)?;
    let ticket = match session.owner {
        Owner::Agent => state.0.storage.open_ticket_of(&session.id).await?.map(SessionTicket::from),
        Owner::Bot => None,
    };
    let turns = state.0.storage.turns(&session.id, after, i64::MAX, limit).await?;
    let turns = with_files(&state, &session.id, turns).await?;
    Ok(Json(SessionBody {
        session_id: session.id,
        user_id: session.user_id,
        channel: session.channel,
        owner: session.owner.as_str().to_owned(),
        owner_agent: session.owner_agent,
        profile: session.profile.and_then(|profile| serde_json::from_str(&profile).ok()),
        ticket,
        created_at: rfc3339(session.created_at),
        updated_at: rfc3339(session.updated_at),
        resolved_at: session.resolved_at.map(rfc3339),
        last_seq: session.last_seq,
        turns,
    }))
}
