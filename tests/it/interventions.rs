//! What the service does by itself when a customer is badly off, on both databases.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use yingda::{
    desk::{
        Desk, DeskSettings, Dispatcher, Interventions,
        intervention::{InterventionSettings, Rule, month},
    },
    storage::{NewTurn, now},
};
use yingda_engine::{Role, SentimentScores};

use crate::support::{Place, Service, on_each_database, with_body};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;

fn settings(rules: Value) -> DeskSettings {
    let intervention: Vec<InterventionSettings> = serde_json::from_value(rules).unwrap();
    let settings = DeskSettings { intervention, ..DeskSettings::default() };
    assert_eq!(settings.problems(), Vec::<String>::new());
    settings
}

fn interventions(service: &Service, rules: Value) -> Interventions {
    Interventions::new(service.state.storage().clone(), &settings(rules))
}

async fn ticket(service: &Service, session: &str, user: Option<&str>) -> String {
    let message = json!({ "session_id": session, "user_id": user, "text": "人工" });
    service.post("/v1/chat", message).await.ok()["ticket_id"].as_str().unwrap().to_owned()
}

async fn read(service: &Service, ticket: &str) -> Value {
    service.get(&format!("/v1/tickets/{ticket}")).await.ok()
}

fn events(story: &Value, kind: &str) -> Vec<Value> {
    story["events"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).cloned().collect()
}

/// A message of the customer that the model found this negative.
async fn says(service: &Service, session: &str, negative: f32) {
    let mut tx = service.state.storage().begin().await.unwrap();
    let mut session = tx.lock_existing_session(session).await.unwrap();
    let sentiment = Some(SentimentScores { negative, neutral: 1.0 - negative, positive: 0.0 });
    let turn = NewTurn { text: "还没有解决".to_owned(), sentiment, ..NewTurn::default() };
    tx.add_turn(&mut session, Role::User, turn).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_angrier_comes_to_experienced_people_once() {
    on_each_database(async |place| {
        let service = place.service().await;
        let rules = || {
            json!([{ "name": "upset", "when": "negative_in_a_row", "count": 2, "threshold": 0.9,
                "action": "senior_agent", "team": "资深" }])
        };
        let (one, two) = (interventions(&service, rules()), interventions(&service, rules()));
        let calm = ticket(&service, "calm", None).await;
        let upset = ticket(&service, "upset", None).await;
        let there = ticket(&service, "there", None).await;
        service.act(&upset, "take", json!({ "agent": "小王" })).await.ok();
        service.act(&there, "transfer", json!({ "team": "资深" })).await.ok();
        service.act(&there, "take", json!({ "agent": "老陈" })).await.ok();
        for (session, negative) in [("calm", 0.95), ("calm", 0.5), ("upset", 0.95), ("there", 0.95)] {
            says(&service, session, negative).await;
        }
        assert_eq!(one.intervene(now()).await.unwrap(), 0, "one message is none in a row");
        says(&service, "upset", 0.92).await;
        says(&service, "there", 0.92).await;
        let at = now();
        let (a, b) = tokio::join!(one.intervene(at), two.intervene(at));
        assert_eq!(a.unwrap() + b.unwrap(), 2, "each rule once per ticket");

        let story = read(&service, &upset).await;
        assert_eq!(
            (&story["team"], &story["status"], &story["priority"], &story["assignee"]),
            (&json!("资深"), &json!("new"), &json!("urgent"), &Value::Null)
        );
        let moved = events(&story, "transferred");
        assert_eq!((moved.len(), &moved[0]["actor"]), (1, &json!("system")));
        assert_eq!(moved[0]["after"]["priority"], "urgent", "{moved:?}");
        assert_eq!(events(&story, "intervention")[0]["data"]["intervention"], "upset");
        let story = read(&service, &there).await;
        assert_eq!((&story["assignee"], &story["priority"]), (&json!("老陈"), &json!("urgent")), "it stays there");
        assert_eq!(read(&service, &calm).await["team"], Value::Null);

        says(&service, "upset", 0.95).await;
        assert_eq!(two.intervene(now()).await.unwrap(), 0, "not again");
        assert_eq!(one.intervene(now() + 365 * 24 * 60 * MINUTE).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supervisors_are_told_of_those_who_wait_until_one_has_seen_it() {
    on_each_database(async |place| {
        let service = place.service().await;
        let rules = json!([
            { "name": "waiting", "when": "waiting_over_seconds", "seconds": 60, "categories": ["退款"], "action": "supervisor_alert" },
            { "name": "late", "when": "target_missed", "action": "supervisor_alert" },
        ]);
        let runner = interventions(&service, rules);
        let id = ticket(&service, "s", None).await;
        let other = ticket(&service, "other", None).await;
        let change = json!({ "category": "退款" }).to_string();
        service.send(with_body("PATCH", &format!("/v1/tickets/{id}"), change)).await.ok();
        assert_eq!(runner.intervene(now() + 50 * SECOND).await.unwrap(), 0);
        assert_eq!(runner.intervene(now() + 61 * SECOND).await.unwrap(), 1);
        assert_eq!(runner.intervene(now() + 61 * SECOND).await.unwrap(), 0);
        let listed = service.get("/v1/desk/alerts").await.ok()["alerts"].as_array().unwrap().clone();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!((&listed[0]["ticket_id"], &listed[0]["intervention"]), (&json!(id), &json!("waiting")));
        assert_eq!(events(&read(&service, &id).await, "alert").len(), 1);

        // Of all who press the button one has seen it.
        let path = format!("/v1/desk/alerts/{}/acknowledge", listed[0]["alert_id"].as_str().unwrap());
        let mut pressed = JoinSet::new();
        for number in 0..6 {
            let (service, path) = (service.clone(), path.clone());
            pressed.spawn(async move { service.post(&path, json!({ "agent": format!("主管{number}") })).await });
        }
        let pressed = pressed.join_all().await;
        let seen: Vec<Value> = pressed.iter().filter(|answer| answer.status == 200).map(|answer| answer.ok()).collect();
        assert_eq!(seen.len(), 1, "{pressed:?}");
        for refused in pressed.iter().filter(|answer| answer.status != 200) {
            assert_eq!(refused.refusal(), (409, "alert_acknowledged".to_owned()));
            assert!(refused.text().contains(seen[0]["acknowledged_by"].as_str().unwrap()), "{}", refused.text());
        }
        assert_eq!(service.get("/v1/desk/alerts").await.ok()["alerts"], json!([]));
        let told = events(&read(&service, &id).await, "alert_acknowledged");
        assert_eq!((told.len(), &told[0]["actor"]), (1, &seen[0]["acknowledged_by"]));
        for unknown in ["00000000-0000-7000-8000-000000000000", "17"] {
            let refused = service.post(&format!("/v1/desk/alerts/{unknown}/acknowledge"), json!({})).await;
            assert_eq!(refused.refusal(), (404, "alert_not_found".to_owned()));
        }

        let dispatcher = Dispatcher::new(service.state.storage().clone(), DeskSettings::default());
        assert_eq!(runner.intervene(now()).await.unwrap(), 0, "no target was missed");
        dispatcher.check_targets(now() + 365 * 24 * 60 * MINUTE).await.unwrap();
        assert_eq!(runner.intervene(now()).await.unwrap(), 2, "both are late by now");
        assert_eq!(events(&read(&service, &other).await, "alert")[0]["data"]["intervention"], "late");
    })
    .await;
}

/// A service of the shop that gives coupons.
#[derive(Clone)]
struct Shop {
    address: SocketAddr,
    works: Arc<AtomicBool>,
    /// The key and the body of every call.
    calls: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Shop {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shop = Self { address, works: Arc::new(AtomicBool::new(true)), calls: Arc::default() };
        let router = Router::new().route("/coupons", post(give)).with_state(shop.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        shop
    }

    fn calls(&self) -> Vec<(String, Value)> {
        self.calls.lock().unwrap().clone()
    }

    /// A rule that says sorry to who gave one or two.
    fn rule(&self, budget_fen: i64, customer_limit: i64) -> Value {
        json!([{ "name": "sorry", "when": "rating_at_most", "score": 2, "action": "coupon",
            "address": format!("http://{}/coupons", self.address), "amount_fen": 500, "budget_fen": budget_fen,
            "customer_limit": customer_limit }])
    }
}

async fn give(State(shop): State<Shop>, headers: HeaderMap, body: String) -> StatusCode {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    shop.calls.lock().unwrap().push((key, serde_json::from_str(&body).unwrap()));
    if shop.works.load(Ordering::Relaxed) { StatusCode::NO_CONTENT } else { StatusCode::BAD_GATEWAY }
}

/// A ticket that its customer rated badly.
async fn disappointing(service: &Service, session: &str, user: Option<&str>) -> String {
    let id = ticket(service, session, user).await;
    service.act(&id, "take", json!({ "agent": "小王" })).await.ok();
    service.act(&id, "resolve", json!({ "agent": "小王" })).await.ok();
    service.post(&format!("/v1/tickets/{id}/rating"), json!({ "score": 1 })).await.ok();
    id
}

async fn outcomes(service: &Service, tickets: &[String]) -> Vec<String> {
    let mut outcomes = Vec::new();
    for ticket in tickets {
        for event in events(&read(service, ticket).await, "coupon") {
            let data = &event["data"];
            let why = data["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
            outcomes.push(format!("{}{why}", data["outcome"].as_str().unwrap()));
        }
    }
    outcomes.sort();
    outcomes
}

async fn spent(service: &Service) -> i64 {
    service.state.storage().spent("sorry", &month(now())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_coupons_are_wanted_at_once_the_budget_holds() {
    on_each_database(async |place| {
        let service = place.service().await;
        let shop = Shop::start().await;
        let mut tickets = Vec::new();
        for number in 0..20 {
            let user = format!("u{number}");
            tickets.push(disappointing(&service, &format!("s{number}"), Some(&user)).await);
        }
        let rule = Rule::all(&settings(shop.rule(3200, 1)).intervention, &[]).unwrap().remove(0);
        let desk = Desk::new(service.state.storage().clone());
        let mut parallel = JoinSet::new();
        for id in tickets.clone() {
            let (desk, rule) = (desk.clone(), rule.clone());
            parallel.spawn(async move { desk.intervene(&rule, &id, now()).await.unwrap() });
        }
        assert_eq!(parallel.join_all().await, [true; 20]);
        assert_eq!(spent(&service).await, 3000, "six of 5 yuan, and not one more");
        assert_eq!(outcomes(&service, &tickets).await, ["refused: budget"; 14]);

        let (one, two) = (interventions(&service, shop.rule(3200, 1)), interventions(&service, shop.rule(3200, 1)));
        assert_eq!(one.intervene(now()).await.unwrap(), 0, "what was refused stays refused");
        let at = now();
        let (a, b) = tokio::join!(one.give_coupons(at), two.give_coupons(at));
        assert_eq!(a.unwrap() + b.unwrap(), 6);
        let calls = shop.calls();
        let keys: BTreeSet<&String> = calls.iter().map(|(key, _)| key).collect();
        assert_eq!((calls.len(), keys.len()), (6, 6), "each is asked for once");
        for (key, body) in &calls {
            assert_eq!((&body["intervention_id"], &body["amount_fen"]), (&json!(key), &json!(500)));
            assert!(body["user_id"].as_str().unwrap().starts_with('u'), "{body}");
        }
        let mut expected = vec!["given"; 6];
        expected.extend(["refused: budget"; 14]);
        assert_eq!(outcomes(&service, &tickets).await, expected);
        assert_eq!((one.give_coupons(now() + MINUTE).await.unwrap(), shop.calls().len()), (0, 6));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_customer_gets_no_more_than_their_share() {
    on_each_database(async |place| {
        let service = place.service().await;
        let shop = Shop::start().await;
        let mut tickets = Vec::new();
        for number in 0..5 {
            tickets.push(disappointing(&service, &format!("s{number}"), Some("u")).await);
        }
        tickets.push(disappointing(&service, "other", Some("v")).await);
        tickets.push(disappointing(&service, "nobody", None).await);
        let rule = Rule::all(&settings(shop.rule(1_000_000, 2)).intervention, &[]).unwrap().remove(0);
        let desk = Desk::new(service.state.storage().clone());
        let mut parallel = JoinSet::new();
        for id in tickets.clone() {
            let (desk, rule) = (desk.clone(), rule.clone());
            parallel.spawn(async move { desk.intervene(&rule, &id, now()).await.unwrap() });
        }
        parallel.join_all().await;
        assert_eq!(spent(&service).await, 1500, "two and one");
        let refused =
            ["refused: customer_limit", "refused: customer_limit", "refused: customer_limit", "refused: no_customer"];
        assert_eq!(outcomes(&service, &tickets).await, refused);
        let runner = interventions(&service, shop.rule(1_000_000, 2));
        assert_eq!(runner.give_coupons(now()).await.unwrap(), 3);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_given_is_tried_again_and_then_its_money_comes_back() {
    on_each_database(async |place| {
        let service = place.service().await;
        let shop = Shop::start().await;
        shop.works.store(false, Ordering::Relaxed);
        let runner = interventions(&service, shop.rule(500, 1));
        let failed = disappointing(&service, "s", Some("u")).await;
        let start = now();
        assert_eq!(runner.intervene(start).await.unwrap(), 1);
        assert_eq!(spent(&service).await, 500);
        let mut at = start;
        for (attempt, pause) in [10, 30, 120, 600].into_iter().enumerate() {
            assert_eq!(runner.give_coupons(at).await.unwrap(), 0);
            assert_eq!(shop.calls().len(), attempt + 1);
            runner.give_coupons(at + (pause - 1) * SECOND).await.unwrap();
            assert_eq!(shop.calls().len(), attempt + 1, "not again before {pause} s");
            assert_eq!(spent(&service).await, 500, "it may still be given");
            at += pause * SECOND;
        }
        assert_eq!(runner.give_coupons(at).await.unwrap(), 1, "given up");
        let calls = shop.calls();
        assert!(calls.len() == 5 && calls.iter().all(|call| *call == calls[0]), "the same key every time: {calls:?}");
        assert_eq!(spent(&service).await, 0, "the money is back");
        assert_eq!(outcomes(&service, &[failed]).await, ["failed: it answered with status 502"]);
        assert_eq!(runner.give_coupons(at + 3600 * SECOND).await.unwrap(), 0);

        // And so is the customer's share: the next one is given, at the second attempt.
        let given = disappointing(&service, "t", Some("u")).await;
        assert_eq!(runner.intervene(now()).await.unwrap(), 1);
        assert_eq!(runner.give_coupons(now()).await.unwrap(), 0);
        shop.works.store(true, Ordering::Relaxed);
        assert_eq!(runner.give_coupons(now() + 11 * SECOND).await.unwrap(), 1);
        assert_eq!(spent(&service).await, 500);
        assert_eq!(outcomes(&service, &[given]).await, ["given"]);
    })
    .await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_stops_the_service_with_a_sentence() {
    let place = Place::sqlite();
    let file = place.data().with_file_name("yingda.toml");
    let text = "[desk.survey]\nnps_share = 3\n\n[[desk.intervention]]\nname = \"late\"\nwhen = \"target_missed\"\naction = \"senior_agent\"\n";
    std::fs::write(&file, text).unwrap();
    let flags = yingda::config::Flags { config: Some(file), ..Default::default() };
    let error = yingda::Config::load_without_model(flags, Default::default()).unwrap_err().to_string();
    assert!(error.contains("[desk.survey] `nps_share` is 3"), "{error}");
    assert!(error.contains("[[desk.intervention]] \"late\": senior_agent wants either `team` or `skill`"), "{error}");
}
