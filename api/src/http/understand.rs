//! `POST /v1/understand`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{ApiJson, Caller};
use crate::chat::{IntentScore, Sentiment, checked_text};
use crate::error::{ApiError, ErrorBody};

const MAX_TEXTS: usize = 64;

/// Texts to be read.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UnderstandRequest {
    /// 1 to 64 texts of 1 to 20,000 characters.
    #[schema(example = json!(["什么时候发货？", "太慢了，我要投诉"]))]
    texts: Vec<String>,
}

/// What was understood, in the order of the texts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnderstandResponse {
    /// The model that read them.
    model: String,
    /// One per text.
    results: Vec<UnderstandResult>,
}

/// What was understood of one text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnderstandResult {
    /// All intents, likeliest first.
    intents: Vec<IntentScore>,
    /// How the writer feels.
    sentiment: Sentiment,
    /// The embedding, of length 1.
    embedding: Vec<f32>,
    /// Tokens that the model read.
    tokens: usize,
    /// Whether the text was too long and its middle was left out.
    truncated: bool,
}

/// Read texts without answering
///
/// Intent, sentiment and embedding of each text, from one batched pass. Nothing is stored.
#[utoipa::path(
    post, path = "/v1/understand", tag = "chat", request_body = UnderstandRequest, security(("api_key" = [])),
    responses(
        (status = 200, description = "What was understood", body = UnderstandResponse),
        (status = 422, description = "A field is missing or wrong", body = ErrorBody),
        (status = 429, description = "Too much waits; see Retry-After", body = ErrorBody),
    )
)]
pub(super) async fn understand(
    State(state): State<AppState>,
    _caller: Caller,
    ApiJson(request): ApiJson<UnderstandRequest>,
) -> Result<Json<UnderstandResponse>, ApiError> {
    if !(1..=MAX_TEXTS).contains(&request.texts.len()) {
        return Err(ApiError::field("texts", format!("须有 1 到 {MAX_TEXTS} 条，收到 {} 条", request.texts.len())));
    }
    let texts = request
        .texts
        .into_iter()
        .enumerate()
        .map(|(index, text)| checked_text(&format!("texts[{index}]"), text))
        .collect::<Result<Vec<_>, _>>()?;
    let _permit = state.accept()?;
    let model = state.0.engine.info().model_id;
    let results = state
        .0
        .engine
        .understand(texts)
        .await?
        .into_iter()
        .map(|understood| UnderstandResult {
            intents: understood
                .intents
                .into_iter()
                .map(|intent| IntentScore { label: intent.label, probability: intent.probability })
                .collect(),
            sentiment: understood.sentiment.into(),
            embedding: understood.embedding,
            tokens: understood.tokens,
            truncated: understood.truncated,
        })
        .collect();
    Ok(Json(UnderstandResponse { model, results }))
}
