//! The service on a real socket and as a real process: how it stops, that only one uses a data folder, and what is left after
//! kill -9.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{LazyLock, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use yingda::{Config, StartError, storage::Storage};

use crate::support::{Place, root, say, tiny_model};

const PATIENCE: Duration = Duration::from_secs(30);

// A client.

struct Client {
    stream: BufReader<TcpStream>,
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    fn send(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())
    }

    fn receive(&mut self) -> std::io::Result<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length =
            head.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Reply { status, head, body })
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<Reply> {
        self.send(&format!("{}{body}", head(method, path, body.len(), "")))?;
        self.receive()
    }

    fn chat(&mut self, session: &str, id: &str) -> std::io::Result<Reply> {
        self.exchange("POST", "/v1/chat", &message(session, id))
    }
}

fn head(method: &str, path: &str, length: usize, more: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n"
    )
}

fn message(session: &str, id: &str) -> String {
    json!({ "session_id": session, "message_id": id, "text": "好的" }).to_string()
}

// A service in this process.

struct Running {
    address: SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    ended: JoinHandle<Result<(), StartError>>,
}

fn serve(config: Config) -> Running {
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (ready, is_ready) = mpsc::channel();
    let ended = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shutdown = async {
            let _ = stopped.await;
        };
        runtime.block_on(yingda::serve(config, shutdown, move |facts| {
            assert!(facts.open && facts.first_key.is_none());
            ready.send(facts.address).unwrap();
        }))
    });
    Running { address: is_ready.recv_timeout(PATIENCE).expect("the service does not start"), stop, ended }
}

#[test]
fn what_was_accepted_is_answered_before_the_service_stops() {
    let place = Place::sqlite();
    let service = serve(place.config());
    assert_ne!(service.address.port(), 0);
    let mut idle = Client::connect(service.address).unwrap();
    let first = idle.chat("first", "m").unwrap();
    assert_eq!((first.status, &first.json()["decision"]), (200, &json!("reply")));
    assert!(first.head.contains("x-request-id: "), "{}", first.head);

    // Thirty requests that the service is reading: it asked for their bodies.
    let mut clients: Vec<(Client, String)> = (0..30)
        .map(|i| {
            let mut client = Client::connect(service.address).unwrap();
            let body = message(&format!("s{}", i % 10), &format!("m{i}"));
            client.send(&head("POST", "/v1/chat", body.len(), "expect: 100-continue\r\n")).unwrap();
            assert_eq!(client.receive().unwrap().status, 100);
            (client, body)
        })
        .collect();
    service.stop.send(()).unwrap();
    let started = Instant::now();
    while Client::connect(service.address).and_then(|mut client| client.exchange("GET", "/healthz", "")).is_ok() {
        assert!(started.elapsed() < PATIENCE, "a stopping service takes new requests");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!service.ended.is_finished(), "the service stopped with requests in work");
    for (client, body) in &mut clients {
        client.send(body).unwrap();
    }
    for (i, (client, _)) in clients.iter_mut().enumerate() {
        let reply = client.receive().unwrap_or_else(|error| panic!("request {i} was dropped: {error}"));
        assert_eq!((reply.status, &reply.json()["message_id"]), (200, &json!(format!("m{i}"))));
    }
    service.ended.join().unwrap().unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let storage = Storage::open(&place.config().database_url()).await.unwrap();
        for i in 0..30 {
            let stored = storage.message(&format!("s{}", i % 10), &format!("m{i}")).await.unwrap();
            assert!(stored.is_some(), "the answer to m{i} is lost");
        }
        assert_eq!(storage.session("s0").await.unwrap().unwrap().last_seq, 6);
        storage.close().await;
    });
}

#[test]
fn whoever_sends_nothing_more_does_not_keep_a_service_from_stopping() {
    let place = Place::sqlite();
    let mut config = place.config();
    config.shutdown = Duration::from_secs(1);
    let service = serve(config);
    let mut stalled = Client::connect(service.address).unwrap();
    stalled.send(&head("POST", "/v1/chat", 100, "expect: 100-continue\r\n")).unwrap();
    assert_eq!(stalled.receive().unwrap().status, 100);
    let _never_spoke = Client::connect(service.address).unwrap();
    let started = Instant::now();
    service.stop.send(()).unwrap();
    service.ended.join().unwrap().unwrap();
    let took = started.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(10), "it took {took:?}");
}

#[test]
fn a_data_folder_belongs_to_one_service() {
    let place = Place::sqlite();
    let service = serve(place.config());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(yingda::open_state(place.config())).err().expect("a second service was let in");
    assert!(error.is_users());
    let sentence = error.to_string();
    let process = format!("process {}", std::process::id());
    for part in ["is in use", process.as_str(), place.data().to_str().unwrap(), "--data"] {
        assert!(sentence.contains(part), "{sentence} does not say {part}");
    }

    let mut config = Place::sqlite().config();
    config.listen = service.address;
    let taken = runtime.block_on(yingda::serve(config, std::future::pending(), |_| {})).unwrap_err();
    assert!(taken.is_users() && taken.to_string().contains("--listen"), "{taken}");

    service.stop.send(()).unwrap();
    service.ended.join().unwrap().unwrap();
    let again = serve(place.config());
    again.stop.send(()).unwrap();
    again.ended.join().unwrap().unwrap();
}

// A service in a process of its own.

/// The program, built from the sources that this test was built from.
fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let test = std::env::current_exe().unwrap();
        let folder = test.parent().and_then(Path::parent).unwrap();
        let program = folder.join("yingda");
        let made = |path: &Path| std::fs::metadata(path).and_then(|facts| facts.modified()).ok();
        let mut sources = vec![root().join("api/src/main.rs")];
        add_files(&root().join("api/src/cli"), &mut sources);
        if sources.iter().chain([&test]).all(|source| made(&program) > made(source)) {
            return program;
        }
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--workspace", "--bin", "yingda"]).current_dir(root());
        build.env("CARGO_TARGET_DIR", folder.parent().unwrap());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        // What cargo says to this test is not for another cargo: some build scripts would run again because of it.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
                .iter()
                .any(|start| name.starts_with(start))
            {
                build.env_remove(&*name);
            }
        }
        let built = build.output().expect("cargo cannot be started");
        assert!(built.status.success(), "yingda cannot be built: {}", String::from_utf8_lossy(&built.stderr));
        program
    });
    &PROGRAM
}

/// Adds all files of a folder and the folders in it.
fn add_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_files(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// A command line of yingda with nothing from the environment.
pub(crate) fn yingda(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("YINGDA_") {
            command.env_remove(name);
        }
    }
    // Somewhere without a yingda.toml.
    command
        .current_dir(data.parent().unwrap())
        .args(arguments)
        .arg("--data")
        .arg(data)
        .arg("--model")
        .arg(tiny_model());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut command = yingda(data, &["serve", "--open", "--listen", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            panic!("yingda serve does not say where it listens: {line:?}");
        };
        Self { child, address }
    }

    /// kill -9.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// kill -TERM, as a service manager stops it.
    fn stop(mut self) -> std::process::ExitStatus {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_was_answered_survives_kill_9_and_stands_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let service = Process::start(&data);
    let address = service.address;

    // Eight customers, one message after the other, until the process dies.
    let customers: Vec<_> = (0..8)
        .map(|customer| {
            std::thread::spawn(move || {
                let session = format!("s{customer}");
                let mut client = Client::connect(address).unwrap();
                let mut answered = BTreeMap::new();
                for number in 0.. {
                    match client.chat(&session, &format!("m{number}")) {
                        Ok(reply) => {
                            assert_eq!(reply.status, 200);
                            answered.insert(number, reply.body);
                        }
                        // The one that was in work: it may be stored or not.
                        Err(_) => break,
                    }
                }
                answered
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(1500));
    service.kill();
    let answered: Vec<BTreeMap<i32, Vec<u8>>> =
        customers.into_iter().map(|customer| customer.join().unwrap()).collect();
    let all: usize = answered.iter().map(BTreeMap::len).sum();
    assert!(all >= 50, "only {all} messages were answered before the kill: that proves nothing");

    let service = Process::start(&data);
    let mut client = Client::connect(service.address).unwrap();
    for (customer, answered) in answered.iter().enumerate() {
        let session = format!("s{customer}");
        let next = answered.len();
        // Whoever got no answer asks again, and whoever got one may too.
        let again = client.chat(&session, &format!("m{next}")).unwrap();
        assert_eq!(again.status, 200);
        for (number, body) in answered {
            let replayed = client.chat(&session, &format!("m{number}")).unwrap();
            assert!(
                replayed.head.contains("idempotent-replayed: true"),
                "{session} m{number} was answered and is lost"
            );
            assert!(replayed.body == *body, "{session} m{number} is answered otherwise after the kill");
        }
        let (mut stored, mut after) = (Vec::new(), 0);
        loop {
            let page = client.exchange("GET", &format!("/v1/sessions/{session}?after={after}"), "").unwrap().json();
            let turns = page["turns"].as_array().unwrap();
            let Some(last) = turns.last() else { break };
            after = last["seq"].as_i64().unwrap();
            stored.extend(turns.iter().filter_map(|turn| turn["message_id"].as_str()).map(str::to_owned));
        }
        let sent: Vec<String> = (0..=next).map(|number| format!("m{number}")).collect();
        assert_eq!(stored, sent, "{session}: every message stands there once, in order");
        assert_eq!(after as usize, 2 * sent.len(), "{session}: every message has one answer");
    }
    let status = service.stop();
    assert!(status.success(), "after SIGTERM it ends with {status}");
}

#[test]
fn a_second_process_is_refused_and_keys_can_be_made_beside_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let service = Process::start(&data);
    let second = yingda(&data, &["serve", "--open", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", words(&second));
    let process = format!("process {}", service.child.id());
    for part in ["is in use by another yingda process", process.as_str(), "--data"] {
        assert!(words(&second).contains(part), "{} does not say {part}", words(&second));
    }
    assert_eq!(words(&second).matches("error:").count(), 1, "{}", words(&second));

    let made = yingda(&data, &["keys", "create", "--role", "caller", "--name", "网关"]).output().unwrap();
    assert!(made.status.success() && made.stdout.starts_with(b"yd_"), "{}", words(&made));
    let keys = Client::connect(service.address).unwrap().exchange("GET", "/v1/admin/keys", "").unwrap().json();
    assert_eq!(keys["keys"][0]["name"], "网关");
    assert!(service.stop().success());
}

/// Kills to survive; 50 say more and take some minutes.
fn kills() -> usize {
    std::env::var("YINGDA_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4)
}

#[test]
fn killed_while_it_publishes_it_answers_from_the_old_release_or_from_the_new_one() {
    const ENTRIES: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = |version: usize| -> String {
        let entry = |number: usize| {
            json!({ "id": format!("k{number:02}"), "question": format!("问题{number:02}怎么办"), "answer": version.to_string(),
                    "similar_questions": (0..20).map(|way| format!("第{number:02}个问题的第{way}种问法")).collect::<Vec<_>>() })
        };
        (0..ENTRIES).map(|number| format!("{}\n", entry(number))).collect()
    };
    let publish = |address: SocketAddr| -> std::io::Result<Reply> {
        Client::connect(address)?.exchange("POST", "/v1/knowledge/publish", "{}")
    };
    // What everything that is served answers.
    let served = |address: SocketAddr| -> BTreeMap<String, usize> {
        let found =
            Client::connect(address).unwrap().exchange("POST", "/v1/search", r#"{"text": "问题怎么办", "limit": 50}"#);
        let found = found.unwrap().json();
        let mut answers = BTreeMap::new();
        for hit in found["matches"].as_array().unwrap() {
            *answers.entry(hit["answer"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        answers
    };
    let upload = |address: SocketAddr, version: usize| {
        let mut client = Client::connect(address).unwrap();
        let reply = client.exchange("POST", "/v1/knowledge/import?format=jsonl&replace=true", &file(version)).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.json());
    };
    let mut service = Process::start(&data);
    upload(service.address, 1);
    assert_eq!(publish(service.address).unwrap().status, 200);
    // How long a release takes from beginning to end.
    upload(service.address, 2);
    let started = Instant::now();
    assert_eq!(publish(service.address).unwrap().status, 200);
    let takes = started.elapsed();

    let (mut old, mut random) = (2, StdRng::seed_from_u64(7));
    let (mut olds, mut news) = (0, 0);
    for kill in 0..kills() {
        let new = kill + 3;
        upload(service.address, new);
        let address = service.address;
        let left = latest_release(address).map_or(0, |(number, _)| number);
        let publishing = std::thread::spawn(move || {
            // A release that the last kill left is given up after a while.
            let started = Instant::now();
            loop {
                match publish(address) {
                    Ok(reply) if reply.status == 409 && started.elapsed() < PATIENCE => {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    reply => return reply.map(|reply| reply.status),
                }
            }
        });
        // The one that the last kill left does not count.
        while !publishing.is_finished()
            && latest_release(address).is_none_or(|(number, writing)| number <= left || !writing)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(takes.mul_f64(random.random_range(0.0..1.5)));
        service.kill();
        let _ = publishing.join().unwrap();

        service = Process::start(&data);
        let answers = served(service.address);
        assert_eq!(answers.values().sum::<usize>(), ENTRIES, "kill {kill}: {answers:?}");
        assert_eq!(answers.len(), 1, "kill {kill}: a mixture of releases: {answers:?}");
        let (answer, _) = answers.first_key_value().unwrap();
        let answer: usize = answer.parse().unwrap();
        assert!(answer == old || answer == new, "kill {kill}: neither {old} nor {new}: {answers:?}");
        if answer == old {
            olds += 1
        } else {
            news += 1
        }
        old = answer;
    }
    say(&format!(
        "killed {} times while publishing ({takes:?}): {olds} times the old release answered, {news} times the new one",
        kills()
    ));

    // And it goes on.
    upload(service.address, 1000);
    let started = Instant::now();
    while publish(service.address).unwrap().status != 200 {
        assert!(started.elapsed() < PATIENCE, "nothing can be published any more");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(served(service.address), BTreeMap::from([("1000".to_owned(), ENTRIES)]));
    assert!(service.stop().success());
}

/// Its number, and whether it is being written.
fn latest_release(address: SocketAddr) -> Option<(i64, bool)> {
    let mut client = Client::connect(address).ok()?;
    let releases = client.exchange("GET", "/v1/knowledge/releases?limit=1", "").ok()?.json();
    let latest = &releases["releases"][0];
    Some((latest["release"].as_i64()?, latest["state"] == "writing"))
}
