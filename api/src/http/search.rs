//! `POST /v1/search`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{ApiJson, Caller};
use crate::chat::checked_text;
use crate::error::{ApiError, ErrorBody};

const MAX_LIMIT: u32 = 50;

/// A text to be looked up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchRequest {
    /// 1 to 20,000 characters.
    #[schema(example = "怎么退货")]
    text: String,
    /// Most entries to return, 1 to 50.
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 50, default = 5)]
    limit: u32,
}

fn default_limit() -> u32 {
    5
}

/// Knowledge that came near.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SearchResponse {
    /// The model that read the text.
    model: String,
    /// Likeliest first, each entry once.
    matches: Vec<SearchMatch>,
}

/// One knowledge entry that came near.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SearchMatch {
    /// The entry.
    knowledge_id: String,
    /// Its standard question.
    question: String,
    /// The wording that came nearest.
    matched: String,
    /// Its answer.
    answer: String,
    /// The intent that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    /// Probability that its answer is right, in `[0, 1]`.
    probability: f32,
    /// Cosine similarity, in `[-1, 1]`.
    score: f32,
}

/// Look knowledge up
///
/// The entries that most likely answer a text, with their answers. Nothing is decided and nothing is stored.
#[utoipa::path(
    post, path = "/v1/search", tag = "chat", request_body = SearchRequest, security(("api_key" = [])),
    responses(
        (status = 200, description = "What came near", body = SearchResponse),
        (status = 422, description = "A field is missing or wrong", body = ErrorBody),
        (status = 429, description = "Too much waits; see Retry-After", body = ErrorBody),
    )
)]
pub(super) async fn search(
    State(state): State<AppState>,
    _caller: Caller,
    ApiJson(request): ApiJson<SearchRequest>,
) -> Result<Json<SearchResponse>, ApiError> {
    let text = checked_text("text", request.text)?;
    if !(1..=MAX_LIMIT).contains(&request.limit) {
        return Err(ApiError::field("limit", format!("须为 1 到 {MAX_LIMIT} 的整数")));
    }
    let _permit = state.accept()?;
    let model = state.0.engine.info().model_id;
    let matches = state
        .0
        .engine
        .search(&text, request.limit as usize)
        .await?
        .into_iter()
        .map(|hit| SearchMatch {
            knowledge_id: hit.knowledge_id,
            question: hit.question,
            matched: hit.matched,
            answer: hit.answer,
            intent: hit.intent,
            probability: hit.probability,
            score: hit.score,
        })
        .collect();
    Ok(Json(SearchResponse { model, matches }))
}
