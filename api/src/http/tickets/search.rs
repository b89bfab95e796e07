//! Search over tickets.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::AppState;
use super::super::extract::{ApiQuery, cursor, number};
use super::super::scope::Scoped;
use super::TicketBody;
use crate::chat::without_nul;
use crate::error::{ApiError, ErrorBody};
use crate::storage::{Found, Place, SEARCHED};

/// Most tickets on one page.
const MAX_FOUND: i64 = 50;

/// What to look for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct SearchQuery {
    /// The words, 2 to 64 characters, found as they are: no character means anything special. Capital letters and full-width ones
    /// count as small and narrow ones.
    #[param(example = "退款")]
    q: String,
    /// Most tickets to return, 1 to 50; 20 when left out.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// One page of what was found.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct FoundPageBody {
    /// Newest first. A page may be short although there is a next one.
    found: Vec<FoundBody>,
    /// What to ask with for the next page; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A ticket that was found.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct FoundBody {
    /// The ticket.
    ticket: TicketBody,
    /// `turn`, `note` (what people noted in its history) or `field` (its category, tags and fields).
    #[schema(example = "turn")]
    place: &'static str,
    /// Number of the turn in its session, or of the event in its history.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    /// Of a turn: `user`, `bot` or `agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    /// What stands there; personal data is masked.
    #[schema(example = "…想问一下退款什么时候到账…")]
    snippet: String,
}

impl From<Found> for FoundBody {
    fn from(found: Found) -> Self {
        let (place, seq, role) = match found.place {
            Place::Turn { seq, role } => ("turn", Some(seq), Some(role)),
            Place::Note { seq } => ("note", Some(seq), None),
            Place::Field => ("field", None, None),
        };
        Self { ticket: found.ticket.into(), place, seq, role, snippet: found.snippet }
    }
}

/// Search tickets
///
/// In what was said before and while people had them, in notes, and in category, tags and fields.
#[utoipa::path(
    get, path = "/v1/tickets/search", tag = "tickets", params(SearchQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "One page, newest first", body = FoundPageBody),
        (status = 403, description = "Not an agent's key", body = ErrorBody),
        (status = 422, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(in super::super) async fn search(
    State(state): State<AppState>,
    scope: Scoped,
    ApiQuery(query): ApiQuery<SearchQuery>,
) -> Result<Json<FoundPageBody>, ApiError> {
    let words = without_nul(query.q);
    let words = words.trim();
    let length = words.chars().count();
    if !SEARCHED.contains(&length) {
        let (least, most) = (SEARCHED.start(), SEARCHED.end());
        return Err(ApiError::field("q", format!("须为 {least} 到 {most} 个字符，收到 {length} 个")));
    }
    let limit = number("limit", query.limit.as_deref(), 20, 1, MAX_FOUND)?;
    let before = cursor(query.cursor)?;
    let page =
        state.0.storage.search_seen_tickets(words, scope.organisation(), before.as_deref(), limit as usize).await?;
    Ok(Json(FoundPageBody { found: page.found.into_iter().map(FoundBody::from).collect(), next_cursor: page.next }))
}
