#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use serde_json::{Map, Value, json};
use yingda_models::Thresholds;

use super::*;
use crate::{AnswerThresholds, Conversation, DecisionKind, Hit, PastTurn, RankedLabel, Role, SentimentScores};

/// Noon of 2026-03-09 in UTC+8.
const NOON: i64 = 1_773_028_800_000;
const ORDER: &str = "20260309123456";

/// Keywords are brought to lower case here, in place of all that the text contract does.
fn rules(file: Value) -> Rules {
    Rules::new(file, str::to_lowercase).unwrap()
}

fn problems(file: Value) -> Vec<String> {
    Rules::new(file, str::to_lowercase).unwrap_err()
}

/// One message and all that is known about it; the rest is a calm question that nothing answers.
struct Case {
    rules: Rules,
    text: String,
    now: i64,
    hits: Vec<Hit>,
    intent: (&'static str, f32),
    negative: f32,
    conversation: Conversation,
}

impl Case {
    fn of(rules: &Rules, text: &str) -> Self {
        let (hits, conversation) = (Vec::new(), Conversation::default());
        let (rules, text) = (rules.clone(), text.to_owned());
        Self { rules, text, now: NOON, hits, intent: ("问候", 0.9), negative: 0.1, conversation }
    }

    fn decide(&self) -> Verdict {
        let thresholds = Thresholds { intent_confidence: 0.5, intent_gap: 0.1, negative: 0.6 };
        let answers = AnswerThresholds { answer: 0.6, relevant: 0.2 };
        let (label, probability) = self.intent;
        let text = self.text.to_lowercase();
        let situation = Situation {
            text: &text,
            intents: &[RankedLabel { label: label.into(), probability }],
            sentiment: SentimentScores { negative: self.negative, neutral: 1.0 - self.negative, positive: 0.0 },
            hits: &self.hits,
            relevant: self.hits.iter().map(|hit| hit.probability).sum(),
            unavailable: false,
            conversation: &self.conversation,
        };
        let gates = Gates { thresholds: &thresholds, answers, guarantee: None };
        decide(&self.rules, Typed { text: &self.text, now: self.now }, &situation, &PolicyConfig::default(), gates)
    }
}

fn hit(id: &str, probability: f32) -> Hit {
    Hit {
        knowledge_id: id.into(),
        question: format!("问题{id}"),
        matched: format!("问法{id}"),
        answer: format!("答案{id}"),
        parts: Vec::new(),
        personal: false,
        intent: None,
        probability,
        score: 0.8,
    }
}

/// A rule with an id, and what else is given.
fn rule(fields: Value) -> Value {
    let mut rule = json!({ "id": "r", "reply": "好的" });
    rule.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "rule": [rule] })
}

#[track_caller]
fn applies(rules: &Rules, text: &str) -> bool {
    Case::of(rules, text).decide().rule.is_some()
}

#[test]
fn all_conditions_must_hold() {
    let any = rules(rule(json!({ "keywords": ["VIP", "会员"] })));
    assert!(applies(&any, "怎么开vip") && applies(&any, "我的会员") && !applies(&any, "怎么退货"));
    let all = rules(rule(json!({ "all_keywords": ["会员", "退"] })));
    assert!(applies(&all, "会员怎么退") && !applies(&all, "会员"));
    let pattern = rules(rule(json!({ "pattern": "(?:重复|多)扣", "keywords": ["元"] })));
    assert!(applies(&pattern, "多扣了5元") && !applies(&pattern, "多扣了") && !applies(&pattern, "5元"));

    let intent = rules(rule(json!({ "intents": ["退货"], "min_probability": 0.7 })));
    for (intent_is, fits) in [(("退货", 0.7), true), (("退货", 0.69), false), (("换货", 0.9), false)] {
        let case = Case { intent: intent_is, ..Case::of(&intent, "这个不要了") };
        assert_eq!(case.decide().rule.is_some(), fits, "{intent_is:?}");
    }

    let some = rules(rule(json!({ "keywords": ["好处"], "channels": ["wechat"], "audiences": ["vip", "svip"] })));
    for (channel, audience, fits) in [
        (Some("wechat"), "svip", true),
        (Some("web"), "vip", false),
        (None, "vip", false),
        (Some("wechat"), "new", false),
    ] {
        let mut case = Case::of(&some, "有什么好处");
        case.conversation.asker.channel = channel.map(str::to_owned);
        case.conversation.asker.audiences = vec![audience.to_owned()];
        assert_eq!(case.decide().rule.is_some(), fits, "{channel:?} {audience}");
    }
}

#[test]
fn validity_is_counted_in_days_of_utc_8() {
    let rules = rules(rule(json!({ "keywords": ["放假"], "valid_from": "2026-03-09", "valid_to": "2026-03-10" })));
    let midnight = NOON - 12 * 3_600_000;
    for (now, fits) in [
        (midnight - 1, false),
        (midnight, true),
        (midnight + 48 * 3_600_000 - 1, true),
        (midnight + 48 * 3_600_000, false),
    ] {
        assert_eq!(Case { now, ..Case::of(&rules, "放假吗") }.decide().rule.is_some(), fits, "{now}");
    }
    assert_eq!((day(NOON), day(0)), (20_260_309, 19_700_101));
}

#[test]
fn the_highest_priority_comes_first_and_then_the_files_order() {
    let file = json!({ "rule": [
        { "id": "a", "keywords": ["退"], "reply": "甲" },
        { "id": "b", "keywords": ["退"], "reply": "乙", "priority": 2 },
        { "id": "c", "keywords": ["退"], "reply": "丙", "priority": 2 },
        { "id": "d", "keywords": ["退"], "reply": "您的{订单号}", "priority": 3 },
    ]});
    let rules = rules(file);
    let mut case = Case::of(&rules, "怎么退");
    let verdict = case.decide();
    assert_eq!((verdict.rule.as_deref(), verdict.decision.text()), (Some("b"), "乙"), "d lacks its slot");
    case.conversation.asker.fields.insert("订单号".into(), "A1".into());
    assert_eq!(case.decide().decision.text(), "您的A1");
}

#[test]
fn a_person_comes_before_rules_and_rules_before_everything_else() {
    let rules = rules(json!({ "rule": [
        { "id": "hand", "keywords": ["退"], "escalate": true },
        { "id": "fixed", "keywords": ["好的", "投诉"], "reply": "收到" },
        { "id": "entry", "keywords": ["多久"], "knowledge": "b" },
    ]}));
    let verdict = Case::of(&rules, "我要投诉").decide();
    assert!(matches!(verdict.decision, Decision::Escalate { reason: EscalationReason::HandoffWord, .. }));
    assert_eq!(verdict.rule, None);
    assert_eq!(Case::of(&rules, "好的").decide().decision.text(), "收到", "a rule before an acknowledgement");
    let hits = vec![hit("a", 0.9), hit("b", 0.05)];
    let by_hits = Case { hits: hits.clone(), ..Case::of(&rules, "发货") }.decide();
    assert!(matches!(by_hits.decision, Decision::Reply { knowledge_id: Some(id), .. } if id == "a"));

    let named = Case { hits, ..Case::of(&rules, "要多久") };
    let unhappy = Case { negative: 0.9, hits: named.hits.clone(), ..Case::of(&rules, "要多久") };
    let id = Some("b".to_owned());
    assert_eq!(named.decide().decision, Decision::Reply { text: "答案b".into(), knowledge_id: id.clone() });
    let text = format!("{}答案b", PolicyConfig::default().sorry_prefix);
    assert_eq!(unhappy.decide().decision, Decision::Reply { text, knowledge_id: id });
    let nowhere = Case::of(&rules, "要多久").decide();
    assert_eq!((nowhere.rule, nowhere.decision.kind()), (None, DecisionKind::NoAnswer), "an entry that was not found");

    let verdict = Case::of(&rules, "我要退").decide();
    let Decision::Escalate { reason, detail, text } = &verdict.decision else { panic!("{verdict:?}") };
    assert_eq!((*reason, detail.as_str()), (EscalationReason::Rule, "hand"));
    assert_eq!(*text, PolicyConfig::default().escalate_text);
}

// Flows.

/// Asks for an order number, calls, says; the code that is asked for after the call cannot be in the first message.
fn flow_file() -> Value {
    json!({
        "rule": [
            { "id": "track", "keywords": ["查快递"], "flow": "track" },
            { "id": "hours", "keywords": ["几点上班"], "reply": "九点" },
        ],
        "flow": [{ "id": "track", "step": [
            { "kind": "ask", "slot": "订单号", "prompt": "{称呼|亲}，订单号？", "pattern": r"(?:^|\D)(\d{14})(?:\D|$)",
              "retry": "再发一次", "attempts": 2 },
            { "kind": "call", "url": "http://a/b", "send": ["订单号"], "failed": "{订单号}查不到", "deadline_ms": 500,
              "token": "T" },
            { "kind": "reply", "case": [
                { "when": { "status": "code", "level": 1 }, "go_on": true },
                { "when": { "status": "way" }, "reply": "{订单号}在{place}" },
                { "when": { "status": "way" }, "reply": "{订单号}在路上" },
                { "when": { "lost": true }, "escalate": true },
                { "reply": "不知道{what}" },
            ]},
            { "kind": "ask", "slot": "码", "prompt": "码？", "pattern": r"\d{4}" },
            { "kind": "reply", "case": [{ "reply": "{订单号}的码是{码}" }] },
        ]}],
    })
}

fn waiting(slot: &str, attempts: u32) -> FlowState {
    let slots =
        if slot == "码" { BTreeMap::from([("订单号".to_owned(), ORDER.to_owned())]) } else { BTreeMap::new() };
    FlowState { flow: "track".into(), slot: slot.into(), slots, attempts, since: NOON }
}

/// A message to a flow that waits.
fn to_flow(text: &str, state: FlowState) -> Case {
    let mut case = Case::of(&rules(flow_file()), text);
    case.conversation.flow = Some(state);
    case
}

#[test]
fn a_flow_asks_for_what_it_does_not_know() {
    let rules = rules(flow_file());
    let asks = Case::of(&rules, "查快递").decide();
    assert_eq!(asks.decision, Decision::Clarify { text: "亲，订单号？".into(), choices: Vec::new() });
    assert_eq!((asks.rule.as_deref(), asks.progress.flow.as_deref()), (Some("track"), Some("track")));
    assert_eq!(asks.progress.state, Some(waiting("订单号", 0)));

    let mut known = Case::of(&rules, "查快递");
    known.conversation.asker.fields.insert("订单号".into(), ORDER.into());
    let full_width: String = ORDER.chars().map(|c| char::from_u32(u32::from(c) + 0xFEE0).unwrap()).collect();
    for case in
        [known, Case::of(&rules, &format!("查快递{ORDER}")), Case::of(&rules, &format!("查快递，{full_width}。"))]
    {
        let calls = case.decide();
        let call = calls.progress.call.unwrap();
        assert_eq!(call.send, BTreeMap::from([("订单号".to_owned(), ORDER.to_owned())]));
        assert_eq!((call.flow(), call.url.as_str(), call.deadline_ms), ("track", "http://a/b", 500));
        assert_eq!((call.token.as_deref(), calls.progress.state), (Some("T"), None));
        assert_eq!(calls.decision.text(), format!("{ORDER}查不到"), "what holds when the call fails");
    }
    let mut masked = Case::of(&rules, "查快递");
    masked.conversation.asker.fields.insert("订单号".into(), "[快递单号]".into());
    assert!(masked.decide().progress.state.is_some(), "a field of another form is asked for");
}

#[test]
fn a_number_is_found_however_its_digits_are_grouped() {
    for text in
        ["2026 1109 0000 01", "2026-1109-0000-01 谢谢", "单号是2026–1109–0000–01。", "２０２６ １１０９ ０００００１"]
    {
        let call = to_flow(text, waiting("订单号", 0)).decide().progress.call.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(call.send["订单号"], "20261109000001", "{text}");
    }
    let mut file = flow_file();
    file["flow"][0]["step"][0]["pattern"] = json!(r"(?:^|\D)(1[3-9]\d{9})(?:\D|$)");
    let rules = rules(file);
    for text in ["138 1234 5678", "+8613812345678", "+86 138-1234-5678", "008613812345678", "我的是 13812345678 对"]
    {
        let mut case = Case::of(&rules, text);
        case.conversation.flow = Some(waiting("订单号", 0));
        let call = case.decide().progress.call.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(call.send["订单号"], "13812345678", "{text}");
    }
    let other = to_flow("2026 1109 0000 1", waiting("订单号", 0)).decide();
    assert!(other.progress.call.is_none(), "one digit too few");
}

#[test]
fn an_answer_decides_how_a_flow_goes_on() {
    let rules = rules(flow_file());
    let verdict = to_flow(&format!("是{ORDER}"), waiting("订单号", 1)).decide();
    let call = verdict.progress.call.unwrap();
    let answered = |answer: Value| {
        let answer: Map<String, Value> = serde_json::from_value(answer).unwrap();
        rules.answered(&call, &answer, &Conversation::default().asker, &PolicyConfig::default(), NOON).unwrap()
    };
    let text = |answer: Value| answered(answer).0.text().to_owned();
    assert_eq!(text(json!({ "status": "way", "place": "杭州" })), format!("{ORDER}在杭州"));
    assert_eq!(text(json!({ "status": "way", "place": " " })), format!("{ORDER}在路上"), "a text that lacks a field");
    assert_eq!(text(json!({ "status": "else", "what": 7 })), "不知道7");
    for person in [json!({ "lost": true }), json!({ "status": "else" }), json!({})] {
        let (decision, progress) = answered(person.clone());
        assert!(matches!(decision, Decision::Escalate { reason: EscalationReason::Flow, .. }), "{person}");
        assert_eq!((progress.flow.as_deref(), progress.state, progress.call), (Some("track"), None, None));
    }
    let (decision, progress) = answered(json!({ "status": "code", "level": 1.0 }));
    assert_eq!((decision.text(), &progress.state), ("码？", &Some(waiting("码", 0))));

    let end = to_flow("1234", waiting("码", 0)).decide();
    assert_eq!(end.decision, Decision::Reply { text: format!("{ORDER}的码是1234"), knowledge_id: None });
    assert_eq!(end.progress, Progress { flow: Some("track".into()), ..Progress::default() });

    let none = Rules::default();
    assert!(
        none.answered(&call, &Map::new(), &Conversation::default().asker, &PolicyConfig::default(), NOON).is_none()
    );
}

#[test]
fn what_is_neither_an_answer_nor_something_else_is_a_failed_attempt() {
    for text in ["嗯", "查快递", "20260309", "在吗"] {
        let again = to_flow(text, waiting("订单号", 0)).decide();
        assert_eq!((again.decision.text(), again.rule), ("再发一次", None), "{text}");
        assert_eq!(again.progress.state, Some(waiting("订单号", 1)), "{text}");
        let person = to_flow(text, waiting("订单号", 1)).decide();
        let Decision::Escalate { reason: EscalationReason::Flow, detail, .. } = &person.decision else {
            panic!("{text}")
        };
        assert_eq!((detail.as_str(), person.progress.state), ("track：没有收到订单号", None), "{text}");
    }
}

#[test]
fn a_flow_is_left_by_something_else() {
    let cancel = to_flow("算了！", waiting("订单号", 0)).decide();
    assert_eq!((cancel.decision.kind(), cancel.progress.flow.as_deref()), (DecisionKind::Reply, Some("track")));
    assert!(cancel.decision.text().contains("取消") && cancel.progress.state.is_none());
    let not_only = to_flow("取消订单", waiting("订单号", 0)).decide();
    assert!(not_only.progress.state.is_some(), "取消订单 is more than 取消");

    let rule = to_flow("几点上班", waiting("订单号", 0)).decide();
    assert_eq!(
        (rule.decision.text(), rule.rule.as_deref(), rule.progress),
        ("九点", Some("hours"), Progress::default())
    );
    let entry = Case { hits: vec![hit("a", 0.9)], ..to_flow("怎么退货", waiting("订单号", 0)) }.decide();
    assert_eq!((entry.decision.text(), entry.progress), ("答案a", Progress::default()));
    let unsure = Case { hits: vec![hit("a", 0.4), hit("b", 0.4)], ..to_flow("那个呢", waiting("订单号", 0)) }.decide();
    assert_eq!(unsure.decision.text(), "再发一次", "an entry that is not sure is nothing else");
    // What was asked for counts, whatever else the message holds.
    let both =
        Case { hits: vec![hit("a", 0.9)], ..to_flow(&format!("几点上班 {ORDER}"), waiting("订单号", 0)) }.decide();
    assert!(both.progress.call.is_some());
}

#[test]
fn a_person_comes_before_a_flow_which_waits_meanwhile() {
    let person = to_flow(&format!("转人工 {ORDER}"), waiting("订单号", 1)).decide();
    assert!(matches!(person.decision, Decision::Escalate { reason: EscalationReason::PersonRequested, .. }));
    let waits = Progress { state: Some(waiting("订单号", 1)), ..Progress::default() };
    assert_eq!(person.progress, waits);
    // 12345 is a word that reaches a person, but not among other digits.
    let number = to_flow("00123450000000", waiting("订单号", 0)).decide();
    assert!(number.progress.call.is_some(), "{number:?}");
    let word = to_flow("我打12345", waiting("订单号", 0)).decide();
    assert!(matches!(word.decision, Decision::Escalate { reason: EscalationReason::HandoffWord, .. }));
}

#[test]
fn a_flow_that_waited_too_long_is_over_and_so_is_one_that_is_gone() {
    let minutes = |minutes: i64| Case { now: NOON + minutes * 60_000, ..to_flow(ORDER, waiting("订单号", 0)) };
    assert!(minutes(PATIENCE_MINUTES).decide().progress.call.is_some());
    let late = minutes(PATIENCE_MINUTES + 1).decide();
    assert_eq!((late.decision.kind(), late.progress), (DecisionKind::NoAnswer, Progress::default()));
    for gone in [FlowState { flow: "old".into(), ..waiting("订单号", 0) }, waiting("旧", 0)] {
        let verdict = to_flow(ORDER, gone).decide();
        assert_eq!((verdict.decision.kind(), verdict.progress), (DecisionKind::NoAnswer, Progress::default()));
    }
}

#[test]
fn a_question_of_a_flow_is_no_clarifying_question_of_the_policy() {
    let rules = rules(flow_file());
    let mut case = Case { hits: vec![hit("a", 0.4), hit("b", 0.4)], ..Case::of(&rules, "那个呢") };
    let turn = |decision| PastTurn { role: Role::Bot, text: "?".into(), sentiment: None, decision };
    case.conversation.turns = vec![turn(None)];
    assert_eq!(case.decide().decision.kind(), DecisionKind::Clarify);
    case.conversation.turns = vec![turn(Some(DecisionKind::Clarify))];
    assert_eq!(case.decide().decision.kind(), DecisionKind::Escalate);
}

// Files.

#[test]
fn intents_that_a_model_does_not_know_are_found() {
    let rules = rules(rule(json!({ "intents": ["退货", "退貨"] })));
    let found: Vec<_> = rules
        .unknown_intents(&["退货".to_owned()])
        .map(|(rule, intent)| (rule.to_owned(), intent.to_owned()))
        .collect();
    assert_eq!(found, [("r".to_owned(), "退貨".to_owned())]);
}

/// Each wrong file, and words of the one sentence about it.
#[test]
fn every_mistake_in_a_rule_is_named() {
    let wrong = |fields: Value, words: &[&str]| {
        let found = problems(rule(fields.clone()));
        assert_eq!(found.len(), 1, "{fields}: {found:?}");
        for word in words {
            assert!(found[0].contains(word), "{fields}: {found:?} does not say {word}");
        }
    };
    wrong(json!({}), &["rule `r`", "`keywords` is missing"]);
    wrong(json!({ "keyword": ["a"] }), &["rule `r`", "unknown field `keyword`"]);
    wrong(json!({ "keywords": ["a"], "priority": "high" }), &["rule `r`", "`priority`", "invalid type"]);
    wrong(json!({ "keywords": ["a", " "] }), &["`keywords` holds an empty word"]);
    wrong(json!({ "all_keywords": [""] }), &["`all_keywords` holds an empty word"]);
    wrong(json!({ "pattern": "(退" }), &["`pattern` is no regular expression", "unclosed group"]);
    wrong(json!({ "pattern": "退*" }), &["`pattern` fits the empty text"]);
    wrong(json!({ "intents": ["a"], "min_probability": 7 }), &["`min_probability` is 7"]);
    wrong(json!({ "keywords": ["a"], "min_probability": 0.5 }), &["`min_probability` stands without `intents`"]);
    wrong(json!({ "keywords": ["a"], "valid_from": "2026-1-1" }), &["`valid_from` is \"2026-1-1\"", "YYYY-MM-DD"]);
    let days = json!({ "keywords": ["a"], "valid_from": "2026-01-02", "valid_to": "2026-01-01" });
    wrong(days, &["`valid_to` is before `valid_from`"]);
    wrong(json!({ "keywords": ["a"], "reply": " " }), &["`reply` is empty"]);
    wrong(json!({ "keywords": ["a"], "escalate": true }), &["`reply` does not stand alone"]);
    wrong(json!({ "keywords": ["a"], "reply": null }), &["one of `reply`, `flow`, `escalate`, `knowledge` is missing"]);
    wrong(json!({ "keywords": ["a"], "reply": null, "escalate": false }), &["`escalate` is false"]);
    wrong(json!({ "keywords": ["a"], "reply": null, "flow": "f" }), &["`flow` is \"f\", and there is no such flow"]);
    wrong(json!({ "keywords": ["a"], "reply": null, "knowledge": "" }), &["`knowledge` is empty"]);
    wrong(json!({ "keywords": ["a"], "id": "" }), &["rule number 1", "`id` is empty"]);

    let twice = json!({ "rule": [{ "id": "r", "keywords": ["a"], "reply": "a" }, { "id": "r", "keywords": ["b"], "reply": "b" }] });
    assert_eq!(problems(twice), ["rule `r`: `id` stands twice; give each its own"]);
    assert!(problems(json!({ "rules": [] }))[0].contains("unknown field `rules`"));
    assert!(problems(json!({ "cancel_text": " " }))[0].contains("`cancel_text` is empty"));
    assert!(problems(json!({ "cancel_messages": ["。"] }))[0].contains("`cancel_messages` holds an empty word"));
    let all = json!({ "rule": [{ "id": "a", "keywords": ["a"] }, { "keywords": ["b"], "reply": "b" }] });
    assert_eq!(problems(all).len(), 2, "all mistakes at once");
}

#[test]
fn every_mistake_in_a_flow_is_named() {
    // A step of the flow, by its place, with one field changed; null takes the field away.
    let wrong = |step: usize, field: &str, value: Value, words: &[&str]| {
        let mut file = flow_file();
        let fields = file["flow"][0]["step"][step].as_object_mut().unwrap();
        if value.is_null() {
            fields.remove(field)
        } else {
            fields.insert(field.to_owned(), value)
        };
        let found = problems(file);
        let step = format!("flow `track`, step {}", step + 1);
        assert!(found.iter().any(|problem| problem.contains(&step)), "{field}: {found:?} does not say {step}");
        for word in words {
            assert!(found.iter().any(|problem| problem.contains(word)), "{field}: {found:?} does not say {word}");
        }
    };
    wrong(0, "kind", json!("say"), &["`kind` is \"say\""]);
    wrong(0, "kind", Value::Null, &["`kind` is missing"]);
    wrong(0, "slot", json!("订 单"), &["`slot` is \"订 单\""]);
    wrong(0, "slot", json!("a|b"), &["`slot` is \"a|b\""]);
    wrong(0, "prompt", json!(""), &["`prompt` is empty"]);
    wrong(0, "prompts", json!(""), &["unknown field `prompts`"]);
    wrong(0, "retry", json!(" "), &["`retry` is empty"]);
    wrong(0, "pattern", json!("["), &["`pattern` is no regular expression"]);
    wrong(0, "pattern", json!(r"\d*"), &["`pattern` fits the empty text"]);
    wrong(0, "attempts", json!(0), &["`attempts` is 0"]);
    wrong(0, "attempts", json!("2"), &["`attempts`: invalid type"]);
    wrong(1, "url", Value::Null, &["missing field `url`"]);
    wrong(1, "send", json!(["手机号"]), &["`send` names \"手机号\""]);
    wrong(1, "deadline_ms", json!(60_000), &["`deadline_ms` is 60000"]);
    wrong(1, "failed", json!(""), &["`failed` is empty"]);
    wrong(2, "case", json!([]), &["`case` is empty"]);
    wrong(2, "case", json!([{ "reply": "a" }]), &["`case` never goes on"]);
    wrong(2, "case", json!([{ "go_on": true }, { "reply": "a" }]), &["case 1: `when` is missing"]);
    wrong(2, "case", json!([{ "when": { "a": 1 }, "go_on": true }]), &["case 1: `when` stands in the last case"]);
    wrong(2, "case", json!([{ "when": { "a": [1] }, "go_on": true }, { "reply": "a" }]), &["`when` compares"]);
    wrong(2, "case", json!([{ "go_on": true, "reply": "a" }]), &["`reply` does not stand alone"]);
    wrong(2, "case", json!([{ "go_on": false }]), &["`go_on` is false"]);
    wrong(2, "case", json!([{}]), &["one of `reply`, `escalate`, `go_on` is missing"]);
    wrong(2, "case", json!([{ "reply": " " }]), &["case 1: `reply` is empty"]);
    wrong(3, "slot", json!("订单号"), &["which is asked for twice"]);
    wrong(4, "case", json!([{ "go_on": true }]), &["`go_on` stands in the last step"]);
    wrong(4, "case", json!([{ "when": { "a": 1 }, "reply": "a" }, { "reply": "b" }]), &["nothing was called"]);
    let ask = json!({ "id": "f", "step": [{ "kind": "ask", "slot": "a", "prompt": "?", "pattern": "a" }] });
    assert_eq!(
        problems(json!({ "flow": [ask] })),
        ["flow `f`, step 1: `kind` must be \"reply\" in the last step: the customer waits for a word"]
    );
    assert_eq!(
        problems(json!({ "flow": [{ "id": "f" }] })),
        ["flow `f`: `step` is missing: a flow is a list of steps"]
    );
}
