//! What is kept with a ticket without moving it: notes, amendments, links, the customer's rating; and what was put right.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::AppState;
use super::super::extract::{ApiJson, ApiPath, Caller};
use super::super::scope::Scoped;
use super::{RatingBody, TicketBody, masked, priority, ticket_id};
use crate::chat::{checked_id, checked_text, without_nul};
use crate::desk::language::primary;
use crate::desk::sharing::{BOTH, Sees};
use crate::desk::{Amendment, Rating};
use crate::error::{ApiError, ErrorBody};

/// Most words on a ticket, and most fields.
const MAX_TAGS: usize = 20;
/// Largest fields of a ticket, in bytes of JSON.
const MAX_FIELDS: usize = 8 * 1024;

/// A remark for colleagues.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct NoteRequest {
    /// The remark, 1 to 20,000 characters; the customer does not see it. Stored with personal data masked.
    text: String,
    /// `own`, or `both` when an outside organisation with which the ticket is shared may read it too, or the house what it notes; `own`
    /// when left out.
    #[serde(rename = "for")]
    whom: Option<String>,
    /// Name of the person; the name of the key when left out.
    agent: Option<String>,
}

/// What is changed about a ticket; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct AmendRequest {
    /// `low`, `medium`, `high` or `urgent`.
    priority: Option<String>,
    /// What it is about: an intent.
    category: Option<String>,
    /// The language that the customer speaks, such as `en`: tickets are offered to those who speak it.
    language: Option<String>,
    /// `negative`, `neutral` or `positive`: how the customer really felt.
    sentiment: Option<String>,
    /// All words on it, at most 20.
    tags: Option<Vec<String>>,
    /// Fields to set, texts, numbers, yes or no; null removes one.
    #[serde(default)]
    #[schema(value_type = Object)]
    fields: serde_json::Map<String, serde_json::Value>,
    /// Why.
    reason: Option<String>,
    /// Name of the person; the name of the key when left out.
    agent: Option<String>,
}

/// Which ticket belongs to another.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct LinkRequest {
    /// Id of the other ticket.
    ticket_id: String,
    /// Name of the person; the name of the key when left out.
    agent: Option<String>,
}

/// How the customer judges the help.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RateRequest {
    /// 1 (bad) to 5 (good).
    score: i64,
    /// Words that were chosen, at most 10.
    #[serde(default)]
    reasons: Vec<String>,
    /// Free text; stored with personal data masked.
    comment: Option<String>,
}

/// What people put right, one example a line.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct CorrectionsBody {
    /// Oldest first.
    corrections: Vec<CorrectionBody>,
}

/// What a person put right of what the model said.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct CorrectionBody {
    /// The ticket.
    ticket_id: String,
    /// Its session; not told to outside organisations.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// The turn that was judged.
    seq: i64,
    /// Its text; personal data is masked.
    text: String,
    /// `intent`, `sentiment` or `priority`.
    field: String,
    /// What the model, or somebody before, said.
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<String>,
    /// What it is.
    is_now: String,
    /// The model that judged.
    model: String,
    /// Who put it right.
    author: String,
}

/// Add a note
///
/// For colleagues; the customer does not see it.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/notes", tag = "tickets", request_body = NoteRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket", body = TicketBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
    )
)]
pub(in super::super) async fn note(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<NoteRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let id = ticket_id(id)?;
    let text = state.0.engine.mask(&checked_text("text", request.text)?);
    let for_both = match request.whom.as_deref() {
        None | Some("own") => false,
        Some(BOTH) => true,
        Some(_) => return Err(ApiError::field("for", "取值无效，可用：own、both")),
    };
    let (desk, actor) = scope.desk(&state, request.agent)?;
    let note = async move {
        Ok(if for_both { desk.note_for_both(&id, &actor, text).await? } else { desk.note(&id, &actor, text).await? })
    };
    let ticket = state.finish(note).await?;
    Ok(Json(scope.shown(&state, ticket).await?))
}

/// Amend a ticket
///
/// What is put right of intent, sentiment or priority is kept as an example to train on.
#[utoipa::path(
    patch, path = "/v1/tickets/{ticket_id}", tag = "tickets", request_body = AmendRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket", body = TicketBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 422, description = "A field is wrong", body = ErrorBody),
    )
)]
pub(in super::super) async fn amend(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<AmendRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let (ticket, view) = scope.ticket(&state, id).await?;
    if !view.is_whole() && (request.tags.is_some() || !request.fields.is_empty()) {
        return Err(ApiError::field("fields", "和 tags 只有共享了全部内容的机构可以修改"));
    }
    let (desk, actor) = scope.desk(&state, request.agent)?;
    let reason = masked(&state, "reason", request.reason)?;
    let sentiment = match request.sentiment.as_deref() {
        None => None,
        Some("negative") => Some("negative"),
        Some("neutral") => Some("neutral"),
        Some("positive") => Some("positive"),
        Some(_) => return Err(ApiError::field("sentiment", "取值无效，可用：negative、neutral、positive")),
    };
    let tags = request.tags.map(|tags| words("tags", tags, MAX_TAGS)).transpose()?;
    let fields =
        request.fields.into_iter().map(|(name, value)| field(&state, name, value)).collect::<Result<_, _>>()?;
    let amendment = Amendment {
        priority: request.priority.as_deref().map(priority).transpose()?,
        category: request.category.map(|category| checked_id("category", category)).transpose()?,
        language: request.language.as_deref().map(checked_language).transpose()?,
        sentiment,
        tags,
        fields,
    };
    if serde_json::Value::Object(amendment.fields.clone()).to_string().len() > MAX_FIELDS {
        return Err(ApiError::field("fields", format!("最多 {MAX_FIELDS} 字节")));
    }
    let amend = async move { Ok(desk.amend(&ticket.id, &actor, amendment, reason).await?) };
    let ticket = state.finish(amend).await?;
    Ok(Json(scope.shown(&state, ticket).await?))
}

fn checked_language(tag: &str) -> Result<String, ApiError> {
    primary(tag).ok_or_else(|| ApiError::field("language", "应是语言代码，例如 zh、en"))
}

/// Link two tickets
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/links", tag = "tickets", request_body = LinkRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "The ticket", body = TicketBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "It is the same ticket", body = ErrorBody),
    )
)]
pub(in super::super) async fn link(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<LinkRequest>,
) -> Result<Json<TicketBody>, ApiError> {
    let (id, other) = (ticket_id(id)?, ticket_id(request.ticket_id)?);
    let (desk, actor) = scope.desk(&state, request.agent)?;
    let ticket = state.finish(async move { Ok(desk.link(&id, &other, &actor).await?) }).await?;
    Ok(Json(scope.shown(&state, ticket).await?))
}

/// Rate the help
///
/// For the customer's page, once, when the ticket is resolved or closed.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/rating", tag = "chat", request_body = RateRequest, security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "What is kept", body = RatingBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Not done yet, or rated before", body = ErrorBody),
        (status = 422, description = "A field is wrong", body = ErrorBody),
    )
)]
pub(in super::super) async fn rate(
    State(state): State<AppState>,
    _caller: Caller,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<RateRequest>,
) -> Result<Json<RatingBody>, ApiError> {
    let id = ticket_id(id)?;
    if !(1..=5).contains(&request.score) {
        return Err(ApiError::field("score", "须为 1 到 5 的整数"));
    }
    let reasons = words("reasons", request.reasons, 10)?;
    let rating = Rating { score: request.score, reasons, comment: masked(&state, "comment", request.comment)? };
    let (desk, kept) = (state.0.desk.clone(), rating.clone());
    state.finish(async move { Ok(desk.rate(&id, &rating).await?) }).await?;
    Ok(Json(kept.into()))
}

/// List what people put right
///
/// Examples to train on; `yingda export-corrections` writes them as a file for `yingda-train`.
#[utoipa::path(
    get, path = "/v1/corrections", tag = "tickets", security(("api_key" = [])),
    responses(
        (status = 200, description = "Oldest first", body = CorrectionsBody),
        (status = 403, description = "Not an agent's key", body = ErrorBody),
    )
)]
pub(in super::super) async fn corrections(
    State(state): State<AppState>,
    scope: Scoped,
) -> Result<Json<CorrectionsBody>, ApiError> {
    let mut corrections = state.0.storage.corrections().await?;
    if let Some(organisation) = scope.organisation() {
        let shares = state.0.storage.shares_of(organisation).await?;
        // The text that was judged is told too: it must be one that they may read.
        corrections.retain(|(correction, _)| {
            let share = shares.iter().find(|share| share.ticket_id == correction.ticket_id);
            share.is_some_and(|share| match share.sees {
                Sees::Summary => false,
                Sees::Conversation => correction.seq > share.after_seq,
                Sees::Everything => true,
            })
        });
    }
    let corrections = corrections.into_iter().map(|(correction, text)| CorrectionBody {
        ticket_id: correction.ticket_id,
        session_id: scope.organisation().is_none().then_some(correction.session_id),
        seq: correction.seq,
        text,
        field: correction.field,
        was: correction.was,
        is_now: correction.is_now,
        model: correction.model,
        author: correction.author,
    });
    Ok(Json(CorrectionsBody { corrections: corrections.collect() }))
}

/// Short words, each once.
pub(in super::super) fn words(field: &str, words: Vec<String>, most: usize) -> Result<Vec<String>, ApiError> {
    if words.len() > most {
        return Err(ApiError::field(field, format!("最多 {most} 个，收到 {} 个", words.len())));
    }
    let mut kept: Vec<String> = Vec::with_capacity(words.len());
    for word in words {
        let word = checked_id(field, word.trim().to_owned())?;
        if !kept.contains(&word) {
            kept.push(word);
        }
    }
    Ok(kept)
}

/// A field of one's own: a text, masked; a number; yes or no; or null.
fn field(state: &AppState, name: String, value: serde_json::Value) -> Result<(String, serde_json::Value), ApiError> {
    use serde_json::Value;
    let name = checked_id("fields", name)?;
    let value = match value {
        Value::String(text) => Value::String(state.0.engine.mask(&without_nul(text))),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
        Value::Array(_) | Value::Object(_) => {
            return Err(ApiError::field(format!("fields.{name}"), "须为文字、数字、是否或 null"));
        }
    };
    Ok((name, value))
}
