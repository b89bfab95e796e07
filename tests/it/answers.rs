//! From labelled questions to answers, on the shipped sample: the second stage finds more than either way of searching, and what
//! is answered is right.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use yingda::{evaluation::evaluate, knowledge, questions};
use yingda_engine::{
    Engine, EngineConfig, EngineError, PolicyConfig, StoreConfig, WorkerConfig,
    ranking::{LabelledQuestion, TuneOptions},
};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn config(folder: &TempDir) -> EngineConfig {
    EngineConfig {
        model: repository("models/artifacts/yingda-sample"),
        store: StoreConfig::Edge { path: folder.path().join("replies") },
        worker: WorkerConfig::default(),
        policy: PolicyConfig::default(),
    }
}

async fn sample(folder: &TempDir) -> Engine {
    let engine = Engine::open(config(folder)).await.unwrap();
    let entries = knowledge::read(&repository("datasets/data/sample/knowledge.jsonl")).unwrap();
    engine.index(entries, 1, |_, _| {}).await.unwrap();
    engine
}

fn labelled(name: &str) -> Vec<LabelledQuestion> {
    questions::read(&repository(&format!("datasets/data/sample/questions/{name}.jsonl"))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tuning_beats_both_ways_of_searching_and_is_kept() {
    let folder = TempDir::new().unwrap();
    let engine = sample(&folder).await;
    let questions = labelled("tune");
    // As what a store answers with until it is tuned was made.
    let options = TuneOptions { max_wrong: 0.12, ..TuneOptions::default() };
    let (_, dry) = engine.tune(&questions, &[], options, true, |_, _| {}).await.unwrap();
    let (tuning, report) = engine.tune(&questions, &[], options, false, |_, _| {}).await.unwrap();
    assert_eq!(dry, report, "the same questions and seed must give the same figures");
    let of = |name: &str| report.methods.iter().find(|method| method.method == name).unwrap();
    for other in ["dense", "sparse", "fused"] {
        let (ours, theirs) = (of("second stage"), of(other));
        assert!(ours.recall_at_1 > theirs.recall_at_1 + 0.03, "{other}: {theirs:?} against {ours:?}");
        assert!(ours.no_match_auroc > theirs.no_match_auroc, "{other}: {theirs:?} against {ours:?}");
    }
    assert!((report.promised - report.kept).abs() < 0.05, "promised {}, kept {}", report.promised, report.kept);
    assert!(report.wrong <= options.max_wrong && report.coverage > 0.15, "{report:?}");

    assert_eq!(*engine.tuning(), tuning, "what was tuned must be in use");
    engine.close().await;
    drop(engine);
    let engine = Engine::open(config(&folder)).await.unwrap();
    assert_eq!(*engine.tuning(), tuning, "what was tuned must be in use after a restart");
    // The same model over changed knowledge keeps it.
    let entries = knowledge::read(&repository("datasets/data/sample/knowledge.jsonl")).unwrap();
    engine.index(entries.into_iter().take(50).collect(), 2, |_, _| {}).await.unwrap();
    assert_eq!(*engine.tuning(), tuning, "what was tuned must outlive new knowledge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_is_right_and_what_is_not_known_is_not_answered() {
    let folder = TempDir::new().unwrap();
    let engine = sample(&folder).await;
    let outcome = evaluate(&engine, &labelled("test"), |_| {}).await.unwrap();
    let wrong = outcome.answerable.wrong + outcome.outside.wrong;
    assert!(wrong <= 2, "{:?} {:?}", outcome.answerable, outcome.outside);
    // Most are not sure enough to be answered unasked; then the right entry must be among the choices.
    let helped = outcome.answerable.right + outcome.answerable.clarified_with_right;
    assert!(helped >= 25, "{:?}", outcome.answerable);

    // The very words of the knowledge are answered, whatever the sentiment or the mood of the model.
    let entries = knowledge::read(&repository("datasets/data/sample/knowledge.jsonl")).unwrap();
    let own: Vec<LabelledQuestion> = entries
        .iter()
        .filter(|entry| !["转人工", "投诉"].contains(&entry.intent.as_deref().unwrap_or_default()))
        .map(|entry| LabelledQuestion {
            text: entry.question.clone(),
            knowledge: vec![entry.id.clone()],
            ..LabelledQuestion::default()
        })
        .collect();
    let outcome = evaluate(&engine, &own, |_| {}).await.unwrap();
    let fates = outcome.answerable;
    assert!(fates.right + fates.handed_over >= own.len() - 2 && fates.wrong == 0, "{fates:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_questions_are_refused() {
    let folder = TempDir::new().unwrap();
    let engine = sample(&folder).await;
    let few = labelled("tune").into_iter().take(12).collect::<Vec<_>>();
    let error = engine.tune(&few, &[], TuneOptions::default(), false, |_, _| {}).await.unwrap_err();
    assert!(matches!(error, EngineError::Tuning(_)) && error.to_string().contains("at least 30"), "{error}");
}
