//! Questions that the knowledge did not answer.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::AppState;
use super::super::extract::{Agent, ApiQuery, cursor, number};
use super::MAX_LIMIT;
use crate::error::{ApiError, ErrorBody};
use crate::storage::{Gap, rfc3339};

/// Which page of gaps to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct GapsQuery {
    /// Most gaps to return, 1 to 200; 50 when left out.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// One page of gaps.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct GapsBody {
    /// Newest first.
    gaps: Vec<GapBody>,
    /// What to ask with for the next page; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A question that the knowledge did not answer.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct GapBody {
    /// The session.
    session_id: String,
    /// The question; personal data is masked.
    text: String,
    /// Its likeliest intent.
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    /// `no_answer`, or `escalate` where it was the second unsure message in a row.
    #[schema(example = "no_answer")]
    decision: String,
    /// When it was asked.
    #[schema(example = "2026-01-01T08:00:00Z")]
    created_at: String,
}

impl From<Gap> for GapBody {
    fn from(gap: Gap) -> Self {
        let Gap { id: _, session_id, text, intent, decision, created_at } = gap;
        Self { session_id, text, intent, decision, created_at: rfc3339(created_at) }
    }
}

/// List gaps in the knowledge
///
/// Questions to which no answer was known, newest first: what to write next.
#[utoipa::path(
    get, path = "/v1/knowledge/gaps", tag = "knowledge", params(GapsQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "One page, newest first", body = GapsBody),
        (status = 403, description = "Not an agent's key", body = ErrorBody),
        (status = 422, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(in super::super) async fn gaps(
    State(state): State<AppState>,
    _agent: Agent,
    ApiQuery(query): ApiQuery<GapsQuery>,
) -> Result<Json<GapsBody>, ApiError> {
    let limit = number("limit", query.limit.as_deref(), 50, 1, MAX_LIMIT)?;
    let before = cursor(query.cursor)?;
    // One more than asked for tells whether there is a next page.
    let mut gaps = state.0.storage.gaps(before.as_deref(), limit + 1).await?;
    let more = gaps.len() as i64 > limit;
    gaps.truncate(limit as usize);
    let next_cursor = gaps.last().filter(|_| more).map(|gap| gap.id.clone());
    Ok(Json(GapsBody { gaps: gaps.into_iter().map(GapBody::from).collect(), next_cursor }))
}
