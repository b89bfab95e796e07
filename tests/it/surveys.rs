//! What customers are asked after a ticket, on both databases.

use axum::http::header;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use yingda::{
    desk::{Rating, Survey, SurveyKind, Surveys, survey::SurveySettings},
    storage::now,
};

use crate::support::{Place, Service, on_each_database};

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
/// 1 January 2025, 00:00 in China.
const MIDNIGHT: i64 = 1_735_660_800_000;

/// A service that asks customers as the settings say, and what sends its surveys.
async fn asking(place: &Place, settings: SurveySettings) -> (Service, Surveys) {
    let mut config = place.config();
    config.desk.survey = settings.clone();
    let service = Service::open(config).await;
    let surveys = Surveys::new(service.state.storage().clone(), settings);
    (service, surveys)
}

/// A ticket of a customer that is resolved.
async fn resolved(service: &Service, session: &str, user: Option<&str>) -> String {
    let message = json!({ "session_id": session, "user_id": user, "channel": "web", "text": "人工" });
    let ticket = service.post("/v1/chat", message).await.ok()["ticket_id"].as_str().unwrap().to_owned();
    service.act(&ticket, "take", json!({ "agent": "小王" })).await.ok();
    service.act(&ticket, "resolve", json!({ "agent": "小王" })).await.ok();
    ticket
}

async fn closed(service: &Service, session: &str, user: Option<&str>) -> String {
    let ticket = resolved(service, session, user).await;
    service.act(&ticket, "close", json!({})).await.ok();
    ticket
}

async fn surveys_of(service: &Service, ticket: &str) -> Vec<Survey> {
    service.state.storage().surveys_of(ticket).await.unwrap()
}

/// The turns of a session that hold a link.
async fn asked(service: &Service, session: &str) -> Vec<Value> {
    let turns = service.session(session).await["turns"].as_array().unwrap().clone();
    turns.into_iter().filter(|turn| turn["decision"] == "survey").collect()
}

/// The path of the link to the only survey of a session.
async fn link(service: &Service, session: &str) -> String {
    let asked = asked(service, session).await;
    assert_eq!(asked.len(), 1, "{asked:?}");
    let text = asked[0]["text"].as_str().unwrap().to_owned();
    text[text.find("/survey/").unwrap()..].to_owned()
}

/// Where the answer to a link goes.
fn answer_path(link: &str) -> String {
    link.replace("/survey/", "/v1/surveys/")
}

async fn event_count(service: &Service, ticket: &str, kind: &str) -> usize {
    let story = service.get(&format!("/v1/tickets/{ticket}")).await.ok();
    story["events"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).count()
}

#[tokio::test]
async fn closing_a_ticket_asks_its_customer_once() {
    on_each_database(async |place| {
        let (service, surveys) = asking(place, SurveySettings::default()).await;
        let ticket = resolved(&service, "s", None).await;
        assert_eq!(surveys_of(&service, &ticket).await, [], "it may be begun again");
        assert_eq!(surveys.send_due(now()).await.unwrap(), 0);
        service.act(&ticket, "close", json!({})).await.ok();
        let made = surveys_of(&service, &ticket).await;
        assert_eq!((made.len(), made[0].kind, made[0].sent_at), (1, SurveyKind::Csat, None));
        assert_eq!(surveys.send_due(made[0].due_at - 1).await.unwrap(), 0, "not before it is due");

        assert_eq!(surveys.send_due(now()).await.unwrap(), 1);
        assert_eq!(surveys.send_due(now()).await.unwrap(), 0);
        let again = Surveys::new(service.state.storage().clone(), SurveySettings::default());
        assert_eq!(again.send_due(now() + DAY).await.unwrap(), 0, "a restart sends nothing twice");
        let turn = &asked(&service, "s").await[0];
        assert_eq!((&turn["role"], service.session("s").await["owner"].clone()), (&json!("bot"), json!("bot")));
        let words = SurveySettings::default().text;
        assert!(turn["text"].as_str().unwrap().starts_with(&format!("{words}/survey/{}.", made[0].id)), "{turn}");
        assert_eq!(event_count(&service, &ticket, "survey_sent").await, 1);

        service.act(&ticket, "reopen", json!({})).await.ok();
        service.act(&ticket, "take", json!({ "agent": "小王" })).await.ok();
        service.act(&ticket, "resolve", json!({ "agent": "小王" })).await.ok();
        service.act(&ticket, "close", json!({})).await.ok();
        assert_eq!(surveys.send_due(now()).await.unwrap(), 0, "once per ticket");
        assert_eq!(asked(&service, "s").await.len(), 1);

        // Who has rated the help already is not asked, and neither is anybody where nobody is to be.
        let rated = closed(&service, "rated", None).await;
        service.post(&format!("/v1/tickets/{rated}/rating"), json!({ "score": 5 })).await.ok();
        assert_eq!(surveys.send_due(now()).await.unwrap(), 0);
        assert_eq!(surveys_of(&service, &rated).await, []);
    })
    .await;
    let place = Place::sqlite();
    let (service, surveys) = asking(&place, SurveySettings { send: false, ..SurveySettings::default() }).await;
    let ticket = closed(&service, "s", Some("u")).await;
    assert_eq!((surveys_of(&service, &ticket).await, surveys.send_due(now()).await.unwrap()), (Vec::new(), 0));
    // Everywhere else but on our own page, an address is needed.
    let place = Place::sqlite();
    let (service, surveys) = asking(&place, SurveySettings::default()).await;
    let ticket = service.chat("api", "人工").await["ticket_id"].as_str().unwrap().to_owned();
    for action in ["take", "resolve", "close"] {
        service.act(&ticket, action, json!({ "agent": "小王" })).await.ok();
    }
    assert_eq!(surveys_of(&service, &ticket).await, []);
    assert_eq!((surveys.send_due(now()).await.unwrap(), asked(&service, "api").await.len()), (0, 0));
    let site = SurveySettings { public_url: Some("https://kefu.example.com/".to_owned()), ..SurveySettings::default() };
    let place = Place::sqlite();
    let (service, surveys) = asking(&place, site).await;
    closed(&service, "s", None).await;
    surveys.send_due(now()).await.unwrap();
    let text = asked(&service, "s").await[0]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("：https://kefu.example.com/survey/"), "{text}");
}

#[tokio::test]
async fn what_is_resolved_and_not_begun_again_is_closed() {
    on_each_database(async |place| {
        let (service, surveys) = asking(place, SurveySettings::default()).await;
        let ticket = resolved(&service, "s", None).await;
        let reopened = resolved(&service, "reopened", None).await;
        service.act(&reopened, "reopen", json!({})).await.ok();
        assert_eq!(surveys.close_resolved(now() + 24 * HOUR - 60 * SECOND).await.unwrap(), 0);
        let never = SurveySettings { close_after_hours: 0, ..SurveySettings::default() };
        let never = Surveys::new(service.state.storage().clone(), never);
        assert_eq!(never.close_resolved(now() + 1000 * DAY).await.unwrap(), 0);
        assert_eq!(surveys.close_resolved(now() + 24 * HOUR).await.unwrap(), 1);
        assert_eq!(surveys.close_resolved(now() + 24 * HOUR).await.unwrap(), 0);
        let story = service.get(&format!("/v1/tickets/{ticket}")).await.ok();
        let last = story["events"].as_array().unwrap().last().unwrap();
        assert_eq!(
            (&story["status"], &last["kind"], &last["actor"]),
            (&json!("closed"), &json!("closed"), &json!("system"))
        );
        assert_eq!(service.get(&format!("/v1/tickets/{reopened}")).await.ok()["status"], "new");
        assert_eq!(surveys.send_due(now()).await.unwrap(), 1, "and its customer is asked");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_send_each_survey_once_and_sign_alike() {
    on_each_database(async |place| {
        let (service, one) = asking(place, SurveySettings::default()).await;
        let two = Surveys::new(service.state.storage().clone(), SurveySettings::default());
        let mut sessions = Vec::new();
        for number in 0..12 {
            let session = format!("s{number}");
            closed(&service, &session, None).await;
            sessions.push(session);
        }
        let at = now();
        let (a, b) = tokio::join!(one.send_due(at), two.send_due(at));
        assert_eq!(a.unwrap() + b.unwrap(), 12, "each is sent by one of them");
        for session in &sessions {
            let link = link(&service, session).await;
            assert_eq!(service.get(&link).await.status, 200, "{link}");
        }

        // The secret is made once, however many ask for it first.
        let mut first = JoinSet::new();
        for number in 0..8 {
            let storage = service.state.storage().clone();
            first.spawn(async move { storage.add_secret("another", &format!("{number:064x}")).await.unwrap() });
        }
        let secrets = first.join_all().await;
        assert!(secrets.iter().all(|secret| *secret == secrets[0]), "{secrets:?}");
    })
    .await;
}

#[tokio::test]
async fn while_a_person_has_the_session_nothing_is_sent() {
    on_each_database(async |place| {
        let (service, surveys) = asking(place, SurveySettings::default()).await;
        let ticket = closed(&service, "s", None).await;
        let other = closed(&service, "other", None).await;
        for session in ["s", "other"] {
            assert_eq!(service.chat(session, "人工").await["decision"], "escalate");
        }
        assert_eq!(surveys.send_due(now()).await.unwrap(), 0, "the bot is silent");
        assert_eq!(asked(&service, "s").await.len(), 0);
        assert_eq!(surveys_of(&service, &ticket).await.len(), 1, "it waits");

        let second = service.session("s").await["ticket"]["ticket_id"].as_str().unwrap().to_owned();
        service.act(&second, "take", json!({ "agent": "小王" })).await.ok();
        service.act(&second, "resolve", json!({ "agent": "小王" })).await.ok();
        assert_eq!(surveys.send_due(now()).await.unwrap(), 1);
        assert!(link(&service, "s").await.contains(&surveys_of(&service, &ticket).await[0].id));

        assert_eq!(surveys.send_due(now() + 14 * DAY + SECOND).await.unwrap(), 0);
        assert_eq!(surveys_of(&service, &other).await, [], "what expired meanwhile is dropped");
        assert_eq!(surveys_of(&service, &ticket).await.len(), 1, "what was sent is kept");
    })
    .await;
}

#[tokio::test]
async fn an_invitation_changes_nothing_about_the_conversation() {
    let place = Place::sqlite();
    let (service, surveys) = asking(&place, SurveySettings::default()).await;
    service.index().await;
    closed(&service, "s", None).await;
    let unclear = "天上的云彩今天很白";
    assert_eq!(service.chat("s", unclear).await["decision"], "clarify");
    // Nothing comes between the steps of a guided flow.
    let wait = async |flow: Option<&str>| {
        let mut tx = service.state.storage().begin().await.unwrap();
        let mut session = tx.lock_existing_session("s").await.unwrap();
        tx.set_flow(&mut session, flow.map(str::to_owned)).await.unwrap();
        tx.commit().await.unwrap();
    };
    wait(Some("{}")).await;
    assert_eq!(surveys.send_due(now()).await.unwrap(), 0);
    wait(None).await;
    assert_eq!(surveys.send_due(now()).await.unwrap(), 1);
    let second = service.chat("s", unclear).await;
    assert_eq!((&second["decision"], &second["reason"]), (&json!("escalate"), &json!("low_confidence")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_good_for_one_answer_and_the_answer_is_a_rating() {
    on_each_database(async |place| {
        let (service, surveys) = asking(place, SurveySettings::default()).await;
        let ticket = closed(&service, "s", None).await;
        surveys.send_due(now()).await.unwrap();
        let link = link(&service, "s").await;
        let page = service.get(&link).await;
        assert!(page.status == 200 && page.text().contains("data-kind=\"csat\""), "{}", page.text());
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");

        // Changed.
        let survey = surveys_of(&service, &ticket).await.remove(0);
        let last = link.chars().last().unwrap();
        let tampered = format!("{}{}", &link[..link.len() - 1], if last == '0' { '1' } else { '0' });
        let later = link.replace(&survey.expires_at.to_string(), &(survey.expires_at + DAY).to_string());
        for wrong in [tampered.as_str(), later.as_str(), "/survey/x", "/survey/%00.1.00"] {
            let page = service.get(wrong).await;
            assert!(page.status == 404 && page.text().contains("评价链接不完整"), "{wrong}: {}", page.text());
            let refused = service.post(&answer_path(wrong), json!({ "score": 5 })).await;
            assert_eq!(refused.refusal(), (404, "survey_link".to_owned()), "{wrong}");
        }
        // Expired.
        let expired = surveys.link(&Survey { expires_at: now() - 1, ..survey.clone() }).await.unwrap();
        let page = service.get(&expired).await;
        assert!(page.status == 410 && page.text().contains("已经过期"), "{}", page.text());
        let refused = service.post(&answer_path(&expired), json!({ "score": 5 })).await;
        assert_eq!(refused.refusal(), (410, "survey_expired".to_owned()));
        // Signed, but not there.
        let unknown = Survey { id: "00000000-0000-7000-8000-000000000000".to_owned(), ..survey.clone() };
        let unknown = surveys.link(&unknown).await.unwrap();
        let page = service.get(&unknown).await;
        assert!(page.status == 404 && page.text().contains("没有这份调查"), "{}", page.text());
        let refused = service.post(&answer_path(&unknown), json!({ "score": 5 })).await;
        assert_eq!(refused.refusal(), (404, "survey_not_found".to_owned()));

        let path = answer_path(&link);
        for (body, field) in [
            (json!({ "score": 0 }), "score"),
            (json!({ "score": 6 }), "score"),
            (json!({ "score": "5" }), "score"),
            (json!({}), "score"),
            (json!({ "score": 5, "reasons": vec!["好"; 11] }), "reasons"),
            (json!({ "score": 5, "comment": "长".repeat(20_001) }), "comment"),
            (json!({ "score": 5, "rating": 5 }), "rating"),
        ] {
            service.post(&path, body).await.refuses(field);
        }
        assert_eq!(event_count(&service, &ticket, "rated").await, 0, "what is refused leaves nothing");

        // However often it is sent, one answer is kept.
        let mut answers = JoinSet::new();
        for _ in 0..8 {
            let (service, path) = (service.clone(), path.clone());
            let body = json!({ "score": 2, "reasons": ["回复太慢"], "comment": "请打我电话13812345678" });
            answers.spawn(async move { service.post(&path, body).await });
        }
        let answers = answers.join_all().await;
        let kept: Vec<&crate::support::Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!((kept.len(), kept[0].ok()), (1, json!({ "kind": "csat", "score": 2 })));
        for refused in answers.iter().filter(|answer| answer.status != 200) {
            assert!(["survey_answered", "not_rated"].contains(&refused.code().as_str()), "{}", refused.text());
        }
        assert_eq!(service.post(&path, json!({ "score": 5 })).await.refusal(), (409, "survey_answered".to_owned()));
        let page = service.get(&link).await;
        assert!(page.status == 409 && page.text().contains("您已经评价过了"), "{}", page.text());
        let story = service.get(&format!("/v1/tickets/{ticket}")).await.ok();
        assert_eq!((&story["rating"]["score"], &story["rating"]["reasons"]), (&json!(2), &json!(["回复太慢"])));
        assert!(!story.to_string().contains("13812345678"), "{story}");
        assert_eq!(event_count(&service, &ticket, "rated").await, 1);
        let report = service.get("/v1/reports/satisfaction").await.ok();
        assert_eq!((&report["rows"][0]["ratings"], &report["rows"][0]["score_2"]), (&json!(1), &json!(1)));

        // What has begun again is not done.
        let again = closed(&service, "again", None).await;
        surveys.send_due(now()).await.unwrap();
        service.act(&again, "reopen", json!({})).await.ok();
        let path = answer_path(&self::link(&service, "again").await);
        assert_eq!(service.post(&path, json!({ "score": 5 })).await.refusal(), (409, "not_rated".to_owned()));
        assert_eq!(surveys_of(&service, &again).await[0].answered_at, None);
        // Bot turns that only invite are no decisions.
        let decisions = service.get("/v1/reports/decisions").await.ok()["rows"][0].clone();
        assert_eq!((&decisions["escalate"], &decisions["decisions"]), (&json!(2), &json!(2)), "{decisions}");
    })
    .await;
}

/// Settings that ask everybody how likely they recommend us, and nothing else.
fn recommending() -> SurveySettings {
    SurveySettings { send: false, nps_share: 1.0, ..SurveySettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_asked_at_most_once_in_a_while_how_likely_they_recommend_us() {
    on_each_database(async |place| {
        let (service, one) = asking(place, recommending()).await;
        let two = Surveys::new(service.state.storage().clone(), recommending());
        let nobody = closed(&service, "nobody", None).await;
        assert_eq!(surveys_of(&service, &nobody).await, [], "an unknown customer is not asked");
        let mut tickets = Vec::new();
        for session in ["a", "b", "c", "d"] {
            tickets.push(closed(&service, session, Some("u")).await);
        }
        let later = now() + 7 * DAY;
        assert_eq!(one.send_due(later - HOUR).await.unwrap(), 0, "not yet");
        let (a, b) = tokio::join!(one.send_due(later), two.send_due(later));
        assert_eq!(a.unwrap() + b.unwrap(), 1, "one customer, one invitation");
        let mut left = Vec::new();
        for ticket in &tickets {
            left.extend(surveys_of(&service, ticket).await);
        }
        assert_eq!((left.len(), left[0].kind), (1, SurveyKind::Nps), "the others are dropped");

        closed(&service, "e", Some("u")).await;
        assert_eq!(one.send_due(later + DAY).await.unwrap(), 0, "asked a day ago");
        closed(&service, "f", Some("u")).await;
        let often =
            Surveys::new(service.state.storage().clone(), SurveySettings { nps_every_days: 1, ..recommending() });
        assert_eq!(often.send_due(later + DAY - SECOND).await.unwrap(), 0, "less than a day ago");
        closed(&service, "g", Some("u")).await;
        assert_eq!(often.send_due(later + DAY).await.unwrap(), 1, "a day ago");

        // Those who are asked are those of the sample, whoever looks.
        let half = SurveySettings { nps_share: 0.5, nps_seed: 7, ..recommending() };
        let desk = yingda::desk::Desk::with_surveys(service.state.storage().clone(), half.clone());
        let mut sampled = 0;
        for number in 0..12 {
            let user = format!("customer-{number}");
            let ticket = resolved(&service, &format!("half-{number}"), Some(&user)).await;
            desk.close_resolved(&ticket, now()).await.unwrap();
            assert_eq!(surveys_of(&service, &ticket).await.len(), usize::from(half.samples(&user)), "{user}");
            sampled += usize::from(half.samples(&user));
        }
        assert!((1..12).contains(&sampled), "{sampled} of 12");
    })
    .await;
}

#[tokio::test]
async fn recommendations_are_counted_by_their_day() {
    on_each_database(async |place| {
        let (service, surveys) = asking(place, recommending()).await;
        // The last and the first millisecond of days: 9 and 0 on the day, 10 before, 7 after.
        let end = MIDNIGHT + DAY;
        for (user, score, at) in
            [("a", 10, MIDNIGHT - 1), ("b", 9, MIDNIGHT), ("c", 8, MIDNIGHT + HOUR), ("d", 0, end - 1), ("e", 7, end)]
        {
            let ticket = closed(&service, user, Some(user)).await;
            let survey = surveys_of(&service, &ticket).await.remove(0);
            let answer = Rating { score, reasons: Vec::new(), comment: None };
            surveys.answer(&survey, &answer, at).await.unwrap();
            assert!(surveys.answer(&survey, &answer, at).await.is_err(), "once");
        }
        let read = async |query: &str| service.get(&format!("/v1/reports/nps?{query}")).await.ok()["rows"].clone();
        let day = read("from=2025-01-01&to=2025-01-02").await;
        let expected = json!([{ "answers": 3, "promoters": 1, "passives": 1, "detractors": 1, "nps": 0.0 }]);
        assert_eq!(day, expected);
        let days = read("from=2024-12-31&to=2025-01-03&group=day").await;
        let scores: Vec<(&Value, &Value, &Value)> =
            days.as_array().unwrap().iter().map(|row| (&row["day"], &row["answers"], &row["nps"])).collect();
        let (before, on, after) = (json!("2024-12-31"), json!("2025-01-01"), json!("2025-01-02"));
        let expected = [(&before, 1, 100.0), (&on, 3, 0.0), (&after, 1, 0.0)];
        for (found, (day, answers, nps)) in scores.iter().zip(expected) {
            assert_eq!(*found, (day, &json!(answers), &json!(nps)));
        }
        let utc = read("from=2024-12-31&to=2025-01-02&group=day&offset=Z").await;
        assert_eq!((&utc[0]["answers"], &utc[1]["answers"]), (&json!(3), &json!(2)), "the same by the days of UTC");
        assert_eq!(read("from=2025-01-01&to=2025-01-02&group=hour").await[23]["detractors"], 1);
        let channels = read("from=2025-01-01&to=2025-01-02&group=channel").await;
        assert_eq!((&channels[0]["channel"], &channels[0]["answers"]), (&json!("web"), &json!(3)));
        assert_eq!(read("from=2025-01-01&to=2025-01-02&channel=api").await[0]["nps"], Value::Null, "a mean of nothing");
        service.get("/v1/reports/nps?team=x").await.refuses("team");
        service.get("/v1/reports/nps?group=agent").await.refuses("group");
        let file = service.get("/v1/reports/nps?from=2024-12-31&to=2025-01-03&format=csv").await.text();
        let lines: Vec<&str> = file.trim_start_matches('\u{feff}').lines().collect();
        assert_eq!(lines, ["回答,推荐者（9–10 分）,被动者（7–8 分）,贬损者（0–6 分）,净推荐值", "5,2,2,1,20"]);
        let summary = service.get("/v1/reports/summary?from=2025-01-01&to=2025-01-02").await.ok();
        assert!(summary["reports"].as_array().unwrap().iter().any(|report| report["name"] == "nps"));

        // Over the page: 0 to 10.
        closed(&service, "page", Some("page")).await;
        surveys.send_due(now() + 7 * DAY).await.unwrap();
        let link = link(&service, "page").await;
        let page = service.get(&link).await;
        assert!(page.status == 200 && page.text().contains("data-kind=\"nps\""), "{}", page.text());
        let path = answer_path(&link);
        service.post(&path, json!({ "score": 11 })).await.refuses("score");
        service.post(&path, json!({ "score": -1 })).await.refuses("score");
        assert_eq!(service.post(&path, json!({ "score": 0 })).await.ok(), json!({ "kind": "nps", "score": 0 }));
        assert_eq!(service.post(&path, json!({ "score": 0 })).await.refusal(), (409, "survey_answered".to_owned()));
    })
    .await;
}
