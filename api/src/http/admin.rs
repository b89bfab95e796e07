//! `/v1/admin`: reload the model, manage keys.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Admin, ApiJson, ApiPath};
use super::organisations::organisation_id;
use crate::auth::{self, Role};
use crate::chat::checked_id;
use crate::error::{ApiError, ErrorBody};
use crate::rules;
use crate::storage::{KeyRecord, rfc3339};

/// What is served.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InfoBody {
    /// Name and fingerprint of the model.
    #[schema(example = "yingda-sample@1f0c9a7be2d4")]
    model: String,
    /// Intents that it knows.
    intents: Vec<String>,
    /// Length of an embedding.
    dimension: usize,
    /// Longest text that it reads, in tokens.
    max_tokens: usize,
    /// Entries in the reply store.
    knowledge_entries: usize,
}

impl From<yingda_engine::ModelInfo> for InfoBody {
    fn from(info: yingda_engine::ModelInfo) -> Self {
        Self {
            model: info.model_id,
            intents: info.intents,
            dimension: info.dimension,
            max_tokens: info.max_tokens,
            knowledge_entries: info.knowledge_entries,
        }
    }
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKeyRequest {
    /// Who will use it, 1 to 128 characters.
    #[schema(example = "小程序网关")]
    name: String,
    /// What it may do.
    role: Role,
    /// The organisation outside the house whose it is; its role is `agent` then.
    organisation: Option<String>,
}

/// A key, as it may be shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyBody {
    /// Its id; not the key.
    key_id: String,
    /// Who uses it.
    name: String,
    /// What it may do.
    role: Role,
    /// The organisation outside the house whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    organisation: Option<String>,
    /// When it was made.
    created_at: String,
    /// Since when it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
}

impl From<KeyRecord> for KeyBody {
    fn from(record: KeyRecord) -> Self {
        Self {
            key_id: record.id,
            name: record.name,
            role: record.role,
            organisation: record.organisation,
            created_at: rfc3339(record.created_at),
            revoked_at: record.revoked_at.map(rfc3339),
        }
    }
}

/// A new key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewKeyBody {
    /// What is kept of it.
    #[serde(flatten)]
    record: KeyBody,
    /// The key itself. It is shown here and never again.
    key: String,
}

/// All keys.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeysBody {
    /// Oldest first, revoked ones included.
    keys: Vec<KeyBody>,
}

/// Serve a new model and new rules without a restart
///
/// Reads the model folder and the rules file again. If either cannot be used, the old ones are still served.
#[utoipa::path(
    post, path = "/v1/admin/reload", tag = "admin", security(("api_key" = [])),
    responses(
        (status = 200, description = "What is served now", body = InfoBody),
        (status = 422, description = "The rules file cannot be used; the message says all that is wrong", body = ErrorBody),
        (status = 500, description = "The new model cannot be loaded", body = ErrorBody),
    )
)]
pub(super) async fn reload(State(state): State<AppState>, _admin: Admin) -> Result<Json<InfoBody>, ApiError> {
    let (engine, config) = (state.0.engine.clone(), state.0.config.clone());
    let reload = async move {
        let rules = rules::load(&config, &engine).map_err(|error| ApiError::RulesWrong(error.to_string()))?;
        let info = engine.reload().await.map_err(|error| ApiError::ReloadFailed(error.to_string()))?;
        rules::put_to_use(rules, &engine);
        Ok(info)
    };
    let info = state.finish(reload).await?;
    state.0.model_stopped.store(false, Ordering::Relaxed);
    Ok(Json(info.into()))
}

/// List keys
#[utoipa::path(
    get, path = "/v1/admin/keys", tag = "admin", security(("api_key" = [])),
    responses((status = 200, description = "All keys", body = KeysBody))
)]
pub(super) async fn keys(State(state): State<AppState>, _admin: Admin) -> Result<Json<KeysBody>, ApiError> {
    let keys = state.0.storage.keys().await?.into_iter().map(KeyBody::from).collect();
    Ok(Json(KeysBody { keys }))
}

/// Make a key
#[utoipa::path(
    post, path = "/v1/admin/keys", tag = "admin", request_body = NewKeyRequest, security(("api_key" = [])),
    responses(
        (status = 201, description = "The key, shown this once", body = NewKeyBody),
        (status = 422, description = "A field is missing or wrong", body = ErrorBody),
    )
)]
pub(super) async fn create_key(
    State(state): State<AppState>,
    _admin: Admin,
    ApiJson(request): ApiJson<NewKeyRequest>,
) -> Result<(StatusCode, Json<NewKeyBody>), ApiError> {
    let name = checked_id("name", request.name.trim().to_owned())?;
    let (record, key) = match request.organisation {
        None => auth::create_key(&state.0.storage, &name, request.role).await?,
        Some(_) if request.role != Role::Agent => return Err(ApiError::field("role", "外部机构的密钥只能是 agent")),
        Some(organisation) => {
            let id = organisation_id(organisation)?;
            let made = auth::create_outside_key(&state.0.storage, &name, &id).await?;
            made.ok_or(ApiError::OrganisationNotFound(id))?
        }
    };
    Ok((StatusCode::CREATED, Json(NewKeyBody { record: record.into(), key })))
}

/// Revoke a key
#[utoipa::path(
    delete, path = "/v1/admin/keys/{key_id}", tag = "admin", security(("api_key" = [])),
    params(("key_id" = String, Path, description = "Id of the key, not the key")),
    responses(
        (status = 204, description = "Refused from now on"),
        (status = 404, description = "No such key", body = ErrorBody),
    )
)]
pub(super) async fn revoke_key(
    State(state): State<AppState>,
    _admin: Admin,
    ApiPath(id): ApiPath,
) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::KeyNotFound(id.chars().filter(|letter| !letter.is_control()).take(64).collect());
    let id = uuid::Uuid::try_parse(&id).map_err(|_| missing())?.to_string();
    if state.0.storage.revoke_key(&id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(missing()) }
}
