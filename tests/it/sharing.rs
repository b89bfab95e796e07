//! Outside organisations: what is shared with one is what it sees, and nothing else is there. On both databases.

use serde_json::{Value, json};
use yingda::{
    auth::{self, Role},
    users::NewUser,
};

use crate::{
    attachments::{PNG, named, upload},
    desk::agrees,
    support::{Answer, Place, Service, on_each_database, request, with_body},
    users::{Browser, PASSWORD, closed, sql, with},
};

/// Somebody with a key.
#[derive(Clone)]
pub(crate) struct Holder {
    service: Service,
    pub(crate) bearer: String,
}

impl Holder {
    pub(crate) async fn new(service: &Service, name: &str, role: Role) -> Self {
        let (_, key) = auth::create_key(service.state.storage(), name, role).await.unwrap();
        Self { service: service.clone(), bearer: format!("Bearer {key}") }
    }

    pub(crate) async fn outside(service: &Service, name: &str, organisation: &str) -> Self {
        let made = auth::create_outside_key(service.state.storage(), name, organisation).await.unwrap();
        Self { service: service.clone(), bearer: format!("Bearer {}", made.unwrap().1) }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.service.send(with(request("GET", path), "authorization", &self.bearer)).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        self.service.send(with(with_body(method, path, body.to_string()), "authorization", &self.bearer)).await
    }

    pub(crate) async fn act(&self, ticket: &str, action: &str, body: Value) -> Answer {
        self.send("POST", &format!("/v1/tickets/{ticket}/{action}"), body).await
    }

    async fn file(&self, path: &str, name: &str, content: &[u8]) -> Answer {
        let request = upload(&named(path, name), "application/octet-stream", content.to_vec());
        self.service.send(with(request, "authorization", &self.bearer)).await
    }

    async fn found(&self, words: &str) -> usize {
        let encoded: String = words.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let page = self.get(&format!("/v1/tickets/search?q={encoded}")).await.ok();
        page["found"].as_array().unwrap().len()
    }

    async fn listed(&self) -> Vec<String> {
        let page = self.get("/v1/tickets").await.ok();
        page["tickets"].as_array().unwrap().iter().map(|ticket| string(&ticket["ticket_id"])).collect()
    }
}

pub(crate) fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The house with a courier outside it.
pub(crate) struct House {
    pub(crate) service: Service,
    pub(crate) gateway: Holder,
    pub(crate) wang: Holder,
    pub(crate) boss: Holder,
    pub(crate) courier: String,
    pub(crate) zhang: Holder,
}

impl House {
    pub(crate) async fn new(place: &Place) -> Self {
        let service = closed(place).await;
        let boss = Holder::new(&service, "主管", Role::Admin).await;
        let made = boss.send("POST", "/v1/organisations", json!({ "name": "安达快递", "team": "快递核查" })).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let courier = string(&made.ok()["organisation_id"]);
        Self {
            gateway: Holder::new(&service, "网关", Role::Caller).await,
            wang: Holder::new(&service, "小王", Role::Agent).await,
            zhang: Holder::outside(&service, "安达老张", &courier).await,
            boss,
            courier,
            service,
        }
    }

    pub(crate) async fn say(&self, session: &str, text: &str) -> Value {
        let message =
            json!({ "session_id": session, "user_id": "U-1001", "profile": { "住址": "梧桐路" }, "text": text });
        self.gateway.send("POST", "/v1/chat", message).await.ok()
    }

    /// A session that was handed over, and its ticket.
    pub(crate) async fn ticket(&self, session: &str) -> String {
        self.say(session, "我的杯子碎了").await;
        string(&self.say(session, "转人工").await["ticket_id"])
    }

    async fn share(&self, ticket: &str, sees: &str) {
        let body = json!({ "organisation": self.courier, "sees": sees });
        self.boss.act(ticket, "shares", body).await.ok();
    }
}

fn kinds(story: &Value) -> Vec<String> {
    story["events"].as_array().unwrap().iter().map(|event| string(&event["kind"])).collect()
}

fn texts(story: &Value) -> Vec<String> {
    story["turns"].as_array().unwrap().iter().map(|turn| string(&turn["text"])).collect()
}

fn not_found(answer: &Answer) {
    assert_eq!(answer.refusal(), (404, "ticket_not_found".to_owned()), "{}", answer.text());
}

#[tokio::test]
async fn an_organisation_sees_what_was_shared_and_nothing_else() {
    on_each_database(async |place| {
        let house = House::new(place).await;
        let House { gateway, wang, boss, zhang, courier, service, .. } = &house;
        let (ticket, secret) = (house.ticket("session-of-liu").await, house.ticket("session-of-sun").await);
        let early = gateway.file("/v1/sessions/session-of-liu/attachments", "早.png", PNG).await.ok();
        assert_eq!(zhang.listed().await, Vec::<String>::new());
        not_found(&zhang.get(&format!("/v1/tickets/{ticket}")).await);

        wang.act(&ticket, "take", json!({})).await.ok();
        wang.act(&ticket, "notes", json!({ "text": "这位是老主顾" })).await.ok();
        wang.act(&ticket, "notes", json!({ "text": "请两天内回复", "for": "both" })).await.ok();
        wang.act(&ticket, "notes", json!({ "text": "好", "for": "all" })).await.refuses("for");
        let amended = json!({ "tags": ["老客户"], "fields": { "备注": "急" }, "category": "物流查询" });
        wang.send("PATCH", &format!("/v1/tickets/{ticket}"), amended).await.ok();
        wang.act(&ticket, "transfer", json!({ "team": "快递核查", "reason": "请核查破损" })).await.ok();

        // What is seen: the ticket without the customer, nothing that was said before, and no note of the house.
        assert_eq!(zhang.listed().await, [ticket.as_str()]);
        let seen = zhang.get(&format!("/v1/tickets/{ticket}")).await;
        for hidden in ["session-of-liu", "U-1001", "梧桐路", "杯子", "老主顾", "老客户", "急", "早.png"] {
            assert!(!seen.text().contains(hidden), "{hidden} is seen: {}", seen.text());
        }
        let seen = seen.ok();
        assert_eq!((&seen["category"], &seen["team"]), (&json!("物流查询"), &json!("快递核查")));
        assert_eq!((texts(&seen), kinds(&seen)), (vec![], vec!["note".to_owned(), "transferred".to_owned()]));
        let told = &seen["events"][1]["data"];
        assert_eq!((&told["organisation"], &told["sees"]), (&json!(courier), &json!("conversation")));
        let shares = &wang.get(&format!("/v1/tickets/{ticket}")).await.ok()["shares"];
        assert_eq!((&shares[0]["name"], &shares[0]["sees"]), (&json!("安达快递"), &json!("conversation")));

        // From then on they work with it, and both sides read what is meant for both.
        house.say("session-of-liu", "快递员没有来过").await;
        let late = gateway.file("/v1/sessions/session-of-liu/attachments", "晚.png", PNG).await.ok();
        zhang.act(&ticket, "take", json!({ "agent": "小王" })).await.ok();
        zhang.act(&ticket, "notes", json!({ "text": "司机漏送了" })).await.ok();
        zhang.act(&ticket, "notes", json!({ "text": "明天补送", "for": "both" })).await.ok();
        zhang.act(&ticket, "reply", json!({ "text": "您好，明天上午补送。" })).await.ok();
        let own =
            zhang.file(&format!("/v1/tickets/{ticket}/attachments?inside=true"), "司机.txt", b"inside").await.ok();
        let theirs =
            wang.file(&format!("/v1/tickets/{ticket}/attachments?inside=true"), "小王.txt", b"inside").await.ok();
        let seen = zhang.get(&format!("/v1/tickets/{ticket}")).await.ok();
        assert_eq!(texts(&seen), ["快递员没有来过", "[图片]", "您好，明天上午补送。"]);
        assert_eq!(seen["assignee"], "安达老张", "a key from outside speaks for nobody else");
        assert_eq!(kinds(&seen), ["note", "transferred", "taken", "note", "note", "agent_reply", "note"]);
        let known = wang.get(&format!("/v1/tickets/{ticket}")).await;
        assert!(known.text().contains("明天补送") && !known.text().contains("司机"), "{}", known.text());
        assert_eq!(gateway.get("/v1/sessions/session-of-liu").await.ok()["owner_agent"], "安达老张");

        // Files go with their turns and notes.
        let id = |answer: &Value| string(&answer["attachment"]["id"]);
        for (file, zhang_sees, wang_sees) in
            [(&early, 404, 200), (&late, 200, 200), (&own, 200, 404), (&theirs, 404, 200)]
        {
            let path = format!("/v1/attachments/{}", id(file));
            assert_eq!(
                (zhang.get(&path).await.status, wang.get(&path).await.status),
                (zhang_sees, wang_sees),
                "{file}"
            );
        }

        // The search finds what is seen.
        for (words, zhang_finds, wang_finds) in [
            ("杯子", 0, 2),
            ("没有来过", 1, 1),
            ("老主顾", 0, 1),
            ("漏送", 1, 0),
            ("两天内", 1, 1),
            ("老客户", 0, 1),
            ("物流查询", 1, 1),
        ] {
            assert_eq!((zhang.found(words).await, wang.found(words).await), (zhang_finds, wang_finds), "{words}");
        }
        for filter in ["user_id=U-1001", "session_id=session-of-liu"] {
            zhang.get(&format!("/v1/tickets?{filter}")).await.refuses(filter.split('=').next().unwrap());
        }
        let assist = zhang.get(&format!("/v1/tickets/{ticket}/assist")).await.ok();
        assert_eq!((&assist["similar"], assist["mood"].as_array().unwrap().len()), (&json!([]), 1));
        zhang.send("PATCH", &format!("/v1/tickets/{ticket}"), json!({ "tags": [] })).await.refuses("fields");
        zhang.send("PATCH", &format!("/v1/tickets/{ticket}"), json!({ "priority": "high" })).await.ok();

        // What is not shared is not there, whatever is tried: as if the id had been made up.
        let unknown = uuid::Uuid::now_v7().to_string();
        for id in [&secret, &unknown] {
            for action in ["take", "return", "wait", "resolve", "close", "reopen"] {
                not_found(&zhang.act(id, action, json!({})).await);
            }
            not_found(&zhang.act(id, "reply", json!({ "text": "您好" })).await);
            not_found(&zhang.act(id, "notes", json!({ "text": "好" })).await);
            not_found(&zhang.act(id, "transfer", json!({ "team": "快递核查" })).await);
            not_found(&zhang.act(id, "assign", json!({ "to": "安达老张" })).await);
            not_found(&zhang.act(id, "merge", json!({ "into": ticket })).await);
            not_found(&zhang.act(&ticket, "merge", json!({ "into": id })).await);
            not_found(&zhang.act(id, "links", json!({ "ticket_id": ticket })).await);
            not_found(&zhang.act(&ticket, "links", json!({ "ticket_id": id })).await);
            not_found(&zhang.get(&format!("/v1/tickets/{id}")).await);
            not_found(&zhang.get(&format!("/v1/tickets/{id}/assist")).await);
            not_found(&zhang.send("PATCH", &format!("/v1/tickets/{id}"), json!({ "priority": "low" })).await);
            not_found(&zhang.file(&format!("/v1/tickets/{id}/attachments"), "a.png", PNG).await);
        }
        wang.act(&ticket, "links", json!({ "ticket_id": secret })).await.ok();
        let seen = zhang.get(&format!("/v1/tickets/{ticket}")).await;
        assert!(!seen.text().contains(&secret) && seen.ok()["links"] == json!([]), "{}", seen.text());
        let path = format!("/v1/tickets/{ticket}/shares");
        let refused = zhang.send("POST", &path, json!({ "organisation": courier, "sees": "everything" })).await;
        assert_eq!(refused.refusal(), (403, "outside".to_owned()), "nobody shares with themselves");

        // Taken back, it is gone, and nobody outside has it any more.
        let path = format!("{path}/{courier}");
        assert_eq!(wang.send("DELETE", &path, json!({})).await.refusal(), (403, "not_assignee".to_owned()));
        let back = boss.send("DELETE", &path, json!({})).await.ok();
        assert_eq!((&back["status"], back.get("team"), back.get("assignee")), (&json!("new"), None, None));
        not_found(&zhang.get(&format!("/v1/tickets/{ticket}")).await);
        not_found(&zhang.act(&ticket, "take", json!({})).await);
        assert_eq!((zhang.listed().await.len(), zhang.found("没有来过").await), (0, 0));
        assert_eq!(zhang.get(&format!("/v1/attachments/{}", id(&late))).await.status, 404);
        let again = boss.send("DELETE", &path, json!({})).await;
        assert_eq!(again.refusal(), (404, "organisation_not_found".to_owned()));
        let stored = service.state.storage().ticket(&ticket).await.unwrap().unwrap();
        agrees(service.state.storage(), &stored).await;
    })
    .await;
}

#[tokio::test]
async fn how_much_is_seen_is_said_with_the_share() {
    on_each_database(async |place| {
        let house = House::new(place).await;
        let House { wang, zhang, .. } = &house;
        let ticket = house.ticket("s").await;
        wang.send("PATCH", &format!("/v1/tickets/{ticket}"), json!({ "tags": ["老客户"] })).await.ok();
        wang.act(&ticket, "notes", json!({ "text": "这位是老主顾" })).await.ok();
        let story = async || zhang.get(&format!("/v1/tickets/{ticket}")).await.ok();

        house.share(&ticket, "summary").await;
        house.say("s", "在吗").await;
        let seen = story().await;
        assert_eq!((texts(&seen), kinds(&seen), &seen["tags"]), (vec![], vec!["shared".to_owned()], &json!([])));
        assert_eq!((&seen["reason"], seen.get("sentiment")), (&json!("person_requested"), None));
        assert_eq!(zhang.found("在吗").await, 0);

        house.share(&ticket, "conversation").await;
        assert_eq!(texts(&story().await), ["在吗"], "from the first sharing on");
        house.share(&ticket, "everything").await;
        let seen = story().await;
        assert_eq!((texts(&seen)[0].as_str(), &seen["tags"]), ("我的杯子碎了", &json!(["老客户"])));
        assert_eq!(kinds(&seen), ["opened", "amended", "shared", "customer_message", "shared", "shared"]);

        // What the customer says after the ticket is done is not theirs to read.
        wang.act(&ticket, "take", json!({})).await.ok();
        wang.act(&ticket, "resolve", json!({ "note": "赔了一个杯子" })).await.ok();
        house.say("s", "另外一件事").await;
        let seen = story().await;
        assert_eq!(texts(&seen).last().map(String::as_str), Some("在吗"), "{seen}");
        assert!(!seen.to_string().contains("赔了"), "{seen}");
        let next = string(&house.say("s", "转人工").await["ticket_id"]);
        let refused = zhang.act(&ticket, "reopen", json!({})).await;
        assert_eq!(refused.refusal(), (409, "ticket_open".to_owned()));
        assert!(!refused.text().contains(&next), "the other ticket is not theirs: {}", refused.text());
        // Nor what was said before it began again.
        wang.act(&next, "take", json!({})).await.ok();
        house.say("s", "私下告诉你们一件事").await;
        wang.act(&next, "resolve", json!({})).await.ok();
        wang.act(&ticket, "reopen", json!({})).await.ok();
        house.say("s", "杯子又碎了").await;
        let seen = texts(&story().await);
        let last: Vec<&str> = seen.iter().rev().take(2).map(String::as_str).collect();
        assert_eq!(last, ["杯子又碎了", "在吗"], "{seen:?}");
        house
            .boss
            .act(&ticket, "shares", json!({ "organisation": house.courier, "sees": "all" }))
            .await
            .refuses("sees");
        let nobody = json!({ "organisation": uuid::Uuid::now_v7() });
        let refused = house.boss.act(&ticket, "shares", nobody).await.refusal();
        assert_eq!(refused, (404, "organisation_not_found".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn nobody_is_given_what_they_cannot_see() {
    on_each_database(async |place| {
        let house = House::new(place).await;
        let House { wang, boss, zhang, service, .. } = &house;
        let factory = json!({ "name": "杯子工厂", "team": "工厂" });
        let factory = string(&boss.send("POST", "/v1/organisations", factory).await.ok()["organisation_id"]);
        let worker = Holder::outside(service, "工厂老李", &factory).await;
        let ticket = house.ticket("s").await;
        wang.act(&ticket, "take", json!({})).await.ok();
        wang.act(&ticket, "assign", json!({ "to": "安达老张" })).await.refuses("to");
        wang.act(&ticket, "transfer", json!({ "team": "售后", "sees": "everything" })).await.refuses("sees");
        wang.act(&ticket, "transfer", json!({ "team": "快递核查", "sees": "everything" })).await.ok();
        zhang.act(&ticket, "take", json!({})).await.ok();
        zhang.act(&ticket, "assign", json!({ "to": "小王" })).await.refuses("to");
        zhang.act(&ticket, "transfer", json!({ "team": "工厂" })).await.refuses("team");
        zhang.act(&ticket, "transfer", json!({ "team": "售后", "sees": "summary" })).await.refuses("sees");
        not_found(&worker.get(&format!("/v1/tickets/{ticket}")).await);
        zhang.act(&ticket, "transfer", json!({ "team": "售后", "reason": "已核查" })).await.ok();
        assert_eq!(texts(&zhang.get(&format!("/v1/tickets/{ticket}")).await.ok())[0], "我的杯子碎了", "still shared");

        // Another partner sees nothing of the first one.
        wang.act(&ticket, "take", json!({})).await.ok();
        wang.act(&ticket, "transfer", json!({ "team": "工厂", "sees": "everything" })).await.ok();
        let seen = worker.get(&format!("/v1/tickets/{ticket}")).await;
        assert!(!seen.text().contains("安达") && !seen.text().contains("快递核查"), "{}", seen.text());

        for (body, code) in [
            (json!({ "name": "安达快递", "team": "另一队" }), (409, "organisation_taken".to_owned())),
            (json!({ "name": "另一家", "team": "工厂" }), (409, "organisation_taken".to_owned())),
            (json!({ "name": " ", "team": "x" }), (422, "invalid_field".to_owned())),
        ] {
            assert_eq!(boss.send("POST", "/v1/organisations", body).await.refusal(), code);
        }
        let renamed =
            boss.send("PATCH", &format!("/v1/organisations/{factory}"), json!({ "name": "陶瓷厂" })).await.ok();
        assert_eq!((&renamed["name"], &renamed["team"]), (&json!("陶瓷厂"), &json!("工厂")));
    })
    .await;
}

#[tokio::test]
async fn people_outside_are_agents_and_never_more() {
    on_each_database(async |place| {
        let house = House::new(place).await;
        let House { boss, courier, service, .. } = &house;
        let account = |role: &str, organisation: &str| {
            json!({ "login": "zhang", "name": "老张", "role": role, "organisation": organisation, "password": PASSWORD })
        };
        boss.send("POST", "/v1/users", account("supervisor", courier)).await.refuses("role");
        boss.send("POST", "/v1/users", account("agent", "x")).await.refuses("organisation");
        let made = boss.send("POST", "/v1/users", account("agent", courier)).await.ok();
        assert_eq!((&made["organisation"], &made["team"]), (&json!(courier), &json!("快递核查")));
        let path = format!("/v1/users/{}", string(&made["user_id"]));
        boss.send("PATCH", &path, json!({ "role": "admin" })).await.refuses("role");
        let key = json!({ "name": "k", "role": "supervisor", "organisation": courier });
        boss.send("POST", "/v1/admin/keys", key).await.refuses("role");

        let browser = Browser::new(service, "zhang").await;
        let me = browser.get("/v1/me").await.ok();
        assert_eq!((&me["role"], &me["organisation"]["name"]), (&json!("agent"), &json!("安达快递")));
        // Whoever changes the database by hand makes nobody more than that.
        sql(place, "UPDATE users SET role = 'admin' WHERE organisation IS NOT NULL").await;
        assert_eq!(browser.get("/v1/users").await.refusal(), (403, "forbidden".to_owned()));
        assert_eq!(browser.get("/v1/knowledge/entries").await.refusal(), (403, "outside".to_owned()));
        sql(place, "UPDATE users SET role = 'agent' WHERE organisation IS NOT NULL").await;

        // Who changes sides is logged out.
        let inside = NewUser {
            login: "li".into(),
            name: "小李".into(),
            role: Role::Agent,
            team: None,
            password: PASSWORD.into(),
        };
        let id = service.state.users().create(inside, yingda::storage::now()).await.unwrap().id;
        let li = Browser::new(service, "li").await;
        boss.send("PATCH", &format!("/v1/users/{id}"), json!({ "organisation": courier })).await.ok();
        Browser::is_refused(&li.get("/v1/tickets").await);
        let back = boss.send("PATCH", &format!("/v1/users/{id}"), json!({ "organisation": "" })).await.ok();
        assert!(back.get("organisation").is_none());
        boss.send("PATCH", &format!("/v1/users/{id}"), json!({ "role": "supervisor" })).await.ok();
        boss.send("PATCH", &format!("/v1/users/{id}"), json!({ "organisation": courier })).await.refuses("role");
    })
    .await;
}

/// A ticket is taken back while somebody outside writes on it: nothing of theirs stands behind the moment in which it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_at_the_same_moment_is_gone_from_that_moment() {
    on_each_database(async |place| {
        let house = House::new(place).await;
        for round in 0..6 {
            let ticket = house.ticket(&format!("s{round}")).await;
            house.share(&ticket, "everything").await;
            let mut running = tokio::task::JoinSet::new();
            for number in 0..6 {
                let (zhang, ticket) = (house.zhang.clone(), ticket.clone());
                running.spawn(async move {
                    zhang.act(&ticket, "notes", json!({ "text": format!("第 {number} 条") })).await.status
                });
            }
            let path = format!("/v1/tickets/{ticket}/shares/{}", house.courier);
            house.boss.send("DELETE", &path, json!({})).await.ok();
            let statuses = running.join_all().await;
            assert!(statuses.iter().all(|status| [200, 404].contains(status)), "{statuses:?}");
            let events = house.service.state.storage().ticket_events(&ticket).await.unwrap();
            let back = events.iter().position(|event| event.kind == "unshared").unwrap();
            let late = events[back..].iter().filter(|event| event.kind == "note").count();
            assert_eq!(late, 0, "round {round}: {events:?}");
            let kept = events.iter().filter(|event| event.kind == "note").count();
            let done = statuses.iter().filter(|status| **status == 200).count();
            // One may have been kept and its answer no more allowed to show the ticket.
            assert!(kept >= done, "round {round}: {kept} {done}");
        }
    })
    .await;
}
