//! Rules beside the model: what a message says may decide at once, whatever the model makes of it, and a small guided flow may
//! ask for what it needs. Pure: the call that a flow makes is made by whoever has a network.
//!
//! [`Rules::new`] checks a whole file and tells everything that is wrong with it; [`decide`] decides.

mod file;
mod flow;

use std::{collections::BTreeMap, ops::RangeInclusive};

use regex::Regex;

pub use flow::{Call, FlowState, NextStep, Progress};
use flow::{Flow, Run};

use crate::{
    Asker, Decision, EscalationReason, PolicyConfig,
    clock::day,
    policy::{Gates, Situation, is_one_of, person, unruled},
    slots,
};

/// Minutes that a flow waits for an answer; then it is over.
pub const PATIENCE_MINUTES: i64 = 30;

/// Rules and flows that were checked. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// In the order in which they are tried.
    rules: Vec<Rule>,
    flows: BTreeMap<String, Flow>,
    /// Messages that leave a flow.
    cancel_messages: Vec<String>,
    /// What is said then.
    cancel_text: String,
}

/// One rule: all conditions must hold.
#[derive(Clone, Debug)]
struct Rule {
    id: String,
    priority: i64,
    keywords: Vec<String>,
    all_keywords: Vec<String>,
    pattern: Option<Regex>,
    intents: Vec<String>,
    min_probability: f32,
    channels: Vec<String>,
    audiences: Vec<String>,
    /// Days on which it holds, as `YYYYMMDD`.
    days: RangeInclusive<i64>,
    action: Action,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Reply(String),
    Flow(String),
    Escalate,
    Knowledge(String),
}

/// A message as it was typed, and when it came.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'a> {
    /// Its text. Personal data is not masked: flows ask for it.
    pub text: &'a str,
    /// Milliseconds since 1970.
    pub now: i64,
}

/// What was decided, and by what.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What to do.
    pub decision: Decision,
    /// The rule that decided.
    pub rule: Option<String>,
    /// What became of the session's flow.
    pub progress: Progress,
}

impl Verdict {
    fn plain(decision: Decision) -> Self {
        Self { decision, rule: None, progress: Progress::default() }
    }
}

/// Decides. The first that fits holds:
///
/// 1. What must reach a person. A flow that waits goes on waiting, unless a resolution ends it.
/// 2. The flow that waits: it gets what it asked for, or is left with one of the messages for that, or by something else (another
///    rule, a knowledge entry that is surely meant), or asks again.
/// 3. The rules, in their order.
/// 4. Everything else, as [`crate::policy::decide`] says.
pub fn decide(
    rules: &Rules,
    typed: Typed<'_>,
    situation: &Situation<'_>,
    policy: &PolicyConfig,
    gates: Gates<'_>,
) -> Verdict {
    let conversation = situation.conversation;
    let run = Run { asker: &conversation.asker, starting: None, now: typed.now, escalate_text: &policy.escalate_text };
    let waiting = conversation.flow.as_ref().filter(|state| state.waits(typed.now));
    let asked = waiting.and_then(|state| {
        let flow = rules.flows.get(&state.flow)?;
        Some((state, flow, flow.asked(state)?))
    });
    let value = asked.and_then(|(_, _, (_, ask))| ask.find(typed.text));
    if let Some(decision) = person(situation, policy, gates) {
        let progress = Progress { state: waiting.cloned(), ..Progress::default() };
        return Verdict { decision, rule: None, progress };
    }
    let ruled = || rules.apply(typed, situation, policy, gates);
    let Some((state, flow, (step, ask))) = asked else {
        return ruled().unwrap_or_else(|| Verdict::plain(unruled(situation, policy, gates)));
    };
    let of_flow = |(decision, progress)| Verdict { decision, rule: None, progress };
    if is_one_of(situation.text, &rules.cancel_messages) {
        let decision = Decision::Reply { text: rules.cancel_text.clone(), knowledge_id: None };
        return of_flow((decision, Progress::of(flow)));
    }
    if let Some(value) = value {
        return of_flow(flow.filled(state, step, value, &run));
    }
    match ruled() {
        // Who asks for the same thing again asks for nothing else.
        Some(again) if again.progress.flow.as_ref() == Some(&state.flow) => {}
        Some(other) => return other,
        None => {
            let decision = unruled(situation, policy, gates);
            if matches!(decision, Decision::Reply { knowledge_id: Some(_), .. }) {
                return Verdict::plain(decision);
            }
        }
    }
    of_flow(flow.not_filled(state, ask, &run))
}

impl Rules {
    /// How many rules and how many flows there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.rules.len(), self.flows.len())
    }

    /// What flows call: the flow, the address, and the environment variable that holds the token.
    pub fn calls(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        self.flows.iter().flat_map(|(id, flow)| flow.calls().map(|(url, token)| (id.as_str(), url, token)))
    }

    /// Intents of rules that are not among `labels`, each with its rule: such a rule never applies.
    pub fn unknown_intents<'a>(&'a self, labels: &'a [String]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let named = self.rules.iter().flat_map(|rule| rule.intents.iter().map(|intent| (rule.id.as_str(), intent)));
        named.filter(|(_, intent)| !labels.contains(intent)).map(|(rule, intent)| (rule, intent.as_str()))
    }

    /// Goes on with a flow whose call was answered. `None` when that flow is no longer there.
    pub fn answered(
        &self,
        call: &Call,
        answer: &serde_json::Map<String, serde_json::Value>,
        asker: &Asker,
        policy: &PolicyConfig,
        now: i64,
    ) -> Option<(Decision, Progress)> {
        let run = Run { asker, starting: None, now, escalate_text: &policy.escalate_text };
        self.flows.get(call.flow())?.answered(call, answer, &run)
    }

    /// What a flow that waits asks for next. `None` when it has waited for too long, or is no longer there.
    pub fn next_step(&self, state: &FlowState, asker: &Asker, now: i64) -> Option<NextStep> {
        let run = Run { asker, starting: None, now, escalate_text: "" };
        self.flows.get(&state.flow).filter(|_| state.waits(now))?.next_step(state, &run)
    }

    /// What the first rule that applies says.
    fn apply(
        &self,
        typed: Typed<'_>,
        situation: &Situation<'_>,
        policy: &PolicyConfig,
        gates: Gates<'_>,
    ) -> Option<Verdict> {
        let asker = &situation.conversation.asker;
        let unhappy = situation.sentiment.negative >= gates.thresholds.negative;
        let day = day(typed.now);
        self.rules.iter().filter(|rule| rule.fits(situation, day)).find_map(|rule| {
            let mut progress = Progress::default();
            let decision = match &rule.action {
                Action::Reply(text) => {
                    let text = slots::fill(text, |name| asker.fields.get(name).cloned())?;
                    Decision::Reply { text, knowledge_id: None }
                }
                Action::Knowledge(id) => {
                    let hit = situation.hits.iter().find(|hit| hit.knowledge_id == *id)?;
                    let sorry = if unhappy { policy.sorry_prefix.as_str() } else { "" };
                    Decision::Reply { text: format!("{sorry}{}", hit.answer), knowledge_id: Some(id.clone()) }
                }
                Action::Escalate => {
                    let text = if unhappy { &policy.apologise_text } else { &policy.escalate_text };
                    Decision::Escalate { text: text.clone(), reason: EscalationReason::Rule, detail: rule.id.clone() }
                }
                Action::Flow(id) => {
                    let escalate_text = &policy.escalate_text;
                    let run = Run { asker, starting: Some(typed.text), now: typed.now, escalate_text };
                    let (decision, begun) = self.flows.get(id)?.start(&run);
                    progress = begun;
                    decision
                }
            };
            Some(Verdict { decision, rule: Some(rule.id.clone()), progress })
        })
    }
}

impl Rule {
    fn fits(&self, situation: &Situation<'_>, day: i64) -> bool {
        let asker = &situation.conversation.asker;
        let says = |word: &String| situation.text.contains(word.as_str());
        let channel = || asker.channel.as_ref().is_some_and(|channel| self.channels.contains(channel));
        let audience = || asker.audiences.iter().any(|audience| self.audiences.contains(audience));
        let intent = || {
            let top = situation.intents.first();
            top.is_some_and(|top| top.probability >= self.min_probability && self.intents.contains(&top.label))
        };
        self.days.contains(&day)
            && (self.keywords.is_empty() || self.keywords.iter().any(says))
            && self.all_keywords.iter().all(says)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(situation.text))
            && (self.intents.is_empty() || intent())
            && (self.channels.is_empty() || channel())
            && (self.audiences.is_empty() || audience())
    }
}

#[cfg(test)]
mod tests;
