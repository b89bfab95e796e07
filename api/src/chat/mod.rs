//! From one message to one stored answer. No HTTP types here: every channel comes through [`Chat::handle`].
//!
//! Messages of one session are handled one after another; the same `message_id` is answered once; and nothing is sent
//! before it is stored.

mod answer;
mod locks;
mod message;

use std::{iter, time::Instant};

pub(crate) use answer::top;
pub use answer::*;
use locks::SessionLocks;
pub use message::*;
pub(crate) use message::{check_profile, checked_id, checked_text, without_nul};
use yingda_engine::{
    Asker, Conversation, Decision, DecisionKind, Engine, EngineError, EscalationReason, Hit, Part, PastTurn,
    RankedLabel, Related, Role, SentimentScores, Timings,
    rules::{FlowState, NextStep, Progress},
};

use crate::desk::language::language;
use crate::desk::survey::DECISION;
use crate::desk::{self, Priority};
use crate::error::ApiError;
use crate::metrics;
use crate::request::Client;
use crate::storage::{
    Belongs, NewTicket, NewTurn, Owner, Session, SessionDetails, Storage, StoredMessage, Turn, new_id,
};

/// Where a message comes from when nobody says so.
pub(crate) const DEFAULT_CHANNEL: &str = "api";
/// Turns of a conversation that the policy sees.
const WINDOW: i64 = 20;

/// The field of a profile that says which language the customer speaks.
pub(crate) const LANGUAGE: &str = "language";
/// The audience whose tickets are looked at sooner.
const VIP: &str = "vip";

/// `reason` of a message that a person will answer.
const OWNED_BY_AGENT: &str = "owned_by_agent";
/// `reason` of the fixed sentence for who called off a hand-over.
const CALLED_OFF: &str = "called_off";
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

/// What was understood of a message, and what the bot says if it may.
struct Judged {
    intents: Vec<RankedLabel>,
    sentiment: Option<SentimentScores>,
    hits: Vec<Hit>,
    timings: Timings,
    bot: Option<Bot>,
    /// What the bot says if a hand-over can be called off, where the customer does so.
    called_off: Option<String>,
    /// Where a flow waits when the bot has spoken, as JSON.
    flow: Option<String>,
    /// How negative the customer's last messages were, oldest first, this one last.
    mood: Vec<f32>,
    vip: bool,
    /// The language that the customer speaks, where it is known.
    language: Option<String>,
}

impl Judged {
    /// Nothing is understood, and the bot says nothing.
    fn nothing() -> Self {
        Self {
            intents: Vec::new(),
            sentiment: None,
            hits: Vec::new(),
            timings: Timings::default(),
            bot: None,
            called_off: None,
            flow: None,
            mood: Vec::new(),
            vip: false,
            language: None,
        }
    }
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

/// The way from a message to its answer.
#[derive(Clone)]
pub struct Chat {
    engine: Engine,
    storage: Storage,
    client: Client,
    locks: SessionLocks,
}

impl Chat {
    /// A chat over an engine and a database.
    pub fn new(engine: Engine, storage: Storage) -> Self {
        Self { engine, storage, client: Client::new(), locks: SessionLocks::default() }
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
            && let Some(stored) = self.storage.message(&message.session_id, message_id).await?
        {
            return self.replayed(&message, stored);
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
            let judged = match &session {
                Some(session) if session.owner == Owner::Agent => self.listen(&message, session).await?,
                session => self.judge(&message, session.as_ref()).await?,
            };
            let flow = session.and_then(|session| session.flow);
            if let Some(answer) = self.store(&message, &details, flow, judged, started).await? {
                return Ok(answer);
            }
        }
        Err(ApiError::Internal("the session kept changing while a message was answered".to_owned()))
    }

    /// The answer that a message with the same id got, if it was the same message, and no form.
    fn replayed(&self, message: &Message, stored: StoredMessage) -> Result<Answer, ApiError> {
        let same = self.stored_text(message) == stored.text;
        let json = stored.answer.filter(|_| same).ok_or(ApiError::MessageIdReused)?;
        Ok(Answer { json, replayed: true })
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
            let flow = session.and_then(|session| session.flow.clone());
            return Ok(Judged { bot: Some(bot), flow, ..Judged::nothing() });
        };
        let turns = match session {
            Some(session) => self.storage.last_turns(&session.id, session.resolved_seq, WINDOW).await?,
            None => Vec::new(),
        };
        let conversation = Conversation {
            // What invites to a survey is no part of what is talked about.
            turns: turns.into_iter().filter(|turn| turn.decision.as_deref() != Some(DECISION)).map(past).collect(),
            asker: asker(message.profile.clone(), message.channel.clone(), session),
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
        let sentiments = conversation.turns.iter().filter_map(|turn| turn.sentiment);
        let mood = sentiments.chain([response.understanding.sentiment]).map(|scores| scores.negative).collect();
        let said = conversation.asker.fields.get(LANGUAGE).map(String::as_str);
        let earlier = conversation.turns.iter().rev().filter(|turn| turn.role == Role::User);
        let written = iter::once(text.as_str()).chain(earlier.map(|turn| turn.text.as_str()));
        // Only a ticket needs it.
        let language = bot.escalation.is_some().then(|| language(said, written)).flatten();
        Ok(Judged {
            intents: response.understanding.intents,
            sentiment: Some(response.understanding.sentiment),
            hits: response.hits,
            timings: response.timings,
            bot: Some(bot),
            called_off: None,
            flow,
            mood,
            vip: has_vip(&conversation.asker.audiences),
            language,
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
                "channel": conversation.asker.channel.as_deref().unwrap_or(DEFAULT_CHANNEL),
                "slots": call.send,
            });
            match self.client.call(&call, &body).await {
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

    /// What the flow asks next that waits in a session.
    pub(crate) fn next_step(&self, session: &Session) -> Option<NextStep> {
        self.engine.next_step(&flow_of(session)?, &asker(None, None, Some(session)))
    }

    /// What is understood of a message that a person will answer. The message counts even when the model does not.
    async fn listen(&self, message: &Message, session: &Session) -> Result<Judged, ApiError> {
        let mut judged = Judged::nothing();
        let Some(text) = &message.text else { return Ok(judged) };
        // What was said before is only read where it matters.
        if self.engine.called_off(text, []).is_some() {
            let turns = self.storage.last_turns(&session.id, session.resolved_seq, WINDOW).await?;
            let said = turns.iter().filter(|turn| turn.role == Role::User).map(|turn| turn.text.as_str());
            judged.called_off = self.engine.called_off(text, said);
        }
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
        Ok(judged)
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
            && let Some(stored) = tx.message(&message.session_id, message_id).await?
        {
            // Another replica was faster.
            return self.replayed(message, stored).map(Some);
        }
        let mut bot = match (session.owner, judged.bot) {
            (Owner::Bot, None) => return Ok(None),
            (Owner::Bot, Some(_)) if session.flow != flow => return Ok(None),
            (Owner::Bot, Some(bot)) => Some(bot),
            // A person has taken over meanwhile: the bot does not speak.
            (Owner::Agent, _) => None,
        };
        let mut called_off = None;
        if let (None, Some(text)) = (&bot, judged.called_off) {
            called_off = desk::call_off(&mut tx, &mut session).await?;
            bot = called_off.as_ref().map(|_| Bot { text, reason: Some(CALLED_OFF), ..Bot::plain(Outcome::Reply) });
        }
        let seq = session.last_seq + 1;
        let intent = judged.intents.first().map(|intent| (intent.label.clone(), f64::from(intent.probability)));
        let mut opened = None;
        let ticket_id = match &bot {
            Some(bot) => match &bot.escalation {
                None => called_off,
                Some((reason, detail)) => {
                    let ticket = NewTicket {
                        session_id: session.id.clone(),
                        source: "escalation",
                        reason: reason.as_str().to_owned(),
                        detail: self.engine.mask(detail),
                        priority: Priority::of(*reason, &judged.mood, judged.vip),
                        vip: judged.vip,
                        language: judged.language,
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
            None => desk::customer_wrote(&mut tx, &session, seq).await?,
        };
        let attachment = match &message.file {
            None => None,
            Some(file) => {
                if let Some(milliseconds) = tx.wait_for_attachment(&session.id, file.per_hour).await? {
                    return Err(ApiError::too_many_attachments(milliseconds));
                }
                Some(tx.add_attachment(new_id(), &session.id, Belongs::Turn(seq), file).await?.into())
            }
        };
        let timings = Timings { total_ms: started.elapsed().as_secs_f64() * 1000.0, ..judged.timings };
        let response = ChatResponse {
            session_id: session.id.clone(),
            message_id: message.message_id.clone(),
            seq,
            reply_seq: bot.is_some().then_some(seq + 1),
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
            attachment,
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
    pub(crate) fn masked_json(&self, value: serde_json::Value) -> serde_json::Value {
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

/// Who writes: by a message's profile and channel, or the session's where it came without them.
fn asker(said: Option<serde_json::Value>, channel: Option<String>, session: Option<&Session>) -> Asker {
    let stored = || session.and_then(|session| serde_json::from_str(session.profile.as_deref()?).ok());
    let is_masked = said.is_none();
    let profile = said.or_else(stored).unwrap_or_default();
    let texts = |name: &str| texts(&profile[name]);
    let channel = channel.or_else(|| session.map(|session| session.channel.clone()));
    let channel = channel.unwrap_or_else(|| DEFAULT_CHANNEL.to_owned());
    // Of a stored profile what is personal was masked: `[手机号]` fills no slot.
    let masked = |text: &str| is_masked && text.contains('[') && text.contains(']');
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

/// A text, or each of a list.
fn texts(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Array(items) => items.iter().filter_map(text_of).collect(),
        one => text_of(one).into_iter().collect(),
    }
}

/// Whether a customer with this profile is a VIP.
pub(crate) fn is_vip(profile: &serde_json::Value) -> bool {
    has_vip(&texts(&profile["audience"]))
}

fn has_vip(audiences: &[String]) -> bool {
    audiences.iter().any(|audience| audience.eq_ignore_ascii_case(VIP))
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
