//! `/v1/desk/board` and `/v1/reports`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::{Date, Month, OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};

use super::AppState;
use super::agents::presence_now;
use super::extract::{Agent, ApiPath, ApiQuery, Supervisor};
use crate::chat::checked_id;
use crate::error::{ApiError, ErrorBody};
use crate::storage::{
    AgentLoad, AgentRecord, Board, Cell, Column, Group, Report, ReportFilter, Span, Table, now, rfc3339,
};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// Longest span of a report, in days.
const MOST_DAYS: i64 = 366;
/// Days of a report whose span is not given, today included.
const DAYS: i64 = 7;
/// How far China is ahead of UTC.
const CHINA: i64 = 8 * 60 * MINUTE;

/// What a report covers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReportQuery {
    /// The first moment: a day such as `2026-01-01`, which begins at local midnight, or RFC 3339. Six days before today when left out.
    #[param(example = "2026-01-01")]
    from: Option<String>,
    /// The first moment that is no longer covered, in the same form; at most 366 days later. Tomorrow's day when left out.
    #[param(example = "2026-01-08")]
    to: Option<String>,
    /// How far local time is ahead of UTC: `+08:00` when left out.
    #[param(example = "+08:00")]
    offset: Option<String>,
    /// One row for each `day`, `hour` (of the day), `category`, `team`, `agent`, `channel` or `priority`; one row in all when left
    /// out. What the bot does and `nps` know `day`, `hour` and `channel` only; the comparison is by category.
    group: Option<String>,
    /// Only what happened in a team.
    team: Option<String>,
    /// Only what happened while a person had the ticket.
    agent: Option<String>,
    /// Only what came this way.
    channel: Option<String>,
    /// `json`, or `csv` for a file that Excel opens; `json` when left out.
    format: Option<String>,
}

/// A report.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReportBody {
    /// Its name, as in the path.
    #[schema(example = "tickets")]
    name: &'static str,
    /// Its name that people read.
    title: &'static str,
    /// The first moment that it covers.
    from: String,
    /// The first moment that it no longer covers.
    to: String,
    /// What its rows stand for.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'static str>,
    /// The columns, in order.
    columns: Vec<ColumnBody>,
    /// The rows, each with a value by the name of each column; null where there is nothing to tell, such as a mean of nothing.
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Map<String, Value>>,
}

/// A column of a report.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ColumnBody {
    /// Stable name; ends with `_seconds` for a time and with `_rate` for a share from 0 to 1.
    name: &'static str,
    /// The name that people read.
    title: &'static str,
}

/// Several reports over one span.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SummaryBody {
    /// The first moment that they cover.
    from: String,
    /// The first moment that they no longer cover.
    to: String,
    /// The reports. Those that know no teams are missing where one team is asked for.
    reports: Vec<ReportBody>,
}

/// How the desk stands now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BoardBody {
    /// Tickets that nobody has.
    waiting: i64,
    /// Tickets that somebody has, or is offered, and has not answered yet.
    assigned: i64,
    /// Tickets that are answered.
    in_progress: i64,
    /// Tickets whose customer has to say something.
    waiting_customer: i64,
    /// How long the one that has waited longest is in its queue; null when there is none.
    oldest_waiting_seconds: Option<i64>,
    /// Who is listed at the desk or has open tickets, by name.
    agents: Vec<BoardAgent>,
}

/// A person at the desk.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BoardAgent {
    /// Their name.
    name: String,
    /// Their team; of somebody who is not listed at the desk, that of all their open tickets, where it is one.
    team: Option<String>,
    /// `online`, `away` or `offline`; null of somebody who is not listed.
    presence: Option<&'static str>,
    /// Their open tickets.
    open: i64,
}

impl BoardBody {
    /// All who are listed at the desk, and whoever else has tickets.
    fn new(state: &AppState, board: Board, listed: &[AgentRecord]) -> Self {
        let mut agents: BTreeMap<String, BoardAgent> = BTreeMap::new();
        for AgentLoad { name, team, open } in board.agents {
            agents.insert(name.clone(), BoardAgent { name, team, presence: None, open });
        }
        for agent in listed {
            let shown = agents.entry(agent.name.clone()).or_insert_with(|| BoardAgent {
                name: agent.name.clone(),
                team: None,
                presence: None,
                open: 0,
            });
            shown.team = Some(agent.team.clone());
            shown.presence = Some(presence_now(state, agent).as_str());
        }
        Self {
            waiting: board.waiting,
            assigned: board.assigned,
            in_progress: board.in_progress,
            waiting_customer: board.waiting_customer,
            oldest_waiting_seconds: board.oldest_waiting.map(|since| ((now() - since) / 1000).max(0)),
            agents: agents.into_values().collect(),
        }
    }
}

impl ReportBody {
    fn new(table: Table, span: Span) -> Self {
        let rows = table.rows.into_iter().map(|row| {
            table.columns.iter().zip(row).map(|(column, cell)| (column.name.to_owned(), value(cell))).collect()
        });
        Self {
            name: table.report.as_str(),
            title: table.report.chinese(),
            from: rfc3339(span.from),
            to: rfc3339(span.to),
            group: table.group.map(Group::as_str),
            rows: rows.collect(),
            columns: table.columns.iter().map(|Column { name, title }| ColumnBody { name, title }).collect(),
        }
    }
}

fn value(cell: Cell) -> Value {
    match cell {
        Cell::Text(text) => json!(text),
        Cell::Count(count) => json!(count),
        Cell::Number(number) => json!(number),
        Cell::Nothing => Value::Null,
    }
}

/// A table as a file that Excel opens: UTF-8 with a byte order mark, without which it shows Chinese as something else.
fn csv(table: &Table) -> Result<Vec<u8>, ApiError> {
    let failed = |error: &dyn std::fmt::Display| ApiError::Internal(format!("a report is not written as CSV: {error}"));
    let mut writer = csv::Writer::from_writer("\u{feff}".as_bytes().to_vec());
    writer.write_record(table.columns.iter().map(|column| column.title)).map_err(|error| failed(&error))?;
    for row in &table.rows {
        writer.write_record(row.iter().map(cell)).map_err(|error| failed(&error))?;
    }
    writer.into_inner().map_err(|error| failed(&error))
}

/// A cell of a CSV file. Names are what people and callers typed: one that Excel would take for a formula gets an apostrophe.
fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
        Cell::Text(text) => text.clone(),
        Cell::Count(count) => count.to_string(),
        Cell::Number(number) => {
            let text = format!("{number:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Cell::Nothing => String::new(),
    }
}

/// `+08:00` in milliseconds. In a query, a plus sign that is not encoded arrives as a space.
fn offset(text: &str) -> Result<i64, ApiError> {
    let wrong = || ApiError::field("offset", "须为时区偏移，如 +08:00");
    if text == "Z" {
        return Ok(0);
    }
    let (sign, rest) = match text.chars().next() {
        Some('+' | ' ') => (1, &text[1..]),
        Some('-') => (-1, &text[1..]),
        _ => return Err(wrong()),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(wrong)?;
    let digits = |part: &str, most: i64| {
        let number = part.parse::<i64>().ok().filter(|number| part.len() == 2 && (0..=most).contains(number));
        number.filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let minutes = digits(hours, 14).ok_or_else(wrong)? * 60 + digits(minutes, 59).ok_or_else(wrong)?;
    Ok(sign * minutes * MINUTE)
}

/// A moment in milliseconds since 1970: the begin of a local day, or RFC 3339.
fn moment(field: &str, text: &str, offset: i64) -> Result<i64, ApiError> {
    let wrong = || ApiError::field(field, "须为日期（如 2026-01-01）或 RFC 3339 时间");
    let milliseconds = |at: OffsetDateTime| i64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| wrong());
    let at = match day(text) {
        Some(day) => milliseconds(day.midnight().assume_utc())? - offset,
        None => milliseconds(OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).map_err(|_| wrong())?)?,
    };
    // Before 1970 there was no desk, and what is to come is not counted for a thousand years.
    if (DAY..32_503_680_000_000).contains(&at) { Ok(at) } else { Err(wrong()) }
}

fn day(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if (year.len(), month.len(), day.len(), parts.next()) != (4, 2, 2, None) {
        return None;
    }
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
}

/// The span of a query; `at` is now.
fn span(query: &ReportQuery, at: i64) -> Result<Span, ApiError> {
    let offset = query.offset.as_deref().map_or(Ok(CHINA), offset)?;
    let tomorrow = ((at + offset).div_euclid(DAY) + 1) * DAY - offset;
    let to = query.to.as_deref().map_or(Ok(tomorrow), |text| moment("to", text, offset))?;
    let from = query.from.as_deref().map_or(Ok(to - DAYS * DAY), |text| moment("from", text, offset))?;
    if from >= to {
        return Err(ApiError::field("to", "须晚于 from"));
    }
    if to - from > MOST_DAYS * DAY {
        return Err(ApiError::field("from", format!("到 to 最多 {MOST_DAYS} 天")));
    }
    Ok(Span { from, to, offset })
}

fn filter(query: &ReportQuery) -> Result<ReportFilter, ApiError> {
    let name = |field: &str, text: &Option<String>| text.clone().map(|text| checked_id(field, text)).transpose();
    Ok(ReportFilter {
        team: name("team", &query.team)?,
        agent: name("agent", &query.agent)?,
        channel: name("channel", &query.channel)?,
    })
}

fn group(report: Report, text: Option<&str>) -> Result<Option<Group>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let groups = report.groups();
    let found = groups.iter().copied().find(|group| group.as_str() == text);
    let names: Vec<&str> = groups.iter().copied().map(Group::as_str).collect();
    found.map(Some).ok_or_else(|| ApiError::field("group", format!("取值无效，可用：{}", names.join("、"))))
}

/// Read a report
///
/// `tickets`, `first_response`, `resolution`, `sessions`, `messages`, `decisions`, `handovers`, `satisfaction`, `nps`,
/// `comparison` or `suggestions`. What each counts stands in docs/reports.md.
#[utoipa::path(
    get, path = "/v1/reports/{name}", tag = "reports", security(("api_key" = [])),
    params(("name" = String, Path, description = "The report"), ReportQuery),
    responses(
        (status = 200, description = "The report, as JSON or CSV", content(
            (ReportBody = "application/json"), (String = "text/csv"),
        )),
        (status = 404, description = "No such report", body = ErrorBody),
        (status = 422, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(super) async fn report(
    State(state): State<AppState>,
    _supervisor: Supervisor,
    ApiPath(name): ApiPath,
    ApiQuery(query): ApiQuery<ReportQuery>,
) -> Result<Response, ApiError> {
    let report = Report::ALL.into_iter().find(|report| report.as_str() == name).ok_or(ApiError::ReportNotFound)?;
    let (span, filter) = (span(&query, now())?, filter(&query)?);
    let group = group(report, query.group.as_deref())?;
    if !report.knows_people() && (filter.team.is_some() || filter.agent.is_some()) {
        let field = if filter.team.is_some() { "team" } else { "agent" };
        return Err(ApiError::field(field, "对这张报表没有意义：它不属于任何团队和客服"));
    }
    let as_csv = match query.format.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(ApiError::field("format", "须为 json 或 csv")),
    };
    let table = state.0.storage.report(report, group, span, &filter).await?;
    if !as_csv {
        return Ok(Json(ReportBody::new(table, span)).into_response());
    }
    let name = format!("attachment; filename=\"{}.csv\"", report.as_str());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("attachment"))),
    ];
    Ok((headers, csv(&table)?).into_response())
}

/// What the overview shows: a report, and what its rows stand for.
const SUMMARY: [(Report, Option<Group>); 13] = [
    (Report::Tickets, None),
    (Report::Tickets, Some(Group::Day)),
    (Report::Tickets, Some(Group::Category)),
    (Report::Tickets, Some(Group::Team)),
    (Report::FirstResponse, None),
    (Report::Resolution, None),
    (Report::Satisfaction, None),
    (Report::Nps, None),
    (Report::Suggestions, None),
    (Report::Handovers, None),
    (Report::Sessions, Some(Group::Day)),
    (Report::Messages, Some(Group::Day)),
    (Report::Decisions, Some(Group::Day)),
];

/// Read the overview
///
/// Several reports over one span at once, as JSON.
#[utoipa::path(
    get, path = "/v1/reports/summary", tag = "reports", params(ReportQuery), security(("api_key" = [])),
    responses(
        (status = 200, description = "The reports", body = SummaryBody),
        (status = 422, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(super) async fn summary(
    State(state): State<AppState>,
    _supervisor: Supervisor,
    ApiQuery(query): ApiQuery<ReportQuery>,
) -> Result<Json<SummaryBody>, ApiError> {
    let (span, filter) = (span(&query, now())?, filter(&query)?);
    if query.group.is_some() {
        return Err(ApiError::field("group", "在总览中是固定的"));
    }
    if query.format.as_deref().is_some_and(|format| format != "json") {
        return Err(ApiError::field("format", "在总览中只能是 json"));
    }
    let people = filter.team.is_some() || filter.agent.is_some();
    let mut reports = Vec::new();
    for (report, group) in SUMMARY.into_iter().filter(|(report, _)| report.knows_people() || !people) {
        reports.push(ReportBody::new(state.0.storage.report(report, group, span, &filter).await?, span));
    }
    Ok(Json(SummaryBody { from: rfc3339(span.from), to: rfc3339(span.to), reports }))
}

/// Read the board
///
/// How the desk stands now: tickets by state, who is there, and who has how many.
#[utoipa::path(
    get, path = "/v1/desk/board", tag = "reports", security(("api_key" = [])),
    responses(
        (status = 200, description = "The board", body = BoardBody),
        (status = 403, description = "Not an agent's key", body = ErrorBody),
    )
)]
pub(super) async fn board(State(state): State<AppState>, _agent: Agent) -> Result<Json<BoardBody>, ApiError> {
    let (board, listed) = (state.0.storage.board().await?, state.0.storage.agents().await?);
    Ok(Json(BoardBody::new(&state, board, &listed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(from: &str, to: &str, offset: Option<&str>) -> ReportQuery {
        ReportQuery {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            offset: offset.map(str::to_owned),
            group: None,
            team: None,
            agent: None,
            channel: None,
            format: None,
        }
    }

    #[test]
    fn a_day_begins_at_local_midnight() {
        let day = span(&query("2026-01-01", "2026-01-02", None), 0).unwrap();
        assert_eq!((day.from, day.to), (1_767_196_800_000, 1_767_196_800_000 + DAY));
        let utc = span(&query("2026-01-01", "2026-01-02", Some("Z")), 0).unwrap();
        assert_eq!(utc.from, day.from + CHINA);
        for from in ["2025-12-31T16:00:00Z", "2026-01-01T00:00:00+08:00", "2026-01-01T00:00:00 08:00"] {
            assert_eq!(span(&query(from, "2026-01-02", Some(" 08:00")), 0).unwrap(), day, "{from}");
        }
        let empty = ReportQuery { from: None, to: None, ..query("", "", None) };
        // 23:30 in China.
        let week = span(&empty, day.to - 30 * MINUTE).unwrap();
        assert_eq!((week.from, week.to), (day.to - 7 * DAY, day.to));
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for (from, to) in [
            ("2026-01-02", "2026-01-01"),
            ("2026-01-01", "2026-01-01"),
            ("2024-01-01", "2026-01-01"),
            ("2026-02-30", "2026-03-01"),
            ("1960-01-01", "1960-01-02"),
            ("9999-01-01", "9999-01-02"),
            ("26-1-1", "2026-01-01"),
            ("' OR 1=1", "2026-01-01"),
            ("", "2026-01-01"),
            ("一月", "2026-01-01"),
        ] {
            assert!(span(&query(from, to, None), 0).is_err(), "{from} {to}");
        }
        for bad in ["8", "+8:00", "+15:00", "+08:60", "08:00", "+08", "时区", "", "+-8:00", "＋08:00"] {
            assert!(offset(bad).is_err(), "{bad}");
        }
        assert_eq!(offset("-05:30").unwrap(), -330 * MINUTE);
    }

    #[test]
    fn excel_takes_no_name_for_a_formula() {
        let text = |text: &str| cell(&Cell::Text(text.to_owned()));
        for formula in ["=1+1", "+86", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(text(formula), format!("'{formula}"));
        }
        assert_eq!(text("售后=退款"), "售后=退款");
        assert_eq!(cell(&Cell::Number(-0.25)), "-0.25", "a number of ours stays a number");
        assert_eq!(cell(&Cell::Number(2.0)), "2");
        assert_eq!(cell(&Cell::Count(10)), "10");
        assert_eq!(cell(&Cell::Number(1.0 / 3.0)), "0.3333");
    }
}
