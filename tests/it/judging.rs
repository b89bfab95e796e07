//! Judging a model end to end: thresholds that are certified or refused, two models compared, scores with their intervals.

use std::{path::Path, sync::atomic::AtomicBool};

use candle_core::Device;
use clap::Parser;
use yingda_datasets::ColumnMap;
use yingda_models::{Guarantee, ModelFolder};
use yingda_train::{
    TrainError,
    compare::{self, CompareFlags, compare},
    fit::fit,
    guarantee::{self, CalibrateFlags},
};

use crate::{
    learning::{small_fit, write_chats},
    support::json,
};

#[derive(Parser)]
struct Calibrate {
    #[command(flatten)]
    flags: CalibrateFlags,
}

#[derive(Parser)]
struct Compare {
    #[command(flatten)]
    flags: CompareFlags,
}

fn calibrate_flags(model: &Path, data: &Path, more: &[&str]) -> CalibrateFlags {
    let mut flags = vec!["calibrate", "--model", model.to_str().unwrap(), "--data", data.to_str().unwrap()];
    flags.extend(more);
    Calibrate::parse_from(flags).flags
}

/// Chats about the things that [`write_chats`] is about, with other numbers.
fn more_chats(path: &Path, sessions: usize) {
    let subjects = ["外套", "台灯", "耳机", "水杯", "鞋子", "书包", "毛巾", "锅", "椅子", "手表"];
    let mut text = String::from("session_id,turn,role,text,intent,sentiment\n");
    for session in 100..100 + sessions {
        let subject = subjects[session / 3 % 10];
        let (ask, intent, sentiment) = match session % 3 {
            0 => (format!("{subject}什么时候发货呀第{session}次问了"), "催发货", "negative"),
            1 => (format!("想退掉{subject}怎么操作{session}"), "退货", "neutral"),
            _ => (format!("谢谢{subject}收到啦很喜欢{session}"), "致谢", "positive"),
        };
        text += &format!("s{session},0,user,{ask},{intent},{sentiment}\ns{session},1,agent,好的请稍等,,\n");
    }
    std::fs::write(path, text).unwrap();
}

fn guarantee_of(model: &Path) -> Option<Guarantee> {
    ModelFolder::open(model, &Device::Cpu, false).unwrap().settings.guarantee
}

#[test]
fn thresholds_are_certified_or_refused_and_two_models_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (learnt, new, few) = (at("learnt.csv"), at("new.csv"), at("few.csv"));
    write_chats(&learnt);
    more_chats(&new, 750);
    more_chats(&few, 20);
    let fitted = |name: &str, epochs: &str| {
        fit(&small_fit(&learnt, &["--epochs", epochs, "--no-lexical"]), &at(name), false, &AtomicBool::new(false))
            .unwrap()
            .model
    };
    let model = fitted("good", "20");
    let settings = || std::fs::read(model.join("yingda.json")).unwrap();
    let before = settings();

    // What the model learnt from, too few rows, flags that mean nothing: sentences, and nothing is written.
    let refused = |data: &Path, more: &[&str]| {
        let error = guarantee::certify(&calibrate_flags(&model, data, more)).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error
    };
    let own = refused(&at("good/splits/train.parquet"), &[]).to_string();
    assert!(own.contains("what the model was made from"), "{own}");
    // Of the whole file the test split is left, which is too little; copies of a message count once.
    let error = refused(&learnt, &["--max-wrong", "0.3"]).to_string();
    assert!(error.contains("(6 were given)"), "{error}");
    let copied = at("copied.csv");
    let rows = std::fs::read_to_string(&few).unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    let again = |name: &str| rows[1..].iter().map(|row| format!("{name}{row}\n")).collect::<String>();
    std::fs::write(&copied, format!("{}\n{}{}{}", rows[0], again(""), again("a"), again(""))).unwrap();
    let [once, more] = [&few, &copied].map(|data| refused(data, &[]).to_string());
    assert_eq!(once, more, "copies prove nothing");
    let error = refused(&few, &[]);
    assert!(matches!(error, TrainError::NothingCertified(_)), "{error}");
    assert!(error.to_string().contains("below 2 % with a confidence of 95 %"), "{error}");
    assert!(refused(&new, &["--max-wrong", "1.5"]).to_string().contains("--max-wrong is 1.5"));
    assert!(refused(&new, &["--not-answered", "换色"]).to_string().contains("换色"));
    assert_eq!(settings(), before);
    assert_eq!(guarantee_of(&model), None);

    // One threshold for all. Twice the same: the card gets one section.
    let flags = calibrate_flags(&model, &new, &["--max-wrong", "0.05"]);
    let found = guarantee::certify(&flags).unwrap();
    let stored = guarantee_of(&model).unwrap();
    // A number may change in its last bit on its way through JSON.
    assert!((stored.coverage - found.guarantee.coverage).abs() < 1e-12);
    assert_eq!(stored, Guarantee { coverage: stored.coverage, ..found.guarantee.clone() });
    assert_eq!((stored.rows, stored.max_wrong, stored.confidence), (750, 0.05, 0.95));
    let opened = ModelFolder::open(&model, &Device::Cpu, false).unwrap();
    assert_eq!(Some(opened.settings.thresholds.intent_confidence), stored.threshold);
    assert!(stored.coverage > 0.5 && stored.per_intent.is_empty(), "{stored:?}");
    assert!(guarantee::table(&found).contains("at most 5 % of automatic answers"));
    assert_eq!(guarantee::certify(&flags).unwrap(), found);
    let card = std::fs::read_to_string(model.join("README.md")).unwrap();
    assert_eq!(card.matches("## Guarantee").count(), 1);

    // One for each of the three intents: all are common here, so the threshold of the others stays as it was.
    let flags = calibrate_flags(&model, &new, &["--max-wrong", "0.05", "--per-intent"]);
    let found = guarantee::certify(&flags).unwrap();
    assert_eq!(found.groups.len(), 3);
    assert!(found.guarantee.per_intent.keys().eq(["催发货", "致谢", "退货"]), "{:?}", found.guarantee);
    let opened = ModelFolder::open(&model, &Device::Cpu, false).unwrap();
    assert_eq!(Some(opened.settings.thresholds.intent_confidence), stored.threshold);

    // A rehearsal writes nothing and repeats itself.
    let written = settings();
    let simulation = guarantee::rehearse(&flags, 12).unwrap();
    assert_eq!(simulation, guarantee::rehearse(&flags, 12).unwrap());
    assert_eq!(simulation.bounds.iter().map(|at| at.max_wrong).collect::<Vec<_>>(), [0.02, 0.05]);
    assert!(simulation.bounds[1].drawn.coverage >= simulation.bounds[0].drawn.coverage, "{simulation:?}");
    assert!(guarantee::simulation_table(&simulation).contains("12 runs on 750 messages"));
    assert_eq!(settings(), written);

    // A model that has hardly learnt loses what the other has right, and every such row stands in a file.
    let poor = fitted("poor", "1");
    let out = at("compared");
    let arguments = |a: &Path, b: &Path| {
        let [a, b, data, out] = [a, b, &new, &out].map(|path| path.to_str().unwrap().to_owned());
        Compare::parse_from(["compare", &a, &b, "--data", &data, "--out", &out]).flags
    };
    let found = compare(&arguments(&model, &poor)).unwrap();
    let (intent, sentiment) = (found.intent.as_ref().unwrap(), found.sentiment.as_ref().unwrap());
    let lines = |file: &str| std::fs::read_to_string(out.join(file)).unwrap().lines().count();
    assert_eq!(lines("lost.jsonl"), intent.only_a_right + sentiment.only_a_right);
    assert_eq!(lines("gained.jsonl"), intent.only_b_right + sentiment.only_b_right);
    assert!(intent.macro_f1_interval.high < 0.0 && intent.mcnemar_p < 1e-6, "{intent:?}");
    assert_eq!((intent.rows, intent.sessions, intent.classes.len()), (750, 750, 3));
    let report = compare::report(&found);
    assert!(report.contains("B is worse") && report.contains("催发货"), "{report}");
    let same = compare(&arguments(&model, &model)).unwrap().intent.unwrap();
    assert_eq!((same.mcnemar_p, same.macro_f1_difference, same.only_a_right), (1.0, 0.0, 0));

    // Scores come with their intervals.
    let scores =
        yingda_train::eval::eval(&model, &[new], &ColumnMap::default(), &at("eval"), "cpu").unwrap().intent.unwrap();
    let reliability = scores.reliability.clone().unwrap();
    assert!((reliability.macro_f1.low..=reliability.macro_f1.high).contains(&scores.macro_f1), "{reliability:?}");
    assert!((reliability.after.expected_calibration_error - scores.expected_calibration_error).abs() < 1e-9);
    assert_eq!(scores.reliability_lines().len(), 2);
    let curve = json(&at("eval/risk_coverage.json"));
    assert_eq!(curve["area"], json(&at("eval/metrics.json"))["intent"]["reliability"]["risk_coverage"]["area"]);
    assert_eq!(curve["curve"].as_array().unwrap().last().unwrap()["coverage"], 1.0);
}
