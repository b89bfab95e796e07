//! The benchmark files: what is held out is nowhere in what is learnt from, and the peer can read them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    sync::atomic::AtomicBool,
};

use serde_json::{Value, json};
use yingda_train::{
    bench::accuracy::{Accuracy, AccuracyFlags, Method, accuracy},
    pretrain::pretrain,
};

use crate::{learning::small_pretraining, notebooks::python, support::root};

/// A folder of data sets in the common form, in our own words: everything that `bench/prepare.py` reads.
fn write_data(folder: &Path) {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let lines = |rows: &mut dyn Iterator<Item = Value>| rows.map(|row| format!("{row}\n")).collect::<String>();
    let single = |prefix: &str, rows: &[(String, &str, &str)]| {
        lines(&mut rows.iter().enumerate().map(|(row, (text, intent, sentiment))| {
            let mut line = json!({"session_id": format!("{prefix}-{row}"), "turn": 0, "role": "user", "text": text});
            for (label, value) in [("intent", intent), ("sentiment", sentiment)] {
                if !value.is_empty() {
                    line[label] = json!(value);
                }
            }
            line
        }))
    };
    let things = ["外套", "台灯", "耳机", "水杯", "鞋子", "书包", "毛巾", "铁锅", "椅子", "手表"];
    let asked = |form: &str, label: &'static str| -> Vec<(String, &'static str, &'static str)> {
        things.iter().map(|thing| (form.replace('#', thing), label, "")).collect()
    };

    let standard = [("std-1", "怎么开户"), ("std-2", "怎么销户")];
    write("faq-securities/replies.jsonl", lines(&mut standard.iter().map(|(id, q)| json!({"id": id, "question": q}))));
    let train = [asked("我有#能开户吗", "std-1"), asked("卖了#想销户了", "std-2")].concat();
    write("faq-securities/intent_train.jsonl", single("train", &train));
    let dev =
        [(String::from("App上如何开户"), "std-1", ""), (String::from("把我的户头销了吧谢谢各位老师"), "std-2", "")];
    write("faq-securities/intent_dev.jsonl", single("dev", &dev));
    write("faq-securities/hard_negatives.tsv", "query_id\tfaq_id\ntrain-0\tstd-2\ndev-0\tstd-2\n".into());

    let others = ["怎么取消收藏", "你好"].map(|text| (text.to_owned(), "", ""));
    write("queries-zhihu/messages.jsonl", single("zhihu", &others));

    let mut jd = Vec::new();
    for (session, thing) in things.iter().enumerate() {
        let id = format!("valid-{session}");
        jd.push(json!({"session_id": id, "turn": 0, "role": "user", "text": format!("{thing}几号能送到我家"), "intent": "配送周期"}));
        jd.push(json!({"session_id": id, "turn": 1, "role": "agent", "text": "请稍等"}));
        jd.push(json!({"session_id": id, "turn": 2, "role": "user", "text": "好的", "intent": "OTHER", "sentiment": "neutral"}));
        jd.push(json!({"session_id": id, "turn": 3, "role": "user", "text": format!("{thing}退了"), "intent": "退货", "sentiment": "negative"}));
    }
    write("chats-jd/chats.jsonl", lines(&mut jd.into_iter()));
    let unlabelled = ["好的", "耳机几号能 送到我家", "您好，请问您要问的是耳机几号能送到我家吗", "我想问问保修"];
    let unlabelled = unlabelled.map(|text| (text.to_owned(), "", ""));
    write("chats-jd-unlabelled/chats.jsonl", single("u", &unlabelled));

    write(
        "intent-assistant/train.jsonl",
        single("at", &[asked("播放#的视频", "video"), asked("#今天多少钱", "stock")].concat()),
    );
    write(
        "intent-assistant/dev.jsonl",
        single("ad", &[asked("来一段#视频", "video"), asked("看看#多少钱", "stock")].concat()),
    );
    let opinions = |form: &str, rows: usize| -> Vec<(String, &'static str, &'static str)> {
        let opinion = |row: usize| if row.is_multiple_of(2) { ("很好", "positive") } else { ("太差", "negative") };
        (0..rows).map(|row| (format!("{form}{row}号{}", opinion(row).0), "", opinion(row).1)).collect()
    };
    write("sentiment-reviews/waimai.jsonl", single("w", &opinions("外卖", 60)));
    write("sentiment-reviews/hotel.jsonl", single("h", &opinions("房间", 60)));
    let double = (String::from("房间 0号很好"), "酒店", "positive");
    write("sentiment-reviews/shopping.jsonl", single("s", &[opinions("苹果", 60), vec![double]].concat()));
    write("sentiment-car/messages.jsonl", single("c", &opinions("车子", 80)));

    // Chains of three questions that share texts.
    for (name, what) in [("finance", "花呗"), ("general", "火车")] {
        let mut pairs = String::from("source\tq1\tq2\tlabel\n");
        for chain in 0..40 {
            let what = format!("{what}{chain}");
            pairs += &format!("A\t{what}怎么还\t如何还{what}\t1\nA\t如何还{what}\t{what}怎么开\t0\n");
        }
        write(&format!("question-pairs-{name}/pairs.tsv"), pairs);
    }
    write(
        "faq-gamedev/replies.jsonl",
        lines(&mut [json!({"id": "e", "question": "怎么画圆", "answer": "用画笔"})].into_iter()),
    );
    write("replies-realestate/pairs.tsv", "row\tquestion\treply\tlabel\n0\t几楼\t十楼\t1\n".into());
    write("sentiment-chatbot/messages.jsonl", single("b", &asked("我也有#呀", "")));
    write("sentiment-tv/messages.jsonl", single("t", &asked("快把#给我", "")));
    write("sentiment-weibo/virus_train.jsonl", single("v", &asked("#加油", "")));
    for name in ["abstracts_csl", "app_descriptions_iflytek", "news_titles_tnews", "ocnli_sentences", "passages_chid"] {
        // Some of the questions are held out.
        let questions: String = (0..40).map(|chain| format!("如何 还火车{chain}\n")).collect();
        write(&format!("pretrain-text/{name}.txt"), format!("{name}的一句话\n{questions}"));
    }
    write("pretrain-text/news_titles_thuc.txt", "ａｐｐ 上如何开户\n".into());
    write("pretrain-text/tech_weekly.txt", "他说：把我的户头销了吧 谢谢各位老师，说完就走了\n".into());
}

/// What stays of a text when it is compared.
fn key(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect()
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts_of_pairs(text: &str) -> BTreeSet<String> {
    text.lines().skip(1).flat_map(|line| line.split('\t').take(2)).map(key).collect()
}

#[test]
fn what_is_held_out_is_never_learnt_from() {
    let Some(python) = python("what_is_held_out_is_never_learnt_from") else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_data(&data);
    let prepare = |out: &str| {
        let out = folder.path().join(out);
        let program = root().join("bench/prepare.py");
        let run = Command::new(&python).arg(program).arg(&data).arg(&out).env("PYTHONDONTWRITEBYTECODE", "1").output();
        let run = run.unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        files(&out)
    };
    let made = prepare("once");
    assert_eq!(made, prepare("twice"));

    // All sessions of the chats are in one test side, with all their messages.
    for task in ["jd-acts", "jd-acts-other", "jd-satisfaction"] {
        let mut tested = BTreeSet::new();
        for fold in 0..5 {
            let sessions = |side: &str| -> Vec<String> {
                let rows = rows(&made[&format!("{task}/fold-{fold}/{side}.jsonl")]);
                rows.iter().map(|row| row["session_id"].as_str().unwrap().to_owned()).collect()
            };
            let (train, test) = (sessions("train"), sessions("test"));
            assert_eq!(train.len() + test.len(), 40);
            let test: BTreeSet<String> = test.into_iter().collect();
            assert!(train.iter().all(|session| !test.contains(session)) && test.len() == 2, "{test:?}");
            tested.extend(test);
        }
        assert_eq!(tested.len(), 10);
    }
    let labels = |task: &str, label: &str| -> BTreeSet<String> {
        let rows = rows(&made[&format!("{task}/fold-0/train.jsonl")]);
        rows.iter().filter_map(|row| row[label].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(labels("jd-acts", "intent").into_iter().collect::<Vec<_>>(), ["退货", "配送周期"]);
    assert!(labels("jd-acts-other", "intent").contains("OTHER"));
    assert!(labels("jd-satisfaction", "intent").is_empty() && labels("jd-satisfaction", "sentiment").len() == 2);

    // A hotel review that also stands in the shopping file counts once.
    let reviews = rows(&(made["reviews/train.jsonl"].clone() + &made["reviews/test.jsonl"]));
    assert_eq!(reviews.len(), 180);

    let mut held_out = BTreeSet::new();
    for name in ["pairs-finance", "pairs-general"] {
        let [learnt, tested] = ["train", "test"].map(|side| texts_of_pairs(&made[&format!("{name}/{side}.tsv")]));
        assert!(learnt.is_disjoint(&tested) && !learnt.is_empty() && !tested.is_empty(), "{name}: {tested:?}");
        held_out.extend(tested);
    }

    // Nothing that is scored stands in the text to pretrain on, whatever its case, width and spaces, nor inside a line.
    for (name, text) in made.iter().filter(|(name, _)| name.ends_with("test.jsonl")) {
        let scored = rows(text).into_iter().filter(|row| row["role"] == "user");
        let before = held_out.len();
        held_out.extend(scored.map(|row| key(row["text"].as_str().unwrap())));
        assert!(held_out.len() > before || name.starts_with("jd-"), "{name} is empty");
    }
    let mut lines = 0;
    for (name, text) in made.iter().filter(|(name, _)| name.starts_with("pretrain/") && name.ends_with(".txt")) {
        for line in text.lines() {
            lines += 1;
            assert!(!held_out.contains(&key(line)), "{name}: {line}");
        }
    }
    assert!(lines > 200, "{lines}");
    assert_eq!(
        made["pretrain/jd_unlabelled.txt"].lines().collect::<Vec<_>>(),
        ["您好，请问您要问的是耳机几号能送到我家吗", "我想问问保修"]
    );
    // Chats keep the small words that many customers say, and the order of what was said.
    let said = |name: &str| -> Vec<(String, String)> {
        let cell = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
        rows(&made[name]).iter().map(|row| (cell(row, "role"), cell(row, "text"))).collect()
    };
    let by = |role: &str, texts: &[&str]| -> Vec<(String, String)> {
        texts.iter().map(|text| (role.to_owned(), (*text).to_owned())).collect()
    };
    let kept = ["好的", "您好，请问您要问的是耳机几号能送到我家吗", "我想问问保修"];
    assert_eq!(said("pretrain/chats_jd.jsonl"), by("user", &kept));
    let answered = said("pretrain/chats_answered.jsonl");
    assert_eq!(answered[2..], [by("user", &["怎么画圆"]), by("agent", &["用画笔"])].concat());
    assert_eq!((made["pretrain/news_titles_thuc.txt"].as_str(), made["pretrain/tech_weekly.txt"].as_str()), ("", ""));
    assert_eq!(made["pretrain/abstracts_csl.txt"].lines().next(), Some("abstracts_csl的一句话"));
    let pairs = &made["pretrain/pairs.tsv"];
    for pairs in [pairs, &made["pretrain/pairs_general.tsv"]] {
        let learnt = texts_of_pairs(pairs);
        assert!(learnt.is_disjoint(&held_out) && !learnt.is_empty(), "{pairs}");
    }
    assert!(
        pairs.contains("我有外套能开户吗\t怎么开户\t1\n") && pairs.contains("我有外套能开户吗\t怎么销户\t0\n"),
        "{pairs}"
    );

    let peer = Command::new(&python)
        .arg(root().join("bench/tfidf.py"))
        .arg(folder.path().join("once"))
        .args(["--only", "assistant", "securities-retrieval", "pairs-finance", "--json"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(peer.status.success(), "{}", String::from_utf8_lossy(&peer.stderr));
    let peer: Value = serde_json::from_slice(&peer.stdout).unwrap();
    // 视频 and the rest tell the classes apart, and 开户 or 户 the entries; the first dev question shares 开户 with its entry.
    assert_eq!(peer["tasks"]["assistant"]["accuracy"], 1.0, "{peer}");
    assert!(peer["tasks"]["securities-retrieval"]["bm25"]["recall_at_1"].as_f64().unwrap() >= 0.5, "{peer}");
    assert!(peer["tasks"]["pairs-finance"]["auc"].as_f64().unwrap() > 0.5, "{peer}");
}

#[test]
fn accuracy_is_measured_beside_the_peers_and_runs_are_kept() {
    let Some(python) = python("accuracy_is_measured_beside_the_peers_and_runs_are_kept") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (data, tasks) = (folder.path().join("data"), folder.path().join("tasks"));
    write_data(&data);
    let prepare = Command::new(&python).arg(root().join("bench/prepare.py")).arg(&data).arg(&tasks).output().unwrap();
    assert!(prepare.status.success(), "{}", String::from_utf8_lossy(&prepare.stderr));
    let never = AtomicBool::new(false);
    let base = pretrain(&small_pretraining(folder.path(), &[]), &folder.path().join("base"), false, &never).unwrap();
    let mut flags = AccuracyFlags {
        tasks,
        base: base.model,
        seeds: 2,
        seed: 1,
        only: ["securities-300", "securities-retrieval", "pairs-finance"].map(str::to_owned).to_vec(),
        random: false,
        epochs: Some(2),
        python: Some(python),
        scripts: root().join("bench"),
        out: folder.path().join("results"),
        json: false,
    };
    let found = accuracy(&flags, &never).unwrap();
    let of = |task: &str, measure: &str, method: Method| -> Option<&Accuracy> {
        found.iter().find(|one| one.task == task && one.measure == measure && one.method == method)
    };
    for (task, measure, methods) in [
        ("securities-300", "accuracy", vec![Method::Fitted, Method::TfIdf]),
        ("securities-300", "macro-F1", vec![Method::Fitted, Method::TfIdf]),
        ("securities-retrieval", "R@1", vec![Method::Fitted, Method::Base, Method::TfIdf, Method::Bm25]),
        ("securities-retrieval", "MRR@10", vec![Method::Fitted, Method::Base, Method::TfIdf, Method::Bm25]),
        ("pairs-finance", "AUC", vec![Method::Base, Method::TfIdf]),
    ] {
        for method in methods {
            let one = of(task, measure, method).unwrap_or_else(|| panic!("no {measure} of {task} by {method:?}"));
            assert!((0.0..=1.0).contains(&one.mean), "{one:?}");
            assert_eq!(one.standard_deviation.is_some(), method == Method::Fitted, "{one:?}");
        }
    }
    assert_eq!(of("securities-retrieval", "R@10", Method::Base).unwrap().mean, 1.0, "there are two entries");

    // Again: nothing is trained. Another base under the same name is refused.
    flags.python = None;
    let again = accuracy(&flags, &never).unwrap();
    assert!(again.iter().all(|one| found.contains(one)) && again.len() < found.len());
    let other = small_pretraining(folder.path(), &["--seed", "7"]);
    let other = pretrain(&other, &folder.path().join("other"), false, &never).unwrap().model;
    std::fs::remove_dir_all(&flags.base).unwrap();
    std::fs::rename(other, &flags.base).unwrap();
    let refused = accuracy(&flags, &never).unwrap_err().to_string();
    assert!(refused.contains("another base"), "{refused}");
    flags.only = vec!["没有".into()];
    let refused = accuracy(&flags, &never).unwrap_err().to_string();
    assert!(refused.contains("no such task") && refused.contains("jd-acts"), "{refused}");
}
