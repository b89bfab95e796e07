//! Other programs' formats: exports of labelling tools that are imported, and models that transformers, sentence-transformers
//! and onnxruntime load (`tests/python/check_exports.py`).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use candle_core::Device;
use clap::Parser as _;
use serde_json::{Value, json};
use yingda_datasets::{CheckOptions, ColumnMap, Message, check, load};
use yingda_models::{
    Batch, BertConfig, HiddenAct, Labels, Lexical, LexicalHead, ModelFolder, ModelSettings, MultiTaskModel, Output,
    Parameters, Pooling, Precision, SENTIMENTS, Seeded, Temperatures, TextTokenizer, Thresholds, character_vocabulary,
    grams, text::TextContract,
};
use yingda_train::{
    TrainError,
    export::{ExportFlags, Exported},
    import::{ImportFlags, ImportSummary},
};

use crate::support::{root, say};

/// `import` as it is called on the command line.
#[derive(clap::Parser)]
struct Import {
    #[command(flatten)]
    flags: ImportFlags,
}

/// `export` as it is called on the command line.
#[derive(clap::Parser)]
struct Export {
    #[command(flatten)]
    flags: ExportFlags,
}

fn import(from: &str, files: &[PathBuf], out: &Path, more: &[&str]) -> Result<ImportSummary, TrainError> {
    let mut flags = vec!["import", "--from", from, "--out", out.to_str().unwrap()];
    flags.extend(files.iter().map(|file| file.to_str().unwrap()));
    flags.extend(more);
    Import::parse_from(flags).flags.run()
}

fn export(model: &Path, out: &Path, more: &[&str]) -> Result<Exported, TrainError> {
    let mut flags = vec!["export", "--model", model.to_str().unwrap(), "--out", out.to_str().unwrap()];
    flags.extend(more);
    Export::parse_from(flags).flags.run()
}

/// What the sample says, without the places.
fn sample_messages() -> Vec<Message> {
    let chats = load(&[root().join("datasets/data/sample/test.jsonl")], &ColumnMap::default()).unwrap();
    chats.messages().unwrap()
}

fn without_place(messages: Vec<Message>) -> Vec<Message> {
    messages.into_iter().map(|message| Message { file: String::new(), row: 0, ..message }).collect()
}

fn read_back(path: &Path) -> Vec<Message> {
    let chats = load(&[path.to_owned()], &ColumnMap::default()).unwrap();
    let report = check(&chats, &CheckOptions::default(), &str::to_owned).unwrap();
    assert!(!report.has_errors(), "{}", report.table(5));
    without_place(chats.messages().unwrap())
}

#[test]
fn the_sample_goes_through_label_studio_and_doccano_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let messages = sample_messages();
    let choice = |name: &str, label: &str| json!({ "type": "choices", "from_name": name, "to_name": "text", "value": { "choices": [label] } });
    let beside = |message: &Message| {
        json!({
            "text": message.text, "session_id": message.session_id, "turn": message.turn, "role": message.role,
            "time": message.time, "channel": message.channel,
        })
    };
    let tasks: Vec<Value> = (1..)
        .zip(&messages)
        .map(|(id, message)| {
            let intent = message.intent.iter().map(|intent| choice("intent", intent));
            let sentiment = message.sentiment.iter().map(|sentiment| choice("sentiment", sentiment.as_str()));
            let result: Vec<Value> = intent.chain(sentiment).collect();
            json!({ "id": id, "data": beside(message), "annotations": [{ "result": result, "was_cancelled": false }] })
        })
        .collect();
    let tool = folder.path().join("project-1.json");
    fs::write(&tool, serde_json::to_string(&tasks).unwrap()).unwrap();
    let out = folder.path().join("label-studio.jsonl");
    let summary = import("label-studio", &[tool], &out, &[]).unwrap();
    assert_eq!((summary.messages, summary.written.as_deref()), (messages.len(), Some(out.as_path())));
    assert!(summary.table(20).contains("written to "), "{}", summary.table(20));
    assert_eq!(read_back(&out), without_place(messages.clone()));

    let rows: Vec<String> = (1..)
        .zip(&messages)
        .map(|(id, message)| {
            let mut row = beside(message);
            let labels: Vec<&str> =
                message.intent.as_deref().into_iter().chain(message.sentiment.map(|one| one.as_str())).collect();
            row["id"] = id.into();
            row["label"] = labels.into();
            row.to_string()
        })
        .collect();
    let tool = folder.path().join("all.jsonl");
    fs::write(&tool, rows.join("\n")).unwrap();
    let out = folder.path().join("doccano.jsonl");
    import("doccano", &[tool], &out, &[]).unwrap();
    assert_eq!(read_back(&out), without_place(messages));
}

#[test]
fn the_sample_goes_through_rasa_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let messages: Vec<Message> = sample_messages().into_iter().filter(|message| message.intent.is_some()).collect();
    let intents: BTreeSet<&str> = messages.iter().filter_map(|message| message.intent.as_deref()).collect();
    let mut text = String::from("version: \"3.1\"\nnlu:\n");
    for &intent in &intents {
        text += &format!("- intent: {intent}\n  examples: |\n");
        for message in messages.iter().filter(|message| message.intent.as_deref() == Some(intent)) {
            text += &format!("    - {}\n", message.text.trim());
        }
    }
    let tool = folder.path().join("nlu.yml");
    fs::write(&tool, text).unwrap();
    let out = folder.path().join("rasa.jsonl");
    let summary = import("rasa", &[tool], &out, &[]).unwrap();
    assert_eq!(summary.imported.sessions, messages.len());
    let pairs = |messages: &[Message]| -> BTreeSet<(String, Option<String>)> {
        messages.iter().map(|message| (message.text.trim().to_owned(), message.intent.clone())).collect()
    };
    assert_eq!(pairs(&read_back(&out)), pairs(&messages));
}

#[test]
fn an_import_with_errors_tells_all_of_them_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let good = write("good.jsonl", "{\"text\": \"退货\", \"label\": [\"退货\"]}\n");
    let bad = write("bad.jsonl", "{\"text\": \"退货\", \"label\": [\"退货\", \"换货\"]}\n{\"text\": \"\"}\n{}\n");
    let broken = write("broken.json", "[{},\n");
    let out = folder.path().join("chats.jsonl");
    let summary = import("doccano", &[good.clone(), bad, broken], &out, &[]).unwrap();
    assert_eq!((summary.messages, &summary.written), (0, &None));
    assert!(!out.exists());
    let table = summary.table(20);
    for told in ["bad.jsonl:1", "bad.jsonl:2", "bad.jsonl:3", "broken.json", "nothing was written: 4 errors"] {
        assert!(table.contains(told), "{told} is not told:\n{table}");
    }
    let shown = serde_json::to_value(&summary).unwrap();
    assert_eq!((shown["problems"].as_array().unwrap().len(), &shown["written"]), (4, &Value::Null));

    let refused = |from: &str, out: &Path, more: &[&str]| {
        import(from, std::slice::from_ref(&good), out, more).unwrap_err().to_string()
    };
    assert!(refused("doccano", &good, &[]).contains("exists already"));
    assert!(refused("doccano", &folder.path().join("chats.csv"), &[]).contains("must be named .jsonl"));
    assert!(refused("rasa", &out, &["--intent-from", "x"]).contains("--intent-from cannot be used"));
    assert!(!out.exists());
}

/// Texts that the contract leaves as they are; the first two are those of the cards' snippets.
const TEXTS: [&str; 8] = [
    "怎么退货",
    "快递三天没动了",
    "你好",
    "订单[数字]的[手机号]填错了,能改吗?",
    "ok",
    "谢谢😊",
    "龘",
    "我想问一下上周买的那件蓝色外套尺码偏大能不能换小一号,另外运费是你们出还是我出,换的话大概几天能收到",
];

/// Writes what Yingda says of [`TEXTS`].
fn write_expected(model: &Path, path: &Path) {
    let model = ModelFolder::open(model, &Device::Cpu, false).unwrap();
    let ids: Vec<Vec<u32>> = TEXTS
        .iter()
        .map(|text| {
            assert_eq!(model.tokenizer.contract().model_text(text), *text, "a text that is not cleaned");
            model.tokenizer.encode(text).unwrap().ids
        })
        .collect();
    let batch = Batch::new(&ids);
    let outputs = model.model.run(&batch).unwrap();
    for output in &outputs {
        let length: f32 = output.embedding.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-4, "{length}");
    }
    let rows = |part: fn(&Output) -> &Vec<f32>| outputs.iter().map(part).cloned().collect::<Vec<_>>();
    let config = model.model.encoder().config();
    let expected = json!({
        "texts": TEXTS,
        "ids": ids,
        "embedding": rows(|output| &output.embedding),
        "intent_logits": rows(|output| &output.intent_logits),
        "sentiment_logits": rows(|output| &output.sentiment_logits),
        "intents": model.settings.labels.intents,
        "max_tokens": model.tokenizer.max_tokens(),
        "layers": config.num_hidden_layers,
        "activation": match config.hidden_act {
            HiddenAct::Gelu => "gelu",
            HiddenAct::GeluApproximate => "gelu_new",
            HiddenAct::Relu => "relu",
        },
    });
    fs::write(path, expected.to_string()).unwrap();
}

/// Every second n-gram of [`TEXTS`] with a weight for each of three intents and sentiments.
fn lively_lexical(tokenizer: &TextTokenizer) -> Lexical {
    let keys: BTreeSet<u64> =
        TEXTS.iter().flat_map(|text| grams(&tokenizer.encode(text).unwrap().ids).collect::<Vec<_>>()).collect();
    let keys: Vec<u64> = keys.into_iter().step_by(2).collect();
    let mut generator = Seeded::new(3, 0);
    let mut head = || LexicalHead { weight: generator.normals(3 * keys.len(), 1.0), bias: generator.normals(3, 1.0) };
    let (intent, sentiment) = (head(), head());
    Lexical::new(keys, Some(intent), Some(sentiment)).unwrap()
}

/// A model with weights large enough that every part of it matters.
fn lively_model(folder: &Path, activation: HiddenAct, lexical: bool) {
    let labels = Labels {
        intents: ["退货", "物流查询", "转人工"].map(str::to_owned).to_vec(),
        sentiments: SENTIMENTS.map(str::to_owned).to_vec(),
    };
    let vocabulary = character_vocabulary(TEXTS);
    let config = BertConfig {
        vocab_size: vocabulary.len(),
        hidden_size: 32,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        intermediate_size: 48,
        hidden_act: activation,
        max_position_embeddings: 80,
        type_vocab_size: 2,
        ..BertConfig::default()
    };
    let settings = ModelSettings {
        context_turns: 0,
        serving: Default::default(),
        guarantee: None,
        folded: None,
        format: 1,
        labels,
        pooling: Pooling::Mean,
        max_tokens: 64,
        text: TextContract::default(),
        temperatures: Temperatures::default(),
        thresholds: Thresholds::default(),
        data_fingerprint: "none".to_owned(),
        created_by: "tests".to_owned(),
    };
    let tokenizer = TextTokenizer::from_vocabulary(&vocabulary, settings.text.clone(), settings.max_tokens).unwrap();
    let parameters = Parameters::fresh(7, 0.4, &Device::Cpu);
    let (mut model, _) = MultiTaskModel::new(parameters, &config, &settings.labels, &Device::Cpu).unwrap();
    model.set_lexical(lexical.then(|| lively_lexical(&tokenizer)));
    model.save(folder, &tokenizer, &settings, "A model for tests.\n", Precision::F32).unwrap();
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn exports_have_their_files_and_yingda_reads_its_own_again() {
    let folder = tempfile::tempdir().unwrap();
    let model = root().join("models/artifacts/yingda-sample");
    let at = |name: &str| folder.path().join(name);

    let own = ["README.md", "config.json", "heads.safetensors", "model.safetensors", "tokenizer.json", "yingda.json"];
    let transformers = ["special_tokens_map.json", "tokenizer_config.json", "vocab.txt"];
    let sentences =
        ["1_Pooling", "2_Normalize", "config_sentence_transformers.json", "modules.json", "sentence_bert_config.json"];
    let set = |lists: &[&[&str]]| lists.concat().into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    for (format, files) in [
        ("yingda", set(&[&own, &["seen.bin"]])),
        ("hugging-face", set(&[&own, &transformers])),
        ("sentence-transformers", set(&[&own, &transformers, &sentences])),
        ("onnx", set(&[&["README.md", "config.json", "model.onnx", "tokenizer.json", "yingda.json"]])),
    ] {
        let exported = export(&model, &at(format), &["--format", format]).unwrap();
        assert_eq!(names(&at(format)), files, "{format}");
        match exported {
            Exported::Weights(summary) => {
                assert!(summary.probability_difference < 1e-5 && summary.least_cosine > 0.99999, "{summary:?}");
                let half = format == "yingda";
                assert_eq!(summary.bytes_after > summary.bytes_before * 3 / 2, !half, "{summary:?}");
                assert_eq!(
                    ModelFolder::open(&at(format), &Device::Cpu, false).unwrap().predict(&TEXTS).unwrap().len(),
                    8
                );
            }
            Exported::Onnx(summary) => {
                assert_eq!(summary.bytes, fs::metadata(at("onnx/model.onnx")).unwrap().len());
            }
        }
        let again = export(&model, &at(format), &["--format", format]).unwrap_err().to_string();
        assert!(again.contains("exists already"), "{again}");
    }
    let half = export(&model, &at("half"), &["--format", "hugging-face", "--precision", "f16"]).unwrap();
    let Exported::Weights(half) = half else { panic!("no ONNX was asked for") };
    assert_eq!(half.bytes_after, half.bytes_before);
    let refused = export(&model, &at("no"), &["--format", "onnx", "--precision", "f16"]).unwrap_err().to_string();
    assert!(refused.contains("leave --precision f16 out"), "{refused}");
    let refused = export(&at("nothing"), &at("no"), &["--format", "hugging-face"]).unwrap_err().to_string();
    assert!(refused.contains("is not a model folder"), "{refused}");
    assert!(!at("no").exists());
    // The same model gives the same bytes.
    export(&model, &at("twin"), &["--format", "onnx"]).unwrap();
    assert_eq!(fs::read(at("onnx/model.onnx")).unwrap(), fs::read(at("twin/model.onnx")).unwrap());
}

/// A Python that has the libraries, or nothing after saying so. One that was named must have them.
fn python(script: &Path) -> Option<String> {
    let named = std::env::var("YINGDA_TEST_PYTHON").ok().filter(|name| !name.trim().is_empty());
    let interpreter = named.clone().unwrap_or_else(|| "python3".to_owned());
    let missing = match Command::new(&interpreter).arg(script).arg("--missing").output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(", ")
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    if missing.is_empty() {
        return Some(interpreter);
    }
    assert!(named.is_none(), "YINGDA_TEST_PYTHON is {interpreter} and lacks: {missing}");
    say(&format!(
        "exports are not compared with other libraries: {interpreter} lacks {missing}; install \
         tests/python/requirements.txt and name that Python in YINGDA_TEST_PYTHON"
    ));
    None
}

#[test]
fn other_libraries_compute_the_same_from_exports() {
    let script = root().join("tests/python/check_exports.py");
    let Some(python) = python(&script) else { return };
    let folder = tempfile::tempdir().unwrap();
    let cases = folder.path().join("cases");
    let sample = root().join("models/artifacts/yingda-sample");
    let gelu_new = folder.path().join("gelu_new");
    let relu = folder.path().join("relu");
    lively_model(&gelu_new, HiddenAct::GeluApproximate, true);
    lively_model(&relu, HiddenAct::Relu, false);
    let all: &[&str] = &["hugging-face", "sentence-transformers", "onnx"];
    let some: &[&str] = &["hugging-face", "onnx"];
    for (name, model, formats, more) in [
        ("sample", &sample, all, &[][..]),
        ("half", &sample, &all[..2], &["--precision", "f16"]),
        ("gelu_new", &gelu_new, some, &[]),
        ("relu", &relu, some, &[]),
    ] {
        let case = cases.join(name);
        for format in formats {
            export(model, &case.join(format), &[&["--format", format], more].concat()).unwrap();
        }
        write_expected(model, &case.join("expected.json"));
    }
    let output = Command::new(python).arg(&script).arg(&cases).output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{failed}");
    assert!(said.contains("relu/onnx") && said.contains("sample/sentence-transformers"), "{said}");
}
