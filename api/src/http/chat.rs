//! `POST /v1/chat`.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::extract::{ApiJson, Caller};
use crate::chat::{Answer, ChatResponse, Incoming, Message};
use crate::error::{ApiError, ErrorBody};

/// Answer one message
///
/// The answer is stored before it is sent. The same `message_id` in the same session gets the same answer, once; the header
/// `idempotent-replayed: true` marks a repeated one. While a person owns the session the decision is `silent`, and their
/// answers are read with `GET /v1/sessions/{session_id}`.
#[utoipa::path(
    post, path = "/v1/chat", tag = "chat", request_body = Incoming, security(("api_key" = [])),
    responses(
        (status = 200, description = "The answer", body = ChatResponse),
        (status = 400, description = "No JSON", body = ErrorBody),
        (status = 401, description = "No key, or an unknown one", body = ErrorBody),
        (status = 413, description = "Larger than 256 KiB", body = ErrorBody),
        (status = 422, description = "A field is missing or wrong", body = ErrorBody),
        (status = 429, description = "Too much waits; see Retry-After", body = ErrorBody),
        (status = 503, description = "Database or model unavailable", body = ErrorBody),
        (status = 504, description = "Took too long; try again with the same message_id", body = ErrorBody),
    )
)]
pub(super) async fn chat(
    State(state): State<AppState>,
    _caller: Caller,
    ApiJson(incoming): ApiJson<Incoming>,
) -> Result<Response, ApiError> {
    let message = Message::check(incoming)?;
    let chat = state.0.chat.clone();
    let answer = state.finish(async move { chat.handle(message).await }).await?;
    Ok(answered(answer))
}

/// An answer as it is sent.
pub(super) fn answered(answer: Answer) -> Response {
    let mut response =
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], answer.json).into_response();
    if answer.replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    response
}
