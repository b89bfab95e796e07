//! `/v1/desk/alerts`: what rules tell supervisors.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Agent, ApiPath, OptionalJson, Supervisor};
use super::tickets::actor;
use crate::desk::intervention::Alert;
use crate::error::{ApiError, ErrorBody};
use crate::storage::rfc3339;

/// Most alerts that are listed.
const MOST: i64 = 200;

/// What nobody has seen yet.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertsBody {
    /// Oldest first, at most 200.
    alerts: Vec<AlertBody>,
}

/// Something that a supervisor should see.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlertBody {
    /// Its id.
    alert_id: String,
    /// Name of the rule that told it.
    #[schema(example = "upset")]
    intervention: String,
    /// The ticket.
    ticket_id: String,
    /// Where the ticket stands.
    status: &'static str,
    /// Its priority.
    priority: &'static str,
    /// What it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    /// The team whose queue it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<String>,
    /// The person who has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    assignee: Option<String>,
    /// When it was told.
    created_at: String,
    /// Who has seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_by: Option<String>,
}

impl From<Alert> for AlertBody {
    fn from(alert: Alert) -> Self {
        Self {
            alert_id: alert.id,
            intervention: alert.rule,
            ticket_id: alert.ticket.id,
            status: alert.ticket.status.as_str(),
            priority: alert.ticket.priority.as_str(),
            category: alert.ticket.category,
            team: alert.ticket.team,
            assignee: alert.ticket.assignee,
            created_at: rfc3339(alert.created_at),
            acknowledged_by: alert.acknowledged_by,
        }
    }
}

/// Who has seen an alert.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AcknowledgeRequest {
    /// Name of the person; the name of the key when left out.
    agent: Option<String>,
}

/// List alerts
///
/// What rules told and nobody has acknowledged.
#[utoipa::path(
    get, path = "/v1/desk/alerts", tag = "tickets", security(("api_key" = [])),
    responses(
        (status = 200, description = "Oldest first", body = AlertsBody),
        (status = 403, description = "Not an agent's key", body = ErrorBody),
    )
)]
pub(super) async fn list(State(state): State<AppState>, _agent: Agent) -> Result<Json<AlertsBody>, ApiError> {
    let alerts = state.0.storage.alerts(MOST).await?;
    Ok(Json(AlertsBody { alerts: alerts.into_iter().map(AlertBody::from).collect() }))
}

/// Acknowledge an alert
///
/// Once; it is no longer listed then.
#[utoipa::path(
    post, path = "/v1/desk/alerts/{alert_id}/acknowledge", tag = "tickets", request_body = AcknowledgeRequest,
    security(("api_key" = [])), params(("alert_id" = String, Path, description = "The alert")),
    responses(
        (status = 200, description = "The alert", body = AlertBody),
        (status = 403, description = "Not a supervisor", body = ErrorBody),
        (status = 404, description = "No such alert", body = ErrorBody),
        (status = 409, description = "Somebody was faster", body = ErrorBody),
    )
)]
pub(super) async fn acknowledge(
    State(state): State<AppState>,
    Supervisor(identity): Supervisor,
    ApiPath(id): ApiPath,
    OptionalJson(request): OptionalJson<AcknowledgeRequest>,
) -> Result<Json<AlertBody>, ApiError> {
    let actor = actor(identity, request.agent)?;
    let id = match uuid::Uuid::try_parse(&id) {
        Ok(id) => id.to_string(),
        Err(_) => {
            let shown = id.chars().filter(|letter| !letter.is_control()).take(64).collect();
            return Err(ApiError::AlertNotFound(shown));
        }
    };
    let desk = state.0.desk.clone();
    let alert = state.finish(async move { Ok(desk.acknowledge(&id, &actor).await?) }).await?;
    Ok(Json(alert.into()))
}
