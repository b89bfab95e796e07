//! The service over its router: what callers send, what they get, and what is kept. On SQLite, and on PostgreSQL where
//! `YINGDA_TEST_POSTGRES_URL` says where one is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, header},
    response::IntoResponse as _,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use yingda::{
    auth::{self, Role},
    desk::Status,
    error::ApiError,
    storage::StorageError,
};
use yingda_engine::{AnswerThresholds, PolicyConfig};
use yingda_models::Thresholds;

use crate::support::{
    Answer, Place, Service, WORD_FOR_WORD, knowledge, on_each_database, request, tiny_service_model, with_body,
};

/// A message that is answered with a short fixed sentence, whatever the model thinks of it.
const THANKS: &str = "好的";
/// A message that means nothing to the shop.
const UNCLEAR: &str = "天上的云彩今天很白";
const PHONE: &str = "13812345678";

fn message(session: &str, id: &str, text: &str) -> Value {
    json!({ "session_id": session, "message_id": id, "text": text })
}

fn turns(session: &Value) -> &[Value] {
    session["turns"].as_array().unwrap()
}

fn texts(session: &Value) -> Vec<&str> {
    turns(session).iter().map(|turn| turn["text"].as_str().unwrap()).collect()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Sends all at once.
async fn at_once(requests: impl IntoIterator<Item = (Service, Value)>) -> Vec<Answer> {
    let mut running = JoinSet::new();
    for (service, body) in requests {
        running.spawn(async move { service.post("/v1/chat", body).await });
    }
    running.join_all().await
}

// Answers.

fn check_form(answer: &Value, model: &str) {
    let names: BTreeSet<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    let known = [
        "session_id",
        "message_id",
        "seq",
        "reply_seq",
        "decision",
        "reply",
        "choices",
        "intents",
        "sentiment",
        "matches",
        "reason",
        "ticket_id",
        "model",
        "timings",
    ];
    assert!(names.is_subset(&known.into()), "a field that nobody promised: {names:?}");
    let intents = answer["intents"].as_array().unwrap();
    let probabilities: Vec<f64> = intents.iter().map(|intent| intent["probability"].as_f64().unwrap()).collect();
    assert!(!intents.is_empty() && intents.len() <= 5 && probabilities.is_sorted_by(|a, b| a >= b), "{intents:?}");
    let sum: f64 = probabilities.iter().sum();
    assert!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)) && sum > 0.0 && sum <= 1.0001, "{intents:?}");
    assert!(intents.iter().all(|intent| intent["label"].is_string()));
    let sentiment = &answer["sentiment"];
    let feelings = ["negative", "neutral", "positive"].map(|name| (sentiment[name].as_f64().unwrap(), name));
    assert!((feelings.iter().map(|(p, _)| p).sum::<f64>() - 1.0).abs() < 1e-4, "{sentiment}");
    assert_eq!(sentiment["label"], feelings.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1);
    let matches = answer["matches"].as_array().unwrap();
    let scores: Vec<f64> = matches.iter().map(|hit| hit["score"].as_f64().unwrap()).collect();
    assert!(scores.iter().all(|score| (-1.001..=1.001).contains(score)));
    let likely: Vec<f64> = matches.iter().map(|hit| hit["probability"].as_f64().unwrap()).collect();
    assert!(likely.is_sorted_by(|a, b| a >= b) && likely.iter().all(|p| (0.0..=1.0).contains(p)), "{matches:?}");
    assert!(matches.iter().all(|hit| hit["knowledge_id"].is_string() && hit["question"].is_string()));
    assert_eq!(answer["model"], model);
    for time in ["queue_ms", "model_ms", "search_ms", "total_ms"] {
        assert!(answer["timings"][time].as_f64().unwrap() >= 0.0, "{time}");
    }
    assert!(answer["timings"]["total_ms"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn an_answer_says_all_that_it_promises() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        let model = service.state.engine().info().model_id;

        let body = json!({ "session_id": "会话 1", "message_id": "m1", "user_id": "u1", "channel": "web",
            "profile": { "level": 3 }, "text": "我的快递到哪里了？" });
        let answer = service.post("/v1/chat", body).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        let answer = answer.ok();
        check_form(&answer, &model);
        assert_eq!((&answer["session_id"], &answer["message_id"]), (&json!("会话 1"), &json!("m1")));
        assert_eq!((&answer["decision"], &answer["reply"]), (&json!("reply"), &json!(knowledge()[1].answer)));
        assert_eq!(answer["matches"].as_array().unwrap().len(), 3);
        assert_eq!(answer["matches"][0]["knowledge_id"], "k-track");
        for absent in ["choices", "reason", "ticket_id"] {
            assert!(answer.get(absent).is_none(), "{absent} has no place in a reply: {answer}");
        }

        let asked = service.chat("s2", UNCLEAR).await;
        check_form(&asked, &model);
        assert_eq!(asked["decision"], "clarify");
        assert_eq!(asked["reply"], PolicyConfig::default().clarify_text);
        let choices = asked["choices"].as_array().unwrap();
        assert!((1..=3).contains(&choices.len()), "{asked}");
        for choice in choices {
            let entry = knowledge().into_iter().find(|entry| choice["knowledge_id"] == entry.id).unwrap();
            assert_eq!(choice["question"], entry.question);
        }
        assert!(asked.get("message_id").is_none() && asked.get("ticket_id").is_none());

        let handed_over = service.chat("s2", UNCLEAR).await;
        check_form(&handed_over, &model);
        assert_eq!((&handed_over["decision"], &handed_over["reason"]), (&json!("escalate"), &json!("low_confidence")));
        assert!(handed_over["ticket_id"].is_string() && handed_over["reply"].is_string());

        let session = service.session("%E4%BC%9A%E8%AF%9D%201").await;
        assert_eq!((&session["user_id"], &session["channel"]), (&json!("u1"), &json!("web")));
        assert_eq!((&session["profile"]["level"], &session["owner"]), (&json!(3), &json!("bot")));
        let [user, bot] = turns(&session) else { panic!("{session}") };
        assert_eq!((&user["role"], &user["seq"], &user["message_id"]), (&json!("user"), &json!(1), &json!("m1")));
        assert_eq!((&bot["role"], &bot["seq"], &bot["decision"]), (&json!("bot"), &json!(2), &json!("reply")));
        assert_eq!(bot["knowledge_id"], "k-track");
        assert!(user["sentiment"].is_object() && user["intent"]["label"].is_string());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_answered_once_however_often_it_comes() {
    on_each_database(async |place| {
        let service = place.service().await;
        let first = service.post("/v1/chat", message("s", "m", "在吗")).await;
        assert!(!first.headers.contains_key("idempotent-replayed"));
        let again = service.post("/v1/chat", message("s", "m", "在吗")).await;
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!((first.ok(), &first.body), (again.ok(), &again.body));
        let other = service.post("/v1/chat", message("s", "m", "另一句话")).await;
        let reused = (409, "message_id_reused".to_owned());
        assert_eq!(other.refusal(), reused, "it would be lost");
        assert_eq!(service.session("s").await["last_seq"], 2);
        assert_eq!(texts(&service.session("s").await)[0], "在吗");

        // A form and a chat message are two things, whichever came first.
        let form = |id: &str| json!({ "session_id": "s", "message_id": id, "text": "在吗" });
        assert_eq!(service.post("/v1/tickets", form("m")).await.refusal(), reused);
        let opened = service.post("/v1/tickets", form("f")).await.ok();
        assert_eq!(service.post("/v1/tickets", form("f")).await.ok()["ticket_id"], opened["ticket_id"]);
        assert_eq!(service.post("/v1/chat", message("s", "f", "在吗")).await.refusal(), reused);

        let answers = at_once((0..20).map(|_| (service.clone(), message("many", "m", "在吗")))).await;
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
        let fresh = answers.iter().filter(|answer| !answer.headers.contains_key("idempotent-replayed")).count();
        assert_eq!(fresh, 1, "one answer is the first one");
        assert_eq!(service.session("many").await["last_seq"], 2);

        // The same id in another session is another message.
        let other = service.post("/v1/chat", message("other", "m", "在吗")).await;
        assert!(!other.headers.contains_key("idempotent-replayed"));

        if place.is_postgres() {
            let second = Service::open(place.config_of("second")).await;
            let both = |i| if i % 2 == 0 { service.clone() } else { second.clone() };
            let answers = at_once((0..20).map(|i| (both(i), message("shared", "m", "在吗")))).await;
            assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
            assert_eq!(second.session("shared").await["last_seq"], 2);
            let answers = at_once((0..20).map(|i| (both(i), message("help", &format!("m{i}"), "人工")))).await;
            let tickets: BTreeSet<String> = answers.iter().map(|answer| string(&answer.ok()["ticket_id"])).collect();
            assert_eq!(tickets.len(), 1, "two replicas open one ticket");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_session_that_come_at_once_are_all_kept_in_one_order() {
    on_each_database(async |place| {
        let service = place.service().await;
        let answers = at_once((0..30).map(|i| (service.clone(), message("s", &format!("m{i}"), THANKS)))).await;
        assert!(answers.iter().all(|answer| answer.ok()["decision"] == "reply"));
        let session = service.session("s").await;
        assert_eq!(session["last_seq"], 60);
        for (index, turn) in turns(&session).iter().enumerate() {
            assert_eq!(turn["seq"], index + 1);
            assert_eq!(turn["role"], if index % 2 == 0 { "user" } else { "bot" });
        }
        let ids: BTreeSet<String> = turns(&session).iter().step_by(2).map(|turn| string(&turn["message_id"])).collect();
        assert_eq!(ids.len(), 30);

        let page = service.get("/v1/sessions/s?after=57&limit=2").await.ok();
        assert_eq!((&page["turns"][0]["seq"], turns(&page).len(), &page["last_seq"]), (&json!(58), 2, &json!(60)));
        for (query, field) in
            [("limit=0", "limit"), ("limit=201", "limit"), ("after=-1", "after"), ("after=x", "after")]
        {
            service.get(&format!("/v1/sessions/s?{query}")).await.refuses(field);
        }
    })
    .await;
}

#[tokio::test]
async fn what_holds_no_words_gets_a_fixed_sentence_and_no_judgement() {
    on_each_database(async |place| {
        let service = place.service().await;
        let ask = |body: Value| service.post("/v1/chat", body);
        for (kind, placeholder, word) in [
            ("image", "[图片]", "图片"),
            ("voice", "[语音]", "语音"),
            ("file", "[文件]", "文件"),
            ("location", "[位置]", "位置"),
        ] {
            let answer = ask(json!({ "session_id": "s", "type": kind })).await.ok();
            assert_eq!((&answer["decision"], &answer["reason"]), (&json!("clarify"), &json!("non_text")));
            assert!(answer["reply"].as_str().unwrap().contains(word));
            assert!(
                answer["intents"] == json!([]) && answer["matches"] == json!([]) && answer.get("sentiment").is_none()
            );
            let session = service.session("s").await;
            assert_eq!(texts(&session)[turns(&session).len() - 2], placeholder);
        }
        for text in ["", " \n\t", "\u{0}"] {
            let answer = service.chat("s", text).await;
            assert_eq!(
                (&answer["decision"], &answer["reason"]),
                (&json!("clarify"), &json!("empty_message")),
                "{text:?}"
            );
            assert!(answer["reply"].as_str().unwrap().contains("人工"));
        }
        // Six fixed sentences are no clarifying questions: the first unclear message is still asked about.
        assert_eq!(service.chat("s", UNCLEAR).await["decision"], "clarify");

        for (session, text) in [("e1", "😀"), ("e2", "😡😡😡"), ("e3", "👨‍👩‍👧‍👦🇨🇳"), ("e4", "。。。"), ("e5", "[微笑]")]
        {
            let answer = service.chat(session, text).await;
            assert!(
                ["clarify", "reply", "no_answer"].contains(&answer["decision"].as_str().unwrap()),
                "{text}: {answer}"
            );
            assert_eq!(texts(&service.session(session).await)[0], text);
        }
        let caption = json!({ "session_id": "c", "type": "image", "text": "转人工" });
        assert_eq!(ask(caption).await.ok()["decision"], "escalate");
        assert_eq!(texts(&service.session("c").await)[0], "[图片] 转人工");
        let picture = ask(json!({ "session_id": "c", "type": "image" })).await.ok();
        assert_eq!((&picture["decision"], &picture["reason"]), (&json!("silent"), &json!("owned_by_agent")));
    })
    .await;
}

#[tokio::test]
async fn what_the_knowledge_does_not_answer_is_kept_as_a_gap() {
    on_each_database(async |place| {
        let mut config = place.config();
        // Only the very words of the knowledge are near enough.
        config.policy.answers = Some(AnswerThresholds { answer: 0.999, relevant: 0.999 });
        let service = Service::open(config).await;
        service.index().await;
        let first = service.chat("g1", "我的手机号13800138000能看云彩吗").await;
        assert_eq!(first["decision"], "no_answer", "{first}");
        assert!(first["reply"].as_str().unwrap().contains("人工") && first.get("ticket_id").is_none(), "{first}");
        let again = service.chat("g1", UNCLEAR).await;
        assert_eq!((&again["decision"], &again["reason"]), (&json!("escalate"), &json!("low_confidence")), "{again}");
        service.chat("g2", "转人工").await;

        let page = service.get("/v1/knowledge/gaps?limit=1").await.ok();
        let gap = &page["gaps"][0];
        assert_eq!((&gap["text"], &gap["decision"]), (&json!(UNCLEAR), &json!("escalate")), "{page}");
        let path = format!("/v1/knowledge/gaps?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
        let page = service.get(&path).await.ok();
        let gap = &page["gaps"][0];
        assert_eq!(gap["text"], "我的手机号[手机号]能看云彩吗", "personal data must be masked");
        assert_eq!((&gap["decision"], &gap["session_id"]), (&json!("no_answer"), &json!("g1")), "{page}");
        assert!(page.get("next_cursor").is_none(), "a wish for a person is no gap: {page}");
        service.get("/v1/knowledge/gaps?cursor=x").await.refuses("cursor");
        service.get("/v1/knowledge/gaps?limit=201").await.refuses("limit");
    })
    .await;
}

// Hand-overs.

#[tokio::test]
async fn a_hand_over_from_the_first_word_to_the_next_one() {
    on_each_database(async |place| {
        let service = place.service().await;
        let conflict = (409, "ticket_state".to_owned());
        let not_theirs = (403, "not_assignee".to_owned());
        let wang = json!({ "agent": "小王" });

        let opened = service.chat("s", "人工").await;
        assert_eq!((&opened["decision"], &opened["reason"]), (&json!("escalate"), &json!("person_requested")));
        assert_eq!(opened["reply"], PolicyConfig::default().escalate_text);
        let ticket = string(&opened["ticket_id"]);

        let silent = service.chat("s", "在吗").await;
        assert_eq!((&silent["decision"], &silent["reason"]), (&json!("silent"), &json!("owned_by_agent")));
        assert_eq!(silent["ticket_id"], ticket);
        assert!(silent.get("reply").is_none() && !silent["intents"].as_array().unwrap().is_empty());
        let session = service.session("s").await;
        assert_eq!((&session["owner"], &session["ticket"]["ticket_id"]), (&json!("agent"), &json!(ticket)));
        assert_eq!(session["ticket"]["status"], "new");

        for action in ["reply", "resolve"] {
            assert_eq!(service.act(&ticket, action, json!({ "agent": "小王", "text": "您好" })).await.status / 100, 4);
        }
        assert_eq!(service.act(&ticket, "reply", json!({ "agent": "小王", "text": "您好" })).await.refusal(), conflict);
        assert_eq!(service.act(&ticket, "resolve", wang.clone()).await.refusal(), conflict);
        let taken = service.act(&ticket, "take", wang.clone()).await.ok();
        assert_eq!((&taken["status"], &taken["assignee"]), (&json!("assigned"), &json!("小王")));
        assert_eq!(service.act(&ticket, "take", wang.clone()).await.ok(), taken, "taking it again changes nothing");
        assert_eq!(service.act(&ticket, "take", json!({ "agent": "小李" })).await.refusal(), conflict);
        assert_eq!(service.session("s").await["owner_agent"], "小王");

        let words = json!({ "agent": "小李", "text": "我来吧" });
        assert_eq!(service.act(&ticket, "reply", words).await.refusal(), not_theirs);
        let words = json!({ "agent": "小王", "text": "您好，我来帮您处理。" });
        let replied = service.act(&ticket, "reply", words).await.ok();
        assert!(replied["status"] == "in_progress" && replied["first_reply_at"].is_string());
        let session = service.session("s").await;
        let last = turns(&session).last().unwrap();
        assert_eq!((&last["role"], &last["author"]), (&json!("agent"), &json!("小王")));
        assert_eq!(last["text"], "您好，我来帮您处理。");
        assert_eq!(service.act(&ticket, "take", json!({ "agent": "小李" })).await.refusal(), conflict);

        let silent = service.chat("s", "人工人工！转人工").await;
        assert_eq!((&silent["decision"], &silent["ticket_id"]), (&json!("silent"), &json!(ticket)));

        assert_eq!(service.act(&ticket, "resolve", json!({ "agent": "小李" })).await.refusal(), not_theirs);
        let resolved = service.act(&ticket, "resolve", json!({ "agent": "小王", "note": "已补发" })).await.ok();
        assert!(resolved["status"] == "resolved" && resolved["resolved_at"].is_string());
        for action in ["take", "reply", "resolve"] {
            let mut body = wang.clone();
            if action == "reply" {
                body["text"] = json!("还在吗");
            }
            let refused = service.act(&ticket, action, body).await;
            assert_eq!(refused.refusal(), conflict, "{action}");
            assert!(refused.text().contains("resolved"), "{}", refused.text());
        }
        let session = service.session("s").await;
        assert_eq!(session["owner"], "bot");
        assert!(session.get("ticket").is_none() && session.get("owner_agent").is_none());
        assert!(session["resolved_at"].is_string());

        let served = service.chat("s", THANKS).await;
        assert_eq!(served["decision"], "reply", "the bot serves again");
        assert!(served.get("ticket_id").is_none());

        let story = service.get(&format!("/v1/tickets/{ticket}")).await.ok();
        let kinds: Vec<String> =
            story["events"].as_array().unwrap().iter().map(|event| string(&event["kind"])).collect();
        assert_eq!(kinds, ["opened", "customer_message", "taken", "agent_reply", "customer_message", "resolved"]);
        assert_eq!(texts(&story), ["人工"]);
        assert_eq!((&story["reason"], &story["priority"]), (&json!("person_requested"), &json!("medium")));

        let second = service.chat("s", "12315").await;
        assert_eq!((&second["decision"], &second["reason"]), (&json!("escalate"), &json!("handoff_word")));
        assert_ne!(second["ticket_id"], ticket, "a second hand-over has a ticket of its own");
        let second = service.get(&format!("/v1/tickets/{}", string(&second["ticket_id"]))).await.ok();
        assert_eq!((&second["priority"], &second["detail"]), (&json!("urgent"), &json!("12315")));
        assert_eq!(texts(&second)[0], THANKS, "what was settled does not stand in the new ticket");
    })
    .await;
}

/// Here every message counts as negative, so that two in a row are handed over.
#[tokio::test]
async fn what_was_settled_is_not_judged_again() {
    on_each_database(async |place| {
        let mut config = place.config();
        config.policy.thresholds = Some(Thresholds { negative: 0.0, ..WORD_FOR_WORD });
        let service = Service::open(config).await;
        let mut tickets = BTreeSet::new();
        for round in 0..3 {
            let first = service.chat("s", THANKS).await;
            assert_eq!(first["decision"], "reply", "round {round}: one message is no row of them");
            assert!(first.get("ticket_id").is_none());
            let second = service.chat("s", THANKS).await;
            assert_eq!((&second["decision"], &second["reason"]), (&json!("escalate"), &json!("negative_sentiment")));
            assert_eq!(second["reply"], PolicyConfig::default().apologise_text);
            let ticket = string(&second["ticket_id"]);
            service.act(&ticket, "take", json!({ "agent": "小王" })).await.ok();
            service.act(&ticket, "resolve", json!({ "agent": "小王" })).await.ok();
            tickets.insert(ticket);
        }
        assert_eq!(tickets.len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hand_overs_at_once_open_one_ticket_and_one_person_gets_it() {
    on_each_database(async |place| {
        let service = place.service().await;
        let answers = at_once((0..10).map(|i| (service.clone(), message("s", &format!("m{i}"), "转人工")))).await;
        let answers: Vec<Value> = answers.iter().map(Answer::ok).collect();
        let count = |decision: &str| answers.iter().filter(|answer| answer["decision"] == decision).count();
        assert_eq!((count("escalate"), count("silent")), (1, 9));
        let tickets: BTreeSet<String> = answers.iter().map(|answer| string(&answer["ticket_id"])).collect();
        assert_eq!(tickets.len(), 1);
        assert_eq!(service.get("/v1/tickets").await.ok()["tickets"].as_array().unwrap().len(), 1);

        let ticket = tickets.into_iter().next().unwrap();
        let mut takers = JoinSet::new();
        for i in 0..10 {
            let (service, ticket) = (service.clone(), ticket.clone());
            takers.spawn(async move { service.act(&ticket, "take", json!({ "agent": format!("客服{i}") })).await });
        }
        let statuses = takers.join_all().await.iter().map(|answer| answer.status).collect::<Vec<_>>();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 9, "{statuses:?}");
    })
    .await;
}

#[tokio::test]
async fn tickets_are_paged_without_gaps_or_repeats() {
    on_each_database(async |place| {
        let service = place.service().await;
        let mut opened = Vec::new();
        for i in 0..25 {
            opened.push(string(&service.chat(&format!("s{i}"), "人工").await["ticket_id"]));
        }
        let (mut seen, mut cursor, mut pages) = (Vec::new(), None, Vec::new());
        loop {
            let after = cursor.take().map(|cursor: String| format!("&cursor={cursor}")).unwrap_or_default();
            let page = service.get(&format!("/v1/tickets?limit=10{after}")).await.ok();
            let tickets = page["tickets"].as_array().unwrap();
            pages.push(tickets.len());
            seen.extend(tickets.iter().map(|ticket| string(&ticket["ticket_id"])));
            if pages.len() == 1 {
                // One more in between must not shift the pages.
                service.chat("late", "人工").await;
            }
            match page.get("next_cursor") {
                Some(next) => cursor = Some(string(next)),
                None => break,
            }
        }
        opened.reverse();
        assert_eq!((pages, seen), (vec![10, 10, 5], opened.clone()), "newest first, each once");
        let exact = service.get("/v1/tickets?limit=26").await.ok();
        assert!(exact.get("next_cursor").is_none(), "a full last page is the last page");

        for ticket in &opened[..3] {
            service.act(ticket, "take", json!({ "agent": "小王" })).await.ok();
        }
        service.act(&opened[0], "resolve", json!({ "agent": "小王" })).await.ok();
        for (status, count) in [("new", 23), ("assigned", 2), ("in_progress", 0), ("resolved", 1), ("open", 25)] {
            let page = service.get(&format!("/v1/tickets?status={status}")).await.ok();
            assert_eq!(page["tickets"].as_array().unwrap().len(), count, "{status}");
        }
        for (query, field) in [
            ("status=done", "status"),
            ("priority=soon", "priority"),
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=ten", "limit"),
            ("cursor=%27%20OR%201%3D1", "cursor"),
        ] {
            service.get(&format!("/v1/tickets?{query}")).await.refuses(field);
        }
        assert_eq!(service.get("/v1/tickets?page=2").await.refusal(), (400, "invalid_query".to_owned()));
    })
    .await;
}

// Who may do what.

/// Every route with a body that is well-formed enough to reach it, and the role that it asks for.
pub(crate) const ROUTES: &[(&str, &str, &str, Option<Role>)] = &[
    ("POST", "/v1/chat", r#"{"session_id": "s", "text": "好的"}"#, Some(Role::Caller)),
    ("POST", "/v1/understand", r#"{"texts": ["好的"]}"#, Some(Role::Caller)),
    ("POST", "/v1/search", r#"{"text": "好的"}"#, Some(Role::Caller)),
    ("GET", "/v1/sessions/{session_id}", "", Some(Role::Caller)),
    ("GET", "/v1/live", "", Some(Role::Caller)),
    ("POST", "/v1/sessions/{session_id}/attachments", "a file", Some(Role::Caller)),
    ("GET", "/v1/sessions/{session_id}/attachments/{attachment_id}", "", Some(Role::Caller)),
    ("POST", "/v1/tickets/{ticket_id}/attachments", "a file", Some(Role::Agent)),
    ("GET", "/v1/attachments/{attachment_id}", "", Some(Role::Agent)),
    ("GET", "/v1/knowledge/gaps", "", Some(Role::Agent)),
    ("GET", "/v1/knowledge/entries", "", Some(Role::Agent)),
    ("GET", "/v1/knowledge/entries/{id}", "", Some(Role::Agent)),
    ("PUT", "/v1/knowledge/entries/{id}", "{}", Some(Role::Agent)),
    ("DELETE", "/v1/knowledge/entries/{id}", "", Some(Role::Agent)),
    ("DELETE", "/v1/knowledge/entries/{id}/draft", "", Some(Role::Agent)),
    ("GET", "/v1/knowledge/entries/{id}/history", "", Some(Role::Agent)),
    ("POST", "/v1/knowledge/import", "", Some(Role::Agent)),
    ("GET", "/v1/knowledge/export", "", Some(Role::Agent)),
    ("GET", "/v1/knowledge/releases", "", Some(Role::Agent)),
    ("GET", "/v1/knowledge/releases/{release}", "", Some(Role::Agent)),
    ("POST", "/v1/knowledge/publish", "{}", Some(Role::Admin)),
    ("POST", "/v1/knowledge/rollback", r#"{"release": 1}"#, Some(Role::Admin)),
    ("GET", "/v1/tickets", "", Some(Role::Agent)),
    ("GET", "/v1/tickets/search", "", Some(Role::Agent)),
    ("GET", "/v1/tickets/{ticket_id}", "", Some(Role::Agent)),
    ("POST", "/v1/surveys/{token}", r#"{"score": 5}"#, None),
    ("GET", "/v1/desk/alerts", "", Some(Role::Agent)),
    ("POST", "/v1/desk/alerts/{alert_id}/acknowledge", "{}", Some(Role::Supervisor)),
    ("GET", "/v1/desk/board", "", Some(Role::Agent)),
    ("GET", "/v1/reports/summary", "", Some(Role::Supervisor)),
    ("GET", "/v1/reports/{name}", "", Some(Role::Supervisor)),
    ("POST", "/v1/tickets/{ticket_id}/take", "{}", Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/reply", r#"{"text": "您好"}"#, Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/resolve", "{}", Some(Role::Agent)),
    ("POST", "/v1/tickets", r#"{"text": "请联系我"}"#, Some(Role::Caller)),
    ("PATCH", "/v1/tickets/{ticket_id}", "{}", Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/assign", r#"{"to": "小李"}"#, Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/transfer", r#"{"team": "售后"}"#, Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/return", "{}", Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/wait", "{}", Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/close", "{}", Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/reopen", "{}", Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/merge", r#"{"into": "t"}"#, Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/notes", r#"{"text": "老客户"}"#, Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/links", r#"{"ticket_id": "t"}"#, Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/rating", r#"{"score": 5}"#, Some(Role::Caller)),
    ("GET", "/v1/tickets/{ticket_id}/assist", "", Some(Role::Agent)),
    ("GET", "/v1/corrections", "", Some(Role::Agent)),
    ("GET", "/v1/desk/agents", "", Some(Role::Agent)),
    ("PUT", "/v1/desk/agents/{name}", r#"{"team": "售后", "capacity": 3}"#, Some(Role::Supervisor)),
    ("DELETE", "/v1/desk/agents/{name}", "", Some(Role::Supervisor)),
    ("GET", "/v1/desk/settings", "", Some(Role::Supervisor)),
    ("PUT", "/v1/desk/settings", r#"{"version": 0}"#, Some(Role::Supervisor)),
    ("PUT", "/v1/me/presence", r#"{"presence": "away"}"#, Some(Role::Agent)),
    ("POST", "/v1/admin/reload", "", Some(Role::Admin)),
    ("GET", "/v1/admin/keys", "", Some(Role::Admin)),
    ("POST", "/v1/admin/keys", r#"{"name": "n", "role": "caller"}"#, Some(Role::Admin)),
    ("DELETE", "/v1/admin/keys/{key_id}", "", Some(Role::Admin)),
    ("POST", "/v1/login", r#"{"login": "nobody", "password": "wrong"}"#, None),
    ("POST", "/v1/logout", "", None),
    ("GET", "/v1/me", "", Some(Role::Caller)),
    ("POST", "/v1/me/password", "{}", Some(Role::Agent)),
    ("POST", "/v1/tickets/{ticket_id}/shares", r#"{"organisation": "o"}"#, Some(Role::Agent)),
    ("DELETE", "/v1/tickets/{ticket_id}/shares/{organisation_id}", "", Some(Role::Agent)),
    ("GET", "/v1/organisations", "", Some(Role::Agent)),
    ("POST", "/v1/organisations", "{}", Some(Role::Admin)),
    ("PATCH", "/v1/organisations/{organisation_id}", "{}", Some(Role::Admin)),
    ("GET", "/v1/users", "", Some(Role::Admin)),
    ("POST", "/v1/users", "{}", Some(Role::Admin)),
    ("PATCH", "/v1/users/{user_id}", "{}", Some(Role::Admin)),
    ("GET", "/v1/webhooks", "", Some(Role::Admin)),
    ("POST", "/v1/webhooks", "{}", Some(Role::Admin)),
    ("PATCH", "/v1/webhooks/{webhook_id}", "{}", Some(Role::Admin)),
    ("DELETE", "/v1/webhooks/{webhook_id}", "", Some(Role::Admin)),
    ("POST", "/v1/webhooks/{webhook_id}/test", "", Some(Role::Admin)),
    ("GET", "/v1/webhook-deliveries", "", Some(Role::Admin)),
    ("POST", "/v1/webhook-deliveries/{delivery_id}/retry", "", Some(Role::Admin)),
    ("POST", "/v1/webhook-deliveries/retry-dead", "", Some(Role::Admin)),
    ("GET", "/healthz", "", None),
    ("GET", "/readyz", "", None),
    ("GET", "/metrics", "", None),
];

/// What people of an outside organisation reach: with everything else they are refused.
pub(crate) const OUTSIDE: [(&str, &str); 23] = [
    ("GET", "/v1/tickets"),
    ("GET", "/v1/tickets/search"),
    ("GET", "/v1/tickets/{ticket_id}"),
    ("PATCH", "/v1/tickets/{ticket_id}"),
    ("GET", "/v1/tickets/{ticket_id}/assist"),
    ("POST", "/v1/tickets/{ticket_id}/take"),
    ("POST", "/v1/tickets/{ticket_id}/assign"),
    ("POST", "/v1/tickets/{ticket_id}/transfer"),
    ("POST", "/v1/tickets/{ticket_id}/return"),
    ("POST", "/v1/tickets/{ticket_id}/reply"),
    ("POST", "/v1/tickets/{ticket_id}/wait"),
    ("POST", "/v1/tickets/{ticket_id}/resolve"),
    ("POST", "/v1/tickets/{ticket_id}/close"),
    ("POST", "/v1/tickets/{ticket_id}/reopen"),
    ("POST", "/v1/tickets/{ticket_id}/merge"),
    ("POST", "/v1/tickets/{ticket_id}/notes"),
    ("POST", "/v1/tickets/{ticket_id}/links"),
    ("POST", "/v1/tickets/{ticket_id}/attachments"),
    ("GET", "/v1/attachments/{attachment_id}"),
    ("GET", "/v1/corrections"),
    ("PUT", "/v1/me/presence"),
    ("GET", "/v1/me"),
    ("POST", "/v1/me/password"),
];

/// What no key may do, whatever its role.
pub(crate) const PEOPLE_ONLY: [&str; 1] = ["/v1/me/password"];

fn with_key(mut request: Request<Body>, authorization: &str) -> Request<Body> {
    request.headers_mut().insert(header::AUTHORIZATION, authorization.parse().unwrap());
    request
}

#[tokio::test]
async fn every_route_asks_for_its_role() {
    on_each_database(async |place| {
        let mut config = place.config();
        config.open = false;
        let service = Service::open(config).await;
        let mut keys = Vec::new();
        for role in Role::ALL {
            keys.push((role, auth::create_key(service.state.storage(), role.as_str(), role).await.unwrap().1));
        }
        for &(method, path, body, needed) in ROUTES {
            let send = || with_body(method, &path.replace(['{', '}'], ""), body);
            let bare = service.send(send()).await;
            let Some(needed) = needed else {
                let refused = bare.status >= 400 && !["login_wrong", "survey_link"].contains(&bare.code().as_str());
                assert!(!refused, "{path} needs no key: {}", bare.text());
                continue;
            };
            let missing = (401, "key_missing".to_owned());
            assert_eq!(bare.refusal(), missing, "{method} {path}");
            assert_eq!(bare.headers["www-authenticate"], "Bearer");
            for authorization in ["Basic eWQ6eWQ=", "yd_1"] {
                assert_eq!(service.send(with_key(send(), authorization)).await.refusal(), missing, "{authorization}");
            }
            let wrong = format!("Bearer yd_{}", "0".repeat(64));
            for authorization in [wrong.as_str(), "Bearer ", "Bearer sk_1", "Bearer yd_' OR 1=1"] {
                let refused = service.send(with_key(send(), authorization)).await.refusal();
                assert_eq!(refused, (401, "key_unknown".to_owned()), "{method} {path} {authorization}");
            }
            for (role, key) in &keys {
                let answer = service.send(with_key(send(), &format!("bearer {key}"))).await;
                if *role < needed {
                    assert_eq!(answer.refusal(), (403, "forbidden".to_owned()), "{role} {method} {path}");
                } else if PEOPLE_ONLY.contains(&path) {
                    assert_eq!(answer.refusal(), (403, "login_needed".to_owned()), "{role} {method} {path}");
                } else {
                    assert!(![401, 403, 405].contains(&answer.status), "{role} {method} {path}: {}", answer.text());
                }
            }
        }
        for path in
            ["/", "/page/chat.js", "/page/attach.js", "/page/chat.css", "/console", "/console/main.js", "/openapi.json"]
        {
            assert_eq!(service.get(path).await.status, 200, "{path} needs no key");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_shown_once_and_refused_when_revoked() {
    on_each_database(async |place| {
        let mut config = place.config();
        config.open = false;
        let service = Service::open(config).await;
        let mut firsts = JoinSet::new();
        for _ in 0..5 {
            let storage = service.state.storage().clone();
            firsts.spawn(async move { auth::first_key(&storage).await.unwrap() });
        }
        let firsts: Vec<String> = firsts.join_all().await.into_iter().flatten().collect();
        let [admin] = firsts.as_slice() else { panic!("{} first keys", firsts.len()) };
        let admin = format!("Bearer {admin}");

        let make = |body: &str| service.send(with_key(with_body("POST", "/v1/admin/keys", body.to_owned()), &admin));
        let made = make(r#"{"name": " 小程序 ", "role": "caller"}"#).await;
        assert_eq!(made.status, 201);
        let made = made.ok();
        let (id, key) = (string(&made["key_id"]), string(&made["key"]));
        assert_eq!((&made["name"], &made["role"], &key[..3]), (&json!("小程序"), &json!("caller"), "yd_"));
        make(r#"{"name": " ", "role": "caller"}"#).await.refuses("name");
        make(r#"{"name": "n", "role": "owner"}"#).await.refuses("role");
        make(r#"{"role": "caller"}"#).await.refuses("name");

        let list = service.send(with_key(request("GET", "/v1/admin/keys"), &admin)).await;
        assert_eq!(list.ok()["keys"].as_array().unwrap().len(), 2);
        assert!(!list.text().contains(&key[3..]) && !list.text().contains(&auth::hash(&key)), "a key is shown again");

        let chat = || with_body("POST", "/v1/chat", message("s", "m", THANKS).to_string());
        let bearer = format!("Bearer {key}");
        service.send(with_key(chat(), &bearer)).await.ok();
        let revoke = |id: String| service.send(with_key(request("DELETE", &format!("/v1/admin/keys/{id}")), &admin));
        assert_eq!(revoke(id.clone()).await.status, 204);
        assert_eq!(service.send(with_key(chat(), &bearer)).await.refusal(), (401, "key_unknown".to_owned()));
        assert_eq!(revoke(id).await.status, 204, "revoking it again is fine");
        let nobody = revoke("00000000-0000-7000-8000-000000000000".to_owned()).await;
        assert_eq!(nobody.refusal(), (404, "key_not_found".to_owned()));
        assert!(auth::first_key(service.state.storage()).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_person_without_a_name_is_known_by_their_key() {
    on_each_database(async |place| {
        let mut config = place.config();
        config.open = false;
        let service = Service::open(config).await;
        let mut keys = Vec::new();
        for name in ["早班", "晚班"] {
            let (_, key) = auth::create_key(service.state.storage(), name, Role::Agent).await.unwrap();
            keys.push(format!("Bearer {key}"));
        }
        let send = async |key: &str, method: &str, path: &str, body: Value| {
            service.send(with_key(with_body(method, path, body.to_string()), key)).await
        };
        let opened = send(&keys[0], "POST", "/v1/chat", message("s", "m", "人工")).await.ok();
        let ticket = format!("/v1/tickets/{}", string(&opened["ticket_id"]));
        // A body may be left out.
        let taken = service.send(with_key(request("POST", &format!("{ticket}/take")), &keys[0])).await.ok();
        assert_eq!(taken["assignee"], "早班");
        let words = json!({ "text": "您好" });
        let theirs = send(&keys[1], "POST", &format!("{ticket}/reply"), words.clone()).await;
        assert_eq!(theirs.refusal(), (403, "not_assignee".to_owned()));
        assert!(theirs.text().contains("早班"));
        send(&keys[0], "POST", &format!("{ticket}/reply"), words).await.ok();
        send(&keys[0], "POST", &format!("{ticket}/reply"), json!({ "text": " " })).await.refuses("text");
        send(&keys[0], "POST", &format!("{ticket}/take"), json!({ "agent": " " })).await.refuses("agent");
        let resolved = service.send(with_key(request("POST", &format!("{ticket}/resolve")), &keys[0])).await.ok();
        assert_eq!(resolved["status"], "resolved");
    })
    .await;
}

#[tokio::test]
async fn without_keys_only_names_of_this_machine_are_served() {
    let place = Place::sqlite();
    let service = place.service().await;
    let send = async |host: &str| {
        let mut request = request("GET", "/v1/tickets");
        request.headers_mut().insert(header::HOST, host.parse().unwrap());
        service.send(request).await
    };
    for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "127.0.0.2"] {
        assert_eq!(send(host).await.status, 200, "{host}");
    }
    for host in
        ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", ""]
    {
        assert_eq!(send(host).await.refusal(), (403, "host_refused".to_owned()), "{host}");
    }
}

// Personal data.

/// Whether a file below `folder` holds `text`.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        let found = |bytes: Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        if path.is_dir() { holds(&path, text) } else { found(std::fs::read(&path).unwrap()) }
    })
}

#[tokio::test]
async fn personal_data_is_kept_nowhere() {
    on_each_database(async |place| {
        let service = place.service().await;
        let secrets = [PHONE, "zhangsan@example.com", "11010519491231002X", "6222021234567890128"];
        let said = format!("收货电话是{}，邮箱 {}，身份证{}，卡号 {}", secrets[0], secrets[1], secrets[2], secrets[3]);
        let body = json!({ "session_id": "s", "message_id": "m", "text": said,
            "profile": { "phone": PHONE, "number": 13_812_345_678_i64, "deep": [{ "mail": secrets[1] }], "姓": "张" } });
        service.post("/v1/chat", body).await.ok();
        let opened = service.chat("s", &format!("转人工，打我电话{PHONE}")).await;
        let ticket = string(&opened["ticket_id"]);
        service.chat("s", &format!("电话{PHONE}呢")).await;
        service.act(&ticket, "take", json!({ "agent": "小王" })).await.ok();
        // What an agent writes reaches the customer as it is, and is a test of its own.
        let words = json!({ "agent": "小王", "text": "是这个号码吗" });
        service.act(&ticket, "reply", words).await.ok();
        let note = json!({ "agent": "小王", "note": format!("回电{PHONE}") });
        service.act(&ticket, "resolve", note).await.ok();
        service.post("/v1/chat", json!({ "session_id": "s", "type": "image", "text": format!("截图 {PHONE}") })).await.ok();

        let shown = [
            service.get("/v1/sessions/s").await.text(),
            service.get(&format!("/v1/tickets/{ticket}")).await.text(),
            service.get("/v1/tickets").await.text(),
            service.get("/metrics").await.text(),
        ];
        for secret in secrets {
            assert!(shown.iter().all(|text| !text.contains(secret)), "{secret} is shown: {shown:?}");
        }
        let session = service.session("s").await;
        assert!(texts(&session)[0].starts_with("收货电话是[手机号]"), "{session}");
        assert!(session["profile"]["phone"] == "[手机号]" && session["profile"]["姓"] == "张", "{session}");

        if !place.is_postgres() {
            // Before and after what stands in the write-ahead log is moved to the file.
            for _ in 0..2 {
                assert!(holds(&place.data(), "收货电话是"), "this search finds nothing at all");
                for secret in secrets {
                    assert!(!holds(&place.data(), secret), "{secret} lies in the data folder");
                }
                service.state.close().await;
            }
        }
    })
    .await;
}

// What is refused.

#[tokio::test]
async fn limits_hold_to_the_letter() {
    on_each_database(async |place| {
        let service = place.service().await;
        let chat = |body: Value| service.post("/v1/chat", body);
        chat(json!({ "session_id": "s", "text": "你".repeat(20_000) })).await.ok();
        chat(json!({ "session_id": "s", "text": "你".repeat(20_001) })).await.refuses("text");
        chat(json!({ "session_id": "e", "text": "😀".repeat(20_000) })).await.ok();
        let long = |count: usize| "会".repeat(count);
        chat(message(&long(128), &long(128), THANKS)).await.ok();
        chat(message(&long(129), "m", THANKS)).await.refuses("session_id");
        chat(message("s", &long(129), THANKS)).await.refuses("message_id");
        chat(json!({ "session_id": "s", "text": THANKS, "user_id": long(129) })).await.refuses("user_id");
        let profile =
            |size: usize| json!({ "session_id": "s", "text": THANKS, "profile": { "a": "x".repeat(size - 8) } });
        chat(profile(8192)).await.ok();
        chat(profile(8193)).await.refuses("profile");

        let padded = |size: usize| {
            let body = message("big", "m", THANKS).to_string();
            with_body("POST", "/v1/chat", body.clone() + &" ".repeat(size - body.len()))
        };
        service.send(padded(256 * 1024)).await.ok();
        assert_eq!(service.send(padded(256 * 1024 + 1)).await.refusal(), (413, "body_too_large".to_owned()));
        let session = service.session("s").await;
        assert_eq!(session["last_seq"], 4, "what was refused is not stored");
        assert_eq!(texts(&session)[0].chars().count(), 20_000);
    })
    .await;
}

#[tokio::test]
async fn bodies_that_cannot_be_understood_are_refused_with_a_reason() {
    let place = Place::sqlite();
    let service = place.service().await;
    let chat = |body: &[u8]| service.send(with_body("POST", "/v1/chat", body.to_vec()));
    let deep = "[".repeat(100_000);
    for (body, word) in [
        (r#"{"session_id": "s", "text": "你好""#, "不完整"),
        ("", "不完整"),
        (r#"{"session_id": "s", "text": "你好",}"#, "语法"),
        (r#"{"session_id": "s", "text": "你好"} x"#, "语法"),
        ("{'session_id': 's'}", "语法"),
        ("{\"session_id\": \"s\", \"text\": \"你\n好\"}", "控制字符"),
        (r#"{"session_id": "s", "text": "\ud83d"}"#, "代理项"),
        (r#"{"session_id": "s", "text": "\ud83d好"}"#, "代理项"),
        (r#"{"session_id": "s", "text": "\ude00"}"#, "代理项"),
        (&format!(r#"{{"session_id": "s", "text": "好", "profile": {{"a": {deep}"#), "嵌套"),
    ] {
        let answer = chat(body.as_bytes()).await;
        assert_eq!(answer.refusal(), (400, "invalid_json".to_owned()), "{body:.80}");
        assert!(answer.text().contains(word), "{body:.80}: {}", answer.text());
    }
    let mut gbk = br#"{"session_id": "s", "text": ""#.to_vec();
    gbk.extend([0xc4, 0xe3, 0xba, 0xc3]);
    gbk.extend(b"\"}");
    assert!(chat(&gbk).await.text().contains("UTF-8"));

    for (body, field) in [
        (r#"{"text": "好"}"#, "session_id"),
        (r#"{"session_id": "s"}"#, "text"),
        (r#"{"session_id": "s", "text": null}"#, "text"),
        (r#"{"session_id": 5, "text": "好"}"#, "session_id"),
        (r#"{"session_id": "s", "text": ["好"]}"#, "text"),
        (r#"{"session_id": "s", "text": "好", "message_id": 1}"#, "message_id"),
        (r#"{"session_id": "s", "text": "好", "type": "video"}"#, "type"),
        (r#"{"session_id": "s", "text": "好", "type": 1}"#, "type"),
        (r#"{"session_id": "s", "text": "好", "profile": "VIP"}"#, "profile"),
        (r#"{"session_id": "s", "text": "好", "channel": "Web"}"#, "channel"),
        (r#"{"session_id": "s", "text": "好", "messageId": "1"}"#, "messageId"),
        (r#"{"session_id": "s", "text": "好", "text": "坏"}"#, "text"),
        (r#"{"session_id": "", "text": "好"}"#, "session_id"),
        (r#"{"session_id": "a\u0000", "text": "好"}"#, "session_id"),
        (r#"{"session_id": "a\nb", "text": "好"}"#, "session_id"),
        ("[]", "（请求体）"),
        ("\"好\"", "（请求体）"),
    ] {
        chat(body.as_bytes()).await.refuses(field);
    }

    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonp")] {
        let mut request = with_body("POST", "/v1/chat", message("s", "m", THANKS).to_string());
        request.headers_mut().remove(header::CONTENT_TYPE);
        if let Some(kind) = kind {
            request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        }
        assert_eq!(service.send(request).await.refusal(), (415, "unsupported_media_type".to_owned()), "{kind:?}");
    }
    let mut fine = with_body("POST", "/v1/chat", format!("\u{feff}{}", message("fine", "m", THANKS)));
    fine.headers_mut().insert(header::CONTENT_TYPE, "Application/JSON; charset=utf-8".parse().unwrap());
    service.send(fine).await.ok();
    assert_eq!(service.get("/v1/sessions/s").await.status, 404, "nothing of all this was stored");
}

#[tokio::test]
async fn nul_is_taken_out_of_texts() {
    on_each_database(async |place| {
        let service = place.service().await;
        let body = json!({ "session_id": "s", "text": "你\u{0}好", "profile": { "a\u{0}b": "c\u{0}" } });
        service.post("/v1/chat", body).await.ok();
        let session = service.session("s").await;
        assert_eq!((texts(&session)[0], &session["profile"]), ("你好", &json!({ "ab": "c" })));
        let ticket = string(&service.chat("s", "人工").await["ticket_id"]);
        service.act(&ticket, "take", json!({ "agent": "小\u{0}王" })).await.refuses("agent");
        service.act(&ticket, "take", json!({ "agent": "小王" })).await.ok();
        service.act(&ticket, "reply", json!({ "agent": "小王", "text": "您\u{0}好" })).await.ok();
        service.act(&ticket, "resolve", json!({ "agent": "小王", "note": "好\u{0}了" })).await.ok();
        for path in ["/v1/sessions/%00", "/v1/sessions/a%00b"] {
            assert_eq!(service.get(path).await.refusal(), (404, "session_not_found".to_owned()));
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_said_in_our_form() {
    on_each_database(async |place| {
        let service = place.service().await;
        for path in ["/v1/nope", "/v1/chat/", "/V1/chat", "/v2/chat", "/.env", "/page/../Cargo.toml", "/v1/sessions/"] {
            assert_eq!(service.get(path).await.refusal(), (404, "not_found".to_owned()), "{path}");
        }
        for (method, path) in [
            ("GET", "/v1/chat"),
            ("DELETE", "/v1/tickets"),
            ("POST", "/healthz"),
            ("PUT", "/v1/admin/keys"),
            ("POST", "/"),
            ("BREW", "/v1/chat"),
            ("POST", "/openapi.json"),
        ] {
            let refused = service.send(request(method, path)).await;
            assert_eq!(refused.refusal(), (405, "method_not_allowed".to_owned()), "{method} {path}");
            assert!(refused.headers.contains_key("allow"), "{method} {path} does not say what is allowed");
        }
        let nobody = "00000000-0000-7000-8000-000000000000";
        for (path, code) in [
            ("/v1/sessions/nobody".to_owned(), "session_not_found"),
            (format!("/v1/sessions/{}", "s".repeat(5000)), "session_not_found"),
            (format!("/v1/tickets/{nobody}"), "ticket_not_found"),
            ("/v1/tickets/17".to_owned(), "ticket_not_found"),
            ("/v1/tickets/%27%20OR%201%3D1".to_owned(), "ticket_not_found"),
        ] {
            assert_eq!(service.get(&path).await.refusal(), (404, code.to_owned()), "{path}");
        }
        for action in ["take", "reply", "resolve"] {
            let refused = service.act(nobody, action, json!({ "text": "好" })).await;
            // Only a reply has a text.
            let wanted = if action == "reply" { (404, "ticket_not_found") } else { (422, "invalid_field") };
            assert_eq!(refused.refusal(), (wanted.0, wanted.1.to_owned()), "{action}");
        }
        assert_eq!(service.get("/v1/sessions/%ff").await.refusal(), (400, "invalid_path".to_owned()));

        let odd = "a/b?c#d 会'\"";
        service.chat(odd, THANKS).await;
        assert_eq!(service.session("a%2Fb%3Fc%23d%20%E4%BC%9A'%22").await["session_id"], odd);
    })
    .await;
}

/// Every code with its status. The match makes a new kind of error fail to compile until it stands here too.
fn codes() -> Vec<(ApiError, &'static str, u16)> {
    let all = vec![
        (ApiError::InvalidJson("x".into()), "invalid_json", 400),
        (ApiError::InvalidQuery("x".into()), "invalid_query", 400),
        (ApiError::InvalidPath, "invalid_path", 400),
        (ApiError::UnsupportedMediaType, "unsupported_media_type", 415),
        (ApiError::BodyTooLarge, "body_too_large", 413),
        (ApiError::InvalidField { field: "text".into(), problem: "x".into() }, "invalid_field", 422),
        (ApiError::SettingsChanged, "settings_changed", 409),
        (ApiError::UpgradeNeeded, "upgrade_needed", 426),
        (ApiError::KeyMissing, "key_missing", 401),
        (ApiError::KeyUnknown, "key_unknown", 401),
        (ApiError::Forbidden { needed: Role::Agent }, "forbidden", 403),
        (ApiError::LoginExpired, "login_expired", 401),
        (ApiError::LoginNeeded, "login_needed", 403),
        (ApiError::LoginWrong, "login_wrong", 401),
        (ApiError::LoginLocked { seconds: 61 }, "login_locked", 429),
        (ApiError::LoginTooOften { seconds: 7 }, "login_too_often", 429),
        (ApiError::UserDisabled, "user_disabled", 403),
        (ApiError::Csrf, "csrf", 403),
        (ApiError::UserNotFound("1".into()), "user_not_found", 404),
        (ApiError::LoginTaken("xiaowang".into()), "login_taken", 409),
        (ApiError::NameTaken("小王".into()), "name_taken", 409),
        (ApiError::LastAdmin, "last_admin", 409),
        (ApiError::OwnAccount, "own_account", 409),
        (ApiError::HostRefused("x".into()), "host_refused", 403),
        (ApiError::RouteNotFound, "not_found", 404),
        (ApiError::MethodNotAllowed, "method_not_allowed", 405),
        (ApiError::SessionNotFound, "session_not_found", 404),
        (ApiError::TicketNotFound("x".into()), "ticket_not_found", 404),
        (ApiError::KeyNotFound("x".into()), "key_not_found", 404),
        (ApiError::TicketState { status: Status::New, action: "回复".into(), assignee: None }, "ticket_state", 409),
        (ApiError::NotAssignee { assignee: "小王".into() }, "not_assignee", 403),
        (ApiError::NotManager { action: "转交".into() }, "not_manager", 403),
        (ApiError::AgentNotFound("x".into()), "agent_not_found", 404),
        (ApiError::TicketOpen("x".into()), "ticket_open", 409),
        (ApiError::NotTogether("x"), "not_together", 409),
        (ApiError::NotRated("x"), "not_rated", 409),
        (ApiError::SurveyLink, "survey_link", 404),
        (ApiError::SurveyNotFound, "survey_not_found", 404),
        (ApiError::SurveyExpired, "survey_expired", 410),
        (ApiError::SurveyAnswered, "survey_answered", 409),
        (ApiError::AlertNotFound("x".into()), "alert_not_found", 404),
        (ApiError::AlertAcknowledged("x".into()), "alert_acknowledged", 409),
        (ApiError::EntryNotFound("x".into()), "entry_not_found", 404),
        (ApiError::ReleaseNotFound("x".into()), "release_not_found", 404),
        (ApiError::EntryChanged { id: "x".into(), found: 2 }, "entry_changed", 409),
        (ApiError::NothingToPublish, "nothing_to_publish", 409),
        (ApiError::PublishingNow(2), "publishing_now", 409),
        (ApiError::PublishingGivenUp(2), "publishing_given_up", 409),
        (ApiError::BadKnowledge(vec!["x".into()]), "bad_knowledge", 422),
        (ApiError::ReportNotFound, "report_not_found", 404),
        (ApiError::WebhookNotFound("x".into()), "webhook_not_found", 404),
        (ApiError::DeliveryNotFound("x".into()), "delivery_not_found", 404),
        (ApiError::DeliveryNotDead, "delivery_not_dead", 409),
        (ApiError::TooManyWebhooks, "too_many_webhooks", 409),
        (ApiError::StoreUnavailable("x".into()), "store_unavailable", 503),
        (ApiError::AttachmentNotFound("x".into()), "attachment_not_found", 404),
        (ApiError::AttachmentType("x".into()), "attachment_type", 415),
        (ApiError::TooManyAttachments { seconds: 9 }, "too_many_attachments", 429),
        (ApiError::Outside, "outside", 403),
        (ApiError::OrganisationNotFound("x".into()), "organisation_not_found", 404),
        (ApiError::OrganisationTaken("x".into()), "organisation_taken", 409),
        (ApiError::Busy, "busy", 429),
        (ApiError::MessageIdReused, "message_id_reused", 409),
        (ApiError::Timeout, "timeout", 504),
        (ApiError::Stopping, "stopping", 503),
        (ApiError::Storage(StorageError::Slow), "storage_unavailable", 503),
        (ApiError::ModelUnavailable("x".into()), "model_unavailable", 503),
        (ApiError::RulesWrong("x".into()), "rules_wrong", 422),
        (ApiError::ReloadFailed("x".into()), "reload_failed", 500),
        (ApiError::Internal("x".into()), "internal", 500),
    ];
    for (error, ..) in &all {
        match error {
            ApiError::InvalidJson(_) | ApiError::InvalidQuery(_) | ApiError::InvalidPath => {}
            ApiError::UnsupportedMediaType | ApiError::BodyTooLarge | ApiError::InvalidField { .. } => {}
            ApiError::KeyMissing | ApiError::KeyUnknown | ApiError::Forbidden { .. } | ApiError::HostRefused(_) => {}
            ApiError::LoginExpired | ApiError::LoginNeeded | ApiError::LoginWrong | ApiError::Csrf => {}
            ApiError::LoginLocked { .. } | ApiError::LoginTooOften { .. } | ApiError::UserDisabled => {}
            ApiError::UserNotFound(_)
            | ApiError::LoginTaken(_)
            | ApiError::NameTaken(_)
            | ApiError::LastAdmin
            | ApiError::OwnAccount => {}
            ApiError::RouteNotFound | ApiError::MethodNotAllowed | ApiError::SessionNotFound => {}
            ApiError::TicketNotFound(_) | ApiError::KeyNotFound(_) | ApiError::TicketState { .. } => {}
            ApiError::EntryNotFound(_) | ApiError::ReleaseNotFound(_) | ApiError::EntryChanged { .. } => {}
            ApiError::MessageIdReused
            | ApiError::NothingToPublish
            | ApiError::PublishingNow(_)
            | ApiError::PublishingGivenUp(_)
            | ApiError::BadKnowledge(_) => {}
            ApiError::StoreUnavailable(_) | ApiError::NotManager { .. } | ApiError::TicketOpen(_) => {}
            ApiError::NotTogether(_) | ApiError::NotRated(_) | ApiError::AgentNotFound(_) => {}
            ApiError::ReportNotFound | ApiError::UpgradeNeeded | ApiError::SettingsChanged => {}
            ApiError::SurveyLink | ApiError::SurveyNotFound | ApiError::SurveyExpired | ApiError::SurveyAnswered => {}
            ApiError::AlertNotFound(_) | ApiError::AlertAcknowledged(_) => {}
            ApiError::WebhookNotFound(_) | ApiError::DeliveryNotFound(_) => {}
            ApiError::DeliveryNotDead | ApiError::TooManyWebhooks => {}
            ApiError::AttachmentNotFound(_) | ApiError::AttachmentType(_) | ApiError::TooManyAttachments { .. } => {}
            ApiError::Outside | ApiError::OrganisationNotFound(_) | ApiError::OrganisationTaken(_) => {}
            ApiError::NotAssignee { .. } | ApiError::Busy | ApiError::Timeout | ApiError::Stopping => {}
            ApiError::Storage(_)
            | ApiError::ModelUnavailable(_)
            | ApiError::RulesWrong(_)
            | ApiError::ReloadFailed(_)
            | ApiError::Internal(_) => {}
        }
    }
    all
}

#[tokio::test]
async fn every_code_has_its_status_and_our_form() {
    let mut seen = BTreeSet::new();
    for (error, code, status) in codes() {
        let text = format!("{error:?}");
        let response = error.into_response();
        assert_eq!(response.status().as_u16(), status, "{text}");
        let retry = response.headers().contains_key(header::RETRY_AFTER);
        assert_eq!(retry, status == 429, "{text}");
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], code, "{text}");
        assert!(seen.insert(code), "{code} stands twice");
    }
    assert_eq!(seen.len(), 70);
}

/// The codes that no request of the other tests can reach, each brought about.
#[tokio::test(flavor = "multi_thread")]
async fn faults_are_said_and_nothing_is_half_done() {
    let place = Place::sqlite();
    let mut config = place.config();
    config.max_in_flight = 0;
    let service = Service::open(config).await;
    let refused = service.post("/v1/chat", message("s", "m", THANKS)).await;
    assert_eq!(refused.refusal(), (429, "busy".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
    service.state.close().await;
    drop(service);

    // A request that times out has been accepted: the message is answered all the same, and once.
    let place = Place::sqlite();
    let mut config = place.config();
    config.request_timeout = Duration::ZERO;
    let service = Service::open(config).await;
    let sessions: Vec<String> = (0..10).map(|i| format!("s{i}")).collect();
    let long = "慢".repeat(20_000);
    let answers = at_once(sessions.iter().map(|session| (service.clone(), message(session, "m", &long)))).await;
    let late: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(!late.is_empty() && late.iter().all(|answer| answer.refusal() == (504, "timeout".to_owned())));
    let started = std::time::Instant::now();
    for session in &sessions {
        while service.state.storage().message(session, "m").await.unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(20), "an accepted message was lost");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(service.state.storage().session(session).await.unwrap().unwrap().last_seq, 2);
    }

    let place = Place::sqlite();
    let mut config = place.config();
    config.model = place.data().join("own-model");
    tiny_service_model(&config.model);
    let service = Service::open(config.clone()).await;
    std::fs::write(config.model.join("heads.safetensors"), b"no weights").unwrap();
    assert_eq!(service.post("/v1/admin/reload", json!({})).await.refusal(), (500, "reload_failed".to_owned()));
    assert_eq!(service.chat("s", THANKS).await["decision"], "reply", "the old model is still served");
    tiny_service_model(&config.model);
    service.post("/v1/admin/reload", json!({})).await.ok();

    service.state.engine().close().await;
    assert_eq!(service.get("/readyz").await.status, 200);
    let refused = service.post("/v1/chat", message("new", "m", THANKS)).await;
    assert_eq!(refused.refusal(), (503, "model_unavailable".to_owned()));
    assert_eq!(service.get("/v1/sessions/new").await.status, 404, "what was not answered is not stored");
    assert_eq!(service.get("/readyz").await.refusal(), (503, "model_unavailable".to_owned()));

    service.state.storage().close().await;
    let refused = service.post("/v1/chat", message("s", "m", THANKS)).await;
    assert_eq!(refused.refusal(), (503, "storage_unavailable".to_owned()));

    let place = Place::sqlite();
    let service = place.service().await;
    assert_eq!(service.get("/readyz").await.ok()["status"], "ready");
    service.state.close().await;
    assert_eq!(service.get("/readyz").await.refusal(), (503, "stopping".to_owned()));
    let refused = service.post("/v1/chat", message("s", "m", THANKS)).await;
    assert_eq!(refused.refusal(), (503, "stopping".to_owned()));
    assert_eq!(service.get("/healthz").await.ok()["status"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_queue_says_when_to_come_back_and_loses_nothing() {
    on_each_database(async |place| {
        let mut config = place.config();
        config.worker.queue = 1;
        config.worker.batch_texts = 1;
        let service = Service::open(config).await;
        let (mut open, mut busy, mut round) = (Vec::new(), 0, 0);
        // Until it has been busy at least once; every message is sent until it is answered.
        while round < 20 && busy == 0 || !open.is_empty() {
            if busy == 0 {
                open.extend((0..40).map(|i| format!("s{round}-{i}")));
            }
            round += 1;
            let answers = at_once(open.iter().map(|session| (service.clone(), message(session, "m", THANKS)))).await;
            for answer in answers.iter().filter(|answer| answer.status != 200) {
                assert_eq!(answer.refusal(), (429, "busy".to_owned()));
                assert_eq!(answer.headers["retry-after"], "1");
                busy += 1;
            }
            let mut left = Vec::new();
            for session in open {
                match service.get(&format!("/v1/sessions/{session}")).await {
                    found if found.status == 200 => assert_eq!(found.ok()["last_seq"], 2, "{session} was doubled"),
                    _ => left.push(session),
                }
            }
            let answered = answers.iter().filter(|answer| answer.status == 200).count();
            assert_eq!(answers.len() - answered, left.len(), "exactly what was answered is stored");
            open = left;
        }
        assert!(busy > 0, "a queue of one was never full");
        assert_eq!(service.state.engine().waiting(), 0);
    })
    .await;
}

// The other routes.

#[tokio::test]
async fn texts_are_understood_one_by_one_or_together() {
    let place = Place::sqlite();
    let service = place.service().await;
    let understand = |texts: Value| service.post("/v1/understand", json!({ "texts": texts }));
    let texts: Vec<String> = (0..64).map(|i| format!("第{i}个包裹{}", "到哪里了".repeat(i % 5))).collect();
    let together = understand(json!(texts)).await.ok();
    let results = together["results"].as_array().unwrap();
    assert_eq!((results.len(), &together["model"]), (64, &json!(service.state.engine().info().model_id)));
    let labels: BTreeSet<String> = service.state.engine().info().intents.into_iter().collect();
    let numbers = |result: &Value| crate::support::numbers(&result["embedding"]);
    for (index, result) in results.iter().enumerate() {
        let intents = result["intents"].as_array().unwrap();
        assert_eq!(intents.iter().map(|intent| string(&intent["label"])).collect::<BTreeSet<_>>(), labels);
        let sum: f64 = intents.iter().map(|intent| intent["probability"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
        let embedding = numbers(result);
        assert!(embedding.len() == 16 && (embedding.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-4);
        if index % 16 == 0 {
            let alone = understand(json!([texts[index]])).await.ok();
            let far =
                numbers(&alone["results"][0]).iter().zip(embedding).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(far < 1e-4, "text {index} is understood otherwise alone: {far}");
        }
        assert_eq!(result["truncated"], false);
    }
    let long = understand(json!(["很长".repeat(500)])).await.ok();
    assert_eq!((&long["results"][0]["truncated"], &long["results"][0]["tokens"]), (&json!(true), &json!(64)));
    understand(json!([])).await.refuses("texts");
    understand(json!(vec!["好"; 65])).await.refuses("texts");
    understand(json!(["好", " "])).await.refuses("texts[1]");
    understand(json!(["好", 5])).await.refuses("texts[1]");
    understand(json!("好")).await.refuses("texts");
    assert_eq!(service.get("/v1/tickets").await.ok()["tickets"], json!([]));
}

#[tokio::test]
async fn knowledge_is_looked_up_within_limits() {
    let place = Place::sqlite();
    let service = place.service().await;
    let search = |body: Value| service.post("/v1/search", body);
    assert_eq!(search(json!({ "text": "退货" })).await.ok()["matches"], json!([]), "an empty store finds nothing");
    service.index().await;
    let found = search(json!({ "text": "怎么申请退货？", "limit": 2 })).await.ok();
    let matches = found["matches"].as_array().unwrap();
    assert_eq!(matches.len(), 2);
    let entry = &knowledge()[0];
    assert_eq!((&matches[0]["knowledge_id"], &matches[0]["matched"]), (&json!(entry.id), &json!(entry.question)));
    assert_eq!((&matches[0]["answer"], &matches[0]["intent"]), (&json!(entry.answer), &json!("退货")));
    assert!((matches[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-4);
    for limit in [1, 50] {
        search(json!({ "text": "退货", "limit": limit })).await.ok();
    }
    for limit in [json!(0), json!(51), json!(-1), json!("5"), json!(1.5), json!(99_999_999_999_u64)] {
        search(json!({ "text": "退货", "limit": limit })).await.refuses("limit");
    }
    search(json!({ "text": " " })).await.refuses("text");
    search(json!({ "limit": 1 })).await.refuses("text");
}

#[tokio::test]
async fn the_description_names_exactly_the_routes_that_exist() {
    let place = Place::sqlite();
    let service = place.service().await;
    let description = service.get("/openapi.json").await.ok();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    let mut described = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["responses"].is_object() && operation["summary"].is_string(), "{method} {path}");
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let known: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(described, known);
    for &(method, path, body, _) in ROUTES {
        let answer = service.send(with_body(method, &path.replace(['{', '}'], ""), body)).await;
        let missing = answer.status >= 400 && ["not_found", "method_not_allowed"].contains(&answer.code().as_str());
        assert!(!missing, "{method} {path} is described and does not exist");
    }
    // What it refers to is there.
    let text = description.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(description["components"]["schemas"][reference].is_object(), "{reference} is not described");
    }
    assert!([200, 303, 307, 308].contains(&service.get("/docs").await.status));
    assert!(service.get("/docs/").await.text().contains("swagger"));
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let place = Place::sqlite();
    let service = place.service().await;
    for path in [
        "/",
        "/page/chat.js",
        "/page/base.css",
        "/page/chat.css",
        "/page/survey.js",
        "/page/survey.css",
        "/survey/none",
        "/favicon.ico",
    ] {
        let file = service.get(path).await;
        assert_eq!(file.status, if path == "/survey/none" { 404 } else { 200 }, "{path}");
        assert!(file.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        let outside = file.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http://") && !outside.contains("https://"), "{path} names another place");
    }
}

#[tokio::test]
async fn the_numbers_hold_counters_and_no_personal_data() {
    let place = Place::sqlite();
    let service = place.service().await;
    service.index().await;
    let session = "metrics-session-somebody";
    service.chat(session, &format!("你好，我是{PHONE}")).await;
    service.chat(session, "转人工").await;
    service.get("/some/path/somebody").await;
    service.send(request("BREW", "/v1/chat")).await;
    let text = service.get("/metrics").await.text();
    for line in [
        "yingda_http_requests_total{route=\"/v1/chat\",method=\"POST\",status=\"200\"}",
        "yingda_http_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"}",
        "yingda_http_requests_total{route=\"/v1/chat\",method=\"other\",status=\"405\"}",
        "yingda_http_request_duration_seconds_bucket{route=\"/v1/chat\"",
        "yingda_chat_total{decision=\"escalate\",reason=\"person_requested\"}",
        "yingda_stage_duration_seconds_bucket{stage=\"model\"",
        "yingda_tickets_opened_total{reason=\"person_requested\"}",
        "yingda_queue_depth",
        "yingda_chat_in_flight",
        "yingda_knowledge_entries",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    let counted: BTreeMap<&str, f64> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    assert!(counted["yingda_tickets_opened_total{reason=\"person_requested\"}"] >= 1.0);
    // Words and no digits: a duration may hold any few digits by chance.
    for secret in [PHONE, session, "somebody", "BREW", "你好"] {
        assert!(!text.contains(secret), "{secret} stands in the numbers");
    }
}
