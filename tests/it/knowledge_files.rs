//! Knowledge files as the commands use them: what `check` finds in a spoilt base, and that it finds nothing in a good one.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use yingda::{
    config::{Config, SAMPLE_KNOWLEDGE, SAMPLE_MODEL},
    knowledge::{
        self,
        check::{self, CheckSettings, Finding, Wording},
    },
    storage::{NewTurn, SessionDetails, Storage},
};
use yingda_engine::{Engine, KnowledgeEntry, Role};

use crate::{
    socket::yingda,
    support::{on_each_database, root, tiny_model},
};

const TODAY: u32 = 20_260_615;

fn entry(id: &str, question: &str, similar: &[&str], answer: &str) -> KnowledgeEntry {
    KnowledgeEntry {
        id: id.into(),
        question: question.into(),
        similar_questions: similar.iter().map(|text| (*text).to_owned()).collect(),
        answer: answer.into(),
        ..KnowledgeEntry::default()
    }
}

/// A small base in which nothing is wrong.
fn small() -> Vec<KnowledgeEntry> {
    vec![
        entry("return", "怎么申请退货？", &["我想退货", "东西不合适能退吗"], "在订单里点「申请售后」。"),
        entry("track", "我的快递到哪里了？", &["查一下物流", "包裹怎么还没到"], "在订单里点「查看物流」。"),
        entry("invoice", "能开发票吗？", &["发票怎么开", "电子发票在哪下载"], "在订单里点「申请发票」。"),
        entry("coupon", "优惠券怎么用？", &["券用不了", "下单能用几张券"], "结算时选择优惠券。"),
        entry("hello", "你好", &[], "您好！"),
    ]
}

/// Embeddings in which the wordings of an entry point the same way and those of different entries do not; a text that is named
/// here points where its new home does.
fn embeddings(wordings: &[Wording<'_>], moved: &[(&str, usize)]) -> Vec<Vec<f32>> {
    let dimension = 1 + wordings.iter().map(|wording| wording.entry).max().unwrap();
    let vector = |(index, wording): (usize, &Wording<'_>)| {
        let home = moved.iter().find(|(text, _)| *text == wording.text).map_or(wording.entry, |(_, home)| *home);
        let mut vector = vec![0.0f32; dimension + wordings.len()];
        // A direction of its own, so that no two are the same.
        (vector[home], vector[dimension + index]) = (0.9, 0.19f32.sqrt());
        vector
    };
    wordings.iter().enumerate().map(vector).collect()
}

fn find(entries: &[KnowledgeEntry], moved: &[(&str, usize)], answers: Option<&BTreeMap<String, u64>>) -> Vec<Finding> {
    let wordings = check::wordings(entries).unwrap();
    let settings = CheckSettings { today: TODAY, ..CheckSettings::default() };
    check::find(entries, &wordings, &embeddings(&wordings, moved), answers, &settings).findings
}

/// A finding in a few words.
fn told(finding: &Finding) -> String {
    match finding {
        Finding::DifferentAnswers { one, other, .. } => format!("same {} {}", one.id, other.id),
        Finding::NearerToAnother { wording, other, .. } => {
            format!("stray {} {} {}", wording.id, wording.text, other.id)
        }
        Finding::Expired { id, .. } => format!("expired {id}"),
        Finding::NotValidYet { id, .. } => format!("early {id}"),
        Finding::NeverUsed { id, .. } => format!("unused {id}"),
    }
}

fn all_told(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(told).collect()
}

#[test]
fn every_planted_fault_is_found_and_nothing_else() {
    let good = small();
    let used: BTreeMap<String, u64> = good.iter().map(|entry| (entry.id.clone(), 200)).collect();
    assert_eq!(all_told(&find(&good, &[], Some(&used))), [""; 0]);

    // The file, not the list, is spoilt: what is found went through reading.
    let folder = tempfile::tempdir().unwrap();
    let mut spoilt = good.clone();
    // The same question in other clothes, and another answer.
    spoilt.push(entry("return-2", "怎么 申请退货", &["要退掉"], "请联系客服退货。"));
    // No word in common, but the model finds it the same; planted by `moved`.
    spoilt.push(entry("coupon-2", "抵扣码如何使用", &["抵扣码是啥"], "抵扣码已停用。"));
    // A wording that belongs to another entry.
    spoilt[2].similar_questions.push("快递停在中转站".into());
    spoilt.push(KnowledgeEntry {
        valid_to: Some("2026-06-14".into()),
        ..entry("sale", "年中大促有什么优惠", &[], "满减。")
    });
    spoilt.push(KnowledgeEntry {
        valid_from: Some("2026-06-16".into()),
        ..entry("double", "双十一几号开始", &[], "十一月。")
    });
    spoilt.push(entry("unused", "你们招人吗", &["还招客服吗"], "请看官网。"));
    // Nothing of this is a fault:
    // the same answer twice,
    spoilt.push(entry("invoice-2", "发票怎么开？", &[], "在订单里点「申请发票」。"));
    // an answer that takes the place of another one when that ends,
    spoilt
        .push(KnowledgeEntry { valid_to: Some("2026-06-30".into()), ..entry("fee", "运费多少", &[], "八元。") });
    spoilt
        .push(KnowledgeEntry {
            valid_from: Some("2026-07-01".into()), ..entry("fee-2", "运费多少？", &[], "十元。")
        });
    // one that begins and one that ends today,
    spoilt.push(KnowledgeEntry {
        valid_from: Some("2026-06-15".into()), ..entry("from", "几点上班", &[], "九点。")
    });
    spoilt
        .push(KnowledgeEntry { valid_to: Some("2026-06-15".into()), ..entry("to", "几点下班", &[], "六点。") });
    // a single wording that has no other of its own.
    spoilt.push(entry("single", "谢谢", &[], "不客气。"));

    let mut used: BTreeMap<String, u64> = spoilt.iter().map(|entry| (entry.id.clone(), 200)).collect();
    used.remove("unused");
    used.remove("sale");
    let moved = |entries: &[KnowledgeEntry]| {
        let home = |id: &str| entries.iter().position(|entry| entry.id == id).unwrap();
        [("快递停在中转站", home("track")), ("谢谢", home("hello"))]
    };
    for name in ["a.jsonl", "a.csv", "a.xlsx", "a.md"] {
        let path = folder.path().join(name);
        knowledge::write(&path, &spoilt, false).unwrap();
        let entries = knowledge::read(&path).unwrap();
        assert_eq!(entries, spoilt);
        let wordings = check::wordings(&entries).unwrap();
        let mut vectors = embeddings(&wordings, &moved(&entries));
        let at = |text: &str| wordings.iter().position(|wording| wording.text == text).unwrap();
        vectors[at("抵扣码如何使用")] = vectors[at("优惠券怎么用？")].clone();
        let settings = CheckSettings { today: TODAY, ..CheckSettings::default() };
        let mut found = all_told(&check::find(&entries, &wordings, &vectors, Some(&used), &settings).findings);
        found[..2].sort();
        assert_eq!(
            found,
            [
                "same coupon coupon-2",
                "same return return-2",
                "stray invoice 快递停在中转站 track",
                "expired sale",
                "early double",
                "early fee-2",
                "unused unused"
            ],
            "{name}"
        );
    }

    let mut few = used.clone();
    few.values_mut().for_each(|count| *count = 1);
    assert!(!all_told(&find(&spoilt, &moved(&spoilt), Some(&few))).contains(&"unused unused".to_owned()));
    assert!(!all_told(&find(&spoilt, &moved(&spoilt), None)).contains(&"unused unused".to_owned()));
}

/// Blocks and threads give what comparing one by one gives.
#[test]
fn all_wordings_are_compared() {
    let entries: Vec<KnowledgeEntry> = (0..700)
        .map(|index| entry(&format!("k{index}"), &format!("问题{index}"), &[], &format!("答{index}")))
        .collect();
    let wordings = check::wordings(&entries).unwrap();
    let mut vectors = embeddings(&wordings, &[]);
    let pairs = [(0, 699), (1, 350), (127, 128), (31, 32), (349, 351)];
    for (one, other) in pairs {
        vectors[other] = vectors[one].clone();
    }
    let settings = CheckSettings { today: TODAY, ..CheckSettings::default() };
    let mut found = all_told(&check::find(&entries, &wordings, &vectors, None, &settings).findings);
    found.sort();
    let mut expected: Vec<String> = pairs.iter().map(|(one, other)| format!("same k{one} k{other}")).collect();
    expected.sort();
    assert_eq!(found, expected);

    let many: Vec<String> = (0..=check::MAX_WORDINGS).map(|index| index.to_string()).collect();
    let many = [entry("k", "问", &many.iter().map(String::as_str).collect::<Vec<_>>(), "答")];
    let error = check::wordings(&many).unwrap_err().to_string();
    assert!(error.contains("50002 wordings") && error.contains("Split the file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_shop_is_clean() {
    let entries = knowledge::read(&root().join(SAMPLE_KNOWLEDGE)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(Config::local(root().join(SAMPLE_MODEL), folder.path()).engine()).await.unwrap();
    let findings = async |entries: &[KnowledgeEntry]| {
        let wordings = check::wordings(entries).unwrap();
        let embeddings = check::embed(&engine, &wordings, 128, |_| {}).await.unwrap();
        check::find(entries, &wordings, &embeddings, None, &CheckSettings::default()).findings
    };
    assert_eq!(findings(&entries).await, []);

    // And what is planted in it is found with a real model, too.
    let mut spoilt = entries.clone();
    let mut copy = entry("copy", &entries[0].question, &[], "没有这回事。");
    copy.similar_questions = entries[0].similar_questions.clone();
    spoilt.push(copy);
    // Each with an entry of its own: two strays together would have each other.
    let home = |intent: &str| entries.iter().position(|entry| entry.intent.as_deref() == Some(intent)).unwrap();
    let homes = [home("发票"), home("库存")];
    spoilt[homes[0]].similar_questions.push("L码衣服多长".to_owned());
    spoilt[homes[1]].similar_questions.push("怎么修改登录密码".to_owned());
    let found = all_told(&findings(&spoilt).await);
    let [copied, moved, stray] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(*copied, format!("same {} copy", entries[0].id));
    // So near to a wording of where it belongs that it is told as the same question in two entries.
    assert!(moved.starts_with(&format!("same {} zhanghao", entries[homes[1]].id)), "{found:?}");
    assert!(stray.starts_with(&format!("stray {} L码衣服多长 chima", entries[homes[0]].id)), "{found:?}");
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_counted_by_entry() {
    on_each_database(async |place| {
        let config = place.config();
        yingda::data::make_folder(&config.data).unwrap();
        let storage = Storage::open(&config.database_url()).await.unwrap();
        assert_eq!(storage.answers_by_knowledge().await.unwrap(), BTreeMap::new());
        answer(&storage, "s", &[Some("k-return"), None, Some("k-track"), Some("k-return")]).await;
        let counts = storage.answers_by_knowledge().await.unwrap();
        assert_eq!(counts, BTreeMap::from([("k-return".to_owned(), 2), ("k-track".to_owned(), 1)]));
        storage.close().await;
    })
    .await;
}

/// Turns of the bot in one session, each from an entry or from none; the customer's turns name none.
async fn answer(storage: &Storage, session: &str, entries: &[Option<&str>]) {
    let mut tx = storage.begin().await.unwrap();
    let mut session = tx.lock_session(session, &SessionDetails::default()).await.unwrap();
    for entry in entries {
        tx.add_turn(&mut session, Role::User, NewTurn { text: "问".into(), ..NewTurn::default() }).await.unwrap();
        let turn = NewTurn { text: "答".into(), knowledge_id: entry.map(str::to_owned), ..NewTurn::default() };
        tx.add_turn(&mut session, Role::Bot, turn).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (lines, sheet, text) = (path("a.jsonl"), path("a.xlsx"), path("a.md"));
    knowledge::write(Path::new(&lines), &small(), false).unwrap();
    let run = |arguments: &[&str]| {
        let output = yingda(&data, &[&["knowledge"], arguments].concat()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();

    let (code, said, _) = run(&["validate", &lines]);
    assert_eq!(code, 0);
    assert!(said.contains("5 entries, 13 wordings, 0 intents"), "{said}");
    let (code, said, _) = run(&["validate", &lines, "--json"]);
    assert_eq!((code, &json(&said)["counts"]["wordings"]), (0, &json!(13)));
    std::fs::write(path("bad.csv"), "编号,标准问题,答案\nk1,,x\nk1,q,x\n").unwrap();
    let (code, _, said) = run(&["validate", &path("bad.csv")]);
    assert_eq!(code, 2);
    assert!(said.contains("2 problems") && said.contains("line 2") && said.contains("line 3"), "{said}");
    let (code, said, _) = run(&["validate", &path("bad.csv"), "--json"]);
    assert_eq!((code, json(&said)["problems"].as_array().unwrap().len()), (2, 2));
    assert_eq!(run(&["validate", &path("none.csv")]).0, 2);

    assert_eq!(run(&["convert", &lines, &sheet]).0, 0);
    assert_eq!(run(&["convert", &sheet, &text]).0, 0);
    assert_eq!(knowledge::read(Path::new(&text)).unwrap(), small());
    let (code, _, said) = run(&["convert", &lines, &text]);
    assert_eq!(code, 2);
    assert!(said.contains("--force"), "{said}");
    assert_eq!(run(&["convert", &lines, &text, "--force"]).0, 0);
    assert_eq!(run(&["convert", &path("bad.csv"), &text, "--force"]).0, 2);
    assert_eq!(knowledge::read(Path::new(&text)).unwrap(), small());

    // The tiny model knows no meaning: to it, all wordings are much alike, and only the same text is the same question.
    let check = |file: &str| run(&["check", file, "--json", "--same", "1", "--margin", "1"]);
    let (code, said, error) = check(&text);
    assert_eq!((code, &json(&said)["findings"]), (0, &json!([])), "{error}");
    assert_eq!(json(&said)["answers"], Value::Null);
    assert!(!data.exists(), "nothing is made for a check");
    let mut spoilt = small();
    spoilt.push(entry("again", "能开发票吗", &[], "不能。"));
    knowledge::write(Path::new(&sheet), &spoilt, true).unwrap();
    yingda::data::make_folder(&data).unwrap();
    let storage = Storage::open(&Config::local(tiny_model(), &data).database_url()).await.unwrap();
    let used: Vec<Option<&str>> = ["return", "track", "invoice", "hello", "again"].map(Some).repeat(200);
    answer(&storage, "s", &used).await;
    storage.close().await;
    let (code, said, error) = check(&sheet);
    let report = json(&said);
    assert_eq!((code, &report["answers"]), (1, &json!(1000)), "{said} {error}");
    let findings: Vec<(&Value, &Value)> =
        report["findings"].as_array().unwrap().iter().map(|finding| (&finding["kind"], &finding["id"])).collect();
    assert_eq!(
        findings,
        [(&json!("different_answers"), &Value::Null), (&json!("never_used"), &json!("coupon"))],
        "{said}"
    );
    let (code, said, _) = run(&["check", &sheet, "--same", "1", "--margin", "1"]);
    assert_eq!(code, 1);
    assert!(said.contains("能开发票吗 [again]") && said.contains("2 things to look at"), "{said}");
    assert_eq!(run(&["check", &sheet, "--same", "3"]).0, 2);
}
