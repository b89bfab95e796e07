//! Tickets that are shared with organisations outside the house, and taken back.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::AppState;
use super::super::extract::{Agent, ApiJson, ApiPath, ApiPaths};
use super::super::organisations::organisation_id;
use super::{TicketBody, actor, ticket_id};
use crate::desk::sharing::{Sees, Share};
use crate::error::{ApiError, ErrorBody};
use crate::storage::rfc3339;

/// With whom a ticket is shared.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ShareRequest {
    /// Id of the organisation.
    organisation: String,
    /// `summary`, `conversation` or `everything`; `conversation` when left out.
    sees: Option<String>,
    /// Name of the person; the name of the key when left out.
    agent: Option<String>,
}

/// An organisation that sees a ticket.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ShareBody {
    /// Id of the organisation.
    organisation: String,
    /// Its name.
    name: String,
    /// `summary` (category, priority, reason, its own notes), `conversation` (also what is said from then on) or `everything`.
    sees: &'static str,
    /// Since when.
    since: String,
}

impl From<(Share, String)> for ShareBody {
    fn from((share, name): (Share, String)) -> Self {
        Self { organisation: share.organisation, name, sees: share.sees.as_str(), since: rfc3339(share.created_at) }
    }
}

/// How much an organisation is to see.
pub(super) fn sees(text: &str) -> Result<Sees, ApiError> {
    text.parse().map_err(|()| ApiError::field("sees", "取值无效，可用：summary、conversation、everything"))
}

/// Share a ticket with an organisation
///
/// Who has it may, or a supervisor. It stays in its queue; a transfer to the organisation's team shares it too. Sharing it again
/// changes what is seen.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/shares", tag = "tickets", request_body = ShareRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket, or no such organisation", body = ErrorBody),
        (status = 422, description = "A field is wrong", body = ErrorBody),
    )
)]
pub(in super::super) async fn share(
    State(state): State<AppState>,
    Agent(identity): Agent,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<ShareRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let (id, actor) = (ticket_id(id)?, actor(identity, request.agent)?);
    let organisation = organisation_id(request.organisation)?;
    let sees = request.sees.as_deref().map_or(Ok(Sees::Conversation), sees)?;
    let desk = state.0.desk.clone();
    let ticket = state.finish(async move { Ok(desk.share(&id, &organisation, sees, &actor).await?) }).await?;
    Ok(Json(ticket.into()))
}

/// Take a ticket back
///
/// From then on it does not exist for the organisation. When it is in their queue or one of them has it, it goes back to everybody's.
#[utoipa::path(
    delete, path = "/v1/tickets/{ticket_id}/shares/{organisation_id}", tag = "tickets", security(("api_key" = [])),
    params(
        ("ticket_id" = String, Path, description = "The ticket"),
        ("organisation_id" = String, Path, description = "The organisation"),
    ),
    responses(
        (status = 200, description = "The ticket", body = TicketBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket, or not shared with that organisation", body = ErrorBody),
    )
)]
pub(in super::super) async fn take_back(
    State(state): State<AppState>,
    Agent(identity): Agent,
    ApiPaths(id, organisation): ApiPaths,
) -> Result<Json<TicketBody>, ApiError> {
    let (id, actor) = (ticket_id(id)?, actor(identity, None)?);
    let organisation = organisation_id(organisation)?;
    let desk = state.0.desk.clone();
    let ticket = state.finish(async move { Ok(desk.take_back_share(&id, &organisation, &actor).await?) }).await?;
    Ok(Json(ticket.into()))
}
