//! `/v1/users`: the people who may log in.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Admin, ApiJson, ApiPath};
use crate::auth::{IdentityKind, Role};
use crate::error::{ApiError, ErrorBody};
use crate::storage::{User, now, rfc3339};
use crate::users::{NewUser, UserChange};

/// A person, as they may be shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserBody {
    /// Their id.
    user_id: String,
    /// What they log in with.
    #[schema(example = "xiaowang")]
    login: String,
    /// The name that others read.
    #[schema(example = "小王")]
    name: String,
    /// `agent`, `supervisor` or `admin`.
    role: Role,
    /// The team that they belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "售后")]
    team: Option<String>,
    /// The organisation outside the house to which they belong.
    #[serde(skip_serializing_if = "Option::is_none")]
    organisation: Option<String>,
    /// Whether they can log in no more.
    disabled: bool,
    /// When they last logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_login_at: Option<String>,
    /// When the account was made.
    created_at: String,
    /// When it was last changed.
    changed_at: String,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        Self {
            user_id: user.id,
            login: user.login,
            name: user.name,
            role: user.role,
            team: user.team,
            organisation: user.organisation,
            disabled: user.disabled_at.is_some(),
            last_login_at: user.last_login_at.map(rfc3339),
            created_at: rfc3339(user.created_at),
            changed_at: rfc3339(user.changed_at),
        }
    }
}

/// All people.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsersBody {
    /// By login name, disabled ones included.
    users: Vec<UserBody>,
}

/// An account to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUserRequest {
    /// What they will log in with: 1 to 64 letters, digits or `. _ - @`. Kept in small letters.
    #[schema(example = "xiaowang")]
    login: String,
    /// The name that others read, 1 to 64 characters.
    #[schema(example = "小王")]
    name: String,
    /// `agent`, `supervisor` or `admin`.
    role: Role,
    /// The team that they belong to, at most 64 characters.
    #[schema(example = "售后")]
    team: Option<String>,
    /// The organisation outside the house to which they belong; they are an agent then, of its team.
    organisation: Option<String>,
    /// Their first password: at least 10 characters, at most 256 bytes, not the login name.
    password: String,
}

/// What to change of an account; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserChangeRequest {
    /// The name that others read, 1 to 64 characters.
    name: Option<String>,
    /// `agent`, `supervisor` or `admin`.
    role: Option<Role>,
    /// The team that they belong to; empty for none.
    team: Option<String>,
    /// The organisation outside the house to which they belong; empty for none.
    organisation: Option<String>,
    /// Whether they can log in no more.
    disabled: Option<bool>,
    /// A new password, which also ends a lock.
    password: Option<String>,
}

/// List people
#[utoipa::path(
    get, path = "/v1/users", tag = "people", security(("api_key" = [])),
    responses((status = 200, description = "All people", body = UsersBody))
)]
pub(super) async fn list(State(state): State<AppState>, _admin: Admin) -> Result<Json<UsersBody>, ApiError> {
    let users = state.0.storage.users().await?.into_iter().map(UserBody::from).collect();
    Ok(Json(UsersBody { users }))
}

/// Make an account
#[utoipa::path(
    post, path = "/v1/users", tag = "people", request_body = NewUserRequest, security(("api_key" = [])),
    responses(
        (status = 201, description = "The account", body = UserBody),
        (status = 409, description = "Somebody has the login name", body = ErrorBody),
        (status = 422, description = "A field is missing or wrong", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(state): State<AppState>,
    _admin: Admin,
    ApiJson(request): ApiJson<NewUserRequest>,
) -> Result<(StatusCode, Json<UserBody>), ApiError> {
    let NewUserRequest { login, name, role, team, organisation, password } = request;
    let new = NewUser { login, name, role, team, password };
    let user = state.0.users.create_in(new, organisation.as_deref(), now()).await?;
    Ok((StatusCode::CREATED, Json(user.into())))
}

/// Change an account
///
/// Another role, organisation or password, and disabling, log the person out everywhere.
#[utoipa::path(
    patch, path = "/v1/users/{user_id}", tag = "people", request_body = UserChangeRequest, security(("api_key" = [])),
    params(("user_id" = String, Path, description = "The person")),
    responses(
        (status = 200, description = "The account, changed", body = UserBody),
        (status = 404, description = "No such person", body = ErrorBody),
        (status = 409, description = "The last admin, or one's own account", body = ErrorBody),
        (status = 422, description = "A field is wrong", body = ErrorBody),
    )
)]
pub(super) async fn change(
    State(state): State<AppState>,
    Admin(identity): Admin,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<UserChangeRequest>,
) -> Result<Json<UserBody>, ApiError> {
    let missing = || ApiError::UserNotFound(id.chars().filter(|letter| !letter.is_control()).take(64).collect());
    let id = uuid::Uuid::try_parse(&id).map_err(|_| missing())?.to_string();
    let UserChangeRequest { name, role, team, organisation, disabled, password } = request;
    let change = UserChange { name, role, team, organisation, disabled, password };
    let by = (identity.kind == IdentityKind::User).then_some(identity.id.as_str());
    Ok(Json(state.0.users.change(&id, change, by, now()).await?.into()))
}
