//! `/v1/organisations`: partners outside the house.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Admin, Agent, ApiJson, ApiPath};
use crate::chat::checked_id;
use crate::desk::sharing::Organisation;
use crate::error::{ApiError, ErrorBody};
use crate::storage::{new_id, now, rfc3339};

/// A partner outside the house.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrganisationBody {
    /// Its id.
    organisation_id: String,
    /// Its name.
    #[schema(example = "安达快递")]
    name: String,
    /// The team whose queue is theirs: what is transferred to it is shared with them.
    #[schema(example = "快递核查")]
    team: String,
    /// When it was added.
    created_at: String,
}

impl From<Organisation> for OrganisationBody {
    fn from(organisation: Organisation) -> Self {
        let Organisation { id, name, team, created_at } = organisation;
        Self { organisation_id: id, name, team, created_at: rfc3339(created_at) }
    }
}

/// All organisations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrganisationsBody {
    /// By name.
    organisations: Vec<OrganisationBody>,
}

/// An organisation to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrganisationRequest {
    /// Its name, 1 to 128 characters.
    name: String,
    /// The team whose queue is theirs. No other organisation has it, and it stays.
    team: String,
}

/// What to change of an organisation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrganisationChangeRequest {
    /// Its name, 1 to 128 characters.
    name: String,
}

/// List organisations
#[utoipa::path(
    get, path = "/v1/organisations", tag = "people", security(("api_key" = [])),
    responses((status = 200, description = "By name", body = OrganisationsBody))
)]
pub(super) async fn list(State(state): State<AppState>, _agent: Agent) -> Result<Json<OrganisationsBody>, ApiError> {
    let organisations = state.0.storage.organisations().await?.into_iter().map(OrganisationBody::from).collect();
    Ok(Json(OrganisationsBody { organisations }))
}

/// Add an organisation
///
/// Its people are accounts and keys that name it. They see nothing but tickets that are shared with it.
#[utoipa::path(
    post, path = "/v1/organisations", tag = "people", request_body = NewOrganisationRequest, security(("api_key" = [])),
    responses(
        (status = 201, description = "The organisation", body = OrganisationBody),
        (status = 409, description = "Another one has the name or the team", body = ErrorBody),
        (status = 422, description = "A field is missing or wrong", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(state): State<AppState>,
    _admin: Admin,
    ApiJson(request): ApiJson<NewOrganisationRequest>,
) -> Result<(StatusCode, Json<OrganisationBody>), ApiError> {
    let name = checked_id("name", request.name.trim().to_owned())?;
    let team = checked_id("team", request.team.trim().to_owned())?;
    let new = Organisation { id: new_id(), name, team, created_at: now() };
    let storage = state.0.storage.clone();
    let add = async move {
        let mut tx = storage.begin().await?;
        tx.lock_users().await?;
        if tx.has_organisation(&new.name, &new.team, &new.id).await? {
            return Err(ApiError::OrganisationTaken(new.name));
        }
        tx.add_organisation(&new).await?;
        tx.commit().await?;
        Ok(new)
    };
    Ok((StatusCode::CREATED, Json(state.finish(add).await?.into())))
}

/// Rename an organisation
#[utoipa::path(
    patch, path = "/v1/organisations/{organisation_id}", tag = "people", request_body = OrganisationChangeRequest,
    security(("api_key" = [])), params(("organisation_id" = String, Path, description = "The organisation")),
    responses(
        (status = 200, description = "The organisation, changed", body = OrganisationBody),
        (status = 404, description = "No such organisation", body = ErrorBody),
        (status = 409, description = "Another one has the name", body = ErrorBody),
        (status = 422, description = "A field is missing or wrong", body = ErrorBody),
    )
)]
pub(super) async fn change(
    State(state): State<AppState>,
    _admin: Admin,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<OrganisationChangeRequest>,
) -> Result<Json<OrganisationBody>, ApiError> {
    let id = organisation_id(id)?;
    let name = checked_id("name", request.name.trim().to_owned())?;
    let storage = state.0.storage.clone();
    let rename = async move {
        let mut tx = storage.begin().await?;
        tx.lock_users().await?;
        let mut known = tx.organisation(&id).await?.ok_or(ApiError::OrganisationNotFound(id))?;
        if tx.has_organisation(&name, &known.team, &known.id).await? {
            return Err(ApiError::OrganisationTaken(name));
        }
        tx.rename_organisation(&known.id, &name).await?;
        tx.commit().await?;
        known.name = name;
        Ok(known)
    };
    Ok(Json(state.finish(rename).await?.into()))
}

/// An id of ours. Whatever is no UUID is surely no organisation.
pub(super) fn organisation_id(text: String) -> Result<String, ApiError> {
    match uuid::Uuid::try_parse(&text) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => {
            Err(ApiError::OrganisationNotFound(text.chars().filter(|letter| !letter.is_control()).take(64).collect()))
        }
    }
}
