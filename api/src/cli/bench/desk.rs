//! `bench desk`: what a desk's lists, search and reports cost in a database that has been used for months.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde_json::{Value, json};
use yingda::StartError;
use yingda::config::{Config, Flags, SAMPLE_KNOWLEDGE, ServeFlags};
use yingda::desk::{Priority, Status};
use yingda::storage::{Group, Item, Report, ReportFilter, Span, Storage, StorageError, TicketFilter};

use super::store::{made_up, milliseconds};
use crate::cli::{Shown, say, wrong};

/// What `bench desk` is asked.
#[derive(Args)]
pub(in crate::cli) struct DeskFlags {
    /// Tickets; half of all sessions have one
    #[arg(long, default_value_t = 10_000)]
    tickets: usize,
    /// Messages of all sessions
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    /// Days over which they came, up to the end of 2025
    #[arg(long, default_value_t = 90)]
    days: i64,
    /// Knowledge file whose wordings the made-up messages resemble
    #[arg(long, value_name = "FILE", default_value = SAMPLE_KNOWLEDGE)]
    like: PathBuf,
    /// How often each thing is asked
    #[arg(long, default_value_t = 200)]
    calls: usize,
    /// Seed of everything that is made up
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// What one thing costs.
#[derive(Serialize)]
struct Cost {
    what: String,
    p50_ms: f64,
    p99_ms: f64,
    worst_ms: f64,
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// The begin of 2026 in China.
const END: i64 = 1_767_196_800_000;
const CHINA: i64 = 8 * HOUR;
/// Sessions that are written in one transaction.
const AT_ONCE: usize = 2000;
/// A word that is in one of so many messages.
const RARE: (&str, usize) = ("琥珀雪松", 10_000);

const TEAMS: [&str; 5] = ["售前", "售后", "物流", "投诉", "账务"];
const CHANNELS: [&str; 4] = ["web", "app", "wechat", "taobao"];
const REASONS: [&str; 5] = ["person_requested", "low_confidence", "complaint", "negative_sentiment", "handoff_word"];
const CATEGORIES: [&str; 16] = [
    "退货",
    "退款",
    "换货",
    "物流查询",
    "发货时间",
    "优惠券",
    "价格保护",
    "发票",
    "支付问题",
    "账号问题",
    "商品咨询",
    "库存",
    "质量问题",
    "投诉",
    "会员",
    "其他",
];
const AGENTS: usize = 40;

pub(super) async fn run(flags: Flags, desk: DeskFlags) -> Result<(), StartError> {
    if desk.tickets == 0 || desk.calls == 0 || desk.days < 31 || desk.messages < desk.tickets * 4 {
        let wants = "--tickets and --calls want at least 1, --days at least 31, --messages at least 4 for each ticket";
        return Err(wrong(wants.to_owned()));
    }
    let config = Config::load_without_model(flags, ServeFlags::default())?;
    if config.database_is_local() {
        yingda::data::make_folder(&config.data)
            .map_err(|source| yingda::data::DataError::Unusable { path: config.data.clone(), source })?;
    }
    let storage = Storage::open(&config.database_url()).await?;
    if !storage.is_empty().await? {
        return Err(wrong(
            "the database is not empty; name a new --data folder, or a --database of its own".to_owned(),
        ));
    }
    let started = Instant::now();
    let desk_made = fill(&storage, &desk).await?;
    let filled = started.elapsed();
    let costs = measure(&storage, &desk, &desk_made).await?;
    let (bytes, search_bytes) = storage.size().await?;
    storage.close().await;
    let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
    if desk.json {
        let outcome = json!({
            "tickets": desk.tickets, "messages": desk.messages, "days": desk.days, "calls": desk.calls, "seed": desk.seed,
            "fill_seconds": filled.as_secs_f64(), "database_mib": mib(bytes), "search_mib": mib(search_bytes), "costs": costs,
        });
        say!("{outcome:#}");
        return Ok(());
    }
    say!("{} tickets, {} messages in {} days", desk.tickets, desk.messages, desk.days);
    say!("filled in {:.0} s; {:.0} MiB, of which {:.0} search", filled.as_secs_f64(), mib(bytes), mib(search_bytes));
    say!("{:>9} {:>9} {:>9}  {} calls each, in milliseconds", "p50", "p99", "worst", desk.calls);
    for cost in &costs {
        say!("{:>9.1} {:>9.1} {:>9.1}  {}", cost.p50_ms, cost.p99_ms, cost.worst_ms, cost.what);
    }
    Ok(())
}

/// What was made, as far as the measuring asks for it.
struct Made {
    tickets: Vec<String>,
    users: Vec<String>,
    /// The pair of characters that most messages have.
    common: String,
}

fn text(text: impl Into<String>) -> Item {
    Item::Text(text.into())
}

fn text_or_none(value: Option<impl Into<String>>) -> Item {
    value.map_or(Item::NoText, text)
}

fn whole_or_none(number: Option<i64>) -> Item {
    number.map_or(Item::NoWhole, Item::Whole)
}

/// A UUID v7 of a moment.
fn id(at: i64, random: &mut StdRng) -> String {
    uuid::Builder::from_unix_timestamp_millis(at.unsigned_abs(), &random.random()).into_uuid().to_string()
}

fn agent(number: usize) -> String {
    format!("客服{number:02}")
}

fn pick<'a>(from: &[&'a str], random: &mut StdRng) -> &'a str {
    from.choose(random).copied().unwrap_or_default()
}

/// How many messages each session has; half of them have a ticket, and more messages.
fn lengths(desk: &DeskFlags, random: &mut StdRng) -> Vec<usize> {
    let sessions = desk.tickets * 2;
    let mean = desk.messages as f64 / sessions as f64;
    let mut lengths: Vec<usize> = (0..sessions)
        .map(|session| {
            let share = if session % 2 == 0 { 1.4 } else { 0.6 };
            ((mean * share * random.random_range(0.6..1.4)).round() as usize).max(2)
        })
        .collect();
    let mut all: usize = lengths.iter().sum();
    for session in (0..sessions).cycle() {
        if all == desk.messages {
            break;
        }
        if all < desk.messages {
            lengths[session] += 1;
            all += 1;
        } else if lengths[session] > 2 {
            lengths[session] -= 1;
            all -= 1;
        }
    }
    lengths
}

/// Rows that wait to be written.
#[derive(Default)]
struct Rows {
    sessions: Vec<Vec<Item>>,
    turns: Vec<Vec<Item>>,
    tickets: Vec<Vec<Item>>,
    events: Vec<Vec<Item>>,
    ratings: Vec<Vec<Item>>,
}

impl Rows {
    async fn write(&mut self, storage: &Storage) -> Result<(), StorageError> {
        let rows = std::mem::take(self);
        let mut tx = storage.begin().await?;
        tx.add_rows("sessions", &SESSION_COLUMNS, rows.sessions).await?;
        tx.add_rows("turns", &TURN_COLUMNS, rows.turns).await?;
        tx.add_rows("tickets", &TICKET_COLUMNS, rows.tickets).await?;
        tx.add_rows("ticket_events", &EVENT_COLUMNS, rows.events).await?;
        tx.add_rows("ratings", &["ticket_id", "score", "reasons", "comment", "created_at"], rows.ratings).await?;
        tx.commit().await
    }
}

const SESSION_COLUMNS: [&str; 11] = [
    "id",
    "user_id",
    "channel",
    "owner",
    "last_seq",
    "resolved_seq",
    "resolved_at",
    "created_at",
    "updated_at",
    "answered_at",
    "handed_over_at",
];
const TURN_COLUMNS: [&str; 15] = [
    "id",
    "session_id",
    "seq",
    "role",
    "text_masked",
    "sentiment_negative",
    "sentiment_neutral",
    "sentiment_positive",
    "intent",
    "intent_probability",
    "decision",
    "reason",
    "model",
    "author",
    "created_at",
];
const TICKET_COLUMNS: [&str; 33] = [
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
    "merged_into",
    "intent",
    "intent_probability",
    "model",
    "from_seq",
    "to_seq",
    "assignee",
    "accepted",
    "last_assignee",
    "reopened",
    "created_at",
    "updated_at",
    "assigned_at",
    "taken_at",
    "first_reply_at",
    "resolved_at",
    "closed_at",
    "assignee_key",
    "number",
    "declined",
    "vip",
    "queued_at",
];
const EVENT_COLUMNS: [&str; 9] = ["ticket_id", "seq", "kind", "actor", "reason", "before", "after", "data", "at"];

async fn fill(storage: &Storage, desk: &DeskFlags) -> Result<Made, StartError> {
    let mut random = StdRng::seed_from_u64(desk.seed);
    let mut texts = made_up(&desk.like, desk.seed, 3)?;
    let lengths = lengths(desk, &mut random);
    let begin = END - desk.days * DAY;
    // Most write by day.
    let mut starts: Vec<i64> = lengths
        .iter()
        .map(|_| {
            let hour = if random.random_bool(0.9) { random.random_range(8..23) } else { random.random_range(0..24) };
            begin + random.random_range(0..desk.days) * DAY + hour * HOUR + random.random_range(0..HOUR)
        })
        .collect();
    starts.sort_unstable();
    let mut made = Made { tickets: Vec::new(), users: Vec::new(), common: String::new() };
    let mut pairs: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    let (mut rows, mut messages) = (Rows::default(), 0);
    let shown = Shown::new(starts.len(), "sessions");
    for (number, (start, length)) in starts.into_iter().zip(lengths).enumerate() {
        let mut session = MadeSession::new(start, number as i64, number % 2 == 0, length, &mut random);
        for seq in 1..=length as i64 {
            let mut said = texts.next().unwrap_or_default();
            messages += 1;
            if messages % RARE.1 == 0 {
                said.push_str(RARE.0);
            }
            if messages <= 10_000 {
                let characters: Vec<char> = said.chars().collect();
                characters.windows(2).for_each(|pair| *pairs.entry(pair.iter().collect()).or_default() += 1);
            }
            session.say(seq, said, &mut rows, &mut random);
        }
        made.users.push(session.user.clone());
        made.tickets.extend(session.end(&mut rows, &mut random));
        if number % AT_ONCE == AT_ONCE - 1 {
            rows.write(storage).await?;
            shown.at(number + 1);
        }
    }
    rows.write(storage).await?;
    shown.end();
    let mut tx = storage.begin().await?;
    tx.derive_all().await?;
    tx.commit().await?;
    storage.count_finished_hours().await?;
    storage.settle().await?;
    let common = pairs.into_iter().filter(|(pair, _)| pair.chars().all(char::is_alphabetic));
    made.common = common.max_by_key(|(_, count)| *count).map(|(pair, _)| pair).unwrap_or_default();
    Ok(made)
}

/// A session while it is made up.
struct MadeSession {
    id: String,
    number: i64,
    user: String,
    channel: &'static str,
    intent: &'static str,
    start: i64,
    at: i64,
    last_seq: i64,
    /// Turns until it is handed over, if it is.
    lead: Option<i64>,
    answered_at: Option<i64>,
    ticket: Option<MadeTicket>,
}

struct MadeTicket {
    id: String,
    number: i64,
    status: Status,
    agent: String,
    team: &'static str,
    priority: Priority,
    reason: &'static str,
    opened: i64,
    assigned_at: Option<i64>,
    taken_at: Option<i64>,
    first_reply_at: Option<i64>,
    resolved_at: Option<i64>,
    closed_at: Option<i64>,
    reopened: i64,
    events: i64,
    /// It is not finished yet.
    left_open: bool,
}

impl MadeTicket {
    fn happens(&mut self, what: (&str, &str), after: Option<Status>, data: &Value, at: i64, rows: &mut Rows) {
        self.events += 1;
        let (kind, actor) = what;
        let (before, now) = match after.filter(|after| *after != self.status) {
            Some(after) => (json!({ "status": self.status.as_str() }), json!({ "status": after.as_str() })),
            None => (json!({}), json!({})),
        };
        self.status = after.unwrap_or(self.status);
        rows.events.push(vec![
            text(&self.id),
            Item::Whole(self.events),
            text(kind),
            text(actor),
            Item::NoText,
            text(before.to_string()),
            text(now.to_string()),
            text(data.to_string()),
            Item::Whole(at),
        ]);
    }

    fn taken(&mut self, at: i64, rows: &mut Rows) {
        let agent = self.agent.clone();
        self.happens(("taken", &agent), Some(Status::Assigned), &json!({ "key": "key" }), at, rows);
        (self.assigned_at, self.taken_at) = (Some(at), self.taken_at.or(Some(at)));
    }
}

impl MadeSession {
    fn new(start: i64, number: i64, handed_over: bool, length: usize, random: &mut StdRng) -> Self {
        Self {
            id: id(start, random),
            number,
            user: format!("u{}", random.random_range(0..1_000_000)),
            channel: pick(&CHANNELS, random),
            intent: pick(&CATEGORIES, random),
            start,
            at: start,
            last_seq: 0,
            lead: handed_over.then(|| (length as i64 / 6).max(1) * 2),
            answered_at: None,
            ticket: None,
        }
    }

    /// The next message, and what comes of it.
    fn say(&mut self, seq: i64, said: String, rows: &mut Rows, random: &mut StdRng) {
        let by_people = self.lead.is_some_and(|lead| seq > lead);
        let role = match (by_people, seq % 2) {
            (_, 0) if by_people => "user",
            (true, _) => "agent",
            (false, 1) => "user",
            (false, _) => "bot",
        };
        self.at += match (by_people, role) {
            (false, "bot") => 0,
            (false, _) => random.random_range(10 * SECOND..2 * MINUTE),
            (true, _) => random.random_range(30 * SECOND..20 * MINUTE),
        };
        let (mut decision, mut reason) = (None, None);
        if role == "bot" && self.lead == Some(seq) {
            decision = Some("escalate");
            let because = pick(&REASONS, random);
            reason = Some(because);
            self.ticket = Some(self.open(because, rows, random));
        } else if role == "bot" {
            decision = Some(match random.random_range(0..100) {
                0..75 => "reply",
                75..87 => "clarify",
                87..95 => "no_answer",
                _ => "out_of_scope",
            });
            if decision == Some("reply") {
                self.answered_at.get_or_insert(self.at);
            }
        }
        let mut author = None;
        if let Some(ticket) = self.ticket.as_mut().filter(|_| by_people) {
            let agent = ticket.agent.clone();
            if role == "agent" {
                if ticket.assigned_at.is_none() {
                    ticket.taken(self.at - random.random_range(0..MINUTE), rows);
                }
                let data = match random.random_range(0..10) {
                    0..3 => json!({ "seq": seq, "suggestion": { "knowledge_id": "made-up", "edited": false } }),
                    3 => json!({ "seq": seq, "suggestion": { "knowledge_id": "made-up", "edited": true } }),
                    _ => json!({ "seq": seq }),
                };
                ticket.happens(("agent_reply", &agent), Some(Status::InProgress), &data, self.at, rows);
                ticket.first_reply_at.get_or_insert(self.at);
                author = Some(agent);
            } else {
                if ticket.status == Status::InProgress && random.random_bool(0.3) {
                    let since = self.at - random.random_range(0..30 * SECOND);
                    ticket.happens(("waiting", &agent), Some(Status::WaitingCustomer), &json!({}), since, rows);
                }
                let after = if ticket.status == Status::Assigned { Status::Assigned } else { Status::InProgress };
                ticket.happens(("customer_message", "customer"), Some(after), &json!({ "seq": seq }), self.at, rows);
            }
        }
        self.last_seq = seq;
        let feels = (role == "user").then(|| random.random_range(0.0..0.8));
        let real = |number: Option<f64>| number.map_or(Item::NoReal, Item::Real);
        let intent = (role == "user").then_some(self.intent);
        rows.turns.push(vec![
            text(id(self.at, random)),
            text(&self.id),
            Item::Whole(seq),
            text(role),
            text(said),
            real(feels),
            real(feels.map(|negative| 0.9 - negative)),
            real(feels.map(|_| 0.1)),
            text_or_none(intent),
            real(intent.map(|_| 0.9)),
            text_or_none(decision),
            text_or_none(reason),
            text_or_none((role != "agent").then_some("made-up")),
            text_or_none(author),
            Item::Whole(self.at),
        ]);
    }

    fn open(&self, reason: &'static str, rows: &mut Rows, random: &mut StdRng) -> MadeTicket {
        let priority = match random.random_range(0..20) {
            0 => Priority::Urgent,
            1..5 => Priority::High,
            5..17 => Priority::Medium,
            _ => Priority::Low,
        };
        let mut ticket = MadeTicket {
            id: id(self.at, random),
            number: self.number,
            status: Status::New,
            agent: agent(random.random_range(0..AGENTS)),
            team: pick(&TEAMS, random),
            priority,
            reason,
            opened: self.at,
            assigned_at: None,
            taken_at: None,
            first_reply_at: None,
            resolved_at: None,
            closed_at: None,
            reopened: 0,
            events: 0,
            left_open: self.at > END - 36 * HOUR && random.random_bool(0.7),
        };
        ticket.happens(("opened", "bot"), None, &json!({ "reason": reason, "detail": "", "seq": 1 }), self.at, rows);
        ticket
    }

    /// Ends the ticket, if there is one, and writes session and ticket. Returns the ticket's id.
    fn end(self, rows: &mut Rows, random: &mut StdRng) -> Option<String> {
        let Self { mut at, ticket, .. } = self;
        let ticket = ticket.map(|mut ticket| {
            if !ticket.left_open {
                ticket.finish(&mut at, rows, random);
            }
            ticket
        });
        let resolved = ticket.as_ref().is_some_and(|ticket| !ticket.status.is_open());
        rows.sessions.push(vec![
            text(&self.id),
            text(&self.user),
            text(self.channel),
            text(if ticket.is_some() && !resolved { "agent" } else { "bot" }),
            Item::Whole(self.last_seq),
            Item::Whole(if resolved { self.last_seq } else { 0 }),
            whole_or_none(resolved.then_some(at)),
            Item::Whole(self.start),
            Item::Whole(at),
            whole_or_none(self.answered_at),
            whole_or_none(ticket.as_ref().map(|ticket| ticket.opened)),
        ]);
        let ticket = ticket?;
        let has_it = ticket.assigned_at.is_some();
        rows.tickets.push(vec![
            text(&ticket.id),
            text(&self.id),
            text("escalation"),
            text(ticket.status.as_str()),
            text(ticket.reason),
            text(""),
            text(ticket.priority.as_str()),
            text(self.intent),
            text(ticket.team),
            text(if random.random_bool(0.1) { "[\"老客户\"]" } else { "[]" }),
            text("{}"),
            Item::NoText,
            text(self.intent),
            Item::Real(0.9),
            text("made-up"),
            Item::Whole(1),
            Item::Whole(self.lead.unwrap_or(2) - 1),
            text_or_none(has_it.then(|| ticket.agent.clone())),
            Item::Whole(i64::from(has_it)),
            text_or_none(has_it.then(|| ticket.agent.clone())),
            Item::Whole(ticket.reopened),
            Item::Whole(ticket.opened),
            Item::Whole(at),
            whole_or_none(ticket.assigned_at),
            whole_or_none(ticket.taken_at),
            whole_or_none(ticket.first_reply_at),
            whole_or_none(ticket.resolved_at),
            whole_or_none(ticket.closed_at),
            text_or_none(has_it.then_some("key")),
            Item::Whole(ticket.number),
            text("[]"),
            Item::Whole(0),
            Item::Whole(ticket.opened),
        ]);
        Some(ticket.id)
    }
}

impl MadeTicket {
    fn finish(&mut self, at: &mut i64, rows: &mut Rows, random: &mut StdRng) {
        let agent = self.agent.clone();
        let later = |at: &mut i64, random: &mut StdRng| {
            *at += random.random_range(MINUTE..30 * MINUTE);
            *at
        };
        if self.assigned_at.is_none() {
            self.taken(later(at, random), rows);
        }
        if random.random_bool(0.2) {
            let note = json!({ "text": "已和仓库确认，等待回电" });
            self.happens(("note", &agent), None, &note, later(at, random), rows);
        }
        if random.random_bool(0.01) {
            self.happens(("merged", &agent), Some(Status::Merged), &json!({}), later(at, random), rows);
            return;
        }
        let done = json!({ "note": "已处理" });
        self.happens(("resolved", &agent), Some(Status::Resolved), &done, later(at, random), rows);
        if random.random_bool(0.05) {
            self.happens(("reopened", &agent), Some(Status::New), &json!({}), later(at, random), rows);
            self.reopened = 1;
            self.taken(later(at, random), rows);
            self.happens(("resolved", &agent), Some(Status::Resolved), &done, later(at, random), rows);
        }
        self.resolved_at = Some(*at);
        if random.random_bool(0.3) {
            let score = [1, 2, 3, 4, 4, 5, 5, 5, 5, 5][random.random_range(0..10)];
            let rated = later(at, random);
            rows.ratings.push(vec![text(&self.id), Item::Whole(score), text("[]"), Item::NoText, Item::Whole(rated)]);
            self.happens(("rated", "customer"), None, &json!({ "score": score, "reasons": [] }), rated, rows);
        }
        if random.random_bool(0.6) {
            self.happens(("closed", "system"), Some(Status::Closed), &json!({}), later(at, random), rows);
            self.closed_at = Some(*at);
        }
    }
}

/// Asks a thing again and again, one at a time.
async fn cost<F: Future<Output = Result<(), StorageError>>>(
    what: impl Into<String>,
    calls: usize,
    mut ask: impl FnMut(usize) -> F,
) -> Result<Cost, StorageError> {
    let mut times = Vec::with_capacity(calls);
    for call in 0..calls {
        let started = Instant::now();
        ask(call).await?;
        times.push(milliseconds(started.elapsed()));
    }
    times.sort_unstable_by(f64::total_cmp);
    let percentile = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    Ok(Cost { what: what.into(), p50_ms: percentile(50), p99_ms: percentile(99), worst_ms: percentile(100) })
}

async fn measure(storage: &Storage, desk: &DeskFlags, made: &Made) -> Result<Vec<Cost>, StartError> {
    let mut random = StdRng::seed_from_u64(desk.seed ^ 7);
    let mut any = |from: &[String]| from.choose(&mut random).cloned().unwrap_or_default();
    let tickets: Vec<String> = (0..desk.calls).map(|_| any(&made.tickets)).collect();
    let users: Vec<String> = (0..desk.calls).map(|_| any(&made.users)).collect();
    let mut costs = Vec::new();
    let lists: [(&str, &dyn Fn(usize) -> TicketFilter); 10] = [
        ("all", &|_| TicketFilter::default()),
        ("open", &|_| TicketFilter::open()),
        ("in progress", &|_| TicketFilter { statuses: vec![Status::InProgress], ..TicketFilter::default() }),
        ("merged", &|_| TicketFilter { statuses: vec![Status::Merged], ..TicketFilter::default() }),
        ("urgent", &|_| TicketFilter { priority: Some(Priority::Urgent), ..TicketFilter::default() }),
        ("of a category", &|call| {
            let category = Some(CATEGORIES[call % CATEGORIES.len()].to_owned());
            TicketFilter { category, ..TicketFilter::default() }
        }),
        ("of a team", &|call| TicketFilter {
            team: Some(TEAMS[call % TEAMS.len()].to_owned()),
            ..TicketFilter::default()
        }),
        ("open, of a team", &|call| TicketFilter {
            team: Some(TEAMS[call % TEAMS.len()].to_owned()),
            ..TicketFilter::open()
        }),
        ("of a person", &|call| TicketFilter { assignee: Some(agent(call % AGENTS)), ..TicketFilter::default() }),
        ("of a customer", &|call| TicketFilter { user_id: Some(users[call].clone()), ..TicketFilter::default() }),
    ];
    for (name, filter) in lists {
        let ask = |call: usize| async move { storage.tickets(&filter(call), None, 51).await.map(drop) };
        costs.push(cost(format!("list of tickets, {name}"), desk.calls, ask).await?);
    }
    let ask = |call: usize| {
        let before = tickets[call].as_str();
        async move { storage.tickets(&TicketFilter::default(), Some(before), 51).await.map(drop) }
    };
    costs.push(cost("list of tickets, a page in the middle", desk.calls, ask).await?);
    let ask = |call: usize| {
        let id = &tickets[call];
        async move {
            let Some(ticket) = storage.ticket(id).await? else { return Ok(()) };
            storage.turns(&ticket.session_id, ticket.from_seq - 1, ticket.to_seq, 200).await?;
            storage.ticket_events(id).await?;
            storage.linked_tickets(id).await?;
            storage.rating(id).await.map(drop)
        }
    };
    costs.push(cost("a ticket with its story", desk.calls, ask).await?);
    costs.push(cost("board", desk.calls, async |_| storage.board().await.map(drop)).await?);
    let long: String = made.common.chars().chain(RARE.0.chars()).collect();
    for (name, words) in [("common", made.common.as_str()), ("rare", RARE.0), ("absent", long.as_str())] {
        let ask = |_| async { storage.search_tickets(words, None, 20).await.map(drop) };
        costs.push(cost(format!("search for a {name} word ({words})"), desk.calls, ask).await?);
    }
    for (span_name, days) in [("a day", 1), ("30 days", 30)] {
        let all = ReportFilter::default();
        for report in Report::ALL {
            let mut groups = vec![None, Some(Group::Day), Some(Group::Agent)];
            groups.retain(|group| group.is_none_or(|group| report.groups().contains(&group)));
            for group in groups {
                let ask = |call: usize| {
                    let to = END - (call % 5) as i64 * DAY;
                    let span = Span { from: to - days * DAY, to, offset: CHINA };
                    let all = &all;
                    async move { storage.report(report, group, span, all).await.map(drop) }
                };
                let by = group.map_or_else(String::new, |group| format!(" by {}", group.as_str()));
                costs.push(cost(format!("report {}{by}, {span_name}", report.as_str()), desk.calls, ask).await?);
            }
        }
    }
    Ok(costs)
}
