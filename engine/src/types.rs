//! The words that the engine and its callers share: what was understood, what was found, what was decided.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::{
    rules::{FlowState, Progress},
    slots,
};

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
    /// The entry's answer to who asks.
    pub answer: String,
    /// What is shown with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Whether the answer may hold what is known of who asks.
    #[serde(skip)]
    pub personal: bool,
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub similar_questions: Vec<String>,
    /// The answer that customers read.
    pub answer: String,
    /// The intent that the entry belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// Free tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// First day on which the answer holds (`YYYY-MM-DD`), if limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    /// Last day on which the answer holds (`YYYY-MM-DD`), if limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<String>,
    /// What is shown with the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Other answers for some channels or audiences; the first that fits is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// Where it belongs, for people who look after the knowledge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Who looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Channels on which it is found; empty: on all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Audiences who find it; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// Products that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<String>,
}

/// Another answer of an entry, for some customers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Channels on which it is given; empty: on all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Audiences to whom it is given; empty: to all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The answer.
    pub answer: String,
    /// What is shown with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// Something that is shown with an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Part {
    /// More words.
    Text {
        /// The words.
        text: String,
    },
    /// A picture.
    Image {
        /// Its address.
        url: String,
        /// What it shows, for where pictures are not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// A link.
    Link {
        /// What is read.
        title: String,
        /// Where it leads.
        url: String,
    },
    /// A card that opens a page of a mini-program.
    MiniProgram {
        /// Id of the mini-program.
        app_id: String,
        /// Its page.
        page: String,
        /// What is read on the card.
        title: String,
    },
}

impl KnowledgeEntry {
    /// Whether it is for some channels or audiences only.
    pub fn is_restricted(&self) -> bool {
        !self.channels.is_empty() || !self.audiences.is_empty()
    }

    /// Whether it is not valid for ever.
    pub fn is_dated(&self) -> bool {
        self.valid_from.is_some() || self.valid_to.is_some()
    }

    /// What is answered to `asker`: the first variant that is for them and whose slots can be filled, else the entry's own answer.
    /// A slot of that one that can be filled by nothing is left out; [`crate::slots`] tells how to avoid it.
    pub fn answer_for(&self, asker: &Asker) -> Answer<'_> {
        let value = |name: &str| asker.fields.get(name).cloned();
        let mut variants = self.variants.iter().filter(|variant| variant.is_for(asker));
        let variant = variants.find_map(|variant| Some((slots::fill(&variant.answer, value)?, variant)));
        let (text, raw, parts) = match variant {
            Some((text, variant)) => (text, &variant.answer, &variant.parts),
            None => {
                let text = slots::fill(&self.answer, |name| Some(value(name).unwrap_or_default()));
                let text = slots::fill(&self.answer, value).or(text).unwrap_or_default();
                (text, &self.answer, &self.parts)
            }
        };
        Answer { text, parts, personal: !slots::slots(raw).is_empty() }
    }

    /// Its different wordings, the standard question first, blank ones left out: what is indexed.
    pub fn wordings(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let wordings = std::iter::once(&self.question).chain(&self.similar_questions).map(String::as_str);
        wordings.filter(|wording| !wording.trim().is_empty() && seen.insert(*wording)).collect()
    }
}

/// An entry's answer to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The answer, with its slots filled.
    pub text: String,
    /// What is shown with it.
    pub parts: &'a [Part],
    /// Whether it had slots: then it may hold personal data.
    pub personal: bool,
}

impl Variant {
    fn is_for(&self, asker: &Asker) -> bool {
        let channel = || asker.channel.as_ref().is_some_and(|channel| self.channels.contains(channel));
        let audience = || asker.audiences.iter().any(|audience| self.audiences.contains(audience));
        (self.channels.is_empty() || channel()) && (self.audiences.is_empty() || audience())
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

/// An entry about a product that the customer knows, offered after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// Id of the entry.
    pub knowledge_id: String,
    /// Its standard question.
    pub question: String,
    /// The product.
    pub product: String,
    /// Whether the customer bought it; otherwise they looked at it.
    pub bought: bool,
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
    /// What else may be of interest after a reply.
    pub related: Vec<Related>,
    /// Probability that an entry of the knowledge answers the message.
    pub relevant: f32,
    /// Whether the reply store could not be asked.
    pub unavailable: bool,
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
