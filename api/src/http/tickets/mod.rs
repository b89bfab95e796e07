//! `/v1/tickets`: list and read here; [`open`], [`moves`] and [`remarks`] change them, [`assist`] helps to answer, [`search`] finds
//! them.

pub(super) mod assist;
pub(super) mod moves;
pub(super) mod open;
pub(super) mod remarks;
pub(super) mod search;
pub(super) mod shares;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::attachments::with_files;
use super::extract::{ApiPath, ApiQuery, cursor, number};
use super::scope::Scoped;
use super::sessions::TurnBody;
use crate::auth::{Identity, IdentityKind, Role};
use crate::chat::{IntentScore, Sentiment, checked_id, checked_text};
use crate::desk::sharing::View;
use crate::desk::{Action, Actor, Priority, Rating, Status, Ticket, allowed};
use crate::error::{ApiError, ErrorBody};
use crate::storage::{TicketEvent, TicketFilter, rfc3339};

const MAX_LIMIT: i64 = 200;

/// Which tickets to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TicketsQuery {
    /// `new`, `assigned`, `in_progress`, `waiting_customer`, `resolved`, `closed` or `merged`; several with commas between;
    /// `open` for the first four. All when left out.
    status: Option<String>,
    /// `low`, `medium`, `high` or `urgent`.
    priority: Option<String>,
    /// What they are about.
    category: Option<String>,
    /// Whose queue they are in.
    team: Option<String>,
    /// Who has them.
    assignee: Option<String>,
    /// The caller's id of the customer.
    user_id: Option<String>,
    /// The session.
    session_id: Option<String>,
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
pub(crate) struct TicketBody {
    /// Its id.
    ticket_id: String,
    /// Its session; not told to outside organisations.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// `escalation`, `form` or `agent`: who opened it.
    source: String,
    /// `new`, `assigned`, `in_progress`, `waiting_customer`, `resolved`, `closed` or `merged`.
    #[schema(example = "new")]
    status: String,
    /// What the state allows now, as in the paths; who may do it is another question.
    actions: Vec<&'static str>,
    /// Why the session was handed over.
    #[schema(example = "person_requested")]
    reason: String,
    /// The word or score behind the reason.
    detail: String,
    /// `low`, `medium`, `high` or `urgent`.
    #[schema(example = "medium")]
    priority: String,
    /// What it is about; begins as the intent.
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    /// The language that the customer speaks, as two letters of ISO 639-1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "zh")]
    language: Option<String>,
    /// The team whose queue it is in; missing: everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<String>,
    /// Words that people put on it.
    tags: Vec<String>,
    /// What people noted in fields of their own.
    #[schema(value_type = Object)]
    fields: serde_json::Map<String, serde_json::Value>,
    /// The ticket that took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    merged_into: Option<String>,
    /// Likeliest intent of the message that was handed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<IntentScore>,
    /// Sentiment of that message.
    #[serde(skip_serializing_if = "Option::is_none")]
    sentiment: Option<Sentiment>,
    /// The model that judged.
    model: String,
    /// The person who has it, or is offered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    assignee: Option<String>,
    /// Whether the assignee has taken it; otherwise it is only offered.
    accepted: bool,
    /// How often it began again.
    reopened: i64,
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
    /// When it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
}

impl From<Ticket> for TicketBody {
    fn from(ticket: Ticket) -> Self {
        Self {
            ticket_id: ticket.id,
            session_id: Some(ticket.session_id).filter(|id| !id.is_empty()),
            source: ticket.source,
            status: ticket.status.as_str().to_owned(),
            actions: possible(ticket.status),
            reason: ticket.reason,
            detail: ticket.detail,
            priority: ticket.priority.as_str().to_owned(),
            category: ticket.category,
            language: ticket.language,
            team: ticket.team,
            tags: ticket.tags,
            fields: ticket.fields,
            merged_into: ticket.merged_into,
            intent: ticket.intent.map(|(label, probability)| IntentScore { label, probability: probability as f32 }),
            sentiment: ticket.sentiment.map(Sentiment::from),
            model: ticket.model,
            assignee: ticket.assignee,
            accepted: ticket.accepted,
            reopened: ticket.reopened,
            created_at: rfc3339(ticket.created_at),
            updated_at: rfc3339(ticket.updated_at),
            taken_at: ticket.taken_at.map(rfc3339),
            first_reply_at: ticket.first_reply_at.map(rfc3339),
            resolved_at: ticket.resolved_at.map(rfc3339),
            closed_at: ticket.closed_at.map(rfc3339),
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
    /// The tickets that it is linked with.
    links: Vec<String>,
    /// The outside organisations that see it; they are not told of each other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shares: Vec<shares::ShareBody>,
    /// How the customer judged the help.
    #[serde(skip_serializing_if = "Option::is_none")]
    rating: Option<RatingBody>,
}

/// How the customer judged the help.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RatingBody {
    /// 1 to 5.
    score: i64,
    /// Words that were chosen.
    reasons: Vec<String>,
    /// Free text; personal data is masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

impl From<Rating> for RatingBody {
    fn from(rating: Rating) -> Self {
        Self { score: rating.score, reasons: rating.reasons, comment: rating.comment }
    }
}

/// Something that happened to a ticket.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventBody {
    /// Its number in the ticket, from 1.
    seq: i64,
    /// `opened`, `escalated_again`, `customer_message`, `taken`, `accepted`, `assigned`, `returned`, `transferred`,
    /// `agent_reply`, `waiting`, `resolved`, `closed`, `reopened`, `merged`, `merged_here`, `note`, `amended`, `linked`, `rated`,
    /// `service_level`, `external_status`, `survey_sent`, `intervention`, `alert`, `alert_acknowledged`, `coupon`, `shared` or
    /// `unshared`.
    kind: String,
    /// `bot`, `customer`, `system`, or the name of a person.
    actor: String,
    /// Why, if they said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What it changed: the fields as they were.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    before: serde_json::Map<String, serde_json::Value>,
    /// And as they are from then on.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    #[schema(value_type = Object)]
    after: serde_json::Map<String, serde_json::Value>,
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
            reason: event.reason,
            before: event.before,
            after: event.after,
            data: event.data,
            at: rfc3339(event.at),
        }
    }
}

/// What may be asked for in a state.
fn possible(status: Status) -> Vec<&'static str> {
    allowed(status).into_iter().filter(|action| action.is_asked_for()).map(Action::as_str).collect()
}

/// The states that a list is asked for.
fn statuses(text: Option<&str>) -> Result<Vec<Status>, ApiError> {
    let wrong = |()| {
        let names: Vec<&str> = Status::ALL.into_iter().map(Status::as_str).collect();
        ApiError::field("status", format!("取值无效，可用：{}、open", names.join("、")))
    };
    match text {
        None => Ok(Vec::new()),
        Some("open") => Ok(TicketFilter::open().statuses),
        Some(text) => text.split(',').map(|name| name.trim().parse()).collect::<Result<_, ()>>().map_err(wrong),
    }
}

fn priority(text: &str) -> Result<Priority, ApiError> {
    text.parse().map_err(|()| ApiError::field("priority", "取值无效，可用：low、medium、high、urgent"))
}

fn filter(query: &TicketsQuery) -> Result<TicketFilter, ApiError> {
    let name = |field: &str, text: &Option<String>| text.clone().map(|text| checked_id(field, text)).transpose();
    Ok(TicketFilter {
        statuses: statuses(query.status.as_deref())?,
        priority: query.priority.as_deref().map(priority).transpose()?,
        category: name("category", &query.category)?,
        team: name("team", &query.team)?,
        assignee: name("assignee", &query.assignee)?,
        user_id: name("user_id", &query.user_id)?,
        session_id: name("session_id", &query.session_id)?,
        organisation: None,
    })
}

/// A remark of 1 to [`crate::chat::MAX_TEXT`] characters, masked.
pub(super) fn masked(state: &AppState, field: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    text.map(|text| Ok(state.0.engine.mask(&checked_text(field, text)?))).transpose()
}

/// An id of ours from the path. Whatever is no UUID is surely no ticket.
pub(super) fn ticket_id(text: String) -> Result<String, ApiError> {
    match uuid::Uuid::try_parse(&text) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(ApiError::TicketNotFound(text.chars().filter(|letter| !letter.is_control()).take(64).collect())),
    }
}

pub(super) fn actor(identity: Identity, name: Option<String>) -> Result<Actor, ApiError> {
    let name = name.map(|name| checked_id("agent", name.trim().to_owned())).transpose()?;
    // Who is logged in speaks for themselves. A key may speak for somebody, and then do no more than they may.
    let name = name.filter(|_| identity.kind != IdentityKind::User);
    let manages = name.is_none() && identity.role >= Role::Supervisor;
    Ok(Actor { name, key_name: identity.name, key_id: identity.id, manages })
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
    scope: Scoped,
    ApiQuery(query): ApiQuery<TicketsQuery>,
) -> Result<Json<TicketsBody>, ApiError> {
    let filter = scope.limit(filter(&query)?)?;
    let limit = number("limit", query.limit.as_deref(), 50, 1, MAX_LIMIT)?;
    let before = cursor(query.cursor)?;
    // One more than asked for tells whether there is a next page.
    let mut tickets = state.0.storage.tickets(&filter, before.as_deref(), limit + 1).await?;
    let more = tickets.len() as i64 > limit;
    tickets.truncate(limit as usize);
    let next_cursor = tickets.last().filter(|_| more).map(|ticket| ticket.id.clone());
    let mut shown = Vec::with_capacity(tickets.len());
    for ticket in tickets {
        // One that is taken back this very moment is left out.
        if let Some(view) = scope.view(&state, &ticket.id).await? {
            shown.push(view.ticket(ticket).into());
        }
    }
    Ok(Json(TicketsBody { tickets: shown, next_cursor }))
}

/// Read a ticket
///
/// With the turns that led to it and everything that happened to it. What was said after the hand-over is in the session. An outside
/// organisation is told as much as it may see, with what was said since.
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
    scope: Scoped,
    ApiPath(id): ApiPath,
) -> Result<Json<TicketDetailBody>, ApiError> {
    let (ticket, view) = scope.ticket(&state, id).await?;
    let storage = &state.0.storage;
    let (session, before) = (&ticket.session_id, ticket.from_seq - 1);
    let mut turns = match &view {
        View::House => storage.turns(session, before, ticket.to_seq, MAX_LIMIT).await?,
        View::Shared(_) => storage.last_turns(session, before, MAX_LIMIT).await?,
    };
    turns.retain(|turn| view.shows_turn(&ticket, turn.seq, turn.created_at));
    if let View::Shared(_) = view {
        turns.iter_mut().for_each(|turn| turn.said = None);
    }
    let turns = with_files(&state, &ticket.session_id, turns).await?;
    let events = storage.ticket_events(&ticket.id).await?.into_iter().filter_map(|event| view.event(event));
    let mut links = Vec::new();
    for id in storage.linked_tickets(&ticket.id).await? {
        if scope.view(&state, &id).await?.is_some() {
            links.push(id);
        }
    }
    let rating = storage.rating(&ticket.id).await?.filter(|_| view.is_whole());
    let shares = match &view {
        View::House => storage.shares_of_ticket(&ticket.id).await?,
        View::Shared(_) => Vec::new(),
    };
    Ok(Json(TicketDetailBody {
        events: events.map(EventBody::from).collect(),
        ticket: view.ticket(ticket).into(),
        turns,
        links,
        shares: shares.into_iter().map(shares::ShareBody::from).collect(),
        rating: rating.map(RatingBody::from),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_an_id_of_ours() {
        let id = crate::storage::new_id();
        assert_eq!(cursor(Some(id.clone())).unwrap(), Some(id));
        assert_eq!(cursor(None).unwrap(), None);
        assert!(cursor(Some("' OR 1=1".into())).is_err());
    }

    #[test]
    fn a_filter_names_states() {
        assert_eq!(statuses(None).unwrap(), []);
        assert_eq!(statuses(Some("open")).unwrap().len(), 4);
        assert_eq!(statuses(Some("in_progress, closed")).unwrap(), [Status::InProgress, Status::Closed]);
        assert!(statuses(Some("done")).is_err());
        assert!(statuses(Some("")).is_err());
    }

    #[test]
    fn what_is_no_id_is_not_found() {
        assert!(matches!(ticket_id("17".into()), Err(ApiError::TicketNotFound(_))));
    }
}
