//! `GET /v1/live`: sessions over a WebSocket, for customers' pages and for agents.
//!
//! Frames are JSON objects with a `type`, both ways. What a follower is told comes from the database by turn numbers (see
//! [`crate::live`]), so a socket may break at any time: whoever comes back says up to which turn it has everything.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::{TryAcquireError, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::AppState;
use super::attachments::with_files;
use super::extract::{Credential, parse};
use super::sessions::{SessionTicket, TurnBody};
use crate::auth::{Identity, Role};
use crate::chat::{Answer, Incoming, Message, checked_id};
use crate::error::{ApiError, ErrorContent};
use crate::live::{Inbox, News, Side, Standing};
use crate::storage::{Owner, now};

/// Largest frame that is read.
const MAX_FRAME: usize = 256 * 1024;
/// Within which somebody has to say who they are.
const HELLO: Duration = Duration::from_secs(10);
/// How often a sign of life is asked for, and after which silence the socket is given up.
const HEARTBEAT: Duration = Duration::from_secs(25);
const SILENCE: Duration = Duration::from_secs(75);
/// Within which one frame must be taken off us.
const SENDING: Duration = Duration::from_secs(10);
/// Most sessions that one socket follows, and most of its messages in work.
const MAX_FOLLOWED: usize = 200;
const MAX_UNANSWERED: usize = 32;
/// Turns that are read at once.
const TURNS: i64 = 200;

/// Codes with which we close, beside those of RFC 6455.
const RESTARTING: u16 = 1012;
const NOT_LET_IN: u16 = 4401;

/// What a frame from outside asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wish {
    /// Says who it is: `key` where no header did, `side` where an agent wants to be the customer.
    Hello,
    /// Wants all turns of `session_id` after number `after`, now and from now on.
    Follow,
    /// Wants them no longer.
    Leave,
    /// The customer says `message`, which must have a `message_id`.
    Say,
    /// Somebody is typing in `session_id`.
    Typing,
    /// All turns of `session_id` up to `seq` have arrived.
    Received,
    /// All turns of `session_id` up to `seq` have been read.
    Read,
}

/// A frame from outside.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LiveRequest {
    /// What it asks.
    #[serde(rename = "type")]
    wish: Wish,
    /// Of `hello`: the API key, where no header and no cookie could tell it.
    key: Option<String>,
    /// Of `hello`: `customer` or `agent`. Who may work tickets is `agent` when it is left out, everybody else `customer`.
    side: Option<Side>,
    /// The session.
    session_id: Option<String>,
    /// Of `follow`: number of the last turn that is known; 0 when left out.
    after: Option<i64>,
    /// Of `received` and `read`: number of a turn.
    seq: Option<i64>,
    /// Of `say`: as the body of `POST /v1/chat`.
    message: Option<Incoming>,
}

/// A frame of ours. The answer to `say` is `{"type": "answer", "session_id", "message_id", "replayed", "answer"}`, with the body that
/// `POST /v1/chat` would have given.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum LiveFrame {
    /// Whoever it is has been let in.
    Welcome {
        /// The side that they are on.
        side: Side,
        /// Their name, or that of their key.
        name: String,
    },
    /// A turn of a followed session; each comes once, in the order of their numbers.
    Turn {
        /// The session.
        session_id: String,
        /// The turn.
        turn: Box<TurnBody>,
    },
    /// Who answers in a followed session: at first, and when it changes.
    Session {
        /// The session.
        session_id: String,
        /// Who it is.
        #[serde(flatten)]
        answering: Answering,
    },
    /// How far both sides of a followed session are, and whether they are there: at first, and when it changes.
    Standing {
        /// The session.
        session_id: String,
        /// The customer.
        customer: StandingBody,
        /// The agents.
        agent: StandingBody,
    },
    /// Some ticket changed: lists of tickets should be read again. For agents only.
    Tickets,
    /// A frame was refused.
    Error {
        /// The session that it was about.
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// The message that it was about.
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<String>,
        /// What went wrong.
        error: ErrorContent,
    },
}

/// Who answers in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Answering {
    /// `bot` or `agent`.
    owner: String,
    /// The person who took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_agent: Option<String>,
    /// The open ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<SessionTicket>,
}

/// How far one side of a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct StandingBody {
    /// Whether somebody of it is there.
    present: bool,
    /// Whether somebody of it is typing.
    typing: bool,
    /// Turns up to this number have arrived.
    received_seq: i64,
    /// Turns up to this number have been read.
    read_seq: i64,
}

impl StandingBody {
    fn of(standing: Standing, now: i64) -> Self {
        let Standing { received_seq, read_seq, .. } = standing;
        Self { present: standing.is_there(now), typing: standing.is_typing(now), received_seq, read_seq }
    }
}

/// Follow sessions over a WebSocket
///
/// For customers' pages and for agents: new turns as they are written, who answers, who is typing, what was received and read. A
/// browser that has a key says it in its first frame, `{"type": "hello", "key": "yd_..."}`, because it cannot set a header. See
/// docs/live.md for the frames.
#[utoipa::path(
    get, path = "/v1/live", tag = "chat", security(("api_key" = [])),
    responses(
        (status = 101, description = "The socket is open; frames from us", body = LiveFrame),
        (status = 401, description = "No key and no socket, or an unknown key", body = crate::error::ErrorBody),
        (status = 403, description = "A page of another site", body = crate::error::ErrorBody),
        (status = 426, description = "Not asked as a WebSocket", body = crate::error::ErrorBody),
    )
)]
pub(super) async fn live(
    State(state): State<AppState>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let known = match Credential::of(&headers)? {
        _ if state.0.config.open => Some((None, Identity::open())),
        Some(credential) => {
            let identity = let_in(&state, &credential).await?;
            Some((Some(credential), identity))
        }
        None if upgrade.is_err() => return Err(ApiError::KeyMissing),
        None => None,
    };
    let upgrade = upgrade.map_err(|_| ApiError::UpgradeNeeded)?;
    // Other sites' pages can open a socket to us, and the browser sends our cookie along.
    if matches!(known, Some((Some(Credential::Cookie(_)), _))) && !is_same_site(&headers) {
        return Err(ApiError::Csrf);
    }
    let permit = Arc::clone(&state.0.sockets).try_acquire_owned().map_err(|error| match error {
        TryAcquireError::NoPermits => ApiError::Busy,
        TryAcquireError::Closed => ApiError::Stopping,
    })?;
    let upgrade = upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME);
    let serve = async move |socket| {
        welcome(state, socket, known).await;
        // Last: whoever waits for it may then close what the state holds.
        drop(permit);
    };
    Ok(upgrade.on_upgrade(serve).into_response())
}

/// Who shows a credential now. Outside organisations ask for what is shared with them; they follow no session.
async fn let_in(state: &AppState, credential: &Credential) -> Result<Identity, ApiError> {
    let identity = credential.identify(state).await?;
    if identity.organisation.is_some() { Err(ApiError::Outside) } else { Ok(identity) }
}

fn is_same_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (origin, host) = (text(header::ORIGIN), text(header::HOST));
    origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
}

/// Waits for the first frame, and serves whoever may come in.
async fn welcome(state: AppState, mut socket: WebSocket, known: Option<(Option<Credential>, Identity)>) {
    let hello = tokio::time::timeout(HELLO, async {
        loop {
            match socket.recv().await {
                Some(Ok(Frame::Text(text))) => return Some(text),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                Some(Ok(Frame::Binary(_) | Frame::Close(_)) | Err(_)) | None => return None,
            }
        }
    });
    let Ok(Some(hello)) = hello.await else { return };
    let entered = async {
        let request: LiveRequest = parse(hello.as_bytes())?;
        if request.wish != Wish::Hello {
            return Err(ApiError::field("type", "第一帧须为 hello"));
        }
        let (credential, identity) = match (known, request.key) {
            (_, Some(key)) if !state.0.config.open => {
                let credential = Credential::Key(key);
                let identity = let_in(&state, &credential).await?;
                (Some(credential), identity)
            }
            (Some(known), _) => known,
            (None, _) => return Err(ApiError::KeyMissing),
        };
        let works = identity.role >= Role::Agent;
        let side = request.side.unwrap_or(if works { Side::Agent } else { Side::Customer });
        if side == Side::Agent && !works {
            return Err(ApiError::Forbidden { needed: Role::Agent });
        }
        Ok((credential, identity, side))
    };
    match entered.await {
        Ok((credential, identity, side)) => {
            let inbox = state.0.live.join(side);
            let (answered, answers) = mpsc::channel(MAX_UNANSWERED);
            let mut connection = Connection {
                inbox: Arc::clone(&inbox),
                state: state.clone(),
                socket,
                credential,
                side,
                followed: BTreeMap::new(),
                unanswered: 0,
                saying: BTreeMap::new(),
                answered,
            };
            // Whoever is gone is seen by the next read; there is nobody left to tell.
            let _ = connection.serve(identity, answers).await;
            state.0.live.leave(&inbox, connection.followed.keys());
            for (_, saying) in std::mem::take(&mut connection.saying) {
                // Its own panic, if it had one, was told where it happened.
                let _ = saying.await;
            }
        }
        Err(error) => {
            let frame = LiveFrame::Error { session_id: None, message_id: None, error: error.content() };
            if let Ok(text) = serde_json::to_string(&frame) {
                let _ = socket.send(Frame::Text(text.into())).await;
            }
            let _ = socket.send(closing(NOT_LET_IN, "not let in")).await;
        }
    }
}

fn closing(code: u16, reason: &'static str) -> Frame {
    Frame::Close(Some(CloseFrame { code, reason: reason.into() }))
}

/// The socket is gone, or must go.
struct Gone;

/// What was told of a followed session.
#[derive(Default)]
struct Told {
    seq: i64,
    answering: Option<Answering>,
    standing: Option<(StandingBody, StandingBody)>,
}

struct Connection {
    state: AppState,
    socket: WebSocket,
    credential: Option<Credential>,
    side: Side,
    inbox: Arc<Inbox>,
    followed: BTreeMap<String, Told>,
    unanswered: usize,
    /// The last message of each session that is in work: the next one waits for it.
    saying: BTreeMap<String, JoinHandle<()>>,
    answered: mpsc::Sender<String>,
}

impl Connection {
    async fn serve(&mut self, identity: Identity, mut answers: mpsc::Receiver<String>) -> Result<(), Gone> {
        self.tell(&LiveFrame::Welcome { side: self.side, name: identity.name }).await?;
        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        let mut heard = Instant::now();
        let inbox = Arc::clone(&self.inbox);
        loop {
            tokio::select! {
                frame = self.socket.recv() => {
                    heard = Instant::now();
                    match frame {
                        Some(Ok(Frame::Text(text))) => self.hear(text.as_bytes()).await?,
                        Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                        Some(Ok(Frame::Binary(_))) => {
                            let error = ApiError::InvalidJson("不是文本帧".to_owned());
                            self.refuse(None, None, &error).await?;
                        }
                        Some(Ok(Frame::Close(_)) | Err(_)) | None => return Err(Gone),
                    }
                }
                news = inbox.news() => self.pass_on(news).await?,
                Some(text) = answers.recv() => {
                    self.unanswered -= 1;
                    self.send(Frame::Text(text.into())).await?;
                }
                _ = heartbeat.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(Gone);
                    }
                    self.check_in().await?;
                    self.send(Frame::Ping(Default::default())).await?;
                }
            }
        }
    }

    /// Whoever lost their rights meanwhile is shown out. That the database does not answer is no reason.
    async fn check_in(&mut self) -> Result<(), Gone> {
        let Some(credential) = &self.credential else { return Ok(()) };
        let needed = if self.side == Side::Agent { Role::Agent } else { Role::Caller };
        match let_in(&self.state, credential).await {
            Ok(identity) if identity.role >= needed => Ok(()),
            Err(ApiError::Storage(_)) => Ok(()),
            Ok(_) | Err(_) => {
                self.send(closing(NOT_LET_IN, "not let in any more")).await?;
                Err(Gone)
            }
        }
    }

    async fn hear(&mut self, frame: &[u8]) -> Result<(), Gone> {
        let (mut session_id, mut message_id) = (None, None);
        let heard = match parse::<LiveRequest>(frame) {
            Ok(request) => {
                session_id.clone_from(&request.session_id);
                if let Some(message) = &request.message {
                    session_id = Some(message.session_id.clone());
                    message_id.clone_from(&message.message_id);
                }
                self.grant(request).await
            }
            Err(error) => Err(error),
        };
        match heard {
            Ok(()) => Ok(()),
            Err(error) => self.refuse(session_id, message_id, &error).await,
        }
    }

    async fn grant(&mut self, request: LiveRequest) -> Result<(), ApiError> {
        if request.wish == Wish::Hello {
            return Err(ApiError::field("type", "hello 只在第一帧发送"));
        }
        if request.wish == Wish::Say {
            return self.say(request.message.ok_or_else(|| ApiError::field("message", "缺失"))?);
        }
        let session_id = checked_id("session_id", request.session_id.unwrap_or_default())?;
        let live = self.state.0.live.clone();
        match request.wish {
            Wish::Follow => {
                if self.followed.len() >= MAX_FOLLOWED && !self.followed.contains_key(&session_id) {
                    return Err(ApiError::field("session_id", format!("一个连接最多关注 {MAX_FOLLOWED} 个会话")));
                }
                let seq = request.after.unwrap_or(0).max(0);
                self.followed.insert(session_id.clone(), Told { seq, ..Told::default() });
                live.follow(&session_id, self.side, &self.inbox).await;
            }
            Wish::Leave => {
                self.followed.remove(&session_id);
                live.unfollow(&session_id, &self.inbox);
            }
            Wish::Typing | Wish::Received | Wish::Read if !self.followed.contains_key(&session_id) => {
                return Err(ApiError::field("session_id", "还没有关注这个会话，请先发送 follow"));
            }
            Wish::Typing => live.typing(&session_id, self.side),
            Wish::Received | Wish::Read => {
                let seq = request.seq.ok_or_else(|| ApiError::field("seq", "缺失"))?;
                live.received(&session_id, self.side, seq, request.wish == Wish::Read);
            }
            Wish::Hello | Wish::Say => {}
        }
        Ok(())
    }

    /// Has a message answered. Those of one session are handled in the order in which they came, others beside each other; each to
    /// its end, also when the socket breaks.
    fn say(&mut self, incoming: Incoming) -> Result<(), ApiError> {
        let session_id = incoming.session_id.clone();
        let message_id = incoming
            .message_id
            .clone()
            .ok_or_else(|| ApiError::field("message.message_id", "缺失：连接随时可能断开，有了它重发才不会重复"))?;
        let message = Message::check(incoming)?;
        if self.unanswered >= MAX_UNANSWERED {
            return Err(ApiError::Busy);
        }
        self.unanswered += 1;
        self.saying.retain(|_, saying| !saying.is_finished());
        let (state, answered, before) = (self.state.clone(), self.answered.clone(), self.saying.remove(&session_id));
        let id = session_id.clone();
        let saying = tokio::spawn(async move {
            if let Some(before) = before {
                // One that panicked is answered, too.
                let _ = before.await;
            }
            let chat = state.0.chat.clone();
            let text = match state.finish(async move { chat.handle(message).await }).await {
                Ok(answer) => answer_frame(&id, &message_id, &answer),
                Err(error) => {
                    if error.code_and_status().1.is_server_error() {
                        tracing::error!(detail = %error, "a message over a socket failed");
                    }
                    let error = error.content();
                    let frame = LiveFrame::Error { session_id: Some(id.clone()), message_id: Some(message_id), error };
                    serde_json::to_string(&frame).expect("plain data is always JSON")
                }
            };
            // Whoever has gone reads the answer from the session.
            let _ = answered.send(text).await;
        });
        self.saying.insert(session_id, saying);
        Ok(())
    }

    async fn pass_on(&mut self, news: News) -> Result<(), Gone> {
        for session_id in news.sessions {
            if let Some(mut told) = self.followed.remove(&session_id) {
                let shown = self.show(&session_id, &mut told).await;
                self.followed.insert(session_id, told);
                shown?;
            }
        }
        if news.tickets {
            self.tell(&LiveFrame::Tickets).await?;
        }
        if news.stopping {
            self.send(closing(RESTARTING, "the service restarts")).await?;
            return Err(Gone);
        }
        Ok(())
    }

    /// Tells what is new in a session: turns first, then who answers, then how far everybody is.
    async fn show(&mut self, session_id: &str, told: &mut Told) -> Result<(), Gone> {
        let Some(snapshot) = self.state.0.live.snapshot(session_id) else { return Ok(()) };
        let storage = self.state.0.storage.clone();
        if let Some(session) = snapshot.state {
            while told.seq < session.last_seq {
                let turns = storage.turns(session_id, told.seq, session.last_seq, TURNS).await;
                let turns = self.read(turns).await?;
                let Some(last) = turns.last().map(|turn| turn.seq) else { break };
                let turns = with_files(&self.state, session_id, turns).await;
                for turn in self.read(turns).await? {
                    let turn = Box::new(turn);
                    self.tell(&LiveFrame::Turn { session_id: session_id.to_owned(), turn }).await?;
                }
                told.seq = last;
            }
            let ticket = match session.owner {
                Owner::Agent => {
                    let ticket = storage.open_ticket_of(session_id).await;
                    self.read(ticket).await?.map(SessionTicket::from)
                }
                Owner::Bot => None,
            };
            let owner = session.owner.as_str().to_owned();
            let answering = Answering { owner, owner_agent: session.owner_agent, ticket };
            if told.answering.as_ref() != Some(&answering) {
                told.answering = Some(answering.clone());
                self.tell(&LiveFrame::Session { session_id: session_id.to_owned(), answering }).await?;
            }
        }
        let at = now();
        let standing = (StandingBody::of(snapshot.customer, at), StandingBody::of(snapshot.agent, at));
        if told.standing != Some(standing) {
            let (customer, agent) = standing;
            self.tell(&LiveFrame::Standing { session_id: session_id.to_owned(), customer, agent }).await?;
            told.standing = Some(standing);
        }
        Ok(())
    }

    /// What was read. Where it could not be, the socket is closed: whoever comes back says what they have.
    async fn read<T, E: Display>(&mut self, read: Result<T, E>) -> Result<T, Gone> {
        match read {
            Ok(read) => Ok(read),
            Err(error) => {
                tracing::warn!(%error, "a socket is closed because its session cannot be read");
                self.send(closing(RESTARTING, "come back")).await?;
                Err(Gone)
            }
        }
    }

    async fn refuse(
        &mut self,
        session_id: Option<String>,
        message_id: Option<String>,
        error: &ApiError,
    ) -> Result<(), Gone> {
        self.tell(&LiveFrame::Error { session_id, message_id, error: error.content() }).await
    }

    async fn tell(&mut self, frame: &LiveFrame) -> Result<(), Gone> {
        let text = serde_json::to_string(frame).expect("plain data is always JSON");
        self.send(Frame::Text(text.into())).await
    }

    async fn send(&mut self, frame: Frame) -> Result<(), Gone> {
        match tokio::time::timeout(SENDING, self.socket.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}

/// The answer is JSON already, and stays as it was stored.
fn answer_frame(session_id: &str, message_id: &str, answer: &Answer) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        r#"{{"type":"answer","session_id":{},"message_id":{},"replayed":{},"answer":{}}}"#,
        quoted(session_id),
        quoted(message_id),
        answer.replayed,
        answer.json
    )
}
