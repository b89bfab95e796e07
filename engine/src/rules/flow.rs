//! A guided flow: it asks for what it needs, has a service called with it, and says what came of it. A flow waits only where it
//! asks, so that the slot that is asked for says where it stands.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::PATIENCE_MINUTES;
use crate::{Asker, Decision, EscalationReason, slots};

/// Where a flow waits. It holds what the customer gave, such as an order number: that is not masked, because the service that
/// is called needs it. Whoever keeps it forgets it when the flow is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowState {
    /// The flow.
    pub flow: String,
    /// The slot that it asks for.
    pub slot: String,
    /// What it was given so far.
    pub slots: BTreeMap<String, String>,
    /// How often it asked for this slot in vain.
    pub attempts: u32,
    /// Since when it waits, in milliseconds since 1970.
    pub since: i64,
}

impl FlowState {
    pub(crate) fn waits(&self, now: i64) -> bool {
        now.saturating_sub(self.since) <= PATIENCE_MINUTES * 60_000
    }
}

/// What a flow that waits asks for next, told to the person who has taken the session over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextStep {
    /// The flow.
    pub flow: String,
    /// The slot that it asks for.
    pub slot: String,
    /// How it asks.
    pub text: String,
    /// What it was given so far, by slot. Not masked.
    pub given: BTreeMap<String, String>,
}

/// What became of a session's flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// The flow that decided.
    pub flow: Option<String>,
    /// Where a flow waits now; `None` when there is none.
    pub state: Option<FlowState>,
    /// What is to be called now. The decision beside it holds when that fails; otherwise the flow goes on with
    /// [`Rules::answered`](super::Rules::answered).
    pub call: Option<Call>,
}

impl Progress {
    pub(super) fn of(flow: &Flow) -> Self {
        Self { flow: Some(flow.id.clone()), ..Self::default() }
    }
}

/// A call of a service, and where the flow goes on after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Where: `http://` or `https://`.
    pub url: String,
    /// What is sent, by slot.
    pub send: BTreeMap<String, String>,
    /// Milliseconds for all of it.
    pub deadline_ms: u64,
    /// Name of the environment variable that holds the bearer token.
    pub token: Option<String>,
    flow: String,
    step: usize,
    slots: BTreeMap<String, String>,
}

impl Call {
    /// The flow that calls.
    pub fn flow(&self) -> &str {
        &self.flow
    }
}

/// A flow that was checked: its last step says something in any case.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) id: String,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Ask(Ask),
    Call(Request),
    /// The first that fits; the last one always does.
    Reply(Vec<Case>),
}

/// Asks for one slot.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) slot: String,
    pub(super) prompt: String,
    pub(super) pattern: Regex,
    pub(super) retry: String,
    pub(super) attempts: u32,
}

/// Has a service called.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) url: String,
    pub(super) send: Vec<String>,
    pub(super) deadline_ms: u64,
    pub(super) token: Option<String>,
    /// Said when it fails; a person takes over where it is missing.
    pub(super) failed: Option<String>,
}

/// One of several ways to go on after an answer.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// What fields of the answer must be.
    pub(super) when: BTreeMap<String, Value>,
    pub(super) then: Then,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Then {
    Reply(String),
    Escalate,
    GoOn,
}

/// All that a flow knows beside its slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) asker: &'a Asker,
    /// The message that started the flow, until it has called somebody: what comes later cannot be in it.
    pub(super) starting: Option<&'a str>,
    pub(super) now: i64,
    pub(super) escalate_text: &'a str,
}

impl Run<'_> {
    /// Hands over to a person.
    fn hand_over(&self, flow: &Flow, why: &str) -> (Decision, Progress) {
        let detail = format!("{}：{why}", flow.id);
        let text = self.escalate_text.to_owned();
        (Decision::Escalate { text, reason: EscalationReason::Flow, detail }, Progress::of(flow))
    }
}

const CANNOT_BE_FILLED: &str = "话术里的信息不全";

impl Ask {
    /// What is asked for, if the text holds it.
    pub(super) fn find(&self, text: &str) -> Option<String> {
        // Numbers that were typed in full width are numbers.
        let half = |c: char| match c {
            '！'..='～' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
            other => other,
        };
        let text: String = text.chars().map(half).collect();
        let find = |text: &str| {
            let found = self.pattern.captures(text)?;
            let value = found.get(1).or_else(|| found.get(0))?.as_str().trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        // 138 1234-5678 and +86 138…: people group digits, forms do not.
        find(&text).or_else(|| find(&joined_digits(&text)))
    }
}

/// The text without what stands between digits only to group them, and without the country's number before a mobile's.
fn joined_digits(text: &str) -> String {
    static GROUPS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"([0-9])[ \-\u{2010}-\u{2015}\u{a0}]+").expect("it is one"));
    static CHINA: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?:\+|\b00)86[ \-]?(1[0-9]{10})\b").expect("it is one"));
    let mut joined = String::with_capacity(text.len());
    let mut from = 0;
    for found in GROUPS.captures_iter(text) {
        let (Some(whole), Some(digit)) = (found.get(0), found.get(1)) else { continue };
        joined.push_str(&text[from..digit.end()]);
        let goes_on = text[whole.end()..].starts_with(|next: char| next.is_ascii_digit());
        if !goes_on {
            joined.push_str(&text[digit.end()..whole.end()]);
        }
        from = whole.end();
    }
    joined.push_str(&text[from..]);
    CHINA.replace_all(&joined, "$1").into_owned()
}

impl Flow {
    /// The step that waits, if the flow still asks for that slot.
    pub(super) fn asked(&self, state: &FlowState) -> Option<(usize, &Ask)> {
        self.steps.iter().enumerate().find_map(|(at, step)| match step {
            Step::Ask(ask) if ask.slot == state.slot => Some((at, ask)),
            _ => None,
        })
    }

    /// What it asks for while it waits. `None` when it no longer asks for that.
    pub(super) fn next_step(&self, state: &FlowState, run: &Run<'_>) -> Option<NextStep> {
        let (_, ask) = self.asked(state)?;
        let text = fill(&ask.prompt, &state.slots, None, run)?;
        Some(NextStep { flow: self.id.clone(), slot: ask.slot.clone(), text, given: state.slots.clone() })
    }

    /// Addresses that it calls, each with the environment variable of its token.
    pub(super) fn calls(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.steps.iter().filter_map(|step| match step {
            Step::Call(request) => Some((request.url.as_str(), request.token.as_deref())),
            _ => None,
        })
    }

    pub(super) fn start(&self, run: &Run<'_>) -> (Decision, Progress) {
        self.go_on(0, BTreeMap::new(), None, run)
    }

    /// The slot that was asked for has come.
    pub(super) fn filled(&self, state: &FlowState, step: usize, value: String, run: &Run<'_>) -> (Decision, Progress) {
        let mut slots = state.slots.clone();
        slots.insert(state.slot.clone(), value);
        self.go_on(step + 1, slots, None, run)
    }

    /// It has not come: once more, or a person.
    pub(super) fn not_filled(&self, state: &FlowState, ask: &Ask, run: &Run<'_>) -> (Decision, Progress) {
        let attempts = state.attempts + 1;
        if attempts >= ask.attempts {
            return run.hand_over(self, &format!("没有收到{}", ask.slot));
        }
        let Some(text) = fill(&ask.retry, &state.slots, None, run) else {
            return run.hand_over(self, CANNOT_BE_FILLED);
        };
        let state = FlowState { attempts, since: run.now, ..state.clone() };
        (Decision::Clarify { text, choices: Vec::new() }, Progress { state: Some(state), ..Progress::of(self) })
    }

    /// The call was answered. `None` when the flow no longer makes it.
    pub(super) fn answered(
        &self,
        call: &Call,
        answer: &Map<String, Value>,
        run: &Run<'_>,
    ) -> Option<(Decision, Progress)> {
        match self.steps.get(call.step)? {
            Step::Call(request) if request.url == call.url => {
                Some(self.go_on(call.step + 1, call.slots.clone(), Some(answer), run))
            }
            _ => None,
        }
    }

    /// Takes steps until one of them waits or ends the flow.
    fn go_on(
        &self,
        from: usize,
        mut slots: BTreeMap<String, String>,
        answer: Option<&Map<String, Value>>,
        run: &Run<'_>,
    ) -> (Decision, Progress) {
        let cannot = || run.hand_over(self, CANNOT_BE_FILLED);
        for (at, step) in self.steps.iter().enumerate().skip(from) {
            match step {
                Step::Ask(ask) => {
                    let known = run.starting.into_iter().chain(run.asker.fields.get(&ask.slot).map(String::as_str));
                    if let Some(value) = known.filter_map(|text| ask.find(text)).next() {
                        slots.insert(ask.slot.clone(), value);
                        continue;
                    }
                    let Some(text) = fill(&ask.prompt, &slots, answer, run) else { return cannot() };
                    let (flow, slot) = (self.id.clone(), ask.slot.clone());
                    let state = FlowState { flow, slot, slots, attempts: 0, since: run.now };
                    let decision = Decision::Clarify { text, choices: Vec::new() };
                    return (decision, Progress { state: Some(state), ..Progress::of(self) });
                }
                Step::Call(request) => {
                    let failed = request.failed.as_ref().and_then(|text| fill(text, &slots, None, run));
                    let (decision, progress) = match failed {
                        Some(text) => (Decision::Reply { text, knowledge_id: None }, Progress::of(self)),
                        None => run.hand_over(self, "接口没有给出答复"),
                    };
                    let sent = request.send.iter();
                    let call = Call {
                        url: request.url.clone(),
                        send: sent.filter_map(|name| Some((name.clone(), slots.get(name)?.clone()))).collect(),
                        deadline_ms: request.deadline_ms,
                        token: request.token.clone(),
                        flow: self.id.clone(),
                        step: at,
                        slots,
                    };
                    return (decision, Progress { call: Some(call), ..progress });
                }
                Step::Reply(cases) => {
                    // A text for which something is missing does not fit. `None` inside: go on.
                    let said = cases.iter().filter(|case| case.fits(answer)).find_map(|case| match &case.then {
                        Then::GoOn => Some(None),
                        Then::Escalate => Some(Some(run.hand_over(self, "按流程转人工"))),
                        Then::Reply(text) => fill(text, &slots, answer, run)
                            .map(|text| Some((Decision::Reply { text, knowledge_id: None }, Progress::of(self)))),
                    });
                    match said {
                        Some(None) => {}
                        Some(Some(end)) => return end,
                        None => return cannot(),
                    }
                }
            }
        }
        cannot()
    }
}

impl Case {
    fn fits(&self, answer: Option<&Map<String, Value>>) -> bool {
        let same = |is: &Value, wanted: &Value| match (is.as_f64(), wanted.as_f64()) {
            (Some(is), Some(wanted)) => is == wanted,
            _ => is == wanted,
        };
        self.when
            .iter()
            .all(|(field, wanted)| answer.and_then(|answer| answer.get(field)).is_some_and(|is| same(is, wanted)))
    }
}

/// A text with its slots filled by the answer, by what the customer gave, or by what is known of them.
fn fill(
    text: &str,
    given: &BTreeMap<String, String>,
    answer: Option<&Map<String, Value>>,
    run: &Run<'_>,
) -> Option<String> {
    slots::fill(text, |name| {
        let answered = answer.and_then(|answer| words(answer.get(name)?));
        answered.or_else(|| given.get(name).or_else(|| run.asker.fields.get(name)).cloned())
    })
}

/// A text or a number, if it says anything.
fn words(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}
