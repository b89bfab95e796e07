//! What somebody may try against the service, and what comes of it. docs/security.md has the list.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use yingda::auth::Role;

use crate::{
    attachments::{PNG, named, send, upload},
    sharing::{Holder, House, string},
    support::{Answer, Place, Service, on_each_database, request, with_body},
    users::{Browser, add, closed, with},
};

const SCRIPT: &str = "<script>alert(document.cookie)</script><img src=x onerror=alert(1)>";

#[track_caller]
fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
}

/// The file of an upload, as it is served.
async fn served(service: &Service, uploaded: &Answer) -> Answer {
    let id = string(&uploaded.ok()["attachment"]["id"]);
    service.get(&format!("/v1/attachments/{id}")).await
}

#[tokio::test]
async fn a_script_in_a_message_stays_text() {
    on_each_database(async |place| {
        let service = place.service().await;
        service.chat("s", SCRIPT).await;
        let ticket = string(&service.chat("s", "人工").await["ticket_id"]);
        service.act(&ticket, "notes", json!({ "text": SCRIPT })).await.ok();
        for path in
            ["/v1/sessions/s".to_owned(), format!("/v1/tickets/{ticket}"), "/v1/tickets/search?q=alert".to_owned()]
        {
            let answer = service.get(&path).await;
            assert_eq!((answer.status, header(&answer, "content-type")), (200, "application/json"), "{path}");
            assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{path}");
            assert!(answer.text().contains("<script>"), "kept letter by letter: {}", answer.text());
        }
        // The pages put texts in as text: no script of theirs makes HTML of anything, and the browser would run none.
        for path in ["/", "/page/chat.js", "/page/attach.js", "/console/attachments.js", "/console/ticket.js"] {
            let file = service.get(path).await;
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!file.text().contains(forbidden), "{path} has {forbidden}");
            }
            assert!(header(&file, "content-security-policy").contains("script-src 'self'"), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_script_in_a_file_or_its_name_is_never_run() {
    on_each_database(async |place| {
        let service = place.service().await;
        let refused = (415, "attachment_type".to_owned());
        for content in [
            format!("<!DOCTYPE html>{SCRIPT}"),
            format!("\n  {SCRIPT}"),
            format!("\u{feff}<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\">{SCRIPT}</svg>"),
            "<?xml version=\"1.0\"?><x/>".to_owned(),
        ] {
            for name in ["a.html", "a.svg", "a.png", "a.txt"] {
                assert_eq!(send(&service, "s", name, content.as_bytes()).await.refusal(), refused, "{name}: {content}");
            }
        }
        // What hides it behind words is a text, to be saved and not shown.
        let hidden = send(&service, "s", "a.html", format!("hello {SCRIPT}").as_bytes()).await;
        let file = served(&service, &hidden).await;
        assert_eq!(header(&file, "content-type"), "text/plain; charset=utf-8");
        assert!(header(&file, "content-disposition").starts_with("attachment; filename=\"a.html.txt\""));
        for part in ["nosniff", "sandbox; default-src 'none'"] {
            assert!(file.headers.values().any(|value| value == part), "{part}");
        }
        let name = "\"><img src=x onerror=alert(1)>.png";
        let odd = send(&service, "s", name, PNG).await;
        let file = served(&service, &odd).await;
        let disposition = header(&file, "content-disposition");
        assert_eq!((disposition.matches('"').count(), disposition.contains(['<', '>'])), (2, false), "{disposition}");
    })
    .await;
}

#[tokio::test]
async fn another_site_cannot_use_a_cookie_not_even_to_upload() {
    on_each_database(async |place| {
        let service = closed(place).await;
        add(&service, "xiaowang", Role::Agent).await;
        let browser = Browser::new(&service, "xiaowang").await;
        let ticket = browser.send("POST", "/v1/chat", json!({ "session_id": "s", "text": "人工" })).await.ok();
        let ticket = string(&ticket["ticket_id"]);
        // All that a form of another site could send by itself.
        for kind in ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "image/png"]
        {
            for path in [
                "/v1/sessions/s/attachments?name=a.png".to_owned(),
                format!("/v1/tickets/{ticket}/attachments?name=a.png&inside=true"),
                format!("/v1/tickets/{ticket}/take"),
            ] {
                let forged = with(upload(&path, kind, PNG), "cookie", &browser.cookie);
                let forged = with(forged, "origin", "https://evil.example");
                assert_eq!(service.send(forged).await.refusal(), (403, "csrf".to_owned()), "{kind} {path}");
            }
        }
        let path = "/v1/sessions/s/attachments?name=a.png";
        assert_eq!(service.send(browser.sign(upload(path, "image/png", PNG))).await.status, 200);
        assert_eq!(browser.get("/v1/sessions/s").await.ok()["last_seq"], 3, "one picture was kept, the page's own");
    })
    .await;
}

#[tokio::test]
async fn guessed_ids_lead_nowhere() {
    on_each_database(async |place| {
        let house = House::new(place).await;
        add(&house.service, "xiaowang", Role::Agent).await;
        let wang = Browser::new(&house.service, "xiaowang").await;
        let picture = upload(&named("/v1/sessions/mine/attachments", "a.png"), "image/png", PNG);
        let kept = house.service.send(wang.sign(picture)).await;
        let id = string(&kept.ok()["attachment"]["id"]);
        // A caller who knows the file but names another session, or none.
        let missing = (404, "attachment_not_found".to_owned());
        for session in ["other", "MINE", "mine%00", "%27%20OR%20%271%27=%271", "%25"] {
            let path = format!("/v1/sessions/{session}/attachments/{id}");
            assert_eq!(house.gateway.get(&path).await.refusal(), missing, "{session}");
        }
        let refused = house.gateway.get(&format!("/v1/attachments/{id}")).await.refusal();
        assert_eq!(refused, (403, "forbidden".to_owned()));
        assert_eq!(house.gateway.get(&format!("/v1/sessions/mine/attachments/{id}")).await.status, 200);
        // Somebody outside learns nothing from an id that exists.
        let ticket = house.ticket("mine").await;
        let (real, made_up) = (ticket, uuid::Uuid::now_v7().to_string());
        let tell = async |id: &str| {
            let answer = house.zhang.get(&format!("/v1/tickets/{id}")).await;
            (answer.status, answer.text().replace(id, "ID"))
        };
        assert_eq!(tell(&real).await, tell(&made_up).await);
        let files = [id, uuid::Uuid::now_v7().to_string()];
        for file in &files {
            assert_eq!(house.zhang.get(&format!("/v1/attachments/{file}")).await.refusal(), missing);
        }
        for path in
            ["/v1/sessions/mine", "/v1/desk/board", "/v1/desk/agents", "/v1/knowledge/entries", "/v1/organisations"]
        {
            assert_eq!(house.zhang.get(path).await.refusal(), (403, "outside".to_owned()), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_is_no_path() {
    on_each_database(async |place| {
        let service = place.service().await;
        for (name, kept) in [
            ("../../etc/passwd", "passwd.png"),
            ("..\\..\\Windows\\win.png", "win.png"),
            ("/etc/cron.d/x.png", "x.png"),
            ("a\0.png", "a.png"),
            ("%2e%2e%2fpasswd", "%2e%2e%2fpasswd.png"),
            ("photo\u{202e}gnp.exe", "photognp.exe.png"),
        ] {
            let answer = send(&service, "s", name, PNG).await;
            assert_eq!(answer.ok()["attachment"]["name"], kept, "{name:?}");
            assert_eq!(served(&service, &answer).await.body, PNG);
        }
        for name in ["..", "..\\", "../", "\0", "%", "."] {
            let answer = send(&service, "s", name, PNG).await;
            if name == "%" {
                assert_eq!(answer.ok()["attachment"]["name"], "%.png");
            } else {
                answer.refuses("name");
            }
        }
        let raw = "/v1/sessions/s/attachments?name=%2e%2e%2f%2e%2e%5c";
        service.send(upload(raw, "image/png", PNG)).await.refuses("name");
    })
    .await;
}

/// A body that never says how long it is, over a real connection: it is cut off at the limit, not read to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_length_is_cut_off_at_the_limit() {
    let place = Place::sqlite();
    let mut config = place.config();
    config.desk.attachments.max_bytes = 100_000;
    let service = Service::open(config).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let router = yingda::router(service.state.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!(
            "POST /v1/sessions/s/attachments?name=a.png HTTP/1.1\r\nhost: {address}\r\ncontent-type: image/png\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = [b"4000\r\n".as_slice(), &vec![b'a'; 0x4000], b"\r\n"].concat();
        // Just more than the limit, and no end of it.
        for _ in 0..7 {
            stream.write_all(&chunk).unwrap();
        }
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    })
    .await
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(service.get("/v1/sessions/s").await.status, 404, "nothing is kept");
}

#[tokio::test]
async fn what_a_file_is_its_bytes_tell_and_not_its_header() {
    on_each_database(async |place| {
        let service = place.service().await;
        let refused = (415, "attachment_type".to_owned());
        for content in [
            &b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff"[..],
            b"\x7fELF\x02\x01\x01\0",
            b"#!/bin/sh\nid",
            b"\xca\xfe\xba\xbe\0\0",
        ] {
            for kind in ["image/png", "application/pdf", "text/plain"] {
                let request = upload(&named("/v1/sessions/s/attachments", "a.png"), kind, content.to_vec());
                assert_eq!(service.send(request).await.refusal(), refused, "{content:?} as {kind}");
            }
        }
        // Two things at once: a picture with a page behind it is served as a picture and as nothing else.
        let both = [PNG, SCRIPT.as_bytes()].concat();
        let request = upload(&named("/v1/sessions/s/attachments", "a.html"), "text/html", both.clone());
        let file = served(&service, &service.send(request).await).await;
        assert_eq!((header(&file, "content-type"), &file.body), ("image/png", &both));
        assert_eq!(header(&file, "x-content-type-options"), "nosniff");
        // A script that begins as a GIF does is all text, and told as text.
        let gif = send(&service, "s", "a.gif", b"GIF89a=1;alert(1)").await;
        assert_eq!(header(&served(&service, &gif).await, "content-type"), "text/plain; charset=utf-8");
    })
    .await;
}

#[tokio::test]
async fn sql_in_words_is_words() {
    on_each_database(async |place| {
        let service = place.service().await;
        let drop = "'); DROP TABLE attachments; --";
        let ticket = string(&service.chat("s", "转人工").await["ticket_id"]);
        service.act(&ticket, "notes", json!({ "text": drop })).await.ok();
        for (words, found) in [
            (drop, 1),
            ("' OR 1=1 --", 0),
            ("\" OR pairs MATCH \"", 0),
            ("%%", 0),
            ("__", 0),
            ("1) UNION SELECT hash FROM api_keys", 0),
        ] {
            let encoded: String = words.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let page = service.get(&format!("/v1/tickets/search?q={encoded}")).await.ok();
            assert_eq!(page["found"].as_array().unwrap().len(), found, "{words}");
        }
        let kept = send(&service, "s", &format!("{drop}.png"), PNG).await;
        assert_eq!(kept.ok()["attachment"]["name"], format!("{drop}.png"));
        assert_eq!(served(&service, &kept).await.body, PNG, "the table is still there");
        for path in
            ["/v1/tickets?team=%27%20OR%20%271%27%3D%271", "/v1/tickets?assignee=x%27%3B%20DELETE%20FROM%20tickets"]
        {
            assert_eq!(service.get(path).await.ok()["tickets"], json!([]), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_cookie_is_worth_nothing_after_its_owner_has_left() {
    on_each_database(async |place| {
        let service = closed(place).await;
        add(&service, "xiaowang", Role::Agent).await;
        let browser = Browser::new(&service, "xiaowang").await;
        let copy = browser.clone();
        assert_eq!(copy.get("/v1/tickets").await.status, 200, "a copy works while its owner is there");
        assert_eq!(browser.send("POST", "/v1/logout", json!({})).await.status, 204);
        Browser::is_refused(&copy.get("/v1/tickets").await);
        let path = "/v1/sessions/s/attachments?name=a.png";
        Browser::is_refused(&service.send(copy.sign(upload(path, "image/png", PNG))).await);
        // A new login brings the old cookie to no new life.
        Browser::new(&service, "xiaowang").await;
        Browser::is_refused(&copy.get("/v1/me").await);
    })
    .await;
}

/// A ZIP file with one document that claims 4 GiB; what it holds is no deflate stream, so whoever unpacks it fails.
fn bomb(name: &str) -> Vec<u8> {
    let packed = [0xff_u8; 64];
    let sizes = |out: &mut Vec<u8>| {
        out.extend(0_u32.to_le_bytes());
        out.extend((packed.len() as u32).to_le_bytes());
        out.extend(0xffff_fff0_u32.to_le_bytes());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(0_u16.to_le_bytes());
    };
    let mut file = b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0".to_vec();
    sizes(&mut file);
    file.extend(name.as_bytes());
    file.extend(packed);
    let directory = file.len() as u32;
    file.extend(b"PK\x01\x02\x14\0\x14\0\0\0\x08\0\0\0\0\0");
    sizes(&mut file);
    file.extend([0; 14]);
    file.extend(name.as_bytes());
    let length = file.len() as u32 - directory;
    file.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    file.extend(length.to_le_bytes());
    file.extend(directory.to_le_bytes());
    file.extend(0_u16.to_le_bytes());
    file
}

#[tokio::test]
async fn a_decompression_bomb_is_never_unpacked() {
    on_each_database(async |place| {
        let service = place.service().await;
        for (entry, kind) in
            [("word/document.xml", "wordprocessingml.document"), ("xl/workbook.xml", "spreadsheetml.sheet")]
        {
            let bomb = bomb(entry);
            let kept = send(&service, "s", "报价", &bomb).await;
            assert!(string(&kept.ok()["attachment"]["type"]).ends_with(kind), "{}", kept.text());
            assert_eq!(served(&service, &kept).await.body, bomb, "the same bytes");
        }
        let refused = (415, "attachment_type".to_owned());
        for entry in ["readme.txt", "word/vbaProject.bin", "../../etc/passwd"] {
            assert_eq!(send(&service, "s", "a.docx", &bomb(entry)).await.refusal(), refused, "{entry}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_puts_nothing_into_the_headers() {
    on_each_database(async |place| {
        let service = place.service().await;
        for name in [
            "a\r\nSet-Cookie: yingda_session=x\r\n\r\n<html>.png",
            "a\nX-Odd: 1.png",
            "a\u{85}\u{2028}X-Odd: 1.png",
            "a\";\r\nContent-Type=\"text/html.png",
        ] {
            let file = served(&service, &send(&service, "s", name, PNG).await).await;
            assert_eq!((file.status, header(&file, "content-type")), (200, "image/png"), "{name:?}");
            assert!(!file.headers.contains_key("set-cookie") && !file.headers.contains_key("x-odd"), "{name:?}");
            let disposition = header(&file, "content-disposition");
            assert!(disposition.is_ascii() && disposition.matches('"').count() == 2, "{disposition}");
            assert!(!disposition.contains("%0D") && !disposition.contains("%0A"), "{disposition}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_forged_host_or_origin_is_refused_where_no_key_is_asked_for() {
    let place = Place::sqlite();
    let service = place.service().await;
    let refused = (403, "host_refused".to_owned());
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example"] {
        let forged = with(upload("/v1/sessions/s/attachments?name=a.png", "image/png", PNG), "host", host);
        assert_eq!(service.send(forged).await.refusal(), refused, "{host}");
    }
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        let forged = with(upload("/v1/sessions/s/attachments?name=a.png", "text/plain", PNG), "host", "localhost:8080");
        let forged = with(forged, "origin", origin);
        assert_eq!(service.send(forged).await.refusal(), refused, "{origin}");
    }
    assert_eq!(service.get("/v1/sessions/s").await.status, 404, "nothing is kept");
}

#[tokio::test]
async fn json_ten_thousand_levels_deep_is_refused() {
    let place = Place::sqlite();
    let service = place.service().await;
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let ticket = string(&service.chat("s", "人工").await["ticket_id"]);
    for (method, path, body) in [
        (
            "POST",
            "/v1/chat".to_owned(),
            format!(r#"{{"session_id": "d", "text": "好", "profile": {{"a": {open}{close}}}}}"#),
        ),
        ("PATCH", format!("/v1/tickets/{ticket}"), format!(r#"{{"fields": {{"a": {open}{close}}}}}"#)),
        ("POST", format!("/v1/tickets/{ticket}/notes"), format!("{open}{close}")),
    ] {
        let answer = service.send(with_body(method, &path, body)).await;
        assert!([400, 422].contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    assert_eq!(service.get("/v1/sessions/d").await.status, 404);
    service.chat("s", "还在吗").await;
}

#[tokio::test]
async fn what_nobody_offered_to_set_cannot_be_set() {
    on_each_database(async |place| {
        let house = House::new(place).await;
        let ticket = house.ticket("s").await;
        let profile = json!({ "role": "admin", "organisation": house.courier, "is_admin": true });
        let message = json!({ "session_id": "s", "text": "好的", "profile": profile });
        house.gateway.send("POST", "/v1/chat", message).await.ok();
        assert_eq!(house.gateway.get("/v1/me").await.ok()["role"], "caller");
        assert_eq!(house.gateway.get("/v1/tickets").await.refusal(), (403, "forbidden".to_owned()));
        let patch = |field: &'static str, value: Value| (field, json!({ field: value }));
        for (field, body) in [
            patch("organisation", json!(house.courier)),
            patch("assignee", json!("小王")),
            patch("status", json!("resolved")),
            patch("team", json!("快递核查")),
            patch("ticket_id", json!("x")),
        ] {
            house.wang.send("PATCH", &format!("/v1/tickets/{ticket}"), body).await.refuses(field);
        }
        let take = json!({ "agent": "小王", "role": "admin" });
        house.wang.act(&ticket, "take", take).await.refuses("role");
        let account = json!({ "login": "x", "name": "x", "role": "agent", "password": "correct horse", "id": "1" });
        house.boss.send("POST", "/v1/users", account).await.refuses("id");
        let mine = json!({ "old_password": "a", "new_password": "b", "role": "admin" });
        assert_eq!(house.wang.send("POST", "/v1/me/password", mine).await.refusal(), (403, "login_needed".to_owned()));
        assert_eq!(house.service.state.storage().shares_of(&house.courier).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn headers_of_a_proxy_give_nobody_rights() {
    on_each_database(async |place| {
        let house = House::new(place).await;
        let caller = Holder::new(&house.service, "程序", Role::Caller).await;
        for (name, value) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "localhost"),
            ("x-forwarded-user", "admin"),
            ("x-remote-user", "admin"),
            ("x-real-ip", "127.0.0.1"),
            ("x-original-url", "/healthz"),
            ("x-rewrite-url", "/healthz"),
            ("x-http-method-override", "GET"),
            ("forwarded", "for=127.0.0.1;host=localhost;proto=https"),
        ] {
            let bare = with(request("GET", "/v1/users"), name, value);
            assert_eq!(house.service.send(bare).await.refusal().0, 401, "{name}");
            let small = with(request("GET", "/v1/users"), "authorization", &caller.bearer);
            let small = house.service.send(with(small, name, value)).await;
            assert_eq!(small.refusal(), (403, "forbidden".to_owned()), "{name}");
        }
        let delete: Request<Body> = with(with_body("POST", "/v1/users", "{}"), "x-http-method-override", "GET");
        assert_eq!(house.service.send(delete).await.refusal(), (401, "key_missing".to_owned()));
    })
    .await;
}
