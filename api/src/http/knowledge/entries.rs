//! Entries: the published versions and the drafts.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use yingda_engine::KnowledgeEntry;

use super::super::AppState;
use super::super::extract::{Agent, ApiJson, ApiPath, ApiQuery, number};
use super::{MAX_LIMIT, checked_note};
use crate::chat::{checked_id, without_nul};
use crate::error::{ApiError, ErrorBody};
use crate::knowledge::{self, base};
use crate::storage::{KnowledgeFilter, Version, VersionState, rfc3339};

/// Longest text to search for, in characters.
const MAX_SEARCH: usize = 100;

/// Which entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct EntriesQuery {
    /// Only entries in which this stands: wordings, answers, tags and so on.
    q: Option<String>,
    /// `true`: only entries with a draft.
    drafts: Option<bool>,
    /// Most entries to return, 1 to 200; 50 when left out.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// One page of entries.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct EntriesBody {
    /// By id.
    entries: Vec<EntryBody>,
    /// What to ask with for the next page; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// One entry: what is served of it, and what would be.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct EntryBody {
    /// Its id.
    id: String,
    /// Its latest version: what to send as `version` with a change.
    version: i64,
    /// What is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<VersionBody>,
    /// What will be served once it is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    draft: Option<VersionBody>,
}

/// One version of an entry.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct VersionBody {
    /// Its number, from 1.
    version: i64,
    /// `draft`, `writing`, `published`, `past` or `discarded`.
    #[schema(example = "published")]
    state: &'static str,
    /// The entry, as in a JSON knowledge file; missing where it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    entry: Option<KnowledgeEntry>,
    /// Who wrote it.
    author: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    /// When.
    created_at: String,
    /// The first release that it was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_release: Option<i64>,
    /// The first one after that it was not in any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_release: Option<i64>,
}

impl VersionBody {
    fn new(version: &Version) -> Result<Self, ApiError> {
        Ok(Self {
            version: version.version,
            state: match version.state {
                VersionState::Draft => "draft",
                VersionState::Writing => "writing",
                VersionState::Published => "published",
                VersionState::Past => "past",
                VersionState::Discarded => "discarded",
            },
            entry: version.body.as_deref().map(base::read).transpose()?,
            author: version.author.clone(),
            note: version.note.clone(),
            created_at: rfc3339(version.created_at),
            from_release: version.from_release,
            to_release: version.to_release,
        })
    }
}

impl EntryBody {
    /// Of the versions that count of one entry.
    fn new(id: &str, versions: &[Version]) -> Result<Self, ApiError> {
        let (published, draft) = base::split(versions);
        Ok(Self {
            id: id.to_owned(),
            version: versions.iter().map(|version| version.version).max().unwrap_or(0),
            published: published.map(VersionBody::new).transpose()?,
            draft: draft.map(VersionBody::new).transpose()?,
        })
    }
}

/// List the knowledge
#[utoipa::path(
    get, path = "/v1/knowledge/entries", tag = "knowledge", params(EntriesQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "One page, by id", body = EntriesBody),
        (status = 422, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(in super::super) async fn list(
    State(state): State<AppState>,
    _agent: Agent,
    ApiQuery(query): ApiQuery<EntriesQuery>,
) -> Result<Json<EntriesBody>, ApiError> {
    let limit = number("limit", query.limit.as_deref(), 50, 1, MAX_LIMIT)?;
    let filter = KnowledgeFilter {
        drafts: query.drafts.unwrap_or(false),
        text: query.q.map(checked_search).transpose()?,
        after: query.cursor.map(|cursor| checked_id("cursor", cursor)).transpose()?,
        limit: limit + 1,
    };
    let versions = state.base().list(&filter).await?;
    let mut entries = versions
        .chunk_by(|a, b| a.entry_id == b.entry_id)
        .map(|versions| EntryBody::new(&versions[0].entry_id, versions))
        .collect::<Result<Vec<_>, _>>()?;
    let more = entries.len() as i64 > limit;
    entries.truncate(limit as usize);
    let next_cursor = entries.last().filter(|_| more).map(|entry| entry.id.clone());
    Ok(Json(EntriesBody { entries, next_cursor }))
}

/// Read an entry
#[utoipa::path(
    get, path = "/v1/knowledge/entries/{id}", tag = "knowledge", params(("id", description = "Its id")), security(("api_key" = [])),
    responses(
        (status = 200, description = "What is served, and the draft", body = EntryBody),
        (status = 404, description = "No such entry", body = ErrorBody),
    )
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    _agent: Agent,
    ApiPath(id): ApiPath,
) -> Result<Json<EntryBody>, ApiError> {
    let id = checked_id("id", id)?;
    let mut versions = state.base().history(&id).await?;
    versions.retain(|version| {
        matches!(version.state, VersionState::Draft | VersionState::Writing | VersionState::Published)
    });
    if versions.iter().all(|version| version.body.is_none()) {
        return Err(ApiError::EntryNotFound(id));
    }
    Ok(Json(EntryBody::new(&id, &versions)?))
}

/// An entry to be kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct SaveRequest {
    /// The entry, as in a JSON knowledge file; its `id` may be left out.
    #[schema(value_type = Object)]
    entry: serde_json::Value,
    /// The latest version that you have seen, 0 for a new entry: a change of somebody else is then not written over.
    version: Option<i64>,
    /// Why.
    #[serde(default)]
    note: String,
}

/// What was kept.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct SavedBody {
    /// Number of the new version.
    version: i64,
}

/// Write an entry
///
/// Keeps it as a draft; it is served once it is published.
#[utoipa::path(
    put, path = "/v1/knowledge/entries/{id}", tag = "knowledge", params(("id", description = "Its id")),
    request_body = SaveRequest, security(("api_key" = [])),
    responses(
        (status = 200, description = "It is kept", body = SavedBody),
        (status = 409, description = "Somebody else changed it meanwhile", body = ErrorBody),
        (status = 422, description = "Something in it is wrong", body = ErrorBody),
    )
)]
pub(in super::super) async fn save(
    State(state): State<AppState>,
    agent: Agent,
    ApiPath(id): ApiPath,
    ApiJson(request): ApiJson<SaveRequest>,
) -> Result<Json<SavedBody>, ApiError> {
    let id = checked_id("id", id)?;
    let note = checked_note(request.note)?;
    let mut value = request.entry;
    let Some(fields) = value.as_object_mut() else { return Err(ApiError::field("entry", "须为 JSON 对象")) };
    match fields.get("id").and_then(serde_json::Value::as_str) {
        Some(other) if other != id => return Err(ApiError::field("entry.id", "与地址中的编号不同")),
        _ => fields.insert("id".to_owned(), id.into()),
    };
    let entry: KnowledgeEntry =
        serde_json::from_value(value).map_err(|error| ApiError::BadKnowledge(vec![error.to_string()]))?;
    let problems = knowledge::problems_of(&entry);
    if !problems.is_empty() {
        return Err(ApiError::BadKnowledge(problems));
    }
    let version = state.base().save(&entry, request.version, &agent.0.name, &note).await?;
    Ok(Json(SavedBody { version }))
}

/// Of a change.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct RemoveQuery {
    /// The latest version that you have seen.
    version: Option<i64>,
    /// Why.
    note: Option<String>,
}

/// Remove an entry
///
/// Kept as a draft; it goes once that is published.
#[utoipa::path(
    delete, path = "/v1/knowledge/entries/{id}", tag = "knowledge", params(("id", description = "Its id"), RemoveQuery),
    security(("api_key" = [])),
    responses(
        (status = 200, description = "It is noted", body = SavedBody),
        (status = 404, description = "No such entry", body = ErrorBody),
        (status = 409, description = "Somebody else changed it meanwhile", body = ErrorBody),
    )
)]
pub(in super::super) async fn remove(
    State(state): State<AppState>,
    agent: Agent,
    ApiPath(id): ApiPath,
    ApiQuery(query): ApiQuery<RemoveQuery>,
) -> Result<Json<SavedBody>, ApiError> {
    let id = checked_id("id", id)?;
    let note = checked_note(query.note.unwrap_or_default())?;
    let version = state.base().remove(&id, query.version, &agent.0.name, &note).await?;
    Ok(Json(SavedBody { version }))
}

/// Give a draft up
#[utoipa::path(
    delete, path = "/v1/knowledge/entries/{id}/draft", tag = "knowledge", params(("id", description = "Id of the entry")),
    security(("api_key" = [])),
    responses(
        (status = 204, description = "What is served stays"),
        (status = 404, description = "There is no draft", body = ErrorBody),
    )
)]
pub(in super::super) async fn discard(
    State(state): State<AppState>,
    _agent: Agent,
    ApiPath(id): ApiPath,
) -> Result<StatusCode, ApiError> {
    state.base().discard(&checked_id("id", id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All versions of an entry.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct HistoryBody {
    /// Latest first.
    versions: Vec<VersionBody>,
}

/// Read the history of an entry
///
/// Who wrote what and when, and in which releases it was.
#[utoipa::path(
    get, path = "/v1/knowledge/entries/{id}/history", tag = "knowledge", params(("id", description = "Id of the entry")),
    security(("api_key" = [])),
    responses(
        (status = 200, description = "Latest first", body = HistoryBody),
        (status = 404, description = "No such entry", body = ErrorBody),
    )
)]
pub(in super::super) async fn history(
    State(state): State<AppState>,
    _agent: Agent,
    ApiPath(id): ApiPath,
) -> Result<Json<HistoryBody>, ApiError> {
    let versions = state.base().history(&checked_id("id", id)?).await?;
    Ok(Json(HistoryBody { versions: versions.iter().map(VersionBody::new).collect::<Result<_, _>>()? }))
}

fn checked_search(text: String) -> Result<String, ApiError> {
    match text.chars().count() {
        0..=MAX_SEARCH => Ok(without_nul(text)),
        length => Err(ApiError::field("q", format!("最多 {MAX_SEARCH} 个字符，收到 {length} 个"))),
    }
}
