//! From one message to one stored answer. No HTTP types here: every channel comes through [`Chat::handle`].
//!
//! Messages of one session are handled one after another; the same `message_id` is answered once; and nothing is sent
//! before it is stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use utoipa::ToSchema;
use yingda_engine::{
    Asker, Conversation, Decision, DecisionKind, Engine, EngineError, EscalationReason, Hit, Part, PastTurn,
    RankedLabel, Related, Role, SentimentScores, Timings,
    rules::{FlowState, Progress},
};

use crate::desk::{self, Priority};
use crate::error::ApiError;
use crate::metrics;
use crate::storage::{NewTicket, NewTurn, Owner, Session, SessionDetails, Storage, Turn};
use crate::webhook::Webhook;

/// Longest text, in characters.
pub const MAX_TEXT: usize = 20_000;
/// Longest id, in characters.
pub const MAX_ID: usize = 128;
/// Largest profile, in bytes of JSON.
pub const MAX_PROFILE: usize = 8 * 1024;
/// Where a message comes from when nobody says so.
pub(crate) const DEFAULT_CHANNEL: &str = "api";
/// Turns of a conversation that the policy sees.
const WINDOW: i64 = 20;
/// Intents in an answer.
const TOP_INTENTS: usize = 5;

/// `reason` of a message that a person will answer.
const OWNED_BY_AGENT: &str = "owned_by_agent";
/// `reason` of the fixed sentence for a picture, a voice message and so on.
const NON_TEXT: &str = "non_text";
/// `reason` of the fixed sentence for a message without a word.
const EMPTY: &str = "empty_message";
/// `reason` of what a rule says.
const RULE: &str = "rule";
/// `reason` of what a guided flow says or asks.
const FLOW: &str = "flow";
/// `reason` of the fixed sentence where the reply store does not answer.
const UNAVAILABLE: &str = "knowledge_unavailable";

/// What kind of message it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    /// Words.
    #[default]
    Text,
    /// A picture.
    Image,
    /// A voice message.
    Voice,
    /// A file.
    File,
    /// A place.
    Location,
}

impl MessageType {
    /// What is stored in place of what cannot be read, the sentence that answers it.
    fn placeholder(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("[空消息]", "没有收到文字内容，请输入您想咨询的问题，或回复「人工」转人工客服。"),
            Self::Image => {
                ("[图片]", "收到您的图片啦，我暂时看不懂图片，麻烦用文字描述一下问题，或回复「人工」转人工客服。")
            }
            Self::Voice => {
                ("[语音]", "收到您的语音啦，我暂时听不懂语音，麻烦用文字描述一下问题，或回复「人工」转人工客服。")
            }
            Self::File => {
                ("[文件]", "收到您的文件啦，我暂时打不开文件，麻烦用文字描述一下问题，或回复「人工」转人工客服。")
            }
            Self::Location => {
                ("[位置]", "收到您的位置啦，我暂时看不懂位置信息，麻烦用文字描述一下问题，或回复「人工」转人工客服。")
            }
        }
    }
}

/// A message as a caller sends it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Incoming {
    /// The caller's id of the session, 1 to 128 characters. A session is made by its first message.
    #[schema(example = "s-20260101-0001")]
    pub session_id: String,
    /// The caller's id of the customer.
    #[schema(example = "u-42")]
    pub user_id: Option<String>,
    /// What the customer wrote, up to 20,000 characters. May be left out when `type` is not `text`.
    #[schema(example = "我想退货，怎么操作？")]
    pub text: Option<String>,
    /// The caller's id of the message: the same id in the same session gets the same answer, once.
    #[schema(example = "m-1")]
    pub message_id: Option<String>,
    /// Where it comes from: lower-case letters and `_`; `api` when left out.
    #[schema(example = "web")]
    pub channel: Option<String>,
    /// What the caller knows of the customer: a JSON object of at most 8 KiB. Stored with personal data masked. Texts and numbers
    /// fill slots of answers by their names; `audience` (such as `vip`), `viewed` and `bought` (products, latest first) are
    /// texts or lists of texts.
    #[schema(value_type = Option<Object>)]
    pub profile: Option<serde_json::Value>,
    /// What kind of message it is.
    #[serde(rename = "type", default)]
    pub kind: MessageType,
}

/// A message that has been checked.
#[derive(Clone, Debug)]
pub struct Message {
    session_id: String,
    user_id: Option<String>,
    /// `None` when there is nothing for the model to read.
    text: Option<String>,
    message_id: Option<String>,
    channel: Option<String>,
    profile: Option<serde_json::Value>,
    kind: MessageType,
}

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
    /// `rule` or `flow`; `rule` or `flow` also of what these say; `owned_by_agent` when silent; `non_text` or `empty_message`
    /// where there was nothing to read; `knowledge_unavailable` where the knowledge could not be looked at.
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
    /// The model that read it.
    pub model: String,
    /// Where the time went.
    pub timings: TimingsBody,
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

/// NUL is in no text that people write, and PostgreSQL cannot store it.
pub(crate) fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

/// A text of 1 to [`MAX_TEXT`] characters after trimming.
pub(crate) fn checked_text(field: &str, text: String) -> Result<String, ApiError> {
    let text = without_nul(text);
    let text = text.trim();
    match text.chars().count() {
        0 => Err(ApiError::field(field, "不能为空")),
        1..=MAX_TEXT => Ok(text.to_owned()),
        length => Err(ApiError::field(field, format!("最多 {MAX_TEXT} 个字符，收到 {length} 个"))),
    }
}

/// An id or a name of 1 to [`MAX_ID`] characters without control characters.
pub(crate) fn checked_id(field: &str, id: String) -> Result<String, ApiError> {
    match id.chars().count() {
        0 => Err(ApiError::field(field, "不能为空")),
        1..=MAX_ID if id.chars().any(char::is_control) => Err(ApiError::field(field, "不能包含控制字符")),
        1..=MAX_ID => Ok(id),
        length => Err(ApiError::field(field, format!("最多 {MAX_ID} 个字符，收到 {length} 个"))),
    }
}

impl Message {
    /// Checks a message.
    ///
    /// # Errors
    ///
    /// When a field is missing or wrong; the error names it.
    pub fn check(incoming: Incoming) -> Result<Self, ApiError> {
        let session_id = checked_id("session_id", incoming.session_id)?;
        let user_id = incoming.user_id.map(|id| checked_id("user_id", id)).transpose()?;
        let message_id = incoming.message_id.map(|id| checked_id("message_id", id)).transpose()?;
        if let Some(channel) = &incoming.channel
            && (!(1..=32).contains(&channel.len())
                || !channel.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'))
        {
            return Err(ApiError::field("channel", "须为 1 到 32 个小写英文字母或下划线"));
        }
        if let Some(profile) = &incoming.profile {
            if !profile.is_object() {
                return Err(ApiError::field("profile", "须为 JSON 对象"));
            }
            let size = profile.to_string().len();
            if size > MAX_PROFILE {
                return Err(ApiError::field("profile", format!("最多 {MAX_PROFILE} 字节，收到 {size} 字节")));
            }
        }
        if incoming.text.is_none() && incoming.kind == MessageType::Text {
            return Err(ApiError::field("text", "缺失：文字消息须带 text；图片、语音等请用 type 说明"));
        }
        let text = match incoming.text {
            Some(text) if !without_nul(text.clone()).trim().is_empty() => Some(checked_text("text", text)?),
            _ => None,
        };
        Ok(Self {
            session_id,
            user_id,
            text,
            message_id,
            channel: incoming.channel,
            profile: incoming.profile,
            kind: incoming.kind,
        })
    }
}

/// What was understood of a message, and what the bot says if it may.
struct Judged {
    intents: Vec<RankedLabel>,
    sentiment: Option<SentimentScores>,
    hits: Vec<Hit>,
    timings: Timings,
    bot: Option<Bot>,
    /// Where a flow waits when the bot has spoken, as JSON.
    flow: Option<String>,
}

/// What the bot says.
struct Bot {
    outcome: Outcome,
    text: String,
    parts: Vec<Part>,
    related: Vec<RelatedItem>,
    /// Whether the text may hold what is known of the customer: it is stored masked.
    personal: bool,
    choices: Option<Vec<ChoiceItem>>,
    reason: Option<&'static str>,
    knowledge_id: Option<String>,
    rule: Option<String>,
    flow: Option<String>,
    escalation: Option<(EscalationReason, String)>,
}

impl Bot {
    fn plain(outcome: Outcome) -> Self {
        Self {
            outcome,
            text: String::new(),
            parts: Vec::new(),
            related: Vec::new(),
            personal: false,
            choices: None,
            reason: None,
            knowledge_id: None,
            rule: None,
            flow: None,
            escalation: None,
        }
    }
}

impl From<Decision> for Bot {
    fn from(decision: Decision) -> Self {
        let plain = Self::plain(decision.kind().into());
        match decision {
            Decision::Reply { text, knowledge_id } => Self { text, knowledge_id, ..plain },
            Decision::Clarify { text, choices } => {
                let choices = choices
                    .into_iter()
                    .map(|choice| ChoiceItem { knowledge_id: choice.knowledge_id, question: choice.question })
                    .collect();
                Self { text, choices: Some(choices), ..plain }
            }
            Decision::OutOfScope { text } | Decision::NoAnswer { text } => Self { text, ..plain },
            Decision::Escalate { text, reason, detail } => {
                Self { text, reason: Some(reason.as_str()), escalation: Some((reason, detail)), ..plain }
            }
        }
    }
}

/// One lock per session that has a message in work.
#[derive(Clone, Default)]
struct SessionLocks(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

struct SessionGuard {
    locks: SessionLocks,
    id: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl SessionLocks {
    /// Waits until all earlier messages of the session are done; first come, first served.
    async fn lock(&self, id: &str) -> SessionGuard {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(id.to_owned()).or_default())
        };
        SessionGuard { locks: self.clone(), id: id.to_owned(), guard: Some(lock.lock_owned().await) }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut locks = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits holds a second reference; nobody can get one while the map is locked.
        if locks.get(&self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.id);
        }
    }
}

/// The way from a message to its answer.
#[derive(Clone)]
pub struct Chat {
    engine: Engine,
    storage: Storage,
    webhook: Webhook,
    locks: SessionLocks,
}

impl Chat {
    /// A chat over an engine and a database.
    pub fn new(engine: Engine, storage: Storage) -> Self {
        Self { engine, storage, webhook: Webhook::new(), locks: SessionLocks::default() }
    }

    /// Answers a message and stores both. The answer is stored when this returns.
    ///
    /// # Errors
    ///
    /// When too much waits already, or the model or the database fails; then nothing is stored.
    pub async fn handle(&self, message: Message) -> Result<Answer, ApiError> {
        let _turn = self.locks.lock(&message.session_id).await;
        let started = Instant::now();
        if let Some(message_id) = &message.message_id
            && let Some(json) = self.storage.answer(&message.session_id, message_id).await?
        {
            return Ok(Answer { json, replayed: true });
        }
        let details = SessionDetails {
            user_id: message.user_id.clone(),
            channel: message.channel.clone(),
            profile: message.profile.clone().map(|profile| self.masked_json(profile).to_string()),
        };
        // The session is read, the model asked, and the session read again when the answer is stored. One that was given back to
        // the bot in between must be answered after all, and so must one whose flow another replica has moved; hence the second
        // round.
        for _ in 0..3 {
            let session = self.storage.session(&message.session_id).await?;
            let judged = match session.as_ref().map(|session| session.owner) {
                Some(Owner::Agent) => self.listen(&message).await,
                Some(Owner::Bot) | None => self.judge(&message, session.as_ref()).await?,
            };
            let flow = session.and_then(|session| session.flow);
            if let Some(answer) = self.store(&message, &details, flow, judged, started).await? {
                return Ok(answer);
            }
        }
        Err(ApiError::Internal("the session kept changing while a message was answered".to_owned()))
    }

    /// What the bot makes of a message in its own session.
    async fn judge(&self, message: &Message, session: Option<&Session>) -> Result<Judged, ApiError> {
        let Some(text) = &message.text else {
            let reason = if message.kind == MessageType::Text { EMPTY } else { NON_TEXT };
            let bot = Bot {
                text: message.kind.placeholder().1.to_owned(),
                reason: Some(reason),
                ..Bot::plain(Outcome::Clarify)
            };
            return Ok(Judged {
                intents: Vec::new(),
                sentiment: None,
                hits: Vec::new(),
                timings: Timings::default(),
                bot: Some(bot),
                flow: session.and_then(|session| session.flow.clone()),
            });
        };
        let turns = match session {
            Some(session) => self.storage.last_turns(&session.id, session.resolved_seq, WINDOW).await?,
            None => Vec::new(),
        };
        let conversation = Conversation {
            turns: turns.into_iter().map(past).collect(),
            asker: asker(message, session),
            flow: session.and_then(flow_of),
        };
        let response = self.engine.respond(&conversation, text).await?;
        let (decision, progress) =
            self.make_calls(message, session, &conversation, response.decision, response.flow).await;
        let flow = progress.state.map(|state| serde_json::to_string(&state)).transpose();
        let flow = flow.map_err(|error| ApiError::Internal(format!("a flow cannot be written as JSON: {error}")))?;
        let mut bot = Bot { rule: response.rule, flow: progress.flow, ..Bot::from(decision) };
        bot.text = without_nul(bot.text);
        if bot.flow.is_some() {
            (bot.reason, bot.choices) = (Some(FLOW), None);
        } else if bot.rule.is_some() {
            bot.reason = Some(RULE);
        }
        bot.related = response.related.into_iter().map(offered).collect();
        if response.unavailable && bot.outcome == Outcome::NoAnswer {
            bot.reason = Some(UNAVAILABLE);
        }
        // What filled a slot may be personal data.
        bot.personal = bot.rule.is_some() || bot.flow.is_some();
        if let Some(hit) = response.hits.iter().find(|hit| Some(&hit.knowledge_id) == bot.knowledge_id.as_ref()) {
            bot.parts = hit.parts.clone();
            bot.personal |= hit.personal;
        }
        Ok(Judged {
            intents: response.understanding.intents,
            sentiment: Some(response.understanding.sentiment),
            hits: response.hits,
            timings: response.timings,
            bot: Some(bot),
            flow,
        })
    }

    /// Makes the calls that a flow wants. No transaction is open meanwhile.
    async fn make_calls(
        &self,
        message: &Message,
        session: Option<&Session>,
        conversation: &Conversation,
        mut decision: Decision,
        mut progress: Progress,
    ) -> (Decision, Progress) {
        while let Some(call) = progress.call.take() {
            let body = serde_json::json!({
                "session_id": message.session_id,
                "message_id": message.message_id,
                "user_id": message.user_id.as_ref().or_else(|| session?.user_id.as_ref()),
                "channel": conversation.asker.channel.as_deref().unwrap_or("api"),
                "slots": call.send,
            });
            match self.webhook.call(&call, &body).await {
                // A flow that a reload took away meanwhile ends as if the call had failed.
                Ok(answer) => {
                    if let Some(next) = self.engine.answered(&call, &answer, &conversation.asker) {
                        (decision, progress) = next;
                    }
                }
                Err(error) => tracing::warn!(flow = call.flow(), %error, "the call of a flow failed"),
            }
        }
        (decision, progress)
    }

    /// What is understood of a message that a person will answer. The message counts even when the model does not.
    async fn listen(&self, message: &Message) -> Judged {
        let mut judged = Judged {
            intents: Vec::new(),
            sentiment: None,
            hits: Vec::new(),
            timings: Timings::default(),
            bot: None,
            flow: None,
        };
        let Some(text) = &message.text else { return judged };
        let started = Instant::now();
        match self.engine.understand(vec![text.clone()]).await {
            Ok(understood) => {
                if let Some(understanding) = understood.into_iter().next() {
                    judged.intents = understanding.intents;
                    judged.sentiment = Some(understanding.sentiment);
                }
                judged.timings.model_ms = started.elapsed().as_secs_f64() * 1000.0;
            }
            Err(EngineError::Busy { .. }) => tracing::warn!("busy: a message for an agent is stored without sentiment"),
            Err(error) => tracing::error!(%error, "a message for an agent is stored without sentiment"),
        }
        judged
    }

    /// Stores message, answer and flow in one transaction. `None`: the session is the bot's again, or its flow is no longer `flow`,
    /// from which the answer came; ask again.
    async fn store(
        &self,
        message: &Message,
        details: &SessionDetails,
        flow: Option<String>,
        judged: Judged,
        started: Instant,
    ) -> Result<Option<Answer>, ApiError> {
        let model = self.engine.info().model_id;
        let mut tx = self.storage.begin().await?;
        let mut session = tx.lock_session(&message.session_id, details).await?;
        if let Some(message_id) = &message.message_id
            && let Some(json) = tx.answer(&message.session_id, message_id).await?
        {
            // Another replica was faster.
            return Ok(Some(Answer { json, replayed: true }));
        }
        let bot = match (session.owner, judged.bot) {
            (Owner::Bot, None) => return Ok(None),
            (Owner::Bot, Some(_)) if session.flow != flow => return Ok(None),
            (Owner::Bot, Some(bot)) => Some(bot),
            // A person has taken over meanwhile: the bot does not speak.
            (Owner::Agent, _) => None,
        };
        let seq = session.last_seq + 1;
        let intent = judged.intents.first().map(|intent| (intent.label.clone(), f64::from(intent.probability)));
        let mut opened = None;
        let ticket_id = match &bot {
            Some(bot) => match &bot.escalation {
                None => None,
                Some((reason, detail)) => {
                    let ticket = NewTicket {
                        session_id: session.id.clone(),
                        reason: reason.as_str().to_owned(),
                        detail: self.engine.mask(detail),
                        priority: Priority::of(*reason),
                        intent: intent.clone(),
                        sentiment: judged.sentiment,
                        model: model.clone(),
                        from_seq: (session.resolved_seq + 1).max(seq - WINDOW),
                        to_seq: seq,
                    };
                    let (id, new) = desk::escalate(&mut tx, &mut session, ticket).await?;
                    opened = new.then(|| reason.as_str());
                    Some(id)
                }
            },
            None => match tx.open_ticket_of(&session.id).await? {
                None => None,
                Some(ticket) => {
                    let data = serde_json::json!({ "seq": seq });
                    tx.add_ticket_event(&ticket.id, "customer_message", "customer", &data).await?;
                    Some(ticket.id)
                }
            },
        };
        let timings = Timings { total_ms: started.elapsed().as_secs_f64() * 1000.0, ..judged.timings };
        let response = ChatResponse {
            session_id: session.id.clone(),
            message_id: message.message_id.clone(),
            decision: bot.as_ref().map_or(Outcome::Silent, |bot| bot.outcome),
            reply: bot.as_ref().map(|bot| bot.text.clone()),
            parts: bot.as_ref().map(|bot| bot.parts.clone()).unwrap_or_default(),
            related: bot.as_ref().map(|bot| bot.related.clone()).unwrap_or_default(),
            choices: bot.as_ref().and_then(|bot| bot.choices.clone()),
            intents: top(judged.intents),
            sentiment: judged.sentiment.map(Sentiment::from),
            matches: judged
                .hits
                .into_iter()
                .map(|hit| Match {
                    knowledge_id: hit.knowledge_id,
                    question: hit.question,
                    probability: hit.probability,
                    score: hit.score,
                })
                .collect(),
            reason: bot.as_ref().map_or(Some(OWNED_BY_AGENT), |bot| bot.reason).map(str::to_owned),
            rule: bot.as_ref().and_then(|bot| bot.rule.clone()),
            flow: bot.as_ref().and_then(|bot| bot.flow.clone()),
            ticket_id,
            model: model.clone(),
            timings: TimingsBody {
                queue_ms: timings.queue_ms,
                model_ms: timings.model_ms,
                search_ms: timings.search_ms,
                total_ms: timings.total_ms,
            },
        };
        let json = serde_json::to_string(&response)
            .map_err(|error| ApiError::Internal(format!("an answer cannot be written as JSON: {error}")))?;
        let user = NewTurn {
            text: self.stored_text(message),
            message_id: message.message_id.clone(),
            response_json: message.message_id.is_some().then(|| match &bot {
                Some(bot) if bot.personal => self.masked_answer(&response),
                _ => json.clone(),
            }),
            sentiment: judged.sentiment,
            intent,
            model: judged.sentiment.is_some().then(|| model.clone()),
            ..NewTurn::default()
        };
        tx.add_turn(&mut session, Role::User, user).await?;
        if let Some(bot) = bot {
            if judged.flow != session.flow {
                tx.set_flow(&mut session, judged.flow).await?;
            }
            let turn = NewTurn {
                text: if bot.personal { self.engine.mask(&bot.text) } else { bot.text },
                decision: Some(bot.outcome.as_str().to_owned()),
                reason: bot.reason.map(str::to_owned),
                knowledge_id: bot.knowledge_id,
                model: Some(model),
                ..NewTurn::default()
            };
            tx.add_turn(&mut session, Role::Bot, turn).await?;
        }
        tx.commit().await?;
        metrics::answered(response.decision.as_str(), response.reason.as_deref(), &timings);
        if let Some(reason) = opened {
            metrics::ticket_opened(reason);
        }
        Ok(Some(Answer { json, replayed: false }))
    }

    /// What is kept of an answer with personal data, for when its message comes again.
    fn masked_answer(&self, response: &ChatResponse) -> String {
        let reply = response.reply.as_ref().map(|reply| self.engine.mask(reply));
        let response = ChatResponse { reply, ..response.clone() };
        serde_json::to_string(&response).expect("plain data is always JSON")
    }

    /// What is kept of a message.
    fn stored_text(&self, message: &Message) -> String {
        let placeholder = message.kind.placeholder().0;
        match (&message.text, message.kind) {
            (Some(text), MessageType::Text) => self.engine.mask(text),
            (Some(text), _) => format!("{placeholder} {}", self.engine.mask(text)),
            (None, _) => placeholder.to_owned(),
        }
    }

    /// The same JSON with personal data masked in texts, keys and numbers.
    fn masked_json(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        let masked = |text: String| self.engine.mask(&without_nul(text));
        match value {
            Value::String(text) => Value::String(masked(text)),
            Value::Number(number) => {
                let text = number.to_string();
                let hidden = masked(text.clone());
                if hidden == text { Value::Number(number) } else { Value::String(hidden) }
            }
            Value::Array(items) => items.into_iter().map(|item| self.masked_json(item)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(key, value)| (masked(key), self.masked_json(value))).collect()
            }
            Value::Null | Value::Bool(_) => value,
        }
    }
}

/// The likeliest intents.
pub(crate) fn top(intents: Vec<RankedLabel>) -> Vec<IntentScore> {
    intents
        .into_iter()
        .take(TOP_INTENTS)
        .map(|intent| IntentScore { label: intent.label, probability: intent.probability })
        .collect()
}

/// Where the session's flow waits. One that this version cannot read is over.
fn flow_of(session: &Session) -> Option<FlowState> {
    let state = serde_json::from_str(session.flow.as_deref()?);
    state.inspect_err(|_| tracing::warn!("a session's flow cannot be read and is over")).ok()
}

fn offered(related: Related) -> RelatedItem {
    let done = if related.bought { "买" } else { "看" };
    RelatedItem {
        knowledge_id: related.knowledge_id,
        question: related.question,
        reason: format!("您{done}过{}", related.product),
    }
}

/// Who writes: by this message's profile, or the session's where it came without one.
fn asker(message: &Message, session: Option<&Session>) -> Asker {
    let stored = || session.and_then(|session| serde_json::from_str(session.profile.as_deref()?).ok());
    let profile = message.profile.clone().or_else(stored).unwrap_or_default();
    let texts = |name: &str| match &profile[name] {
        serde_json::Value::Array(items) => items.iter().filter_map(text_of).collect(),
        one => text_of(one).into_iter().collect::<Vec<String>>(),
    };
    let channel = message.channel.clone().or_else(|| session.map(|session| session.channel.clone()));
    let channel = channel.unwrap_or_else(|| DEFAULT_CHANNEL.to_owned());
    // Of a stored profile what is personal was masked: `[手机号]` fills no slot.
    let masked = |text: &str| message.profile.is_none() && text.contains('[') && text.contains(']');
    let fields = profile.as_object().into_iter().flatten();
    Asker {
        channel: Some(channel),
        audiences: texts("audience"),
        fields: fields
            .filter_map(|(name, value)| Some((name.clone(), text_of(value).filter(|text| !masked(text))?)))
            .collect(),
        viewed: texts("viewed"),
        bought: texts("bought"),
    }
}

/// A text or a number, if it says anything.
fn text_of(value: &serde_json::Value) -> Option<String> {
    let text = match value {
        serde_json::Value::String(text) => text.trim().to_owned(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// A stored turn as the policy needs it.
fn past(turn: Turn) -> PastTurn {
    // The fixed sentences for pictures and empty messages are no clarifying questions, and neither is what a flow asks.
    let fixed = matches!(turn.reason.as_deref(), Some(NON_TEXT | EMPTY | FLOW | UNAVAILABLE));
    let decision = match turn.decision.as_deref() {
        _ if fixed => None,
        Some("reply") => Some(DecisionKind::Reply),
        Some("clarify") => Some(DecisionKind::Clarify),
        Some("out_of_scope") => Some(DecisionKind::OutOfScope),
        Some("no_answer") => Some(DecisionKind::NoAnswer),
        Some("escalate") => Some(DecisionKind::Escalate),
        _ => None,
    };
    PastTurn { role: turn.role, text: turn.text, sentiment: turn.sentiment, decision }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(json: serde_json::Value) -> Incoming {
        serde_json::from_value(json).unwrap()
    }

    fn field_of(json: serde_json::Value) -> String {
        match Message::check(incoming(json)).unwrap_err() {
            ApiError::InvalidField { field, .. } => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        use serde_json::json;
        assert_eq!(field_of(json!({"session_id": "", "text": "你好"})), "session_id");
        assert_eq!(field_of(json!({"session_id": "a\nb", "text": "你好"})), "session_id");
        assert_eq!(field_of(json!({"session_id": "a\u{0}", "text": "你好"})), "session_id");
        assert_eq!(field_of(json!({"session_id": "s".repeat(129), "text": "你好"})), "session_id");
        assert_eq!(field_of(json!({"session_id": "s", "text": "你".repeat(20_001)})), "text");
        assert_eq!(field_of(json!({"session_id": "s"})), "text");
        assert_eq!(field_of(json!({"session_id": "s", "text": "好", "channel": "Web"})), "channel");
        assert_eq!(field_of(json!({"session_id": "s", "text": "好", "profile": []})), "profile");
        let profile = json!({"note": "好".repeat(3000)});
        assert_eq!(field_of(json!({"session_id": "s", "text": "好", "profile": profile})), "profile");
        assert_eq!(field_of(json!({"session_id": "s", "text": "好", "message_id": ""})), "message_id");
    }

    #[test]
    fn the_limits_themselves_are_fine() {
        use serde_json::json;
        let session_id = "会".repeat(128);
        let text = "你".repeat(20_000);
        assert!(Message::check(incoming(json!({"session_id": session_id, "text": text}))).is_ok());
    }

    #[test]
    fn an_empty_message_and_a_picture_have_nothing_to_read() {
        use serde_json::json;
        for body in [
            json!({"session_id": "s", "text": " \n\u{0}"}),
            json!({"session_id": "s", "type": "image"}),
            json!({"session_id": "s", "type": "voice", "text": ""}),
        ] {
            assert_eq!(Message::check(incoming(body)).unwrap().text, None);
        }
    }

    #[tokio::test]
    async fn a_session_lock_is_given_in_turn_and_forgotten_after() {
        let locks = SessionLocks::default();
        let first = locks.lock("s").await;
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { drop(locks.lock("s").await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        assert!(locks.0.lock().unwrap().is_empty());
    }
}
