//! `/healthz`, `/readyz`, `/metrics`: for machines, without a key and without personal data.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use crate::error::{ApiError, ErrorBody};
use crate::metrics;
use crate::storage::StorageError;

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthBody {
    /// `ok` or `ready`.
    status: String,
}

/// Whether the process lives
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = HealthBody)))]
pub(super) async fn healthz() -> Json<HealthBody> {
    Json(HealthBody { status: "ok".to_owned() })
}

/// Whether it can answer messages now
#[utoipa::path(
    get, path = "/readyz", tag = "operation",
    responses((status = 200, body = HealthBody), (status = 503, description = "Not now", body = ErrorBody))
)]
pub(super) async fn readyz(State(state): State<AppState>) -> Result<Json<HealthBody>, ApiError> {
    if state.0.stopping.load(Ordering::Relaxed) {
        return Err(ApiError::Stopping);
    }
    if state.0.model_stopped.load(Ordering::Relaxed) {
        return Err(ApiError::ModelUnavailable("the model thread has stopped; restart the service".to_owned()));
    }
    match tokio::time::timeout(Duration::from_secs(2), state.0.storage.ping()).await {
        Ok(answer) => answer?,
        Err(_) => return Err(StorageError::Slow.into()),
    }
    Ok(Json(HealthBody { status: "ready".to_owned() }))
}

/// Numbers for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain"))
)]
pub(super) async fn prometheus(State(state): State<AppState>) -> Response {
    metrics::now(state.0.engine.waiting(), state.in_work(), state.0.engine.info().knowledge_entries);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.0.prometheus.render()).into_response()
}
