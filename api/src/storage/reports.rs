//! Reports over tickets, sessions and turns. The database counts; what cannot be counted from a few narrow rows is counted when it
//! happens (`report_facts`, `session_answers`) or when its hour is over (`turn_hours`).

use sqlx::Row;
use sqlx::any::AnyRow;

use super::statement::Statement;
use super::{Storage, StorageError, Tx, now};

/// Milliseconds of an hour and of a day.
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// A turn is stored within this time of its moment: an hour that ended longer ago has all of its turns.
const SETTLED: i64 = 10 * 60_000;
/// Hours that are counted in one transaction.
const HOURS_AT_ONCE: i64 = 7 * 24;

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Tickets that were opened, taken, resolved, closed, reopened and merged.
    Tickets,
    /// Time until a person first answered.
    FirstResponse,
    /// Time until a ticket was resolved.
    Resolution,
    /// Sessions, and how many the bot settled alone.
    Sessions,
    /// Messages by who wrote them.
    Messages,
    /// What the bot decided.
    Decisions,
    /// Why sessions came to people.
    Handovers,
    /// How customers judged the help.
    Satisfaction,
    /// How likely customers recommend us.
    Nps,
    /// The bot alone against people, on the same intents.
    Comparison,
    /// Suggested answers that people used.
    Suggestions,
}

/// One figure of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Stable snake-case name; ends with `_seconds` for a time and with `_rate` for a share in `[0, 1]`.
    pub name: &'static str,
    /// The name that people read.
    pub title: &'static str,
}

const fn column(name: &'static str, title: &'static str) -> Column {
    Column { name, title }
}

const TICKETS: &[Column] = &[
    column("opened", "新建"),
    column("taken", "领取"),
    column("resolved", "解决"),
    column("closed", "关闭"),
    column("reopened", "重新打开"),
    column("merged", "合并"),
    column("reopen_rate", "重新打开率"),
];
const TIMES: &[Column] = &[
    column("count", "数量"),
    column("mean_seconds", "平均（秒）"),
    column("p50_seconds", "50 % 分位（秒）"),
    column("p90_seconds", "90 % 分位（秒）"),
    column("p95_seconds", "95 % 分位（秒）"),
];
const SESSIONS: &[Column] = &[
    column("sessions", "会话"),
    column("answered", "机器人回答过"),
    column("handed_over", "转人工"),
    column("settled_by_bot", "机器人独立解决"),
    column("settled_by_bot_rate", "机器人解决率"),
];
const MESSAGES: &[Column] = &[
    column("customer", "客户消息"),
    column("bot", "机器人消息"),
    column("agent", "客服消息"),
    column("messages", "消息合计"),
];
const DECISIONS: &[Column] = &[
    column("reply", "回答"),
    column("clarify", "澄清"),
    column("no_answer", "无答案"),
    column("out_of_scope", "超出范围"),
    column("escalate", "转人工"),
    column("decisions", "合计"),
];
const HANDOVERS: &[Column] = &[column("tickets", "工单")];
const SATISFACTION: &[Column] = &[
    column("ratings", "评价"),
    column("mean", "平均分"),
    column("score_1", "1 分"),
    column("score_2", "2 分"),
    column("score_3", "3 分"),
    column("score_4", "4 分"),
    column("score_5", "5 分"),
];
const NPS: &[Column] = &[
    column("answers", "回答"),
    column("promoters", "推荐者（9–10 分）"),
    column("passives", "被动者（7–8 分）"),
    column("detractors", "贬损者（0–6 分）"),
    column("nps", "净推荐值"),
];
const COMPARISON: &[Column] = &[
    column("bot_sessions", "机器人独立回答的会话"),
    column("person_tickets", "人工工单"),
    column("bot_rate", "机器人占比"),
    column("person_resolved", "人工解决"),
    column("person_resolution_mean_seconds", "人工平均解决时长（秒）"),
    column("person_ratings", "人工评价"),
    column("person_rating_mean", "人工平均分"),
];
const SUGGESTIONS: &[Column] = &[
    column("replies", "客服回复"),
    column("used", "原样采用建议"),
    column("edited", "修改后采用"),
    column("used_rate", "采用率"),
];

impl Report {
    /// All reports.
    pub const ALL: [Self; 11] = [
        Self::Tickets,
        Self::FirstResponse,
        Self::Resolution,
        Self::Sessions,
        Self::Messages,
        Self::Decisions,
        Self::Handovers,
        Self::Satisfaction,
        Self::Nps,
        Self::Comparison,
        Self::Suggestions,
    ];

    /// The stable name, as in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tickets => "tickets",
            Self::FirstResponse => "first_response",
            Self::Resolution => "resolution",
            Self::Sessions => "sessions",
            Self::Messages => "messages",
            Self::Decisions => "decisions",
            Self::Handovers => "handovers",
            Self::Satisfaction => "satisfaction",
            Self::Nps => "nps",
            Self::Comparison => "comparison",
            Self::Suggestions => "suggestions",
        }
    }

    /// The name that people read.
    pub fn chinese(self) -> &'static str {
        match self {
            Self::Tickets => "工单",
            Self::FirstResponse => "首次响应时长",
            Self::Resolution => "解决时长",
            Self::Sessions => "会话",
            Self::Messages => "消息",
            Self::Decisions => "机器人决策",
            Self::Handovers => "转人工原因",
            Self::Satisfaction => "满意度",
            Self::Nps => "净推荐值（NPS）",
            Self::Comparison => "机器人与人工",
            Self::Suggestions => "建议采用",
        }
    }

    /// Its figures, in order.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Tickets => TICKETS,
            Self::FirstResponse | Self::Resolution => TIMES,
            Self::Sessions => SESSIONS,
            Self::Messages => MESSAGES,
            Self::Decisions => DECISIONS,
            Self::Handovers => HANDOVERS,
            Self::Satisfaction => SATISFACTION,
            Self::Nps => NPS,
            Self::Comparison => COMPARISON,
            Self::Suggestions => SUGGESTIONS,
        }
    }

    /// What its rows may be grouped by. What the bot does, and what customers think of us, belongs to no team; the comparison is always
    /// by category.
    pub fn groups(self) -> &'static [Group] {
        match self {
            Self::Sessions | Self::Messages | Self::Decisions | Self::Nps => &[Group::Day, Group::Hour, Group::Channel],
            Self::Comparison => &[Group::Category],
            Self::Tickets
            | Self::FirstResponse
            | Self::Resolution
            | Self::Handovers
            | Self::Satisfaction
            | Self::Suggestions => &Group::ALL,
        }
    }

    /// Whether it can be asked for one team or one agent.
    pub fn knows_people(self) -> bool {
        !matches!(self, Self::Sessions | Self::Messages | Self::Decisions | Self::Nps | Self::Comparison)
    }
}

/// What the rows of a report stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A local day.
    Day,
    /// An hour of the local day, over all days.
    Hour,
    /// What tickets are about.
    Category,
    /// A team.
    Team,
    /// A person.
    Agent,
    /// Where messages come from.
    Channel,
    /// How soon a person should look.
    Priority,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Day, Self::Hour, Self::Category, Self::Team, Self::Agent, Self::Channel, Self::Priority];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Category => "category",
            Self::Team => "team",
            Self::Agent => "agent",
            Self::Channel => "channel",
            Self::Priority => "priority",
        }
    }

    /// The name that people read.
    pub fn chinese(self) -> &'static str {
        match self {
            Self::Day => "日期",
            Self::Hour => "时段",
            Self::Category => "分类",
            Self::Team => "团队",
            Self::Agent => "客服",
            Self::Channel => "渠道",
            Self::Priority => "优先级",
        }
    }
}

/// A span of time, and whose days it is cut into. All in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first moment, since 1970.
    pub from: i64,
    /// The first moment that is no longer in it.
    pub to: i64,
    /// How far local time is ahead of UTC.
    pub offset: i64,
}

impl Span {
    /// The local days that it touches, counted from 1970.
    fn days(self) -> std::ops::RangeInclusive<i64> {
        (self.from + self.offset).div_euclid(DAY)..=(self.to - 1 + self.offset).div_euclid(DAY)
    }
}

/// Of what a report is made. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportFilter {
    /// The team at that moment.
    pub team: Option<String>,
    /// The person who had the ticket at that moment.
    pub agent: Option<String>,
    /// Where the messages come from.
    pub channel: Option<String>,
}

/// One value of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A name.
    Text(String),
    /// How many.
    Count(i64),
    /// A time, a share or a mean.
    Number(f64),
    /// Nothing to tell: no team, or a mean of nothing.
    Nothing,
}

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What it is about.
    pub report: Report,
    /// What its rows stand for; `None`: there is one row.
    pub group: Option<Group>,
    /// The columns of its rows: the group where there is one, what else tells rows apart, and the figures.
    pub columns: Vec<Column>,
    /// Its rows.
    pub rows: Vec<Vec<Cell>>,
}

/// How the desk stands now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// Tickets that nobody has.
    pub waiting: i64,
    /// Tickets that somebody has, or is offered, and has not answered yet.
    pub assigned: i64,
    /// Tickets that are answered.
    pub in_progress: i64,
    /// Tickets whose customer has to say something.
    pub waiting_customer: i64,
    /// Since when the one that has waited longest is in its queue, in milliseconds since 1970.
    pub oldest_waiting: Option<i64>,
    /// Who has open tickets, by name.
    pub agents: Vec<AgentLoad>,
}

/// What a person has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentLoad {
    /// Their name.
    pub name: String,
    /// The team of all their open tickets, where that is one.
    pub team: Option<String>,
    /// Their open tickets.
    pub open: i64,
}

/// What the database counted of one row.
struct Counted {
    key: Key,
    /// What else tells rows apart.
    label: Option<String>,
    figures: Vec<Option<i64>>,
}

#[derive(PartialEq)]
enum Key {
    Time(i64),
    Name(Option<String>),
}

impl Counted {
    fn count(&self, index: usize) -> i64 {
        self.figures.get(index).copied().flatten().unwrap_or(0)
    }

    fn cell(&self, index: usize) -> Cell {
        Cell::Count(self.count(index))
    }

    fn seconds(&self, index: usize) -> Cell {
        match self.figures.get(index).copied().flatten() {
            Some(milliseconds) => Cell::Number(milliseconds as f64 / 1000.0),
            None => Cell::Nothing,
        }
    }
}

fn share(part: i64, whole: i64) -> Cell {
    if whole == 0 { Cell::Nothing } else { Cell::Number(part as f64 / whole as f64) }
}

fn seconds_of(sum: i64, count: i64) -> Cell {
    if count == 0 { Cell::Nothing } else { Cell::Number(sum as f64 / count as f64 / 1000.0) }
}

/// Turns what was counted into the figures that the columns promise.
fn figures(report: Report, row: &Counted) -> Vec<Cell> {
    match report {
        Report::Tickets => (0..6).map(|index| row.cell(index)).chain([share(row.count(4), row.count(2))]).collect(),
        Report::FirstResponse | Report::Resolution => {
            let mean = seconds_of(row.count(1), row.count(0));
            [row.cell(0), mean].into_iter().chain((2..5).map(|index| row.seconds(index))).collect()
        }
        Report::Sessions => (0..4).map(|index| row.cell(index)).chain([share(row.count(3), row.count(0))]).collect(),
        Report::Messages => (0..4).map(|index| row.cell(index)).collect(),
        Report::Decisions => (0..6).map(|index| row.cell(index)).collect(),
        Report::Handovers => vec![row.cell(0)],
        Report::Satisfaction => {
            let mean = share(row.count(1), row.count(0));
            [row.cell(0), mean].into_iter().chain((2..7).map(|index| row.cell(index))).collect()
        }
        Report::Nps => {
            let (answers, promoters, detractors) = (row.count(0), row.count(1), row.count(3));
            let score = match answers {
                0 => Cell::Nothing,
                answers => Cell::Number(100.0 * (promoters - detractors) as f64 / answers as f64),
            };
            (0..4).map(|index| row.cell(index)).chain([score]).collect()
        }
        Report::Comparison => {
            let (bot, tickets, resolved, ratings) = (row.count(0), row.count(1), row.count(2), row.count(4));
            vec![
                row.cell(0),
                row.cell(1),
                share(bot, bot + tickets),
                row.cell(2),
                seconds_of(row.count(3), resolved),
                row.cell(4),
                share(row.count(5), ratings),
            ]
        }
        Report::Suggestions => {
            let (replies, suggested, edited) = (row.count(0), row.count(1), row.count(2));
            let used = Cell::Count(suggested - edited);
            vec![row.cell(0), used, row.cell(2), share(suggested, replies)]
        }
    }
}

/// A day counted from 1970, as people write it.
fn date(day: i64) -> String {
    let day = i32::try_from(day).ok().and_then(|day| day.checked_add(UNIX_DAY));
    let date = day.and_then(|day| time::Date::from_julian_day(day).ok()).unwrap_or(time::Date::MAX);
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

/// The Julian day of 1 January 1970.
const UNIX_DAY: i32 = 2_440_588;

fn shown(group: Group, key: &Key) -> Cell {
    match (group, key) {
        (Group::Hour, Key::Time(hour)) => Cell::Text(format!("{hour:02}:00")),
        (_, Key::Time(day)) => Cell::Text(date(*day)),
        (_, Key::Name(Some(name))) => Cell::Text(name.clone()),
        (_, Key::Name(None)) => Cell::Nothing,
    }
}

/// The rows that are there even if nothing happened: each day of the span, each hour, and the one row without a group.
fn expected(group: Option<Group>, span: Span) -> Vec<Key> {
    match group {
        None => vec![Key::Name(Some(String::new()))],
        Some(Group::Day) => span.days().map(Key::Time).collect(),
        Some(Group::Hour) => (0..24).map(Key::Time).collect(),
        Some(_) => Vec::new(),
    }
}

/// Begins a statement whose first column is what rows are grouped by. `at` is the column that holds the moment.
fn grouped(group: Option<Group>, span: Span, at: &str) -> Statement {
    let mut sql = Statement::new("SELECT ");
    push_group(&mut sql, group, span, at);
    sql
}

fn push_group(sql: &mut Statement, group: Option<Group>, span: Span, at: &str) {
    match group {
        None => sql.push("CAST('' AS TEXT)"),
        // The offset and the units are numbers of ours: in the text of the statement they leave the planner free.
        Some(Group::Day) => sql.push(format!("({at} + {}) / {DAY}", span.offset)),
        Some(Group::Hour) => sql.push(format!("(({at} + {}) / {HOUR}) % 24", span.offset)),
        Some(group) => sql.push(group.as_str()),
    };
    sql.push(" AS grouped");
}

/// The condition that a moment is in a span.
fn push_within(sql: &mut Statement, at: &str, from: i64, to: i64) {
    sql.push(at).push(" >= ").push_bind(from).push(" AND ").push(at).push(" < ").push_bind(to);
}

fn push_equal(sql: &mut Statement, column: &str, value: Option<&String>) {
    if let Some(value) = value {
        sql.push(" AND ").push(column).push(" = ").push_bind(value.clone());
    }
}

/// `FROM report_facts` with all conditions. `kinds` is SQL.
fn push_facts(sql: &mut Statement, kinds: &str, span: Span, filter: &ReportFilter) {
    sql.push(" FROM report_facts WHERE kind IN (").push(kinds).push(") AND ");
    push_within(sql, "at", span.from, span.to);
    push_equal(sql, "team", filter.team.as_ref());
    push_equal(sql, "agent", filter.agent.as_ref());
    push_equal(sql, "channel", filter.channel.as_ref());
}

/// How many rows of the group are of a kind.
fn of_kind(kind: &str) -> String {
    format!(", COUNT(CASE WHEN kind = '{kind}' THEN 1 END)")
}

fn counted(row: &AnyRow, group: Option<Group>, labelled: bool) -> Result<Counted, StorageError> {
    let key = match group {
        Some(Group::Day | Group::Hour) => Key::Time(row.try_get(0)?),
        _ => Key::Name(row.try_get(0)?),
    };
    let label = if labelled { row.try_get(1)? } else { None };
    let figures = (1 + usize::from(labelled)..row.len()).map(|index| row.try_get(index)).collect::<Result<_, _>>()?;
    Ok(Counted { key, label, figures })
}

impl Storage {
    /// A report over a span. The filter's team and agent count where [`Report::knows_people`]; a group that is not among
    /// [`Report::groups`] must not be asked for.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn report(
        &self,
        report: Report,
        group: Option<Group>,
        span: Span,
        filter: &ReportFilter,
    ) -> Result<Table, StorageError> {
        let group = if report == Report::Comparison { Some(Group::Category) } else { group };
        let sql = match report {
            Report::Tickets => tickets(group, span, filter),
            Report::FirstResponse => times("'first_reply'", group, span, filter),
            Report::Resolution => times("'resolved'", group, span, filter),
            Report::Sessions => sessions(group, span, filter),
            Report::Messages | Report::Decisions => self.turns_counted(report, group, span, filter).await?,
            Report::Handovers => handovers(group, span, filter),
            Report::Satisfaction => satisfaction(group, span, filter),
            Report::Nps => nps(group, span, filter),
            Report::Comparison => comparison(span, filter),
            Report::Suggestions => suggestions(group, span, filter),
        };
        let labelled = report == Report::Handovers;
        let rows = sql.build().fetch_all(&self.readers).await?;
        let mut rows = rows.iter().map(|row| counted(row, group, labelled)).collect::<Result<Vec<_>, _>>()?;
        if !labelled {
            let found = std::mem::take(&mut rows);
            let expected = expected(group, span);
            let mut found = found.into_iter().peekable();
            for key in expected {
                let row = found.next_if(|row| row.key == key);
                rows.push(row.unwrap_or(Counted { key, label: None, figures: Vec::new() }));
            }
            rows.extend(found);
        }
        let key_column = group.map(|group| column(group.as_str(), group.chinese()));
        let label_column = labelled.then(|| column("reason", "原因"));
        Ok(Table {
            report,
            group,
            columns: key_column.into_iter().chain(label_column).chain(report.columns().iter().copied()).collect(),
            rows: rows
                .into_iter()
                .map(|row| {
                    let key = group.map(|group| shown(group, &row.key));
                    let label = row.label.clone().map(Cell::Text);
                    key.into_iter().chain(label).chain(figures(report, &row)).collect()
                })
                .collect(),
        })
    }

    /// Counts turns: finished hours from their counts, the rest one by one.
    async fn turns_counted(
        &self,
        report: Report,
        group: Option<Group>,
        span: Span,
        filter: &ReportFilter,
    ) -> Result<Statement, StorageError> {
        let done: i64 = sqlx::query("SELECT done FROM report_progress WHERE name = 'turn_hours'")
            .fetch_one(&self.readers)
            .await?
            .try_get(0)?;
        // Where local days do not begin with an hour of UTC, no hour belongs to one day.
        let whole = span.offset % HOUR == 0;
        let first = span.from + (HOUR - span.from % HOUR) % HOUR;
        let last = (span.to - span.to % HOUR).min(done);
        let (first, last) = if whole && first < last { (first, last) } else { (span.from, span.from) };
        let mut sql = grouped(group, span, "at");
        if report == Report::Messages {
            for role in ["user", "bot", "agent"] {
                sql.push(format!(", CAST(SUM(CASE WHEN role = '{role}' THEN turns END) AS BIGINT)"));
            }
        } else {
            for decision in ["reply", "clarify", "no_answer", "out_of_scope", "escalate"] {
                sql.push(format!(", CAST(SUM(CASE WHEN decision = '{decision}' THEN turns END) AS BIGINT)"));
            }
        }
        sql.push(", CAST(SUM(turns) AS BIGINT) FROM (SELECT hour AS at, channel, role, decision, turns FROM turn_hours WHERE ");
        push_within(&mut sql, "hour", first, last);
        for (from, to) in [(span.from, first), (last, span.to)] {
            sql.push(
                " UNION ALL SELECT t.created_at, s.channel, t.role, COALESCE(t.decision, ''), 1 \
                 FROM turns t JOIN sessions s ON s.id = t.session_id WHERE ",
            );
            push_within(&mut sql, "t.created_at", from, to);
        }
        sql.push(") counted WHERE turns > 0");
        if report == Report::Decisions {
            // What invites to a survey answers nobody.
            sql.push(" AND decision NOT IN ('', 'survey')");
        }
        push_equal(&mut sql, "channel", filter.channel.as_ref());
        sql.push(" GROUP BY 1 ORDER BY 1");
        Ok(sql)
    }

    /// How the desk stands now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn board(&self) -> Result<Board, StorageError> {
        let mut board = Board::default();
        let states = sqlx::query(
            "SELECT status, COUNT(*), MIN(queued_at) FROM tickets WHERE status IN ('new', 'assigned', 'in_progress', 'waiting_customer') GROUP BY status",
        )
        .fetch_all(&self.readers)
        .await?;
        for row in &states {
            let (status, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            match status.as_str() {
                "new" => (board.waiting, board.oldest_waiting) = (count, row.try_get(2)?),
                "assigned" => board.assigned = count,
                "in_progress" => board.in_progress = count,
                _ => board.waiting_customer = count,
            }
        }
        let agents = sqlx::query(
            "SELECT assignee, CASE WHEN MIN(team) = MAX(team) AND COUNT(team) = COUNT(*) THEN MIN(team) END, COUNT(*) \
             FROM tickets WHERE status IN ('assigned', 'in_progress', 'waiting_customer') AND assignee IS NOT NULL \
             GROUP BY assignee ORDER BY assignee",
        )
        .fetch_all(&self.readers)
        .await?;
        for row in &agents {
            board.agents.push(AgentLoad { name: row.try_get(0)?, team: row.try_get(1)?, open: row.try_get(2)? });
        }
        Ok(board)
    }

    /// Counts the turns of hours that are over, so that reports need not. May run at any time, and anywhere.
    ///
    /// # Errors
    ///
    /// When the database fails; the hours are counted the next time.
    pub async fn count_finished_hours(&self) -> Result<(), StorageError> {
        let until = now() - SETTLED;
        let until = until - until % HOUR;
        loop {
            let mut tx = self.begin().await?;
            // The update locks the row, in both databases.
            let lock = "UPDATE report_progress SET done = done WHERE name = 'turn_hours'";
            sqlx::query(lock).execute(tx.connection()).await?;
            let row = sqlx::query(
                "SELECT done, (SELECT MIN(t.created_at) FROM turns t WHERE t.created_at >= report_progress.done) \
                 FROM report_progress WHERE name = 'turn_hours'",
            )
            .fetch_one(tx.connection())
            .await?;
            let (done, first): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
            if done >= until {
                return Ok(());
            }
            let from = first.map_or(until, |first| (first - first % HOUR).min(until)).max(done);
            let to = until.min(from + HOURS_AT_ONCE * HOUR);
            sqlx::query(
                "INSERT INTO turn_hours (hour, channel, role, decision, turns) \
                 SELECT t.created_at / 3600000 * 3600000, s.channel, t.role, COALESCE(t.decision, ''), COUNT(*) \
                 FROM turns t JOIN sessions s ON s.id = t.session_id WHERE t.created_at >= $1 AND t.created_at < $2 \
                 GROUP BY 1, 2, 3, 4",
            )
            .bind(from)
            .bind(to)
            .execute(tx.connection())
            .await?;
            sqlx::query("UPDATE report_progress SET done = $1 WHERE name = 'turn_hours'")
                .bind(to)
                .execute(tx.connection())
                .await?;
            tx.commit().await?;
        }
    }
}

fn tickets(group: Option<Group>, span: Span, filter: &ReportFilter) -> Statement {
    let mut sql = grouped(group, span, "at");
    sql.push(of_kind("opened")).push(", COUNT(CASE WHEN kind IN ('taken', 'accepted') THEN 1 END)");
    ["resolved", "closed", "reopened", "merged"].into_iter().for_each(|kind| {
        sql.push(of_kind(kind));
    });
    let kinds = "'opened', 'taken', 'accepted', 'resolved', 'closed', 'reopened', 'merged'";
    push_facts(&mut sql, kinds, span, filter);
    sql.push(" GROUP BY 1 ORDER BY 1");
    sql
}

/// Count, sum and percentiles, each the smallest value that at least so many percent do not exceed.
fn times(kind: &str, group: Option<Group>, span: Span, filter: &ReportFilter) -> Statement {
    let mut sql = Statement::new("SELECT grouped, MAX(number), CAST(SUM(value) AS BIGINT)");
    for percent in [50, 90, 95] {
        sql.push(format!(", MAX(CASE WHEN place = (number * {percent} + 99) / 100 THEN value END)"));
    }
    sql.push(
        " FROM (SELECT grouped, value, ROW_NUMBER() OVER (PARTITION BY grouped ORDER BY value) AS place, \
         COUNT(*) OVER (PARTITION BY grouped) AS number FROM (SELECT ",
    );
    push_group(&mut sql, group, span, "at");
    sql.push(", value");
    push_facts(&mut sql, kind, span, filter);
    sql.push(") facts) placed GROUP BY 1 ORDER BY 1");
    sql
}

fn sessions(group: Option<Group>, span: Span, filter: &ReportFilter) -> Statement {
    let mut sql = grouped(group, span, "created_at");
    let to = span.to;
    sql.push(format!(
        ", COUNT(*), COUNT(CASE WHEN answered_at < {to} THEN 1 END), COUNT(CASE WHEN handed_over_at < {to} THEN 1 END), \
         COUNT(CASE WHEN answered_at < {to} AND COALESCE(handed_over_at, {to}) >= {to} THEN 1 END) FROM sessions WHERE "
    ));
    push_within(&mut sql, "created_at", span.from, span.to);
    push_equal(&mut sql, "channel", filter.channel.as_ref());
    sql.push(" GROUP BY 1 ORDER BY 1");
    sql
}

fn handovers(group: Option<Group>, span: Span, filter: &ReportFilter) -> Statement {
    let mut sql = grouped(group, span, "at");
    sql.push(", reason, COUNT(*)");
    push_facts(&mut sql, "'opened'", span, filter);
    sql.push(" GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2");
    sql
}

fn satisfaction(group: Option<Group>, span: Span, filter: &ReportFilter) -> Statement {
    let mut sql = grouped(group, span, "at");
    sql.push(", COUNT(*), CAST(SUM(value) AS BIGINT)");
    (1..=5).for_each(|score| {
        sql.push(format!(", COUNT(CASE WHEN value = {score} THEN 1 END)"));
    });
    push_facts(&mut sql, "'rated'", span, filter);
    sql.push(" GROUP BY 1 ORDER BY 1");
    sql
}

/// Promoters, passives and detractors, as Reichheld cut the scale (Harvard Business Review, December 2003).
fn nps(group: Option<Group>, span: Span, filter: &ReportFilter) -> Statement {
    let mut sql = grouped(group, span, "v.answered_at");
    sql.push(", COUNT(*)");
    for condition in ["score >= 9", "score IN (7, 8)", "score <= 6"] {
        sql.push(format!(", COUNT(CASE WHEN {condition} THEN 1 END)"));
    }
    sql.push(" FROM surveys v JOIN sessions s ON s.id = v.session_id WHERE v.kind = 'nps' AND ");
    push_within(&mut sql, "v.answered_at", span.from, span.to);
    push_equal(&mut sql, "s.channel", filter.channel.as_ref());
    sql.push(" GROUP BY 1 ORDER BY 1");
    sql
}

fn comparison(span: Span, filter: &ReportFilter) -> Statement {
    let mut sql = Statement::new("SELECT grouped");
    sql.push(of_kind("answer")).push(of_kind("opened"));
    for kind in ["resolved", "rated"] {
        sql.push(of_kind(kind));
        sql.push(format!(", CAST(SUM(CASE WHEN kind = '{kind}' THEN value END) AS BIGINT)"));
    }
    sql.push(
        " FROM (SELECT intent AS grouped, 'answer' AS kind, CAST(NULL AS BIGINT) AS value FROM session_answers WHERE ",
    );
    push_within(&mut sql, "at", span.from, span.to);
    sql.push(format!(" AND COALESCE(handed_over_at, {to}) >= {to}", to = span.to));
    push_equal(&mut sql, "channel", filter.channel.as_ref());
    sql.push(" UNION ALL SELECT category, kind, value");
    push_facts(&mut sql, "'opened', 'resolved', 'rated'", span, filter);
    sql.push(") compared GROUP BY 1 ORDER BY 1");
    sql
}

fn suggestions(group: Option<Group>, span: Span, filter: &ReportFilter) -> Statement {
    let mut sql = grouped(group, span, "at");
    sql.push(", COUNT(*), COUNT(suggestion), COUNT(CASE WHEN suggestion = 'edited' THEN 1 END)");
    push_facts(&mut sql, "'first_reply', 'agent_reply'", span, filter);
    sql.push(" GROUP BY 1 ORDER BY 1");
    sql
}

/// Kinds of events that reports count; those of the view `told_facts`.
const COUNTED: [&str; 9] =
    ["opened", "taken", "accepted", "agent_reply", "resolved", "closed", "reopened", "merged", "rated"];

impl Tx {
    /// Counts the last event of a ticket, which is of this kind, for the reports.
    pub(super) async fn count_event(&mut self, ticket_id: &str, kind: &str) -> Result<(), StorageError> {
        if kind == "amended" {
            sqlx::query(
                "UPDATE report_facts SET category = (SELECT t.category FROM tickets t WHERE t.id = $1), \
                 priority = (SELECT t.priority FROM tickets t WHERE t.id = $2) WHERE ticket_id = $3",
            )
            .bind(ticket_id)
            .bind(ticket_id)
            .bind(ticket_id)
            .execute(self.connection())
            .await?;
        } else if COUNTED.contains(&kind) {
            sqlx::query(
                "INSERT INTO report_facts SELECT * FROM told_facts WHERE ticket_id = $1 \
                 AND seq = (SELECT MAX(e.seq) FROM ticket_events e WHERE e.ticket_id = $2)",
            )
            .bind(ticket_id)
            .bind(ticket_id)
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }

    /// Notes that turn `seq` of a session was answered by the bot at a moment.
    pub(super) async fn count_answer(&mut self, session_id: &str, seq: i64, at: i64) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO session_answers (session_id, intent, at, channel, handed_over_at) \
             SELECT s.id, t.intent, $1, s.channel, s.handed_over_at FROM turns t JOIN sessions s ON s.id = t.session_id \
             WHERE t.session_id = $2 AND t.seq = $3 AND t.role = 'user' AND t.intent IS NOT NULL ON CONFLICT DO NOTHING",
        )
        .bind(at)
        .bind(session_id)
        .bind(seq)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Notes that a session came to people at a moment.
    pub(super) async fn count_handover(&mut self, session_id: &str, at: i64) -> Result<(), StorageError> {
        for sql in [
            "UPDATE sessions SET handed_over_at = $2 WHERE id = $1 AND handed_over_at IS NULL",
            "UPDATE session_answers SET handed_over_at = $2 WHERE session_id = $1 AND handed_over_at IS NULL",
        ] {
            sqlx::query(sql).bind(session_id).bind(at).execute(self.connection()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_as_people_write_them() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(20_454), "2026-01-01");
        assert_eq!(date(19_782), "2024-02-29");
    }

    #[test]
    fn a_span_touches_its_local_days_only() {
        // 2026-01-01 to 2026-01-03 at +08:00.
        let from = 20_454 * DAY - 8 * HOUR;
        let span = Span { from, to: from + 2 * DAY, offset: 8 * HOUR };
        assert_eq!(span.days(), 20_454..=20_455);
        let span = Span { to: span.to + 1, ..span };
        assert_eq!(span.days(), 20_454..=20_456);
    }
}
