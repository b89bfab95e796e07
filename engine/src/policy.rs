//! The reply decision: a pure function of calibrated scores, what was found, and the last turns.
//!
//! It answers when it may, asks once when it is unsure, and hands over to a person when it must. The probabilities that it
//! judges are passed on to the caller as they are, whatever it decides.

use serde::{Deserialize, Serialize};
use yingda_models::{Guarantee, Thresholds};

use crate::{
    AnswerThresholds, Choice, Conversation, Decision, DecisionKind, EngineError, EscalationReason, Hit, RankedLabel,
    Role, SentimentScores, ranking::certainty,
};

/// Words, labels, thresholds and fixed sentences of the decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Thresholds; when absent those of the model folder hold, with what was certified for single intents.
    pub thresholds: Option<Thresholds>,
    /// From which probability on an entry is answered with; when absent those of the store hold (`yingda tune`).
    pub answers: Option<AnswerThresholds>,
    /// A message that contains one of these reaches a person.
    pub handoff_words: Vec<String>,
    /// Words that contain a handoff or person word and mean something else; they are taken out before looking.
    pub harmless_words: Vec<String>,
    /// A message that contains one of these asks for a person.
    pub person_words: Vec<String>,
    /// A message that is nothing but one of these asks for a person.
    pub person_messages: Vec<String>,
    /// A message that is nothing but one of these calls off a wish for a person, as long as no person has taken it up.
    pub call_off_messages: Vec<String>,
    /// Intents that ask for a person.
    pub person_intents: Vec<String>,
    /// Intents that reach a person as a complaint.
    pub complaint_intents: Vec<String>,
    /// Intents that mean: nothing the shop does.
    pub out_of_scope_intents: Vec<String>,
    /// Messages that want no answer of their own, such as 好的.
    pub acknowledgements: Vec<String>,
    /// How many of the customer's last messages in a row must be negative before a person takes over.
    pub negative_turns: usize,
    /// Said when handing over.
    pub escalate_text: String,
    /// Said when handing over an unhappy customer.
    pub apologise_text: String,
    /// Said to who called off the hand-over.
    pub called_off_text: String,
    /// Put before an answer to an unhappy customer.
    pub sorry_prefix: String,
    /// Said when there are questions to choose from.
    pub clarify_text: String,
    /// Said when there are none.
    pub rephrase_text: String,
    /// Said to what the shop does not do.
    pub out_of_scope_text: String,
    /// Said where the knowledge has no answer.
    pub no_answer_text: String,
    /// Said where the knowledge cannot be looked at.
    pub unavailable_text: String,
    /// Said to an acknowledgement.
    pub acknowledge_text: String,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self {
            thresholds: None,
            answers: None,
            handoff_words: words(&[
                "投诉", "12315", "12345", "消协", "工商局", "市监局", "市场监管", "起诉", "律师函", "法院", "报警", "媒体", "曝光", "记者",
                "自杀", "不想活", "轻生", "受伤", "烫伤", "触电", "起火", "着火", "爆炸", "过敏住院",
            ]),
            harmless_words: words(&["多媒体", "自媒体", "流媒体", "新媒体", "人工智能", "人工费", "防爆炸"]),
            person_words: words(&[
                "转人工", "人工客服", "人工服务", "找人工", "要人工", "接人工", "真人", "活人", "不要机器人", "别机器人", "转接客服", "找个人",
            ]),
            person_messages: words(&["人工", "客服", "人", "在线客服", "人工人工", "rengong"]),
            call_off_messages: words(&[
                "不用了", "不用啦", "先不用了", "算了", "算了吧", "算了不用了", "不用人工", "不用人工了", "不用客服了", "不要人工了", "不需要了", "不需要人工了",
                "不需要人工客服了", "不用转了", "不转了", "别转了", "不用转人工", "不用转人工了", "别转人工了", "不转人工了", "取消", "取消转人工", "取消人工",
                "取消转接", "不找人工了", "不等了", "没事了",
            ]),
            person_intents: words(&["转人工"]),
            complaint_intents: words(&["投诉"]),
            out_of_scope_intents: words(&["out_of_scope"]),
            acknowledgements: words(&[
                "好", "好的", "好吧", "好哒", "好滴", "嗯", "嗯嗯", "嗯嗯嗯", "哦", "哦哦", "噢", "ok", "okk", "行", "行吧", "可以", "收到",
                "知道了", "知道啦", "明白", "明白了", "了解", "了解了", "对", "对的", "是", "是的", "1", "不用", "不用了", "不用啦", "没事", "没事了",
            ]),
            negative_turns: 2,
            escalate_text: "好的，正在为您转接人工客服，请稍等，客服会在这里回复您。".into(),
            apologise_text: "非常抱歉给您带来了不好的体验，已为您转接人工客服优先处理，请稍等，客服会在这里回复您。".into(),
            called_off_text: "好的，已经取消转接人工。有问题可以继续问我，需要时再回复「人工」。".into(),
            sorry_prefix: "很抱歉给您添麻烦了。".into(),
            clarify_text: "我想确认一下，您是想问下面哪个问题呢？都不是的话，请换个说法再告诉我一次。".into(),
            rephrase_text: "抱歉，我没太明白您的意思，可以换个说法再告诉我一次吗？也可以回复「人工」找客服。".into(),
            out_of_scope_text: "这个我帮不上忙哦。我可以帮您解答物流、退换货、退款、发票、优惠券、商品等购物问题，也可以回复「人工」找客服。".into(),
            no_answer_text: "抱歉，这个问题我暂时没有查到答案。您可以换个说法再问一次，或者回复「人工」，由客服为您解答。".into(),
            unavailable_text: "抱歉，答案库暂时连不上，请稍后再问一次；着急的话请回复「人工」，由客服为您解答。".into(),
            acknowledge_text: "好的，还有其他问题随时告诉我哦。".into(),
        }
    }
}

impl PolicyConfig {
    /// Whether the settings are usable.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), EngineError> {
        if self.negative_turns == 0 {
            return Err(EngineError::Policy(
                "policy.negative_turns is 0, so every message would reach a person; set it to 1 or more".into(),
            ));
        }
        for (name, words) in [
            ("handoff_words", &self.handoff_words),
            ("harmless_words", &self.harmless_words),
            ("person_words", &self.person_words),
        ] {
            if words.iter().any(|word| word.trim().is_empty()) {
                return Err(EngineError::Policy(format!(
                    "policy.{name} holds an empty word, which stands in every message; remove it"
                )));
            }
        }
        if let Some(thresholds) = &self.thresholds {
            for (name, value) in [
                ("intent_confidence", thresholds.intent_confidence),
                ("intent_gap", thresholds.intent_gap),
                ("negative", thresholds.negative),
            ] {
                if !(0.0..=1.0).contains(&value) {
                    return Err(EngineError::Policy(format!(
                        "policy.thresholds.{name} is {value}; it is a probability and must lie between 0 and 1"
                    )));
                }
            }
        }
        if let Some(answers) = &self.answers {
            for (name, value) in [("answer", answers.answer), ("relevant", answers.relevant)] {
                if !(0.0..=1.0).contains(&value) {
                    return Err(EngineError::Policy(format!(
                        "policy.answers.{name} is {value}; it is a probability and must lie between 0 and 1"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// All that a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The message as the model reads it: personal data masked, simplified, lower case.
    pub text: &'a str,
    /// Calibrated intents, likeliest first.
    pub intents: &'a [RankedLabel],
    /// Calibrated sentiment.
    pub sentiment: SentimentScores,
    /// What was found, likeliest first, one hit per entry.
    pub hits: &'a [Hit],
    /// Probability that an entry of the knowledge answers the message.
    pub relevant: f32,
    /// Whether the knowledge could not be looked at: what was not found may be there.
    pub unavailable: bool,
    /// The turns since the last resolution.
    pub conversation: &'a Conversation,
}

/// From which scores on the decision acts.
#[derive(Clone, Copy, Debug)]
pub struct Gates<'a> {
    /// Of intents and sentiment.
    pub thresholds: &'a Thresholds,
    /// Of answers.
    pub answers: AnswerThresholds,
    /// What was certified of the intents.
    pub guarantee: Option<&'a Guarantee>,
}

/// Decides without the rules of a file, which [`crate::rules::decide`] puts between 1 and 2. The first that fits holds:
///
/// 1. A word that must reach a person, a wish for a person, a complaint, or negative over the last turns: hand over.
/// 2. An acknowledgement: a short fixed reply.
/// 3. An answer that is probably right, and no other nearly as probable: reply.
/// 4. Nothing the shop does: say so, invent nothing.
/// 5. The knowledge could not be looked at: say so. That is no sign of being unsure.
/// 6. Unsure for the second time in a row: hand over.
/// 7. No answer known: say so.
/// 8. Otherwise ask which of the likeliest questions is meant.
///
/// Where intents were certified, one below its own threshold or too near to the second is not answered, nor is one that could
/// not be certified, unless the message is nearly word for word a question of the knowledge. Handing over to a person is no
/// automatic answer: for that the lower of the two thresholds is enough.
pub fn decide(situation: &Situation<'_>, config: &PolicyConfig, gates: Gates<'_>) -> Decision {
    person(situation, config, gates).unwrap_or_else(|| unruled(situation, config, gates))
}

/// The hand-over of what must reach a person, which comes before everything else.
pub(crate) fn person(situation: &Situation<'_>, config: &PolicyConfig, gates: Gates<'_>) -> Option<Decision> {
    let unhappy = situation.sentiment.negative >= gates.thresholds.negative;
    let (reason, detail) = must_reach_person(situation, config, gates)?;
    let text = match reason {
        EscalationReason::PersonRequested | EscalationReason::LowConfidence if !unhappy => &config.escalate_text,
        _ => &config.apologise_text,
    };
    Some(Decision::Escalate { text: text.clone(), reason, detail })
}

/// What is decided where neither a person must take over nor a rule or flow speaks ([`crate::rules::decide`]).
pub(crate) fn unruled(situation: &Situation<'_>, config: &PolicyConfig, gates: Gates<'_>) -> Decision {
    let unhappy = situation.sentiment.negative >= gates.thresholds.negative;
    if is_one_of(situation.text, &config.acknowledgements) {
        return Decision::Reply { text: config.acknowledge_text.clone(), knowledge_id: None };
    }
    if let Some(hit) = reply(situation, config, gates) {
        let text = if unhappy { format!("{}{}", config.sorry_prefix, hit.answer) } else { hit.answer.clone() };
        return Decision::Reply { text, knowledge_id: Some(hit.knowledge_id.clone()) };
    }
    if let Some(top) = situation.intents.first()
        && config.out_of_scope_intents.contains(&top.label)
        && gap(situation.intents) >= gates.thresholds.intent_gap
    {
        return Decision::OutOfScope { text: config.out_of_scope_text.clone() };
    }
    if situation.unavailable {
        return Decision::NoAnswer { text: config.unavailable_text.clone() };
    }
    let last = situation.conversation.turns.iter().rev().find(|turn| turn.role == Role::Bot);
    if last.is_some_and(|turn| matches!(turn.decision, Some(DecisionKind::Clarify | DecisionKind::NoAnswer))) {
        let detail =
            situation.intents.first().map_or(String::new(), |top| format!("{} {:.2}", top.label, top.probability));
        let text = if unhappy { &config.apologise_text } else { &config.escalate_text };
        return Decision::Escalate { text: text.clone(), reason: EscalationReason::LowConfidence, detail };
    }
    if situation.relevant < gates.answers.relevant {
        return Decision::NoAnswer { text: config.no_answer_text.clone() };
    }
    let choices = choices(situation);
    let text = if choices.is_empty() { &config.rephrase_text } else { &config.clarify_text };
    Decision::Clarify { text: text.clone(), choices }
}

/// Whether a text calls off a wish for a person, of which nothing that was said before must reach one.
pub(crate) fn calls_off(text: &str, before: &[String], config: &PolicyConfig) -> bool {
    let must_reach = |text: &String| {
        let text = without_harmless(text, config);
        config.handoff_words.iter().any(|word| says(&text, word))
    };
    is_one_of(text, &config.call_off_messages) && !before.iter().any(must_reach)
}

/// A text without the words that contain a handoff or person word and mean something else.
fn without_harmless(text: &str, config: &PolicyConfig) -> String {
    config.harmless_words.iter().fold(text.to_owned(), |text, word| text.replace(word.as_str(), " "))
}

fn must_reach_person(
    situation: &Situation<'_>,
    config: &PolicyConfig,
    Gates { thresholds, guarantee, .. }: Gates<'_>,
) -> Option<(EscalationReason, String)> {
    let text = without_harmless(situation.text, config);
    let found = |words: &[String]| words.iter().find(|word| says(&text, word)).cloned();
    if let Some(word) = found(&config.handoff_words) {
        return Some((EscalationReason::HandoffWord, word));
    }
    if let Some(word) = found(&config.person_words) {
        return Some((EscalationReason::PersonRequested, word));
    }
    if is_one_of(&text, &config.person_messages) {
        return Some((EscalationReason::PersonRequested, situation.text.trim().to_owned()));
    }
    if let Some(top) = situation.intents.first()
        && top.probability >= least_confidence(&top.label, thresholds, guarantee).min(thresholds.intent_confidence)
        && gap(situation.intents) >= thresholds.intent_gap
    {
        let detail = || format!("{} {:.2}", top.label, top.probability);
        if config.person_intents.contains(&top.label) {
            return Some((EscalationReason::PersonRequested, detail()));
        }
        if config.complaint_intents.contains(&top.label) {
            return Some((EscalationReason::Complaint, detail()));
        }
    }
    let earlier = situation.conversation.turns.iter().rev().filter(|turn| turn.role == Role::User);
    let scores: Vec<f32> = std::iter::once(situation.sentiment.negative)
        .chain(earlier.filter_map(|turn| turn.sentiment).map(|sentiment| sentiment.negative))
        .take(config.negative_turns)
        .collect();
    if scores.len() == config.negative_turns && scores.iter().all(|&score| score >= thresholds.negative) {
        let detail: Vec<String> = scores.iter().rev().map(|score| format!("{score:.2}")).collect();
        return Some((EscalationReason::NegativeSentiment, detail.join(" → ")));
    }
    None
}

/// The probability from which an intent is answered automatically; infinite for one that never is.
fn least_confidence(label: &str, thresholds: &Thresholds, guarantee: Option<&Guarantee>) -> f32 {
    match guarantee.and_then(|guarantee| guarantee.per_intent.get(label)) {
        Some(own) => own.threshold.unwrap_or(f32::INFINITY),
        None => thresholds.intent_confidence,
    }
}

/// Cosine similarity from which a message is nearly word for word a question of the knowledge.
const WORD_FOR_WORD: f32 = 0.95;

fn reply<'a>(situation: &Situation<'a>, config: &PolicyConfig, gates: Gates<'_>) -> Option<&'a Hit> {
    let best = situation.hits.first()?;
    let sure = certainty(situation.hits.iter().map(|hit| hit.probability)) >= gates.answers.answer;
    // What was certified holds for messages that pass all of these, and for no others.
    let passes = |top: &RankedLabel| {
        top.probability >= least_confidence(&top.label, gates.thresholds, gates.guarantee)
            && gap(situation.intents) >= gates.thresholds.intent_gap
            && !config.out_of_scope_intents.contains(&top.label)
    };
    let certified = gates.guarantee.is_none() || situation.intents.first().is_none_or(passes);
    (sure && (certified || best.score >= WORD_FOR_WORD)).then_some(best)
}

/// The most questions that a customer is asked to choose from.
const CHOICES: usize = 3;

/// A question this much less likely than the first is not worth reading.
const WORTH_ASKING: f32 = 0.1;

fn choices(situation: &Situation<'_>) -> Vec<Choice> {
    let best = situation.hits.first().map_or(0.0, |hit| hit.probability);
    let worth = situation.hits.iter().filter(|hit| hit.probability >= WORTH_ASKING * best);
    let choice = |hit: &Hit| Choice { knowledge_id: hit.knowledge_id.clone(), question: hit.question.clone() };
    worth.take(CHOICES).map(choice).collect()
}

fn gap(intents: &[RankedLabel]) -> f32 {
    match intents {
        [first, second, ..] => first.probability - second.probability,
        [first] => first.probability,
        [] => 0.0,
    }
}

/// Whether a text contains a word. A number is one only by itself: 12345 is not among the digits of an order number.
fn says(text: &str, word: &str) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let number = word.bytes().all(|byte| byte.is_ascii_digit());
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        !(number && (digit(before) || digit(after)))
    })
}

/// Whether a message is nothing but one of `words`, blanks and punctuation aside.
pub(crate) fn is_one_of(text: &str, words: &[String]) -> bool {
    let bare: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    words.contains(&bare)
}
