//! Files beside a conversation: who may send which, who sees them, and how they are served. On both databases.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use yingda::Config;

use crate::support::{Answer, Place, Service, on_each_database};

/// The first bytes of a PNG with something behind them.
pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89";

/// A request whose body is a file.
pub(crate) fn upload(path: &str, kind: &str, content: impl Into<Body>) -> Request<Body> {
    Request::builder().method("POST").uri(path).header("content-type", kind).body(content.into()).unwrap()
}

/// An address with a name in its query, every byte of it encoded.
pub(crate) fn named(path: &str, name: &str) -> String {
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}name={encoded}")
}

/// A customer's file.
pub(crate) async fn send(service: &Service, session: &str, name: &str, content: &[u8]) -> Answer {
    let path = named(&format!("/v1/sessions/{session}/attachments"), name);
    service.send(upload(&path, "application/octet-stream", content.to_vec())).await
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

#[track_caller]
fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
}

async fn with(place: &Place, change: impl FnOnce(&mut Config)) -> Service {
    let mut config = place.config();
    change(&mut config);
    Service::open(config).await
}

#[tokio::test]
async fn a_customers_picture_is_a_message_and_comes_back_byte_by_byte() {
    on_each_database(async |place| {
        let service = place.service().await;
        let path = named("/v1/sessions/s/attachments?message_id=m1&channel=web", "杯子 13812345678.jpg");
        let answer = service.send(upload(&path, "text/html", PNG)).await;
        let first = answer.ok();
        assert_eq!((&first["decision"], &first["reason"]), (&json!("clarify"), &json!("non_text")));
        assert!(string(&first["reply"]).contains("图片"));
        let file = &first["attachment"];
        assert_eq!((&file["type"], &file["bytes"]), (&json!("image/png"), &json!(PNG.len())));
        assert_eq!(file["name"], "杯子 [手机号].jpg.png", "named by its bytes, personal data masked");
        let again = service.send(upload(&path, "image/png", PNG)).await;
        assert_eq!((&again.headers["idempotent-replayed"], &again.body), (&"true".parse().unwrap(), &answer.body));

        let session = service.session("s").await;
        assert_eq!((&session["last_seq"], &session["channel"]), (&json!(2), &json!("web")), "kept once");
        assert_eq!(
            (&session["turns"][0]["text"], &session["turns"][0]["attachments"]),
            (&json!("[图片]"), &json!([file]))
        );
        assert!(session["turns"][1].get("attachments").is_none());

        let id = string(&file["id"]);
        for path in [format!("/v1/sessions/s/attachments/{id}"), format!("/v1/attachments/{id}")] {
            let served = service.get(&path).await;
            assert_eq!((served.status, served.body.as_slice()), (200, PNG));
            assert_eq!(header(&served, "content-type"), "image/png");
            assert_eq!(header(&served, "x-content-type-options"), "nosniff");
            assert_eq!(header(&served, "content-security-policy"), "sandbox; default-src 'none'");
            assert_eq!(header(&served, "cross-origin-resource-policy"), "same-origin");
            assert!(header(&served, "cache-control").contains("private"));
            let disposition = header(&served, "content-disposition");
            assert!(
                disposition.starts_with("inline; filename=\"") && disposition.contains("filename*=UTF-8''%E6%9D%AF")
            );
        }
        let missing = (404, "attachment_not_found".to_owned());
        assert_eq!(service.get(&format!("/v1/sessions/other/attachments/{id}")).await.refusal(), missing);
        for unknown in ["x", "00000000-0000-7000-8000-000000000000", "%27%20OR%201=1"] {
            assert_eq!(service.get(&format!("/v1/attachments/{unknown}")).await.refusal(), missing, "{unknown}");
        }
    })
    .await;
}

#[tokio::test]
async fn people_answer_with_files_and_keep_some_for_themselves() {
    on_each_database(async |place| {
        let service = place.service().await;
        let ticket = string(&service.chat("s", "人工").await["ticket_id"]);
        let silent = send(&service, "s", "录音.amr", b"#!AMR\n\x3c\x91\x17\x16\xbe\x66\x79\xe1").await.ok();
        assert_eq!((&silent["decision"], &silent["ticket_id"]), (&json!("silent"), &json!(ticket)));
        assert!(silent.get("reply").is_none());

        let path = |query: &str| format!("/v1/tickets/{ticket}/attachments{query}");
        let attach = async |query: &str, name: &str, content: &[u8]| {
            service.send(upload(&named(&path(query), name), "image/png", content.to_vec())).await
        };
        let early = attach("?agent=%E5%B0%8F%E7%8E%8B", "a.png", PNG).await;
        assert_eq!(early.refusal(), (409, "ticket_state".to_owned()));
        service.act(&ticket, "take", json!({ "agent": "小王" })).await.ok();
        let theirs = attach("?agent=%E5%B0%8F%E6%9D%8E", "a.png", PNG).await;
        assert_eq!(theirs.refusal(), (403, "not_assignee".to_owned()));
        let sent = attach("?agent=%E5%B0%8F%E7%8E%8B", "退货单.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3").await;
        assert_eq!(sent.status, 201);
        let sent = sent.ok();
        assert_eq!(
            (&sent["ticket"]["status"], &sent["attachment"]["type"]),
            (&json!("in_progress"), &json!("application/pdf"))
        );
        let kept = attach("?agent=%E5%B0%8F%E6%9D%8E&inside=true", "inside.txt", "只给同事看".as_bytes()).await.ok();
        let (sent, kept) = (string(&sent["attachment"]["id"]), string(&kept["attachment"]["id"]));

        let session = service.session("s").await;
        let last = session["turns"].as_array().unwrap().last().unwrap();
        assert_eq!(
            (&last["role"], &last["author"], &last["text"]),
            (&json!("agent"), &json!("小王"), &json!("[文件]"))
        );
        assert_eq!(last["attachments"][0]["id"], sent);
        assert!(!session.to_string().contains("inside.txt"), "{session}");
        let served = service.get(&format!("/v1/sessions/s/attachments/{sent}")).await;
        assert!(served.status == 200 && header(&served, "content-disposition").starts_with("attachment; "));
        let refused = service.get(&format!("/v1/sessions/s/attachments/{kept}")).await;
        assert_eq!(refused.refusal(), (404, "attachment_not_found".to_owned()), "a customer never gets it");
        let served = service.get(&format!("/v1/attachments/{kept}")).await;
        assert_eq!(
            (served.text().as_str(), header(&served, "content-type")),
            ("只给同事看", "text/plain; charset=utf-8")
        );

        // With an id of the caller's it can be sent again.
        for inside in ["", "&inside=true"] {
            let turns = service.session("s").await["last_seq"].clone();
            let query = format!("?agent=%E5%B0%8F%E7%8E%8B&message_id=f1{}{inside}", inside.len());
            let once = attach(&query, "b.png", PNG).await.ok();
            let again = attach(&query, "b.png", PNG).await.ok();
            assert_eq!((&once["attachment"], &once["ticket"]), (&again["attachment"], &again["ticket"]));
            assert_eq!(attach(&query, "c.png", PNG).await.refusal(), (409, "message_id_reused".to_owned()));
            let grown = if inside.is_empty() { 1 } else { 0 };
            assert_eq!(service.session("s").await["last_seq"], turns.as_i64().unwrap() + grown);
        }

        let story = service.get(&format!("/v1/tickets/{ticket}")).await.ok();
        let events = story["events"].as_array().unwrap();
        let note = events.iter().find(|event| event["kind"] == "note").unwrap();
        assert_eq!((&note["actor"], &note["data"]["attachment"]["id"]), (&json!("小李"), &json!(kept)));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_accepted_is_refused_and_nothing_is_kept() {
    on_each_database(async |place| {
        let service = with(place, |config| {
            config.desk.attachments.max_bytes = 1000;
            config.desk.attachments.types.retain(|kind| kind != "image/gif");
        })
        .await;
        let fitting = [PNG, &vec![0; 1000 - PNG.len()]].concat();
        send(&service, "fits", "a.png", &fitting).await.ok();
        let too_large = send(&service, "s", "a.png", &[&fitting[..], &[0]].concat()).await;
        assert_eq!(too_large.refusal(), (413, "body_too_large".to_owned()));
        let wrong = (415, "attachment_type".to_owned());
        for content in [&b"GIF89a\x01\0\x01\0\0"[..], b"MZ\x90\0", b"PK\x03\x04", b"\0", b"<svg/>", b"\xff\xfe\0"] {
            assert_eq!(send(&service, "s", "a.png", content).await.refusal(), wrong, "{content:?}");
        }
        send(&service, "s", "a.png", b"").await.refuses("（请求体）");
        send(&service, "s", "..", PNG).await.refuses("name");
        service.send(upload("/v1/sessions/s/attachments", "image/png", PNG)).await.refuses("name");
        let odd = service.send(upload("/v1/sessions/s/attachments?name=a.png&path=x", "image/png", PNG)).await;
        assert_eq!(odd.refusal(), (400, "invalid_query".to_owned()));
        assert_eq!(service.get("/v1/sessions/s").await.status, 404, "nothing of all this was stored");
        let large = vec![b'a'; 300 * 1024];
        let elsewhere = service.send(upload("/v1/chat", "application/json", large)).await;
        assert_eq!(elsewhere.refusal(), (413, "body_too_large".to_owned()), "other routes keep their own limit");
    })
    .await;
}

#[tokio::test]
async fn a_session_gets_so_many_files_an_hour_and_no_more() {
    on_each_database(async |place| {
        let service = with(place, |config| config.desk.attachments.per_hour = 3).await;
        for number in 0..3 {
            send(&service, "s", &format!("{number}.png"), PNG).await.ok();
        }
        let refused = send(&service, "s", "3.png", PNG).await;
        assert_eq!(refused.refusal(), (429, "too_many_attachments".to_owned()));
        let seconds: i64 = header(&refused, "retry-after").parse().unwrap();
        assert!((3500..=3600).contains(&seconds), "{seconds}");
        assert_eq!(service.session("s").await["last_seq"], 6, "the message is not kept either");
        send(&service, "other", "3.png", PNG).await.ok();
        let ticket = string(&service.chat("s", "人工").await["ticket_id"]);
        let path = named(&format!("/v1/tickets/{ticket}/attachments?inside=true"), "a.png");
        let inside = service.send(upload(&path, "image/png", PNG)).await;
        assert_eq!(inside.refusal(), (429, "too_many_attachments".to_owned()));
    })
    .await;
}
