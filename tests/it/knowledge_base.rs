//! The knowledge base: drafts, releases, roll back, files, and what customers read of it.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use yingda::config::Config;
use yingda::knowledge::base::{BaseError, KnowledgeBase};
use yingda_engine::{Engine, KnowledgeEntry};

use crate::support::{Answer, Place, Service, knowledge, on_each_database, tiny_service_model_of, with_body};

const RETURN: &str = "怎么申请退货？";
const WARRANTY: &str = "保修多久？";

impl Service {
    async fn put(&self, id: &str, body: Value) -> Answer {
        self.send(with_body("PUT", &format!("/v1/knowledge/entries/{id}"), body.to_string())).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Request::builder().method("DELETE").uri(path).body(Body::empty()).unwrap()).await
    }

    async fn entry(&self, id: &str) -> Value {
        self.get(&format!("/v1/knowledge/entries/{id}")).await.ok()
    }

    async fn upload(&self, query: &str, file: impl Into<Body>) -> Answer {
        let request = Request::builder().method("POST").uri(format!("/v1/knowledge/import?{query}"));
        self.send(request.body(file.into()).unwrap()).await
    }

    /// What somebody who asks this for the first time reads, if it is an answer.
    async fn answer(&self, question: &str) -> Option<String> {
        let session = uuid::Uuid::new_v4().to_string();
        let answer = self.chat(&session, question).await;
        (answer["decision"] == "reply").then(|| answer["reply"].as_str().unwrap().to_owned())
    }

    async fn publish(&self) -> Value {
        self.post("/v1/knowledge/publish", json!({})).await.ok()
    }
}

fn warranty(answer: &str) -> Value {
    json!({ "entry": { "question": WARRANTY, "similar_questions": ["坏了管修吗"], "answer": answer, "intent": "售后" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_served_once_it_is_published_and_a_release_can_be_brought_back() {
    on_each_database(async |place| {
        let service = place.service().await;
        assert_eq!(
            service.post("/v1/knowledge/publish", json!({})).await.refusal(),
            (409, "nothing_to_publish".into())
        );
        service.index().await;
        assert_eq!(service.answer(WARRANTY).await, None);

        assert_eq!(service.put("k-warranty", warranty("保修一年。")).await.ok()["version"], 1);
        let mut changed = knowledge()[0].clone();
        changed.answer = "退货请找客服。".into();
        service.put("k-return", json!({ "entry": changed, "version": 1, "note": "改了" })).await.ok();
        service.delete("/v1/knowledge/entries/k-hello?version=1").await.ok();
        let listed = service.get("/v1/knowledge/entries?drafts=true").await.ok();
        let drafts: Vec<_> = listed["entries"].as_array().unwrap().iter().map(|entry| entry["id"].clone()).collect();
        assert_eq!(drafts, ["k-hello", "k-return", "k-warranty"]);
        assert_eq!(service.answer(WARRANTY).await, None, "a draft is not served");
        assert!(service.answer(RETURN).await.unwrap().contains("申请售后"));
        assert!(service.answer("你好").await.is_some());

        let release = service.publish().await;
        assert_eq!(
            (&release["release"], &release["kind"], &release["state"]),
            (&json!(2), &json!("publish"), &json!("published"))
        );
        assert_eq!((&release["changes"], &release["done"], &release["entries"]), (&json!(3), &json!(3), &json!(3)));
        assert_eq!(release["author"], "open");
        assert_eq!(service.answer(WARRANTY).await.as_deref(), Some("保修一年。"));
        assert_eq!(service.answer("坏了管修吗").await.as_deref(), Some("保修一年。"));
        assert_eq!(service.answer(RETURN).await.as_deref(), Some("退货请找客服。"));
        assert_eq!(service.answer("你好").await, None);
        assert_eq!(service.get("/v1/knowledge/entries/k-hello").await.refusal(), (404, "entry_not_found".into()));
        assert_eq!(service.entry("k-return").await["published"]["entry"]["answer"], "退货请找客服。");

        // One entry of two; the other stays a draft, also through the roll back.
        service.put("k-warranty", warranty("保修两年。")).await.ok();
        service.put("k-other", json!({ "entry": { "question": "能开发票吗？", "answer": "能。" } })).await.ok();
        let one =
            service.post("/v1/knowledge/publish", json!({ "entries": ["k-warranty"], "note": "先发一条" })).await.ok();
        assert_eq!((&one["release"], &one["changes"], &one["note"]), (&json!(3), &json!(1), &json!("先发一条")));
        assert_eq!(service.answer(WARRANTY).await.as_deref(), Some("保修两年。"));

        let back = service.post("/v1/knowledge/rollback", json!({ "release": 1 })).await.ok();
        assert_eq!((&back["release"], &back["restores"], &back["entries"]), (&json!(4), &json!(1), &json!(3)));
        assert_eq!(service.answer(WARRANTY).await, None);
        assert!(service.answer(RETURN).await.unwrap().contains("申请售后"));
        assert!(service.answer("你好").await.is_some());
        assert!(service.entry("k-other").await["published"].is_null());
        assert_eq!(service.entry("k-other").await["draft"]["state"], "draft");
        service.post("/v1/knowledge/rollback", json!({ "release": 3 })).await.ok();
        assert_eq!(service.answer(WARRANTY).await.as_deref(), Some("保修两年。"));
        let again = service.post("/v1/knowledge/rollback", json!({ "release": 5 })).await;
        assert_eq!(again.refusal(), (409, "nothing_to_publish".into()), "that is what is served");
        assert_eq!(
            service.post("/v1/knowledge/rollback", json!({ "release": 77 })).await.refusal(),
            (404, "release_not_found".into())
        );

        let history = service.get("/v1/knowledge/entries/k-return/history").await.ok();
        let releases: Vec<_> = history["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|version| {
                (version["version"].as_i64().unwrap(), version["from_release"].as_i64(), version["to_release"].as_i64())
            })
            .collect();
        assert_eq!(releases, [(4, Some(5), None), (3, Some(4), Some(5)), (2, Some(2), Some(4)), (1, Some(1), Some(2))]);
        let kinds = service.get("/v1/knowledge/releases?limit=3").await.ok();
        let kinds: Vec<_> =
            kinds["releases"].as_array().unwrap().iter().map(|release| release["kind"].clone()).collect();
        assert_eq!(kinds, ["rollback", "rollback", "publish"]);
        assert_eq!(service.get("/v1/knowledge/releases/4").await.ok()["restores"], 1);

        // All of it is there after a restart.
        let entries = service.state.engine().entries().await.unwrap();
        service.state.close().await;
        drop(service);
        let service = place.service().await;
        assert_eq!(service.state.engine().entries().await.unwrap(), entries);
        assert_eq!(service.answer(WARRANTY).await.as_deref(), Some("保修两年。"));
        service.state.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_over_somebody_elses_change() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        let entry = service.entry("k-return").await;
        assert_eq!(entry["version"], 1);
        let change = |version: i64| json!({ "entry": { "question": RETURN, "answer": "新的。" }, "version": version });
        service.put("k-return", change(1)).await.ok();
        let refused = service.put("k-return", change(1)).await;
        assert_eq!(refused.refusal(), (409, "entry_changed".into()));
        assert!(refused.text().contains("第 2 版"), "{}", refused.text());
        assert_eq!(service.put("k-return", change(0)).await.refusal().0, 409, "it is not new");
        service.put("k-return", change(2)).await.ok();
        assert_eq!(service.delete("/v1/knowledge/entries/k-return?version=1").await.refusal().0, 409);
        assert_eq!(service.entry("k-return").await["version"], 3);

        assert_eq!(service.delete("/v1/knowledge/entries/k-return/draft").await.status, 204);
        assert_eq!(
            service.delete("/v1/knowledge/entries/k-return/draft").await.refusal(),
            (404, "entry_not_found".into())
        );
        let entry = service.entry("k-return").await;
        assert!(entry["draft"].is_null() && entry["version"] == 1, "{entry}");
        assert_eq!(service.delete("/v1/knowledge/entries/nobody").await.refusal(), (404, "entry_not_found".into()));

        // Two begin at once: one of them is told to wait.
        service.put("k-return", change(1)).await.ok();
        let begun = service.state.base().begin_publish(None, "甲", "").await.unwrap();
        let busy = service.post("/v1/knowledge/publish", json!({})).await;
        assert_eq!(busy.refusal(), (409, "publishing_now".into()), "{}", busy.text());
        assert_eq!(service.entry("k-return").await["draft"]["state"], "writing");
        // What is written meanwhile is the next draft.
        service.put("k-return", json!({ "entry": { "question": RETURN, "answer": "更新的。" } })).await.ok();
        service.state.base().finish(begun, |_, _| {}).await.unwrap();
        assert_eq!(service.answer(RETURN).await.as_deref(), Some("新的。"));
        service.publish().await;
        assert_eq!(service.answer(RETURN).await.as_deref(), Some("更新的。"));
        service.state.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_entry_is_said_and_nothing_is_kept() {
    let place = Place::sqlite();
    let service = place.service().await;
    for (entry, said) in [
        (json!({ "question": "问" }), "answer"),
        (json!({ "question": " ", "answer": "答" }), "question"),
        (json!({ "question": "问", "answer": "答", "stars": 5 }), "stars"),
        (json!({ "question": "问", "answer": "答", "valid_from": "明天" }), "valid_from"),
        (json!({ "question": "问", "answer": "您的订单{订单号}。" }), "订单号"),
        (json!({ "question": "问", "answer": "答", "variants": [{ "answer": "另" }] }), "everybody"),
        (
            json!({ "question": "问", "answer": "答", "parts": [{ "type": "link", "title": "看", "url": "javascript:1" }] }),
            "https",
        ),
        (json!({ "question": "问", "answer": "答", "parts": [{ "type": "film" }] }), "film"),
    ] {
        let refused = service.put("k1", json!({ "entry": entry })).await;
        assert_eq!(refused.refusal(), (422, "bad_knowledge".into()), "{entry}");
        assert!(refused.text().contains(said), "{entry}: {}", refused.text());
    }
    service.put("k1", json!({ "entry": { "id": "k2", "question": "问", "answer": "答" } })).await.refuses("entry.id");
    service.put("k1", json!({ "entry": [] })).await.refuses("entry");
    service.put(&"长".repeat(129).replace('长', "%E9%95%BF"), json!({ "entry": {} })).await.refuses("id");
    assert_eq!(service.get("/v1/knowledge/entries").await.ok()["entries"], json!([]));
    service.state.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_and_are_searched() {
    on_each_database(async |place| {
        let service = place.service().await;
        let entries: Vec<KnowledgeEntry> = (0..25)
            .map(|number| KnowledgeEntry {
                id: format!("k-{number:02}"),
                question: format!("问题{number:02}"),
                answer: if number % 5 == 0 { "100%_退\\款".into() } else { "答案".into() },
                ..KnowledgeEntry::default()
            })
            .collect();
        let begun = service.state.base().begin_replace(&entries, "test", "").await.unwrap();
        service.state.base().finish(begun, |_, _| {}).await.unwrap();
        let (mut seen, mut path) = (Vec::new(), "/v1/knowledge/entries?limit=10".to_owned());
        loop {
            let page = service.get(&path).await.ok();
            seen.extend(
                page["entries"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/knowledge/entries?limit=10&cursor={next}");
        }
        assert_eq!(seen, entries.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>());
        for (q, count) in [("%E9%80%80", 5), ("100%25_", 5), ("%25%25", 0), ("%E9%97%AE%E9%A2%9803", 1)] {
            let page = service.get(&format!("/v1/knowledge/entries?q={q}")).await.ok();
            assert_eq!(page["entries"].as_array().unwrap().len(), count, "{q}");
        }
        service.get("/v1/knowledge/entries?limit=0").await.refuses("limit");
        service.state.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_in_as_drafts_and_go_out_again() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        let file = "id,question,answer,channels\nk-return,怎么申请退货？,在订单里点「申请售后」就可以退货。,\nk-new,能刻字吗？,能。,web|app\n";
        let counts = json!({ "added": 1, "changed": 1, "unchanged": 0, "removed": 0, "problems": [] });
        assert_eq!(service.upload("format=csv&dry_run=true", file).await.ok(), counts, "an intent is gone");
        assert_eq!(service.get("/v1/knowledge/entries?drafts=true").await.ok()["entries"], json!([]));
        assert_eq!(service.upload("format=csv&note=x", file).await.ok(), counts);
        let again = service.upload("format=csv", file).await.ok();
        assert_eq!((&again["unchanged"], &again["changed"]), (&json!(2), &json!(0)), "drafts count");
        service.publish().await;
        assert_eq!(service.answer("能刻字吗？").await, None, "it is for other channels");
        let asked = service.post("/v1/chat", json!({ "session_id": "w", "text": "能刻字吗？", "channel": "web" })).await.ok();
        assert_eq!(asked["reply"], "能。");

        let bad = "id,question,answer\nk1,,答\nk2,问,\n";
        let dry = service.upload("format=csv&dry_run=true", bad).await.ok();
        assert_eq!(dry["problems"].as_array().unwrap().len(), 2, "{dry}");
        assert_eq!(dry["problems"][0]["place"], "line 2");
        let refused = service.upload("format=csv", bad).await;
        assert_eq!(refused.refusal(), (422, "bad_knowledge".into()));
        service.upload("format=pdf", "x").await.refuses("format");

        for format in ["jsonl", "json", "csv", "xlsx"] {
            let out = service.get(&format!("/v1/knowledge/export?format={format}")).await;
            assert_eq!(out.status, 200, "{}", out.text());
            let same = service.upload(&format!("format={format}&replace=true&dry_run=true"), out.body).await.ok();
            assert_eq!((&same["unchanged"], &same["removed"]), (&json!(4), &json!(0)), "{format}");
        }
        // Markdown has no place for channels, and says so.
        assert_eq!(service.get("/v1/knowledge/export?format=md").await.refusal(), (422, "bad_knowledge".into()));
        let replaced = service.upload("format=jsonl&replace=true", r#"{"id":"a","question":"在吗","answer":"在。"}"#).await.ok();
        assert_eq!((&replaced["added"], &replaced["removed"]), (&json!(1), &json!(4)));
        assert_eq!(service.publish().await["entries"], 1);
        assert_eq!(service.answer("在吗").await.as_deref(), Some("在。"));
        assert_eq!(service.answer(RETURN).await, None);
        service.state.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_read_the_answer_that_is_for_them() {
    on_each_database(async |place| {
        let service = place.service().await;
        let entry = json!({
            "question": "我的包裹到哪了？",
            "answer": "{称呼|亲}，请在订单里看物流。",
            "parts": [{ "type": "image", "url": "https://example.com/track.png" }],
            "variants": [
                { "audiences": ["vip"], "answer": "{称呼}您好，专属客服会为您查{手机号}名下的包裹。" },
                { "channels": ["wechat"], "answer": "点下面的卡片。",
                  "parts": [{ "type": "mini_program", "app_id": "wx1", "page": "pages/track", "title": "查物流" }] },
            ],
        });
        service.put("k", json!({ "entry": entry })).await.ok();
        service.publish().await;
        let ask = async |session: &str, channel: &str, profile: Value| {
            let body = json!({ "session_id": session, "text": "我的包裹到哪了？", "channel": channel, "profile": profile,
                               "message_id": "m" });
            service.post("/v1/chat", body).await.ok()
        };
        let plain = ask("a", "web", json!({})).await;
        assert_eq!(plain["reply"], "亲，请在订单里看物流。");
        assert_eq!(plain["parts"][0]["type"], "image");
        assert_eq!(ask("b", "web", json!({ "称呼": "王女士" })).await["reply"], "王女士，请在订单里看物流。");
        let card = ask("c", "wechat", json!({ "audience": "vip" })).await;
        assert_eq!((&card["reply"], &card["parts"][0]["app_id"]), (&json!("点下面的卡片。"), &json!("wx1")), "no name: the next one");
        let profile = json!({ "audience": ["new", "vip"], "称呼": "王女士", "手机号": "13812345678" });
        let vip = ask("d", "wechat", profile.clone()).await;
        assert_eq!(vip["reply"], "王女士您好，专属客服会为您查13812345678名下的包裹。");
        assert_eq!(vip["parts"], Value::Null);
        // Without a profile the stored one counts, and what was masked in it fills nothing.
        let body = json!({ "session_id": "d", "text": "我的包裹到哪了？", "channel": "wechat", "message_id": "m2" });
        assert_eq!(service.post("/v1/chat", body).await.ok()["reply"], "点下面的卡片。");
        // What is kept of it is masked, also for the same message again.
        let kept = service.session("d").await.to_string();
        assert!(kept.contains("王女士您好") && !kept.contains("13812345678"), "{kept}");
        let again = ask("d", "wechat", profile).await["reply"].as_str().unwrap().to_owned();
        assert!(again.starts_with("王女士您好") && !again.contains("13812345678"), "{again}");
        service.state.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_customers_products_is_offered_after_an_answer() {
    let place = Place::sqlite();
    let service = place.service().await;
    let about = |product: &str, question: &str| json!({ "entry": { "question": question, "answer": "答。", "products": [product] } });
    service.index().await;
    service.put("k-cup", about("保温杯", "保温杯能放洗碗机吗？")).await.ok();
    service.put("k-cup-hot", about("保温杯", "保温杯保温多久？")).await.ok();
    service.put("k-lamp", about("台灯", "台灯怎么换灯泡？")).await.ok();
    service.put("k-pan", about("炒锅", "炒锅会生锈吗？")).await.ok();
    service.publish().await;
    let ask = async |session: &str, text: &str, profile: Value| {
        let body = json!({ "session_id": session, "text": text, "profile": profile });
        service.post("/v1/chat", body).await.ok()
    };
    assert_eq!(ask("a", RETURN, json!({})).await["related"], Value::Null);
    let answer = ask("b", RETURN, json!({ "bought": ["保温杯"], "viewed": ["台灯", "雨伞"] })).await;
    let mut reasons: Vec<_> = answer["related"]
        .as_array()
        .unwrap()
        .iter()
        .map(|related| (related["knowledge_id"].as_str().unwrap(), related["reason"].as_str().unwrap()))
        .collect();
    reasons.sort_unstable();
    assert_eq!(reasons, [("k-cup", "您买过保温杯"), ("k-cup-hot", "您买过保温杯"), ("k-lamp", "您看过台灯")]);
    let answer = ask("c", "保温杯能放洗碗机吗？", json!({ "viewed": "保温杯" })).await;
    assert_eq!(answer["related"].as_array().unwrap().len(), 1, "what was answered is not offered: {answer}");
    assert_eq!(answer["related"][0]["knowledge_id"], "k-cup-hot");
    assert_eq!(ask("d", "我要投诉", json!({ "viewed": "保温杯" })).await["related"], Value::Null);
    service.state.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_or_a_database_that_lost_its_content_gets_it_back() {
    let place = Place::sqlite();
    let service = place.service().await;
    service.index().await;
    service.put("k-warranty", warranty("保修一年。")).await.ok();
    service.publish().await;
    service.state.close().await;
    drop(service);

    std::fs::remove_dir_all(place.data().join("store")).unwrap();
    let service = place.service().await;
    assert_eq!(service.answer(WARRANTY).await.as_deref(), Some("保修一年。"));
    assert_eq!(service.state.engine().info().knowledge_entries, 4);
    service.state.close().await;
    drop(service);

    for file in ["yingda.sqlite", "yingda.sqlite-wal", "yingda.sqlite-shm"] {
        let _ = std::fs::remove_file(place.data().join(file));
    }
    let service = place.service().await;
    assert_eq!(service.entry("k-warranty").await["published"]["entry"]["answer"], "保修一年。");
    service.put("k-warranty", warranty("保修三年。")).await.ok();
    assert_eq!(service.publish().await["release"], 4, "numbers go on from the store's, which was filled again once");
    assert_eq!(service.answer(WARRANTY).await.as_deref(), Some("保修三年。"));
    service.state.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_whose_writer_stopped_is_finished_or_given_up() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        service.put("k-warranty", warranty("保修一年。")).await.ok();
        // Its writer stops before the store has anything of it.
        let begun = service.state.base().begin_publish(None, "甲", "").await.unwrap();
        let stopped = begun.release;
        drop(begun);
        assert!(matches!(service.state.base().begin_publish(None, "乙", "").await, Err(BaseError::Busy(number)) if number == stopped));
        stop_moving(&service, stopped).await;
        let next = service.publish().await;
        assert_eq!((&next["release"], &next["changes"]), (&json!(stopped + 1), &json!(1)), "its draft is there again");
        assert_eq!(service.get(&format!("/v1/knowledge/releases/{stopped}")).await.ok()["state"], "failed");
        assert_eq!(service.answer(WARRANTY).await.as_deref(), Some("保修一年。"));

        // Its writer stops after the store has switched.
        service.put("k-warranty", warranty("保修两年。")).await.ok();
        let begun = service.state.base().begin_publish(None, "甲", "").await.unwrap();
        let (number, mut entry) = (begun.release, KnowledgeEntry::default());
        drop(begun);
        (entry.id, entry.question, entry.answer) = ("k-warranty".into(), WARRANTY.into(), "保修两年。".into());
        service.state.engine().publish(number, &[entry], &[], (4, 4), |_, _| {}).await.unwrap();
        stop_moving(&service, number).await;
        service.state.base().reconcile().await.unwrap();
        assert_eq!(service.get(&format!("/v1/knowledge/releases/{number}")).await.ok()["state"], "published");
        assert_eq!(service.entry("k-warranty").await["published"]["entry"]["answer"], "保修两年。");
        service.state.close().await;
    })
    .await;
}

/// As if the release had not moved for a long time.
async fn stop_moving(service: &Service, release: i64) {
    service.state.storage().release_moved_at(release, 0, Some(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_on_one_database_and_one_store_serve_the_same_release() {
    on_each_database(async |place| {
        if !place.is_postgres() {
            return;
        }
        let stand_in = crate::qdrant_stand_in::StandIn::start(None);
        let config = |replica: &str| Config {
            store: yingda_engine::StoreConfig::Server {
                url: stand_in.url(),
                api_key: None,
                collection: "yingda".into(),
                settings: Default::default(),
            },
            ..place.config_of(replica)
        };
        let (one, two) = (Service::open(config("one")).await, Service::open(config("two")).await);
        let following = tokio::spawn({
            let base = two.state.base().clone();
            async move { base.follow().await }
        });
        for (number, answer) in ["保修一年。", "保修两年。", "保修三年。"].into_iter().enumerate() {
            one.put("k-warranty", warranty(answer)).await.ok();
            one.publish().await;
            let published = Instant::now();
            while two.answer(WARRANTY).await.as_deref() != Some(answer) {
                assert!(published.elapsed() < Duration::from_secs(2), "release {} is not followed", number + 1);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        // What is out of use is removed once nobody can be searching it: until then every search names it.
        let retired = async || two.state.engine().contents().await.unwrap().unwrap().retired;
        assert!(!retired().await.is_empty());
        let published = Instant::now();
        while !retired().await.is_empty() {
            assert!(published.elapsed() < Duration::from_secs(40), "it is never removed");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for service in [&one, &two] {
            service.state.engine().refresh().await.unwrap();
            assert_eq!(service.answer(WARRANTY).await.as_deref(), Some("保修三年。"));
        }
        following.abort();
        let _ = following.await;
        one.state.close().await;
        two.state.close().await;
    })
    .await;
}

/// What a customer is told while the store is away, and how it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_store_the_service_still_understands_and_hands_over() {
    let place = Place::sqlite();
    let stand_in = crate::qdrant_stand_in::StandIn::start(None);
    let url = stand_in.url();
    let store = |url: String| yingda_engine::StoreConfig::Server {
        url,
        api_key: None,
        collection: "yingda".into(),
        settings: yingda_engine::store::ServerSettings { deadline_ms: 300, ..Default::default() },
    };
    let service = Service::open(Config { store: store(url), ..place.config() }).await;
    service.index().await;
    assert!(service.answer(RETURN).await.is_some());

    // Slow: one message waits for the deadline, the next ones do not until the store was looked at again.
    stand_in.take(Duration::from_secs(60));
    let started = Instant::now();
    assert_eq!(service.chat("slow", RETURN).await["reason"], "knowledge_unavailable");
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(20), "{waited:?}");
    stand_in.take(Duration::ZERO);
    assert_eq!(service.chat("slow", RETURN).await["reason"], "knowledge_unavailable", "nobody has looked yet");
    service.state.engine().refresh().await.unwrap();
    assert!(service.answer(RETURN).await.is_some());

    stand_in.go_away(true);
    for session in ["a", "b"] {
        let answer = service.chat(session, RETURN).await;
        assert_eq!((&answer["decision"], &answer["reason"]), (&json!("no_answer"), &json!("knowledge_unavailable")));
        assert!(!answer["intents"].as_array().unwrap().is_empty(), "it is understood all the same");
        let again = service.chat(session, RETURN).await;
        assert_eq!(again["decision"], "no_answer", "that is no sign of being unsure");
        assert_eq!(service.chat(session, "我要投诉你们").await["decision"], "escalate");
    }
    assert_eq!(service.get("/v1/knowledge/gaps").await.ok()["gaps"], json!([]), "the knowledge may have it");
    assert_eq!(
        service.post("/v1/search", json!({ "text": RETURN })).await.refusal(),
        (503, "store_unavailable".into())
    );
    service.put("k-warranty", warranty("保修一年。")).await.ok();
    assert_eq!(service.post("/v1/knowledge/publish", json!({})).await.refusal(), (503, "store_unavailable".into()));
    service.state.engine().refresh().await.unwrap_err();

    stand_in.go_away(false);
    service.state.engine().refresh().await.unwrap();
    assert!(service.answer(RETURN).await.is_some());
    service.publish().await;
    assert_eq!(service.answer(WARRANTY).await.as_deref(), Some("保修一年。"));
    service.state.close().await;
}

/// A page of another site can send what a form can send without asking first.
#[tokio::test]
async fn another_sites_page_cannot_change_the_knowledge_of_a_trial() {
    let place = Place::sqlite();
    let service = place.service().await;
    service.index().await;
    let from = |origin: &str, path: &str| {
        let request =
            Request::builder().method("POST").uri(path).header("host", "127.0.0.1:8080").header("origin", origin);
        request.body(Body::from(r#"{"id":"a","question":"在吗","answer":"不在。"}"#)).unwrap()
    };
    for origin in ["https://evil.example", "null", "http://127.0.0.1:9999"] {
        for path in ["/v1/knowledge/import?format=jsonl&replace=true", "/v1/knowledge/publish"] {
            assert_eq!(
                service.send(from(origin, path)).await.refusal(),
                (403, "host_refused".into()),
                "{origin} {path}"
            );
        }
    }
    let own = service.send(from("http://127.0.0.1:8080", "/v1/knowledge/import?format=jsonl")).await.ok();
    assert_eq!(own["added"], 1);
    service.state.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_can_be_made_again_and_drafts_come_first() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        service.delete("/v1/knowledge/entries/k-hello").await.ok();
        service.publish().await;
        let hello = json!({ "entry": { "question": "你好", "answer": "又来了。" }, "version": 0 });
        service.put("k-hello", hello).await.ok();
        service.publish().await;
        assert_eq!(service.answer("你好").await.as_deref(), Some("又来了。"));

        // A draft that a roll back has overtaken is still what would be published.
        service.put("k-return", json!({ "entry": { "question": RETURN, "answer": "草稿。" } })).await.ok();
        service.put("k-hello", json!({ "entry": { "question": "你好", "answer": "三来了。" } })).await.ok();
        service.post("/v1/knowledge/publish", json!({ "entries": ["k-hello"] })).await.ok();
        service.post("/v1/knowledge/rollback", json!({ "release": 1 })).await.ok();
        let would_be = service.state.base().entries(true).await.unwrap();
        let answer = |id: &str| would_be.iter().find(|entry| entry.id == id).map(|entry| entry.answer.as_str());
        assert_eq!(answer("k-return"), Some("草稿。"));
        assert!(answer("k-hello").unwrap().starts_with("您好"));

        // Written anew, it is the same knowledge under a new number.
        let before = service.state.engine().entries().await.unwrap();
        let refilled = service.state.base().refill("测试").await.unwrap();
        assert_eq!((refilled.changes, refilled.entries), (0, 3));
        assert_eq!(service.state.engine().entries().await.unwrap(), before);
        assert_eq!(service.get("/v1/knowledge/entries/a%00b").await.status, 422);
        service.state.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_model_is_replaced_by_filling_the_store_again() {
    let place = Place::sqlite();
    let service = place.service().await;
    service.index().await;
    let engine: &Engine = service.state.engine();
    let contents = engine.contents().await.unwrap().unwrap();
    assert_eq!((contents.release, contents.entries, contents.wordings), (1, 3, 3));
    // What `yingda index` without a file does.
    assert_eq!(service.state.base().refill("").await.unwrap().release, 2);
    assert!(service.answer(RETURN).await.is_some());
    service.state.close().await;
}

/// What `yingda index --model NEW` does beside a running service, and then a reload.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_model_filled_is_left_alone_until_that_model_is_served() {
    let (place, models) = (Place::sqlite(), tempfile::tempdir().unwrap());
    let model = |name: &str| models.path().join(name);
    tiny_service_model_of(&model("served"), 1);
    tiny_service_model_of(&model("new"), 2);
    let config = |name: &str| Config { model: model(name), ..place.config() };
    let service = Service::open(config("served")).await;
    service.index().await;
    let old = service.state.engine().info().model_id;
    let following = tokio::spawn({
        let base = service.state.base().clone();
        async move { base.follow().await }
    });

    let other = Engine::open_to_index(config("new").engine()).await.unwrap();
    let refilled = KnowledgeBase::new(other.clone(), service.state.storage().clone()).refill("").await.unwrap();
    let new = other.info().model_id;
    assert_ne!(old, new);
    other.close().await;
    drop(other);
    // Twice as long as it takes the service to see to a store that is not where it should be.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(service.answer(RETURN).await.is_some(), "the old model goes on with what it had");
    let latest = service.state.storage().current_release().await.unwrap().unwrap();
    assert_eq!(latest.release, refilled.release, "nothing was written over it");

    std::fs::rename(model("served"), model("old")).unwrap();
    std::fs::rename(model("new"), model("served")).unwrap();
    let reloaded = service.post("/v1/admin/reload", json!({})).await.ok();
    let fingerprint = |id: &str| id.rsplit_once('@').unwrap().1.to_owned();
    assert_eq!(fingerprint(reloaded["model"].as_str().unwrap()), fingerprint(&new), "the same one under another name");
    assert!(service.answer(RETURN).await.is_some());
    let contents = service.state.engine().contents().await.unwrap().unwrap();
    assert_eq!((contents.model_id, contents.release), (new, refilled.release));
    following.abort();
    let _ = following.await;
    service.state.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_compared_with_what_is_being_published() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        let line = |id: &str, question: &str, answer: &str| {
            json!({ "id": id, "question": question, "answer": answer }).to_string() + "\n"
        };
        service.put("k-hello", json!({ "entry": { "question": "你好", "answer": "新的。" } })).await.ok();
        service.put("k-more", json!({ "entry": { "question": "能开发票吗？", "answer": "能。" } })).await.ok();
        let begun = service.state.base().begin_publish(None, "甲", "").await.unwrap();
        let old = line("k-hello", "你好", "旧的。");
        let imported = service.upload("format=jsonl&replace=true", old).await.ok();
        let counts = ["added", "changed", "unchanged", "removed"].map(|count| imported[count].as_i64().unwrap());
        assert_eq!(counts, [0, 1, 0, 3], "k-more is not in the file either");
        service.state.base().finish(begun, |_, _| {}).await.unwrap();
        assert_eq!(service.answer("你好").await.as_deref(), Some("新的。"));
        service.publish().await;
        assert_eq!(service.answer("你好").await.as_deref(), Some("旧的。"));
        assert_eq!(service.state.engine().entries().await.unwrap().len(), 1);
        service.state.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_write_one_entry_at_once_none_overwrites_what_they_have_not_seen() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        let save = |number: usize, expected: Option<i64>| {
            let base = service.state.base().clone();
            let mut entry = knowledge()[0].clone();
            entry.answer = number.to_string();
            tokio::spawn(async move { base.save(&entry, expected, "甲", "").await })
        };
        let (mut won, mut refused) = (0, 0);
        for saving in (0..8).map(|number| save(number, Some(1))).collect::<Vec<_>>() {
            match saving.await.unwrap() {
                Ok(version) => {
                    assert_eq!(version, 2);
                    won += 1;
                }
                Err(BaseError::Changed { found: 2, .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((won, refused), (1, 7));
        let mut versions = Vec::new();
        for saving in (0..8).map(|number| save(number, None)).collect::<Vec<_>>() {
            versions.push(saving.await.unwrap().unwrap());
        }
        versions.sort_unstable();
        assert_eq!(versions, (3..11).collect::<Vec<i64>>(), "who names no version writes over the last one");
        service.state.close().await;
    })
    .await;
}

/// More than one statement names.
#[tokio::test(flavor = "multi_thread")]
async fn many_entries_are_imported_published_and_brought_back() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        let file = |answer: &str| -> String {
            let line = |number: usize| {
                json!({ "id": format!("k{number:04}"), "question": format!("第{number}个问题"), "answer": answer })
                    .to_string()
                    + "\n"
            };
            (0..450).map(line).collect()
        };
        let counts = async |answer: &str, query: &str| {
            let imported = service.upload(&format!("format=jsonl{query}"), file(answer)).await.ok();
            ["added", "changed", "unchanged", "removed"].map(|count| imported[count].as_i64().unwrap())
        };
        assert_eq!(counts("一", "&dry_run=true").await, [450, 0, 0, 0]);
        assert_eq!(counts("一", "").await, [450, 0, 0, 0]);
        assert_eq!(counts("二", "").await, [0, 450, 0, 0], "drafts over drafts");
        assert_eq!(counts("二", "").await, [0, 0, 450, 0]);
        let first = service.publish().await;
        assert_eq!((&first["changes"], &first["entries"]), (&json!(450), &json!(453)));
        assert_eq!(service.answer("第7个问题").await.as_deref(), Some("二"));
        assert_eq!(counts("三", "&replace=true").await, [0, 450, 0, 3]);
        let ids: Vec<String> = (0..300).map(|number| format!("k{number:04}")).collect();
        let some = service.post("/v1/knowledge/publish", json!({ "entries": ids })).await.ok();
        assert_eq!((&some["changes"], &some["entries"]), (&json!(300), &json!(453)));
        assert_eq!(service.answer("第7个问题").await.as_deref(), Some("三"));
        assert_eq!(service.answer("第400个问题").await.as_deref(), Some("二"));
        let back = service.post("/v1/knowledge/rollback", json!({ "release": first["release"] })).await.ok();
        assert_eq!(back["changes"], 300);
        assert_eq!(service.answer("第7个问题").await.as_deref(), Some("二"));
        let versions = service.get("/v1/knowledge/entries/k0007/history").await.ok();
        assert_eq!(versions["versions"].as_array().unwrap().len(), 4);
        service.state.close().await;
    })
    .await;
}
