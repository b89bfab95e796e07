//! Offering tickets to those who are there, taking them back, and telling of missed targets, on both databases.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use yingda::{
    desk::{Dispatched, Dispatcher, settings::DeskSettings},
    storage::now,
};

use crate::support::{Service, on_each_database, with_body};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;

/// Lists a person at the desk, who is there.
async fn person(service: &Service, name: &str, team: &str, skills: Value) {
    let body = json!({ "team": team, "skills": skills, "capacity": 2 });
    service.send(with_body("PUT", &format!("/v1/desk/agents/{name}"), body.to_string())).await.ok();
    presence(service, name, "online").await;
}

async fn presence(service: &Service, name: &str, presence: &str) {
    let body = json!({ "agent": name, "presence": presence });
    assert_eq!(service.send(with_body("PUT", "/v1/me/presence", body.to_string())).await.status, 204);
}

fn dispatcher(service: &Service, settings: DeskSettings) -> Dispatcher {
    Dispatcher::new(service.state.storage().clone(), settings)
}

/// A ticket about something.
async fn ticket(service: &Service, session: &str, category: &str) -> String {
    let opened = service.post("/v1/chat", json!({ "session_id": session, "text": "人工" })).await.ok();
    let id = opened["ticket_id"].as_str().unwrap().to_owned();
    let body = json!({ "category": category }).to_string();
    service.send(with_body("PATCH", &format!("/v1/tickets/{id}"), body)).await.ok();
    id
}

async fn read(service: &Service, ticket: &str) -> Value {
    service.get(&format!("/v1/tickets/{ticket}")).await.ok()
}

/// How often something happened to a ticket.
fn count(ticket: &Value, kind: &str) -> usize {
    ticket["events"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).count()
}

#[tokio::test]
async fn a_ticket_is_offered_to_who_can_and_goes_on_when_they_do_not_take_it() {
    on_each_database(async |place| {
        let service = place.service().await;
        let dispatcher = dispatcher(&service, DeskSettings::default());
        let refund = ticket(&service, "s1", "退款").await;
        assert_eq!(dispatcher.dispatch(now()).await.unwrap(), Dispatched::default(), "nobody works here yet");

        person(&service, "小王", "售后", json!({ "退款": 3 })).await;
        person(&service, "小李", "售前", json!({ "物流查询": 3 })).await;
        presence(&service, "小王", "away").await;
        presence(&service, "小李", "offline").await;
        assert_eq!(dispatcher.dispatch(now()).await.unwrap(), Dispatched::default(), "nobody is there");

        presence(&service, "小王", "online").await;
        presence(&service, "小李", "online").await;
        let parcel = ticket(&service, "s2", "物流查询").await;
        assert_eq!(dispatcher.dispatch(now()).await.unwrap(), Dispatched { offered: 2, returned: 0 });
        let offered = read(&service, &refund).await;
        assert_eq!((&offered["assignee"], &offered["accepted"]), (&json!("小王"), &json!(false)));
        assert_eq!(read(&service, &parcel).await["assignee"], "小李");
        let why = &offered["events"].as_array().unwrap().last().unwrap()["data"]["routing"];
        assert_eq!((&why["skill"]["name"], &why["skill"]["level"]), (&json!("退款"), &json!(3)), "{why}");
        assert_eq!(service.session("s1").await["owner_agent"], "小王");

        service.act(&parcel, "take", json!({ "agent": "小李" })).await.ok();
        let accept = i64::from(DeskSettings::default().routing.accept_seconds) * SECOND;
        let later = now() + accept + SECOND;
        presence(&service, "小李", "online").await;
        let done = dispatcher.dispatch(later.min(now() + 44 * SECOND)).await.unwrap();
        assert_eq!(done, Dispatched { offered: 1, returned: 1 }, "one did not take it, the other gets it");
        assert_eq!(read(&service, &refund).await["assignee"], "小李");
        assert_eq!(read(&service, &parcel).await["assignee"], "小李", "what was taken stays");
        let words = json!({ "agent": "小王", "text": "我来吧" });
        assert_eq!(service.act(&refund, "reply", words).await.refusal(), (403, "not_assignee".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn what_all_have_let_pass_rests_and_what_a_colleague_gave_stays() {
    on_each_database(async |place| {
        let service = place.service().await;
        let dispatcher = dispatcher(&service, DeskSettings::default());
        let accept = i64::from(DeskSettings::default().routing.accept_seconds) * SECOND;
        person(&service, "小王", "售后", json!({})).await;
        let alone = ticket(&service, "s1", "退款").await;
        let mut at = now();
        assert_eq!(dispatcher.dispatch(at).await.unwrap(), Dispatched { offered: 1, returned: 0 });
        at += accept + SECOND;
        assert_eq!(
            dispatcher.dispatch(at).await.unwrap(),
            Dispatched { offered: 0, returned: 1 },
            "nobody else is there"
        );
        // Routing takes who was not heard of for a while as gone, so that the clock may not run too far ahead.
        let rest = at + 3 * accept;
        assert_eq!(dispatcher.dispatch(rest - SECOND).await.unwrap(), Dispatched::default());
        let settings = DeskSettings { offline_seconds: 600, abandoned_seconds: 3600, ..DeskSettings::default() };
        let patient = Dispatcher::new(service.state.storage().clone(), settings);
        assert_eq!(patient.dispatch(at).await.unwrap(), Dispatched::default(), "it rests");
        assert_eq!(
            patient.dispatch(rest).await.unwrap(),
            Dispatched { offered: 1, returned: 0 },
            "then it begins anew"
        );
        service.act(&alone, "take", json!({ "agent": "小王" })).await.ok();

        person(&service, "小李", "售后", json!({})).await;
        presence(&service, "小李", "away").await;
        let given = ticket(&service, "s2", "退款").await;
        let nobody = service.act(&given, "assign", json!({ "to": "小玉" })).await;
        assert_eq!(nobody.status, 422, "{}", nobody.text());
        service.act(&given, "assign", json!({ "to": "小李", "reason": "老客户" })).await.ok();
        assert_eq!(patient.dispatch(now() + 2 * accept).await.unwrap(), Dispatched::default(), "a colleague chose");
        assert_eq!(read(&service, &given).await["assignee"], "小李");
        let away = patient.dispatch(now() + 3601 * SECOND).await.unwrap();
        assert_eq!(away.returned, 2, "whoever is gone for long has left both behind");
    })
    .await;
}

#[tokio::test]
async fn a_customer_is_given_to_who_speaks_their_language() {
    on_each_database(async |place| {
        let service = place.service().await;
        let dispatcher = dispatcher(&service, DeskSettings::default());
        let put = async |name: &str, languages: Value| {
            let body = json!({ "team": "售后", "capacity": 5, "languages": languages }).to_string();
            service.send(with_body("PUT", &format!("/v1/desk/agents/{name}"), body)).await
        };
        put("小王", json!(["中文"])).await.refuses("languages");
        assert_eq!(put("小王", json!(["ZH-cn"])).await.ok()["languages"], json!(["zh"]));
        put("Amy", json!(["en", "ja"])).await.ok();
        for name in ["小王", "Amy"] {
            presence(&service, name, "online").await;
        }
        let open = async |session: &str, body: Value| {
            let mut body = body;
            body["session_id"] = json!(session);
            service.post("/v1/chat", body).await.ok()["ticket_id"].as_str().unwrap().to_owned()
        };
        let chinese = open("zh", json!({ "text": "转人工" })).await;
        let said = open("said", json!({ "text": "人工", "profile": { "language": "en-GB" } })).await;
        service.chat("wrote", "where is my order? I want to talk to you").await;
        let wrote = open("wrote", json!({ "text": "😡😡 转人工" })).await;
        let form = json!({ "text": "返品したいのですが、どうすればいいですか" });
        let form = service.post("/v1/tickets", form).await.ok()["ticket_id"].as_str().unwrap().to_owned();
        let nobodys = open("ru", json!({ "text": "人工", "profile": { "language": "ru" } })).await;
        assert_eq!(dispatcher.dispatch(now()).await.unwrap().offered, 5);
        for (ticket, language, name) in [
            (&chinese, "zh", Some("小王")),
            (&said, "en", Some("Amy")),
            (&form, "ja", Some("Amy")),
            (&nobodys, "ru", None),
        ] {
            let ticket = read(&service, ticket).await;
            assert_eq!(ticket["language"], language);
            assert!(name.is_none_or(|name| ticket["assignee"] == name), "{ticket}");
            assert!(ticket["assignee"].is_string(), "a language that nobody speaks is not waited for: {ticket}");
        }
        // Whoever asks for a person in Chinese, as the bot tells them to, is not Chinese for that; people put it right.
        assert_eq!(read(&service, &wrote).await["language"], "en");
        assert_eq!(read(&service, &wrote).await["assignee"], "Amy");
        let amend = async |body: Value| {
            service.send(with_body("PATCH", &format!("/v1/tickets/{wrote}"), body.to_string())).await
        };
        amend(json!({ "language": "英语" })).await.refuses("language");
        assert_eq!(amend(json!({ "language": "zh" })).await.ok()["language"], "zh");
        let told = read(&service, &wrote).await["events"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&told["before"], &told["after"]), (&json!({ "language": "en" }), &json!({ "language": "zh" })));
    })
    .await;
}

#[tokio::test]
async fn supervisors_change_routing_while_it_runs() {
    on_each_database(async |place| {
        let service = place.service().await;
        let dispatcher = dispatcher(&service, DeskSettings::default());
        person(&service, "小王", "售后", json!({})).await;
        let waiting = ticket(&service, "s1", "退款").await;
        let known = service.get("/v1/desk/settings").await.ok();
        assert_eq!((&known["source"], &known["version"]), (&json!("file"), &json!(0)));
        assert_eq!(known["tuning"]["routing"]["accept_seconds"], 20);

        let put = async |body: Value| service.send(with_body("PUT", "/v1/desk/settings", body.to_string())).await;
        let mut tuning = known["tuning"].clone();
        tuning["route"] = json!(false);
        let changed = put(json!({ "tuning": tuning, "version": 0, "note": "先人工分配" })).await.ok();
        assert_eq!((&changed["source"], &changed["version"]), (&json!("console"), &json!(1)));
        let stale = put(json!({ "tuning": tuning, "version": 0 })).await;
        assert_eq!(stale.refusal(), (409, "settings_changed".to_owned()));
        let mut bad = tuning.clone();
        bad["routing"]["accept_seconds"] = json!(0);
        put(json!({ "tuning": bad, "version": 1 })).await.refuses("tuning");
        bad["routing"]["speed"] = json!(1);
        put(json!({ "tuning": bad, "version": 1 })).await.refuses("tuning.routing.speed");

        // Whoever runs already goes by it: an offer is over after three seconds now.
        tuning["route"] = json!(true);
        tuning["routing"]["accept_seconds"] = json!(3);
        put(json!({ "tuning": tuning, "version": 1 })).await.ok();
        assert_eq!(dispatcher.dispatch(now()).await.unwrap().offered, 1);
        assert_eq!(dispatcher.dispatch(now() + 5 * SECOND).await.unwrap().returned, 1);
        assert_eq!(count(&read(&service, &waiting).await, "returned"), 1);
        let back = put(json!({ "version": 2 })).await.ok();
        assert_eq!((&back["source"], &back["version"]), (&json!("file"), &json!(3)));
        assert_eq!(back["tuning"], known["tuning"]);
    })
    .await;
}

#[tokio::test]
async fn whoever_is_not_heard_of_counts_as_gone_and_their_work_goes_back() {
    on_each_database(async |place| {
        let service = place.service().await;
        let settings = DeskSettings::default();
        let (silent, abandoned) = (i64::from(settings.offline_seconds), i64::from(settings.abandoned_seconds));
        let dispatcher = dispatcher(&service, settings);
        person(&service, "小王", "售后", json!({})).await;
        let taken = ticket(&service, "s1", "退款").await;
        let asked = ticket(&service, "s2", "退款").await;
        for id in [&taken, &asked] {
            service.act(id, "take", json!({ "agent": "小王" })).await.ok();
        }
        service.act(&asked, "wait", json!({ "agent": "小王" })).await.ok();
        let open = ticket(&service, "s3", "退款").await;
        let gone = now() + (silent + 1) * SECOND;
        assert_eq!(dispatcher.dispatch(gone).await.unwrap(), Dispatched::default(), "no more work for who is silent");
        assert_eq!(read(&service, &open).await["status"], "new");
        let given_up = now() + (abandoned + 1) * SECOND;
        assert_eq!(dispatcher.dispatch(given_up).await.unwrap(), Dispatched { offered: 0, returned: 1 });
        assert_eq!(read(&service, &taken).await["status"], "new");
        assert_eq!(read(&service, &asked).await["assignee"], "小王", "who waits for a customer need not be there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_offer_each_ticket_once() {
    on_each_database(async |place| {
        let service = place.service().await;
        for number in 0..10 {
            person(&service, &format!("客服{number}"), "售后", json!({})).await;
        }
        let mut tickets = Vec::new();
        for number in 0..12 {
            tickets.push(ticket(&service, &format!("s{number}"), "退款").await);
        }
        let (one, two) = (dispatcher(&service, DeskSettings::default()), dispatcher(&service, DeskSettings::default()));
        let at = now();
        let (a, b) = tokio::join!(one.dispatch(at), two.dispatch(at));
        assert_eq!(a.unwrap().offered + b.unwrap().offered, 12, "each is offered by one of them");
        for id in &tickets {
            let ticket = read(&service, id).await;
            assert_eq!((&ticket["status"], count(&ticket, "assigned")), (&json!("assigned"), 1), "{ticket}");
        }

        let storage = service.state.storage();
        assert!(storage.take_lease("dispatch", "one", now() + MINUTE).await.unwrap());
        assert!(!storage.take_lease("dispatch", "two", now() + MINUTE).await.unwrap(), "one at a time");
        assert!(storage.take_lease("dispatch", "one", now() - SECOND).await.unwrap(), "it may keep it, or let it go");
        assert!(storage.take_lease("dispatch", "two", now() + MINUTE).await.unwrap(), "whose time is over has lost it");
    })
    .await;
}

#[tokio::test]
async fn a_missed_target_is_told_once_and_waiting_for_the_customer_does_not_count() {
    on_each_database(async |place| {
        let service = place.service().await;
        let (one, two) = (dispatcher(&service, DeskSettings::default()), dispatcher(&service, DeskSettings::default()));
        let levels = DeskSettings::default().service_levels;
        let first = i64::from(levels.medium.first_response_minutes) * MINUTE;
        let resolution = i64::from(levels.medium.resolution_minutes) * MINUTE;
        let late = ticket(&service, "s1", "退款").await;
        let answered = ticket(&service, "s2", "退款").await;
        let waiting = ticket(&service, "s3", "退款").await;
        for id in [&answered, &waiting] {
            service.act(id, "take", json!({ "agent": "小王" })).await.ok();
            service.act(id, "reply", json!({ "agent": "小王", "text": "您好" })).await.ok();
        }
        service.act(&waiting, "wait", json!({ "agent": "小王" })).await.ok();

        assert_eq!(one.check_targets(now()).await.unwrap(), 0);
        assert_eq!(one.check_targets(now() + first * 9 / 10).await.unwrap(), 1, "a warning");
        assert_eq!(two.check_targets(now() + first * 9 / 10).await.unwrap(), 0, "told already");
        assert_eq!(two.check_targets(now() + first + MINUTE).await.unwrap(), 1, "a breach");
        let ticket = read(&service, &late).await;
        assert_eq!(ticket["priority"], "high", "what is late comes sooner");
        let told: Vec<(Value, Value)> = ticket["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["kind"] == "service_level")
            .map(|event| (event["data"]["target"].clone(), event["data"]["state"].clone()))
            .collect();
        assert_eq!(told, [(json!("first_response"), json!("warning")), (json!("first_response"), json!("breached"))]);

        one.check_targets(now() + resolution + MINUTE).await.unwrap();
        let mut breached = BTreeMap::new();
        for (name, id) in [("late", &late), ("answered", &answered), ("waiting", &waiting)] {
            breached.insert(name, count(&read(&service, id).await, "service_level"));
        }
        assert!(breached["late"] >= 3 && breached["answered"] == 1, "{breached:?}");
        assert_eq!(breached["waiting"], 0, "the clock stood still");
        assert_eq!(two.check_targets(now() + resolution + MINUTE).await.unwrap(), 0, "a restart tells nothing twice");
    })
    .await;
}

#[tokio::test]
async fn who_works_at_the_desk_is_checked() {
    on_each_database(async |place| {
        let service = place.service().await;
        let put = async |body: Value| service.send(with_body("PUT", "/v1/desk/agents/小王", body.to_string())).await;
        put(json!({ "team": "售后", "capacity": 0 })).await.refuses("capacity");
        put(json!({ "team": "", "capacity": 2 })).await.refuses("team");
        put(json!({ "team": "售后", "capacity": 2, "skills": { "退款": 4 } })).await.refuses("skills.退款");
        put(json!({ "team": "售后", "capacity": 2, "shift": "夜班" })).await.refuses("shift");
        let body = json!({ "presence": "online", "agent": "小王" }).to_string();
        let unknown = service.send(with_body("PUT", "/v1/me/presence", body)).await;
        assert_eq!(unknown.refusal(), (404, "agent_not_found".to_owned()));
        put(json!({ "team": "售后", "capacity": 2 })).await.ok();
        assert_eq!(service.get("/v1/desk/agents").await.ok()["agents"][0]["presence"], "offline");
        presence(&service, "小王", "online").await;
        put(json!({ "team": "售前", "capacity": 3 })).await.ok();
        let listed = service.get("/v1/desk/agents").await.ok()["agents"][0].clone();
        assert_eq!((&listed["team"], &listed["presence"]), (&json!("售前"), &json!("online")), "presence stays");
        let gone = service.send(crate::support::request("DELETE", "/v1/desk/agents/%E5%B0%8F%E7%8E%8B")).await;
        assert_eq!(gone.status, 204);
        assert_eq!(service.get("/v1/desk/agents").await.ok()["agents"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn help_with_an_answer_knows_the_knowledge_the_mood_and_what_helped_before() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        let solved = ticket(&service, "old", "退货").await;
        service.act(&solved, "take", json!({ "agent": "小王" })).await.ok();
        service.act(&solved, "resolve", json!({ "agent": "小王", "note": "已补发" })).await.ok();
        let open = ticket(&service, "s", "退货").await;
        service.chat("s", "怎么申请退货？").await;
        let help = service.get(&format!("/v1/tickets/{open}/assist")).await.ok();
        assert_eq!(help["suggestions"][0]["knowledge_id"], "k-return", "{help}");
        assert_eq!(help["mood"].as_array().unwrap().len(), 2);
        assert_eq!((&help["similar"][0]["ticket_id"], &help["similar"][0]["note"]), (&json!(solved), &json!("已补发")));
        service.act(&open, "take", json!({ "agent": "小王" })).await.ok();
        let used = json!({ "knowledge_id": "k-return", "edited": true });
        service.act(&open, "reply", json!({ "agent": "小王", "text": "好的", "suggestion": used })).await.ok();
        let story = read(&service, &open).await;
        assert_eq!(story["events"].as_array().unwrap().last().unwrap()["data"]["suggestion"], used);
    })
    .await;
}
