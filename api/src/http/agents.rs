//! `/v1/desk/agents` and `/v1/me/presence`: who works at the desk, and is there.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::extract::{Agent, ApiJson, ApiPath, Supervisor};
use super::scope::Scoped;
use crate::chat::checked_id;
use crate::desk::language::primary;
use crate::desk::routing::{HIGHEST_LEVEL, Presence};
use crate::error::{ApiError, ErrorBody};
use crate::storage::{AgentRecord, now, rfc3339};

/// Most load that one person is given at once.
const MAX_CAPACITY: u32 = 100;
/// Most skills, languages or channels of one person.
const MAX_WORDS: usize = 300;

/// Who works at the desk.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentsBody {
    /// By name.
    agents: Vec<AgentBody>,
}

/// A person who works at the desk.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentBody {
    /// The name that tickets are assigned to.
    name: String,
    /// The team.
    team: String,
    /// Intents or categories with a level, 1 to 3.
    skills: BTreeMap<String, u8>,
    /// Languages that they speak; empty: any.
    languages: BTreeSet<String>,
    /// Channels that they serve; empty: any.
    channels: BTreeSet<String>,
    /// Load that they can carry at once; an ordinary ticket is one.
    capacity: u32,
    /// Whether they serve the VIP lane.
    vip_lane: bool,
    /// Name of the calendar of their shifts, from the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    shift: Option<String>,
    /// `online`, `away` or `offline`; one who has not been heard of for a while is offline.
    presence: &'static str,
    /// When they were last heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_at: Option<String>,
}

/// What routing is to know of a person.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutAgentRequest {
    /// The team.
    #[schema(example = "售后")]
    team: String,
    /// Intents or categories with a level, 1 to 3.
    #[serde(default)]
    skills: BTreeMap<String, u8>,
    /// Languages that they speak, as `zh`, `en` or `pt-BR` (its first part counts); any when left out.
    #[serde(default)]
    languages: BTreeSet<String>,
    /// Channels that they serve; any when left out.
    #[serde(default)]
    channels: BTreeSet<String>,
    /// Load that they can carry at once, 1 to 100; an ordinary ticket is one.
    capacity: u32,
    /// Whether they serve the VIP lane.
    #[serde(default)]
    vip_lane: bool,
    /// Name of the calendar of their shifts, from the settings; whenever they are online when left out.
    shift: Option<String>,
}

/// Whether somebody is there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PresenceRequest {
    /// `online`, `away` or `offline`.
    #[schema(value_type = String)]
    presence: Presence,
    /// Name of the person, for a key that speaks for several; whoever is logged in speaks for themselves only.
    agent: Option<String>,
}

/// Whether somebody is there: what they last said, unless that is too long ago.
pub(super) fn presence_now(state: &AppState, agent: &AgentRecord) -> Presence {
    let silent = i64::from(state.0.config.desk.offline_seconds) * 1000;
    if now() - agent.seen_at > silent { Presence::Offline } else { agent.presence }
}

fn body(state: &AppState, agent: AgentRecord) -> AgentBody {
    let presence = presence_now(state, &agent);
    AgentBody {
        name: agent.name,
        team: agent.team,
        skills: agent.skills,
        languages: agent.languages,
        channels: agent.channels,
        capacity: agent.capacity,
        vip_lane: agent.vip_lane,
        shift: agent.shift,
        presence: presence.as_str(),
        seen_at: (agent.seen_at > 0).then(|| rfc3339(agent.seen_at)),
    }
}

/// List who works at the desk
#[utoipa::path(
    get, path = "/v1/desk/agents", tag = "tickets", security(("api_key" = [])),
    responses(
        (status = 200, description = "By name", body = AgentsBody),
        (status = 403, description = "Not an agent's key", body = ErrorBody),
    )
)]
pub(super) async fn list(State(state): State<AppState>, _agent: Agent) -> Result<Json<AgentsBody>, ApiError> {
    let agents = state.0.storage.agents().await?.into_iter().map(|agent| body(&state, agent)).collect();
    Ok(Json(AgentsBody { agents }))
}

/// Say what somebody can do
///
/// Tickets are offered to those who are listed here, while they are online.
#[utoipa::path(
    put, path = "/v1/desk/agents/{name}", tag = "tickets", request_body = PutAgentRequest, security(("api_key" = [])),
    params(("name" = String, Path, description = "The name that tickets are assigned to")),
    responses(
        (status = 200, description = "What is known of them", body = AgentBody),
        (status = 403, description = "Not a supervisor", body = ErrorBody),
        (status = 422, description = "A field is missing or wrong", body = ErrorBody),
    )
)]
pub(super) async fn put(
    State(state): State<AppState>,
    _supervisor: Supervisor,
    ApiPath(name): ApiPath,
    ApiJson(request): ApiJson<PutAgentRequest>,
) -> Result<Json<AgentBody>, ApiError> {
    let name = checked_id("name", name.trim().to_owned())?;
    if !(1..=MAX_CAPACITY).contains(&request.capacity) {
        return Err(ApiError::field("capacity", format!("须为 1 到 {MAX_CAPACITY} 的整数")));
    }
    if let Some((skill, _)) = request.skills.iter().find(|(_, level)| !(1..=HIGHEST_LEVEL).contains(*level)) {
        return Err(ApiError::field(format!("skills.{skill}"), "级别须为 1 到 3"));
    }
    let lists = [
        ("skills", request.skills.len()),
        ("languages", request.languages.len()),
        ("channels", request.channels.len()),
    ];
    if let Some((field, _)) = lists.into_iter().find(|(_, length)| *length > MAX_WORDS) {
        return Err(ApiError::field(field, format!("最多 {MAX_WORDS} 个")));
    }
    let languages = request.languages.iter().map(|tag| {
        primary(tag).ok_or_else(|| ApiError::field("languages", format!("「{tag}」不是语言代码，例如 zh、en")))
    });
    let languages = languages.collect::<Result<_, _>>()?;
    let shift = request.shift.map(|shift| checked_id("shift", shift)).transpose()?;
    if let Some(shift) = shift.as_ref().filter(|shift| !state.0.config.desk.calendars.contains_key(*shift)) {
        return Err(ApiError::field("shift", format!("配置文件中没有名为 {shift} 的日历（[desk.calendars]）")));
    }
    let agent = AgentRecord {
        name: name.clone(),
        team: checked_id("team", request.team)?,
        skills: request.skills,
        languages,
        channels: request.channels,
        capacity: request.capacity,
        vip_lane: request.vip_lane,
        shift,
        presence: Presence::Offline,
        seen_at: 0,
        last_given_at: None,
    };
    let storage = state.0.storage.clone();
    let written = agent.clone();
    state
        .finish(async move {
            let mut tx = storage.begin().await?;
            tx.put_agent(&written).await?;
            Ok(tx.commit().await?)
        })
        .await?;
    let stored = state.0.storage.agents().await?.into_iter().find(|stored| stored.name == name);
    Ok(Json(body(&state, stored.unwrap_or(agent))))
}

/// Take somebody off the desk
///
/// Nothing is offered to them any more. Their tickets stay theirs.
#[utoipa::path(
    delete, path = "/v1/desk/agents/{name}", tag = "tickets", security(("api_key" = [])),
    params(("name" = String, Path, description = "The name that tickets are assigned to")),
    responses(
        (status = 204, description = "Done"),
        (status = 403, description = "Not a supervisor", body = ErrorBody),
        (status = 404, description = "Nobody of that name", body = ErrorBody),
    )
)]
pub(super) async fn remove(
    State(state): State<AppState>,
    _supervisor: Supervisor,
    ApiPath(name): ApiPath,
) -> Result<StatusCode, ApiError> {
    let name = checked_id("name", name)?;
    let storage = state.0.storage.clone();
    let removed = {
        let name = name.clone();
        state
            .finish(async move {
                let mut tx = storage.begin().await?;
                let removed = tx.remove_agent(&name).await?;
                tx.commit().await?;
                Ok(removed)
            })
            .await?
    };
    if removed { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::AgentNotFound(name)) }
}

/// Say whether one is there
///
/// A console says so every few seconds: who is not heard of for a while counts as offline.
#[utoipa::path(
    put, path = "/v1/me/presence", tag = "tickets", request_body = PresenceRequest, security(("api_key" = [])),
    responses(
        (status = 204, description = "Noted"),
        (status = 404, description = "Not listed at the desk", body = ErrorBody),
    )
)]
pub(super) async fn presence(
    State(state): State<AppState>,
    scope: Scoped,
    ApiJson(request): ApiJson<PresenceRequest>,
) -> Result<StatusCode, ApiError> {
    let name = scope.name(request.agent)?;
    if state.0.storage.set_presence(&name, request.presence).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::AgentNotFound(name))
    }
}
