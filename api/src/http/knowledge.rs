//! `/v1/knowledge`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tracing::Instrument;
use utoipa::{IntoParams, ToSchema};
use yingda_engine::KnowledgeEntry;

use super::AppState;
use super::extract::{Admin, Agent, ApiBytes, ApiJson, ApiPath, ApiQuery, OptionalJson, cursor, number};
use crate::chat::{checked_id, without_nul};
use crate::error::{ApiError, ErrorBody};
use crate::knowledge::base::{self, BaseError, Begun, Imported};
use crate::knowledge::{self, Format};
use crate::storage::{Gap, KnowledgeFilter, Release, Version, VersionState, rfc3339};

const MAX_LIMIT: i64 = 200;
/// Largest knowledge file, in bytes.
pub(super) const MAX_FILE: usize = 32 << 20;
/// Longest note, in characters.
const MAX_NOTE: usize = 500;
/// Longest text to search for, in characters.
const MAX_SEARCH: usize = 100;
/// How long a request waits for its release before it says that it is being written.
const WAITS: Duration = Duration::from_secs(5);

/// Which page of gaps to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GapsQuery {
    /// Most gaps to return, 1 to 200; 50 when left out.
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// One page of gaps.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GapsBody {
    /// Newest first.
    gaps: Vec<GapBody>,
    /// What to ask with for the next page; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A question that the knowledge did not answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GapBody {
    /// The session.
    session_id: String,
    /// The question; personal data is masked.
    text: String,
    /// Its likeliest intent.
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<String>,
    /// `no_answer`, or `escalate` where it was the second unsure message in a row.
    #[schema(example = "no_answer")]
    decision: String,
    /// When it was asked.
    #[schema(example = "2026-01-01T08:00:00Z")]
    created_at: String,
}

impl From<Gap> for GapBody {
    fn from(gap: Gap) -> Self {
        let Gap { id: _, session_id, text, intent, decision, created_at } = gap;
        Self { session_id, text, intent, decision, created_at: rfc3339(created_at) }
    }
}

/// List gaps in the knowledge
///
/// Questions to which no answer was known, newest first: what to write next.
#[utoipa::path(
    get, path = "/v1/knowledge/gaps", tag = "knowledge", params(GapsQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "One page, newest first", body = GapsBody),
        (status = 403, description = "Not an agent's key", body = ErrorBody),
        (status = 422, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(super) async fn gaps(
    State(state): State<AppState>,
    _agent: Agent,
    ApiQuery(query): ApiQuery<GapsQuery>,
) -> Result<Json<GapsBody>, ApiError> {
    let limit = number("limit", query.limit.as_deref(), 50, 1, MAX_LIMIT)?;
    let before = cursor(query.cursor)?;
    // One more than asked for tells whether there is a next page.
    let mut gaps = state.0.storage.gaps(before.as_deref(), limit + 1).await?;
    let more = gaps.len() as i64 > limit;
    gaps.truncate(limit as usize);
    let next_cursor = gaps.last().filter(|_| more).map(|gap| gap.id.clone());
    Ok(Json(GapsBody { gaps: gaps.into_iter().map(GapBody::from).collect(), next_cursor }))
}

/// Which entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EntriesQuery {
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
pub(super) struct EntriesBody {
    /// By id.
    entries: Vec<EntryBody>,
    /// What to ask with for the next page; missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// One entry: what is served of it, and what would be.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryBody {
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
pub(super) struct VersionBody {
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
pub(super) async fn list(
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
pub(super) async fn read(
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
pub(super) struct SaveRequest {
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
pub(super) struct SavedBody {
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
pub(super) async fn save(
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
pub(super) struct RemoveQuery {
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
pub(super) async fn remove(
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
pub(super) async fn discard(
    State(state): State<AppState>,
    _agent: Agent,
    ApiPath(id): ApiPath,
) -> Result<StatusCode, ApiError> {
    state.base().discard(&checked_id("id", id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All versions of an entry.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryBody {
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
pub(super) async fn history(
    State(state): State<AppState>,
    _agent: Agent,
    ApiPath(id): ApiPath,
) -> Result<Json<HistoryBody>, ApiError> {
    let versions = state.base().history(&checked_id("id", id)?).await?;
    Ok(Json(HistoryBody { versions: versions.iter().map(VersionBody::new).collect::<Result<_, _>>()? }))
}

/// How to read a file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// `jsonl`, `json`, `csv`, `xlsx` or `md`.
    #[param(example = "csv")]
    format: String,
    /// `true`: what the file does not have goes.
    replace: Option<bool>,
    /// `true`: keep nothing, and say all that is wrong and what would be kept.
    dry_run: Option<bool>,
    /// Why.
    note: Option<String>,
}

/// What an import kept, or would keep.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportBody {
    /// All that is wrong; only a dry run tells it here.
    problems: Vec<ProblemBody>,
    /// Counts of entries.
    #[serde(flatten)]
    imported: Imported,
}

/// One thing that is wrong in a file.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemBody {
    /// Where.
    #[schema(example = "line 3")]
    place: String,
    /// What is wrong and what to do.
    message: String,
}

/// Import a knowledge file
///
/// The body is the file, of at most 32 MiB. Its entries become drafts, all or, if anything is wrong, none.
#[utoipa::path(
    post, path = "/v1/knowledge/import", tag = "knowledge", params(ImportQuery), security(("api_key" = [])),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "What is kept as drafts", body = ImportBody),
        (status = 422, description = "Something in the file is wrong", body = ErrorBody),
    )
)]
pub(super) async fn import(
    State(state): State<AppState>,
    agent: Agent,
    ApiQuery(query): ApiQuery<ImportQuery>,
    ApiBytes(body): ApiBytes,
) -> Result<Json<ImportBody>, ApiError> {
    let format = checked_format(&query.format)?;
    let note = checked_note(query.note.unwrap_or_default())?;
    let dry_run = query.dry_run.unwrap_or(false);
    let replace = query.replace.unwrap_or(false);
    let entries = tokio::task::spawn_blocking(move || knowledge::read_bytes(format, &body))
        .await
        .map_err(|error| ApiError::Internal(format!("a knowledge file was not read: {error}")))?;
    let entries = match entries {
        Ok(entries) => entries,
        Err(problems) if dry_run => {
            let problems =
                problems.into_iter().map(|problem| ProblemBody { place: problem.place, message: problem.message });
            return Ok(Json(ImportBody { problems: problems.collect(), imported: Imported::default() }));
        }
        Err(problems) => {
            let told = |problem: knowledge::Problem| format!("{}: {}", problem.place, problem.message);
            return Err(ApiError::BadKnowledge(problems.into_iter().map(told).collect()));
        }
    };
    let base = state.base().clone();
    let imported =
        state.finish(async move { Ok(base.import(&entries, replace, dry_run, &agent.0.name, &note).await?) }).await?;
    Ok(Json(ImportBody { problems: Vec::new(), imported }))
}

/// What to write.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportQuery {
    /// `jsonl`, `json`, `csv`, `xlsx` or `md`.
    #[param(example = "xlsx")]
    format: String,
    /// `true`: as it would be if all drafts were published.
    drafts: Option<bool>,
}

/// Export the knowledge as a file
#[utoipa::path(
    get, path = "/v1/knowledge/export", tag = "knowledge", params(ExportQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        (status = 422, description = "The form cannot hold all of it", body = ErrorBody),
    )
)]
pub(super) async fn export(
    State(state): State<AppState>,
    _agent: Agent,
    ApiQuery(query): ApiQuery<ExportQuery>,
) -> Result<Response, ApiError> {
    let format = checked_format(&query.format)?;
    let entries = state.base().entries(query.drafts.unwrap_or(false)).await?;
    let bytes = tokio::task::spawn_blocking(move || knowledge::to_bytes(format, &entries))
        .await
        .map_err(|error| ApiError::Internal(format!("a knowledge file was not written: {error}")))?
        .map_err(|problems| ApiError::BadKnowledge(problems.into_iter().map(|problem| problem.message).collect()))?;
    let name = format!("attachment; filename=\"knowledge.{}\"", query.format);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("attachment"))),
    ];
    Ok((headers, bytes).into_response())
}

fn checked_format(name: &str) -> Result<Format, ApiError> {
    Format::named(name).ok_or_else(|| ApiError::field("format", "须为 jsonl、json、csv、xlsx 或 md"))
}

fn checked_search(text: String) -> Result<String, ApiError> {
    match text.chars().count() {
        0..=MAX_SEARCH => Ok(without_nul(text)),
        length => Err(ApiError::field("q", format!("最多 {MAX_SEARCH} 个字符，收到 {length} 个"))),
    }
}

fn checked_note(note: String) -> Result<String, ApiError> {
    match note.chars().count() {
        0..=MAX_NOTE => Ok(without_nul(note)),
        length => Err(ApiError::field("note", format!("最多 {MAX_NOTE} 个字符，收到 {length} 个"))),
    }
}

/// A release of the knowledge.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReleaseBody {
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
pub(super) struct ReleasesQuery {
    /// Most releases to return, 1 to 200; 50 when left out.
    limit: Option<String>,
    /// Only releases below this number.
    before: Option<String>,
}

/// One page of releases.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReleasesBody {
    /// Latest first.
    releases: Vec<ReleaseBody>,
}

/// List releases
#[utoipa::path(
    get, path = "/v1/knowledge/releases", tag = "knowledge", params(ReleasesQuery), security(("api_key" = [])),
    responses((status = 200, description = "Latest first", body = ReleasesBody))
)]
pub(super) async fn releases(
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
pub(super) async fn release(
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
pub(super) struct PublishRequest {
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
pub(super) async fn publish(
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
pub(super) struct RollbackRequest {
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
pub(super) async fn rollback(
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
