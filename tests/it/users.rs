//! People: their accounts, how they log in and out, and what each role may do. On SQLite, and on PostgreSQL where
//! `YINGDA_TEST_POSTGRES_URL` says where one is.

use std::{collections::BTreeSet, io::Write as _, net::SocketAddr, path::Path, process::Stdio};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Request, header},
};
use serde_json::{Value, json};
use sqlx::Connection as _;
use yingda::{
    auth::{self, Role},
    storage::{Storage, now, sqlite_url},
    users::{NewUser, ROLES, Users},
};

use crate::{
    service::{OUTSIDE, PEOPLE_ONLY, ROUTES},
    socket::yingda,
    support::{Answer, Place, Service, on_each_database, request, root, with_body},
};

pub(crate) const PASSWORD: &str = "correct horse";

/// A service that asks who one is.
pub(crate) async fn closed(place: &Place) -> Service {
    let mut config = place.config();
    config.open = false;
    Service::open(config).await
}

pub(crate) async fn add(service: &Service, login: &str, role: Role) -> String {
    let new = NewUser {
        login: login.to_owned(),
        name: format!("客服{login}"),
        role,
        team: Some("售后".to_owned()),
        password: PASSWORD.to_owned(),
    };
    service.state.users().create(new, now()).await.unwrap().id
}

fn log_in_request(login: &str, password: &str) -> Request<Body> {
    with_body("POST", "/v1/login", json!({ "login": login, "password": password }).to_string())
}

async fn try_log_in(service: &Service, login: &str, password: &str) -> Answer {
    service.send(log_in_request(login, password)).await
}

/// A request with one more header.
pub(crate) fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

/// What somebody changed behind the service's back.
pub(crate) async fn sql(place: &Place, statement: &'static str) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(&place.config().database_url()).await.unwrap();
    let changed = sqlx::query(statement).execute(&mut connection).await.unwrap();
    assert!(changed.rows_affected() > 0, "{statement} changed nothing");
    connection.close().await.unwrap();
}

/// A browser in which somebody is logged in.
#[derive(Clone)]
pub(crate) struct Browser {
    service: Service,
    pub(crate) cookie: String,
    csrf_token: String,
}

impl Browser {
    pub(crate) async fn new(service: &Service, login: &str) -> Self {
        Self::of(service, &try_log_in(service, login, PASSWORD).await)
    }

    fn of(service: &Service, answer: &Answer) -> Self {
        let csrf_token = answer.ok()["csrf_token"].as_str().unwrap().to_owned();
        let cookie = answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        Self { service: service.clone(), cookie, csrf_token }
    }

    /// A request as the page sends it.
    pub(crate) fn sign(&self, request: Request<Body>) -> Request<Body> {
        with(with(request, "cookie", &self.cookie), "x-csrf-token", &self.csrf_token)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.service.send(self.sign(request("GET", path))).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        self.service.send(self.sign(with_body(method, path, body.to_string()))).await
    }

    #[track_caller]
    pub(crate) fn is_refused(answer: &Answer) {
        assert_eq!(answer.refusal(), (401, "login_expired".to_owned()));
    }
}

#[tokio::test]
async fn who_logs_in_is_known_until_they_log_out() {
    on_each_database(async |place| {
        let service = closed(place).await;
        let id = add(&service, "xiaowang", Role::Agent).await;
        let answer = try_log_in(&service, " XiaoWang ", PASSWORD).await;
        let set = answer.headers["set-cookie"].to_str().unwrap().to_owned();
        let parts: Vec<&str> = set.split("; ").collect();
        assert_eq!(parts[1..], ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=604800"], "{set}");
        let token = parts[0].strip_prefix("yingda_session=").unwrap();
        assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{set}");
        assert_eq!(answer.headers["cache-control"], "no-store");
        let user = &answer.ok()["user"];
        assert_eq!((&user["user_id"], &user["login"]), (&json!(id), &json!("xiaowang")));
        assert_eq!((&user["role"], &user["team"], &user["disabled"]), (&json!("agent"), &json!("售后"), &json!(false)));
        assert!(user["last_login_at"].is_string() && !answer.text().contains("argon2"));

        let browser = Browser::of(&service, &answer);
        let me = browser.get("/v1/me").await.ok();
        assert_eq!((&me["kind"], &me["name"], &me["role"]), (&json!("user"), &json!("客服xiaowang"), &json!("agent")));
        assert_eq!((&me["csrf_token"], &me["user"]), (&json!(browser.csrf_token), user));
        assert_eq!(browser.get("/v1/tickets").await.status, 200);

        // Another browser is another login, and this one logging in again ends what it had.
        let second = Browser::new(&service, "xiaowang").await;
        let again = with(log_in_request("xiaowang", PASSWORD), "cookie", &second.cookie);
        let third = Browser::of(&service, &service.send(again).await);
        Browser::is_refused(&second.get("/v1/me").await);
        assert_ne!((&second.cookie, &second.csrf_token), (&third.cookie, &third.csrf_token));

        let out = browser.send("POST", "/v1/logout", json!({})).await;
        assert_eq!(out.status, 204);
        assert!(out.headers["set-cookie"].to_str().unwrap().starts_with("yingda_session=; "));
        assert!(out.headers["set-cookie"].to_str().unwrap().ends_with("Max-Age=0"));
        Browser::is_refused(&browser.get("/v1/me").await);
        Browser::is_refused(&browser.get("/v1/tickets").await);
        assert_eq!(browser.send("POST", "/v1/logout", json!({})).await.status, 204, "logging out again is fine");
        assert_eq!(third.get("/v1/me").await.status, 200, "nobody else is logged out");
        assert_eq!(service.get("/v1/me").await.refusal(), (401, "key_missing".to_owned()));
        for forged in
            ["yingda_session=", "yingda_session=x", "yingda_session=' OR 1=1", &"yingda_session=0".repeat(500)]
        {
            Browser::is_refused(&service.send(with(request("GET", "/v1/me"), "cookie", forged)).await);
        }
    })
    .await;
}

#[tokio::test]
async fn by_https_the_cookie_is_sent_by_https_only() {
    let place = Place::sqlite();
    let service = closed(&place).await;
    add(&service, "xiaowang", Role::Agent).await;
    let cookie = async |service: &Service, proto: &str| {
        let request = with(log_in_request("xiaowang", PASSWORD), "x-forwarded-proto", proto);
        service.send(request).await.headers["set-cookie"].to_str().unwrap().contains("; Secure")
    };
    assert!(cookie(&service, "https").await && cookie(&service, "HTTPS, http").await);
    assert!(!cookie(&service, "http").await && !cookie(&service, "http, https").await);
    service.state.close().await;
    drop(service);

    let mut config = place.config();
    (config.open, config.https) = (false, true);
    let service = Service::open(config).await;
    assert!(cookie(&service, "http").await);
}

#[tokio::test]
async fn an_unknown_login_name_is_answered_as_a_wrong_password_is() {
    on_each_database(async |place| {
        let service = closed(place).await;
        add(&service, "xiaowang", Role::Agent).await;
        let wrong = try_log_in(&service, "xiaowang", "wrong password").await;
        assert_eq!(wrong.refusal(), (401, "login_wrong".to_owned()));
        let names = |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
        let long = "长".repeat(20_000);
        for (login, password) in [
            ("nobody", PASSWORD),
            ("xiaowang", ""),
            ("xiaowang", &long),
            ("xiaowang2", "a\0b"),
            ("", PASSWORD),
            ("xiao\0wang", PASSWORD),
            ("' OR '1'='1", PASSWORD),
            ("xiaowang' --", PASSWORD),
            ("xiaowang'; DROP TABLE users; --", PASSWORD),
            ("😀", PASSWORD),
            (&long, PASSWORD),
        ] {
            let refused = try_log_in(&service, login, password).await;
            assert_eq!((refused.status, &refused.body), (wrong.status, &wrong.body), "{login:?}");
            assert_eq!(names(&refused), names(&wrong), "{login:?}");
        }
        assert!(try_log_in(&service, "xiaowang", PASSWORD).await.status == 200, "the account is still there");

        // What is no string at all is a matter of form.
        service.post("/v1/login", json!({ "login": "xiaowang" })).await.refuses("password");
        service.post("/v1/login", json!({ "login": 1, "password": PASSWORD })).await.refuses("login");
        service.post("/v1/login", json!({ "login": "a", "password": "b", "remember": true })).await.refuses("remember");
        let mut form = log_in_request("xiaowang", PASSWORD);
        form.headers_mut().insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
        assert_eq!(service.send(form).await.refusal(), (415, "unsupported_media_type".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn odd_passwords_are_passwords() {
    on_each_database(async |place| {
        let service = closed(place).await;
        for (index, password) in
            ["😀😀😀😀😀👨‍👩‍👧‍👦", "nul \0 inside", "'; DROP TABLE users; --", &"好".repeat(85), "  spaces count  "]
                .into_iter()
                .enumerate()
        {
            let login = format!("user{index}");
            let new = NewUser {
                login: login.clone(),
                name: format!("小王{index}"),
                role: Role::Agent,
                team: None,
                password: password.to_owned(),
            };
            service.state.users().create(new, now()).await.unwrap();
            assert_eq!(try_log_in(&service, &login, password).await.status, 200, "{password:?}");
            let half: String = password.chars().take(password.chars().count() - 1).collect();
            assert_eq!(try_log_in(&service, &login, &half).await.refusal(), (401, "login_wrong".to_owned()));
        }
    })
    .await;
}

#[tokio::test]
async fn five_wrong_passwords_lock_an_account_in_every_replica_until_the_time_is_over() {
    on_each_database(async |place| {
        let service = closed(place).await;
        let id = add(&service, "xiaowang", Role::Agent).await;
        add(&service, "boss", Role::Admin).await;
        let browser = Browser::new(&service, "xiaowang").await;
        let second = if place.is_postgres() {
            let mut config = place.config_of("second");
            config.open = false;
            Service::open(config).await
        } else {
            service.clone()
        };
        for number in 0..5 {
            let replica = if number % 2 == 0 { &service } else { &second };
            assert_eq!(try_log_in(replica, "xiaowang", "wrong").await.status, 401, "{number}");
        }
        for replica in [&service, &second] {
            let locked = try_log_in(replica, "xiaowang", PASSWORD).await;
            assert_eq!(locked.refusal(), (429, "login_locked".to_owned()));
            let seconds: i64 = locked.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((800..=900).contains(&seconds), "{seconds}");
            assert!(locked.text().contains("分钟"), "{}", locked.text());
        }
        assert_eq!(browser.get("/v1/me").await.status, 200, "who is logged in stays so");
        assert_eq!(try_log_in(&service, "boss", PASSWORD).await.status, 200, "others are not locked");
        sql(place, "UPDATE login_failures SET at = at - 800000").await;
        assert_eq!(try_log_in(&service, "xiaowang", PASSWORD).await.status, 429);
        sql(place, "UPDATE login_failures SET at = at - 100000").await;
        assert_eq!(try_log_in(&service, "xiaowang", PASSWORD).await.status, 200);

        // A success starts the count anew, and so does an admin.
        for round in 0..3 {
            for _ in 0..4 {
                assert_eq!(try_log_in(&service, "xiaowang", "wrong").await.status, 401, "{round}");
            }
            assert_eq!(try_log_in(&service, "xiaowang", PASSWORD).await.status, 200, "{round}");
        }
        for _ in 0..6 {
            try_log_in(&service, "xiaowang", "wrong").await;
        }
        let boss = Browser::new(&service, "boss").await;
        boss.send("PATCH", &format!("/v1/users/{id}"), json!({ "password": "another horse" })).await.ok();
        assert_eq!(try_log_in(&service, "xiaowang", "another horse").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn an_address_that_only_guesses_is_slowed_down() {
    let place = Place::sqlite();
    let service = closed(&place).await;
    add(&service, "xiaowang", Role::Agent).await;
    let from = async |address: &str, login: &str| {
        let mut request = log_in_request(login, PASSWORD);
        request.extensions_mut().insert(ConnectInfo(address.parse::<SocketAddr>().unwrap()));
        service.send(request).await
    };
    for number in 0..60 {
        assert_eq!(from("203.0.113.7:1000", &format!("nobody{number}")).await.status, 401);
    }
    let refused = from("203.0.113.7:2000", "xiaowang").await;
    assert_eq!(refused.refusal(), (429, "login_too_often".to_owned()));
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<i64>().unwrap() > 60);
    assert_eq!(from("203.0.113.8:1000", "xiaowang").await.status, 200);
}

#[tokio::test]
async fn a_login_ends_by_itself() {
    on_each_database(async |place| {
        let service = closed(place).await;
        add(&service, "xiaowang", Role::Agent).await;
        let browser = Browser::new(&service, "xiaowang").await;
        // Eleven hours without a request, and then one.
        sql(place, "UPDATE logins SET last_seen_at = last_seen_at - 39600000, expires_at = expires_at - 39600000")
            .await;
        assert_eq!(browser.get("/v1/me").await.status, 200);
        sql(place, "UPDATE logins SET last_seen_at = last_seen_at - 39600000, expires_at = expires_at - 39600000")
            .await;
        assert_eq!(browser.get("/v1/me").await.status, 200, "the request gave it another twelve hours");
        sql(place, "UPDATE logins SET expires_at = expires_at - 43200000").await;
        Browser::is_refused(&browser.get("/v1/me").await);
        Browser::is_refused(&browser.send("POST", "/v1/chat", json!({ "session_id": "s", "text": "好的" })).await);
        assert_eq!(service.get("/v1/me").await.headers["www-authenticate"], "Bearer");
    })
    .await;
}

#[tokio::test]
async fn a_cookie_alone_changes_nothing() {
    on_each_database(async |place| {
        let service = closed(place).await;
        add(&service, "boss", Role::Admin).await;
        let browser = Browser::new(&service, "boss").await;
        let other = Browser::new(&service, "boss").await;
        let bare = |method: &str, path: &str| with(with_body(method, path, "{}"), "cookie", &browser.cookie);
        let refused = (403, "csrf".to_owned());
        for (method, path) in [
            ("POST", "/v1/logout"),
            ("POST", "/v1/chat"),
            ("POST", "/v1/users"),
            ("PATCH", "/v1/users/x"),
            ("PUT", "/v1/knowledge/entries/k"),
            ("DELETE", "/v1/knowledge/entries/k"),
        ] {
            assert_eq!(service.send(bare(method, path)).await.refusal(), refused, "{method} {path}");
            for wrong in ["", "x", &browser.csrf_token[..63], &other.csrf_token] {
                let request = with(bare(method, path), "x-csrf-token", wrong);
                assert_eq!(service.send(request).await.refusal(), refused, "{method} {path} {wrong}");
            }
            if path != "/v1/logout" {
                let answer = browser.send(method, path, json!({})).await;
                assert_ne!(answer.code(), "csrf", "{method} {path}");
            }
        }
        let text = service.send(bare("POST", "/v1/users")).await.text();
        assert!(text.contains("X-CSRF-Token") && text.contains("刷新页面"), "{text}");
        let get = with(request("GET", "/v1/users"), "cookie", &browser.cookie);
        assert_eq!(service.send(get).await.status, 200, "reading wants none");
        let head = with(request("HEAD", "/v1/users"), "cookie", &browser.cookie);
        assert_eq!(service.send(head).await.status, 200);

        // A key beside a cookie is what counts, and no page can send one by accident.
        let (_, key) = auth::create_key(service.state.storage(), "gateway", Role::Caller).await.unwrap();
        let both = |request: Request<Body>| with(request, "authorization", &format!("Bearer {key}"));
        let chat = json!({ "session_id": "s", "text": "好的" }).to_string();
        let chat = with(with_body("POST", "/v1/chat", chat), "cookie", &browser.cookie);
        assert_eq!(service.send(both(chat)).await.status, 200);
        let me = service.send(both(with(request("GET", "/v1/me"), "cookie", &browser.cookie))).await.ok();
        assert_eq!((&me["kind"], &me["name"], &me["role"]), (&json!("key"), &json!("gateway"), &json!("caller")));
        assert!(me.get("user").is_none() && me.get("csrf_token").is_none(), "{me}");
        let admin = with(request("GET", "/v1/users"), "cookie", &browser.cookie);
        assert_eq!(service.send(both(admin)).await.refusal(), (403, "forbidden".to_owned()));
        let unknown = with(bare("GET", "/v1/me"), "authorization", "Bearer yd_0");
        assert_eq!(service.send(unknown).await.refusal(), (401, "key_unknown".to_owned()));
        // The password of a proxy in front stands in the same header and says nothing to us.
        let basic = with(bare("GET", "/v1/me"), "authorization", "Basic eWQ6eWQ=");
        assert_eq!(service.send(basic).await.ok()["kind"], "user");
    })
    .await;
}

#[tokio::test]
async fn a_stolen_cookie_is_worth_nothing_after_a_change_of_the_password_or_the_rights() {
    on_each_database(async |place| {
        let service = closed(place).await;
        let id = add(&service, "xiaowang", Role::Agent).await;
        add(&service, "boss", Role::Admin).await;
        let (browser, stolen) = (Browser::new(&service, "xiaowang").await, Browser::new(&service, "xiaowang").await);
        let change = async |old: &str, new: &str| {
            browser.send("POST", "/v1/me/password", json!({ "old_password": old, "new_password": new })).await
        };
        change("wrong", "another horse").await.refuses("old_password");
        change(PASSWORD, "short").await.refuses("new_password");
        change(PASSWORD, "xiaowang").await.refuses("new_password");
        change(PASSWORD, &"x".repeat(257)).await.refuses("new_password");
        assert_eq!(stolen.get("/v1/me").await.status, 200, "what is refused ends nothing");
        let changed = change(PASSWORD, "another horse").await;
        Browser::is_refused(&stolen.get("/v1/me").await);
        Browser::is_refused(&browser.get("/v1/me").await);
        let anew = Browser::of(&service, &changed);
        assert_eq!(anew.get("/v1/me").await.ok()["csrf_token"], anew.csrf_token);
        assert_eq!(try_log_in(&service, "xiaowang", PASSWORD).await.refusal(), (401, "login_wrong".to_owned()));

        let boss = Browser::new(&service, "boss").await;
        let admin = async |body: Value| boss.send("PATCH", &format!("/v1/users/{id}"), body).await.ok();
        let mut password = "another horse";
        for (body, new_password) in [
            (json!({ "role": "supervisor" }), None),
            (json!({ "password": "third horse!" }), Some("third horse!")),
            (json!({ "disabled": true }), None),
        ] {
            let stolen = Browser::of(&service, &try_log_in(&service, "xiaowang", password).await);
            admin(json!({ "name": "小王", "team": "" })).await;
            let me = stolen.get("/v1/me").await.ok();
            assert_eq!((&me["name"], me["user"].get("team")), (&json!("小王"), None), "a name changes nothing else");
            admin(body).await;
            Browser::is_refused(&stolen.get("/v1/me").await);
            password = new_password.unwrap_or(password);
        }
        let refused = try_log_in(&service, "xiaowang", password).await;
        assert_eq!(refused.refusal(), (403, "user_disabled".to_owned()));
        assert_eq!(try_log_in(&service, "xiaowang", "wrong").await.refusal(), (401, "login_wrong".to_owned()));
        assert_eq!(admin(json!({ "disabled": false })).await["disabled"], false);
        assert_eq!(try_log_in(&service, "xiaowang", password).await.ok()["user"]["role"], "supervisor");

        let (_, key) = auth::create_key(service.state.storage(), "gateway", Role::Admin).await.unwrap();
        let body = json!({ "old_password": PASSWORD, "new_password": "another horse" }).to_string();
        let by_key = with(with_body("POST", "/v1/me/password", body), "authorization", &format!("Bearer {key}"));
        assert_eq!(service.send(by_key).await.refusal(), (403, "login_needed".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn admins_manage_accounts_and_one_of_them_always_stays() {
    on_each_database(async |place| {
        let service = closed(place).await;
        let id = add(&service, "boss", Role::Admin).await;
        let boss = Browser::new(&service, "boss").await;
        let create = async |change: Value| {
            let mut body = json!({ "login": "XiaoWang", "name": " 小王 ", "role": "agent", "password": PASSWORD });
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            boss.send("POST", "/v1/users", body).await
        };
        let long = "x".repeat(65);
        for (change, field) in [
            (json!({ "login": "a b" }), "login"),
            (json!({ "login": "小\u{0}王" }), "login"),
            (json!({ "login": "' OR 1=1 --" }), "login"),
            (json!({ "login": long }), "login"),
            (json!({ "name": "" }), "name"),
            (json!({ "name": "小\u{0}王" }), "name"),
            (json!({ "name": long }), "name"),
            (json!({ "team": "a\nb" }), "team"),
            (json!({ "role": "caller" }), "role"),
            (json!({ "role": "owner" }), "role"),
            (json!({ "password": "123456789" }), "password"),
            (json!({ "login": "xiaowang-2024", "password": "XiaoWang-2024" }), "password"),
            (json!({ "password": "好".repeat(86) }), "password"),
            (json!({ "admin": true }), "admin"),
        ] {
            create(change).await.refuses(field);
        }
        let made = create(json!({})).await;
        assert_eq!(made.status, 201);
        let made = made.ok();
        assert_eq!((&made["login"], &made["name"], made.get("team")), (&json!("xiaowang"), &json!("小王"), None));
        assert_eq!(create(json!({ "login": "xiaowang" })).await.refusal(), (409, "login_taken".to_owned()));
        let namesake = create(json!({ "login": "xiaowang2" })).await;
        assert_eq!(namesake.refusal(), (409, "name_taken".to_owned()), "tickets are assigned by name");
        let list = boss.get("/v1/users").await;
        let logins: Vec<Value> =
            list.ok()["users"].as_array().unwrap().iter().map(|user| user["login"].clone()).collect();
        assert_eq!(logins, ["boss", "xiaowang"]);
        for secret in ["argon2", "password", PASSWORD, &boss.csrf_token] {
            assert!(!list.text().contains(secret), "{secret} is shown");
        }

        let change = async |id: &str, body: Value| boss.send("PATCH", &format!("/v1/users/{id}"), body).await;
        for (id, body) in [(new_id(), json!({})), ("x".to_owned(), json!({})), ("%27".to_owned(), json!({}))] {
            assert_eq!(change(&id, body).await.refusal(), (404, "user_not_found".to_owned()));
        }
        for (body, field) in [
            (json!({ "role": "caller" }), "role"),
            (json!({ "name": " " }), "name"),
            (json!({ "password": "boss" }), "password"),
            (json!({ "login": "other" }), "login"),
            (json!({ "disabled": "yes" }), "disabled"),
        ] {
            change(&id, body).await.refuses(field);
        }
        // A name stays while tickets are open under it; who is listed at the desk goes with it.
        let wang = made["user_id"].as_str().unwrap().to_owned();
        boss.send("PUT", "/v1/desk/agents/小王", json!({ "team": "售前", "capacity": 3 })).await.ok();
        let ticket = boss.send("POST", "/v1/tickets", json!({ "text": "请回电" })).await.ok();
        let ticket = format!("/v1/tickets/{}", ticket["ticket_id"].as_str().unwrap());
        boss.send("POST", &format!("{ticket}/assign"), json!({ "to": "小王" })).await.ok();
        let renamed = change(&wang, json!({ "name": "王芳" })).await;
        renamed.refuses("name");
        assert!(renamed.text().contains("1 张"), "{}", renamed.text());
        boss.send("POST", &format!("{ticket}/return"), json!({})).await.ok();
        change(&wang, json!({ "name": "王芳" })).await.ok();
        assert_eq!(boss.get("/v1/desk/agents").await.ok()["agents"][0]["name"], "王芳");
        change(&wang, json!({ "name": "小王" })).await.ok();
        for (body, code) in [
            (json!({ "role": "supervisor" }), "last_admin"),
            (json!({ "disabled": true }), "own_account"),
            (json!({ "role": "agent", "disabled": true }), "own_account"),
        ] {
            assert_eq!(change(&id, body).await.refusal(), (409, code.to_owned()));
        }
        // With a key, too.
        let (_, key) = auth::create_key(service.state.storage(), "gateway", Role::Admin).await.unwrap();
        let by_key = with_body("PATCH", &format!("/v1/users/{id}"), json!({ "disabled": true }).to_string());
        let by_key = with(by_key, "authorization", &format!("Bearer {key}"));
        assert_eq!(service.send(by_key).await.refusal(), (409, "last_admin".to_owned()));

        let second = made["user_id"].as_str().unwrap();
        change(second, json!({ "role": "admin" })).await.ok();
        change(&id, json!({ "role": "supervisor" })).await.ok();
        Browser::is_refused(&boss.get("/v1/users").await);
        let boss = Browser::new(&service, "boss").await;
        assert_eq!(boss.get("/v1/users").await.refusal(), (403, "forbidden".to_owned()));
    })
    .await;
}

fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Two admins who take each other's role at the same moment: one of them comes too late.
#[tokio::test(flavor = "multi_thread")]
async fn two_admins_cannot_remove_each_other() {
    on_each_database(async |place| {
        let service = closed(place).await;
        let ids = [add(&service, "one", Role::Admin).await, add(&service, "two", Role::Admin).await];
        let browsers = [Browser::new(&service, "one").await, Browser::new(&service, "two").await];
        let act = |browser: &Browser, id: &str| {
            let (browser, path) = (browser.clone(), format!("/v1/users/{id}"));
            tokio::spawn(async move { browser.send("PATCH", &path, json!({ "role": "agent" })).await.status })
        };
        let (first, second) = (act(&browsers[0], &ids[1]), act(&browsers[1], &ids[0]));
        let mut statuses = [first.await.unwrap(), second.await.unwrap()];
        statuses.sort_unstable();
        // The one who comes too late is no admin any more, or may be the last one.
        assert!(statuses[0] == 200 && [401, 403, 409].contains(&statuses[1]), "{statuses:?}");
        let users = service.state.storage().users().await.unwrap();
        assert_eq!(users.iter().filter(|user| user.role == Role::Admin).count(), 1);
    })
    .await;
}

/// Nobody, a key of each role, the browser of each role of people, and both of somebody outside the house.
enum Caller {
    Nobody,
    Key(Role, String),
    Cookie(Role),
    OutsideKey(String),
    OutsideCookie,
}

/// Every route that is described, for everybody, by the one table [`ROUTES`].
#[tokio::test]
async fn every_route_lets_in_whom_the_table_says() {
    on_each_database(async |place| {
        let service = closed(place).await;
        let mut callers = vec![Caller::Nobody];
        for role in Role::ALL {
            let (_, key) = auth::create_key(service.state.storage(), role.as_str(), role).await.unwrap();
            callers.push(Caller::Key(role, key));
        }
        for role in ROLES {
            add(&service, role.as_str(), role).await;
            callers.push(Caller::Cookie(role));
        }
        let outsider = NewUser {
            login: "outside".to_owned(),
            name: "老张".to_owned(),
            role: Role::Agent,
            team: None,
            password: PASSWORD.to_owned(),
        };
        let boss = Browser::new(&service, "admin").await;
        let organisation = json!({ "name": "安达快递", "team": "快递核查" });
        let organisation = boss.send("POST", "/v1/organisations", organisation).await.ok();
        let organisation = organisation["organisation_id"].as_str().unwrap();
        let made = auth::create_outside_key(service.state.storage(), "outside", organisation).await.unwrap();
        callers.push(Caller::OutsideKey(made.unwrap().1));
        service.state.users().create_in(outsider, Some(organisation), now()).await.unwrap();
        callers.push(Caller::OutsideCookie);
        let description = service.get("/openapi.json").await.ok();
        let mut tried = 0;
        for (path, methods) in description["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                let method = method.to_uppercase();
                let entry = ROUTES.iter().find(|(known, of, ..)| *known == method && of == path);
                let Some(&(_, _, body, needed)) = entry else {
                    panic!("{method} {path} has no line in ROUTES: who may call it?")
                };
                for caller in &callers {
                    let send = with_body(&method, &path.replace(['{', '}'], ""), body);
                    let (who, role, send) = match caller {
                        Caller::Nobody => ("nobody".to_owned(), None, send),
                        Caller::Key(role, key) => (
                            format!("the {role} key"),
                            Some(*role),
                            with(send, "authorization", &format!("Bearer {key}")),
                        ),
                        Caller::Cookie(role) => {
                            // Some routes end the login that they are called with.
                            let browser = Browser::new(&service, role.as_str()).await;
                            (format!("the {role}'s browser"), Some(*role), browser.sign(send))
                        }
                        Caller::OutsideKey(key) => (
                            "a key from outside".to_owned(),
                            Some(Role::Agent),
                            with(send, "authorization", &format!("Bearer {key}")),
                        ),
                        Caller::OutsideCookie => {
                            let browser = Browser::new(&service, "outside").await;
                            ("a browser from outside".to_owned(), Some(Role::Agent), browser.sign(send))
                        }
                    };
                    let by_key = matches!(caller, Caller::Key(..) | Caller::OutsideKey(_));
                    let outside = matches!(caller, Caller::OutsideKey(_) | Caller::OutsideCookie);
                    let answer = service.send(send).await;
                    tried += 1;
                    let refusal = (answer.status >= 400).then(|| answer.refusal());
                    let wanted = match (needed, role) {
                        (Some(_), None) => Some((401, "key_missing".to_owned())),
                        (Some(needed), Some(role)) if role < needed => Some((403, "forbidden".to_owned())),
                        (Some(_), _) if outside && !OUTSIDE.contains(&(method.as_str(), path.as_str())) => {
                            Some((403, "outside".to_owned()))
                        }
                        _ if by_key && PEOPLE_ONLY.contains(&path.as_str()) => Some((403, "login_needed".to_owned())),
                        _ => None,
                    };
                    if wanted.is_some() {
                        assert_eq!(refusal, wanted, "{method} {path} by {who}");
                    } else if let Some((status, code)) = refusal {
                        let kept_out = ["key_missing", "key_unknown", "login_expired", "forbidden", "outside", "csrf"];
                        let refused = status == 405 || kept_out.contains(&code.as_str());
                        assert!(!refused, "{method} {path} by {who}: {}", answer.text());
                    }
                }
            }
        }
        assert_eq!(tried, ROUTES.len() * 10, "a line in ROUTES that is not described, or described twice");
    })
    .await;
}

#[tokio::test]
async fn a_service_without_keys_needs_no_login_either() {
    let place = Place::sqlite();
    let service = place.service().await;
    let me = service.get("/v1/me").await.ok();
    assert_eq!((&me["kind"], &me["role"]), (&json!("open"), &json!("admin")));
    add(&service, "xiaowang", Role::Agent).await;
    let browser = Browser::new(&service, "xiaowang").await;
    let cookie_alone = with(request("GET", "/v1/users"), "cookie", &browser.cookie);
    assert_eq!(service.send(cookie_alone).await.status, 200);
    let body = json!({ "old_password": PASSWORD, "new_password": "another horse" });
    assert_eq!(browser.send("POST", "/v1/me/password", body).await.refusal(), (403, "login_needed".to_owned()));
    // Another site's page gets nowhere, with the cookie or without.
    let foreign = browser.sign(with(request("POST", "/v1/logout"), "origin", "http://evil.example"));
    assert_eq!(service.send(foreign).await.refusal(), (403, "host_refused".to_owned()));
}

/// Keys from before there were people are the same keys afterwards.
#[tokio::test]
async fn keys_outlive_the_migration() {
    on_each_database(async |place| {
        let before = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(root().join("api/migrations")).unwrap() {
            let file = file.unwrap();
            if file.file_name().to_str().unwrap() < "0006" {
                std::fs::copy(file.path(), before.path().join(file.file_name())).unwrap();
            }
        }
        sqlx::any::install_default_drivers();
        std::fs::create_dir_all(place.data()).unwrap();
        let url = place.config().database_url();
        let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
        sqlx::migrate::Migrator::new(before.path()).await.unwrap().run(&mut connection).await.unwrap();
        for (id, role, hash, revoked) in
            [("1", "admin", auth::hash("yd_1"), None), ("2", "caller", auth::hash("yd_2"), Some(5_i64))]
        {
            sqlx::query("INSERT INTO api_keys (id, name, role, hash, created_at, revoked_at) VALUES ($1, '老密钥', $2, $3, 4, $4)")
                .bind(id)
                .bind(role)
                .bind(hash)
                .bind(revoked)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        connection.close().await.unwrap();

        let storage = Storage::open(&url).await.unwrap();
        let keys = storage.keys().await.unwrap();
        let known: Vec<_> = keys.iter().map(|key| (key.id.as_str(), key.role, key.created_at, key.revoked_at)).collect();
        assert_eq!(known, [("1", Role::Admin, 4, None), ("2", Role::Caller, 4, Some(5))]);
        assert_eq!(keys[0].name, "老密钥");
        assert!(auth::identify(&storage, "yd_1").await.unwrap().is_some());
        assert!(auth::identify(&storage, "yd_2").await.unwrap().is_none());
        auth::create_key(&storage, "主管", Role::Supervisor).await.unwrap();
        storage.close().await;
    })
    .await;
}

// On the command line.

/// What a command wrote to stdout and stderr, and its exit code.
fn command(data: &Path, arguments: &[&str], input: Option<&str>) -> (String, String, Option<i32>) {
    let mut command = yingda(data, arguments);
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    if let Some(input) = input {
        // A command that refuses its arguments ends without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn accounts_are_made_and_managed_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let logs_in = |login: &str, password: &str| {
        runtime.block_on(async {
            let storage = Storage::open(&sqlite_url(&data.join("yingda.sqlite"))).await.unwrap();
            let found = Users::new(storage.clone()).log_in(login, password, now()).await;
            storage.close().await;
            found.is_ok()
        })
    };
    let create = |login: &str, role: &str, more: &[&str], input: Option<&str>| {
        let mut arguments = vec![
            "users",
            "create",
            "--name",
            if login == "XiaoWang" { "小王" } else { login },
            "--login",
            login,
            "--role",
            role,
        ];
        arguments.extend(more);
        command(&data, &arguments, input)
    };
    let given = create("XiaoWang", "agent", &["--team", "售后", "--password-stdin"], Some("correct horse\r\nmore\n"));
    assert_eq!(given.2, Some(0), "{}", given.1);
    assert!(given.0.contains("created xiaowang (小王) with role agent") && !given.0.contains("horse"), "{}", given.0);
    assert!(logs_in("xiaowang", "correct horse") && !logs_in("xiaowang", "correct horse\r"));

    // Without a terminal and without a word, one is made.
    let made = create("boss", "admin", &[], None);
    let password = made.0.lines().find_map(|line| line.strip_prefix("password: ")).unwrap().to_owned();
    assert!(made.1.contains("not shown again") && logs_in("boss", &password), "{}", made.1);

    for (login, role, input, word) in [
        ("xiaowang", "agent", "correct horse", "somebody has the login name"),
        ("a b", "agent", "correct horse", "letters, digits"),
        ("new", "caller", "correct horse", "caller is for keys"),
        ("new", "agent", "short\n", "at least 10 characters"),
        ("new", "agent", "", "at least 10 characters"),
        ("new-login-name", "agent", "new-login-name", "must not be the login name"),
    ] {
        let (out, error, code) = create(login, role, &["--password-stdin"], Some(input));
        assert!(code == Some(2) && out.is_empty() && error.contains(word), "{login}: {code:?} {out} {error}");
    }

    let run = |arguments: &[&str]| command(&data, &[&["users"], arguments].concat(), None);
    let list = run(&["list"]).0;
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.contains("xiaowang (小王, 售后)"), "{list}");
    assert!(!list.contains("argon2") && !list.contains(&password), "{list}");

    assert_eq!(run(&["disable", "XiaoWang"]).2, Some(0));
    assert!(!logs_in("xiaowang", "correct horse"));
    assert_eq!(run(&["enable", "xiaowang"]).2, Some(0));
    assert!(logs_in("xiaowang", "correct horse"));
    let changed = run(&["password", "xiaowang"]).0;
    let password = changed.lines().find_map(|line| line.strip_prefix("password: ")).unwrap();
    assert!(logs_in("xiaowang", password) && !logs_in("xiaowang", "correct horse"));
    let typed = command(&data, &["users", "password", "xiaowang", "--password-stdin"], Some("third horse!"));
    assert!(typed.2 == Some(0) && logs_in("xiaowang", "third horse!"));

    for (arguments, word) in [
        (["disable", "nobody"], "nobody has the login name or id `nobody`"),
        (["enable", "' OR 1=1"], "nobody has the login name"),
        (["password", "nobody"], "nobody has the login name"),
        (["disable", "boss"], "the last admin"),
    ] {
        let (out, error, code) = run(&arguments);
        assert!(code == Some(2) && out.is_empty() && error.contains(word), "{arguments:?}: {code:?} {out} {error}");
    }
}
