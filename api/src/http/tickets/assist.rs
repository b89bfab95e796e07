//! What helps a person to answer: suggested replies, what a flow asks next, the customer's mood, how such tickets were solved before.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use yingda_engine::Role;

use super::super::AppState;
use super::super::extract::ApiPath;
use super::super::scope::Scoped;
use crate::chat::{IntentScore, Sentiment};
use crate::desk::sharing::View;
use crate::error::{ApiError, ErrorBody};
use crate::storage::rfc3339;

/// Replies that are suggested, solved tickets that are shown.
const SUGGESTIONS: usize = 3;
const SIMILAR: i64 = 3;
/// Turns that are looked back at.
const TURNS: i64 = 40;

/// What helps to answer.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct AssistBody {
    /// The customer's message that is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    answering: Option<i64>,
    /// Its likeliest intent.
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<IntentScore>,
    /// Replies from the knowledge, likeliest first.
    suggestions: Vec<SuggestionBody>,
    /// What the guided flow asks next that waits in the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_step: Option<NextStepBody>,
    /// How the customer felt, message by message, oldest first.
    mood: Vec<MoodBody>,
    /// Tickets of the same category that were solved, newest first.
    similar: Vec<SimilarBody>,
}

/// A reply from the knowledge.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct SuggestionBody {
    /// The knowledge entry.
    knowledge_id: String,
    /// Its standard question.
    question: String,
    /// The reply.
    text: String,
    /// Probability that it is right, in `[0, 1]`.
    probability: f32,
}

/// What a guided flow asks next.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct NextStepBody {
    /// The flow.
    flow: String,
    /// What it asks for.
    slot: String,
    /// How it asks.
    text: String,
    /// What it was given so far; personal data is masked.
    given: BTreeMap<String, String>,
}

/// How the customer felt.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct MoodBody {
    /// The message.
    seq: i64,
    /// Its sentiment.
    #[serde(flatten)]
    sentiment: Sentiment,
}

/// A ticket that was solved.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct SimilarBody {
    /// The ticket.
    ticket_id: String,
    /// What it was about.
    category: String,
    /// What was noted when it was resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_at: Option<String>,
}

/// Help with an answer
///
/// For the customer's last message. Say with the reply which suggestion was used.
#[utoipa::path(
    get, path = "/v1/tickets/{ticket_id}/assist", tag = "tickets", security(("api_key" = [])),
    params(("ticket_id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, description = "What helps", body = AssistBody),
        (status = 404, description = "No such ticket", body = ErrorBody),
    )
)]
pub(in super::super) async fn assist(
    State(state): State<AppState>,
    scope: Scoped,
    ApiPath(id): ApiPath,
) -> Result<Json<AssistBody>, ApiError> {
    let (ticket, view) = scope.ticket(&state, id).await?;
    let storage = &state.0.storage;
    let mut turns = storage.last_turns(&ticket.session_id, 0, TURNS).await?;
    turns.retain(|turn| view.shows_turn(&ticket, turn.seq, turn.created_at));
    let asked = turns.iter().rev().find(|turn| turn.role == Role::User);
    let hits = match asked {
        // Without the knowledge, or when there is too much to do, the rest still helps.
        Some(turn) => state.0.engine.search(&turn.text, SUGGESTIONS).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "no replies can be suggested");
            Vec::new()
        }),
        None => Vec::new(),
    };
    let similar = match &ticket.category {
        // How others were helped is the house's.
        Some(category) if view == View::House => storage.solved(category, &ticket.id, SIMILAR).await?,
        _ => Vec::new(),
    };
    let next_step = match view {
        View::House => storage.session(&ticket.session_id).await?.and_then(|session| state.0.chat.next_step(&session)),
        View::Shared(_) => None,
    };
    Ok(Json(AssistBody {
        next_step: next_step.map(|step| NextStepBody {
            flow: step.flow,
            slot: step.slot,
            text: state.0.engine.mask(&step.text),
            given: step.given.into_iter().map(|(slot, value)| (slot, state.0.engine.mask(&value))).collect(),
        }),
        answering: asked.map(|turn| turn.seq),
        intent: asked
            .and_then(|turn| turn.intent.clone())
            .map(|(label, probability)| IntentScore { label, probability: probability as f32 }),
        suggestions: hits
            .into_iter()
            .map(|hit| SuggestionBody {
                knowledge_id: hit.knowledge_id,
                question: hit.question,
                text: hit.answer,
                probability: hit.probability,
            })
            .collect(),
        mood: turns
            .iter()
            .filter_map(|turn| Some(MoodBody { seq: turn.seq, sentiment: turn.sentiment?.into() }))
            .collect(),
        similar: similar
            .into_iter()
            .map(|(ticket, note)| SimilarBody {
                ticket_id: ticket.id,
                category: ticket.category.unwrap_or_default(),
                note,
                resolved_at: ticket.resolved_at.map(rfc3339),
            })
            .collect(),
    }))
}
