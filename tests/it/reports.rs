//! Reports and search over tickets, on both databases.

use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};
use yingda::storage::{Item, Storage};

use crate::support::{Answer, Service, on_each_database, with_body};

/// 1 January 2025, 00:00 in China.
const MIDNIGHT: i64 = 1_735_660_800_000;
const SECOND: i64 = 1000;
const DAY: i64 = 24 * 3600 * SECOND;

fn text(text: &str) -> Item {
    Item::Text(text.to_owned())
}

fn some(text: Option<&str>) -> Item {
    text.map_or(Item::NoText, |text| Item::Text(text.to_owned()))
}

/// A ticket of the hand-made day.
struct Made {
    number: i64,
    channel: &'static str,
    team: Option<&'static str>,
    agent: Option<&'static str>,
    category: &'static str,
    priority: &'static str,
    reason: &'static str,
    /// Kind, when, and what else there is to tell.
    events: Vec<(&'static str, i64, Value)>,
}

/// A turn: session, when, role, and its intent or decision.
type Said = (i64, i64, &'static str, Option<&'static str>);

fn id(number: i64) -> String {
    format!("00000000-0000-7000-8000-{number:012}")
}

/// The state that each kind of event leads to, for the few that lead to one.
fn state(kind: &str, before: &'static str) -> &'static str {
    match kind {
        "opened" | "reopened" => "new",
        "taken" => "assigned",
        "waiting" => "waiting_customer",
        "agent_reply" | "customer_message" => "in_progress",
        "resolved" => "resolved",
        "closed" => "closed",
        "merged" => "merged",
        _ => before,
    }
}

async fn store(storage: &Storage, sessions: &[(i64, i64, &str)], said: &[Said], tickets: &[Made]) {
    let mut tx = storage.begin().await.unwrap();
    let whole = |number: Option<i64>| number.map_or(Item::NoWhole, Item::Whole);
    let mut rows = Vec::new();
    for (number, at, channel) in sessions {
        let answered = said.iter().find(|turn| turn.0 == *number && turn.3 == Some("reply")).map(|turn| turn.1);
        let opened = tickets.iter().find(|ticket| ticket.number == *number).map(|ticket| ticket.events[0].1);
        let last = said.iter().filter(|turn| turn.0 == *number).count() as i64;
        rows.push(vec![
            text(&format!("s{number}")),
            text(channel),
            text("bot"),
            Item::Whole(last),
            Item::Whole(0),
            Item::Whole(*at),
            Item::Whole(*at),
            whole(answered),
            whole(opened),
        ]);
    }
    let columns = [
        "id",
        "channel",
        "owner",
        "last_seq",
        "resolved_seq",
        "created_at",
        "updated_at",
        "answered_at",
        "handed_over_at",
    ];
    tx.add_rows("sessions", &columns, rows).await.unwrap();
    let mut rows = Vec::new();
    for (index, (number, at, role, word)) in said.iter().enumerate() {
        let seq = said[..=index].iter().filter(|turn| turn.0 == *number).count() as i64;
        let of = |wanted: &str| some(word.filter(|_| *role == wanted));
        rows.push(vec![
            text(&id(index as i64)),
            text(&format!("s{number}")),
            Item::Whole(seq),
            text(role),
            text("我想问一下"),
            of("user"),
            of("bot"),
            Item::Whole(*at),
        ]);
    }
    let columns = ["id", "session_id", "seq", "role", "text_masked", "intent", "decision", "created_at"];
    tx.add_rows("turns", &columns, rows).await.unwrap();
    let (mut rows, mut events, mut ratings) = (Vec::new(), Vec::new(), Vec::new());
    for ticket in tickets {
        let mut status = "new";
        for (index, (kind, at, data)) in ticket.events.iter().enumerate() {
            let after = state(kind, status);
            let change =
                |value: &str| text(&if after == status { json!({}) } else { json!({ "status": value }) }.to_string());
            if *kind == "rated" {
                let score = Item::Whole(data["score"].as_i64().unwrap());
                ratings.push(vec![text(&id(ticket.number)), score, text("[]"), Item::Whole(*at)]);
            }
            events.push(vec![
                text(&id(ticket.number)),
                Item::Whole(index as i64 + 1),
                text(kind),
                text("小王"),
                change(status),
                change(after),
                text(&data.to_string()),
                Item::Whole(*at),
            ]);
            status = after;
        }
        rows.push(vec![
            text(&id(ticket.number)),
            text(&format!("s{}", ticket.number)),
            text("escalation"),
            text(status),
            text(ticket.reason),
            text(""),
            text(ticket.priority),
            text(ticket.category),
            some(ticket.team),
            text("[]"),
            text("{}"),
            text("m"),
            Item::Whole(1),
            Item::Whole(1),
            some(ticket.agent),
            Item::Whole(0),
            Item::Whole(0),
            Item::Whole(ticket.events[0].1),
            Item::Whole(ticket.events[0].1),
            text("[]"),
            Item::Whole(0),
            Item::Whole(ticket.events[0].1),
        ]);
    }
    let columns = [
        "id",
        "session_id",
        "source",
        "status",
        "reason",
        "detail",
        "priority",
        "category",
        "team",
        "tags",
        "fields",
        "model",
        "from_seq",
        "to_seq",
        "last_assignee",
        "accepted",
        "reopened",
        "created_at",
        "updated_at",
        "declined",
        "vip",
        "queued_at",
    ];
    tx.add_rows("tickets", &columns, rows).await.unwrap();
    let columns = ["ticket_id", "seq", "kind", "actor", "before", "after", "data", "at"];
    tx.add_rows("ticket_events", &columns, events).await.unwrap();
    tx.add_rows("ratings", &["ticket_id", "score", "reasons", "created_at"], ratings).await.unwrap();
    tx.derive_all().await.unwrap();
    tx.commit().await.unwrap();
}

/// A day on which a little of everything happens, and the last and first millisecond of the days around it.
async fn a_day(storage: &Storage) {
    let at = |seconds: i64| MIDNIGHT + seconds * SECOND;
    let end = MIDNIGHT + DAY;
    let sessions = [
        (1, MIDNIGHT, "web"),
        (2, end - 2000, "app"),
        (3, MIDNIGHT - 1, "web"),
        (4, end - 10_000, "web"),
        (5, at(100), "web"),
        (6, at(40_000), "app"),
        (7, at(50_000), "web"),
    ];
    let (user, bot, agent) = ("user", "bot", "agent");
    let said = [
        (1, MIDNIGHT, user, Some("退货")),
        (1, MIDNIGHT, bot, Some("escalate")),
        (1, at(120), agent, None),
        (1, at(480), user, Some("退货")),
        (1, at(500), agent, None),
        (1, at(1120), user, None),
        (2, end - 2000, user, Some("退款")),
        (2, end - 2000, bot, Some("reply")),
        (2, end - 1, user, Some("退款")),
        (2, end - 1, bot, Some("escalate")),
        (3, MIDNIGHT - 1, user, Some("物流查询")),
        (3, MIDNIGHT - 1, bot, Some("escalate")),
        (3, at(2000) - 1, agent, None),
        (4, end - 10_000, user, Some("发票")),
        (4, end - 10_000, bot, Some("reply")),
        (4, end, user, Some("发票")),
        (4, end, bot, Some("escalate")),
        (5, at(100), user, Some("退货")),
        (5, at(100), bot, Some("escalate")),
        (6, at(40_000), user, Some("发票")),
        (6, at(40_000), bot, Some("reply")),
        (6, at(40_010), user, Some("退款")),
        (6, at(40_010), bot, Some("clarify")),
        (6, at(40_020), user, Some("退款")),
        (6, at(40_020), bot, Some("reply")),
        (7, at(50_000), user, None),
        (7, at(50_000), bot, Some("no_answer")),
    ];
    let suggested = |edited: bool| json!({ "seq": 1, "suggestion": { "knowledge_id": "k", "edited": edited } });
    let none = || json!({});
    let tickets = [
        Made {
            number: 1,
            channel: "web",
            team: Some("售后"),
            agent: Some("小王"),
            category: "退货",
            priority: "high",
            reason: "complaint",
            events: vec![
                ("opened", MIDNIGHT, none()),
                ("taken", at(60), none()),
                ("agent_reply", at(120), suggested(false)),
                ("waiting", at(180), none()),
                // Whoever names a field like this does not end the waiting.
                ("amended", at(200), none()),
                ("customer_message", at(480), none()),
                ("agent_reply", at(500), json!({ "seq": 5 })),
                ("waiting", at(520), none()),
                ("customer_message", at(1120), none()),
                ("resolved", at(1200), none()),
                ("rated", at(1300), json!({ "score": 5 })),
                ("closed", at(1400), none()),
            ],
        },
        Made {
            number: 2,
            channel: "app",
            team: None,
            agent: None,
            category: "退款",
            priority: "medium",
            reason: "person_requested",
            events: vec![("opened", end - 1, none())],
        },
        Made {
            number: 3,
            channel: "web",
            team: Some("物流"),
            agent: Some("小李"),
            category: "物流查询",
            priority: "low",
            reason: "low_confidence",
            events: vec![
                ("opened", MIDNIGHT - 1, none()),
                ("taken", at(1000), none()),
                ("agent_reply", at(2000) - 1, suggested(true)),
                ("waiting", at(3000) - 1, none()),
                ("resolved", at(4000) - 1, none()),
                ("reopened", at(5000), none()),
                ("taken", at(5100), none()),
                ("resolved", at(5700), none()),
                ("rated", at(6000), json!({ "score": 2 })),
            ],
        },
        Made {
            number: 4,
            channel: "web",
            team: Some("=1+1"),
            agent: None,
            category: "发票",
            priority: "urgent",
            reason: "complaint",
            events: vec![("opened", end, none())],
        },
        Made {
            number: 5,
            channel: "web",
            team: Some("售后"),
            agent: None,
            category: "退货",
            priority: "high",
            reason: "low_confidence",
            events: vec![("opened", at(100), none()), ("merged", at(200), none())],
        },
    ];
    for ticket in &tickets {
        let session = sessions.iter().find(|(number, ..)| *number == ticket.number).unwrap();
        assert_eq!(session.2, ticket.channel);
    }
    store(storage, &sessions, &said, &tickets).await;
}

const THE_DAY: &str = "from=2025-01-01&to=2025-01-02";

async fn rows(service: &Service, report: &str, query: &str) -> Vec<Value> {
    let report = service.get(&format!("/v1/reports/{report}?{query}")).await.ok();
    let columns: Vec<&str> =
        report["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    for row in report["rows"].as_array().unwrap() {
        let mut names: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let mut columns = columns.clone();
        names.sort_unstable();
        columns.sort_unstable();
        assert_eq!(names, columns, "the columns say what the rows hold");
    }
    report["rows"].as_array().unwrap().clone()
}

#[track_caller]
fn same(row: &Value, expected: Value) {
    let (row, expected) = (row.as_object().unwrap(), expected);
    for (name, expected) in expected.as_object().unwrap() {
        match (row[name].as_f64(), expected.as_f64()) {
            (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-9, "{name}: {found} {expected}"),
            _ => assert_eq!(row[name], *expected, "{name} of {row:?}"),
        }
    }
}

#[tokio::test]
async fn every_figure_of_a_day_is_right() {
    on_each_database(async |place| {
        let service = place.service().await;
        a_day(service.state.storage()).await;
        let total = async |report: &str| {
            let rows = rows(&service, report, THE_DAY).await;
            assert_eq!(rows.len(), 1, "{report}: {rows:?}");
            rows[0].clone()
        };
        same(
            &total("tickets").await,
            json!({ "opened": 3, "taken": 3, "resolved": 3, "closed": 1, "reopened": 1, "merged": 1, "reopen_rate": 1.0 / 3.0 }),
        );
        same(
            &total("first_response").await,
            json!({ "count": 2, "mean_seconds": 1060.0, "p50_seconds": 120.0, "p90_seconds": 2000.0, "p95_seconds": 2000.0 }),
        );
        // 1200 s less 300 s and 600 s of waiting; 4000 s less 1000 s until it was resolved while it waited; 700 s since it began again.
        same(
            &total("resolution").await,
            json!({ "count": 3, "mean_seconds": 4000.0 / 3.0, "p50_seconds": 700.0, "p90_seconds": 3000.0 }),
        );
        same(
            &total("sessions").await,
            json!({ "sessions": 6, "answered": 3, "handed_over": 3, "settled_by_bot": 2, "settled_by_bot_rate": 1.0 / 3.0 }),
        );
        same(
            &total("satisfaction").await,
            json!({ "ratings": 2, "mean": 3.5, "score_1": 0, "score_2": 1, "score_3": 0, "score_4": 0, "score_5": 1 }),
        );
        same(
            &total("suggestions").await,
            json!({ "replies": 3, "used": 1, "edited": 1, "used_rate": 2.0 / 3.0 }),
        );
        let messages = json!({ "customer": 11, "bot": 9, "agent": 3, "messages": 23 });
        let decisions =
            json!({ "reply": 4, "clarify": 1, "no_answer": 1, "out_of_scope": 0, "escalate": 3, "decisions": 9 });
        same(&total("messages").await, messages.clone());
        same(&total("decisions").await, decisions.clone());
        let reasons = rows(&service, "handovers", THE_DAY).await;
        let named = ["complaint", "low_confidence", "person_requested"];
        assert_eq!(reasons, named.map(|reason| json!({ "reason": reason, "tickets": 1 })));

        let compared = rows(&service, "comparison", THE_DAY).await;
        let of = |category: &str| compared.iter().find(|row| row["category"] == category).unwrap();
        assert_eq!(compared.len(), 4, "{compared:?}");
        same(of("发票"), json!({ "bot_sessions": 2, "person_tickets": 0, "bot_rate": 1.0, "person_rating_mean": null }));
        same(of("退款"), json!({ "bot_sessions": 1, "person_tickets": 1, "bot_rate": 0.5, "person_resolved": 0 }));
        same(
            of("退货"),
            json!({ "bot_sessions": 0, "person_tickets": 2, "bot_rate": 0.0, "person_resolved": 1,
                "person_resolution_mean_seconds": 300.0, "person_ratings": 1, "person_rating_mean": 5.0 }),
        );
        same(
            of("物流查询"),
            json!({ "person_tickets": 0, "bot_rate": null, "person_resolved": 2,
                "person_resolution_mean_seconds": 1850.0, "person_ratings": 1, "person_rating_mean": 2.0 }),
        );

        // Groups and filters.
        let by = async |report: &str, group: &str| rows(&service, report, &format!("{THE_DAY}&group={group}")).await;
        let found = |rows: &[Value], name: &str, key: Value| -> Value {
            rows.iter().find(|row| row[name] == key).unwrap_or_else(|| panic!("no {key} in {rows:?}")).clone()
        };
        let hours = by("tickets", "hour").await;
        assert_eq!(hours.len(), 24);
        same(&hours[0], json!({ "hour": "00:00", "opened": 2, "resolved": 1 }));
        same(&hours[1], json!({ "hour": "01:00", "opened": 0, "resolved": 2, "reopened": 1 }));
        same(&hours[23], json!({ "hour": "23:00", "opened": 1 }));
        let teams = by("tickets", "team").await;
        same(&found(&teams, "team", json!("售后")), json!({ "opened": 2, "resolved": 1, "reopen_rate": 0.0 }));
        same(&found(&teams, "team", json!("物流")), json!({ "opened": 0, "resolved": 2, "reopen_rate": 0.5 }));
        same(&found(&teams, "team", Value::Null), json!({ "opened": 1, "reopen_rate": null }));
        let agents = by("satisfaction", "agent").await;
        same(&found(&agents, "agent", json!("小王")), json!({ "ratings": 1, "mean": 5.0 }));
        same(&found(&agents, "agent", json!("小李")), json!({ "ratings": 1, "mean": 2.0 }));
        same(&found(&by("tickets", "priority").await, "priority", json!("high")), json!({ "opened": 2, "merged": 1 }));
        same(
            &found(&by("resolution", "category").await, "category", json!("物流查询")),
            json!({ "count": 2, "mean_seconds": 1850.0, "p50_seconds": 700.0, "p95_seconds": 3000.0 }),
        );
        same(&found(&by("messages", "channel").await, "channel", json!("app")), json!({ "customer": 5, "bot": 5 }));
        same(&found(&by("sessions", "channel").await, "channel", json!("app")), json!({ "sessions": 2, "answered": 2 }));
        same(&found(&by("handovers", "channel").await, "channel", json!("app")), json!({ "tickets": 1 }));
        for (filter, opened, resolved) in
            [("team=售后", 2, 1), ("agent=小李", 0, 2), ("channel=app", 1, 0), ("team=' OR 1=1 --", 0, 0)]
        {
            let filter = filter.replace(' ', "%20").replace('\'', "%27");
            let filtered = rows(&service, "tickets", &format!("{THE_DAY}&{}", encoded(&filter))).await;
            same(&filtered[0], json!({ "opened": opened, "resolved": resolved }));
        }

        // Hours that are over are counted once and from then on only read: nothing may change.
        let spans = [
            THE_DAY.to_owned(),
            "from=2025-01-01T00:01:40%2B08:00&to=2025-01-01T11:06:50%2B08:00".to_owned(),
            "from=2025-01-01T00:00:00.001%2B08:00&to=2025-01-01T00:00:00.002%2B08:00".to_owned(),
            format!("{THE_DAY}&group=hour"),
            format!("{THE_DAY}&group=channel"),
            format!("{THE_DAY}&channel=app"),
            "from=2024-12-30&to=2025-01-05&group=day&offset=%2B05:30".to_owned(),
            "from=2024-12-30&to=2025-01-05&group=day&offset=-03:00".to_owned(),
        ];
        let all = async || {
            let mut all = Vec::new();
            for span in &spans {
                for report in ["messages", "decisions"] {
                    all.push(rows(&service, report, span).await);
                }
            }
            all
        };
        let before = all().await;
        assert_eq!(before[2][0]["customer"], 4, "turns at 00:01:40 and 11:06:40 are in, those at 11:06:50 are not");
        for _ in 0..2 {
            service.state.storage().count_finished_hours().await.unwrap();
            assert_eq!(all().await, before);
        }
        same(&total("messages").await, messages.clone());
        same(&total("decisions").await, decisions.clone());
    })
    .await;
}

/// A query with Chinese in it, as a path may hold it.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[tokio::test]
async fn a_day_ends_at_local_midnight() {
    on_each_database(async |place| {
        let service = place.service().await;
        a_day(service.state.storage()).await;
        let opened = async |query: &str| -> Vec<(String, i64)> {
            let rows = rows(&service, "tickets", query).await;
            rows.iter()
                .map(|row| (row["day"].as_str().unwrap_or_default().to_owned(), row["opened"].as_i64().unwrap()))
                .collect()
        };
        let days = |days: &[(&str, i64)]| -> Vec<(String, i64)> {
            days.iter().map(|(day, opened)| ((*day).to_owned(), *opened)).collect()
        };
        assert_eq!(
            opened("from=2024-12-30&to=2025-01-03&group=day").await,
            days(&[("2024-12-30", 0), ("2024-12-31", 1), ("2025-01-01", 3), ("2025-01-02", 1)]),
            "23:59:59.999 is in its day, and 00:00:00.000 in the next"
        );
        assert_eq!(
            opened("from=2024-12-31&to=2025-01-03&group=day&offset=Z").await,
            days(&[("2024-12-31", 3), ("2025-01-01", 2), ("2025-01-02", 0)]),
            "the same tickets by the days of UTC"
        );
        assert_eq!(opened("from=2025-01-01T23:59:59.999%2B08:00&to=2025-01-02").await[0].1, 1);
        assert_eq!(opened("from=2025-01-01&to=2025-01-01T23:59:59.999%2B08:00").await[0].1, 2);

        let empty = "from=2020-01-01&to=2020-01-03";
        let none = rows(&service, "resolution", empty).await;
        assert_eq!(none.len(), 1);
        same(&none[0], json!({ "count": 0, "mean_seconds": null, "p50_seconds": null }));
        same(&rows(&service, "sessions", empty).await[0], json!({ "sessions": 0, "settled_by_bot_rate": null }));
        assert_eq!(rows(&service, "comparison", empty).await, [] as [Value; 0]);
        assert_eq!(rows(&service, "handovers", empty).await, [] as [Value; 0]);
        for report in ["tickets", "first_response", "sessions", "messages", "decisions", "satisfaction", "suggestions"]
        {
            assert_eq!(rows(&service, report, &format!("{empty}&group=day")).await.len(), 2, "{report}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_report_is_a_file_that_excel_opens() {
    on_each_database(async |place| {
        let service = place.service().await;
        a_day(service.state.storage()).await;
        let file = service.get("/v1/reports/tickets?from=2025-01-01&to=2025-01-03&group=team&format=csv").await;
        assert_eq!((file.status, &file.headers["content-type"]), (200, &"text/csv; charset=utf-8".parse().unwrap()));
        assert!(file.headers["content-disposition"].to_str().unwrap().contains("tickets.csv"));
        let text = file.text();
        let text = text.strip_prefix('\u{feff}').expect("a byte order mark");
        let mut lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.remove(0), "团队,新建,领取,解决,关闭,重新打开,合并,重新打开率");
        lines.sort_unstable();
        assert_eq!(
            lines,
            ["'=1+1,1,0,0,0,0,0,", ",1,0,0,0,0,0,", "售后,2,1,1,1,0,1,0", "物流,0,2,2,0,1,0,0.5"],
            "a team called =1+1 is no formula"
        );
        for report in ["handovers", "comparison", "resolution", "decisions"] {
            let file = service.get(&format!("/v1/reports/{report}?{THE_DAY}&format=csv")).await;
            assert!(file.status == 200 && file.text().starts_with('\u{feff}'), "{report}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_overview_holds_the_reports_and_bad_questions_are_refused() {
    on_each_database(async |place| {
        let service = place.service().await;
        a_day(service.state.storage()).await;
        let summary = service.get(&format!("/v1/reports/summary?{THE_DAY}")).await.ok();
        let reports = summary["reports"].as_array().unwrap();
        let tickets =
            reports.iter().find(|report| report["name"] == "tickets" && report["group"] == "category").unwrap();
        assert_eq!(tickets["rows"][0]["category"].as_str().map(str::is_empty), Some(false));
        let direct = service.get(&format!("/v1/reports/tickets?{THE_DAY}&group=category")).await.ok();
        assert_eq!(*tickets, direct, "the overview says what the report says");
        assert!(reports.iter().any(|report| report["name"] == "messages"));
        let team = service.get(&format!("/v1/reports/summary?{THE_DAY}&team={}", encoded("售后"))).await.ok();
        let team = team["reports"].as_array().unwrap();
        assert_eq!(team[0]["rows"][0]["opened"], 2);
        assert!(!team.iter().any(|report| report["name"] == "messages"), "the bot is in no team");
        service.get("/v1/reports/summary").await.ok();

        assert_eq!(service.get("/v1/reports/sales").await.refusal(), (404, "report_not_found".to_owned()));
        for (query, field) in [
            ("from=yesterday", "from"),
            ("from=2025-01-02&to=2025-01-01", "to"),
            ("from=2020-01-01&to=2025-01-01", "from"),
            ("offset=8", "offset"),
            ("group=weather", "group"),
            ("format=pdf", "format"),
            ("team=", "team"),
        ] {
            service.get(&format!("/v1/reports/tickets?{query}")).await.refuses(field);
        }
        service.get("/v1/reports/decisions?group=team").await.refuses("group");
        service.get("/v1/reports/decisions?team=a").await.refuses("team");
        service.get("/v1/reports/summary?format=csv").await.refuses("format");
        service.get("/v1/reports/summary?group=day").await.refuses("group");
        assert_eq!(service.get("/v1/reports/tickets?until=x").await.refusal(), (400, "invalid_query".to_owned()));
    })
    .await;
}

async fn ticket_of(service: &Service, session: &str) -> String {
    let message = json!({ "session_id": session, "user_id": "u", "channel": "web", "text": "人工" });
    service.post("/v1/chat", message).await.ok()["ticket_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_counted_when_it_happens_is_what_the_history_tells() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.index().await;
        let wang = || json!({ "agent": "小王" });
        assert_eq!(service.chat("bot", "你好").await["decision"], "reply");
        assert_eq!(service.chat("both", "你好").await["decision"], "reply");
        let ticket = ticket_of(&service, "both").await;
        let before = service.get("/v1/desk/board").await.ok();
        same(&before, json!({ "waiting": 1, "assigned": 0, "in_progress": 0, "waiting_customer": 0, "agents": [] }));
        assert!(before["oldest_waiting_seconds"].as_i64().unwrap() >= 0);
        service.act(&ticket, "take", wang()).await.ok();
        service.act(&ticket, "wait", wang()).await.ok();
        service.chat("both", "订单号是 2026").await;
        service.act(&ticket, "reply", json!({ "agent": "小王", "text": "好的", "suggestion": { "knowledge_id": "k", "edited": true } })).await.ok();
        let board = service.get("/v1/desk/board").await.ok();
        same(&board, json!({ "waiting": 0, "in_progress": 1, "oldest_waiting_seconds": null }));
        assert_eq!(board["agents"], json!([{ "name": "小王", "team": null, "presence": null, "open": 1 }]));
        let listed = json!({ "team": "售后", "capacity": 3 });
        service.send(with_body("PUT", "/v1/desk/agents/%E5%B0%8F%E6%9D%8E", listed.to_string())).await.ok();
        let there = json!({ "presence": "away", "agent": "小李" });
        assert_eq!(service.send(with_body("PUT", "/v1/me/presence", there.to_string())).await.status, 204);
        let board = service.get("/v1/desk/board").await.ok();
        let li = json!({ "name": "小李", "team": "售后", "presence": "away", "open": 0 });
        let wang_open = json!({ "name": "小王", "team": null, "presence": null, "open": 1 });
        assert_eq!(board["agents"], json!([li, wang_open]), "who is listed, and who has tickets");
        service.act(&ticket, "wait", wang()).await.ok();
        service.act(&ticket, "resolve", wang()).await.ok();
        service.act(&ticket, "reopen", json!({})).await.ok();
        service.act(&ticket, "assign", json!({ "to": "小李" })).await.ok();
        service.act(&ticket, "take", json!({ "agent": "小李" })).await.ok();
        service.act(&ticket, "reply", json!({ "agent": "小李", "text": "已退款" })).await.ok();
        service.act(&ticket, "resolve", json!({ "agent": "小李" })).await.ok();
        service.act(&ticket, "rating", json!({ "score": 4 })).await.ok();
        service.act(&ticket, "close", json!({})).await.ok();
        // The bot serves again, and answers one more thing; this session is not settled by it alone any more.
        assert_eq!(service.chat("both", "怎么申请退货？").await["decision"], "reply");
        let amended = json!({ "category": "退款", "priority": "low" });
        let path = format!("/v1/tickets/{ticket}");
        service.send(with_body("PATCH", &path, amended.to_string())).await.ok();
        let (one, two) = (ticket_of(&service, "one").await, ticket_of(&service, "two").await);
        service.act(&one, "merge", json!({ "into": two })).await.ok();

        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&place.config().database_url()).await.unwrap();
        let mut read = async |table: &'static str| -> Vec<Vec<String>> {
            let sql = format!(
                "SELECT ticket_id, CAST(seq AS TEXT), kind, CAST(at AS TEXT), channel, COALESCE(category, ''), priority, \
                 reason, COALESCE(CAST(value AS TEXT), ''), COALESCE(suggestion, '') FROM {table} ORDER BY {table}.ticket_id, {table}.seq"
            );
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
            rows.iter().map(|row| (0..row.len()).map(|index| row.get::<String, _>(index)).collect()).collect()
        };
        let facts = read("report_facts").await;
        assert_eq!(facts, read("told_facts").await);
        let kinds: Vec<&str> = facts.iter().filter(|row| row[0] == ticket).map(|row| row[2].as_str()).collect();
        assert_eq!(
            kinds,
            [
                "opened",
                "taken",
                "first_reply",
                "resolved",
                "reopened",
                "accepted",
                "agent_reply",
                "resolved",
                "rated",
                "closed"
            ]
        );
        connection.close().await.unwrap();

        same(&rows(&service, "suggestions", "").await[0], json!({ "replies": 2, "used": 0, "edited": 1, "used_rate": 0.5 }));
        let resolved = rows(&service, "tickets", "group=agent").await;
        let of = |agent: Value| resolved.iter().find(|row| row["agent"] == agent).unwrap();
        same(of(json!("小王")), json!({ "taken": 1, "resolved": 1, "reopened": 1 }));
        same(of(json!("小李")), json!({ "taken": 1, "resolved": 1, "closed": 1 }));
        let sessions = rows(&service, "sessions", "").await;
        same(&sessions[0], json!({ "sessions": 4, "answered": 2, "handed_over": 3, "settled_by_bot": 1 }));
        let compared = rows(&service, "comparison", "").await;
        let alone: i64 = compared.iter().map(|row| row["bot_sessions"].as_i64().unwrap()).sum();
        assert_eq!(alone, 1, "{compared:?}");
        assert_eq!(compared.iter().find(|row| row["category"] == "退款").unwrap()["person_resolved"], 2);
    })
    .await;
}

// Search.

async fn search(service: &Service, words: &str) -> Answer {
    let words: String = words.bytes().map(|byte| format!("%{byte:02X}")).collect();
    service.get(&format!("/v1/tickets/search?q={words}")).await
}

async fn found(service: &Service, words: &str) -> Vec<(String, String)> {
    let page = search(service, words).await.ok();
    let item = |found: &Value| {
        let ticket = found["ticket"]["ticket_id"].as_str().unwrap().to_owned();
        (ticket, found["place"].as_str().unwrap().to_owned())
    };
    page["found"].as_array().unwrap().iter().map(item).collect()
}

#[tokio::test]
async fn tickets_are_found_by_what_was_said_and_noted() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.chat("cup", "我买的蓝色保温杯漏水了，电话 13812345678").await;
        let cup = ticket_of(&service, "cup").await;
        service.chat("cup", "赠品也没有，优惠 100% 是假的吗_真的").await;
        service.act(&cup, "take", json!({ "agent": "小王" })).await.ok();
        service.act(&cup, "reply", json!({ "agent": "小王", "text": "给您补寄杯盖，型号 Ａbc-１2" })).await.ok();
        service.act(&cup, "notes", json!({ "agent": "小王", "text": "仓库说要盘点😀好'；DROP TABLE" })).await.ok();
        let path = format!("/v1/tickets/{cup}");
        let fields = json!({ "category": "漏水问题", "tags": ["重点客户"], "fields": { "颜色": "宝石蓝" } });
        service.send(with_body("PATCH", &path, fields.to_string())).await.ok();
        service.act(&cup, "transfer", json!({ "agent": "小王", "team": "售后", "reason": "需要换货专员" })).await.ok();
        let other = ticket_of(&service, "other").await;
        service.chat("other", "保温杯什么时候补货").await;

        let at = |ticket: &str, place: &str| vec![(ticket.to_owned(), place.to_owned())];
        for (words, place) in [
            ("蓝色保温杯漏", "turn"),
            (" 赠品 ", "turn"),
            ("100%", "turn"),
            ("吗_真", "turn"),
            ("补寄", "turn"),
            ("abc-12", "turn"),
            ("ＡＢＣ", "turn"),
            ("盘点", "note"),
            ("点😀好", "note"),
            ("';", "note"),
            ("'；DROP TABLE", "note"),
            ("换货专员", "note"),
            ("水问题", "field"),
            ("重点客户", "field"),
            ("宝石蓝", "field"),
        ] {
            let expected = if place == "none" { Vec::new() } else { at(&cup, place) };
            assert_eq!(found(&service, words).await, expected, "{words}");
        }
        assert_eq!(
            found(&service, "保温杯").await,
            [at(&other, "turn"), at(&cup, "turn")].concat(),
            "newest first, each ticket once"
        );
        for absent in [
            "13812345678",
            "蓝色漏水",
            "__",
            "%%",
            "温%漏",
            "温_漏",
            "\"保温杯\"",
            "保温杯 OR 赠品",
            "保温*",
            "NOT 赠品",
            "' OR '1'='1",
            "'; DROP TABLE tickets; --",
            "{a,b}",
            "\\",
            "没有的词",
            "😀😀",
        ] {
            let answer = search(&service, absent).await;
            if absent.chars().count() < 2 {
                answer.refuses("q");
            } else {
                assert_eq!(answer.ok()["found"], json!([]), "{absent}");
            }
        }
        let page = search(&service, "补寄").await.ok();
        assert_eq!(page["found"][0]["snippet"], "给您补寄杯盖，型号 Ａbc-１2");
        assert_eq!((&page["found"][0]["role"], &page["found"][0]["seq"]), (&json!("agent"), &json!(5)));
        assert!(page.get("next_cursor").is_none());

        search(&service, "漏").await.refuses("q");
        search(&service, " 漏\n").await.refuses("q");
        search(&service, "").await.refuses("q");
        search(&service, &"漏".repeat(20_000)).await.refuses("q");
        search(&service, &"漏".repeat(65)).await.refuses("q");
        assert_eq!(search(&service, &"漏".repeat(64)).await.ok()["found"], json!([]));
        assert_eq!(service.get("/v1/tickets/search").await.refusal(), (400, "invalid_query".to_owned()));
        service.get("/v1/tickets/search?q=abc&cursor=1").await.refuses("cursor");
        service.get("/v1/tickets/search?q=abc&limit=51").await.refuses("limit");
        assert!(service.get(&format!("/v1/tickets/{cup}")).await.status == 200, "the tables are still there");
    })
    .await;
}

#[tokio::test]
async fn a_long_result_comes_page_by_page() {
    on_each_database(async |place| {
        let service = place.service().await;
        let mut tickets = Vec::new();
        for number in 0..7 {
            // The pairs of 订单 and 单号, but not the word.
            let text = if number == 3 { "单号在订单里" } else { "订单号丢了" };
            service.chat(&format!("s{number}"), text).await;
            let ticket = ticket_of(&service, &format!("s{number}")).await;
            if number != 3 {
                tickets.insert(0, ticket);
            }
        }
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/tickets/search?limit=2&q={}{cursor}", encoded("订单号"));
            let page = service.get(&path).await.ok();
            let found = page["found"].as_array().unwrap();
            assert!(found.len() <= 2);
            seen.extend(found.iter().map(|found| found["ticket"]["ticket_id"].as_str().unwrap().to_owned()));
            match page.get("next_cursor") {
                Some(next) => cursor = format!("&cursor={}", next.as_str().unwrap()),
                None => break,
            }
        }
        assert_eq!(seen, tickets, "each once, newest first, and not what only has the same pairs");
    })
    .await;
}
