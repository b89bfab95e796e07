//! The whole path: from chats to a model, from knowledge to a store, from a message to an answer and to a person. Once with
//! what a test trains in seconds, once with the model and the knowledge that stand in the repository.

use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};
use yingda::config::{Config, SAMPLE_KNOWLEDGE, SAMPLE_MODEL};
use yingda_engine::{Engine, KnowledgeEntry};

use crate::{
    learning::{small_fit, write_chats},
    support::{Service, root, sample},
};

/// Twelve things of the shop of [`write_chats`].
fn shop() -> Vec<Value> {
    let entry = |id: usize, question: &str, similar: [&str; 3], answer: &str, intent: &str| {
        json!({ "id": format!("k{id}"), "question": question, "similar_questions": similar, "answer": answer,
            "intent": intent })
    };
    let subjects = ["外套", "台灯", "耳机", "水杯"];
    let mut entries = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        let similar =
            |a: &str, b: &str, c: &str| [format!("{subject}{a}"), format!("{b}{subject}"), format!("{subject}{c}")];
        for (kind, (question, similar, answer, intent)) in [
            (
                format!("{subject}什么时候发货？"),
                similar("几时寄出", "多久能发", "还没发货吗"),
                format!("{subject}四十八小时内发出。"),
                "催发货",
            ),
            (
                format!("怎么退掉{subject}？"),
                similar("不要了怎么办", "想退", "能退货吗"),
                format!("{subject}七天内可以在订单里申请退货。"),
                "退货",
            ),
            (
                format!("{subject}很好，谢谢"),
                similar("收到了很喜欢", "多谢你们的", "真不错"),
                format!("{subject}合您的心意就好。"),
                "致谢",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let similar = [similar[0].as_str(), similar[1].as_str(), similar[2].as_str()];
            entries.push(entry(index * 3 + kind, &question, similar, &answer, intent));
        }
    }
    entries
}

/// Whether an answer gives this reply; an unhappy customer hears that we are sorry first.
fn says(answer: &Value, reply: &Value) -> bool {
    answer["reply"].as_str().unwrap().ends_with(reply.as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_chats_and_knowledge_to_answers_and_people() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_chats(&path("chats.csv"));
    let lines = |entries: &[Value]| entries.iter().map(|entry| format!("{entry}\n")).collect::<String>();
    let mut shop = shop();
    std::fs::write(path("knowledge.jsonl"), lines(&shop)).unwrap();
    let fit = small_fit(&path("chats.csv"), &["--knowledge", path("knowledge.jsonl").to_str().unwrap()]);
    let out = path("run");
    let trained =
        tokio::task::spawn_blocking(move || yingda_train::fit::fit(&fit, &out, false, &AtomicBool::new(false)));
    let model = trained.await.unwrap().unwrap().model;

    let config = Config::local(&model, path("data"));
    let service = Service::open(config.clone()).await;
    let info = service.state.engine().info();
    assert_eq!((info.knowledge_entries, info.dimension), (0, 16));
    assert!(
        ["催发货", "退货", "致谢"].iter().all(|intent| info.intents.iter().any(|known| known == intent)),
        "{info:?}"
    );
    let before = service.chat("empty", "怎么退掉台灯？").await;
    assert_eq!(before["matches"], json!([]), "nothing is known yet");
    assert_ne!(before["decision"], "reply", "what is not known is not answered");

    let entries = yingda::knowledge::read(&path("knowledge.jsonl")).unwrap();
    assert_eq!(service.state.engine().index(entries, 1, |_, _| {}).await.unwrap(), 48);
    for entry in &shop {
        // Word for word, also for one that a wording of another entry comes near.
        let session = entry["id"].as_str().unwrap();
        let answer = service.chat(session, entry["question"].as_str().unwrap()).await;
        assert_eq!(answer["decision"], "reply", "{answer}");
        assert!(says(&answer, &entry["answer"]), "{answer}");
        assert_eq!(answer["model"], info.model_id);
    }

    let opened = service.chat("k0", "太慢了，我要投诉你们！").await;
    assert_eq!((&opened["decision"], &opened["reason"]), (&json!("escalate"), &json!("handoff_word")));
    let ticket = opened["ticket_id"].as_str().unwrap();
    assert_eq!(service.chat("k0", "怎么退掉台灯？").await["decision"], "silent");
    service.act(ticket, "take", json!({ "agent": "小王" })).await.ok();
    service.act(ticket, "reply", json!({ "agent": "小王", "text": "马上为您催。" })).await.ok();
    service.act(ticket, "resolve", json!({ "agent": "小王" })).await.ok();
    assert_eq!(service.chat("k0", "怎么退掉台灯？").await["decision"], "reply");

    // Another process fills the store anew, as `yingda index` does; the service goes on with the old until told to reload.
    shop.truncate(6);
    shop[1]["answer"] = json!("新的规矩：十五天内可以退货。");
    std::fs::write(path("knowledge.jsonl"), lines(&shop)).unwrap();
    let writer = Engine::open_to_index(config.engine()).await.unwrap();
    writer.index(yingda::knowledge::read(&path("knowledge.jsonl")).unwrap(), 2, |_, _| {}).await.unwrap();
    writer.close().await;
    drop(writer);
    let question = shop[1]["question"].as_str().unwrap();
    assert!(!says(&service.chat("old", question).await, &shop[1]["answer"]));
    let reloaded = service.post("/v1/admin/reload", json!({})).await.ok();
    assert_eq!((&reloaded["knowledge_entries"], &reloaded["model"]), (&json!(6), &json!(info.model_id)));
    assert!(says(&service.chat("new", question).await, &shop[1]["answer"]));
    service.state.close().await;
}

/// The answer to one message of a new session, and the entry behind it.
async fn ask(service: &Service, session: &str, text: &str) -> (Value, Option<String>) {
    let answer = service.chat(session, text).await;
    let turns = service.session(session).await;
    let knowledge = turns["turns"].as_array().unwrap().last().unwrap()["knowledge_id"].as_str().map(str::to_owned);
    (answer, knowledge)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_shop_answers_as_its_customers_expect() {
    let (model, knowledge) = (root().join(SAMPLE_MODEL), root().join(SAMPLE_KNOWLEDGE));
    assert!(
        model.join("yingda.json").is_file(),
        "the shipped model {SAMPLE_MODEL} is missing: train and export it as README.md says, it belongs to the repository"
    );
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(Config::local(&model, folder.path().join("data"))).await;
    let entries = yingda::knowledge::read(&knowledge).unwrap();
    service.state.engine().index(entries.clone(), 1, |_, _| {}).await.unwrap();
    let entry = |id: &Option<String>| -> KnowledgeEntry {
        entries.iter().find(|entry| Some(&entry.id) == id.as_ref()).unwrap_or_else(|| panic!("no entry {id:?}")).clone()
    };

    // Answered, or the answer is the first of the questions to choose from.
    let offered = |answer: &Value, id: Option<String>| -> KnowledgeEntry {
        match answer["decision"].as_str() {
            Some("reply") => entry(&id),
            Some("clarify") => entry(&answer["choices"][0]["knowledge_id"].as_str().map(str::to_owned)),
            _ => panic!("neither answered nor asked: {answer}"),
        }
    };
    let (answer, id) = ask(&service, "s1", "我的快递三天没动了怎么回事").await;
    assert_eq!(offered(&answer, id).intent.as_deref(), Some("物流查询"), "{answer}");

    let (answer, id) = ask(&service, "s2", "想退货 你们那个运费谁出啊").await;
    let offered = offered(&answer, id);
    assert!(offered.answer.contains("运费") && offered.answer.contains('退'), "{answer}");

    let (answer, _) = ask(&service, "s3", "你们就是骗子!!再不退钱我打12315").await;
    assert_eq!(
        (&answer["decision"], &answer["sentiment"]["label"]),
        (&json!("escalate"), &json!("negative")),
        "{answer}"
    );
    assert!(answer["ticket_id"].is_string(), "{answer}");

    let (answer, _) = ask(&service, "s4", "帮我写首诗").await;
    assert!(["out_of_scope", "clarify"].contains(&answer["decision"].as_str().unwrap()), "{answer}");

    let (opened, _) = ask(&service, "s5", "人工").await;
    assert_eq!(opened["decision"], "escalate", "{opened}");
    let (silent, _) = ask(&service, "s5", "我的快递三天没动了怎么回事").await;
    assert_eq!((&silent["decision"], &silent["ticket_id"]), (&json!("silent"), &opened["ticket_id"]), "{silent}");
    assert!(silent.get("reply").is_none());

    // What was said before helps where a message leans on it.
    let mut dialogues = yingda::questions::read(&sample("questions/dialogues-tune.jsonl")).unwrap();
    let with = yingda::evaluation::evaluate(service.state.engine(), &dialogues, |_| {}).await.unwrap();
    dialogues.iter_mut().for_each(|question| question.context.clear());
    let without = yingda::evaluation::evaluate(service.state.engine(), &dialogues, |_| {}).await.unwrap();
    assert!(with.first > without.first + 5, "{} right entries first, {} without context", with.first, without.first);
    service.state.close().await;
}
