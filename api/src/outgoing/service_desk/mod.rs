//! Hands the tickets of a team to a service desk of others, and brings back how they stand there.
//!
//! Before a ticket is made there, it is noted here that it is about to be. When the answer is lost, or the process ends with the
//! call, the next attempt looks for it there by a reference of ours, and makes it only if it is not found. So a ticket is made once,
//! as long as theirs can be found by the time it is looked for.

mod jira;
mod zendesk;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use ureq::http::{HeaderValue, header};
use yingda_engine::Role;

use super::{OutgoingError, OutgoingSettings, ServiceDeskKind, ServiceDeskSettings};
use crate::desk::{Actor, Desk, DeskError, Move, Ticket};
use crate::request::{Answer, CallError, Client, Request, token};
use crate::rounds::{Lanes, Rounds};
use crate::storage::{NewRemote, RemoteRecord, RemoteState, Storage, Turn, new_id, now};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
/// The lease on this work, and for how long it is taken.
const LEASE: &str = "service_desks";
const LEASE_MILLISECONDS: i64 = 5 * SECOND;
const TICK: Duration = Duration::from_secs(1);
/// Milliseconds that a service desk has to answer.
const DEADLINE: u64 = 10_000;
/// After this a call that was begun is given up: its process must have ended.
const GIVEN_UP: i64 = MINUTE;
/// How often it is asked how a ticket stands.
const ASKED_EVERY: i64 = MINUTE;
/// Tickets that are handed over, or asked about, in one go.
const AT_ONCE: i64 = 100;
/// Turns of the conversation that are told, the last ones.
const TURNS: i64 = 50;
/// Largest answer that is read, in bytes: a hundred tickets.
const LARGEST_ANSWER: u64 = 8 * 1024 * 1024;
/// Waits after a first, a second ... call that made nothing; the last one from then on.
const WAITS: [i64; 4] = [10 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE];

/// Whoever does it. Clones do it together.
#[derive(Clone)]
pub struct ServiceDesks {
    storage: Storage,
    desk: Desk,
    settings: Vec<ServiceDeskSettings>,
    client: Client,
    /// Tells replicas apart.
    holder: String,
}

/// What one look at the tickets did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Tickets that a service desk has now.
    pub made: usize,
    /// Tickets that it could not be given.
    pub failed: usize,
}

/// What was learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Tickets that stand otherwise than before.
    pub changed: usize,
    /// Tickets that are resolved by that.
    pub resolved: usize,
}

/// A ticket as a service desk tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remote {
    /// What it is called there.
    id: String,
    /// How it stands, in their words.
    status: String,
    /// Whether nothing more happens with it there.
    done: bool,
}

/// Why a call came to nothing. The sentences hold nothing of what was sent or answered.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// It does not know us.
    #[error("it refuses the account (status {0}); check user and token")]
    Account(u16),
    /// It was asked too often.
    #[error("it was asked too often; waiting {0} s")]
    TooOften(i64),
    /// It does not take what was sent.
    #[error("it does not take the ticket (status {0}); check the settings and what its form wants")]
    Refused(u16),
    /// Nobody knows what it did.
    #[error("{0}")]
    Unclear(#[from] CallError),
}

impl Refusal {
    /// For how long nothing is asked of the service desk, in milliseconds.
    fn pause(&self) -> Option<i64> {
        match self {
            Self::Account(_) => Some(MINUTE),
            Self::TooOften(seconds) => Some(seconds * SECOND),
            Self::Refused(_) | Self::Unclear(_) => None,
        }
    }
}

/// The JSON of a success.
fn success(answer: Answer) -> Result<Value, Refusal> {
    match answer.status {
        200..300 => Ok(serde_json::from_slice(&answer.body?).map_err(|_| CallError::NoJson)?),
        status @ (401 | 403) => Err(Refusal::Account(status)),
        429 => Err(Refusal::TooOften(answer.retry_after.unwrap_or(60))),
        status @ 400..500 => Err(Refusal::Refused(status)),
        status => Err(CallError::Status(status).into()),
    }
}

impl ServiceDesks {
    /// Of settings that have no [`OutgoingSettings::problems`].
    pub fn new(storage: Storage, settings: &OutgoingSettings) -> Self {
        let settings = settings
            .service_desk
            .iter()
            .map(|desk| ServiceDeskSettings { address: desk.address.trim_end_matches('/').to_owned(), ..desk.clone() });
        let settings = settings.collect();
        Self { desk: Desk::new(storage.clone()), storage, settings, client: Client::new(), holder: new_id() }
    }

    /// Works for as long as it is polled, or not at all where there is no service desk.
    pub async fn run(&self) {
        if self.settings.is_empty() {
            return;
        }
        let mut lanes = Lanes::default();
        let mut rounds = Rounds::new(TICK, "service desks are told nothing at the moment");
        loop {
            rounds.next().await;
            let lease = self.storage.take_lease(LEASE, &self.holder, now() + LEASE_MILLISECONDS).await;
            if let Ok(true) = lease {
                for settings in &self.settings {
                    lanes.start(&settings.name, self.clone().work_for(settings.clone()));
                }
            }
            rounds.ended(lease.map(drop));
        }
    }

    async fn work_for(self, settings: ServiceDeskSettings) {
        let done = async {
            self.hand_over_to(&settings, now()).await?;
            self.ask_of(&settings, now()).await
        };
        if let Err(error) = done.await {
            tracing::warn!(%error, service_desk = settings.name, "its tickets wait until the next look");
        }
    }

    /// Hands over every ticket that is to be handed over at this moment. `now` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the database fails. That a service desk does is no error.
    pub async fn hand_over(&self, now: i64) -> Result<HandedOver, OutgoingError> {
        let mut all = HandedOver::default();
        for settings in &self.settings {
            let one = self.hand_over_to(settings, now).await?;
            all = HandedOver { made: all.made + one.made, failed: all.failed + one.failed };
        }
        Ok(all)
    }

    /// Asks how the tickets stand whose time has come, once a minute for each. What is done there is resolved here. `now` in
    /// milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the database fails. That a service desk does is no error.
    pub async fn ask(&self, now: i64) -> Result<Asked, OutgoingError> {
        let mut all = Asked::default();
        for settings in &self.settings {
            let one = self.ask_of(settings, now).await?;
            all = Asked { changed: all.changed + one.changed, resolved: all.resolved + one.resolved };
        }
        Ok(all)
    }

    async fn hand_over_to(&self, settings: &ServiceDeskSettings, now: i64) -> Result<HandedOver, OutgoingError> {
        for ticket in self.storage.tickets_for_service_desk(&settings.name, &settings.team, AT_ONCE).await? {
            let turns = self.storage.last_turns(&ticket.session_id, 0, TURNS).await?;
            self.storage.add_remote(&new_remote(settings, &ticket, &turns), now).await?;
        }
        let mut all = HandedOver::default();
        for record in self.storage.due_remotes(&settings.name, &settings.team, false, now, AT_ONCE).await? {
            if !self.storage.begin_remote(&record, now + GIVEN_UP).await? {
                continue;
            }
            match self.make(settings, &record).await {
                Ok(remote) => {
                    self.tell(settings, &record, &remote).await?;
                    all.made += 1;
                }
                Err(refusal) => {
                    all.failed += 1;
                    let begun = matches!(refusal, Refusal::Unclear(_)) || record.begun;
                    let attempts = usize::try_from(record.attempts).unwrap_or(usize::MAX);
                    let wait = WAITS[attempts.min(WAITS.len() - 1)];
                    self.storage.postpone_remote(&record.new, begun, now + wait).await?;
                    let (service_desk, ticket) = (&settings.name, &record.new.ticket_id);
                    tracing::warn!(error = %refusal, service_desk, ticket, "a ticket is not handed over yet");
                    if let Some(pause) = refusal.pause() {
                        self.storage.pause_service_desk(&settings.name, now + pause).await?;
                        break;
                    }
                }
            }
        }
        Ok(all)
    }

    /// Finds the ticket there if it may have been made, and makes it otherwise.
    async fn make(&self, settings: &ServiceDeskSettings, record: &RemoteRecord) -> Result<Remote, Refusal> {
        let new = &record.new;
        if record.begun {
            let found = match settings.kind {
                ServiceDeskKind::Zendesk => {
                    zendesk::found(&self.read(settings, &zendesk::by_reference(&new.reference)).await?, &new.reference)
                }
                ServiceDeskKind::Jira => {
                    jira::found(&self.read(settings, &jira::by_reference(&new.reference)).await?, &new.reference)
                }
            };
            if let Some(remote) = found {
                return Ok(remote);
            }
        }
        let (path, body) = match settings.kind {
            ServiceDeskKind::Zendesk => zendesk::creation(new),
            ServiceDeskKind::Jira => jira::creation(settings, new),
        };
        let mut request = self.request(settings, path)?;
        request.body = Some(body.to_string());
        if settings.kind == ServiceDeskKind::Zendesk {
            let key = HeaderValue::from_str(&new.reference).map_err(|_| Refusal::Refused(400))?;
            request.headers.push((zendesk::IDEMPOTENCY_KEY, key));
        }
        let answer = success(self.client.send(request).await?)?;
        let made = match settings.kind {
            ServiceDeskKind::Zendesk => zendesk::made(&answer),
            ServiceDeskKind::Jira => jira::told(&answer),
        };
        Ok(made.ok_or(CallError::NoJson)?)
    }

    async fn ask_of(&self, settings: &ServiceDeskSettings, now: i64) -> Result<Asked, OutgoingError> {
        let mut records = Vec::new();
        for record in self.storage.due_remotes(&settings.name, &settings.team, true, now, AT_ONCE).await? {
            if self.storage.begin_remote(&record, now + ASKED_EVERY).await? {
                records.push(record);
            }
        }
        let (remotes, refusal) = match settings.kind {
            ServiceDeskKind::Zendesk => self.ask_zendesk(settings, &records).await,
            ServiceDeskKind::Jira => self.ask_jira(settings, &records).await,
        };
        if let Some(refusal) = refusal {
            tracing::warn!(error = %refusal, service_desk = settings.name, "how its tickets stand is not known now");
            if let Some(pause) = refusal.pause() {
                self.storage.pause_service_desk(&settings.name, now + pause).await?;
            }
        }
        let mut all = Asked::default();
        for record in &records {
            let remote = remotes.iter().find(|remote| Some(&remote.id) == record.remote_id.as_ref());
            let Some(remote) = remote else { continue };
            all.changed += usize::from(self.tell(settings, record, remote).await?);
            if remote.done {
                all.resolved += usize::from(self.resolve(settings, record, remote).await?);
            }
        }
        Ok(all)
    }

    /// All in one call.
    async fn ask_zendesk(
        &self,
        settings: &ServiceDeskSettings,
        records: &[RemoteRecord],
    ) -> (Vec<Remote>, Option<Refusal>) {
        let ids: Vec<&str> = records.iter().filter_map(|record| record.remote_id.as_deref()).collect();
        if ids.is_empty() {
            return (Vec::new(), None);
        }
        match self.read(settings, &zendesk::by_ids(&ids)).await {
            Ok(answer) => (zendesk::told(&answer), None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        }
    }

    /// One by one, until one is refused.
    async fn ask_jira(
        &self,
        settings: &ServiceDeskSettings,
        records: &[RemoteRecord],
    ) -> (Vec<Remote>, Option<Refusal>) {
        let mut remotes = Vec::new();
        for key in records.iter().filter_map(|record| record.remote_id.as_deref()) {
            match self.read(settings, &jira::by_key(key)).await {
                Ok(answer) => remotes.extend(jira::told(&answer)),
                // One that was removed there says nothing of the others.
                Err(Refusal::Refused(404)) => {}
                Err(refusal) => return (remotes, Some(refusal)),
            }
        }
        (remotes, None)
    }

    /// Notes how a ticket stands there; says whether that is news.
    async fn tell(
        &self,
        settings: &ServiceDeskSettings,
        record: &RemoteRecord,
        remote: &Remote,
    ) -> Result<bool, OutgoingError> {
        let page = match settings.kind {
            ServiceDeskKind::Zendesk => zendesk::page(&remote.id),
            ServiceDeskKind::Jira => jira::page(&remote.id),
        };
        let state = RemoteState {
            service_desk: settings.name.clone(),
            round: record.new.round,
            remote_id: remote.id.clone(),
            status: remote.status.clone(),
            address: format!("{}{page}", settings.address),
        };
        Ok(self.desk.tell_outside(&record.new.ticket_id, &state).await?)
    }

    /// Resolves a ticket that is done there; one that nobody has is given to the service desk first. Says whether it was open.
    async fn resolve(
        &self,
        settings: &ServiceDeskSettings,
        record: &RemoteRecord,
        remote: &Remote,
    ) -> Result<bool, OutgoingError> {
        let id = &record.new.ticket_id;
        let data = json!({ "service_desk": settings.name, "remote_id": remote.id });
        self.desk.offer(id, &settings.name, data.clone()).await?;
        match self.desk.act(id, Move::Resolve, &Actor::system(), None, data).await {
            Ok(_) => Ok(true),
            // Somebody was faster.
            Err(DeskError::NotAllowed { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn read(&self, settings: &ServiceDeskSettings, path: &str) -> Result<Value, Refusal> {
        success(self.client.send(self.request(settings, path)?).await?)
    }

    fn request(&self, settings: &ServiceDeskSettings, path: &str) -> Result<Request, Refusal> {
        let token = token(&settings.token).map_err(CallError::Token)?;
        let pair = match settings.kind {
            ServiceDeskKind::Zendesk => format!("{}/token:{token}", settings.user),
            ServiceDeskKind::Jira => format!("{}:{token}", settings.user),
        };
        let basic = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)));
        let mut basic = basic.map_err(|_| CallError::Token("user and token make no header".to_owned()))?;
        basic.set_sensitive(true);
        Ok(Request {
            address: format!("{}{path}", settings.address),
            headers: vec![
                (header::AUTHORIZATION, basic),
                (header::ACCEPT, HeaderValue::from_static("application/json")),
            ],
            body: None,
            deadline: DEADLINE,
            largest: LARGEST_ANSWER,
        })
    }
}

/// What a service desk is to be told of a ticket: what was said, as it is stored, which is masked.
fn new_remote(settings: &ServiceDeskSettings, ticket: &Ticket, turns: &[Turn]) -> NewRemote {
    let round = ticket.reopened;
    let again = if round > 0 { format!("r{round}") } else { String::new() };
    let reference = match settings.kind {
        ServiceDeskKind::Zendesk => format!("{}{again}", ticket.id),
        ServiceDeskKind::Jira => format!("yd{}{again}", ticket.id.replace('-', "")),
    };
    let asked = turns.iter().rfind(|turn| turn.role == Role::User && turn.seq <= ticket.to_seq);
    let asked: String = asked.map(|turn| turn.text.as_str()).unwrap_or_default().chars().take(80).collect();
    let asked = asked.split_whitespace().collect::<Vec<_>>().join(" ");
    let category = ticket.category.as_deref().unwrap_or("客户咨询");
    let summary = match settings.kind {
        ServiceDeskKind::Zendesk => format!("{category}：{asked}"),
        ServiceDeskKind::Jira => format!("{category}：{asked} [{reference}]"),
    };
    let mut description = format!("应答工单 {}，优先级 {}\n", ticket.id, ticket.priority.as_str());
    for turn in turns {
        let who = match turn.role {
            Role::User => "客户",
            Role::Bot => "智能客服",
            Role::Agent => turn.author.as_deref().unwrap_or("客服"),
        };
        description.push_str(&format!("\n{who}：{}", turn.text));
    }
    NewRemote {
        ticket_id: ticket.id.clone(),
        service_desk: settings.name.clone(),
        round,
        reference,
        summary,
        description,
    }
}
