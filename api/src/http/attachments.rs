//! Files beside a conversation: the customer's, a person's, and how they are served so that no browser runs anything of them.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::chat::answered;
use super::extract::{ApiBytes, ApiPath, ApiPaths, ApiQuery, Caller};
use super::scope::Scoped;
use super::sessions::TurnBody;
use super::tickets::{TicketBody, ticket_id};
use crate::chat::{AttachmentItem, ChatResponse, Message, checked_id};
use crate::desk::attachments::File;
use crate::desk::sharing::View;
use crate::error::{ApiError, ErrorBody};
use crate::storage::{Attachment, Turn};

/// What a customer's file is called.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CustomerFileQuery {
    /// Its name, 1 to 120 characters.
    #[param(example = "杯子.jpg")]
    name: Option<String>,
    /// The caller's id of the message: the same id in the same session is kept once.
    message_id: Option<String>,
    /// Where it comes from: lower-case letters and `_`.
    channel: Option<String>,
}

/// What a person's file is called, and who sees it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AgentFileQuery {
    /// Its name, 1 to 120 characters.
    #[param(example = "退货单.pdf")]
    name: Option<String>,
    /// `true`: a note for colleagues, which the customer does not see.
    inside: Option<bool>,
    /// Name of the person; when left out, whoever took the ticket with the same key.
    agent: Option<String>,
    /// The caller's id of the file: the same id in the same session is kept once.
    message_id: Option<String>,
}

/// A file that was kept.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AttachedBody {
    /// The file.
    attachment: AttachmentItem,
    /// The ticket.
    ticket: TicketBody,
}

/// A file with its name, both checked; personal data in the name is masked.
fn checked(state: &AppState, name: Option<String>, content: &[u8]) -> Result<File, ApiError> {
    let name = name.ok_or_else(|| ApiError::field("name", "缺失"))?;
    let mut file = state.0.config.desk.attachments.check(&name, content.to_vec())?;
    file.name = state.0.engine.mask(&file.name);
    Ok(file)
}

/// Send a customer's file
///
/// The body is the file itself. It counts as a message without words: the bot says that it cannot read it, and is silent while a
/// person owns the session. What it is, its bytes tell.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/attachments", tag = "chat", security(("api_key" = [])),
    params(("session_id" = String, Path, description = "The caller's id of the session"), CustomerFileQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The answer", body = ChatResponse),
        (status = 413, description = "Larger than the settings allow", body = ErrorBody),
        (status = 415, description = "Of no type that is accepted", body = ErrorBody),
        (status = 422, description = "Empty, or without a usable name", body = ErrorBody),
        (status = 429, description = "Too many files within an hour, or too much waits; see Retry-After", body = ErrorBody),
    )
)]
pub(super) async fn of_customer(
    State(state): State<AppState>,
    _caller: Caller,
    ApiPath(session_id): ApiPath,
    ApiQuery(query): ApiQuery<CustomerFileQuery>,
    ApiBytes(content): ApiBytes,
) -> Result<Response, ApiError> {
    let file = checked(&state, query.name, &content)?;
    let message = Message::of_file(session_id, query.message_id, query.channel, file)?;
    let chat = state.0.chat.clone();
    Ok(answered(state.finish(async move { chat.handle(message).await }).await?))
}

/// Send a file with a ticket
///
/// The body is the file itself: an answer to the customer by the person who has the ticket, or with `inside` a note for colleagues.
#[utoipa::path(
    post, path = "/v1/tickets/{ticket_id}/attachments", tag = "tickets", security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket"), AgentFileQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "What was kept", body = AttachedBody),
        (status = 403, description = "Somebody else has it", body = ErrorBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
        (status = 409, description = "Not taken yet, or resolved, or the id stands for something else", body = ErrorBody),
        (status = 413, description = "Larger than the settings allow", body = ErrorBody),
        (status = 415, description = "Of no type that is accepted", body = ErrorBody),
        (status = 429, description = "Too many files within an hour; see Retry-After", body = ErrorBody),
    )
)]
pub(super) async fn of_agent(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
    ApiQuery(query): ApiQuery<AgentFileQuery>,
    ApiBytes(content): ApiBytes,
) -> Result<(StatusCode, Json<AttachedBody>), ApiError> {
    let id = ticket_id(id)?;
    let (desk, actor) = scope.desk(&state, query.agent)?;
    let file = checked(&state, query.name, &content)?;
    let inside = query.inside.unwrap_or(false);
    let message_id = query.message_id.map(|id| checked_id("message_id", id)).transpose()?;
    let kept = state.finish(async move { Ok(desk.attach(&id, &actor, &file, inside, message_id).await?) });
    let (ticket, attachment) = kept.await?;
    let ticket = scope.shown(&state, ticket).await?;
    Ok((StatusCode::CREATED, Json(AttachedBody { attachment: attachment.into(), ticket })))
}

/// Fetch a file of a session
///
/// For the customer's page. What colleagues keep for themselves is not among them, and neither is a file of another session.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}/attachments/{attachment_id}", tag = "chat", security(("api_key" = [])),
    params(
        ("session_id" = String, Path, description = "The caller's id of the session"),
        ("attachment_id" = String, Path, description = "The file"),
    ),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        (status = 404, description = "No such file in this session", body = ErrorBody),
    )
)]
pub(super) async fn for_customer(
    State(state): State<AppState>,
    _caller: Caller,
    ApiPaths(session_id, id): ApiPaths,
) -> Result<Response, ApiError> {
    let found = known(&state, &id).await?;
    let found = found.filter(|attachment| attachment.session_id == session_id && attachment.seq.is_some());
    serve(&state, found.ok_or_else(|| missing(&id))?).await
}

/// Fetch a file
#[utoipa::path(
    get, path = "/v1/attachments/{attachment_id}", tag = "tickets", security(("api_key" = [])),
    params(("attachment_id" = String, Path, description = "The file")),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        (status = 404, description = "No such file", body = ErrorBody),
    )
)]
pub(super) async fn for_agent(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
) -> Result<Response, ApiError> {
    let found = known(&state, &id).await?.ok_or_else(|| missing(&id))?;
    if sees(&state, &scope, &found).await? { serve(&state, found).await } else { Err(missing(&id)) }
}

/// Whether somebody sees a file: with the turn that it came with, or with a note that is theirs.
async fn sees(state: &AppState, scope: &Scoped, attachment: &Attachment) -> Result<bool, ApiError> {
    let storage = &state.0.storage;
    let Some(seq) = attachment.seq else {
        let Some(ticket_id) = &attachment.ticket_id else { return Ok(false) };
        let shared = scope.view(state, ticket_id).await?.is_some();
        return Ok(shared && attachment.organisation.as_deref() == scope.organisation());
    };
    let Some(organisation) = scope.organisation() else { return Ok(true) };
    for share in storage.shares_in_session(organisation, &attachment.session_id).await? {
        let Some(ticket) = storage.ticket(&share.ticket_id).await? else { continue };
        // The file is as old as its turn, or a moment older.
        if View::Shared(share).shows_turn(&ticket, seq, attachment.created_at) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is known of a file. Whatever is no UUID is surely no file.
async fn known(state: &AppState, id: &str) -> Result<Option<Attachment>, ApiError> {
    match uuid::Uuid::try_parse(id) {
        Ok(id) => Ok(state.0.storage.attachment(&id.to_string()).await?),
        Err(_) => Ok(None),
    }
}

fn missing(id: &str) -> ApiError {
    ApiError::AttachmentNotFound(id.chars().filter(|letter| !letter.is_control()).take(64).collect())
}

async fn serve(state: &AppState, attachment: Attachment) -> Result<Response, ApiError> {
    let content = state.0.storage.attachment_content(&attachment.id).await?;
    let media_type = match attachment.media_type.as_str() {
        "text/plain" => "text/plain; charset=utf-8",
        other => other,
    };
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| ApiError::Internal(error.to_string()));
    let headers: [(HeaderName, HeaderValue); 7] = [
        (header::CONTENT_TYPE, value(media_type)?),
        (header::CONTENT_DISPOSITION, value(&disposition(&attachment))?),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    ];
    Ok((headers, content).into_response())
}

/// How a browser treats a file, and what it calls it: plain letters for old ones (RFC 6266), all of them for the others (RFC 8187).
/// Only pictures are shown in place.
fn disposition(attachment: &Attachment) -> String {
    let kind = if attachment.media_type.starts_with("image/") { "inline" } else { "attachment" };
    let fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_' | ' ');
    let plain: String = attachment.name.chars().map(|letter| if fine(letter) { letter } else { '_' }).collect();
    let encoded: String = attachment
        .name
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

/// Turns of a session with their files.
pub(super) async fn with_files(
    state: &AppState,
    session_id: &str,
    turns: Vec<Turn>,
) -> Result<Vec<TurnBody>, ApiError> {
    let (Some(first), Some(last)) = (turns.first(), turns.last()) else { return Ok(Vec::new()) };
    let mut files = state.0.storage.attachments_of_turns(session_id, first.seq - 1, last.seq).await?;
    Ok(turns
        .into_iter()
        .map(|turn| {
            let files = files.remove(&turn.seq).unwrap_or_default();
            let mut body = TurnBody::from(turn);
            body.attachments = files.into_iter().map(AttachmentItem::from).collect();
            body
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_header() {
        let named = |name: &str, media_type: &str| {
            disposition(&Attachment {
                id: String::new(),
                session_id: String::new(),
                seq: None,
                ticket_id: None,
                organisation: None,
                name: name.to_owned(),
                media_type: media_type.to_owned(),
                size: 1,
                created_at: 0,
            })
        };
        let picture = named("杯子 1.png", "image/png");
        assert_eq!(picture, "inline; filename=\"__ 1.png\"; filename*=UTF-8''%E6%9D%AF%E5%AD%90%201.png");
        let odd = named("a\"; filename=\"b\r\nX: y\\.txt", "text/plain");
        assert!(odd.starts_with("attachment; ") && !odd.contains(['\r', '\n', '\\']), "{odd}");
        assert_eq!(odd.matches('"').count(), 2, "{odd}");
    }
}
