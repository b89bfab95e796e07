//! What moves a ticket from one state to another.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::super::AppState;
use super::super::extract::{ApiJson, ApiPath, OptionalJson};
use super::super::scope::Scoped;
use super::shares::sees;
use super::{TicketBody, masked, ticket_id};
use crate::chat::{checked_id, checked_text};
use crate::desk::{Move, Suggestion};
use crate::error::{ApiError, ErrorBody};

/// Who takes a ticket.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct TakeRequest {
    /// Name of the person; the name of the key when left out.
    #[schema(example = "小王")]
    agent: Option<String>,
}

/// A person's answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ReplyRequest {
    /// What the customer should read, 1 to 20,000 characters. The customer and the desk read it as it is for a month; everywhere else, and
    /// from then on, personal data is masked.
    #[schema(example = "您好，我来帮您处理。")]
    text: String,
    /// The suggestion that it was made from, if one was used.
    suggestion: Option<UsedSuggestion>,
    /// The caller's id of the reply: the same id in the same session is stored once, so that it can be sent again when a connection
    /// breaks.
    message_id: Option<String>,
    /// Name of the person; when left out, whoever took the ticket with the same key.
    agent: Option<String>,
}

/// A suggestion that was used.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct UsedSuggestion {
    /// The knowledge entry.
    knowledge_id: String,
    /// Whether the person changed its words.
    edited: bool,
}

/// How a ticket ended.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ResolveRequest {
    /// For colleagues; the customer does not read it.
    note: Option<String>,
    /// Name of the person; when left out, whoever took the ticket with the same key.
    agent: Option<String>,
}

/// Why a ticket is moved.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct MoveRequest {
    /// Why; colleagues read it in the history.
    reason: Option<String>,
    /// Name of the person; the name of the key when left out.
    agent: Option<String>,
}

/// Who gets a ticket.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct AssignRequest {
    /// Name of the person who gets it.
    #[schema(example = "小李")]
    to: String,
    /// Why.
    reason: Option<String>,
    /// Name of the person who gives it; the name of the key when left out.
    agent: Option<String>,
}

/// Which team gets a ticket.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct TransferRequest {
    /// Name of the team.
    #[schema(example = "售后")]
    team: String,
    /// Where the team belongs to an outside organisation, what it sees: `summary`, `conversation` or `everything`; when left out what
    /// it saw before, or the conversation from now on.
    sees: Option<String>,
    /// Why.
    reason: Option<String>,
    /// Name of the person; the name of the key when left out.
    agent: Option<String>,
}

/// Which ticket takes the place of another.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct MergeRequest {
    /// Id of the ticket that goes on.
    into: String,
    /// Why.
    reason: Option<String>,
    /// Name of the person; the name of the key when left out.
    agent: Option<String>,
}

async fn make(
    state: &AppState,
    id: String,
    step: Move,
    scope: Scoped,
    agent: Option<String>,
    reason: Option<String>,
) -> Result<Json<TicketBody>, ApiError> {
    let (id, reason) = (ticket_id(id)?, masked(state, "reason", reason)?);
    let (desk, actor) = scope.desk(state, agent)?;
    let ticket = state.finish(async move { Ok(desk.act(&id, step, &actor, reason, json!({})).await?) }).await?;
    Ok(Json(scope.shown(state, ticket).await?))
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
pub(in super::super) async fn take(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    OptionalJson(request): OptionalJson<TakeRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let id = ticket_id(id)?;
    let (desk, actor) = scope.desk(&state, request.agent)?;
    let ticket = state.finish(async move { Ok(desk.take(&id, &actor).await?) }).await?;
    Ok(Json(scope.shown(&state, ticket).await?))
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
pub(in super::super) async fn reply(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<ReplyRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let id = ticket_id(id)?;
    let (desk, actor) = scope.desk(&state, request.agent)?;
    let said = checked_text("text", request.text)?;
    let text = state.0.engine.mask(&said);
    let said = (said != text).then_some(said);
    let suggestion = match request.suggestion {
        Some(UsedSuggestion { knowledge_id, edited }) => {
            Some(Suggestion { knowledge_id: checked_id("suggestion.knowledge_id", knowledge_id)?, edited })
        }
        None => None,
    };
    let reply_id = request.message_id.map(|id| checked_id("message_id", id)).transpose()?;
    let replied = state.finish(async move { Ok(desk.reply(&id, &actor, text, said, suggestion, reply_id).await?) });
    let ticket = replied.await?;
    Ok(Json(scope.shown(&state, ticket).await?))
}

/// Resolve a ticket
///
/// Gives the session back to the bot. What was said so far is not judged again. The person who has it may, or a supervisor.
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
pub(in super::super) async fn resolve(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    OptionalJson(request): OptionalJson<ResolveRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let (id, note) = (ticket_id(id)?, masked(&state, "note", request.note)?);
    let (desk, actor) = scope.desk(&state, request.agent)?;
    let resolve = async move { Ok(desk.act(&id, Move::Resolve, &actor, None, json!({ "note": note })).await?) };
    let ticket = state.finish(resolve).await?;
    Ok(Json(scope.shown(&state, ticket).await?))
}

/// Give a ticket to a person
///
/// It is offered to them until they take it or answer. Who has it may, or a supervisor.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/assign", tag = "tickets", request_body = AssignRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket, offered", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Done already", body = ErrorBody),
    )
)]
pub(in super::super) async fn assign(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<AssignRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let to = checked_id("to", request.to)?;
    let theirs = state.0.storage.organisation_of_name(&to).await?;
    if !state.0.storage.may_be_given_to(&to).await? {
        return Err(ApiError::field("to", "不是在册的人：既没有这个账号，也不在客服名单里；请检查名字"));
    }
    if let Some(own) = scope.organisation() {
        if theirs.as_deref() != Some(own) {
            return Err(ApiError::field("to", "须为本机构的人"));
        }
    } else if let Some(theirs) = theirs
        && state.0.storage.share(&ticket_id(id.clone())?, &theirs).await?.is_none()
    {
        return Err(ApiError::field("to", "是外部机构的人，看不到这张工单；请先共享，或转交给其团队"));
    }
    make(&state, id, Move::Assign { agent: to }, scope, request.agent, request.reason).await
}

/// Give a ticket to another team
///
/// It goes to that team's queue with its whole history. Who has it may, or a supervisor.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/transfer", tag = "tickets", request_body = TransferRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket, in the other queue", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Done already", body = ErrorBody),
    )
)]
pub(in super::super) async fn transfer(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<TransferRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let (id, team) = (ticket_id(id)?, checked_id("team", request.team)?);
    let outside = state.0.storage.organisation_of_team(&team).await?;
    let sees = request.sees.as_deref().map(sees).transpose()?;
    if sees.is_some() && (outside.is_none() || scope.organisation().is_some()) {
        return Err(ApiError::field("sees", "只在转交给外部机构的团队时可用"));
    }
    if let (Some(own), Some(outside)) = (scope.organisation(), &outside)
        && outside.id != own
    {
        return Err(ApiError::field("team", "不能由外部机构转交给另一个外部机构"));
    }
    let reason = masked(&state, "reason", request.reason)?;
    let (desk, actor) = scope.desk(&state, request.agent)?;
    let ticket = state.finish(async move { Ok(desk.transfer(&id, &team, sees, &actor, reason).await?) }).await?;
    Ok(Json(scope.shown(&state, ticket).await?))
}

/// Put a ticket back into its queue
///
/// Who has it may, or a supervisor.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/return", tag = "tickets", request_body = MoveRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket, nobody's", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Nobody's, or done already", body = ErrorBody),
    )
)]
pub(in super::super) async fn put_back(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    OptionalJson(request): OptionalJson<MoveRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    make(&state, id, Move::Return, scope, request.agent, request.reason).await
}

/// Wait for the customer
///
/// Times do not run until the customer writes again.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/wait", tag = "tickets", request_body = MoveRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket, waiting", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Not taken, waiting or done already", body = ErrorBody),
    )
)]
pub(in super::super) async fn wait(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    OptionalJson(request): OptionalJson<MoveRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    make(&state, id, Move::Wait, scope, request.agent, request.reason).await
}

/// Close a ticket
///
/// A resolved ticket is done for good.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/close", tag = "tickets", request_body = MoveRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket, closed", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Not resolved, or closed already", body = ErrorBody),
    )
)]
pub(in super::super) async fn close(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    OptionalJson(request): OptionalJson<MoveRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    make(&state, id, Move::Close, scope, request.agent, request.reason).await
}

/// Begin a ticket again
///
/// A resolved or closed ticket goes back to its queue, and its session to people.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/reopen", tag = "tickets", request_body = MoveRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket, new again", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Not done, merged, or the session has another open ticket", body = ErrorBody),
    )
)]
pub(in super::super) async fn reopen(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    OptionalJson(request): OptionalJson<MoveRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    make(&state, id, Move::Reopen, scope, request.agent, request.reason).await
}

/// Merge a ticket into another
///
/// Both must be open and of the same customer. The other one goes on; the session of this one is the bot's again.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/merge", tag = "tickets", request_body = MergeRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket that ends")),
    responses(
        (status = 200, description = "The ticket, merged", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Either is done, or they are of different customers", body = ErrorBody),
    )
)]
pub(in super::super) async fn merge(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<MergeRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let (id, into) = (ticket_id(id)?, ticket_id(request.into)?);
    let reason = masked(&state, "reason", request.reason)?;
    let (desk, actor) = scope.desk(&state, request.agent)?;
    let ticket = state.finish(async move { Ok(desk.merge(&id, &into, &actor, reason).await?) }).await?;
    Ok(Json(scope.shown(&state, ticket).await?))
}
