//! `/v1/tickets`: list, read, take, reply, resolve.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::extract::{Agent, ApiJson, ApiPath, ApiQuery, OptionalJson, cursor, number};
use super::sessions::TurnBody;
use crate::auth::Identity;
use crate::chat::{IntentScore, Sentiment, checked_id, checked_text};
use crate::desk::{Actor, Ticket};
use crate::error::{ApiError, ErrorBody};
use crate::storage::{TicketEvent, TicketFilter, rfc3339};

const MAX_LIMIT: i64 = 200;

/// Which tickets to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TicketsQuery {
    /// `new`, `assigned`, `in_progress` or `resolved`; `open` for all that are not resolved. All when left out.
    status: Option<String>,
    /// Most tickets to return, 1 to 200; 50 when left out.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// One page of tickets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TicketsBody {
    /// Newest first.
    tickets: Vec<TicketBody>,
    /// What to ask with for the next page; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TicketBody {
    /// Its id.
    ticket_id: String,
    /// Its session.
    session_id: String,
    /// `new`, `assigned`, `in_progress` or `resolved`.
    #[schema(example = "new")]
    status: String,
    /// Why the session was handed over.
    #[schema(example = "person_requested")]
    reason: String,
    /// The word or score behind the reason.
    detail: String,
    /// `low`, `medium`, `high` or `urgent`.
    #[schema(example = "medium")]
    priority: String,
    /// Likeliest intent of the message that was handed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<IntentScore>,
    /// Sentiment of that message.
    #[serde(skip_serializing_if = "Option::is_none")]
    sentiment: Option<Sentiment>,
    /// The model that judged.
    model: String,
    /// The person who took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    assignee: Option<String>,
    /// When it was opened.
    created_at: String,
    /// When it last changed.
    updated_at: String,
    /// When it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_at: Option<String>,
    /// When a person first answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_reply_at: Option<String>,
    /// When it was resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_at: Option<String>,
}

impl From<Ticket> for TicketBody {
    fn from(ticket: Ticket) -> Self {
        Self {
            ticket_id: ticket.id,
            session_id: ticket.session_id,
            status: ticket.status.as_str().to_owned(),
            reason: ticket.reason,
            detail: ticket.detail,
            priority: ticket.priority.as_str().to_owned(),
            intent: ticket.intent.map(|(label, probability)| IntentScore { label, probability: probability as f32 }),
            sentiment: ticket.sentiment.map(Sentiment::from),
            model: ticket.model,
            assignee: ticket.assignee,
            created_at: rfc3339(ticket.created_at),
            updated_at: rfc3339(ticket.updated_at),
            taken_at: ticket.taken_at.map(rfc3339),
            first_reply_at: ticket.first_reply_at.map(rfc3339),
            resolved_at: ticket.resolved_at.map(rfc3339),
        }
    }
}

/// A ticket with its story.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TicketDetailBody {
    /// The ticket.
    #[serde(flatten)]
    ticket: TicketBody,
    /// The turns that led to it, oldest first.
    turns: Vec<TurnBody>,
    /// What happened to it, oldest first.
    events: Vec<EventBody>,
}

/// Something that happened to a ticket.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventBody {
    /// Its number in the ticket, from 1.
    seq: i64,
    /// `opened`, `customer_message`, `escalated_again`, `taken`, `agent_reply` or `resolved`.
    kind: String,
    /// `bot`, `customer`, or the name of a person.
    actor: String,
    /// More of it.
    #[schema(value_type = Object)]
    data: serde_json::Value,
    /// When.
    at: String,
}

impl From<TicketEvent> for EventBody {
    fn from(event: TicketEvent) -> Self {
        Self {
            seq: event.seq,
            kind: event.kind,
            actor: event.actor,
            data: serde_json::from_str(&event.data).unwrap_or_default(),
            at: rfc3339(event.at),
        }
    }
}

/// Who takes a ticket.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TakeRequest {
    /// Name of the person; the name of the key when left out.
    #[schema(example = "小王")]
    agent: Option<String>,
}

/// A person's answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplyRequest {
    /// What the customer should read, 1 to 20,000 characters. Stored, and thus shown, with personal data masked.
    #[schema(example = "您好，我来帮您处理。")]
    text: String,
    /// Name of the person; when left out, whoever took the ticket with the same key.
    agent: Option<String>,
}

/// How a ticket ended.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveRequest {
    /// For colleagues; the customer does not read it.
    note: Option<String>,
    /// Name of the person; when left out, whoever took the ticket with the same key.
    agent: Option<String>,
}

/// `None`: all; else as [`TicketFilter`] says.
fn filter(status: Option<&str>) -> Result<TicketFilter, ApiError> {
    match status {
        None => Ok(TicketFilter::All),
        Some("open") => Ok(TicketFilter::Open),
        Some(status) => status
            .parse()
            .map(TicketFilter::Status)
            .map_err(|()| ApiError::field("status", "取值无效，可用：new、assigned、in_progress、resolved、open")),
    }
}

/// An id of ours from the path. Whatever is no UUID is surely no ticket.
fn ticket_id(text: String) -> Result<String, ApiError> {
    match uuid::Uuid::try_parse(&text) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(ApiError::TicketNotFound(text.chars().filter(|letter| !letter.is_control()).take(64).collect())),
    }
}

fn actor(identity: Identity, name: Option<String>) -> Result<Actor, ApiError> {
    let name = name.map(|name| checked_id("agent", name.trim().to_owned())).transpose()?;
    Ok(Actor { name, key_name: identity.name, key_id: identity.key_id })
}

/// List tickets
#[utoipa::path(
    get, path = "/v1/tickets", tag = "tickets", params(TicketsQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "One page, newest first", body = TicketsBody),
        (status = 403, description = "Not an agent's key", body = ErrorBody),
        (status = 422, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(super) async fn list(
    State(state): State<AppState>,
    _agent: Agent,
    ApiQuery(query): ApiQuery<TicketsQuery>,
) -> Result<Json<TicketsBody>, ApiError> {
    let filter = filter(query.status.as_deref())?;
    let limit = number("limit", query.limit.as_deref(), 50, 1, MAX_LIMIT)?;
    let before = cursor(query.cursor)?;
    // One more than asked for tells whether there is a next page.
    let mut tickets = state.0.storage.tickets(filter, before.as_deref(), limit + 1).await?;
    let more = tickets.len() as i64 > limit;
    tickets.truncate(limit as usize);
    let next_cursor = tickets.last().filter(|_| more).map(|ticket| ticket.id.clone());
    Ok(Json(TicketsBody { tickets: tickets.into_iter().map(TicketBody::from).collect(), next_cursor }))
}

/// Read a ticket
///
/// With the turns that led to it and everything that happened to it. What was said after the hand-over is in the session.
#[utoipa::path(
    get, path = "/v1/tickets/{ticket_id}", tag = "tickets", security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket", body = TicketDetailBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
    )
)]
pub(super) async fn read(
    State(state): State<AppState>,
    _agent: Agent,
    ApiPath(id): ApiPath,
) -> Result<Json<TicketDetailBody>, ApiError> {
    let id = ticket_id(id)?;
    let ticket = state.0.storage.ticket(&id).await?.ok_or(ApiError::TicketNotFound(id))?;
    let turns = state.0.storage.turns(&ticket.session_id, ticket.from_seq - 1, ticket.to_seq, MAX_LIMIT).await?;
    let events = state.0.storage.ticket_events(&ticket.id).await?;
    Ok(Json(TicketDetailBody {
        ticket: ticket.into(),
        turns: turns.into_iter().map(TurnBody::from).collect(),
        events: events.into_iter().map(EventBody::from).collect(),
    }))
}

/// Take a ticket
///
/// Only a new ticket can be taken; taking one's own again changes nothing.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/take", tag = "tickets", request_body = TakeRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket, taken", body = TicketBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Not new any more", body = ErrorBody),
    )
)]
pub(super) async fn take(
    State(state): State<AppState>,
    Agent(identity): Agent,
    ApiPath(id): ApiPath,
    OptionalJson(request): OptionalJson<TakeRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let (id, actor) = (ticket_id(id)?, actor(identity, request.agent)?);
    let desk = state.0.desk.clone();
    Ok(Json(state.finish(async move { Ok(desk.take(&id, &actor).await?) }).await?.into()))
}

/// Answer the customer
///
/// Only the person who took the ticket may. The customer's page reads the answer from the session.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/reply", tag = "tickets", request_body = ReplyRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket, in progress", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Not taken yet, or resolved", body = ErrorBody),
    )
)]
pub(super) async fn reply(
    State(state): State<AppState>,
    Agent(identity): Agent,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<ReplyRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let (id, actor) = (ticket_id(id)?, actor(identity, request.agent)?);
    let text = state.0.engine.mask(&checked_text("text", request.text)?);
    let desk = state.0.desk.clone();
    Ok(Json(state.finish(async move { Ok(desk.reply(&id, &actor, text).await?) }).await?.into()))
}

/// Resolve a ticket
///
/// Gives the session back to the bot. What was said so far is not judged again.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/resolve", tag = "tickets", request_body = ResolveRequest,
    security(("api_key" = [])), params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket, resolved", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Not taken yet, or resolved already", body = ErrorBody),
    )
)]
pub(super) async fn resolve(
    State(state): State<AppState>,
    Agent(identity): Agent,
    ApiPath(id): ApiPath,
    OptionalJson(request): OptionalJson<ResolveRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let (id, actor) = (ticket_id(id)?, actor(identity, request.agent)?);
    let note = request.note.map(|note| checked_text("note", note)).transpose()?.map(|note| state.0.engine.mask(&note));
    let desk = state.0.desk.clone();
    Ok(Json(state.finish(async move { Ok(desk.resolve(&id, &actor, note).await?) }).await?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::Status;

    #[test]
    fn a_cursor_is_an_id_of_ours() {
        let id = crate::storage::new_id();
        assert_eq!(cursor(Some(id.clone())).unwrap(), Some(id));
        assert_eq!(cursor(None).unwrap(), None);
        assert!(cursor(Some("' OR 1=1".into())).is_err());
    }

    #[test]
    fn a_filter_is_a_status_or_open() {
        assert_eq!(filter(None).unwrap(), TicketFilter::All);
        assert_eq!(filter(Some("open")).unwrap(), TicketFilter::Open);
        assert_eq!(filter(Some("in_progress")).unwrap(), TicketFilter::Status(Status::InProgress));
        assert!(filter(Some("closed")).is_err());
    }

    #[test]
    fn what_is_no_id_is_not_found() {
        assert!(matches!(ticket_id("17".into()), Err(ApiError::TicketNotFound(_))));
    }
}
