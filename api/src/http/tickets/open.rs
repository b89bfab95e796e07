//! Tickets that are opened without the bot: a customer's form, or an agent.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::super::AppState;
use super::super::extract::{ApiJson, Caller};
use super::{TicketBody, priority};
use crate::auth::Role;
use crate::chat::{LANGUAGE, check_profile, checked_id, checked_text, is_vip};
use crate::desk::Form;
use crate::desk::language::language;
use crate::error::{ApiError, ErrorBody};

/// What a person is asked for in writing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct OpenRequest {
    /// The caller's id of the session, 1 to 128 characters; a new one begins when left out.
    session_id: Option<String>,
    /// The caller's id of the form: sent again with the same id, it is written down once. Without a `session_id` it begins the same
    /// new session each time.
    message_id: Option<String>,
    /// The caller's id of the customer.
    user_id: Option<String>,
    /// What it is about, in the customer's words, 1 to 20,000 characters.
    text: String,
    /// Where it comes from; `form` when left out.
    channel: Option<String>,
    /// `low`, `medium`, `high` or `urgent`; when left out `medium`, and `high` for a VIP.
    priority: Option<String>,
    /// What the caller knows of the customer, as in `POST /v1/chat`; what is known already when left out.
    #[schema(value_type = Option<Object>)]
    profile: Option<Value>,
}

/// The session that a form without one begins: the same for the same key and id.
fn session_of_form(key_id: &str, message_id: &str) -> String {
    let digest = Sha256::digest(format!("{key_id}\n{message_id}"));
    format!("form-{}", hex::encode(&digest[..16]))
}

/// Open a ticket
///
/// For a customer's form, or for an agent who writes down what was said on the phone. When the session has an open ticket, that
/// one is added to and returned. The bot is silent from then on.
#[utoipa::path(
    post, path = "/v1/tickets", tag = "chat", request_body = OpenRequest, security(("api_key" = [])),
    responses(
        (status = 201, description = "The ticket", body = TicketBody),
        (status = 409, description = "Another message of the session has this id", body = ErrorBody),
        (status = 422, description = "A field is missing or wrong", body = ErrorBody),
    )
)]
pub(in super::super) async fn open(
    State(state): State<AppState>,
    Caller(identity): Caller,
    ApiJson(request): ApiJson<OpenRequest>,
) -> Result<(StatusCode, Json<TicketBody>), ApiError> {
    let name = |field: &str, text: Option<String>| text.map(|text| checked_id(field, text)).transpose();
    let text = checked_text("text", request.text)?;
    let message_id = name("message_id", request.message_id)?;
    let session_id = match (name("session_id", request.session_id)?, &message_id) {
        (None, Some(message_id)) => Some(session_of_form(&identity.id, message_id)),
        (session_id, _) => session_id,
    };
    if let Some(profile) = &request.profile {
        check_profile(profile)?;
    }
    let known = match (&request.profile, &session_id) {
        (None, Some(id)) if !id.contains('\0') => {
            state.0.storage.session(id).await?.and_then(|session| session.profile)
        }
        _ => None,
    };
    let known: Option<Value> = known.and_then(|profile| serde_json::from_str(&profile).ok());
    let profile = request.profile.as_ref().or(known.as_ref());
    let understood = state.0.engine.understand(vec![text.clone()]).await?.into_iter().next();
    let form = Form {
        message_id,
        session_id,
        vip: profile.is_some_and(is_vip),
        language: language(profile.and_then(|profile| profile[LANGUAGE].as_str()), [text.as_str()]),
        profile: request.profile.map(|profile| state.0.chat.masked_json(profile).to_string()),
        user_id: name("user_id", request.user_id)?,
        channel: name("channel", request.channel)?,
        text: state.0.engine.mask(&text),
        priority: request.priority.as_deref().map(priority).transpose()?,
        source: if identity.role >= Role::Agent { "agent" } else { "form" },
        understood,
        model: state.0.engine.info().model_id,
    };
    let desk = state.0.desk.clone();
    let ticket = state.finish(async move { Ok(desk.open(form).await?) }).await?;
    Ok((StatusCode::CREATED, Json(ticket.into())))
}
