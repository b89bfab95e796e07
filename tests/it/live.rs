//! Sessions over sockets: what is told, to whom, and that nothing is lost, doubled or out of order when connections break, tickets
//! are fought over and two replicas share one database.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};
use yingda::{
    Config, StartError, auth,
    auth::Role,
    storage::{Storage, now},
    users::{NewUser, Users},
};

use crate::support::{Place, on_each_database, say};

const PATIENCE: Duration = Duration::from_secs(20);

// A service on a port.

struct Replica {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), StartError>>,
}

async fn replica(config: Config) -> Replica {
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = oneshot::channel();
    let ended = tokio::spawn(yingda::serve(
        config,
        async {
            let _ = stopped.await;
        },
        move |facts| ready.send(facts.address).unwrap(),
    ));
    Replica { address: is_ready.await.expect("the service does not start"), stop, ended }
}

impl Replica {
    async fn end(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }

    async fn request(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        request(self.address, method, path, &body, None).await.expect("the service answers")
    }

    async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.request(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }
}

/// One request on a connection of its own. `cut`: the connection is dropped so long after it was sent, and nothing is known.
async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &Value,
    cut: Option<Duration>,
) -> Option<(u16, Value)> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all((head + &body).as_bytes()).await.ok()?;
    if let Some(pause) = cut {
        tokio::time::sleep(pause).await;
        return None;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

// A socket.

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(address: SocketAddr) -> Self {
        Self(connect_async(format!("ws://{address}/v1/live")).await.unwrap().0)
    }

    /// Open, and let in on a side.
    async fn of(address: SocketAddr, side: &str) -> Self {
        let mut socket = Self::open(address).await;
        socket.send(json!({ "type": "hello", "side": side })).await;
        assert_eq!(socket.next("welcome").await["side"], side);
        socket
    }

    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn say(&mut self, session: &str, id: &str, text: &str) {
        let message = json!({ "session_id": session, "message_id": id, "channel": "web", "text": text });
        self.send(json!({ "type": "say", "message": message })).await;
    }

    async fn follow(&mut self, session: &str, after: i64) {
        self.send(json!({ "type": "follow", "session_id": session, "after": after })).await;
    }

    /// The next frame; `None` when the socket is closed.
    async fn frame(&mut self) -> Option<Value> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a frame comes");
            match frame {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(_)) | Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next frame of a type; others on the way are passed over.
    async fn next(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().await.expect("the socket is open");
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The next frame of a type that is as wanted.
    async fn until(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.next(kind).await;
            if wanted(&frame) {
                return frame;
            }
        }
    }
}

fn seq(frame: &Value) -> i64 {
    frame["turn"]["seq"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_see_what_is_said_read_and_typed() {
    on_each_database(async |place| {
        let service = replica(place.config()).await;
        let mut customer = Socket::of(service.address, "customer").await;
        customer.follow("s", 0).await;
        customer.say("s", "m1", "人工").await;
        let answer = customer.next("answer").await;
        assert_eq!((&answer["message_id"], &answer["replayed"]), (&json!("m1"), &json!(false)));
        assert_eq!((&answer["answer"]["seq"], &answer["answer"]["reply_seq"]), (&json!(1), &json!(2)));
        let ticket = answer["answer"]["ticket_id"].as_str().unwrap().to_owned();

        let mut agent = Socket::of(service.address, "agent").await;
        agent.follow("s", 0).await;
        let turns = [agent.next("turn").await, agent.next("turn").await];
        assert_eq!(turns.each_ref().map(seq), [1, 2]);
        assert_eq!((&turns[0]["turn"]["text"], &turns[0]["turn"]["role"]), (&json!("人工"), &json!("user")));
        let state = agent.next("session").await;
        assert_eq!((&state["owner"], &state["ticket"]["status"]), (&json!("agent"), &json!("new")));

        let path = |action: &str| format!("/v1/tickets/{ticket}/{action}");
        service.ok("POST", &path("take"), json!({ "agent": "小王" })).await;
        customer.until("session", |frame| frame["owner_agent"] == "小王").await;
        agent.send(json!({ "type": "typing", "session_id": "s" })).await;
        customer.until("standing", |frame| frame["agent"]["typing"] == true).await;

        let words = json!({ "agent": "小王", "text": "您好，我来处理。", "message_id": "r1" });
        service.ok("POST", &path("reply"), words.clone()).await;
        service.ok("POST", &path("reply"), words).await;
        let said = customer.until("turn", |frame| frame["turn"]["role"] == "agent").await;
        assert_eq!((seq(&said), &said["turn"]["message_id"]), (3, &json!("r1")));
        customer.send(json!({ "type": "received", "session_id": "s", "seq": 3 })).await;
        agent.until("standing", |frame| frame["customer"]["received_seq"] == 3).await;
        // More than there is cannot be read.
        customer.send(json!({ "type": "read", "session_id": "s", "seq": 99 })).await;
        let standing = agent.until("standing", |frame| frame["customer"]["read_seq"] != 0).await;
        assert_eq!(standing["customer"]["read_seq"], 3);
        assert_eq!(standing["customer"]["present"], true);

        // The same message again gets the same answer, and is no turn.
        customer.say("s", "m1", "人工").await;
        assert_eq!(customer.next("answer").await["replayed"], true);
        customer.say("s", "m2", "好的").await;
        assert_eq!(customer.next("answer").await["answer"]["decision"], "silent");
        assert_eq!(seq(&agent.until("turn", |frame| seq(frame) > 3).await), 4);

        service.ok("POST", &path("resolve"), json!({ "agent": "小王" })).await;
        customer.until("session", |frame| frame["owner"] == "bot").await;
        drop(customer);
        agent.until("standing", |frame| frame["customer"]["present"] == false).await;

        // Whoever comes back gets what they missed, and how far they were.
        let mut customer = Socket::of(service.address, "customer").await;
        customer.follow("s", 3).await;
        assert_eq!(seq(&customer.next("turn").await), 4);
        assert_eq!(customer.next("standing").await["customer"]["read_seq"], 3);
        service.end().await;
        assert!(agent.frame().await.is_none_or(|frame| frame["type"] != "turn"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_hear_of_tickets_and_wrong_frames_are_refused() {
    let place = Place::sqlite();
    let service = replica(place.config()).await;
    let mut agent = Socket::of(service.address, "agent").await;
    let mut customer = Socket::of(service.address, "customer").await;
    customer.say("s", "m1", "人工").await;
    customer.next("answer").await;
    agent.next("tickets").await;

    let refusals = [
        (json!({ "type": "hello" }), "字段 type "),
        (json!({ "type": "shout" }), "字段 type "),
        (json!({ "type": "follow" }), "字段 session_id "),
        (json!({ "type": "follow", "session_id": "s", "since": 1 }), "字段 since "),
        (json!({ "type": "typing", "session_id": "other" }), "字段 session_id "),
        (json!({ "type": "say" }), "字段 message "),
        (json!({ "type": "say", "message": { "session_id": "s", "text": "好" } }), "字段 message.message_id "),
        (json!({ "type": "say", "message": { "session_id": "s", "message_id": "m" } }), "字段 text "),
    ];
    for (frame, problem) in refusals {
        customer.send(frame.clone()).await;
        let error = customer.next("error").await;
        assert_eq!(error["error"]["code"], "invalid_field", "{frame}");
        assert!(error["error"]["message"].as_str().unwrap().starts_with(problem), "{frame}: {error}");
    }
    customer.0.send(Message::text("{")).await.unwrap();
    assert_eq!(customer.next("error").await["error"]["code"], "invalid_json");
    customer.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(customer.next("error").await["error"]["code"], "invalid_json");
    let long = "好".repeat(20_001);
    customer.say("s", "long", &long).await;
    let error = customer.next("error").await;
    assert_eq!((&error["message_id"], &error["error"]["code"]), (&json!("long"), &json!("invalid_field")));
    // After all of that the socket still works; a frame that is too large ends it.
    customer.say("s", "m2", "您好").await;
    assert_eq!(customer.next("answer").await["answer"]["decision"], "silent");
    let _ = customer.0.send(Message::text("好".repeat(100_000))).await;
    assert!(customer.frame().await.is_none());
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_is_let_in_and_whoever_loses_the_right_is_shown_out() {
    let place = Place::sqlite();
    let mut config = place.config();
    config.open = false;
    let database = config.database_url();
    let service = replica(config).await;
    let storage = Storage::open(&database).await.unwrap();
    let (_, caller) = auth::create_key(&storage, "小程序", Role::Caller).await.unwrap();
    let (_, agent) = auth::create_key(&storage, "客服", Role::Agent).await.unwrap();

    let hello = async |frame: Value| {
        let mut socket = Socket::open(service.address).await;
        socket.send(frame).await;
        let answer = socket.frame().await.unwrap();
        let code = answer["error"]["code"].as_str().map(str::to_owned);
        if code.is_some() {
            assert!(socket.frame().await.is_none(), "it is closed");
        }
        (answer, code)
    };
    let refused = [
        (json!({ "type": "hello" }), "key_missing"),
        (json!({ "type": "hello", "key": format!("yd_{}", "0".repeat(64)) }), "key_unknown"),
        (json!({ "type": "hello", "key": caller, "side": "agent" }), "forbidden"),
        (json!({ "type": "follow", "session_id": "s" }), "invalid_field"),
    ];
    for (frame, code) in refused {
        assert_eq!(hello(frame.clone()).await.1.as_deref(), Some(code), "{frame}");
    }
    assert_eq!(hello(json!({ "type": "hello", "key": caller })).await.0["side"], "customer");
    assert_eq!(hello(json!({ "type": "hello", "key": agent })).await.0["side"], "agent");
    assert_eq!(hello(json!({ "type": "hello", "key": agent, "side": "customer" })).await.0["side"], "customer");

    // A program says its key in a header, and is refused at once where it is wrong.
    let with = async |headers: &[(&'static str, String)]| {
        let mut request = format!("ws://{}/v1/live", service.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match connect_async(request).await {
            Ok(_) => 101,
            Err(tungstenite::Error::Http(answer)) => answer.status().as_u16(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(with(&[("authorization", format!("Bearer {caller}"))]).await, 101);
    assert_eq!(with(&[("authorization", "Bearer yd_1".to_owned())]).await, 401);
    assert_eq!(with(&[("cookie", "yingda_session=1".to_owned())]).await, 401);

    // A person's cookie opens it on our own pages only.
    let users = Users::new(storage.clone());
    let new = NewUser {
        login: "wang".to_owned(),
        name: "小王".to_owned(),
        role: Role::Agent,
        team: None,
        password: "correct horse".to_owned(),
    };
    users.create(new, now()).await.unwrap();
    let cookie = format!("yingda_session={}", users.log_in("wang", "correct horse", now()).await.unwrap().token);
    let from = async |origin: String| with(&[("cookie", cookie.clone()), ("origin", origin)]).await;
    assert_eq!(from(format!("http://{}", service.address)).await, 101);
    assert_eq!(from("https://evil.example".to_owned()).await, 403);
    assert_eq!(from("null".to_owned()).await, 403);
    assert_eq!(with(&[("cookie", cookie.clone())]).await, 403);
    storage.close().await;
    service.end().await;
}

// A crowd.

/// How large the crowd is; `YINGDA_TEST_CUSTOMERS` and `YINGDA_TEST_AGENTS` make it another size.
fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
}

/// What everybody did, to be compared with what is stored.
#[derive(Default)]
struct Deeds {
    /// By ticket: who was told that it is theirs.
    taken: Mutex<BTreeMap<String, Vec<String>>>,
    /// By session: ids of replies that were sent until one was confirmed.
    replies: Mutex<BTreeMap<String, Vec<String>>>,
    /// From a message to its answer.
    waits: Mutex<Vec<Duration>>,
    cuts: Mutex<usize>,
}

/// A customer with a bad connection.
struct Customer {
    addresses: Vec<SocketAddr>,
    random: StdRng,
    session: String,
    socket: Option<Socket>,
    /// Turns as they came, over all sockets.
    turns: Vec<Value>,
    owner: String,
    /// How many words of an agent have come.
    helped: usize,
    deeds: Arc<Deeds>,
}

/// After which time somebody asks again whom the service was too busy for.
const BUSY: Duration = Duration::from_millis(100);
/// How often an agent answers a customer.
const REPLIES: usize = 3;
/// The last message of a customer before the ticket may be resolved.
const LAST: &str = "m5";

impl Customer {
    async fn socket(&mut self) -> &mut Socket {
        if self.socket.is_none() {
            let address = *self.addresses.choose(&mut self.random).unwrap();
            let mut socket = Socket::of(address, "customer").await;
            socket.follow(&self.session, self.turns.last().map_or(0, |turn| turn["seq"].as_i64().unwrap())).await;
            self.socket = Some(socket);
        }
        self.socket.as_mut().unwrap()
    }

    /// Breaks the connection, as often as not.
    fn maybe_cut(&mut self) {
        if self.random.random_bool(0.3) {
            self.socket = None;
            *self.deeds.cuts.lock().unwrap() += 1;
        }
    }

    /// Takes one frame in; `None` where the socket broke or nothing came.
    async fn hear(&mut self) -> Option<Value> {
        let heard = tokio::time::timeout(Duration::from_millis(500), self.socket().await.frame()).await;
        let Ok(heard) = heard else {
            self.maybe_cut();
            return None;
        };
        let Some(frame) = heard else {
            self.socket = None;
            return None;
        };
        match frame["type"].as_str().unwrap() {
            "turn" => {
                self.turns.push(frame["turn"].clone());
                if frame["turn"]["role"] == "agent" {
                    // Who answers is told after the turns, and only when it has changed since it was last told.
                    self.owner = "agent".to_owned();
                    self.helped += 1;
                }
            }
            "session" => self.owner = frame["owner"].as_str().unwrap().to_owned(),
            _ => {}
        }
        Some(frame)
    }

    async fn say(&mut self, id: &str, text: &str) -> Value {
        let (session, started) = (self.session.clone(), Instant::now());
        let mut broken = false;
        loop {
            self.socket().await.say(&session, id, text).await;
            let pause = Duration::from_millis(self.random.random_range(0..30));
            if self.random.random_bool(0.5) {
                tokio::time::sleep(pause).await;
                self.maybe_cut();
            }
            broken |= self.socket.is_none();
            while self.socket.is_some() {
                assert!(started.elapsed() < 4 * PATIENCE, "{session} {id} is never answered");
                let Some(frame) = self.hear().await else { continue };
                if frame["type"] == "answer" && frame["message_id"] == id {
                    if !broken {
                        self.deeds.waits.lock().unwrap().push(started.elapsed());
                    }
                    return frame["answer"].clone();
                }
                if frame["type"] == "error" {
                    assert_eq!(frame["error"]["code"], "busy", "{frame}");
                    tokio::time::sleep(BUSY).await;
                    break;
                }
            }
        }
    }

    async fn live(mut self) -> (String, Vec<String>, Vec<Value>) {
        let mut said = vec!["怎么申请退货？".to_owned(), "人工".to_owned()];
        self.say("m0", &said[0].clone()).await;
        let answer = self.say("m1", "人工").await;
        assert_eq!(answer["decision"], "escalate");
        for number in 2..6 {
            let text = format!("我是{}，第{number}句", self.session);
            self.say(&format!("m{number}"), &text).await;
            said.push(text);
            let pause = Duration::from_millis(self.random.random_range(0..300));
            tokio::time::sleep(pause).await;
            self.maybe_cut();
        }
        let started = Instant::now();
        while self.helped < REPLIES || self.owner != "bot" {
            assert!(started.elapsed() < 6 * PATIENCE, "{} is never helped", self.session);
            self.hear().await;
        }
        let answer = self.say("m6", "你好").await;
        assert_ne!(answer["decision"], "silent", "the bot serves again");
        assert_ne!(answer["decision"], "escalate", "and hands nothing over again");
        said.push("你好".to_owned());
        // What was said last is on its way, and so is the question how it was.
        let has = |turns: &[Value]| {
            turns.iter().any(|turn| turn["decision"] == "survey")
                && turns.last().is_some_and(|turn| turn["seq"].as_i64() >= answer["reply_seq"].as_i64())
        };
        while !has(&self.turns) {
            assert!(started.elapsed() < 8 * PATIENCE, "{} is never asked", self.session);
            self.hear().await;
        }
        (self.session, said, self.turns)
    }
}

/// Who is told that the service is busy asks the same again.
async fn read(address: SocketAddr, path: &str) -> Value {
    loop {
        match request(address, "GET", path, &Value::Null, None).await.unwrap() {
            (429, _) => tokio::time::sleep(BUSY).await,
            (status, body) => {
                assert_eq!(status, 200, "{body}");
                return body;
            }
        }
    }
}

/// An agent who takes whatever waits, over connections that break.
async fn agent(name: String, addresses: Vec<SocketAddr>, mut random: StdRng, deeds: Arc<Deeds>, all: usize) {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < 6 * PATIENCE, "the tickets are never done");
        let address = *addresses.choose(&mut random).unwrap();
        let list = read(address, "/v1/tickets?status=new").await;
        let waiting = list["tickets"].as_array().unwrap().clone();
        let Some(ticket) = waiting.choose(&mut random) else {
            let taken = deeds.taken.lock().unwrap().len();
            if taken == all {
                return;
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(20..80))).await;
            continue;
        };
        let id = ticket["ticket_id"].as_str().unwrap();
        let session = ticket["session_id"].as_str().unwrap();
        let path = |action: &str| format!("/v1/tickets/{id}/{action}");
        // Sent until an answer comes; many are cut off before.
        let mut insist = async |action: &str, body: Value| loop {
            let address = *addresses.choose(&mut random).unwrap();
            let cut = random.random_bool(0.3).then(|| Duration::from_millis(random.random_range(0..20)));
            match request(address, "POST", &path(action), &body, cut).await {
                Some((429, _)) => tokio::time::sleep(BUSY).await,
                Some(answer) => return answer,
                None => *deeds.cuts.lock().unwrap() += 1,
            }
        };
        let (status, _) = insist("take", json!({ "agent": name })).await;
        if status == 409 {
            continue;
        }
        assert_eq!(status, 200);
        deeds.taken.lock().unwrap().entry(id.to_owned()).or_default().push(name.clone());
        for number in 0..REPLIES {
            let reply = format!("{name}-{number}");
            let body = json!({ "agent": name, "text": format!("{name}的第{number}句"), "message_id": reply });
            let (status, answer) = insist("reply", body).await;
            assert_eq!(status, 200, "{answer}");
            deeds.replies.lock().unwrap().entry(session.to_owned()).or_default().push(reply);
        }
        // The customer has more to say, and is not left before that.
        let session_path = format!("/v1/sessions/{session}");
        loop {
            let known = read(addresses[0], &session_path).await;
            if known["turns"].as_array().unwrap().iter().any(|turn| turn["message_id"] == LAST) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for action in ["resolve", "close"] {
            // A repeated one finds it done already.
            let (status, answer) = insist(action, json!({ "agent": name })).await;
            assert!([200, 409].contains(&status), "{action}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_with_bad_connections_loses_and_doubles_nothing() {
    let (customers, agents) = (number("YINGDA_TEST_CUSTOMERS", 200), number("YINGDA_TEST_AGENTS", 20));
    on_each_database(async |place| {
        let mut replicas = vec![replica(place.config_of("a")).await];
        if place.is_postgres() {
            replicas.push(replica(place.config_of("b")).await);
        }
        let addresses: Vec<SocketAddr> = replicas.iter().map(|replica| replica.address).collect();
        let entry = json!({ "entry": { "question": "怎么申请退货？", "answer": "在订单里点「申请售后」。" } });
        replicas[0].ok("PUT", "/v1/knowledge/entries/k-return", entry).await;
        replicas[0].ok("POST", "/v1/knowledge/publish", json!({})).await;

        let deeds = Arc::new(Deeds::default());
        let mut crowd = JoinSet::new();
        for number in 0..customers {
            let customer = Customer {
                addresses: addresses.clone(),
                random: StdRng::seed_from_u64(number as u64),
                session: format!("s{number}"),
                socket: None,
                turns: Vec::new(),
                owner: String::new(),
                helped: 0,
                deeds: Arc::clone(&deeds),
            };
            crowd.spawn(customer.live());
        }
        let mut desk = JoinSet::new();
        for number in 0..agents {
            let random = StdRng::seed_from_u64(1_000_000 + number as u64);
            desk.spawn(agent(format!("客服{number}"), addresses.clone(), random, Arc::clone(&deeds), customers));
        }
        let heard = crowd.join_all().await;
        desk.join_all().await;

        let mut tickets = BTreeSet::new();
        for (session, said, turns) in heard {
            // What came over the sockets is what is stored: every turn once, in order.
            let stored = replicas[0].ok("GET", &format!("/v1/sessions/{session}"), Value::Null).await;
            let stored = stored["turns"].as_array().unwrap();
            assert_eq!(&turns, stored, "{session}");
            let numbers: Vec<i64> = stored.iter().map(|turn| turn["seq"].as_i64().unwrap()).collect();
            assert_eq!(numbers, (1..=stored.len() as i64).collect::<Vec<_>>(), "{session}");
            let of = |role: &str| stored.iter().filter(|turn| turn["role"] == role).collect::<Vec<_>>();
            let texts: Vec<&str> = of("user").iter().map(|turn| turn["text"].as_str().unwrap()).collect();
            assert_eq!(texts, said, "{session}");
            let replies: Vec<&str> = of("agent").iter().map(|turn| turn["message_id"].as_str().unwrap()).collect();
            assert_eq!(replies, deeds.replies.lock().unwrap()[&session], "{session}");
            // One hand-over; from it to the last word of the agent the bot is silent.
            let handed_over: Vec<usize> = (0..stored.len()).filter(|&i| stored[i]["decision"] == "escalate").collect();
            let [from] = handed_over[..] else { panic!("{session}: handed over {} times", handed_over.len()) };
            let until = stored.iter().rposition(|turn| turn["role"] == "agent").unwrap();
            assert!(stored[from + 1..until].iter().all(|turn| turn["role"] != "bot"), "{session}: the bot talks over");

            let asked = stored.iter().filter(|turn| turn["decision"] == "survey").count();
            assert_eq!(asked, 1, "{session}: surveys");
            let list = replicas[0].ok("GET", &format!("/v1/tickets?session_id={session}"), Value::Null).await;
            let [ticket] = list["tickets"].as_array().unwrap().as_slice() else { panic!("{session}: {list}") };
            let id = ticket["ticket_id"].as_str().unwrap();
            assert_eq!(ticket["status"], "closed");
            let detail = replicas[0].ok("GET", &format!("/v1/tickets/{id}"), Value::Null).await;
            let events = detail["events"].as_array().unwrap();
            let takers: Vec<&str> = events
                .iter()
                .filter(|event| event["kind"] == "taken")
                .map(|event| event["actor"].as_str().unwrap())
                .collect();
            assert_eq!(takers, deeds.taken.lock().unwrap()[id], "{session}: one owner, and they know it");
            for kind in ["opened", "taken", "resolved", "closed"] {
                assert_eq!(events.iter().filter(|event| event["kind"] == kind).count(), 1, "{session}: {kind}");
            }
            tickets.insert(id.to_owned());
        }
        assert_eq!(tickets.len(), customers);

        let mut waits = std::mem::take(&mut *deeds.waits.lock().unwrap());
        waits.sort();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
        say(&format!(
            "{customers} customers, {agents} agents, {} replica(s), {}: {} broken connections; to the answer over an unbroken one: \
             p50 {:.0} ms, p99 {:.0} ms ({} messages)",
            replicas.len(),
            if place.is_postgres() { "PostgreSQL" } else { "SQLite" },
            deeds.cuts.lock().unwrap(),
            at(0.5),
            at(0.99),
            waits.len()
        ));
        for replica in replicas {
            replica.end().await;
        }
    })
    .await;
}
