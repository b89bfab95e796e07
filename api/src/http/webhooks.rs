//! `/v1/webhooks` and `/v1/webhook-deliveries`: who is told of tickets, and what came of it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::extract::{Admin, ApiJson, ApiPath, ApiQuery, OptionalJson, number};
use crate::error::{ApiError, ErrorBody};
use crate::outgoing::{Answered, WebhookChange};
use crate::storage::{Delivery, DeliveryFilter, DeliveryState, WebhookRecord, now, rfc3339};

const MAX_LIMIT: i64 = 200;

/// A webhook, as it may be shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookBody {
    /// Its id.
    webhook_id: String,
    /// Where messages go.
    #[schema(example = "https://crm.example.com/tickets")]
    address: String,
    /// The kinds of events that it is told; empty: all.
    events: Vec<String>,
    /// Whether anything is sent.
    active: bool,
    /// Attempts that failed since the last one that did not.
    failures: i64,
    /// When it was made.
    created_at: String,
    /// When it was last changed.
    changed_at: String,
}

impl From<WebhookRecord> for WebhookBody {
    fn from(record: WebhookRecord) -> Self {
        Self {
            webhook_id: record.id,
            address: record.address,
            events: record.events,
            active: record.active,
            failures: record.failures,
            created_at: rfc3339(record.created_at),
            changed_at: rfc3339(record.changed_at),
        }
    }
}

/// A new webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewWebhookBody {
    /// The webhook.
    #[serde(flatten)]
    webhook: WebhookBody,
    /// What signs its messages. It is shown here and never again.
    #[schema(example = "whsec_5f0c...")]
    secret: String,
}

/// All webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhooksBody {
    /// Oldest first.
    webhooks: Vec<WebhookBody>,
}

/// A webhook to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWebhookRequest {
    /// Where messages are to go, http or https.
    #[schema(example = "https://crm.example.com/tickets")]
    address: String,
    /// The kinds of events that it is told, such as `opened` and `resolved`; all when left out or empty.
    #[serde(default)]
    events: Vec<String>,
}

/// What to change of a webhook; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookChangeRequest {
    /// Where messages are to go.
    address: Option<String>,
    /// The kinds of events that it is told; empty: all.
    events: Option<Vec<String>>,
    /// Whether anything is sent. What waits meanwhile is sent when it is switched on again; what happens meanwhile is not told.
    active: Option<bool>,
}

/// What came back for a test.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookTestBody {
    /// Whether the receiver took it.
    delivered: bool,
    /// The HTTP status that came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// What was wrong: `status` (not 2xx), `late` (not within 10 s) or `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    /// How long it took.
    milliseconds: u64,
}

impl From<Answered> for WebhookTestBody {
    fn from(answered: Answered) -> Self {
        let Answered { status, problem, milliseconds } = answered;
        Self { delivered: problem.is_none(), status, problem, milliseconds }
    }
}

/// Which messages to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveriesQuery {
    /// `pending`, `dead` (given up) or `done`; all when left out.
    state: Option<String>,
    /// The webhook.
    webhook_id: Option<String>,
    /// Most messages to return, 1 to 200; 50 when left out.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// One page of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeliveriesBody {
    /// Newest first.
    deliveries: Vec<DeliveryBody>,
    /// What to ask with for the next page; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// One event on its way to one webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeliveryBody {
    /// Its id, which the receiver reads at every attempt.
    delivery_id: String,
    /// The webhook.
    webhook_id: String,
    /// The ticket.
    ticket_id: String,
    /// The event's number in the ticket.
    seq: i64,
    /// The kind of event.
    #[schema(example = "opened")]
    event: String,
    /// `pending`, `dead` or `done`.
    state: &'static str,
    /// Attempts so far.
    attempts: i64,
    /// When it is tried next.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    /// When the event happened.
    created_at: String,
    /// When it was received or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    /// HTTP status of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<i64>,
    /// What was wrong with the last attempt: `status`, `late` or `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl From<Delivery> for DeliveryBody {
    fn from(delivery: Delivery) -> Self {
        Self {
            delivery_id: delivery.id,
            webhook_id: delivery.webhook_id,
            ticket_id: delivery.ticket_id,
            seq: delivery.seq,
            event: delivery.event,
            state: delivery.state.as_str(),
            attempts: delivery.attempts,
            next_attempt_at: (delivery.state == DeliveryState::Pending).then(|| rfc3339(delivery.next_at)),
            created_at: rfc3339(delivery.created_at),
            finished_at: delivery.finished_at.map(rfc3339),
            status: delivery.status,
            problem: delivery.problem,
        }
    }
}

/// Which messages to send again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryDeadRequest {
    /// Only what was meant for this webhook; everything when left out.
    webhook_id: Option<String>,
}

/// What is sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RetriedBody {
    /// How many messages.
    retried: u64,
}

fn shown(id: &str) -> String {
    id.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

fn webhook_id(id: &str) -> Result<String, ApiError> {
    match uuid::Uuid::try_parse(id) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(ApiError::WebhookNotFound(shown(id))),
    }
}

/// The id of a message: a UUID and a number.
fn delivery_id(id: &str) -> Option<String> {
    let (event, number) = id.rsplit_once('-')?;
    let event = uuid::Uuid::try_parse(event).ok()?;
    let number: u32 = number.parse().ok()?;
    Some(format!("{event}-{number}"))
}

/// List webhooks
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "outgoing", security(("api_key" = [])),
    responses((status = 200, description = "All webhooks, without their secrets", body = WebhooksBody))
)]
pub(super) async fn list(State(state): State<AppState>, _admin: Admin) -> Result<Json<WebhooksBody>, ApiError> {
    let webhooks = state.0.storage.webhooks().await?.into_iter().map(WebhookBody::from).collect();
    Ok(Json(WebhooksBody { webhooks }))
}

/// Make a webhook
///
/// It is told of everything that happens to tickets from now on; docs/outgoing.md tells what it reads and how it checks that.
#[utoipa::path(
    post, path = "/v1/webhooks", tag = "outgoing", request_body = NewWebhookRequest, security(("api_key" = [])),
    responses(
        (status = 201, description = "The webhook, and its secret this once", body = NewWebhookBody),
        (status = 409, description = "There are too many", body = ErrorBody),
        (status = 422, description = "A field is missing or wrong", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(state): State<AppState>,
    _admin: Admin,
    ApiJson(request): ApiJson<NewWebhookRequest>,
) -> Result<(StatusCode, Json<NewWebhookBody>), ApiError> {
    let record = state.0.webhooks.create(request.address.trim(), request.events).await?;
    let secret = record.secret.clone();
    Ok((StatusCode::CREATED, Json(NewWebhookBody { webhook: record.into(), secret })))
}

/// Change a webhook
#[utoipa::path(
    patch, path = "/v1/webhooks/{webhook_id}", tag = "outgoing", request_body = WebhookChangeRequest,
    security(("api_key" = [])), params(("webhook_id" = String, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook, changed", body = WebhookBody),
        (status = 404, description = "No such webhook", body = ErrorBody),
        (status = 422, description = "A field is wrong", body = ErrorBody),
    )
)]
pub(super) async fn change(
    State(state): State<AppState>,
    _admin: Admin,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<WebhookChangeRequest>,
) -> Result<Json<WebhookBody>, ApiError> {
    let WebhookChangeRequest { address, events, active } = request;
    let address = address.map(|address| address.trim().to_owned());
    let change = WebhookChange { address, events, active };
    Ok(Json(state.0.webhooks.change(&webhook_id(&id)?, change, now()).await?.into()))
}

/// Remove a webhook
///
/// With everything that was meant for it.
#[utoipa::path(
    delete, path = "/v1/webhooks/{webhook_id}", tag = "outgoing", security(("api_key" = [])),
    params(("webhook_id" = String, Path, description = "The webhook")),
    responses(
        (status = 204, description = "It is told nothing more"),
        (status = 404, description = "No such webhook", body = ErrorBody),
    )
)]
pub(super) async fn remove(
    State(state): State<AppState>,
    _admin: Admin,
    ApiPath(id): ApiPath,
) -> Result<StatusCode, ApiError> {
    state.0.webhooks.remove(&webhook_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Test a webhook
///
/// Sends the event `ping` now, once, and says what came back.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook_id}/test", tag = "outgoing", security(("api_key" = [])),
    params(("webhook_id" = String, Path, description = "The webhook")),
    responses(
        (status = 200, description = "What came back, also when that is nothing", body = WebhookTestBody),
        (status = 404, description = "No such webhook", body = ErrorBody),
    )
)]
pub(super) async fn test(
    State(state): State<AppState>,
    _admin: Admin,
    ApiPath(id): ApiPath,
) -> Result<Json<WebhookTestBody>, ApiError> {
    Ok(Json(state.0.webhooks.test(&webhook_id(&id)?, now()).await?.into()))
}

/// List messages to webhooks
///
/// What was received is kept for 7 days, what was given up for 30.
#[utoipa::path(
    get, path = "/v1/webhook-deliveries", tag = "outgoing", params(DeliveriesQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "One page, newest first", body = DeliveriesBody),
        (status = 422, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(super) async fn deliveries(
    State(state): State<AppState>,
    _admin: Admin,
    ApiQuery(query): ApiQuery<DeliveriesQuery>,
) -> Result<Json<DeliveriesBody>, ApiError> {
    let wrong = |()| ApiError::field("state", "取值无效，可用：pending、dead、done");
    let filter = DeliveryFilter {
        state: query.state.as_deref().map(str::parse).transpose().map_err(wrong)?,
        webhook_id: query.webhook_id.as_deref().map(webhook_id).transpose()?,
    };
    let limit = number("limit", query.limit.as_deref(), 50, 1, MAX_LIMIT)?;
    let before = query
        .cursor
        .map(|text| delivery_id(&text).ok_or_else(|| ApiError::field("cursor", "须为上一页返回的 next_cursor")));
    let before = before.transpose()?;
    // One more than asked for tells whether there is a next page.
    let mut deliveries = state.0.storage.deliveries(&filter, before.as_deref(), limit + 1).await?;
    let more = deliveries.len() as i64 > limit;
    deliveries.truncate(limit as usize);
    let next_cursor = deliveries.last().filter(|_| more).map(|delivery| delivery.id.clone());
    Ok(Json(DeliveriesBody { deliveries: deliveries.into_iter().map(DeliveryBody::from).collect(), next_cursor }))
}

/// Send a message again that was given up
#[utoipa::path(
    post, path = "/v1/webhook-deliveries/{delivery_id}/retry", tag = "outgoing", security(("api_key" = [])),
    params(("delivery_id" = String, Path, description = "The message")),
    responses(
        (status = 200, description = "It is on its way again", body = DeliveryBody),
        (status = 404, description = "No such message", body = ErrorBody),
        (status = 409, description = "It was not given up", body = ErrorBody),
    )
)]
pub(super) async fn retry(
    State(state): State<AppState>,
    _admin: Admin,
    ApiPath(id): ApiPath,
) -> Result<Json<DeliveryBody>, ApiError> {
    let id = delivery_id(&id).ok_or_else(|| ApiError::DeliveryNotFound(shown(&id)))?;
    Ok(Json(state.0.webhooks.retry(&id, now()).await?.into()))
}

/// Send everything again that was given up
#[utoipa::path(
    post, path = "/v1/webhook-deliveries/retry-dead", tag = "outgoing", request_body = RetryDeadRequest,
    security(("api_key" = [])),
    responses(
        (status = 200, description = "How many messages are on their way again", body = RetriedBody),
        (status = 404, description = "No such webhook", body = ErrorBody),
    )
)]
pub(super) async fn retry_dead(
    State(state): State<AppState>,
    _admin: Admin,
    OptionalJson(request): OptionalJson<RetryDeadRequest>,
) -> Result<Json<RetriedBody>, ApiError> {
    let webhook_id = request.webhook_id.as_deref().map(webhook_id).transpose()?;
    let retried = state.0.webhooks.retry_dead(webhook_id.as_deref(), now()).await?;
    Ok(Json(RetriedBody { retried }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_message_is_a_uuid_and_a_number() {
        let id = format!("{}-12", crate::storage::new_id());
        assert_eq!(delivery_id(&id), Some(id));
        for wrong in ["", "12", "x-1", &crate::storage::new_id(), "' OR 1=1 -1"] {
            assert_eq!(delivery_id(wrong), None, "{wrong}");
        }
    }
}
