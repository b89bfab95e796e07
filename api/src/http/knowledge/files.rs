//! Knowledge files: import and export.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use super::super::AppState;
use super::super::extract::{Agent, ApiBytes, ApiQuery};
use super::checked_note;
use crate::error::{ApiError, ErrorBody};
use crate::knowledge::base::Imported;
use crate::knowledge::{self, Format};

/// Largest knowledge file, in bytes.
pub(in super::super) const MAX_FILE: usize = 32 << 20;

/// How to read a file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ImportQuery {
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
pub(in super::super) struct ImportBody {
    /// All that is wrong; only a dry run tells it here.
    problems: Vec<ProblemBody>,
    /// Counts of entries.
    #[serde(flatten)]
    imported: Imported,
}

/// One thing that is wrong in a file.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ProblemBody {
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
pub(in super::super) async fn import(
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
pub(in super::super) struct ExportQuery {
    /// `jsonl`, `json`, `csv`, `xlsx` or `md`.
    #[param(example = "xlsx")]
    format: String,
    /// `true`: as it would be if all drafts were published.
    drafts: Option<bool>,
}

/// One at a time: a file takes several times the memory of the knowledge while it is made.
static EXPORTS: Semaphore = Semaphore::const_new(1);

/// Export the knowledge as a file
#[utoipa::path(
    get, path = "/v1/knowledge/export", tag = "knowledge", params(ExportQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        (status = 422, description = "The form cannot hold all of it", body = ErrorBody),
    )
)]
pub(in super::super) async fn export(
    State(state): State<AppState>,
    _agent: Agent,
    ApiQuery(query): ApiQuery<ExportQuery>,
) -> Result<Response, ApiError> {
    let format = checked_format(&query.format)?;
    let turn = EXPORTS.acquire().await;
    let entries = state.base().entries(query.drafts.unwrap_or(false)).await?;
    let bytes = tokio::task::spawn_blocking(move || {
        // Until it is made, also where nobody waits for it any more.
        let _turn = turn;
        knowledge::to_bytes(format, &entries)
    })
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
