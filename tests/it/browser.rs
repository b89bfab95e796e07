//! A real browser, steered through a WebDriver (<https://www.w3.org/TR/webdriver2/>) such as chromedriver.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Once,
    time::{Duration, Instant},
};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Listening, PASSWORD, say};

/// How long a page may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What stands for keys that write nothing (section 17.4.2 of the page).
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const CONTROL: &str = "\u{e009}";
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const LEFT: &str = "\u{e012}";
pub(crate) const RIGHT: &str = "\u{e014}";
pub(crate) const ALT: &str = "\u{e00a}";

/// The name of an element's id in an answer (section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The program that steers Chromium; it ends with its browsers when dropped.
pub(crate) struct Driver {
    child: Child,
    address: SocketAddr,
    /// Where browsers keep their files; removed after them.
    _folder: TempDir,
}

impl Driver {
    /// `None` where the machine has none; that is said once.
    pub(crate) fn start() -> Option<Self> {
        static SAID: Once = Once::new();
        let Some(program) = std::env::var_os("YINGDA_TEST_CHROMEDRIVER").filter(|program| !program.is_empty()) else {
            SAID.call_once(|| say("YINGDA_TEST_CHROMEDRIVER is not set: the console is not tested in a browser"));
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.arg("--port=0").env("TMPDIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("YINGDA_TEST_CHROMEDRIVER cannot be started");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| line.unwrap().split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok());
        let port: u16 = port.expect("chromedriver does not say its port");
        // What it says later must go somewhere, or it stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), _folder: folder })
    }

    /// A browser of its own: nothing is shared with the others. `phone`: one with a small screen.
    pub(crate) async fn browser(&self, service: &Listening, phone: bool) -> Browser {
        let mut options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900", "--lang=zh-CN",
            "--hide-scrollbars", "--disable-lcd-text", "--force-color-profile=srgb", "--disable-background-networking",
        ] });
        if phone {
            options["mobileEmulation"] = json!({ "deviceMetrics": { "width": 390, "height": 780, "pixelRatio": 2.0 } });
        }
        let client = Client::start(&format!("http://{}", self.address), options).await;
        Browser { client, site: format!("http://{}", service.address) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Asked for, it ends its browsers too, also those of a test that failed.
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let _ = stream.write_all(b"GET /shutdown HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let _ = stream.read_to_end(&mut Vec::new());
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// One person's browser.
pub(crate) struct Browser {
    pub(crate) client: Client,
    site: String,
}

impl Browser {
    pub(crate) async fn go(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.site)).await;
    }

    /// What a script of the test finds in the page.
    pub(crate) async fn read(&self, script: &str) -> Value {
        self.client.execute(&format!("return {script}")).await
    }

    /// Waits until something holds in the page.
    pub(crate) async fn until(&self, script: &str) {
        let started = Instant::now();
        while self.read(&format!("Boolean({script})")).await != json!(true) {
            if started.elapsed() > PATIENCE {
                panic!("never came: {script}\n{}", self.read("document.body.innerText").await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a text stands in what a selector finds.
    pub(crate) async fn sees(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.until(&format!("[...document.querySelectorAll({selector})].some((node) => node.checkVisibility() && node.textContent.includes({text}))")).await;
    }

    pub(crate) async fn find(&self, selector: &str) -> Element<'_> {
        self.until(&format!("document.querySelector({0})?.checkVisibility()", json!(selector))).await;
        self.client.find(selector).await
    }

    pub(crate) async fn click(&self, selector: &str) {
        self.find(selector).await.click().await;
    }

    pub(crate) async fn write(&self, selector: &str, text: &str) {
        self.find(selector).await.send_keys(text).await;
    }

    /// Presses a key wherever the page stands.
    pub(crate) async fn press(&self, key: &str) {
        self.client.active_element().await.send_keys(key).await;
    }

    pub(crate) async fn log_in(&self, login: &str) {
        self.write("#log-in input[name=login]", login).await;
        self.write("#log-in input[name=password]", &(PASSWORD.to_owned() + ENTER)).await;
        self.until("!document.querySelector('#log-in').open").await;
        self.find("#bar").await;
    }

    pub(crate) async fn panel(&self, name: &str) {
        self.click(&format!("[data-panel={name}]")).await;
    }

    /// A picture for docs/, where somebody asked for them.
    pub(crate) async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("YINGDA_TEST_SCREENSHOTS").filter(|folder| !folder.is_empty()) else {
            return;
        };
        let picture = self.client.screenshot().await;
        std::fs::write(PathBuf::from(folder).join(name), picture).unwrap();
    }

    pub(crate) async fn close(self) {
        self.client.close().await;
    }
}

/// One browser of its own.
pub(crate) struct Client {
    agent: ureq::Agent,
    /// Address of its session at the driver.
    session: String,
}

/// Something in a page.
pub(crate) struct Element<'a> {
    client: &'a Client,
    id: String,
}

impl Client {
    /// Starts a browser at the driver of an address.
    pub(crate) async fn start(driver: &str, options: Value) -> Self {
        let settings =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).http_status_as_error(false);
        let mut client = Self { agent: settings.build().new_agent(), session: driver.to_owned() };
        let capabilities = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let made = client.send("POST", "/session", capabilities).await;
        client.session = format!("{driver}/session/{}", made["sessionId"].as_str().unwrap());
        client
    }

    /// One command. What the driver refuses ends the test.
    async fn send(&self, method: &'static str, path: &str, body: Value) -> Value {
        let (agent, address) = (self.agent.clone(), format!("{}{path}", self.session));
        let answer = tokio::task::spawn_blocking(move || {
            let answer = match method {
                "GET" => agent.get(&address).call(),
                "DELETE" => agent.delete(&address).call(),
                _ => agent.post(&address).header("content-type", "application/json").send(body.to_string()),
            };
            answer.unwrap().body_mut().with_config().limit(64 << 20).read_to_string().unwrap()
        });
        let answer: Value = serde_json::from_str(&answer.await.unwrap()).unwrap();
        assert!(answer["value"].get("error").is_none(), "{method} {path}: {}", answer["value"]);
        answer["value"].clone()
    }

    pub(crate) async fn goto(&self, address: &str) {
        self.send("POST", "/url", json!({ "url": address })).await;
    }

    pub(crate) async fn refresh(&self) {
        self.send("POST", "/refresh", json!({})).await;
    }

    pub(crate) async fn title(&self) -> String {
        self.send("GET", "/title", Value::Null).await.as_str().unwrap().to_owned()
    }

    /// What a script returns.
    pub(crate) async fn execute(&self, script: &str) -> Value {
        self.send("POST", "/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// The first element that a selector finds.
    pub(crate) async fn find(&self, selector: &str) -> Element<'_> {
        let found = self.send("POST", "/element", json!({ "using": "css selector", "value": selector })).await;
        Element { client: self, id: found[ELEMENT].as_str().unwrap().to_owned() }
    }

    /// The element that gets what is typed.
    pub(crate) async fn active_element(&self) -> Element<'_> {
        let found = self.send("GET", "/element/active", Value::Null).await;
        Element { client: self, id: found[ELEMENT].as_str().unwrap().to_owned() }
    }

    pub(crate) async fn cookie(&self, name: &str) -> Value {
        self.send("GET", &format!("/cookie/{name}"), Value::Null).await
    }

    /// A picture of the page, as PNG.
    pub(crate) async fn screenshot(&self) -> Vec<u8> {
        let picture = self.send("GET", "/screenshot", Value::Null).await;
        base64::prelude::BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap()
    }

    pub(crate) async fn close(self) {
        self.send("DELETE", "", Value::Null).await;
    }
}

impl Element<'_> {
    pub(crate) async fn click(&self) {
        self.client.send("POST", &format!("/element/{}/click", self.id), json!({})).await;
    }

    pub(crate) async fn send_keys(&self, text: &str) {
        self.client.send("POST", &format!("/element/{}/value", self.id), json!({ "text": text })).await;
    }
}
