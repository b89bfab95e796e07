//! The form of a rules file, and everything that may be wrong with one.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Action, Rule, Rules,
    flow::{Ask, Case, Flow, Request, Step, Then},
};
use crate::{slots, store::parse_day};

const CANCEL_MESSAGES: [&str; 14] = [
    "算了",
    "算了吧",
    "那算了",
    "算了不查了",
    "不查了",
    "不用查了",
    "不用了",
    "不需要了",
    "不问了",
    "不弄了",
    "取消",
    "退出",
    "返回",
    "结束",
];
const CANCEL_TEXT: &str = "好的，已经为您取消，还有其他问题随时告诉我哦。";
const MIN_PROBABILITY: f32 = 0.5;
const ATTEMPTS: u32 = 2;
const DEADLINE_MS: u64 = 3000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cancel_messages: Option<Vec<String>>,
    cancel_text: Option<String>,
    #[serde(default, rename = "rule")]
    rules: Vec<Value>,
    #[serde(default, rename = "flow")]
    flows: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    id: String,
    #[serde(default)]
    priority: i64,
    #[serde(default)]
    keywords: Vec<String>,
    #[serde(default)]
    all_keywords: Vec<String>,
    pattern: Option<String>,
    #[serde(default)]
    intents: Vec<String>,
    min_probability: Option<f32>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    audiences: Vec<String>,
    valid_from: Option<String>,
    valid_to: Option<String>,
    reply: Option<String>,
    flow: Option<String>,
    escalate: Option<bool>,
    knowledge: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowFile {
    id: String,
    #[serde(default, rename = "step")]
    steps: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskFile {
    slot: String,
    prompt: String,
    pattern: String,
    retry: Option<String>,
    attempts: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallFile {
    url: String,
    #[serde(default)]
    send: Vec<String>,
    deadline_ms: Option<u64>,
    token: Option<String>,
    failed: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyFile {
    #[serde(rename = "case")]
    cases: Vec<CaseFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    #[serde(default)]
    when: BTreeMap<String, Value>,
    reply: Option<String>,
    escalate: Option<bool>,
    go_on: Option<bool>,
}

/// Collects what is wrong with one rule, flow or step.
struct Checker<'a> {
    who: String,
    problems: &'a mut Vec<String>,
}

impl Checker<'_> {
    fn say(&mut self, field: &str, problem: impl AsRef<str>) {
        self.problems.push(format!("{}: `{field}` {}", self.who, problem.as_ref()));
    }

    fn read<T: DeserializeOwned>(&mut self, value: Value) -> Option<T> {
        serde_path_to_error::deserialize(value)
            .map_err(|error| {
                let path = error.path().to_string();
                let at = if path == "." { String::new() } else { format!("`{path}`: ") };
                self.problems.push(format!("{}: {at}{}", self.who, error.inner()));
            })
            .ok()
    }

    /// Something that customers read.
    fn text(&mut self, field: &str, text: &str) {
        if text.trim().is_empty() {
            self.say(field, "is empty; write what the customer reads");
        }
    }

    fn words(&mut self, field: &str, words: Vec<String>, normal: &impl Fn(&str) -> String) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| normal(word).trim().to_owned()).collect();
        if words.iter().any(String::is_empty) {
            self.say(field, "holds an empty word, which stands in every message; remove it");
        }
        words
    }

    fn pattern(&mut self, text: &str, any_case: bool) -> Option<Regex> {
        match RegexBuilder::new(text).case_insensitive(any_case).build() {
            Ok(pattern) if pattern.is_match("") => {
                self.say("pattern", "fits the empty text, and with it every message; ask for at least one character");
                None
            }
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.say("pattern", format!("is no regular expression: {reason}"));
                None
            }
        }
    }

    fn day(&mut self, field: &str, text: Option<&str>, open: i64) -> i64 {
        let Some(text) = text else { return open };
        parse_day(text).unwrap_or_else(|| {
            self.say(field, format!("is {text:?}; write a day as YYYY-MM-DD"));
            open
        })
    }

    /// That exactly one of several fields is there, and that switches are switched on.
    fn one_of(&mut self, fields: &[(&str, bool)], switches: &[(&str, Option<bool>)]) {
        let there: Vec<&str> = fields.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
        let names = || fields.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match there[..] {
            [_] => {}
            [] => self.problems.push(format!("{}: one of {} is missing", self.who, names())),
            [first, ..] => self.say(first, format!("does not stand alone; keep exactly one of {}", names())),
        }
        for (name, value) in switches {
            if *value == Some(false) {
                self.say(name, "is false, which says nothing; leave it out");
            }
        }
    }
}

/// How a rule or flow is named in a sentence.
fn who(kind: &str, value: &Value, at: usize) -> String {
    match value["id"].as_str() {
        Some(id) if !id.trim().is_empty() => format!("{kind} `{id}`"),
        _ => format!("{kind} number {}", at + 1),
    }
}

impl Rules {
    /// Checks what a file says. `normal` brings a keyword to the form that messages are looked at in.
    ///
    /// # Errors
    /// Everything that is wrong, a sentence each, with the rule or flow and the field.
    pub fn new(file: Value, normal: impl Fn(&str) -> String) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let checker = Checker { who: "the file".to_owned(), problems: &mut problems }.read::<File>(file);
        let Some(file) = checker else { return Err(problems) };
        let mut ids = BTreeSet::new();
        let mut flows = BTreeMap::new();
        let known: BTreeSet<String> =
            file.flows.iter().filter_map(|flow| Some(flow["id"].as_str()?.to_owned())).collect();
        for (at, value) in file.flows.into_iter().enumerate() {
            let mut checker = Checker { who: who("flow", &value, at), problems: &mut problems };
            if let Some(flow) = flow(&mut checker, value, &mut ids) {
                flows.insert(flow.id.clone(), flow);
            }
        }
        ids.clear();
        let mut rules = Vec::new();
        for (at, value) in file.rules.into_iter().enumerate() {
            let mut checker = Checker { who: who("rule", &value, at), problems: &mut problems };
            rules.extend(rule(&mut checker, value, &mut ids, &known, &normal));
        }
        // Stable: equal ones stay in the file's order.
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
        let mut checker = Checker { who: "the file".to_owned(), problems: &mut problems };
        let cancel_text = file.cancel_text.unwrap_or_else(|| CANCEL_TEXT.to_owned());
        checker.text("cancel_text", &cancel_text);
        let cancel = file.cancel_messages.unwrap_or_else(|| CANCEL_MESSAGES.map(str::to_owned).to_vec());
        let bare = |text: &str| normal(text).chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        let cancel_messages = checker.words("cancel_messages", cancel, &bare);
        if problems.is_empty() { Ok(Self { rules, flows, cancel_messages, cancel_text }) } else { Err(problems) }
    }
}

/// That an id is there and is the only one of its name.
fn id(checker: &mut Checker<'_>, id: &str, ids: &mut BTreeSet<String>) {
    if id.trim().is_empty() {
        checker.say("id", "is empty");
    } else if !ids.insert(id.to_owned()) {
        checker.say("id", "stands twice; give each its own");
    }
}

fn rule(
    checker: &mut Checker<'_>,
    value: Value,
    ids: &mut BTreeSet<String>,
    flows: &BTreeSet<String>,
    normal: &impl Fn(&str) -> String,
) -> Option<Rule> {
    let file: RuleFile = checker.read(value)?;
    id(checker, &file.id, ids);
    let keywords = checker.words("keywords", file.keywords, normal);
    let all_keywords = checker.words("all_keywords", file.all_keywords, normal);
    let no_pattern = file.pattern.is_none();
    let pattern = file.pattern.and_then(|pattern| checker.pattern(&pattern, true));
    if keywords.is_empty() && all_keywords.is_empty() && no_pattern && file.intents.is_empty() {
        let problem =
            "is missing, and so are `all_keywords`, `pattern` and `intents`: the rule would apply to every message";
        checker.say("keywords", problem);
    }
    let min_probability = file.min_probability.unwrap_or(MIN_PROBABILITY);
    if !(0.0..=1.0).contains(&min_probability) {
        checker.say("min_probability", format!("is {min_probability}; it is a probability between 0 and 1"));
    }
    if file.min_probability.is_some() && file.intents.is_empty() {
        checker.say("min_probability", "stands without `intents`");
    }
    let days = checker.day("valid_from", file.valid_from.as_deref(), 0)
        ..=checker.day("valid_to", file.valid_to.as_deref(), 99_991_231);
    if days.is_empty() {
        checker.say("valid_to", "is before `valid_from`");
    }
    let there = [
        ("reply", file.reply.is_some()),
        ("flow", file.flow.is_some()),
        ("escalate", file.escalate.is_some()),
        ("knowledge", file.knowledge.is_some()),
    ];
    checker.one_of(&there, &[("escalate", file.escalate)]);
    let action = if let Some(text) = file.reply {
        checker.text("reply", &text);
        Action::Reply(text)
    } else if let Some(flow) = file.flow {
        if !flows.contains(&flow) {
            checker.say("flow", format!("is {flow:?}, and there is no such flow in the file"));
        }
        Action::Flow(flow)
    } else if let Some(id) = file.knowledge {
        if id.trim().is_empty() {
            checker.say("knowledge", "is empty; name an entry");
        }
        Action::Knowledge(id)
    } else {
        Action::Escalate
    };
    Some(Rule {
        id: file.id,
        priority: file.priority,
        keywords,
        all_keywords,
        pattern,
        intents: file.intents,
        min_probability,
        channels: file.channels,
        audiences: file.audiences,
        days,
        action,
    })
}

fn flow(checker: &mut Checker<'_>, value: Value, ids: &mut BTreeSet<String>) -> Option<Flow> {
    let file: FlowFile = checker.read(value)?;
    id(checker, &file.id, ids);
    let mut slots = BTreeSet::new();
    let mut steps = Vec::new();
    // Whether a call has been answered since the customer was last asked.
    let mut answered = false;
    let count = file.steps.len();
    let who = checker.who.clone();
    for (at, value) in file.steps.into_iter().enumerate() {
        let mut checker = Checker { who: format!("{who}, step {}", at + 1), problems: checker.problems };
        let step = step(&mut checker, value, &slots, answered);
        match &step {
            Some(Step::Ask(ask)) => {
                answered = false;
                if !slots.insert(ask.slot.clone()) {
                    checker.say("slot", format!("is {:?}, which is asked for twice", ask.slot));
                }
            }
            Some(Step::Call(_)) => answered = true,
            Some(Step::Reply(cases)) => {
                let goes_on = cases.iter().any(|case| case.then == Then::GoOn);
                if goes_on && at + 1 == count {
                    checker.say("go_on", "stands in the last step, after which there is nothing");
                } else if !goes_on && at + 1 < count {
                    checker
                        .say("case", "never goes on, so that the steps after it are never reached; add `go_on = true`");
                }
            }
            None => {}
        }
        if at + 1 == count && !matches!(step, Some(Step::Reply(_)) | None) {
            checker.say("kind", "must be \"reply\" in the last step: the customer waits for a word");
        }
        steps.extend(step);
    }
    if count == 0 {
        checker.say("step", "is missing: a flow is a list of steps");
    }
    Some(Flow { id: file.id, steps })
}

fn step(checker: &mut Checker<'_>, mut value: Value, slots: &BTreeSet<String>, answered: bool) -> Option<Step> {
    let kind = value.as_object_mut().and_then(|fields| fields.remove("kind"));
    match kind.as_ref().and_then(Value::as_str) {
        Some("ask") => {
            let file: AskFile = checker.read(value)?;
            let as_text = format!("{{{}}}", file.slot);
            if !matches!(slots::slots(&as_text)[..], [slots::Slot { name, fallback: None, .. }] if name == file.slot) {
                let problem = "is {:?}; a name is one to thirty-two letters, Chinese characters, digits or `_`";
                checker.say("slot", problem.replace("{:?}", &format!("{:?}", file.slot)));
            }
            checker.text("prompt", &file.prompt);
            let retry = file.retry.unwrap_or_else(|| file.prompt.clone());
            checker.text("retry", &retry);
            let attempts = file.attempts.unwrap_or(ATTEMPTS);
            if !(1..=10).contains(&attempts) {
                checker.say("attempts", format!("is {attempts}; it must lie between 1 and 10"));
            }
            let pattern = checker.pattern(&file.pattern, false)?;
            Some(Step::Ask(Ask { slot: file.slot, prompt: file.prompt, pattern, retry, attempts }))
        }
        Some("call") => {
            let file: CallFile = checker.read(value)?;
            for name in file.send.iter().filter(|name| !slots.contains(*name)) {
                checker.say("send", format!("names {name:?}, which no step before it asks for"));
            }
            let deadline_ms = file.deadline_ms.unwrap_or(DEADLINE_MS);
            if !(50..=10_000).contains(&deadline_ms) {
                checker.say("deadline_ms", format!("is {deadline_ms}; it must lie between 50 and 10000"));
            }
            if let Some(text) = &file.failed {
                checker.text("failed", text);
            }
            let CallFile { url, send, token, failed, .. } = file;
            Some(Step::Call(Request { url, send, deadline_ms, token, failed }))
        }
        Some("reply") => {
            let file: ReplyFile = checker.read(value)?;
            let count = file.cases.len();
            if count == 0 {
                checker.say("case", "is empty; write what the customer reads");
            }
            let who = checker.who.clone();
            let mut cases = Vec::with_capacity(count);
            for (at, file) in file.cases.into_iter().enumerate() {
                let mut checker = Checker { who: format!("{who}, case {}", at + 1), problems: checker.problems };
                cases.push(case(&mut checker, file, at + 1 == count, answered));
            }
            Some(Step::Reply(cases))
        }
        Some(other) => {
            checker.say("kind", format!("is {other:?}; it is one of \"ask\", \"call\" and \"reply\""));
            None
        }
        None => {
            checker.say("kind", "is missing; it is one of \"ask\", \"call\" and \"reply\"");
            None
        }
    }
}

fn case(checker: &mut Checker<'_>, file: CaseFile, last: bool, answered: bool) -> Case {
    match (file.when.is_empty(), last) {
        (true, false) => checker.say("when", "is missing, so that the cases after it are never reached"),
        (false, true) => checker.say("when", "stands in the last case, which must fit every answer"),
        (false, false) if !answered => {
            checker.say("when", "looks at an answer, but nothing was called since the last `ask`")
        }
        _ => {}
    }
    if file.when.values().any(|value| !(value.is_string() || value.is_number() || value.is_boolean())) {
        checker.say("when", "compares fields with texts, numbers, true or false only");
    }
    let there =
        [("reply", file.reply.is_some()), ("escalate", file.escalate.is_some()), ("go_on", file.go_on.is_some())];
    checker.one_of(&there, &[("escalate", file.escalate), ("go_on", file.go_on)]);
    let then = match file.reply {
        Some(text) => {
            checker.text("reply", &text);
            Then::Reply(text)
        }
        None if file.go_on.is_some() => Then::GoOn,
        None => Then::Escalate,
    };
    Case { when: file.when, then }
}
