//! The words that the engine and its callers share: what was understood, what was found, what was decided.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rules::{FlowState, Progress};

/// Who wrote a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The customer.
    User,
    /// A person of the customer-service team.
    Agent,
    /// This engine.
    Bot,
}

/// A label with its calibrated probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankedLabel {
    /// The label, as in the model folder.
    pub label: String,
    /// Calibrated probability in `[0, 1]`; the probabilities of one ranking add up to 1.
    pub probability: f32,
}

/// Calibrated probabilities of the three sentiments; they add up to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SentimentScores {
    /// Annoyed, disappointed, angry, sarcastic.
    pub negative: f32,
    /// Neither.
    pub neutral: f32,
    /// Pleased, thankful.
    pub positive: f32,
}

impl SentimentScores {
    /// The likeliest sentiment: `negative`, `neutral` or `positive`.
    pub fn label(&self) -> &'static str {
        if self.negative > self.neutral && self.negative >= self.positive {
            "negative"
        } else if self.positive > self.neutral {
            "positive"
        } else {
            "neutral"
        }
    }
}

/// All that one forward pass says of one text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Understanding {
    /// All intents, likeliest first.
    pub intents: Vec<RankedLabel>,
    /// The three sentiments.
    pub sentiment: SentimentScores,
    /// The pooled embedding, L2-normalised; its length is [`ModelInfo::dimension`].
    pub embedding: Vec<f32>,
    /// Tokens that the model read, special tokens included.
    pub tokens: usize,
    /// Whether the text was longer than the model reads and its middle was left out.
    pub truncated: bool,
}

/// One entry of the reply store that was found for a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Id of the knowledge entry.
    pub knowledge_id: String,
    /// The entry's standard question.
    pub question: String,
    /// The indexed wording (standard or similar question) that came nearest.
    pub matched: String,
    /// The entry's answer.
    pub answer: String,
    /// The intent that the entry belongs to.
    pub intent: Option<String>,
    /// Calibrated probability that this answer is right; those of all entries and that of none add up to 1.
    pub probability: f32,
    /// Cosine similarity of the two embeddings, in `[-1, 1]`.
    pub score: f32,
}

/// One entry of the knowledge, as it is indexed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnowledgeEntry {
    /// Unique id.
    pub id: String,
    /// Standard question.
    pub question: String,
    /// Other wordings of the same question.
    #[serde(default)]
    pub similar_questions: Vec<String>,
    /// The answer that customers read.
    pub answer: String,
    /// The intent that the entry belongs to.
    #[serde(default)]
    pub intent: Option<String>,
    /// Free tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// First day on which the answer holds (`YYYY-MM-DD`), if limited.
    #[serde(default)]
    pub valid_from: Option<String>,
    /// Last day on which the answer holds (`YYYY-MM-DD`), if limited.
    #[serde(default)]
    pub valid_to: Option<String>,
}

impl KnowledgeEntry {
    /// Its different wordings, the standard question first, blank ones left out: what is indexed.
    pub fn wordings(&self) -> Vec<&str> {
        let mut wordings: Vec<&str> = Vec::with_capacity(self.similar_questions.len() + 1);
        for wording in std::iter::once(&self.question).chain(&self.similar_questions) {
            if !wording.trim().is_empty() && !wordings.contains(&wording.as_str()) {
                wordings.push(wording);
            }
        }
        wordings
    }
}

/// One earlier turn of a conversation, as the policy needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct PastTurn {
    /// Who wrote it.
    pub role: Role,
    /// Its text (personal data may be masked).
    pub text: String,
    /// Sentiment that was measured when it came in; user turns only.
    pub sentiment: Option<SentimentScores>,
    /// What was decided; bot turns only.
    pub decision: Option<DecisionKind>,
}

/// Who asks, as far as it is known: answers are chosen by it, and slots filled from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// Where the message came in, such as `wechat`.
    pub channel: Option<String>,
    /// Groups that the customer belongs to, such as `vip`.
    pub audiences: Vec<String>,
    /// What slots are filled from, by name.
    pub fields: BTreeMap<String, String>,
    /// Products that the customer looked at, latest first.
    pub viewed: Vec<String>,
    /// Products that the customer bought, latest first.
    pub bought: Vec<String>,
}

/// Who asks, and the turns that count for a decision: those since the session's last resolution, oldest first, without the new
/// text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// Earlier turns, oldest first.
    pub turns: Vec<PastTurn>,
    /// Who asks.
    pub asker: Asker,
    /// Where a guided flow waits for the customer, if one does.
    pub flow: Option<FlowState>,
}

/// The three decisions, without their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// An answer was given.
    Reply,
    /// The customer was asked to choose or to say it otherwise, because the meaning was unclear.
    Clarify,
    /// The customer was told that this is nothing the shop does. Never counts as low confidence.
    OutOfScope,
    /// The customer was told that no answer is known, and offered a person.
    NoAnswer,
    /// The session was handed to a person.
    Escalate,
}

/// Why a session was handed to a person. Serialised in snake case, stable for callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EscalationReason {
    /// The customer asked for a person.
    PersonRequested,
    /// A word of the list that must reach a person.
    HandoffWord,
    /// A complaint.
    Complaint,
    /// Negative sentiment over the last turns.
    NegativeSentiment,
    /// Low confidence, again after a clarifying question.
    LowConfidence,
    /// A rule of the rules file says so.
    Rule,
    /// A guided flow got no further, or says so.
    Flow,
}

impl EscalationReason {
    /// The stable snake-case name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PersonRequested => "person_requested",
            Self::HandoffWord => "handoff_word",
            Self::Complaint => "complaint",
            Self::NegativeSentiment => "negative_sentiment",
            Self::LowConfidence => "low_confidence",
            Self::Rule => "rule",
            Self::Flow => "flow",
        }
    }
}

/// One question that the customer may choose when the engine is unsure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Id of the knowledge entry behind it.
    pub knowledge_id: String,
    /// Its standard question.
    pub question: String,
}

/// What to do with a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Send this answer.
    Reply {
        /// The answer.
        text: String,
        /// The knowledge entry it comes from; `None` for a fixed sentence of the policy.
        knowledge_id: Option<String>,
    },
    /// Ask once what was meant.
    Clarify {
        /// The clarifying sentence.
        text: String,
        /// The likeliest questions, best first; may be empty.
        choices: Vec<Choice>,
    },
    /// Say that the shop does not do this. No answer is invented.
    OutOfScope {
        /// The fixed sentence.
        text: String,
    },
    /// Say that no answer is known, and offer a person. The question is a gap in the knowledge.
    NoAnswer {
        /// The fixed sentence.
        text: String,
    },
    /// Hand the session to a person.
    Escalate {
        /// What the customer reads.
        text: String,
        /// Why.
        reason: EscalationReason,
        /// The word or score behind the reason, for the ticket.
        detail: String,
    },
}

impl Decision {
    /// The decision without its content.
    pub fn kind(&self) -> DecisionKind {
        match self {
            Self::Reply { .. } => DecisionKind::Reply,
            Self::Clarify { .. } => DecisionKind::Clarify,
            Self::OutOfScope { .. } => DecisionKind::OutOfScope,
            Self::NoAnswer { .. } => DecisionKind::NoAnswer,
            Self::Escalate { .. } => DecisionKind::Escalate,
        }
    }

    /// What the customer reads.
    pub fn text(&self) -> &str {
        match self {
            Self::Reply { text, .. }
            | Self::Clarify { text, .. }
            | Self::OutOfScope { text }
            | Self::NoAnswer { text }
            | Self::Escalate { text, .. } => text,
        }
    }
}

/// Where the time of one response went, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Waiting for the model thread.
    pub queue_ms: f64,
    /// Tokenizing and the forward pass of the batch.
    pub model_ms: f64,
    /// Searching the reply store.
    pub search_ms: f64,
    /// All of it, the decision included.
    pub total_ms: f64,
}

/// The engine's answer to one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// What to do.
    pub decision: Decision,
    /// The rule that decided, if one did.
    pub rule: Option<String>,
    /// What became of the session's guided flow. With a call in it, `decision` is for when that fails.
    pub flow: Progress,
    /// What was understood.
    pub understanding: Understanding,
    /// What was found, likeliest first, one hit per knowledge entry.
    pub hits: Vec<Hit>,
    /// Probability that an entry of the knowledge answers the message.
    pub relevant: f32,
    /// Where the time went.
    pub timings: Timings,
}

/// What is served.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelInfo {
    /// Name of the model folder and a fingerprint of its content, such as `yingda-sample@1f0c9a7be2d4`.
    pub model_id: String,
    /// Intent labels, in head order.
    pub intents: Vec<String>,
    /// Length of an embedding.
    pub dimension: usize,
    /// Longest text that the model reads, in tokens, special tokens included.
    pub max_tokens: usize,
    /// Knowledge entries in the reply store.
    pub knowledge_entries: usize,
    /// Where the replies are kept: a folder or a server's address.
    pub store: String,
}
