//! `/v1/desk/settings`: routing and targets, as supervisors change them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{ApiJson, Supervisor};
use crate::chat::MAX_ID;
use crate::desk::Tuning;
use crate::error::{ApiError, ErrorBody};
use crate::storage::{TuningRecord, rfc3339};

/// Longest note, in characters.
const MAX_NOTE: usize = 4 * MAX_ID;

/// Routing and targets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TuningBody {
    /// What counts: `route`, `routing` and `service_levels`, as in the table `[desk]` of the configuration file.
    #[schema(value_type = Object)]
    tuning: Tuning,
    /// `file`, or `console` when it was changed.
    source: &'static str,
    /// Number of the last change, 0 when there was none.
    version: i64,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_at: Option<String>,
    /// Teams of the configuration file.
    teams: Vec<String>,
    /// Calendars of the configuration file.
    calendars: Vec<String>,
}

/// A change of routing and targets.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutTuningRequest {
    /// All of it; what the configuration file says when left out.
    #[schema(value_type = Option<Object>)]
    tuning: Option<Tuning>,
    /// The last change that you have seen, 0 for none: one of somebody else is then not written over.
    version: i64,
    /// Why.
    #[serde(default)]
    note: String,
}

fn body(state: &AppState, record: Option<TuningRecord>) -> TuningBody {
    let desk = &state.0.config.desk;
    let changed = record.as_ref().and_then(|record| serde_json::from_str(record.tuning.as_deref()?).ok());
    let (author, note, changed_at) = record.as_ref().map_or((None, None, None), |record| {
        (Some(record.author.clone()), Some(record.note.clone()), Some(rfc3339(record.created_at)))
    });
    TuningBody {
        source: if changed.is_some() { "console" } else { "file" },
        tuning: changed.unwrap_or_else(|| Tuning::of(desk)),
        version: record.map_or(0, |record| record.version),
        author,
        note: note.filter(|note| !note.is_empty()),
        changed_at,
        teams: desk.teams.iter().map(|team| team.name.clone()).collect(),
        calendars: desk.calendars.keys().cloned().collect(),
    }
}

/// Read routing and targets
#[utoipa::path(
    get, path = "/v1/desk/settings", tag = "tickets", security(("api_key" = [])),
    responses(
        (status = 200, description = "What counts", body = TuningBody),
        (status = 403, description = "Not a supervisor", body = ErrorBody),
    )
)]
pub(super) async fn read(State(state): State<AppState>, _supervisor: Supervisor) -> Result<Json<TuningBody>, ApiError> {
    Ok(Json(body(&state, state.0.storage.tuning().await?)))
}

/// Change routing and targets
///
/// Counts on all replicas within a second, and in place of the configuration file until it is taken back.
#[utoipa::path(
    put, path = "/v1/desk/settings", tag = "tickets", request_body = PutTuningRequest, security(("api_key" = [])),
    responses(
        (status = 200, description = "What counts now", body = TuningBody),
        (status = 403, description = "Not a supervisor", body = ErrorBody),
        (status = 409, description = "Somebody else changed it meanwhile", body = ErrorBody),
        (status = 422, description = "Something in it is wrong", body = ErrorBody),
    )
)]
pub(super) async fn put(
    State(state): State<AppState>,
    Supervisor(identity): Supervisor,
    ApiJson(request): ApiJson<PutTuningRequest>,
) -> Result<Json<TuningBody>, ApiError> {
    let PutTuningRequest { tuning, version, note } = request;
    if note.contains('\0') || note.chars().count() > MAX_NOTE {
        return Err(ApiError::field("note", format!("最多 {MAX_NOTE} 个字符")));
    }
    let problems = tuning.as_ref().map(Tuning::problems).unwrap_or_default();
    if !problems.is_empty() {
        return Err(ApiError::field("tuning", format!("不能使用：{}", problems.join("；"))));
    }
    let json = tuning.map(|tuning| serde_json::to_string(&tuning).expect("plain data is always JSON"));
    if !state.0.storage.add_tuning(version, json.as_deref(), &identity.name, &note).await? {
        return Err(ApiError::SettingsChanged);
    }
    Ok(Json(body(&state, state.0.storage.tuning().await?)))
}
