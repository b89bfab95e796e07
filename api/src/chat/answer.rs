//! The answer to a message, as callers read it.

use serde::Serialize;
use utoipa::ToSchema;
use yingda_engine::{DecisionKind, Part, RankedLabel, SentimentScores};

use crate::storage::Attachment;

/// Intents in an answer.
const TOP_INTENTS: usize = 5;

/// An intent with its calibrated probability.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct IntentScore {
    /// The intent.
    pub label: String,
    /// In `[0, 1]`.
    pub probability: f32,
}

/// The three sentiments and the likeliest of them.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Sentiment {
    /// `negative`, `neutral` or `positive`.
    #[schema(example = "neutral")]
    pub label: String,
    /// In `[0, 1]`.
    pub negative: f32,
    /// In `[0, 1]`.
    pub neutral: f32,
    /// In `[0, 1]`.
    pub positive: f32,
}

impl From<SentimentScores> for Sentiment {
    fn from(scores: SentimentScores) -> Self {
        Self {
            label: scores.label().to_owned(),
            negative: scores.negative,
            neutral: scores.neutral,
            positive: scores.positive,
        }
    }
}

/// A question that the customer may choose.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChoiceItem {
    /// The knowledge entry behind it.
    pub knowledge_id: String,
    /// Its standard question.
    pub question: String,
}

/// A knowledge entry that came near.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Match {
    /// The knowledge entry.
    pub knowledge_id: String,
    /// Its standard question.
    pub question: String,
    /// Probability that its answer is right, in `[0, 1]`.
    pub probability: f32,
    /// Cosine similarity, in `[-1, 1]`.
    pub score: f32,
}

/// Another question that may be of interest.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RelatedItem {
    /// The knowledge entry behind it.
    pub knowledge_id: String,
    /// Its standard question.
    pub question: String,
    /// Why it is offered, for the customer to read.
    #[schema(example = "您买过保温杯")]
    pub reason: String,
}

/// Where the time went, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct TimingsBody {
    /// Waiting for the model.
    pub queue_ms: f64,
    /// In the model.
    pub model_ms: f64,
    /// Searching the reply store.
    pub search_ms: f64,
    /// From the message's turn in its session to the finished answer; storing it is not counted.
    pub total_ms: f64,
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is answered.
    Reply,
    /// The customer is asked what was meant.
    Clarify,
    /// It is nothing that the shop does.
    OutOfScope,
    /// No answer is known; a person is offered.
    NoAnswer,
    /// It is handed to a person.
    Escalate,
    /// A person owns the session; the bot says nothing.
    Silent,
}

impl Outcome {
    /// The stable snake-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Clarify => "clarify",
            Self::OutOfScope => "out_of_scope",
            Self::NoAnswer => "no_answer",
            Self::Escalate => "escalate",
            Self::Silent => "silent",
        }
    }
}

impl From<DecisionKind> for Outcome {
    fn from(kind: DecisionKind) -> Self {
        match kind {
            DecisionKind::Reply => Self::Reply,
            DecisionKind::Clarify => Self::Clarify,
            DecisionKind::OutOfScope => Self::OutOfScope,
            DecisionKind::NoAnswer => Self::NoAnswer,
            DecisionKind::Escalate => Self::Escalate,
        }
    }
}

/// The answer to a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatResponse {
    /// The session.
    pub session_id: String,
    /// The message that is answered, if it had an id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Number of the message's turn in its session.
    pub seq: i64,
    /// Number of the reply's turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_seq: Option<i64>,
    /// What is done.
    pub decision: Outcome,
    /// What the customer should read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// What is shown with the reply: `{"type": "text", "text"}`, `{"type": "image", "url", "description"?}`,
    /// `{"type": "link", "title", "url"}` or `{"type": "mini_program", "app_id", "page", "title"}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub parts: Vec<Part>,
    /// What the customer may choose from, when asked what was meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<ChoiceItem>>,
    /// What else may be of interest after a reply: knowledge about products that the profile says were bought or viewed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<RelatedItem>,
    /// The likeliest intents, best first; empty when the model read nothing.
    pub intents: Vec<IntentScore>,
    /// How the customer feels; missing when the model read nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentiment: Option<Sentiment>,
    /// Knowledge that came near, best first.
    pub matches: Vec<Match>,
    /// Why: of a hand-over `person_requested`, `handoff_word`, `complaint`, `negative_sentiment`, `low_confidence`,
    /// `rule` or `flow`; `rule` or `flow` also of what these say; `owned_by_agent` when silent; `called_off` where a hand-over was;
    /// `non_text` or `empty_message` where there was nothing to read; `knowledge_unavailable` where the knowledge could not be
    /// looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "track")]
    pub rule: Option<String>,
    /// The guided flow that decided: it says or asks something, or hands over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "track_parcel")]
    pub flow: Option<String>,
    /// The session's open ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket_id: Option<String>,
    /// The file that came with the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment: Option<AttachmentItem>,
    /// The model that read it.
    pub model: String,
    /// Where the time went.
    pub timings: TimingsBody,
}

/// A file beside a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AttachmentItem {
    /// Its id, with which it is fetched.
    pub id: String,
    /// Its name.
    #[schema(example = "杯子.jpg")]
    pub name: String,
    /// Its type, by its bytes.
    #[serde(rename = "type")]
    #[schema(example = "image/jpeg")]
    pub media_type: String,
    /// Its size in bytes.
    pub bytes: i64,
}

impl From<Attachment> for AttachmentItem {
    fn from(attachment: Attachment) -> Self {
        let Attachment { id, name, media_type, size, .. } = attachment;
        Self { id, name, media_type, bytes: size }
    }
}

/// An answer that has been stored.
#[derive(Clone, Debug)]
pub struct Answer {
    /// A [`ChatResponse`], exactly as it was first given; when it is given again, with personal data masked in what a rule or flow
    /// said.
    pub json: String,
    /// Whether the message had been answered before.
    pub replayed: bool,
}

/// The likeliest intents.
pub(crate) fn top(intents: Vec<RankedLabel>) -> Vec<IntentScore> {
    intents
        .into_iter()
        .take(TOP_INTENTS)
        .map(|intent| IntentScore { label: intent.label, probability: intent.probability })
        .collect()
}
