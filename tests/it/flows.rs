//! Rules and guided flows: the example file as it is shipped, over the router, with a stub in place of the shop's own systems.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::task::JoinSet;
use yingda::{Config, StartError};
use yingda_engine::{
    AnswerThresholds, Conversation, PolicyConfig, SentimentScores, StoreConfig,
    policy::{Gates, Situation},
    rules::{self, FlowState, PATIENCE_MINUTES, Typed},
};

use crate::qdrant_stand_in::StandIn;
use crate::support::{Place, Service, WORD_FOR_WORD, knowledge, on_each_database, root};

/// A message that means nothing to the shop.
const UNCLEAR: &str = "天上的云彩今天很白";
const PHONE: &str = "13812345678";
/// Where the example calls.
const EXAMPLE_ADDRESS: &str = "http://127.0.0.1:9000";

/// The order systems of a shop, and what they were sent.
#[derive(Clone)]
struct Stub {
    address: SocketAddr,
    calls: Calls,
}

/// What was called, with its headers and body.
type Calls = Arc<Mutex<Vec<(String, HeaderMap, Value)>>>;

impl Stub {
    async fn start() -> Self {
        let calls = Calls::default();
        let router = Router::new().route("/{path}", post(answer)).with_state(calls.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, calls }
    }

    fn calls(&self) -> Vec<(String, HeaderMap, Value)> {
        self.calls.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

/// An order number on whose last digit the stub's answer depends.
fn order(last: u8) -> String {
    format!("1234560000000{last}")
}

async fn answer(State(calls): State<Calls>, Path(path): Path<String>, headers: HeaderMap, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    calls.lock().unwrap().push((path.clone(), headers, body.clone()));
    let slot = |name: &str| body["slots"][name].as_str().unwrap_or_default().to_owned();
    match path.as_str() {
        "track" => match slot("订单号").chars().last().unwrap_or_default() {
            '1' => Json(json!({ "status": "in_transit", "place": "杭州转运中心", "days": 2 })).into_response(),
            '2' => Json(json!({ "status": "in_transit" })).into_response(),
            '3' => Json(json!({ "status": "signed", "receiver": format!("王先生（{PHONE}）") })).into_response(),
            '4' => Json(json!({ "status": "not_found" })).into_response(),
            '5' => Json(json!({ "status": "lost at sea" })).into_response(),
            '6' => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                Json(json!({ "status": "not_found" })).into_response()
            }
            '7' => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "status": "not_found" }))).into_response(),
            '8' => "<html>not found</html>".into_response(),
            '9' => Json(json!({ "status": "not_found", "more": "x".repeat(65 * 1024) })).into_response(),
            _ => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
        },
        "code" if slot("手机号").ends_with('0') => StatusCode::BAD_GATEWAY.into_response(),
        "code" => Json(json!({ "sent": slot("手机号") == PHONE })).into_response(),
        "reset" => Json(json!({ "ok": slot("验证码") == "654321" })).into_response(),
        _ => Json(json!([1, 2])).into_response(),
    }
}

/// The example file with the stub's address.
fn example(stub: &Stub) -> String {
    let text = std::fs::read_to_string(root().join("api/yingda.rules.example.toml")).unwrap();
    assert!(text.contains(EXAMPLE_ADDRESS));
    text.replace(EXAMPLE_ADDRESS, &format!("http://{}", stub.address))
}

fn rules_file(place: &Place) -> PathBuf {
    place.data().with_file_name("rules.toml")
}

fn config(place: &Place, rules: &str) -> Config {
    std::fs::write(rules_file(place), rules).unwrap();
    let mut config = place.config();
    config.rules = Some(rules_file(place));
    config
}

async fn open(place: &Place) -> (Service, Stub) {
    let stub = Stub::start().await;
    let service = Service::open(config(place, &example(&stub))).await;
    service.index().await;
    (service, stub)
}

/// Decision, reason, rule and flow of an answer.
fn told(answer: &Value) -> [&str; 4] {
    ["decision", "reason", "rule", "flow"].map(|name| answer.get(name).and_then(Value::as_str).unwrap_or(""))
}

fn reply(answer: &Value) -> &str {
    answer["reply"].as_str().unwrap_or_else(|| panic!("no reply: {answer}"))
}

/// Where the session's flow waits, as it is stored.
async fn waiting(service: &Service, session: &str) -> Option<FlowState> {
    let session = service.state.storage().session(session).await.unwrap().unwrap();
    session.flow.map(|flow| serde_json::from_str(&flow).unwrap())
}

/// Something that no route does, done to the SQLite database.
async fn sql(place: &Place, sql: &'static str, values: &[String]) {
    let file = place.config().database_file();
    let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    let query = values.iter().fold(sqlx::query(sql), |query, value| query.bind(value.clone()));
    assert_eq!(query.execute(&mut connection).await.unwrap().rows_affected(), 1, "{sql}");
    connection.close().await.unwrap();
}

const ASKED: [&str; 4] = ["clarify", "flow", "", "track_parcel"];
const SAID: [&str; 4] = ["reply", "flow", "", "track_parcel"];

#[tokio::test(flavor = "multi_thread")]
async fn a_parcel_is_tracked_and_the_answer_depends_on_its_status() {
    on_each_database(async |place| {
        let (service, stub) = open(place).await;
        let body =
            json!({ "session_id": "s1", "message_id": "m1", "user_id": "u1", "channel": "web", "text": "帮我查快递" });
        let asked = service.post("/v1/chat", body).await.ok();
        assert_eq!(told(&asked), ["clarify", "flow", "track", "track_parcel"], "{asked}");
        assert!(reply(&asked).contains("14位订单号") && asked.get("choices").is_none(), "{asked}");
        assert_eq!(waiting(&service, "s1").await.unwrap().slot, "订单号");
        assert_eq!(stub.count(), 0);

        let number = order(1);
        let body = json!({ "session_id": "s1", "message_id": "m2", "text": format!("是{number}") });
        let said = service.post("/v1/chat", body).await.ok();
        assert_eq!(told(&said), SAID, "{said}");
        assert_eq!(reply(&said), format!("您的订单{number}在路上啦，最新位置：杭州转运中心，预计2天内送到。"));
        assert_eq!(waiting(&service, "s1").await, None);
        let calls = stub.calls();
        let [(path, headers, sent)] = &calls[..] else { panic!("{calls:?}") };
        let slots = json!({ "订单号": number });
        let expected =
            json!({ "session_id": "s1", "message_id": "m2", "user_id": "u1", "channel": "web", "slots": slots });
        assert_eq!((path.as_str(), sent), ("track", &expected));
        assert_eq!(headers["content-type"], "application/json");
        assert!(!headers.contains_key("authorization"));
        let turns = service.session("s1").await["turns"].clone();
        assert_eq!((&turns[1]["decision"], &turns[1]["reason"]), (&json!("clarify"), &json!("flow")));
        assert_eq!((&turns[3]["decision"], &turns[3]["reason"]), (&json!("reply"), &json!("flow")));

        for (last, words) in [(2, "请耐心等待"), (3, "签收"), (4, "没有查到订单")] {
            // The number is in the first message: nothing is asked.
            let said = service.chat("s2", &format!("查快递 {}", order(last))).await;
            assert_eq!(told(&said), ["reply", "flow", "track", "track_parcel"], "{said}");
            assert!(reply(&said).contains(words), "{said}");
        }
        let unknown = service.chat("s3", &format!("查快递{}", order(5))).await;
        assert_eq!(told(&unknown), ["escalate", "flow", "track", "track_parcel"], "{unknown}");
        let ticket = service.get(&format!("/v1/tickets/{}", unknown["ticket_id"].as_str().unwrap())).await.ok();
        assert_eq!((&ticket["reason"], &ticket["priority"]), (&json!("flow"), &json!("medium")));
        assert!(ticket["detail"].as_str().unwrap().contains("track_parcel"), "{ticket}");

        // What the caller knows is not asked for, either.
        let profile = json!({ "订单号": order(4).parse::<u64>().unwrap() });
        let body = json!({ "session_id": "s4", "text": "查快递", "profile": profile });
        assert!(reply(&service.post("/v1/chat", body).await.ok()).contains(&order(4)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_reset_and_nothing_personal_is_kept() {
    on_each_database(async |place| {
        let (service, stub) = open(place).await;
        let asked = service.chat("s", "密码忘了怎么办").await;
        assert_eq!(told(&asked), ["clarify", "flow", "reset", "reset_password"], "{asked}");
        let code = service.chat("s", &format!("手机{PHONE}")).await;
        assert_eq!(told(&code), ["clarify", "flow", "", "reset_password"], "{code}");
        assert!(reply(&code).contains("验证码"));
        let state = waiting(&service, "s").await.unwrap();
        assert_eq!((state.slot.as_str(), state.slots["手机号"].as_str()), ("验证码", PHONE));
        let again = service.chat("s", "还没收到").await;
        assert_eq!((told(&again)[0], reply(&again)), ("clarify", "验证码是6位数字，请再发一次。"));
        let done = service.chat("s", "654321").await;
        assert!(reply(&done).contains("密码已经重置"), "{done}");
        let sent: Vec<Value> = stub.calls().into_iter().map(|(_, _, body)| body["slots"].clone()).collect();
        assert_eq!(sent, [json!({ "手机号": PHONE }), json!({ "手机号": PHONE, "验证码": "654321" })]);
        assert_eq!(waiting(&service, "s").await, None);
        let session = service.session("s").await;
        assert_eq!(session["turns"][2]["text"], "手机[手机号]");
        assert!(!session.to_string().contains(PHONE));

        service.chat("wrong", &format!("重置密码，{PHONE}")).await;
        assert!(reply(&service.chat("wrong", "111111").await).contains("不对或已经过期"));
        let other = service.chat("other", "重置密码，13900000001").await;
        assert!(reply(&other).contains("没有绑定账号"), "{other}");
        assert_eq!(waiting(&service, "other").await, None);

        // A phone number of the stored profile is masked and therefore asked for.
        let body = json!({ "session_id": "p", "text": "在吗", "profile": { "手机号": PHONE } });
        service.post("/v1/chat", body).await.ok();
        assert!(reply(&service.chat("p", "重置密码").await).contains("绑定的手机号"));

        // What the service answers may be personal data: said once, kept and said again masked.
        let body = json!({ "session_id": "m", "message_id": "m1", "text": format!("查快递{}", order(3)) });
        let first = service.post("/v1/chat", body.clone()).await.ok();
        assert!(reply(&first).contains(&format!("王先生（{PHONE}）")), "{first}");
        let second = service.post("/v1/chat", body).await;
        assert_eq!(second.headers["idempotent-replayed"], "true");
        let second = second.ok();
        assert!(!second.to_string().contains(PHONE) && reply(&second).contains("[手机号]"), "{second}");
        let kept = service.session("m").await["turns"][1]["text"].clone();
        assert_eq!(kept, second["reply"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_twice_reaches_a_person() {
    on_each_database(async |place| {
        let (service, stub) = open(place).await;
        service.chat("s", "查快递").await;
        let again = service.chat("s", "20261109").await;
        assert_eq!(told(&again), ASKED, "{again}");
        assert!(reply(&again).contains("没有看到订单号"));
        assert_eq!(waiting(&service, "s").await.unwrap().attempts, 1);
        let picture = service.post("/v1/chat", json!({ "session_id": "s", "type": "image" })).await.ok();
        assert_eq!(told(&picture), ["clarify", "non_text", "", ""]);
        assert_eq!(waiting(&service, "s").await.unwrap().attempts, 1, "a picture is no attempt");
        let person = service.chat("s", UNCLEAR).await;
        assert_eq!(told(&person), ["escalate", "flow", "", "track_parcel"], "{person}");
        let ticket = service.get(&format!("/v1/tickets/{}", person["ticket_id"].as_str().unwrap())).await.ok();
        assert_eq!(ticket["detail"], "track_parcel：没有收到订单号");
        assert_eq!((waiting(&service, "s").await, stub.count()), (None, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_is_left_by_something_else_and_by_saying_so() {
    on_each_database(async |place| {
        let (service, stub) = open(place).await;
        service.chat("s", "查快递").await;
        let other = service.chat("s", &knowledge()[0].question).await;
        assert_eq!((told(&other), reply(&other)), (["reply", "", "", ""], knowledge()[0].answer.as_str()));
        assert_eq!(waiting(&service, "s").await, None);
        let number = service.chat("s", &order(1)).await;
        assert!(number.get("flow").is_none(), "a flow that was left does not come back: {number}");

        service.chat("cancel", "查快递").await;
        let cancelled = service.chat("cancel", "算了，不查了。").await;
        assert_eq!(told(&cancelled), SAID, "{cancelled}");
        assert!(reply(&cancelled).contains("取消"));
        assert_eq!(waiting(&service, "cancel").await, None);
        assert_eq!(service.chat("cancel", UNCLEAR).await["decision"], "clarify", "no second unsure message");

        service.chat("flow", "查快递").await;
        let reset = service.chat("flow", "先重置密码吧").await;
        assert_eq!(told(&reset), ["clarify", "flow", "reset", "reset_password"], "another flow: {reset}");
        assert_eq!(waiting(&service, "flow").await.unwrap().flow, "reset_password");
        let rule = service.chat("flow", "你们多扣了我50元").await;
        assert_eq!(told(&rule), ["escalate", "rule", "dispute", ""], "another rule: {rule}");
        assert_eq!(waiting(&service, "flow").await, None);
        let ticket = service.get(&format!("/v1/tickets/{}", rule["ticket_id"].as_str().unwrap())).await.ok();
        assert_eq!((&ticket["reason"], &ticket["detail"]), (&json!("rule"), &json!("dispute")));
        assert_eq!(stub.count(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_is_said_or_reaches_a_person() {
    let place = Place::sqlite();
    let (service, stub) = open(&place).await;
    let failed = "抱歉，物流系统暂时没有回应，请稍后再试，也可以回复「人工」找客服。";
    let started = Instant::now();
    let slow = service.chat("slow", &format!("查快递{}", order(6))).await;
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(10),
        "the deadline is 2 seconds, not {took:?}"
    );
    assert_eq!((told(&slow), reply(&slow)), (["reply", "flow", "track", "track_parcel"], failed));
    for (last, what) in [(7, "status 500"), (8, "no JSON"), (9, "too large"), (0, "a redirect")] {
        let said = service.chat(what, &format!("查快递{}", order(last))).await;
        assert_eq!(reply(&said), failed, "{what}: {said}");
        assert_eq!(waiting(&service, what).await, None, "{what}");
    }
    assert!(stub.calls().iter().all(|(path, ..)| path == "track"), "redirects are not followed");

    let person = service.chat("p", "重置密码，13800000000").await;
    assert_eq!(told(&person), ["escalate", "flow", "reset", "reset_password"], "{person}");

    // An array is no object, and nobody there is no answer.
    let text = example(&stub).replace("/track\"", "/list\"");
    std::fs::write(rules_file(&place), &text).unwrap();
    service.post("/v1/admin/reload", json!({})).await.ok();
    assert_eq!(reply(&service.chat("array", &format!("查快递{}", order(1))).await), failed);
    assert_eq!(stub.calls().last().unwrap().0, "list");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(rules_file(&place), text.replace(&stub.address.to_string(), &nobody.to_string())).unwrap();
    service.post("/v1/admin/reload", json!({})).await.ok();
    assert_eq!(reply(&service.chat("nobody", &format!("查快递{}", order(1))).await), failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_neither_asks_nor_calls_twice() {
    on_each_database(async |place| {
        let (service, stub) = open(place).await;
        let message =
            |session: &str, id: &str, text: &str| json!({ "session_id": session, "message_id": id, "text": text });
        for _ in 0..2 {
            service.post("/v1/chat", message("s", "m1", "查快递")).await.ok();
        }
        assert_eq!(waiting(&service, "s").await.unwrap().attempts, 0);
        let mut running = JoinSet::new();
        for _ in 0..8 {
            let (service, body) = (service.clone(), message("s", "m2", &order(1)));
            running.spawn(async move { service.post("/v1/chat", body).await.ok() });
        }
        let answers = running.join_all().await;
        assert!(answers.iter().all(|answer| told(answer) == SAID && answer == &answers[0]), "{answers:?}");
        assert_eq!((stub.count(), service.session("s").await["last_seq"].as_i64()), (1, Some(4)));
        let again = service.post("/v1/chat", message("s", "m1", "查快递")).await;
        assert_eq!((again.headers["idempotent-replayed"].as_bytes(), told(&again.ok())[0]), (&b"true"[..], "clarify"));
        assert_eq!(waiting(&service, "s").await, None, "an old question that is said again asks nothing");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_survives_a_restart_and_a_person() {
    let place = Place::sqlite();
    let (service, stub) = open(&place).await;
    service.chat("s", "查快递").await;
    service.chat("p", "查快递").await;
    service.chat("r", "查快递").await;
    service.state.close().await;
    drop(service);
    let service = Service::open(config(&place, &example(&stub))).await;
    assert_eq!(told(&service.chat("s", &order(1)).await), SAID, "after a restart");

    // A person takes over and gives the session back: the flow waits meanwhile.
    let mut tx = service.state.storage().begin().await.unwrap();
    let mut session = tx.lock_existing_session("p").await.unwrap();
    tx.give_to_agent(&mut session, Some("小王")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(service.chat("p", &order(1)).await["decision"], "silent");
    assert_eq!((waiting(&service, "p").await.unwrap().attempts, stub.count()), (0, 1), "the bot does not listen");
    sql(&place, "UPDATE sessions SET owner = 'bot', owner_agent = NULL WHERE id = 'p'", &[]).await;
    assert_eq!(told(&service.chat("p", &order(1)).await), SAID, "given back");

    // A resolution settles what was begun.
    let person = service.chat("r", "转人工").await;
    assert_eq!(told(&person), ["escalate", "person_requested", "", ""], "{person}");
    assert!(waiting(&service, "r").await.is_some(), "until the ticket is resolved");
    let ticket = person["ticket_id"].as_str().unwrap().to_owned();
    let step = service.get(&format!("/v1/tickets/{ticket}/assist")).await.ok()["next_step"].clone();
    assert_eq!((&step["flow"], &step["slot"], &step["given"]), (&json!("track_parcel"), &json!("订单号"), &json!({})));
    assert!(step["text"].as_str().unwrap().contains("订单号"), "{step}");
    service.act(&ticket, "take", json!({ "agent": "小王" })).await.ok();
    service.act(&ticket, "resolve", json!({ "agent": "小王" })).await.ok();
    assert_eq!(waiting(&service, "r").await, None);
    let assist = service.get(&format!("/v1/tickets/{ticket}/assist")).await.ok();
    assert_eq!(assist.get("next_step"), None, "it is over");
    let number = service.chat("r", &order(1)).await;
    assert!(number.get("flow").is_none() && stub.count() == 2, "{number}");

    // What the customer gave is shown masked.
    service.chat("reset", "重置密码").await;
    service.chat("reset", PHONE).await;
    let ticket = service.chat("reset", "转人工").await["ticket_id"].as_str().unwrap().to_owned();
    let step = service.get(&format!("/v1/tickets/{ticket}/assist")).await.ok()["next_step"].clone();
    assert_eq!((&step["flow"], &step["slot"]), (&json!("reset_password"), &json!("验证码")), "{step}");
    assert_eq!(step["given"], json!({ "手机号": "[手机号]" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_waits_in_vain_is_over_and_forgotten() {
    let place = Place::sqlite();
    let (service, stub) = open(&place).await;
    service.chat("s", "查快递").await;
    let mut state = waiting(&service, "s").await.unwrap();
    state.since -= (PATIENCE_MINUTES + 1) * 60_000;
    let late = serde_json::to_string(&state).unwrap();
    sql(&place, "UPDATE sessions SET flow = $1 WHERE id = 's'", &[late]).await;
    let unclear = service.chat("s", UNCLEAR).await;
    assert_eq!(told(&unclear), ["clarify", "", "", ""], "a flow's question is no clarifying question: {unclear}");
    assert_eq!((waiting(&service, "s").await, stub.count()), (None, 0));

    service.chat("gone", "查快递").await;
    let now = yingda::storage::now();
    service.state.storage().forget_flows(now - 60_000).await.unwrap();
    assert!(waiting(&service, "gone").await.is_some(), "it waits since a moment only");
    service.state.storage().forget_flows(now + 60_000).await.unwrap();
    assert_eq!(waiting(&service, "gone").await, None);

    service.chat("odd", "查快递").await;
    sql(&place, "UPDATE sessions SET flow = $1 WHERE id = 'odd'", &["{}".to_owned()]).await;
    assert!(service.chat("odd", &order(1)).await.get("flow").is_none(), "a state that cannot be read is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_with_the_call() {
    let place = Place::sqlite();
    let stub = Stub::start().await;
    let switched_on =
        |name: &str| example(&stub).replace("#: token = \"YINGDA_ORDERS_TOKEN\"", &format!("token = \"{name}\""));
    // A variable that is set wherever tests run; what it holds does not matter.
    let service = Service::open(config(&place, &switched_on("PATH"))).await;
    service.chat("s", &format!("查快递{}", order(4))).await;
    let (_, headers, _) = stub.calls().remove(0);
    assert_eq!(headers["authorization"].to_str().unwrap(), format!("Bearer {}", std::env::var("PATH").unwrap()));
    service.state.close().await;
    drop(service);
    let error = yingda::open_state(config(&place, &switched_on("YINGDA_NO_SUCH_TOKEN"))).await.err().unwrap();
    let said = error.to_string();
    assert!(
        said.contains("flow `track_parcel`: `token`: the environment variable YINGDA_NO_SUCH_TOKEN is not set"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_is_told_and_the_old_rules_stay() {
    let place = Place::sqlite();
    let (service, stub) = open(&place).await;
    let wrong = example(&stub)
        .replace("keywords = [\"春节\"", "keyword = [\"春节\"")
        .replace("valid_from = \"2027-02-04\"", "valid_from = 2027-02-04")
        .replace("id = \"reset\"\n", "id = \"track\"\n")
        .replace("attempts = 3", "attempts = 0")
        .replace(&format!("http://{}/code", stub.address), "orders/code")
        .replace("(重复|多)(扣", "(重复|多(扣");
    std::fs::write(rules_file(&place), &wrong).unwrap();
    let refused = service.post("/v1/admin/reload", json!({})).await;
    assert_eq!(refused.refusal(), (422, "rules_wrong".to_owned()));
    let said: Value = serde_json::from_str(&refused.text()).unwrap();
    let said = said["error"]["message"].as_str().unwrap();
    let problems = [
        rules_file(&place).display().to_string(),
        "rule `holiday`: `keyword`: unknown field `keyword`".to_owned(),
        "rule `track`: `id` stands twice".to_owned(),
        "flow `reset_password`, step 4: `attempts` is 0".to_owned(),
        "rule `dispute`: `pattern` is no regular expression".to_owned(),
    ];
    for problem in &problems {
        assert!(said.contains(problem), "{said} does not say {problem}");
    }
    assert_eq!(told(&service.chat("s", "查快递").await)[2], "track", "the old rules stay");

    let address = example(&stub).replace(&format!("http://{}/code", stub.address), "orders/code");
    for (text, problem) in [
        ("[[rule]", "is not TOML"),
        ("[[rules]]", "unknown field `rules`"),
        (address.as_str(), "flow `reset_password`: `url` is not an address"),
    ] {
        std::fs::write(rules_file(&place), text).unwrap();
        let refused = service.post("/v1/admin/reload", json!({})).await;
        assert_eq!(refused.refusal().1, "rules_wrong", "{text}");
        assert!(refused.text().contains(problem), "{} does not say {problem}", refused.text());
    }
    // A day may stand without quotes.
    let other = "[[rule]]\nid = \"new\"\nkeywords = [\"查快递\"]\nvalid_from = 2020-01-01\nreply = \"{称呼|亲}，稍等\"";
    std::fs::write(rules_file(&place), other).unwrap();
    service.post("/v1/admin/reload", json!({})).await.ok();
    let body = json!({ "session_id": "n", "text": "查快遞", "profile": { "称呼": "王女士" } });
    let said = service.post("/v1/chat", body).await.ok();
    assert_eq!((told(&said), reply(&said)), (["reply", "rule", "new", ""], "王女士，稍等"), "{said}");
    // The flow that waited in the first session is no longer there.
    assert_eq!(service.chat("s", &order(1)).await.get("flow"), None);
    std::fs::remove_file(rules_file(&place)).unwrap();
    let refused = service.post("/v1/admin/reload", json!({})).await;
    assert!(refused.text().contains("cannot be read") && refused.text().contains("rules.toml"), "{}", refused.text());
    service.state.close().await;
    drop(service);
    let error = yingda::open_state(config(&place, &wrong)).await.err().unwrap();
    assert!(matches!(error, StartError::Rules(_)) && error.is_users(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_flows_and_people_are_there_without_the_store() {
    let place = Place::sqlite();
    let stub = Stub::start().await;
    // A runtime of its own, with which all its connections end.
    let servers = tokio::runtime::Runtime::new().unwrap();
    let store = {
        let _there = servers.enter();
        StandIn::start(None)
    };
    let mut config = config(&place, &example(&stub));
    config.store = StoreConfig::Server {
        url: store.url(),
        api_key: None,
        collection: "flows".into(),
        settings: Default::default(),
    };
    let service = Service::open(config).await;
    service.index().await;
    assert_eq!(service.chat("k", &knowledge()[0].question).await["decision"], "reply");
    servers.shutdown_background();
    assert_eq!(told(&service.chat("s", "查快递").await)[2], "track");
    assert_eq!(told(&service.chat("s", &order(1)).await), SAID);
    assert_eq!(service.chat("p", "转人工").await["reason"], "person_requested");
    let without = service.chat("k", &knowledge()[0].question).await;
    assert_eq!(told(&without), ["no_answer", "knowledge_unavailable", "", ""], "an answer needs the store: {without}");
}

/// What the example says on days that are not today.
#[tokio::test]
async fn the_notice_of_the_example_holds_for_its_days() {
    let place = Place::sqlite();
    let (service, stub) = open(&place).await;
    let rules = yingda::rules::load(&config(&place, &example(&stub)), service.state.engine()).unwrap().unwrap();
    assert_eq!(rules.counts(), (5, 2));
    assert!(rules.unknown_intents(&["物流查询".to_owned()]).next().is_none());
    let conversation = Conversation::default();
    let situation = Situation {
        text: "春节发货吗",
        intents: &[],
        sentiment: SentimentScores::default(),
        hits: &[],
        relevant: 0.0,
        unavailable: false,
        conversation: &conversation,
    };
    let answers = AnswerThresholds { answer: 0.9, relevant: 0.5 };
    let gates = Gates { thresholds: &WORD_FOR_WORD, answers, guarantee: None };
    // 2027-02-04 begins in UTC+8 at this second; 2027-02-12 ends nine days later.
    let first = 1_801_670_400_000;
    let days = 86_400_000;
    for (now, holds) in [(first - 1, false), (first, true), (first + 9 * days - 1, true), (first + 9 * days, false)] {
        let typed = Typed { text: situation.text, now };
        let verdict = rules::decide(&rules, typed, &situation, &PolicyConfig::default(), gates);
        assert_eq!(verdict.rule.as_deref() == Some("holiday"), holds, "{now}: {verdict:?}");
        assert_eq!(verdict.decision.text().starts_with("亲，春节期间"), holds, "{verdict:?}");
    }
}
