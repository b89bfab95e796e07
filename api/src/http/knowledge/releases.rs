//! Releases: what of the knowledge is served.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tracing::Instrument;
use utoipa::{IntoParams, ToSchema};

use super::super::AppState;
use super::super::extract::{Admin, Agent, ApiJson, ApiPath, ApiQuery, OptionalJson, number};
use super::{MAX_LIMIT, checked_note};
use crate::error::{ApiError, ErrorBody};
use crate::knowledge::base::{BaseError, Begun};
use crate::storage::{Release, rfc3339};

/// How long a request waits for its release before it says that it is being written.
const WAITS: Duration = Duration::from_secs(5);

/// A release of the knowledge.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ReleaseBody {
    /// Its number.
    release: i64,
    /// `publish`, `import` or `rollback`.
    #[schema(example = "publish")]
    kind: &'static str,
    /// Of a rollback: the release whose content it brought back.
    #[serde(skip_serializing_if = "Option::is_none")]
    restores: Option<i64>,
    /// `writing`, `published` or `failed`. The highest published one is served.
    #[schema(example = "published")]
    state: &'static str,
    /// Who made it.
    author: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    /// Entries that it changes.
    changes: i64,
    /// How many of them are written.
    done: i64,
    /// Entries in the whole release.
    entries: i64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// When it was begun.
    created_at: String,
    /// When it last moved.
    updated_at: String,
}

impl From<Release> for ReleaseBody {
    fn from(release: Release) -> Self {
        Self {
            release: release.release,
            kind: release.kind.as_str(),
            restores: release.restores,
            state: release.state.as_str(),
            author: release.author,
            note: release.note,
            changes: release.changes,
            done: release.done,
            entries: release.entries,
            problem: release.problem,
            created_at: rfc3339(release.created_at),
            updated_at: rfc3339(release.updated_at),
        }
    }
}

/// Which page of releases to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ReleasesQuery {
    /// Most releases to return, 1 to 200; 50 when left out.
    limit: Option<String>,
    /// Only releases below this number.
    before: Option<String>,
}

/// One page of releases.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ReleasesBody {
    /// Latest first.
    releases: Vec<ReleaseBody>,
}

/// List releases
#[utoipa::path(
    get, path = "/v1/knowledge/releases", tag = "knowledge", params(ReleasesQuery), security(("api_key" = [])),
    responses((status = 200, description = "Latest first", body = ReleasesBody))
)]
pub(in super::super) async fn releases(
    State(state): State<AppState>,
    _agent: Agent,
    ApiQuery(query): ApiQuery<ReleasesQuery>,
) -> Result<Json<ReleasesBody>, ApiError> {
    let limit = number("limit", query.limit.as_deref(), 50, 1, MAX_LIMIT)?;
    let before = number("before", query.before.as_deref(), i64::MAX, 1, i64::MAX)?;
    let releases = state.0.storage.releases(before, limit).await?;
    Ok(Json(ReleasesBody { releases: releases.into_iter().map(ReleaseBody::from).collect() }))
}

/// Read a release
///
/// How far it has come, while it is being written.
#[utoipa::path(
    get, path = "/v1/knowledge/releases/{release}", tag = "knowledge", params(("release", description = "Its number")),
    security(("api_key" = [])),
    responses(
        (status = 200, description = "The release", body = ReleaseBody),
        (status = 404, description = "No such release", body = ErrorBody),
    )
)]
pub(in super::super) async fn release(
    State(state): State<AppState>,
    _agent: Agent,
    ApiPath(number): ApiPath,
) -> Result<Json<ReleaseBody>, ApiError> {
    let found = match number.parse() {
        Ok(number) => state.0.storage.release(number).await?,
        Err(_) => None,
    };
    found.map(|release| Json(release.into())).ok_or(ApiError::ReleaseNotFound(number))
}

/// What to publish.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct PublishRequest {
    /// Ids of the entries whose drafts are published; all drafts when left out.
    entries: Option<Vec<String>>,
    /// Why.
    #[serde(default)]
    note: String,
}

/// Publish drafts
///
/// They are served together from one moment on. Answers after 5 seconds at the latest: 200 when it is served, 202 while it is
/// still being written.
#[utoipa::path(
    post, path = "/v1/knowledge/publish", tag = "knowledge", request_body = PublishRequest, security(("api_key" = [])),
    responses(
        (status = 200, description = "The release that is served now", body = ReleaseBody),
        (status = 202, description = "It is being written", body = ReleaseBody),
        (status = 409, description = "There is nothing to publish, or another release is being written", body = ErrorBody),
        (status = 503, description = "The store failed; what was served is served on", body = ErrorBody),
    )
)]
pub(in super::super) async fn publish(
    State(state): State<AppState>,
    admin: Admin,
    OptionalJson(request): OptionalJson<PublishRequest>,
) -> Result<Response, ApiError> {
    let note = checked_note(request.note)?;
    let base = state.base().clone();
    finish(&state, async move { base.begin_publish(request.entries.as_deref(), &admin.0.name, &note).await }).await
}

/// What to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RollbackRequest {
    /// The release whose content is to be served again.
    release: i64,
    /// Why.
    #[serde(default)]
    note: String,
}

/// Roll back to an earlier release
///
/// Its content is served again, as a new release. Drafts stay drafts.
#[utoipa::path(
    post, path = "/v1/knowledge/rollback", tag = "knowledge", request_body = RollbackRequest, security(("api_key" = [])),
    responses(
        (status = 200, description = "The release that is served now", body = ReleaseBody),
        (status = 202, description = "It is being written", body = ReleaseBody),
        (status = 404, description = "No such release", body = ErrorBody),
        (status = 409, description = "Nothing has changed since, or another release is being written", body = ErrorBody),
    )
)]
pub(in super::super) async fn rollback(
    State(state): State<AppState>,
    admin: Admin,
    ApiJson(request): ApiJson<RollbackRequest>,
) -> Result<Response, ApiError> {
    let note = checked_note(request.note)?;
    let base = state.base().clone();
    finish(&state, async move { base.begin_rollback(request.release, &admin.0.name, &note).await }).await
}

/// Begins a release and writes it to its end, also when the caller leaves; tells the caller how it stands after a while.
async fn finish(
    state: &AppState,
    begin: impl Future<Output = Result<Begun, BaseError>> + Send + 'static,
) -> Result<Response, ApiError> {
    let (begun, is_begun) = tokio::sync::oneshot::channel();
    let work = {
        let (state, base) = (state.clone(), state.base().clone());
        async move {
            let work = async move {
                let release = begin.await?;
                let _ = begun.send(release.release);
                let number = release.release;
                base.finish(release, |_, _| {}).await.map_err(|error| {
                    // Its caller may have left, or been told that it is being written.
                    tracing::error!(%error, release = number, "a release was not published");
                    error.into()
                })
            };
            state.finish(work).await
        }
    };
    let mut work = tokio::spawn(work.in_current_span());
    match tokio::time::timeout(WAITS, &mut work).await {
        Ok(Ok(release)) => Ok((StatusCode::OK, Json(ReleaseBody::from(release?))).into_response()),
        Ok(Err(error)) => Err(ApiError::Internal(format!("the work on a release stopped: {error}"))),
        Err(_) => {
            // Not begun after so long: it waits for the database.
            let number = is_begun.await.map_err(|_| ApiError::Timeout)?;
            let release =
                state.0.storage.release(number).await?.ok_or(ApiError::ReleaseNotFound(number.to_string()))?;
            Ok((StatusCode::ACCEPTED, Json(ReleaseBody::from(release))).into_response())
        }
    }
}
