//! The reply decision as tables: what was measured, and what must follow from it.

use yingda_engine::{
    AnswerThresholds, Conversation, Decision, EscalationReason, Hit, PastTurn, PolicyConfig, RankedLabel, Role,
    SentimentScores,
    policy::{Gates, Situation, decide},
};
use yingda_models::{Guarantee, IntentGuarantee, Thresholds};

const THRESHOLDS: Thresholds = Thresholds { intent_confidence: 0.5, intent_gap: 0.1, negative: 0.6 };

const ANSWERS: AnswerThresholds = AnswerThresholds { answer: 0.6, relevant: 0.2 };

fn gates(guarantee: Option<&Guarantee>) -> Gates<'_> {
    Gates { thresholds: &THRESHOLDS, answers: ANSWERS, guarantee }
}

fn intents(ranking: &[(&str, f32)]) -> Vec<RankedLabel> {
    ranking.iter().map(|&(label, probability)| RankedLabel { label: label.into(), probability }).collect()
}

fn hit(id: &str, probability: f32) -> Hit {
    Hit {
        knowledge_id: id.into(),
        question: format!("问题{id}"),
        matched: format!("问法{id}"),
        answer: format!("答案{id}"),
        parts: Vec::new(),
        personal: false,
        intent: Some("退货".into()),
        probability,
        score: 0.8,
    }
}

fn feeling(negative: f32) -> SentimentScores {
    SentimentScores { negative, neutral: 1.0 - negative, positive: 0.0 }
}

fn said(text: &str, negative: f32) -> PastTurn {
    PastTurn { role: Role::User, text: text.into(), sentiment: Some(feeling(negative)), decision: None }
}

fn answered(decision: yingda_engine::DecisionKind) -> PastTurn {
    PastTurn { role: Role::Bot, text: "...".into(), sentiment: None, decision: Some(decision) }
}

/// One row of a table; the rest is a calm, confident question about returns with a fitting reply.
struct Case {
    text: &'static str,
    intents: Vec<RankedLabel>,
    negative: f32,
    hits: Vec<Hit>,
    past: Vec<PastTurn>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            text: "想退掉这件衣服",
            intents: intents(&[("退货", 0.8), ("换货", 0.1)]),
            negative: 0.1,
            hits: vec![hit("a", 0.8), hit("b", 0.1)],
            past: Vec::new(),
        }
    }
}

/// The probabilities of all entries, that of none taken off.
fn relevant(hits: &[Hit]) -> f32 {
    hits.iter().map(|hit| hit.probability).sum()
}

/// A decision in one word, for the tables.
fn run(case: &Case) -> String {
    run_with(case, None)
}

fn run_with(case: &Case, guarantee: Option<&Guarantee>) -> String {
    let conversation = Conversation { turns: case.past.clone(), ..Conversation::default() };
    let situation = Situation {
        text: case.text,
        intents: &case.intents,
        sentiment: feeling(case.negative),
        hits: &case.hits,
        relevant: relevant(&case.hits),
        unavailable: false,
        conversation: &conversation,
    };
    match decide(&situation, &PolicyConfig::default(), gates(guarantee)) {
        Decision::Reply { knowledge_id, .. } => format!("reply {}", knowledge_id.unwrap_or_else(|| "fixed".into())),
        Decision::Clarify { choices, .. } => {
            let ids: Vec<String> = choices.into_iter().map(|choice| choice.knowledge_id).collect();
            format!("clarify {}", ids.join(" "))
        }
        Decision::OutOfScope { .. } => "out of scope".into(),
        Decision::NoAnswer { .. } => "no answer".into(),
        Decision::Escalate { reason, .. } => reason.as_str().into(),
    }
}

#[track_caller]
fn table(cases: Vec<(&str, Case, &str)>) {
    for (name, case, expected) in cases {
        assert_eq!(run(&case).trim_end(), expected, "{name}");
    }
}

#[test]
fn what_is_probably_right_is_answered() {
    let found =
        |hits: &[(&str, f32)]| Case { hits: hits.iter().map(|(id, p)| hit(id, *p)).collect(), ..Case::default() };
    table(vec![
        ("probable", Case::default(), "reply a"),
        ("at the threshold", found(&[("a", 0.6), ("b", 0.1)]), "reply a"),
        ("just below", found(&[("a", 0.59), ("b", 0.1)]), "clarify a b"),
        ("whatever the intents say", Case { intents: intents(&[("换货", 0.3)]), ..Case::default() }, "reply a"),
        ("what is hardly likelier than noise is not asked", found(&[("a", 0.5), ("b", 0.04)]), "clarify a"),
        ("the three likeliest are asked", found(&[("a", 0.2), ("b", 0.2), ("c", 0.2), ("d", 0.2)]), "clarify a b c"),
        ("nothing is near", found(&[("a", 0.15), ("b", 0.04)]), "no answer"),
        ("an empty store", found(&[]), "no answer"),
        ("a model without a ranking", Case { intents: Vec::new(), hits: Vec::new(), ..Case::default() }, "no answer"),
    ]);
}

#[test]
fn a_near_tie_is_asked_about() {
    let low = Gates { answers: AnswerThresholds { answer: 0.3, ..ANSWERS }, ..gates(None) };
    for (second, expected) in [(0.24, "reply"), (0.25, "clarify"), (0.4, "clarify")] {
        let hits = [hit("a", 0.4), hit("b", second)];
        let situation = Situation {
            text: "退",
            intents: &[],
            sentiment: feeling(0.0),
            hits: &hits,
            relevant: relevant(&hits),
            unavailable: false,
            conversation: &Conversation::default(),
        };
        let decision = decide(&situation, &PolicyConfig::default(), low);
        assert_eq!(matches!(decision, Decision::Reply { .. }), expected == "reply", "{second}: {decision:?}");
    }
}

#[test]
fn what_was_certified_for_an_intent_takes_the_place_of_the_threshold() {
    let own = |threshold| IntentGuarantee { threshold, coverage: 0.5, rows: 400 };
    let guarantee = Guarantee {
        max_wrong: 0.02,
        confidence: 0.95,
        threshold: Some(THRESHOLDS.intent_confidence),
        coverage: 0.5,
        rows: 2000,
        per_intent: [
            ("退货", Some(0.85)),
            ("物流查询", Some(0.4)),
            ("发票", None),
            ("投诉", None),
            ("转人工", Some(0.4)),
        ]
        .map(|(intent, threshold)| (intent.to_owned(), own(threshold)))
        .into(),
    };
    let said = |intent: &'static str, probability: f32| Case {
        text: "这个怎么弄",
        intents: intents(&[(intent, probability), ("换货", 0.05)]),
        hits: vec![hit("a", 0.8)],
        ..Case::default()
    };
    for (name, case, expected, without) in [
        ("above its own", said("退货", 0.85), "reply a", "reply a"),
        ("below its own, above that of all", said("退货", 0.84), "clarify a", "reply a"),
        ("its own is lower", said("物流查询", 0.42), "reply a", "reply a"),
        ("none of its own", said("换色", 0.5), "reply a", "reply a"),
        ("none of its own, below that of all", said("换色", 0.49), "clarify a", "reply a"),
        ("never answered, however sure", said("发票", 0.999), "clarify a", "reply a"),
        ("never answered still reaches a person", said("投诉", 0.6), "complaint", "complaint"),
        ("a wish for a person from the lower one", said("转人工", 0.42), "person_requested", "reply a"),
    ] {
        assert_eq!(run_with(&case, Some(&guarantee)), expected, "{name}");
        assert_eq!(run(&case), without, "{name}, without a guarantee");
    }
    let near = Case { intents: intents(&[("退货", 0.9), ("换货", 0.85)]), ..said("退货", 0.9) };
    assert_eq!(
        (run_with(&near, Some(&guarantee)), run(&near)),
        ("clarify a".into(), "reply a".into()),
        "too near a second"
    );
    let away = said("out_of_scope", 0.9);
    assert_eq!((run_with(&away, Some(&guarantee)), run(&away)), ("out of scope".into(), "reply a".into()));
    let word_for_word = Case { hits: vec![Hit { score: 0.95, ..hit("a", 0.9) }], ..said("发票", 0.999) };
    assert_eq!(run_with(&word_for_word, Some(&guarantee)), "reply a", "its very words need no intent");
}

#[test]
fn out_of_scope_never_gets_an_invented_answer() {
    let away = || intents(&[("out_of_scope", 0.9), ("闲聊", 0.05)]);
    let unsure = || vec![hit("a", 0.4), hit("b", 0.1)];
    table(vec![
        ("clear", Case { intents: away(), hits: unsure(), ..Case::default() }, "out of scope"),
        (
            "and again: still no ticket",
            Case {
                intents: away(),
                hits: unsure(),
                past: vec![said("写首诗", 0.0), answered(yingda_engine::DecisionKind::OutOfScope)],
                ..Case::default()
            },
            "out of scope",
        ),
        ("but what is probably right is answered", Case { intents: away(), ..Case::default() }, "reply a"),
        (
            "unsure whether in scope",
            Case { intents: intents(&[("out_of_scope", 0.4), ("退货", 0.35)]), hits: unsure(), ..Case::default() },
            "clarify a b",
        ),
    ]);
}

#[test]
fn people_who_ask_for_a_person_get_one() {
    for text in ["人工", "人工！！", "转人工", "我要人工客服谢谢", "能不能找个真人", "不要机器人"]
    {
        assert_eq!(run(&Case { text, ..Case::default() }), "person_requested", "{text}");
    }
    for text in ["你是人工智能吗", "安装的人工费多少", "好人一生平安"] {
        assert_ne!(run(&Case { text, ..Case::default() }), "person_requested", "{text}");
    }
    let asks = |probability| Case {
        text: "我想跟你们同事说话",
        intents: intents(&[("转人工", probability), ("闲聊", 0.1)]),
        hits: Vec::new(),
        ..Case::default()
    };
    assert_eq!(run(&asks(0.8)), "person_requested");
    assert_eq!(run(&asks(0.3)), "no answer");
}

#[test]
fn words_that_must_reach_a_person_do() {
    for text in ["我要投诉你们", "再这样我打12315", "准备起诉了", "我要找媒体曝光", "我不想活了", "电饭煲漏电触电了"]
    {
        assert_eq!(run(&Case { text, ..Case::default() }), "handoff_word", "{text}");
    }
    assert_eq!(run(&Case { text: "支持多媒体播放吗", ..Case::default() }), "reply a");
    let complains =
        Case {
            text: "你们太差了", intents: intents(&[("投诉", 0.9), ("质量问题", 0.05)]), ..Case::default()
        };
    assert_eq!(run(&complains), "complaint");
}

#[test]
fn anger_is_judged_over_several_turns() {
    table(vec![
        ("one angry word is not enough", Case { negative: 0.95, ..Case::default() }, "reply a"),
        (
            "two in a row are",
            Case { negative: 0.7, past: vec![said("太慢了", 0.8)], ..Case::default() },
            "negative_sentiment",
        ),
        (
            "calm in between",
            Case { negative: 0.7, past: vec![said("太慢了", 0.8), said("好吧", 0.1)], ..Case::default() },
            "reply a",
        ),
        (
            "angry before, calm now",
            Case { negative: 0.1, past: vec![said("太慢了", 0.9)], ..Case::default() },
            "reply a",
        ),
    ]);
    let conversation = Conversation::default();
    let case = Case { negative: 0.95, ..Case::default() };
    let decision = decide(
        &Situation {
            text: case.text,
            intents: &case.intents,
            sentiment: feeling(case.negative),
            hits: &case.hits,
            relevant: relevant(&case.hits),
            unavailable: false,
            conversation: &conversation,
        },
        &PolicyConfig::default(),
        gates(None),
    );
    assert!(decision.text().contains("抱歉") && decision.text().ends_with("答案a"), "{}", decision.text());
}

#[test]
fn unsure_asks_once_and_then_hands_over() {
    use yingda_engine::DecisionKind::{Clarify, NoAnswer, Reply};
    let unsure = |past| Case { hits: vec![hit("a", 0.4), hit("b", 0.3)], past, ..Case::default() };
    let lost = |past| Case { hits: vec![hit("a", 0.1)], past, ..Case::default() };
    table(vec![
        ("first time", unsure(vec![]), "clarify a b"),
        ("second time in a row", unsure(vec![said("嗯？", 0.0), answered(Clarify)]), "low_confidence"),
        ("a reply in between", unsure(vec![answered(Clarify), said("退货", 0.0), answered(Reply)]), "clarify a b"),
        ("no answer at first", lost(vec![]), "no answer"),
        ("no answer again", lost(vec![said("嗯？", 0.0), answered(NoAnswer)]), "low_confidence"),
        ("unsure after no answer", unsure(vec![said("嗯？", 0.0), answered(NoAnswer)]), "low_confidence"),
    ]);
}

#[test]
fn a_number_is_a_word_only_by_itself() {
    for text in ["12315", "我打12345了", "再不处理就12315。", "起诉20261234567890"] {
        assert_eq!(run(&Case { text, ..Case::default() }), "handoff_word", "{text}");
    }
    for text in ["20261234567890", "订单123150", "单号112315", "12345612345"] {
        assert_eq!(run(&Case { text, ..Case::default() }), "reply a", "{text}");
    }
}

#[test]
fn acknowledgements_want_no_answer_of_their_own() {
    for text in ["好的", "嗯嗯", "OK".to_lowercase().leak(), "好的。", "知道了~"] {
        assert_eq!(
            run(&Case { text, intents: intents(&[("致谢", 0.4), ("退货", 0.3)]), ..Case::default() }),
            "reply fixed"
        );
    }
    assert_eq!(run(&Case { text: "好的那怎么退", ..Case::default() }), "reply a");
}

#[test]
fn settings_that_would_hand_over_everything_are_refused() {
    let refused = |config: PolicyConfig| config.validate().unwrap_err().to_string();
    assert!(refused(PolicyConfig { negative_turns: 0, ..PolicyConfig::default() }).contains("negative_turns"));
    assert!(
        refused(PolicyConfig { handoff_words: vec![" ".into()], ..PolicyConfig::default() }).contains("handoff_words")
    );
    let thresholds = Some(Thresholds { negative: 1.5, ..THRESHOLDS });
    assert!(refused(PolicyConfig { thresholds, ..PolicyConfig::default() }).contains("negative"));
    let answers = Some(AnswerThresholds { answer: 60.0, ..ANSWERS });
    assert!(refused(PolicyConfig { answers, ..PolicyConfig::default() }).contains("policy.answers.answer"));
    assert!(PolicyConfig::default().validate().is_ok());
    assert_eq!(EscalationReason::LowConfidence.as_str(), "low_confidence");
}
