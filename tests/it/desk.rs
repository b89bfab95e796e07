//! The desk: what people do with tickets, on both databases.

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value, json};
use yingda::{
    desk::{Actor, Desk, Move, Status, Ticket, replay},
    storage::{Owner, Storage},
};

use crate::support::{Service, on_each_database};

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

async fn story(service: &Service, ticket: &str) -> Value {
    service.get(&format!("/v1/tickets/{ticket}")).await.ok()
}

fn kinds(story: &Value) -> Vec<String> {
    story["events"].as_array().unwrap().iter().map(|event| string(&event["kind"])).collect()
}

/// A session that was handed over, and its ticket.
async fn handed_over(service: &Service, session: &str, user: &str) -> String {
    let message = json!({ "session_id": session, "user_id": user, "text": "人工" });
    string(&service.post("/v1/chat", message).await.ok()["ticket_id"])
}

/// What a ticket's history tells is what the ticket is.
pub(crate) async fn agrees(storage: &Storage, ticket: &Ticket) {
    let events = storage.ticket_events(&ticket.id).await.unwrap();
    let afters: Vec<Map<String, Value>> = events.iter().map(|event| event.after.clone()).collect();
    assert_eq!(replay(&afters), ticket.told(), "{events:?}");
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=events.len() as i64).collect::<Vec<_>>(), "no event is lost or doubled");
    // And each event begins where the ones before it ended.
    let mut told = Map::new();
    for event in events {
        for (name, value) in &event.before {
            assert_eq!(told.get(name).unwrap_or(&Value::Null), value, "{name} of {}", event.kind);
        }
        told.extend(event.after);
    }
}

#[tokio::test]
async fn a_ticket_goes_through_its_whole_life() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        let wang = json!({ "agent": "小王" });
        let ticket = handed_over(&service, "s", "u").await;

        service.act(&ticket, "take", wang.clone()).await.ok();
        service.act(&ticket, "reply", json!({ "agent": "小王", "text": "请发一下订单号" })).await.ok();
        let waiting = service.act(&ticket, "wait", json!({ "agent": "小王", "reason": "等订单号" })).await.ok();
        assert_eq!(waiting["status"], "waiting_customer");
        let said = service.chat("s", "订单号是 2026").await;
        assert_eq!((&said["decision"], &said["ticket_id"]), (&json!("silent"), &json!(ticket)));
        assert_eq!(story(&service, &ticket).await["status"], "in_progress", "the customer has answered");

        let moved = service
            .act(&ticket, "transfer", json!({ "agent": "小王", "team": "售后", "reason": "要退款，电话 13812345678" }))
            .await
            .ok();
        assert_eq!((&moved["status"], &moved["team"], moved.get("assignee")), (&json!("new"), &json!("售后"), None));
        assert!(service.session("s").await.get("owner_agent").is_none(), "nobody has it, and the bot is still silent");
        assert_eq!(service.chat("s", "在吗").await["decision"], "silent");

        let offered = service.act(&ticket, "assign", json!({ "to": "小李" })).await.ok();
        assert_eq!((&offered["assignee"], &offered["accepted"]), (&json!("小李"), &json!(false)));
        let theirs = (403, "not_assignee".to_owned());
        let words = json!({ "agent": "小王", "text": "我来吧" });
        assert_eq!(service.act(&ticket, "reply", words).await.refusal(), theirs);
        let li = json!({ "agent": "小李" });
        assert_eq!(service.act(&ticket, "take", li.clone()).await.ok()["accepted"], true);
        service.act(&ticket, "reply", json!({ "agent": "小李", "text": "已为您退款" })).await.ok();
        service.act(&ticket, "notes", json!({ "agent": "小李", "text": "客户电话 13812345678" })).await.ok();

        let early = service.act(&ticket, "rating", json!({ "score": 5 })).await;
        assert_eq!(early.refusal(), (409, "not_rated".to_owned()));
        service.act(&ticket, "resolve", li.clone()).await.ok();
        assert_eq!(service.chat("s", "你好").await["decision"], "reply", "the bot serves again");
        let rating = json!({ "score": 4, "reasons": ["态度好", "态度好"], "comment": "回电 13812345678 就更好了" });
        let rated = service.act(&ticket, "rating", rating.clone()).await.ok();
        assert_eq!((&rated["score"], &rated["reasons"]), (&json!(4), &json!(["态度好"])));
        assert_eq!(service.act(&ticket, "rating", rating).await.refusal(), (409, "not_rated".to_owned()));
        service.act(&ticket, "close", json!({})).await.ok();

        let story = story(&service, &ticket).await;
        assert_eq!(
            kinds(&story),
            [
                "opened",
                "taken",
                "agent_reply",
                "waiting",
                "customer_message",
                "transferred",
                "customer_message",
                "assigned",
                "accepted",
                "agent_reply",
                "note",
                "resolved",
                "rated",
                "closed"
            ]
        );
        let transferred = &story["events"][5];
        assert_eq!(
            transferred["before"],
            json!({ "status": "in_progress", "team": null, "assignee": "小王", "accepted": true })
        );
        assert_eq!(
            transferred["after"],
            json!({ "status": "new", "team": "售后", "assignee": null, "accepted": false })
        );
        assert!(string(&transferred["reason"]).contains("要退款"));
        assert!(!story.to_string().contains("13812345678"), "personal data is masked everywhere");
        assert_eq!(story["rating"]["score"], 4);
        let stored = service.state.storage().ticket(&ticket).await.unwrap().unwrap();
        agrees(service.state.storage(), &stored).await;
    })
    .await;
}

/// What a person writes reaches the customer as it is, for a month, and is masked everywhere else.
#[tokio::test]
async fn who_needs_nobody_any_more_calls_it_off_before_somebody_has_taken_it() {
    on_each_database(async |place| {
        let service = place.service().await;
        let ticket = handed_over(&service, "s", "u").await;
        assert_eq!(service.chat("s", "在吗").await["decision"], "silent");
        let message = json!({ "session_id": "s", "message_id": "off", "text": "算了，不用了！" });
        let off = service.post("/v1/chat", message.clone()).await.ok();
        assert_eq!(
            (&off["decision"], &off["reason"], &off["ticket_id"]),
            (&json!("reply"), &json!("called_off"), &json!(ticket))
        );
        assert!(off["reply"].as_str().unwrap().contains("已经取消转接人工"), "{off}");
        assert_eq!(service.post("/v1/chat", message).await.ok()["reply_seq"], off["reply_seq"], "once");
        let closed = story(&service, &ticket).await;
        assert_eq!(closed["status"], "closed");
        assert_eq!(kinds(&closed), ["opened", "customer_message", "closed"]);
        assert_eq!(service.session("s").await["owner"], "bot");
        assert_ne!(service.chat("s", "你好").await["decision"], "silent", "the bot serves again");
        assert_ne!(handed_over(&service, "s", "u").await, ticket, "a new wish, a new ticket");
        let again = service.act(&ticket, "reopen", json!({})).await.refusal();
        assert_eq!(again, (409, "ticket_open".to_owned()));

        // What a person has taken up, and what a person must look at, goes on.
        let taken = handed_over(&service, "taken", "v").await;
        service.act(&taken, "take", json!({ "agent": "小王" })).await.ok();
        assert_eq!(service.chat("taken", "不用了").await["decision"], "silent");
        assert_eq!(service.chat("threat", "我要打12315").await["reason"], "handoff_word");
        assert_eq!(service.chat("threat", "不用了").await["decision"], "silent");
        handed_over(&service, "worse", "w").await;
        assert_eq!(service.chat("worse", "再不来我打12315").await["decision"], "silent");
        assert_eq!(service.chat("worse", "算了").await["decision"], "silent", "what was said meanwhile counts, too");
        // Where nobody is waited for it is a message like others.
        assert_ne!(service.chat("nobody", "不用了").await["reason"], "called_off");
    })
    .await;
}

#[tokio::test]
async fn the_customer_reads_what_was_written() {
    on_each_database(async |place| {
        let service = place.service().await;
        let ticket = handed_over(&service, "s", "u").await;
        service.act(&ticket, "take", json!({ "agent": "小王" })).await.ok();
        let words = "请寄回：浙江省杭州市余杭区文一西路969号，收件人电话13812345678";
        service.act(&ticket, "reply", json!({ "agent": "小王", "text": words })).await.ok();
        let last = async || service.session("s").await["turns"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last().await["text"], words);
        let found = service.get("/v1/tickets/search?q=13812345678").await;
        assert!(!found.text().contains("13812345678"), "{}", found.text());
        let storage = service.state.storage();
        let turns = storage.last_turns("s", 0, 1).await.unwrap();
        assert!(!turns[0].text.contains("13812345678"), "{turns:?}");
        storage.forget_said(yingda::storage::now() + 1).await.unwrap();
        let text = last().await["text"].as_str().unwrap().to_owned();
        assert!(text.starts_with("请寄回") && !text.contains("13812345678"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_form_is_written_down_once_and_wakes_a_ticket_that_waits() {
    on_each_database(async |place| {
        let service = place.service().await;
        let form = json!({ "message_id": "f1", "text": "请给我回电话", "user_id": "u" });
        let first = service.post("/v1/tickets", form.clone()).await.ok();
        let again = service.post("/v1/tickets", form).await.ok();
        assert_eq!((&first["ticket_id"], &first["session_id"]), (&again["ticket_id"], &again["session_id"]));
        let session = string(&first["session_id"]);
        assert_eq!(service.session(&session).await["turns"].as_array().unwrap().len(), 1);
        let ticket = string(&first["ticket_id"]);
        service.act(&ticket, "take", json!({ "agent": "小王" })).await.ok();
        service.act(&ticket, "wait", json!({ "agent": "小王" })).await.ok();
        let urgent = json!({ "session_id": session, "text": "很急", "priority": "urgent" });
        let woken = service.post("/v1/tickets", urgent).await.ok();
        assert_eq!((&woken["status"], &woken["priority"]), (&json!("in_progress"), &json!("urgent")));
    })
    .await;
}

#[tokio::test]
async fn what_was_done_can_begin_again_once() {
    on_each_database(async |place| {
        let service = place.service().await;
        let first = handed_over(&service, "s", "u").await;
        service.act(&first, "take", json!({ "agent": "小王" })).await.ok();
        service.act(&first, "resolve", json!({ "agent": "小王" })).await.ok();
        let second = handed_over(&service, "s", "u").await;
        assert_ne!(first, second);
        assert_eq!(service.act(&first, "reopen", json!({})).await.refusal(), (409, "ticket_open".to_owned()));
        assert_eq!(story(&service, &first).await["status"], "resolved", "nothing was changed");
        service.act(&second, "take", json!({ "agent": "小李" })).await.ok();
        service.act(&second, "resolve", json!({ "agent": "小李" })).await.ok();
        let again = service.act(&first, "reopen", json!({ "reason": "又坏了" })).await.ok();
        assert_eq!((&again["status"], &again["reopened"]), (&json!("new"), &json!(1)));
        assert!(again.get("resolved_at").is_none());
        assert_eq!(service.chat("s", "你好").await["decision"], "silent");
    })
    .await;
}

#[tokio::test]
async fn tickets_of_one_customer_are_merged_and_others_are_not() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        let (web, phone) = (handed_over(&service, "web", "u").await, handed_over(&service, "phone", "u").await);
        let (other, nobody) = (handed_over(&service, "other", "v").await, service.chat("nobody", "人工").await);
        let refused = (409, "not_together".to_owned());
        for into in [&other, &web, &string(&nobody["ticket_id"])] {
            assert_eq!(service.act(&web, "merge", json!({ "into": into })).await.refusal(), refused);
        }
        let merged = service.act(&web, "merge", json!({ "into": phone, "reason": "同一件事" })).await.ok();
        assert_eq!((&merged["status"], &merged["merged_into"]), (&json!("merged"), &json!(phone)));
        assert_eq!(kinds(&story(&service, &phone).await), ["opened", "merged_here"]);
        assert_eq!(service.chat("web", "你好").await["decision"], "reply");
        assert_eq!(service.chat("phone", "你好").await["decision"], "silent");
        for action in ["take", "reopen", "close"] {
            assert_eq!(
                service.act(&web, action, json!({})).await.refusal(),
                (409, "ticket_state".to_owned()),
                "{action}"
            );
        }
        // Both ways at once: one of them comes too late, and neither hangs.
        let (one, two) = (handed_over(&service, "one", "w").await, handed_over(&service, "two", "w").await);
        let (a, b) = tokio::join!(
            service.act(&one, "merge", json!({ "into": two })),
            service.act(&two, "merge", json!({ "into": one }))
        );
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
        let linked = service.act(&phone, "links", json!({ "ticket_id": other })).await.ok();
        assert_eq!(linked["ticket_id"], phone);
        assert_eq!(story(&service, &other).await["links"], json!([phone]));
        service.act(&other, "links", json!({ "ticket_id": phone })).await.ok();
        assert_eq!(kinds(&story(&service, &other).await), ["opened", "linked"], "a link is made once");
    })
    .await;
}

#[tokio::test]
async fn what_people_put_right_is_kept_to_train_on() {
    on_each_database(async |place| {
        let service = place.service().await;
        let ticket = handed_over(&service, "s", "u").await;
        let path = format!("/v1/tickets/{ticket}");
        let patch = async |body: Value| service.send(crate::support::with_body("PATCH", &path, body.to_string())).await;
        let body = json!({
            "agent": "小王", "priority": "urgent", "category": "退货", "sentiment": "negative", "reason": "客户很急",
            "tags": ["老客户", " 老客户", "大促"], "fields": { "订单数": 3, "备注": "电话 13812345678" },
        });
        let amended = patch(body.clone()).await.ok();
        assert_eq!((&amended["priority"], &amended["category"]), (&json!("urgent"), &json!("退货")));
        assert_eq!((&amended["tags"], &amended["fields"]["订单数"]), (&json!(["老客户", "大促"]), &json!(3)));
        patch(body).await.ok();
        let removed = patch(json!({ "fields": { "订单数": null } })).await.ok();
        assert!(removed["fields"].get("订单数").is_none() && removed["fields"].get("备注").is_some());
        patch(json!({ "fields": { "a": [1] } })).await.refuses("fields.a");
        patch(json!({ "priority": "soon" })).await.refuses("priority");
        patch(json!({ "sentiment": "angry" })).await.refuses("sentiment");
        patch(json!({ "tags": vec!["词"; 21] })).await.refuses("tags");
        patch(json!({ "category": "" })).await.refuses("category");

        let kept = service.get("/v1/corrections").await.ok();
        let of = |field: &str| -> Vec<&Value> {
            kept["corrections"].as_array().unwrap().iter().filter(|correction| correction["field"] == field).collect()
        };
        assert_eq!(of("priority").len(), 1, "what is right already is no correction: {kept}");
        let intent = of("intent")[0];
        assert_eq!(
            (&intent["text"], &intent["is_now"], &intent["author"]),
            (&json!("人工"), &json!("退货"), &json!("小王"))
        );
        assert!(!kept.to_string().contains("13812345678"));
        let stored = service.state.storage().ticket(&ticket).await.unwrap().unwrap();
        agrees(service.state.storage(), &stored).await;
    })
    .await;
}

#[tokio::test]
async fn a_form_opens_a_ticket_and_the_bot_is_silent() {
    on_each_database(async |place| {
        let service = place.service().await;
        let form = json!({ "user_id": "u", "text": "请回电 13812345678，发票开错了", "priority": "high" });
        let opened = service.post("/v1/tickets", form).await;
        assert_eq!(opened.status, 201);
        let opened = opened.ok();
        assert_eq!(
            (&opened["source"], &opened["priority"]),
            (&json!("agent"), &json!("high")),
            "open mode is an admin's"
        );
        let session = string(&opened["session_id"]);
        assert!(!service.session(&session).await.to_string().contains("13812345678"));
        assert_eq!(service.chat(&session, "你好").await["decision"], "silent");
        let more = service.post("/v1/tickets", json!({ "session_id": session, "text": "还有一件事" })).await.ok();
        assert_eq!(more["ticket_id"], opened["ticket_id"], "one open ticket per session");
        service.post("/v1/tickets", json!({ "text": " " })).await.refuses("text");
        service.post("/v1/tickets", json!({ "text": "好", "profile": [] })).await.refuses("profile");
        // A VIP is one whether the form says so or an earlier message did.
        let profile = json!({ "audience": ["VIP"], "phone": "13912345678" });
        let vip = json!({ "session_id": "vip", "text": "请回电", "profile": profile });
        assert_eq!(service.post("/v1/tickets", vip).await.ok()["priority"], "high");
        assert!(!service.session("vip").await.to_string().contains("13912345678"));
        let message = json!({ "session_id": "vip2", "text": "你好", "profile": { "audience": "vip" } });
        service.post("/v1/chat", message).await.ok();
        let form = json!({ "session_id": "vip2", "text": "请回电" });
        assert_eq!(service.post("/v1/tickets", form).await.ok()["priority"], "high");
        let found = service.get("/v1/tickets?user_id=u&status=open&priority=high").await.ok();
        assert_eq!(found["tickets"].as_array().unwrap().len(), 1);
        assert_eq!(service.get("/v1/tickets?user_id=u&status=closed").await.ok()["tickets"], json!([]));
    })
    .await;
}

/// Random moves on a few sessions of one customer: after each, a session has one open ticket at most, belongs to people exactly
/// when it has one, and every history tells what its ticket is. `YINGDA_TEST_SEQUENCES` says how many histories; 40 by itself.
#[tokio::test]
async fn random_moves_keep_the_invariants_in_the_database() {
    let sequences: u64 =
        std::env::var("YINGDA_TEST_SEQUENCES").ok().and_then(|number| number.parse().ok()).unwrap_or(40);
    on_each_database(async |place| {
        let service = place.service().await;
        let storage = service.state.storage().clone();
        let desk = Desk::new(storage.clone());
        let person = |name: &str, manages| Actor {
            name: Some(name.to_owned()),
            key_name: "key".to_owned(),
            key_id: format!("key of {name}"),
            manages,
        };
        let people = [person("小王", false), person("小李", false), person("主管", true), Actor::system()];
        let (mut made, mut refused) = (0, 0);
        for sequence in 0..sequences {
            let mut random = StdRng::seed_from_u64(sequence);
            let sessions = [format!("a{sequence}"), format!("b{sequence}")];
            let user = format!("u{sequence}");
            let mut tickets: Vec<String> = Vec::new();
            for session in &sessions {
                tickets.push(handed_over(&service, session, &user).await);
            }
            for _ in 0..12 {
                let ticket = tickets[random.random_range(0..tickets.len())].clone();
                let other = tickets[random.random_range(0..tickets.len())].clone();
                let actor = &people[random.random_range(0..people.len())];
                let agent = "小李".to_owned();
                let step = match random.random_range(0..13) {
                    0 | 1 => None,
                    2 => Some(Move::Take),
                    3 => Some(Move::Assign { agent }),
                    4 => Some(Move::Return),
                    5 => Some(Move::Transfer { team: "售后".to_owned() }),
                    6 => Some(Move::Wait),
                    7 | 8 => Some(Move::Resolve),
                    9 => Some(Move::Close),
                    10 => Some(Move::Reopen),
                    11 => Some(Move::CallOff),
                    _ => Some(Move::Merge { into: other.clone() }),
                };
                let done = match step {
                    None => {
                        let session = &sessions[random.random_range(0..2)];
                        let ticket = handed_over(&service, session, &user).await;
                        if !tickets.contains(&ticket) {
                            tickets.push(ticket);
                        }
                        true
                    }
                    Some(Move::Take) => desk.take(&ticket, actor).await.is_ok(),
                    Some(Move::Merge { into }) => desk.merge(&ticket, &into, actor, None).await.is_ok(),
                    Some(step) => desk.act(&ticket, step, actor, None, json!({})).await.is_ok(),
                };
                if done {
                    made += 1
                } else {
                    refused += 1
                }
                let mut open = Vec::new();
                for id in &tickets {
                    let ticket = storage.ticket(id).await.unwrap().unwrap();
                    agrees(&storage, &ticket).await;
                    if ticket.status.is_open() {
                        open.push(ticket);
                    }
                }
                for session in &sessions {
                    let open: Vec<&Ticket> = open.iter().filter(|ticket| ticket.session_id == *session).collect();
                    let stored = storage.session(session).await.unwrap().unwrap();
                    assert!(open.len() <= 1, "{open:?}");
                    assert_eq!(stored.owner == Owner::Agent, open.len() == 1, "{stored:?} {open:?}");
                    let assignee = open.first().and_then(|ticket| ticket.assignee.clone());
                    assert_eq!(stored.owner_agent, assignee, "{open:?}");
                    let held = open.first().is_some_and(|ticket| ticket.status != Status::New);
                    assert_eq!(held, assignee.is_some());
                }
            }
        }
        assert!(made > sequences * 3 && refused > sequences, "{made} {refused}");
    })
    .await;
}
