//! The tools around training: suspect labels, what to label next, event files, sweeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use clap::Parser as _;
use serde_json::Value;
use yingda_models::Seeded;
use yingda_train::{
    TrainError,
    noise::{NoiseArgs, NoiseSummary, noise},
    suggest::{SuggestArgs, suggest},
    sweep::{SweepArgs, sweep},
    tensorboard::{EventWriter, cut},
};

use crate::{
    learning::write_chats,
    support::{json, root, sample},
};

#[derive(clap::Parser)]
struct NoiseFlags {
    #[command(flatten)]
    args: NoiseArgs,
}

#[derive(clap::Parser)]
struct SuggestFlags {
    #[command(flatten)]
    args: SuggestArgs,
}

#[derive(clap::Parser)]
struct SweepFlags {
    #[command(flatten)]
    args: SweepArgs,
}

/// Settings with which a fit takes a moment.
const SMALL: [&str; 12] = [
    "--hidden",
    "16",
    "--layers",
    "1",
    "--heads",
    "2",
    "--max-tokens",
    "24",
    "--batch-size",
    "8",
    "--learning-rate",
    "3e-3",
];

fn flags<'a>(command: &'a str, data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut flags = vec![command, "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap()];
    flags.extend(SMALL);
    flags.extend(more);
    flags
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Messages of four intents that a small model learns in a moment, a tenth of them with another intent than theirs.
/// Gives the rows that are wrong, with the right intent.
fn write_noisy_chats(path: &Path, seed: u64) -> BTreeMap<u64, &'static str> {
    const INTENTS: [(&str, [&str; 3], &str); 4] = [
        ("催发货", ["什么时候发货", "怎么还没发货", "几天能发货"], "negative"),
        ("退货", ["想退掉", "怎么退货退款", "不合适要退"], "neutral"),
        ("开发票", ["给我开发票", "发票抬头怎么写", "电子发票在哪"], "neutral"),
        ("致谢", ["谢谢很喜欢", "非常满意谢谢", "太好了多谢"], "positive"),
    ];
    const SUBJECTS: [&str; 8] = ["外套", "台灯", "耳机", "水杯", "鞋子", "书包", "毛巾", "椅子"];
    let mut generator = Seeded::new(seed, 1);
    let mut text = String::from("session_id,turn,role,text,intent,sentiment\n");
    let mut wrong = BTreeMap::new();
    for session in 0..240 {
        let class = generator.below(4);
        let (intent, phrases, sentiment) = INTENTS[class];
        let mut pieces = [SUBJECTS[generator.below(8)], phrases[generator.below(3)], SUBJECTS[generator.below(8)]];
        generator.shuffle(&mut pieces);
        let said = if session % 10 == 0 {
            // The first line of the file is its header.
            wrong.insert(session + 2, intent);
            INTENTS[(class + 1 + generator.below(3)) % 4].0
        } else {
            intent
        };
        text += &format!("s{session},0,user,{}{session},{said},{sentiment}\n", pieces.concat());
    }
    std::fs::write(path, text).unwrap();
    wrong
}

fn run_noise(data: &Path, out: &Path, more: &[&str]) -> Result<NoiseSummary, TrainError> {
    let args = NoiseFlags::parse_from(flags("noise", data, out, more)).args;
    noise(&args, &AtomicBool::new(false))
}

#[test]
fn flipped_labels_are_found_and_finished_folds_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("chats.csv"), folder.path().join("noise"));
    let wrong = write_noisy_chats(&data, 5);
    let more = ["--folds", "3", "--epochs", "10"];

    // Stopped at once, the first fold is left for the second call.
    let args = NoiseFlags::parse_from(flags("noise", &data, &out, &more)).args;
    let stopped = noise(&args, &AtomicBool::new(true));
    assert!(matches!(&stopped, Err(TrainError::Stopped { .. })), "{stopped:?}");

    let summary = run_noise(&data, &out, &more).unwrap();
    let suspects: Vec<Value> =
        lines(&out.join("suspects.jsonl")).into_iter().filter(|suspect| suspect["task"] == "intent").collect();
    let found: BTreeSet<u64> = suspects.iter().map(|suspect| suspect["row"].as_u64().unwrap()).collect();
    let hits = found.iter().filter(|row| wrong.contains_key(row)).count();
    let (recall, precision) = (hits as f64 / wrong.len() as f64, hits as f64 / found.len() as f64);
    assert!(recall > 0.7 && precision > 0.6, "recall {recall:.2}, precision {precision:.2}");
    let right = |suspect: &&Value| {
        wrong.get(&suspect["row"].as_u64().unwrap()).is_some_and(|&intent| suspect["suggested"] == intent)
    };
    let mended = suspects.iter().filter(right).count();
    assert!(mended as f64 > 0.8 * hits as f64, "{mended} of {hits} get their own intent back");
    let qualities: Vec<f64> = suspects.iter().map(|suspect| suspect["quality"].as_f64().unwrap()).collect();
    assert!(qualities.is_sorted() && suspects[0]["verdict"] == "", "{:?}", suspects[0]);

    let intents = &summary.tasks[0];
    assert_eq!((intents.task, intents.rows, intents.suspects), ("intent", 240, suspects.len()));
    let by_pair: usize = intents.pairs.iter().map(|pair| pair.suspects).sum();
    assert_eq!(by_pair, suspects.len());
    assert!((12.0..40.0).contains(&intents.estimated_wrong), "{}", intents.estimated_wrong);
    assert_eq!(json(&out.join("noise.json"))["tasks"][0]["suspects"], suspects.len());
    let csv = std::fs::read_to_string(out.join("suspects.csv")).unwrap();
    assert!(
        csv.starts_with("\u{feff}file,row,") && csv.lines().count() == lines(&out.join("suspects.jsonl")).len() + 1
    );

    // Again: nothing is trained, and the same is found. With another ranking, too.
    let model = out.join("folds/1/run/model/model.safetensors");
    let made = std::fs::metadata(&model).unwrap().modified().unwrap();
    assert_eq!(run_noise(&data, &out, &more).unwrap(), summary);
    assert_eq!(std::fs::metadata(&model).unwrap().modified().unwrap(), made);
    let ranked = run_noise(&data, &out, &[&more[..], &["--rank-by", "self-confidence"]].concat()).unwrap();
    assert_eq!(ranked.tasks[0].suspects, intents.suspects);

    // Other settings or other data are refused.
    let refused = run_noise(&data, &out, &["--folds", "3", "--epochs", "11"]).unwrap_err().to_string();
    assert!(refused.contains("other settings"), "{refused}");
    write_noisy_chats(&data, 6);
    let refused = run_noise(&data, &out, &more).unwrap_err().to_string();
    assert!(refused.contains("other data"), "{refused}");
}

#[test]
fn noise_refuses_what_it_cannot_judge() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("chats.csv"), folder.path().join("noise"));
    write_chats(&data);
    for (more, said) in [
        (&["--folds", "1"][..], "--folds is 1"),
        (&["--test", "chats.csv"], "--test has no use here"),
        (&["--folds", "99"], "cannot be dealt"),
    ] {
        let refused = run_noise(&data, &out, more).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
        assert!(!out.exists(), "nothing is written");
    }
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine.txt"), "mine").unwrap();
    let refused = run_noise(&data, &out, &[]).unwrap_err().to_string();
    assert!(refused.contains("is not empty"), "{refused}");
}

fn run_suggest(data: &Path, out: &Path, more: &[&str]) -> Result<Vec<Value>, TrainError> {
    let model = root().join("models/artifacts/yingda-sample");
    let paths = [data, out, &model].map(|path| path.to_str().unwrap().to_owned());
    let [data, out, model] = &paths;
    let mut flags = vec!["suggest", "--model", model, "--data", data, "--out", out];
    flags.extend(more);
    suggest(&SuggestFlags::parse_from(flags).args)?;
    Ok(json(Path::new(out)).as_array().unwrap().clone())
}

/// Sample chats; those of every third session keep their intents.
fn write_half_labelled(path: &Path) {
    let mut text = String::new();
    let mut session = (String::new(), 0);
    for line in std::fs::read_to_string(sample("test.jsonl")).unwrap().lines().take(240) {
        let mut row: Value = serde_json::from_str(line).unwrap();
        if row["session_id"] != session.0.as_str() {
            session = (row["session_id"].as_str().unwrap().to_owned(), session.1 + 1);
        }
        if session.1 % 3 != 0 {
            row.as_object_mut().unwrap().remove("intent");
        }
        text += &format!("{row}\n");
    }
    text += "{\"session_id\":\"last\",\"turn\":0,\"role\":\"agent\",\"text\":\"您的手机号是13800138000吗\"}\n";
    text += "{\"session_id\":\"last\",\"turn\":1,\"role\":\"user\",\"text\":\"不是啊是13900139000你们查查那个柜子里的东西\"}\n";
    std::fs::write(path, text).unwrap();
}

#[test]
fn what_is_suggested_is_uncertain_different_and_fits_label_studio() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_half_labelled(&path("chats.jsonl"));
    let config = path("labels.xml");
    let more = ["--count", "20", "--pool", "40", "--label-config", config.to_str().unwrap()];
    let tasks = run_suggest(&path("chats.jsonl"), &path("tasks.json"), &more).unwrap();
    assert_eq!(tasks.len(), 20);
    assert_eq!(run_suggest(&path("chats.jsonl"), &path("again.json"), &more).unwrap(), tasks, "the same command");

    let labels = std::fs::read_to_string(&config).unwrap();
    let rows: Vec<Value> = lines(&path("chats.jsonl"));
    for task in &tasks {
        // The form of Label Studio: names that the configuration has, and choices that it offers.
        let prediction = &task["predictions"][0];
        assert!(prediction["model_version"].as_str().unwrap().starts_with("yingda-sample@"));
        assert!((0.0..=1.0).contains(&prediction["score"].as_f64().unwrap()));
        for result in prediction["result"].as_array().unwrap() {
            assert_eq!((&result["to_name"], &result["type"]), (&Value::from("text"), &Value::from("choices")));
            assert!(labels.contains(&format!("<Choices name={} toName=\"text\"", result["from_name"])), "{result}");
            assert!(labels.contains(&format!("<Choice value={}/>", result["value"]["choices"][0])), "{result}");
        }
        assert!(labels.contains("<Text name=\"text\" value=\"$text\"/>") && labels.contains("value=\"$before\""));
        // Nothing that has an intent, and nothing of a person of the shop.
        let row = &rows[task["data"]["row"].as_u64().unwrap() as usize - 1];
        assert!(row.get("intent").is_none() && row["role"] == "user", "{row}");
        assert_eq!(row["session_id"], task["data"]["session_id"]);
        assert_eq!(task["data"]["file"], "chats.jsonl");
    }
    let texts: BTreeSet<&str> = tasks.iter().map(|task| task["data"]["text"].as_str().unwrap()).collect();
    assert_eq!(texts.len(), tasks.len());

    // All of it: personal data is masked, and the chat before a message comes with it.
    let all = run_suggest(&path("chats.jsonl"), &path("all.json"), &["--count", "1000"]).unwrap();
    let last = all.iter().find(|task| task["data"]["session_id"] == "last").unwrap();
    let data = last["data"].to_string();
    assert!(!data.contains("13800138000") && !data.contains("13900139000"), "{data}");
    assert!(last["data"]["before"].as_str().unwrap().starts_with("客服：您的手机号是"), "{data}");
    let mean = |tasks: &[Value]| {
        tasks.iter().map(|task| task["data"]["margin"].as_f64().unwrap()).sum::<f64>() / tasks.len() as f64
    };
    assert!(mean(&tasks) < 0.8 * mean(&all), "{} and {}", mean(&tasks), mean(&all));

    // Labelled to the end, nothing is left.
    write_chats(&path("labelled.csv"));
    let refused = run_suggest(&path("labelled.csv"), &path("none.json"), &[]).unwrap_err().to_string();
    assert!(refused.contains("has an intent already"), "{refused}");
    assert!(!path("none.json").exists());
}

fn event_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A run is cut off at step 25 with its last checkpoint at 20, and goes on: every step stands there once.
#[test]
fn a_resumed_run_repeats_no_step_in_its_event_files() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("tensorboard");
    cut(&events, 7).unwrap();
    let mut writer = EventWriter::create(&events).unwrap();
    for step in [5, 10, 15, 20, 25] {
        writer.scalar("train/loss", step, 1.0 / step as f64, 1e9 + step as f64).unwrap();
    }
    drop(writer);
    let first = event_files(&events).remove(0);
    let whole = std::fs::read(&first).unwrap();
    // The machine went down in the middle of a record.
    std::fs::write(&first, &whole[..whole.len() - 3]).unwrap();
    cut(&events, 25).unwrap();
    let record = (whole.len() - 40) / 5;
    assert_eq!(std::fs::read(&first).unwrap(), whole[..whole.len() - record]);
    cut(&events, 15).unwrap();
    cut(&events, 15).unwrap();
    assert_eq!(std::fs::read(&first).unwrap(), whole[..whole.len() - 2 * record]);

    EventWriter::create(&events)
        .unwrap()
        .line(20, &serde_json::json!({"loss": 0.05, "validation": {"score": 0.5}}))
        .unwrap();
    EventWriter::create(&events).unwrap();
    let files = event_files(&events);
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(files[0], first, "later files sort behind");
    let second = std::fs::read(&files[1]).unwrap();
    for tag in ["train/loss", "validation/score"] {
        assert!(second.windows(tag.len()).any(|window| window == tag.as_bytes()), "{tag}");
    }
}

#[test]
fn a_sweep_ranks_goes_on_and_grows() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("chats.csv"), folder.path().join("sweep"));
    write_chats(&data);
    let args = |more: &[&str]| {
        // The lexical part would learn these chats by itself.
        let more = [&["--epochs", "2", "--no-lexical"], more].concat();
        let mut flags = flags("sweep", &data, &out, &more);
        // The grid sets it.
        let rate = flags.iter().position(|flag| *flag == "--learning-rate").unwrap();
        flags.drain(rate..rate + 2);
        SweepFlags::parse_from(flags).args
    };
    let two = args(&["--grid", "learning-rate=3e-3,1e-7", "--seeds", "2"]);
    let stopped = sweep(&two, &AtomicBool::new(true));
    assert!(matches!(&stopped, Err(TrainError::Stopped { .. })), "{stopped:?}");

    let summary = sweep(&two, &AtomicBool::new(false)).unwrap();
    assert_eq!((summary.runs, summary.runs_done, summary.ranking.len()), (4, 4, 2));
    let best = &summary.ranking[0];
    assert_eq!(best.flags, "--learning-rate 0.003", "nothing is learnt with 1e-7");
    assert!(best.mean > summary.ranking[1].mean && best.scores.len() == 2, "{:?}", summary.ranking);
    let mean = best.scores.iter().sum::<f64>() / 2.0;
    assert!((best.mean.unwrap() - mean).abs() < 1e-12 && best.standard_deviation.is_some());
    // The score is that of validation, as the run's own log has it.
    let run = best.folder.join("seed-20260101");
    let logged = lines(&run.join("metrics.jsonl"));
    let logged = logged.iter().filter_map(|line| line["validation"]["score"].as_f64()).fold(0.0, f64::max);
    assert_eq!(logged, best.scores[0]);
    assert_eq!(json(&out.join("sweep.json"))["ranking"][0]["flags"], best.flags.as_str());
    assert!(run.join("model/model.safetensors").exists() && !run.join("checkpoint").exists());

    // More values: what is done is not run again.
    let made = std::fs::metadata(run.join("config.json")).unwrap().modified().unwrap();
    let three = args(&["--grid", "learning-rate=3e-3,1e-7,1e-3", "--seeds", "2"]);
    let grown = sweep(&three, &AtomicBool::new(false)).unwrap();
    assert_eq!((grown.runs_done, grown.ranking.len()), (6, 3));
    assert_eq!(std::fs::metadata(run.join("config.json")).unwrap().modified().unwrap(), made);
    assert!(grown.ranking.contains(best));

    // Other settings for all runs are another sweep.
    let refused = sweep(&args(&["--grid", "learning-rate=3e-3", "--dropout", "0.3"]), &AtomicBool::new(false));
    assert!(refused.unwrap_err().to_string().contains("other settings"));
    let refused = sweep(&args(&["--grid", "lerning-rate=3e-3"]), &AtomicBool::new(false));
    assert!(refused.unwrap_err().to_string().contains("learning-rate"));
}
