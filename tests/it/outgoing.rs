//! Webhooks and service desks of others, with receivers that stand in for them on this machine, on both databases.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    io::Write as _,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use yingda::{
    Config,
    outgoing::{
        Asked, Delivered, Deliverer, HandedOver, OutgoingSettings, ServiceDeskKind, ServiceDeskSettings, ServiceDesks,
        retry_in, signature,
    },
    storage::now,
};

use crate::support::{Answer, Place, Service, on_each_database, request, root, say, with_body};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Serves routes on a port; gives the address.
async fn listen(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

// A receiver of webhooks.

/// What a receiver was sent.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    headers: HashMap<String, String>,
    text: String,
    pub(crate) body: Value,
}

#[derive(Default)]
struct ReceiverState {
    received: Vec<Received>,
    /// Answered with 500; empty: none, `*`: all. Tickets, that is.
    refused: BTreeSet<String>,
}

/// Takes messages, or refuses them.
#[derive(Clone, Default)]
pub(crate) struct Receiver(Arc<Mutex<ReceiverState>>);

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, text: String) -> StatusCode {
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let body: Value = serde_json::from_str(&text).unwrap();
    let mut state = receiver.0.lock().unwrap();
    let ticket = body["ticket"]["ticket_id"].as_str().unwrap_or_default();
    if state.refused.contains("*") || state.refused.contains(ticket) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    state.received.push(Received { headers, text, body });
    StatusCode::NO_CONTENT
}

impl Receiver {
    /// With its address.
    pub(crate) async fn start() -> (Self, String) {
        let receiver = Self::default();
        let routes = Router::new().route("/tickets", post(receive)).with_state(receiver.clone());
        (receiver, format!("{}/tickets", listen(routes).await))
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.0.lock().unwrap().received.clone()
    }

    pub(crate) fn refuse(&self, tickets: &[&str]) {
        self.0.lock().unwrap().refused = tickets.iter().map(|ticket| (*ticket).to_owned()).collect();
    }

    /// The kinds of what came, about one ticket.
    fn kinds(&self, ticket: &str) -> Vec<String> {
        let about = |message: &Received| message.body["ticket"]["ticket_id"] == ticket;
        self.received().iter().filter(|message| about(message)).map(|message| string(&message.body["event"])).collect()
    }
}

async fn webhook(service: &Service, address: &str, events: Value) -> Value {
    let made = service.post("/v1/webhooks", json!({ "address": address, "events": events })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.ok()
}

async fn change(service: &Service, id: &str, body: Value) -> Answer {
    service.send(with_body("PATCH", &format!("/v1/webhooks/{id}"), body.to_string())).await
}

async fn deliveries(service: &Service, query: &str) -> Vec<Value> {
    let listed = service.get(&format!("/v1/webhook-deliveries{query}")).await.ok();
    listed["deliveries"].as_array().unwrap().clone()
}

/// A session that was handed over, and its ticket.
async fn handed_over(service: &Service, session: &str) -> String {
    let message = json!({ "session_id": session, "user_id": "u", "text": "转人工，电话 13812345678" });
    string(&service.post("/v1/chat", message).await.ok()["ticket_id"])
}

async fn take(service: &Service, ticket: &str) {
    service.act(ticket, "take", json!({ "agent": "小王" })).await.ok();
}

fn deliverer(service: &Service) -> Deliverer {
    Deliverer::new(service.state.storage().clone())
}

fn received(done: usize) -> Delivered {
    Delivered { done, ..Delivered::default() }
}

/// The rule of docs/outgoing.md.
fn is_ours(secret: &str, header: &str, body: &str, now: i64) -> bool {
    let Some(seconds) = header.strip_prefix("t=").and_then(|rest| rest.split(',').next()?.parse::<i64>().ok()) else {
        return false;
    };
    (now - seconds).abs() <= 300 && signature(secret, seconds, body) == header
}

#[tokio::test]
async fn a_receiver_reads_who_did_what_and_can_check_that_it_is_ours() {
    on_each_database(async |place| {
        let service = place.service().await;
        let (receiver, address) = Receiver::start().await;
        let made = webhook(&service, &address, json!([])).await;
        let secret = string(&made["secret"]);
        assert!(secret.starts_with("whsec_") && secret.len() == 6 + 64, "32 random bytes");
        let listed = service.get("/v1/webhooks").await;
        assert!(!listed.text().contains(&secret), "it is shown once");

        let ticket = handed_over(&service, "s").await;
        take(&service, &ticket).await;
        let body = json!({ "agent": "小王", "team": "售后", "reason": "要退款，电话 13812345678" });
        service.act(&ticket, "transfer", body).await.ok();
        let at = now();
        assert_eq!(deliverer(&service).deliver(at).await.unwrap(), received(3));
        assert_eq!(receiver.kinds(&ticket), ["opened", "taken", "transferred"]);
        let messages = receiver.received();
        let made_up = "0".repeat(ticket.len());
        for message in &messages {
            let header = |name: &str| message.headers[name].as_str();
            assert_eq!(header("x-yingda-event"), message.body["event"]);
            assert_eq!(header("x-yingda-delivery"), message.body["id"]);
            assert_eq!(header("content-type"), "application/json");
            let signed = header("x-yingda-signature");
            assert!(is_ours(&secret, signed, &message.text, at / SECOND + 299));
            assert!(!is_ours(&secret, signed, &message.text, at / SECOND + 301), "recorded and sent again later");
            assert!(!is_ours(&secret, signed, &message.text.replace(&ticket, &made_up), at / SECOND), "tampered with");
            assert!(!is_ours("whsec_other", signed, &message.text, at / SECOND));
            assert!(!message.text.contains("13812345678"), "personal data is masked");
        }
        let moved = &messages[2].body;
        let told = service.get(&format!("/v1/tickets/{ticket}")).await.ok();
        for (name, value) in moved["ticket"].as_object().unwrap() {
            assert_eq!(value, &told[name], "the ticket is told as the API tells it: {name}");
        }
        assert_eq!((&moved["actor"], &moved["seq"]), (&json!("小王"), &json!(3)));
        assert_eq!((&moved["after"]["team"], &moved["before"]["assignee"]), (&json!("售后"), &json!("小王")));
        assert!(string(&moved["reason"]).contains("要退款"));
        let ids: BTreeSet<String> = messages.iter().map(|message| string(&message.body["id"])).collect();
        assert_eq!(ids.len(), 3);
        assert_eq!(deliverer(&service).deliver(now()).await.unwrap(), received(0), "once each");
    })
    .await;
}

/// Runs the example of docs/outgoing.md in its own language over the same cases.
fn example(language: &str, program: &str, driver: &str, cases: &Value) -> Option<Vec<bool>> {
    let page = std::fs::read_to_string(root().join("docs/outgoing.md")).unwrap();
    let example = page.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("example.js");
    std::fs::write(&script, format!("{example}\n{driver}")).unwrap();
    let mut command = Command::new(program);
    command.arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            say(&format!(
                "{program} cannot be started ({error}): the {language} example of docs/outgoing.md is not run"
            ));
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(cases.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{language}: {output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn the_examples_of_the_page_accept_what_is_ours_and_nothing_else() {
    let (secret, body, at) = ("whsec_5f0c", "{\"event\":\"ping\",\"data\":\"你好\"}", 1_767_225_600);
    let signed = signature(secret, at, body);
    let older = signed.replace(&format!("t={at}"), &format!("t={}", at + 200));
    let cases = [
        (signed.as_str(), body, at, true),
        (&signed, body, at + 300, true),
        (&signed, body, at + 301, false),
        (&signed, body, at - 301, false),
        (&signed, "{\"event\":\"ping\",\"data\":\"你坏\"}", at, false),
        (&older, body, at + 400, false),
        ("", body, at, false),
        ("t=abc,v1=00", body, at, false),
        ("t=1767225600", body, at, false),
        ("v1=,t=1767225600", body, at, false),
    ];
    let expected: Vec<bool> = cases.iter().map(|(.., ours)| *ours).collect();
    let by_rule: Vec<bool> = cases.iter().map(|(header, body, now, _)| is_ours(secret, header, body, *now)).collect();
    assert_eq!(by_rule, expected);
    let cases: Vec<Value> = cases
        .iter()
        .map(|(header, body, now, _)| json!({ "secret": secret, "header": header, "body": body, "now": now }))
        .collect();
    let python = "import json, sys\ncases = json.load(sys.stdin)\n\
                  print(json.dumps([is_ours(c['secret'], c['header'], c['body'].encode(), c['now']) for c in cases]))";
    let javascript = "const cases = JSON.parse(require(\"node:fs\").readFileSync(0, \"utf8\"));\n\
                      console.log(JSON.stringify(cases.map((c) => isOurs(c.secret, c.header, Buffer.from(c.body), c.now))));";
    for (language, program, driver) in [("python", "python3", python), ("javascript", "node", javascript)] {
        if let Some(found) = example(language, program, driver, &json!(cases)) {
            assert_eq!(found, expected, "{language}");
        }
    }
}

#[tokio::test]
async fn one_ticket_is_told_in_order_and_holds_up_no_other() {
    on_each_database(async |place| {
        let service = place.service().await;
        let (receiver, address) = Receiver::start().await;
        webhook(&service, &address, json!([])).await;
        let (stuck, free) = (handed_over(&service, "a").await, handed_over(&service, "b").await);
        take(&service, &stuck).await;
        take(&service, &free).await;
        receiver.refuse(&[&stuck]);
        let at = now();
        let deliverer = deliverer(&service);
        let told = deliverer.deliver(at).await.unwrap();
        assert_eq!(told, Delivered { done: 2, failed: 1, dead: 0 }, "the second about a ticket waits for its first");
        assert_eq!((receiver.kinds(&stuck).len(), receiver.kinds(&free).len()), (0, 2));
        receiver.refuse(&[]);
        assert_eq!(deliverer.deliver(at + 9 * SECOND).await.unwrap(), received(0), "not yet");
        assert_eq!(deliverer.deliver(at + 12 * SECOND).await.unwrap(), received(2));
        assert_eq!(receiver.kinds(&stuck), ["opened", "taken"]);
    })
    .await;
}

#[tokio::test]
async fn what_fails_comes_again_later_and_later_and_is_given_up_in_the_end() {
    on_each_database(async |place| {
        let service = place.service().await;
        let (receiver, address) = Receiver::start().await;
        let id = string(&webhook(&service, &address, json!(["opened", "taken"])).await["webhook_id"]);
        receiver.refuse(&["*"]);
        let ticket = handed_over(&service, "s").await;
        let deliverer = deliverer(&service);
        let mut at = now();
        let first = deliveries(&service, "?state=pending").await[0].clone();
        let message = string(&first["delivery_id"]);
        for attempt in 1..=6 {
            let told = deliverer.deliver(at).await.unwrap();
            assert_eq!(told, Delivered { failed: 1, ..Delivered::default() }, "attempt {attempt}");
            let wait = retry_in(attempt, &message).unwrap();
            assert_eq!(deliverer.deliver(at + wait - 1).await.unwrap(), received(0), "attempt {attempt}: too early");
            at += wait;
        }
        let pending = deliveries(&service, "?state=pending").await;
        assert_eq!((&pending[0]["attempts"], &pending[0]["status"]), (&json!(6), &json!(500)));
        assert_eq!((&pending[0]["problem"], pending.len()), (&json!("status"), 1));
        let retry = format!("/v1/webhook-deliveries/{message}/retry");
        assert_eq!(service.post(&retry, json!({})).await.refusal(), (409, "delivery_not_dead".to_owned()));
        assert_eq!(deliverer.deliver(at).await.unwrap(), Delivered { dead: 1, ..Delivered::default() });
        assert_eq!(deliverer.deliver(at + 30 * DAY).await.unwrap(), received(0), "dead is dead");
        assert_eq!(service.get("/v1/webhooks").await.ok()["webhooks"][0]["failures"], 7);
        assert!(receiver.received().is_empty());

        // What comes after a dead one goes on, and the dead one is sent when somebody says so.
        receiver.refuse(&[]);
        take(&service, &ticket).await;
        assert_eq!(deliverer.deliver(now()).await.unwrap(), received(1));
        assert_eq!(service.get("/v1/webhooks").await.ok()["webhooks"][0]["failures"], 0);
        let dead = deliveries(&service, &format!("?state=dead&webhook_id={id}")).await;
        assert_eq!((dead.len(), &dead[0]["delivery_id"]), (1, &json!(message)));
        let again = service.post(&retry, json!({})).await.ok();
        assert_eq!((&again["state"], &again["attempts"]), (&json!("pending"), &json!(0)));
        assert_eq!(deliverer.deliver(now()).await.unwrap(), received(1));
        assert_eq!(receiver.kinds(&ticket), ["taken", "opened"]);
        assert_eq!(string(&receiver.received()[1].body["id"]), message, "under the same id");
        assert_eq!(service.post(&retry, json!({})).await.refusal(), (409, "delivery_not_dead".to_owned()));

        // All at once, and forgotten in the end.
        receiver.refuse(&["*"]);
        let other = handed_over(&service, "t").await;
        let mut later = now();
        for _ in 0..7 {
            deliverer.deliver(later).await.unwrap();
            later += 7 * HOUR;
        }
        assert_eq!(deliveries(&service, "?state=dead").await.len(), 1);
        receiver.refuse(&[]);
        let nobody = json!({ "webhook_id": other });
        let missing = service.post("/v1/webhook-deliveries/retry-dead", nobody).await;
        assert_eq!(missing.refusal(), (404, "webhook_not_found".to_owned()));
        let retried = service.post("/v1/webhook-deliveries/retry-dead", json!({ "webhook_id": id })).await.ok();
        assert_eq!(retried["retried"], 1);
        assert_eq!(deliverer.deliver(now()).await.unwrap(), received(1));
        assert_eq!(deliveries(&service, "?state=done").await.len(), 3);
        assert_eq!(deliverer.forget(now() + 6 * DAY).await.unwrap(), 0);
        assert_eq!(deliverer.forget(later + 8 * DAY).await.unwrap(), 3);
        assert_eq!(deliveries(&service, "").await.len(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_tell_everything_once() {
    on_each_database(async |place| {
        let service = place.service().await;
        let (receiver, address) = Receiver::start().await;
        webhook(&service, &address, json!([])).await;
        for number in 0..12 {
            let ticket = handed_over(&service, &format!("s{number}")).await;
            take(&service, &ticket).await;
        }
        let (one, two) = (deliverer(&service), deliverer(&service));
        let at = now();
        let (a, b) = tokio::join!(one.deliver(at), two.deliver(at));
        let (a, b) = (a.unwrap(), b.unwrap());
        // Whoever has nothing left to begin leaves while the other may still be sending.
        let rest = one.deliver(at).await.unwrap();
        assert_eq!(a.done + b.done + rest.done, 24, "{a:?} {b:?} {rest:?}");
        let ids: BTreeSet<String> = receiver.received().iter().map(|message| string(&message.body["id"])).collect();
        assert_eq!((ids.len(), receiver.received().len()), (24, 24));
        for message in receiver.received() {
            let ticket = string(&message.body["ticket"]["ticket_id"]);
            assert_eq!(receiver.kinds(&ticket), ["opened", "taken"]);
        }

        // One that was begun by a process that ended is tried again when its time is over, and not before.
        let ticket = handed_over(&service, "crash").await;
        let id = string(&deliveries(&service, "?state=pending").await[0]["delivery_id"]);
        let at = now();
        let storage = service.state.storage();
        assert!(storage.begin_delivery_attempt(&id, 0, at + 30 * SECOND).await.unwrap());
        assert!(!storage.begin_delivery_attempt(&id, 0, at + 30 * SECOND).await.unwrap(), "one of them begins");
        assert_eq!(one.deliver(at + 29 * SECOND).await.unwrap(), received(0));
        assert_eq!(two.deliver(at + 31 * SECOND).await.unwrap(), received(1));
        assert_eq!(receiver.kinds(&ticket), ["opened"]);
    })
    .await;
}

#[tokio::test]
async fn what_did_not_come_about_is_told_to_nobody() {
    on_each_database(async |place| {
        let service = place.service().await;
        let (receiver, address) = Receiver::start().await;
        let (one, two) = (handed_over(&service, "one").await, handed_over(&service, "two").await);
        take(&service, &one).await;
        webhook(&service, &address, json!([])).await;
        // The other ticket's event is written first, then the merge itself is refused: nothing of it remains.
        let refused = service.act(&one, "merge", json!({ "into": two, "agent": "小李" })).await;
        assert_eq!(refused.refusal(), (403, "not_assignee".to_owned()));
        let refused = service.act(&two, "reply", json!({ "agent": "小李", "text": "您好" })).await;
        assert_eq!(refused.refusal(), (409, "ticket_state".to_owned()));
        assert_eq!(deliveries(&service, "").await.len(), 0);
        service.act(&one, "merge", json!({ "into": two, "agent": "小王" })).await.ok();
        assert_eq!(deliverer(&service).deliver(now()).await.unwrap(), received(2));
        assert_eq!((receiver.kinds(&one), receiver.kinds(&two)), (vec!["merged".into()], vec!["merged_here".into()]));
    })
    .await;
}

#[tokio::test]
async fn a_webhook_is_told_what_it_wants_while_it_is_on() {
    on_each_database(async |place| {
        let service = place.service().await;
        let ((all, all_address), (some, some_address)) = (Receiver::start().await, Receiver::start().await);
        let id = string(&webhook(&service, &all_address, json!([])).await["webhook_id"]);
        let narrow = webhook(&service, &some_address, json!(["resolved", "opened", "resolved"])).await;
        assert_eq!(narrow["events"], json!(["resolved", "opened"]));
        let ticket = handed_over(&service, "s").await;
        let off = change(&service, &id, json!({ "active": false })).await.ok();
        assert_eq!((&off["active"], &off["address"]), (&json!(false), &json!(all_address)));
        take(&service, &ticket).await;
        service.act(&ticket, "resolve", json!({ "agent": "小王" })).await.ok();
        let deliverer = deliverer(&service);
        assert_eq!(deliverer.deliver(now()).await.unwrap(), received(2));
        assert_eq!((all.kinds(&ticket).len(), some.kinds(&ticket)), (0, vec!["opened".into(), "resolved".into()]));
        change(&service, &id, json!({ "active": true })).await.ok();
        service.act(&ticket, "close", json!({})).await.ok();
        assert_eq!(deliverer.deliver(now()).await.unwrap(), received(2));
        assert_eq!(
            all.kinds(&ticket),
            ["opened", "closed"],
            "what waited goes on, what happened meanwhile is not told"
        );

        let removed = service.send(request("DELETE", &format!("/v1/webhooks/{id}"))).await;
        assert_eq!(removed.status, 204);
        assert_eq!(deliveries(&service, &format!("?webhook_id={id}")).await.len(), 0);
        handed_over(&service, "t").await;
        assert_eq!(deliverer.deliver(now()).await.unwrap(), received(1));
        assert_eq!(all.received().len(), 2);
        let again = service.send(request("DELETE", &format!("/v1/webhooks/{id}"))).await;
        assert_eq!(again.refusal(), (404, "webhook_not_found".to_owned()));

        // One that is made later is told what happens later.
        webhook(&service, &all_address, json!([])).await;
        let third = handed_over(&service, "v").await;
        assert_eq!(deliverer.deliver(now()).await.unwrap(), received(2));
        assert_eq!(all.kinds(&third), ["opened"]);
    })
    .await;
}

#[tokio::test]
async fn delivery_goes_on_after_a_restart() {
    on_each_database(async |place| {
        let (receiver, address) = Receiver::start().await;
        let service = place.service().await;
        webhook(&service, &address, json!([])).await;
        let ticket = handed_over(&service, "s").await;
        service.state.close().await;
        drop(service);
        let service = place.service().await;
        // As the service itself does it, once a second.
        let running = tokio::spawn({
            let deliverer = deliverer(&service);
            async move { deliverer.run().await }
        });
        while receiver.kinds(&ticket).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        take(&service, &ticket).await;
        while receiver.kinds(&ticket).len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        assert_eq!(receiver.kinds(&ticket), ["opened", "taken"]);
        let numbers = service.get("/metrics").await.text();
        assert!(numbers.contains("yingda_webhook_attempts_total{outcome=\"delivered\"}"), "{numbers}");
        // What was being written is finished or undone.
        service.state.close().await;
    })
    .await;
}

#[tokio::test]
async fn webhooks_are_checked_tested_and_listed_page_by_page() {
    on_each_database(async |place| {
        let service = place.service().await;
        let (receiver, address) = Receiver::start().await;
        let post = async |body: Value| service.post("/v1/webhooks", body).await;
        for wrong in ["", "crm.example.com", "ftp://crm.example.com", "http://user:password@crm.example.com/"] {
            post(json!({ "address": wrong })).await.refuses("address");
        }
        post(json!({ "address": address, "events": ["opend"] })).await.refuses("events");
        post(json!({ "adress": address })).await.refuses("adress");
        let id = string(&webhook(&service, &address, json!([])).await["webhook_id"]);
        change(&service, &id, json!({ "address": "x" })).await.refuses("address");
        change(&service, &id, json!({ "events": ["x"] })).await.refuses("events");
        assert_eq!(service.get("/v1/webhooks").await.ok()["webhooks"][0]["address"], json!(address), "nothing changed");
        let nobody = "00000000-0000-7000-8000-000000000000";
        for unknown in [nobody, "1", "' OR 1=1"] {
            let unknown = unknown.replace(' ', "%20");
            assert_eq!(change(&service, &unknown, json!({})).await.refusal(), (404, "webhook_not_found".to_owned()));
        }

        let test = format!("/v1/webhooks/{id}/test");
        let answered = service.post(&test, json!({})).await.ok();
        assert_eq!((&answered["delivered"], &answered["status"]), (&json!(true), &json!(204)));
        let ping = &receiver.received()[0];
        assert_eq!((&ping.body["event"], &ping.body["data"]["webhook_id"]), (&json!("ping"), &json!(id)));
        receiver.refuse(&["*"]);
        let answered = service.post(&test, json!({})).await.ok();
        assert_eq!((&answered["status"], &answered["problem"]), (&json!(500), &json!("status")));
        change(&service, &id, json!({ "address": "http://127.0.0.1:1/" })).await.ok();
        let answered = service.post(&test, json!({})).await.ok();
        assert_eq!((&answered["delivered"], &answered["problem"]), (&json!(false), &json!("unreachable")));
        assert_eq!(deliveries(&service, "").await.len(), 0, "a test is not kept");

        for number in 0..5 {
            handed_over(&service, &format!("s{number}")).await;
        }
        let first = service.get("/v1/webhook-deliveries?limit=3&state=pending").await.ok();
        let cursor = string(&first["next_cursor"]);
        let second = service.get(&format!("/v1/webhook-deliveries?limit=3&cursor={cursor}")).await.ok();
        let mut seen = BTreeSet::new();
        for delivery in [&first, &second].iter().flat_map(|page| page["deliveries"].as_array().unwrap()) {
            seen.insert(string(&delivery["delivery_id"]));
        }
        assert_eq!((seen.len(), second.get("next_cursor")), (5, None));
        for (query, field) in [("state=lost", "state"), ("limit=0", "limit"), ("cursor=1", "cursor")] {
            service.get(&format!("/v1/webhook-deliveries?{query}")).await.refuses(field);
        }
        let unknown = service.post(&format!("/v1/webhook-deliveries/{nobody}-1/retry"), json!({})).await;
        assert_eq!(unknown.refusal(), (404, "delivery_not_found".to_owned()));
        for _ in 1..20 {
            webhook(&service, &address, json!([])).await;
        }
        let one_more = post(json!({ "address": address })).await;
        assert_eq!(one_more.refusal(), (409, "too_many_webhooks".to_owned()));
        // What was refused is undone.
        service.state.close().await;
    })
    .await;
}

// Service desks that stand in for Zendesk and Jira.

/// What a service desk does with the next creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Says that it does not know us.
    Unauthorized,
    /// Says that it is asked too often.
    Busy,
    /// Makes the ticket, and the connection breaks before the answer.
    Lost,
}

#[derive(Default)]
struct RemoteState {
    /// What it does with the next creations; then it behaves.
    moods: VecDeque<Mood>,
    /// Whether it asks for a pause when it is read.
    busy: bool,
    /// What was made, in its own form.
    tickets: Vec<Value>,
    /// Tickets by the key of their creation.
    keys: HashMap<String, usize>,
    creations: usize,
    readings: usize,
}

#[derive(Clone, Default)]
struct Remote(Arc<Mutex<RemoteState>>);

fn basic(user: &str) -> String {
    let token = std::env::var("PATH").unwrap();
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", token.trim())))
}

fn authorized(headers: &HeaderMap, user: &str) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|value| value.to_str().unwrap() == basic(user))
}

/// A status and how long to wait.
type Refusal = (StatusCode, [(HeaderName, &'static str); 1]);

fn too_often(seconds: &'static str) -> Refusal {
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds)])
}

impl Remote {
    fn with(&self, change: impl FnOnce(&mut RemoteState)) {
        change(&mut self.0.lock().unwrap());
    }

    fn tickets(&self) -> Vec<Value> {
        self.0.lock().unwrap().tickets.clone()
    }

    fn creations(&self) -> usize {
        self.0.lock().unwrap().creations
    }

    fn readings(&self) -> usize {
        self.0.lock().unwrap().readings
    }

    /// The mood of a creation; the refusal where it is one.
    fn mood(&self) -> Result<Option<Mood>, Refusal> {
        let mut state = self.0.lock().unwrap();
        state.creations += 1;
        match state.moods.pop_front() {
            Some(Mood::Unauthorized) => Err((StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic")])),
            Some(Mood::Busy) => Err(too_often("93")),
            mood => Ok(mood),
        }
    }

    fn read(&self) -> Result<Vec<Value>, Refusal> {
        let mut state = self.0.lock().unwrap();
        state.readings += 1;
        if state.busy { Err(too_often("300")) } else { Ok(state.tickets.clone()) }
    }
}

/// Breaks the connection: the task that serves it ends, and nothing is printed.
fn lose() -> ! {
    std::panic::resume_unwind(Box::new("lost"))
}

const ZENDESK_USER: &str = "bot@example.com/token";

async fn zendesk_create(State(remote): State<Remote>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    assert!(authorized(&headers, ZENDESK_USER));
    let mood = match remote.mood() {
        Ok(mood) => mood,
        Err(refusal) => return refusal.into_response(),
    };
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let ticket = {
        let mut state = remote.0.lock().unwrap();
        let next = state.tickets.len();
        let number = *state.keys.entry(key).or_insert(next);
        if number == next {
            let mut ticket = body["ticket"].clone();
            ticket["id"] = json!(35_000 + next);
            ticket["status"] = json!("new");
            state.tickets.push(ticket);
        }
        state.tickets[number].clone()
    };
    if mood == Some(Mood::Lost) {
        lose();
    }
    (StatusCode::CREATED, Json(json!({ "ticket": ticket }))).into_response()
}

async fn zendesk_list(State(remote): State<Remote>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    assert!(authorized(&headers, ZENDESK_USER));
    let tickets = match remote.read() {
        Ok(tickets) => tickets,
        Err(refusal) => return refusal.into_response(),
    };
    let query = query.unwrap();
    let found: Vec<Value> = tickets
        .into_iter()
        .filter(|ticket| match query.split_once('=').unwrap() {
            ("external_id", id) => ticket["external_id"] == id,
            ("ids", ids) => ids.split(',').any(|id| ticket["id"].as_u64() == id.parse().ok()),
            _ => false,
        })
        .collect();
    Json(json!({ "count": found.len(), "tickets": found })).into_response()
}

async fn zendesk() -> (Remote, String) {
    let remote = Remote::default();
    let routes = Router::new()
        .route("/api/v2/tickets.json", post(zendesk_create).get(zendesk_list))
        .route("/api/v2/tickets/show_many.json", get(zendesk_list))
        .with_state(remote.clone());
    (remote, listen(routes).await)
}

const JIRA_USER: &str = "bot@example.com";

async fn jira_create(State(remote): State<Remote>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    assert!(authorized(&headers, JIRA_USER));
    let mood = match remote.mood() {
        Ok(mood) => mood,
        Err(refusal) => return refusal.into_response(),
    };
    assert_eq!((&body["serviceDeskId"], &body["requestTypeId"]), (&json!("4"), &json!("25")));
    let made = {
        let mut state = remote.0.lock().unwrap();
        let made = json!({
            "issueId": "107001",
            "issueKey": format!("HELP-{}", state.tickets.len() + 1),
            "currentStatus": { "status": "等待支持", "statusCategory": "NEW" },
            "summary": body["requestFieldValues"]["summary"],
            "description": body["requestFieldValues"]["description"],
        });
        state.tickets.push(made.clone());
        made
    };
    if mood == Some(Mood::Lost) {
        lose();
    }
    (StatusCode::CREATED, Json(made)).into_response()
}

async fn jira_read(State(remote): State<Remote>, headers: HeaderMap, Path(key): Path<String>) -> Response {
    assert!(authorized(&headers, JIRA_USER));
    match remote.read() {
        Ok(tickets) => match tickets.into_iter().find(|ticket| ticket["issueKey"] == key.as_str()) {
            Some(ticket) => Json(ticket).into_response(),
            None => (StatusCode::NOT_FOUND, Json(json!({ "errorMessage": "gone" }))).into_response(),
        },
        Err(refusal) => refusal.into_response(),
    }
}

async fn jira_search(State(remote): State<Remote>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    assert!(authorized(&headers, JIRA_USER));
    let query = query.unwrap();
    let word = query.strip_prefix("jql=summary%20~%20%22").unwrap().split("%22").next().unwrap();
    let tickets = match remote.read() {
        Ok(tickets) => tickets,
        Err(refusal) => return refusal.into_response(),
    };
    let issues: Vec<Value> = tickets
        .iter()
        .filter(|ticket| string(&ticket["summary"]).contains(word))
        .map(|ticket| {
            let current = &ticket["currentStatus"];
            let category = string(&current["statusCategory"]).to_lowercase();
            let status = json!({ "name": current["status"], "statusCategory": { "key": category } });
            json!({ "key": ticket["issueKey"], "fields": { "summary": ticket["summary"], "status": status } })
        })
        .collect();
    Json(json!({ "issues": issues, "isLast": true })).into_response()
}

async fn jira() -> (Remote, String) {
    let remote = Remote::default();
    let routes = Router::new()
        .route("/rest/servicedeskapi/request", post(jira_create))
        .route("/rest/servicedeskapi/request/{key}", get(jira_read))
        .route("/rest/api/3/search/jql", get(jira_search))
        .with_state(remote.clone());
    (remote, listen(routes).await)
}

fn settings(kind: ServiceDeskKind, name: &str, address: &str) -> OutgoingSettings {
    let jira = |id: &str| (kind == ServiceDeskKind::Jira).then(|| id.to_owned());
    let desk = ServiceDeskSettings {
        name: name.to_owned(),
        kind,
        address: format!("{address}/"),
        user: "bot@example.com".to_owned(),
        // Set wherever tests run.
        token: "PATH".to_owned(),
        team: "外包".to_owned(),
        service_desk_id: jira("4"),
        request_type_id: jira("25"),
    };
    OutgoingSettings { service_desk: vec![desk] }
}

fn config(place: &Place, outgoing: &OutgoingSettings) -> Config {
    assert_eq!(outgoing.problems(), [""; 0]);
    Config { outgoing: outgoing.clone(), ..place.config() }
}

async fn story(service: &Service, ticket: &str) -> Value {
    service.get(&format!("/v1/tickets/{ticket}")).await.ok()
}

/// What a ticket's history tells of the service desk.
async fn outside(service: &Service, ticket: &str) -> Vec<String> {
    let told = story(service, ticket).await;
    let events = told["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "external_status");
    events
        .map(|event| format!("{} {}", string(&event["data"]["remote_id"]), string(&event["data"]["status"])))
        .collect()
}

async fn transferred(service: &Service, session: &str) -> String {
    let ticket = handed_over(service, session).await;
    take(service, &ticket).await;
    service.act(&ticket, "transfer", json!({ "agent": "小王", "team": "外包" })).await.ok();
    ticket
}

#[tokio::test]
async fn a_team_works_in_zendesk() {
    on_each_database(async |place| {
        let (remote, address) = zendesk().await;
        let settings = settings(ServiceDeskKind::Zendesk, "Zendesk", &address);
        let service = Service::open(config(place, &settings)).await;
        let desks = ServiceDesks::new(service.state.storage().clone(), &settings);
        let ours = handed_over(&service, "ours").await;
        let ticket = transferred(&service, "s").await;
        let (none, failed) = (HandedOver::default(), HandedOver { made: 0, failed: 1 });
        let made = HandedOver { made: 1, failed: 0 };

        // It does not know us: nothing is made, and nothing is asked for a minute.
        remote.with(|state| state.moods = [Mood::Unauthorized, Mood::Busy, Mood::Lost].into());
        let mut at = now();
        assert_eq!(desks.hand_over(at).await.unwrap(), failed);
        assert_eq!(desks.hand_over(at + 59 * SECOND).await.unwrap(), none);
        // It is asked too often: as long as it says.
        at += MINUTE;
        assert_eq!(desks.hand_over(at).await.unwrap(), failed);
        assert_eq!(desks.hand_over(at + 92 * SECOND).await.unwrap(), none);
        assert_eq!((remote.tickets().len(), remote.creations(), remote.readings()), (0, 2, 0));
        // It is made, and the answer is lost: the next attempt finds it.
        at += 93 * SECOND;
        assert_eq!(desks.hand_over(at).await.unwrap(), failed);
        assert_eq!(remote.tickets().len(), 1);
        assert!(outside(&service, &ticket).await.is_empty());
        assert_eq!(desks.hand_over(at + MINUTE).await.unwrap(), none, "a third failure waits two minutes");
        at += 2 * MINUTE;
        assert_eq!(desks.hand_over(at).await.unwrap(), made);
        assert_eq!((remote.tickets().len(), remote.creations(), remote.readings()), (1, 3, 1));
        assert_eq!(desks.hand_over(at + DAY).await.unwrap(), none, "it is there");
        assert_eq!(outside(&service, &ticket).await, ["35000 new"]);

        let there = remote.tickets()[0].clone();
        assert_eq!(there["external_id"], json!(ticket));
        let text = string(&there["comment"]["body"]);
        assert!(text.contains("客户：转人工") && text.contains(&ticket), "{text}");
        assert!(!there.to_string().contains("13812345678"), "what leaves is masked");
        let told = story(&service, &ticket).await["events"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&told["kind"], &told["actor"]), (&json!("external_status"), &json!("system")));
        assert_eq!(told["data"]["address"], json!(format!("{address}/agent/tickets/35000")));

        // Once a minute it is asked how the ticket stands.
        assert_eq!(desks.ask(at).await.unwrap(), Asked::default());
        at += MINUTE;
        remote.with(|state| state.tickets[0]["status"] = json!("pending"));
        assert_eq!(desks.ask(at).await.unwrap(), Asked { changed: 1, resolved: 0 });
        remote.with(|state| state.tickets[0]["status"] = json!("solved"));
        assert_eq!(desks.ask(at + 59 * SECOND).await.unwrap(), Asked::default(), "not yet");
        remote.with(|state| state.busy = true);
        assert_eq!(desks.ask(at + MINUTE).await.unwrap(), Asked::default());
        remote.with(|state| state.busy = false);
        assert_eq!(desks.ask(at + 5 * MINUTE).await.unwrap(), Asked::default(), "it wants five minutes of rest");
        at += 6 * MINUTE;
        assert_eq!(desks.ask(at).await.unwrap(), Asked { changed: 1, resolved: 1 });
        assert_eq!(outside(&service, &ticket).await, ["35000 new", "35000 pending", "35000 solved"]);
        let done = story(&service, &ticket).await;
        assert_eq!((&done["status"], &done["assignee"]), (&json!("resolved"), &json!("Zendesk")));
        let last: Vec<(String, String)> = done["events"]
            .as_array()
            .unwrap()
            .iter()
            .rev()
            .take(2)
            .map(|event| (string(&event["kind"]), string(&event["actor"])))
            .collect();
        assert_eq!(last, [("resolved", "system"), ("assigned", "system")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_ne!(service.chat("s", "你好").await["decision"], "silent", "the bot serves again");
        assert_eq!(desks.ask(at + HOUR).await.unwrap(), Asked::default(), "what is done is not asked about");

        // What begins again is a new ticket there, and what goes to another team is not theirs any more.
        service.act(&ticket, "reopen", json!({})).await.ok();
        at += HOUR;
        assert_eq!(desks.ask(at).await.unwrap(), Asked::default(), "the old one solves nothing");
        assert_eq!(desks.hand_over(at).await.unwrap(), made);
        assert_eq!(remote.tickets()[1]["external_id"], json!(format!("{ticket}r1")));
        service.act(&ticket, "transfer", json!({ "team": "售后" })).await.ok();
        remote.with(|state| state.tickets[1]["status"] = json!("solved"));
        assert_eq!(desks.ask(at + HOUR).await.unwrap(), Asked::default());
        assert_eq!(story(&service, &ticket).await["status"], "new");
        assert!(outside(&service, &ours).await.is_empty(), "nobody else's ticket went there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_works_in_jira() {
    on_each_database(async |place| {
        let (remote, address) = jira().await;
        let settings = settings(ServiceDeskKind::Jira, "Jira 维修", &address);
        let service = Service::open(config(place, &settings)).await;
        let storage = service.state.storage();
        let (one, two) = (ServiceDesks::new(storage.clone(), &settings), ServiceDesks::new(storage.clone(), &settings));
        let ticket = transferred(&service, "s").await;
        remote.with(|state| state.moods = [Mood::Lost, Mood::Unauthorized].into());
        let mut at = now();
        assert_eq!(one.hand_over(at).await.unwrap(), HandedOver { made: 0, failed: 1 });
        assert_eq!(remote.tickets().len(), 1, "made, and nobody here knows");
        assert_eq!(two.hand_over(at + 9 * SECOND).await.unwrap(), HandedOver::default());
        at += 10 * SECOND;
        let (a, b) = tokio::join!(one.hand_over(at), two.hand_over(at));
        assert_eq!(a.unwrap().made + b.unwrap().made, 1, "found by one of them");
        assert_eq!((remote.tickets().len(), remote.creations()), (1, 1));
        assert_eq!(outside(&service, &ticket).await, ["HELP-1 等待支持"]);
        let there = remote.tickets()[0].clone();
        assert!(string(&there["summary"]).contains(&format!("[yd{}]", ticket.replace('-', ""))));
        assert!(!there.to_string().contains("13812345678"));

        // A second one: refused, then made by one of two.
        let second = transferred(&service, "t").await;
        assert_eq!(one.hand_over(at).await.unwrap(), HandedOver { made: 0, failed: 1 });
        at += MINUTE;
        let (a, b) = tokio::join!(one.hand_over(at), two.hand_over(at));
        assert_eq!(a.unwrap().made + b.unwrap().made, 1);
        assert_eq!(outside(&service, &second).await, ["HELP-2 等待支持"]);
        assert_eq!(remote.tickets().len(), 2);

        // Somebody here has the first; it is done there; the second one is removed there, which says nothing.
        take(&service, &ticket).await;
        remote.with(|state| {
            state.tickets[0]["currentStatus"] = json!({ "status": "已解决", "statusCategory": "DONE" });
            state.tickets.truncate(1);
        });
        at += 2 * MINUTE;
        let (a, b) = tokio::join!(one.ask(at), two.ask(at));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.changed + b.changed, a.resolved + b.resolved), (1, 1), "{a:?} {b:?}");
        let done = story(&service, &ticket).await;
        assert_eq!((&done["status"], &done["assignee"]), (&json!("resolved"), &json!("小王")), "it stays theirs");
        assert_eq!(outside(&service, &ticket).await, ["HELP-1 等待支持", "HELP-1 已解决"]);
        assert_eq!(story(&service, &second).await["status"], "new");
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_missing_is_told_at_the_start() {
    let place = Place::sqlite();
    let mut settings = settings(ServiceDeskKind::Zendesk, "Zendesk", "https://shop.zendesk.com");
    settings.service_desk[0].token = "YINGDA_TEST_NO_SUCH_VARIABLE".to_owned();
    let Err(error) = yingda::open_state(config(&place, &settings)).await else { panic!("it opens") };
    let text = error.to_string();
    assert!(text.contains("Zendesk") && text.contains("YINGDA_TEST_NO_SUCH_VARIABLE is not set"), "{text}");
    assert!(error.is_users());
}
