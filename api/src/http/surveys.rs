//! The survey page at `/survey/{token}`, files of our own inside the program, and what it sends. The signature in the link is the
//! right to answer; no key is asked for.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{ApiJson, ApiPath};
use super::page::file;
use super::tickets::masked;
use super::tickets::remarks::words;
use crate::desk::Rating;
use crate::error::{ApiError, ErrorBody};
use crate::storage::now;

const HTML: &str = "text/html; charset=utf-8";

/// An answer to a survey.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SurveyAnswer {
    /// How the help was, 1 (bad) to 5 (good); or how likely the customer recommends us, 0 to 10.
    score: i64,
    /// Words that were chosen, at most 10.
    #[serde(default)]
    reasons: Vec<String>,
    /// Free text; stored with personal data masked.
    comment: Option<String>,
}

/// What is kept of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SurveyKept {
    /// `csat` or `nps`.
    #[schema(example = "csat")]
    kind: &'static str,
    /// The score.
    score: i64,
}

pub(super) fn routes() -> Router<AppState> {
    let css = async || file("text/css; charset=utf-8", include_str!("../../page/survey.css"));
    let script = async || file("text/javascript; charset=utf-8", include_str!("../../page/survey.js"));
    Router::new()
        .route("/survey/{token}", get(page))
        .route("/page/survey.css", get(css))
        .route("/page/survey.js", get(script))
}

/// The form of a survey that can be answered; else a sentence, with the status of the error.
async fn page(State(state): State<AppState>, ApiPath(token): ApiPath) -> Response {
    match state.0.surveys.open(&token, now()).await {
        Ok(survey) => {
            let form = include_str!("../../page/survey-form.html").replace("{kind}", survey.kind.as_str());
            file(HTML, whole(&form))
        }
        Err(error) => {
            let error = ApiError::from(error);
            let (message, hint) = error.sentences();
            let status = error.code_and_status().1;
            // A person reads the page, and the log the same as of any other request.
            let extensions = error.into_response().extensions().clone();
            let mut page = note(status, &message, &hint);
            *page.extensions_mut() = extensions;
            page
        }
    }
}

/// A page with a sentence of ours.
fn note(status: StatusCode, message: &str, hint: &str) -> Response {
    let text = include_str!("../../page/survey-note.html").replace("{sentence}", message).replace("{hint}", hint);
    (status, file(HTML, whole(&text))).into_response()
}

/// What every page of a survey has, around its own.
fn whole(content: &str) -> String {
    include_str!("../../page/survey.html").replace("{content}", content)
}

/// Answer a survey
///
/// For the survey's page, once; the link is the right to do so. An answer of 1 to 5 is a rating of the ticket.
#[utoipa::path(
    post, path = "/v1/surveys/{token}", tag = "chat", request_body = SurveyAnswer,
    params(("token" = String, Path, description = "The last part of the link")),
    responses(
        (status = 200, description = "What is kept", body = SurveyKept),
        (status = 404, description = "The link is none of ours, or the survey does not exist any more", body = ErrorBody),
        (status = 409, description = "Answered before, or the ticket has begun again", body = ErrorBody),
        (status = 410, description = "Expired", body = ErrorBody),
        (status = 422, description = "A field is wrong", body = ErrorBody),
    )
)]
pub(super) async fn answer(
    State(state): State<AppState>,
    ApiPath(token): ApiPath,
    ApiJson(request): ApiJson<SurveyAnswer>,
) -> Result<Json<SurveyKept>, ApiError> {
    let survey = state.0.surveys.open(&token, now()).await?;
    let scores = survey.kind.scores();
    if !scores.contains(&request.score) {
        return Err(ApiError::field("score", format!("须为 {} 到 {} 的整数", scores.start(), scores.end())));
    }
    let comment = request.comment.filter(|comment| !comment.trim().is_empty());
    let rating = Rating {
        score: request.score,
        reasons: words("reasons", request.reasons, 10)?,
        comment: masked(&state, "comment", comment)?,
    };
    let kept = SurveyKept { kind: survey.kind.as_str(), score: rating.score };
    let working = state.clone();
    state.finish(async move { Ok(working.0.surveys.answer(&survey, &rating, now()).await?) }).await?;
    Ok(Json(kept))
}
