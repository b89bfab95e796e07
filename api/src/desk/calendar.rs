//! The working calendar of a team: shifts by weekday, holidays, and make-up working days (调休).
//!
//! Days are those of China: UTC+8 all year, without daylight saving. Times are milliseconds since 1970 in UTC; what lies outside
//! of the years 1 to 9999 is taken for the nearest moment inside. A shift that passes midnight belongs to the day on which it
//! begins: the one before a holiday is worked to its end, and one that would begin on a holiday is not worked at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;
/// Chinese time is ahead of UTC by this much.
const AHEAD: i64 = 8 * 60 * MINUTE;
/// The first and last day that are told apart, in days since 1970: those of the years 1 to 9999.
const FIRST_DAY: i64 = -719_162;
const LAST_DAY: i64 = 2_932_896;
/// Most days of one holiday. A longer one is a slip of the pen.
const LONGEST_HOLIDAY: i64 = 366;

/// A year's public holidays and make-up working days.
struct OfficialYear {
    year: i32,
    /// First and last day of each.
    holidays: &'static [(&'static str, &'static str)],
    working_days: &'static [&'static str],
}

/// What the State Council has announced, a year at a time and only for the year to come, so that no rule can replace this table.
/// 2026: 国务院办公厅关于2026年部分节假日安排的通知, of 4 November 2025.
const OFFICIAL_YEARS: &[OfficialYear] = &[OfficialYear {
    year: 2026,
    holidays: &[
        ("2026-01-01", "2026-01-03"),
        ("2026-02-15", "2026-02-23"),
        ("2026-04-04", "2026-04-06"),
        ("2026-05-01", "2026-05-05"),
        ("2026-06-19", "2026-06-21"),
        ("2026-09-25", "2026-09-27"),
        ("2026-10-01", "2026-10-07"),
    ],
    working_days: &["2026-01-04", "2026-02-14", "2026-02-28", "2026-05-09", "2026-09-20", "2026-10-10"],
}];

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// A day as `YYYY-MM-DD`. TOML may also write it without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenDay")]
pub struct Day(pub String);

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenDay {
    Text(String),
    Date(toml::value::Datetime),
}

impl From<WrittenDay> for Day {
    fn from(day: WrittenDay) -> Self {
        match day {
            WrittenDay::Text(text) => Self(text),
            WrittenDay::Date(date) => Self(date.to_string()),
        }
    }
}

/// Days on which nobody works, whatever the weekday.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holiday {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The first day.
    pub from: Day,
    /// The last day; left out, the first is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Day>,
}

/// A day that is worked with the shifts of another weekday.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkingDay {
    /// The day.
    pub date: Day,
    /// The weekday whose shifts are worked.
    pub like: Weekday,
}

/// A calendar as it is written down.
///
/// Shifts are texts such as `09:00-18:00`; `22:00-06:00` passes midnight and `00:00-24:00` is the whole day. A weekday without
/// shifts is closed. The same day as a holiday and as a working day is an error; a day that is written here goes before one of
/// `official_years`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CalendarSettings {
    /// Shifts of a Monday.
    pub monday: Vec<String>,
    /// Shifts of a Tuesday.
    pub tuesday: Vec<String>,
    /// Shifts of a Wednesday.
    pub wednesday: Vec<String>,
    /// Shifts of a Thursday.
    pub thursday: Vec<String>,
    /// Shifts of a Friday.
    pub friday: Vec<String>,
    /// Shifts of a Saturday.
    pub saturday: Vec<String>,
    /// Shifts of a Sunday.
    pub sunday: Vec<String>,
    /// Years whose official holidays and make-up working days hold. This version knows 2026. A Saturday is made up with the shifts
    /// of a Friday, a Sunday with those of a Monday.
    pub official_years: Vec<i32>,
    /// Days on which nobody works.
    pub holidays: Vec<Holiday>,
    /// Days that are worked with the shifts of another weekday.
    pub working_days: Vec<WorkingDay>,
}

/// What is wrong with a calendar, all of it at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the calendar cannot be used:\n- {}", .problems.join("\n- "))]
pub struct CalendarError {
    /// A sentence for each, naming the field.
    pub problems: Vec<String>,
}

/// When a team works. It is read from [`CalendarSettings`] and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CalendarSettings", into = "CalendarSettings")]
pub struct Calendar {
    settings: CalendarSettings,
    week: [Shifts; 7],
    /// Days, since 1970, that are not like their weekday.
    exceptions: BTreeMap<i64, Shifts>,
    /// Milliseconds of work in a week without exceptions.
    week_length: i64,
}

/// The shifts that begin on one day: milliseconds since its midnight, in order, apart from each other. Only the last may end on
/// the next day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shifts(Vec<(i64, i64)>);

impl Shifts {
    /// How far the last one reaches into the next day.
    fn tail(&self) -> i64 {
        self.0.last().map_or(0, |(_, end)| end - DAY).max(0)
    }

    /// What is worked on a day that has these shifts, after one that had `before`: in order, apart from each other, inside the day.
    fn worked_after<'a>(&'a self, before: &Self) -> impl Iterator<Item = (i64, i64)> + 'a {
        let tail = before.tail();
        std::iter::once((0, tail))
            .chain(self.0.iter().map(move |(start, end)| (*start.max(&tail), *end.min(&DAY))))
            .filter(|(start, end)| start < end)
    }
}

impl Calendar {
    /// Checks what is written down.
    ///
    /// # Errors
    ///
    /// When anything of it is wrong; all of it is told.
    pub fn new(settings: CalendarSettings) -> Result<Self, CalendarError> {
        let mut problems = Vec::new();
        let weekdays = [
            ("monday", &settings.monday),
            ("tuesday", &settings.tuesday),
            ("wednesday", &settings.wednesday),
            ("thursday", &settings.thursday),
            ("friday", &settings.friday),
            ("saturday", &settings.saturday),
            ("sunday", &settings.sunday),
        ];
        let week = weekdays.map(|(name, written)| shifts(name, written, &mut problems));
        let mut exceptions = BTreeMap::new();
        for year in &settings.official_years {
            match OFFICIAL_YEARS.iter().find(|official| official.year == *year) {
                Some(official) => add_official(official, &week, &mut exceptions),
                None => problems.push(format!(
                    "`official_years`: the holidays of {year} are not known to this version; write them into `holidays` and `working_days`"
                )),
            }
        }
        let holidays = holidays(&settings.holidays, &mut problems);
        exceptions.extend(holidays.iter().map(|day| (*day, Shifts::default())));
        let mut seen = Vec::new();
        for WorkingDay { date, like } in &settings.working_days {
            let Some(day) = day_number(&date.0) else {
                problems.push(format!("`working_days`: {}", not_a_day(&date.0)));
                continue;
            };
            let shifts = &week[*like as usize];
            if holidays.contains(&day) {
                problems.push(format!("`working_days`: {} stands in `holidays` too; take one of them out", date.0));
            }
            if seen.contains(&day) {
                problems.push(format!("`working_days`: {} stands there twice; take one of them out", date.0));
            }
            if shifts.0.is_empty() {
                problems.push(format!(
                    "`working_days`: {} has the shifts of a weekday that has none; name another in `like`",
                    date.0
                ));
            }
            seen.push(day);
            exceptions.insert(day, shifts.clone());
        }
        if !problems.is_empty() {
            return Err(CalendarError { problems });
        }
        let worked_on = |weekday: usize| week[weekday].worked_after(&week[(weekday + 6) % 7]);
        let week_length = (0..7).flat_map(worked_on).map(|(start, end)| end - start).sum();
        Ok(Self { settings, week, exceptions, week_length })
    }

    /// As it was written down.
    pub fn settings(&self) -> &CalendarSettings {
        &self.settings
    }

    /// Whether anybody works at that moment. A shift has begun at its first millisecond and is over at its end.
    pub fn is_open(&self, at_ms: i64) -> bool {
        let (day, time) = day_and_time(at_ms);
        self.worked(day).any(|(start, end)| (start..end).contains(&time))
    }

    /// The first moment from `at_ms` on at which somebody works; `None` if nobody ever does again.
    pub fn next_open(&self, at_ms: i64) -> Option<i64> {
        let (first, time) = day_and_time(at_ms);
        let mut day = first;
        while day <= LAST_DAY {
            let after = if day == first { time } else { 0 };
            if let Some((start, _)) = self.worked(day).find(|(_, end)| *end > after) {
                return Some(moment(day, start.max(after)));
            }
            day += if self.week_length == 0 { self.ordinary_days(day).max(1) } else { 1 };
        }
        None
    }

    /// Milliseconds of work between two moments; 0 if the second is not after the first.
    pub fn working_between(&self, from_ms: i64, to_ms: i64) -> i64 {
        let ((first, begin), (last, finish)) = (day_and_time(from_ms), day_and_time(to_ms));
        let (mut day, mut total) = (first, 0);
        while day <= last {
            let weeks = if day == first { 0 } else { self.ordinary_days(day).min(last - day) / 7 };
            if weeks > 0 {
                total += weeks * self.week_length;
                day += weeks * 7;
                continue;
            }
            let begin = if day == first { begin } else { 0 };
            let finish = if day == last { finish } else { DAY };
            total += self.worked(day).map(|(start, end)| (end.min(finish) - start.max(begin)).max(0)).sum::<i64>();
            day += 1;
        }
        total
    }

    /// The first moment at which `span_ms` of work are done since `from_ms`: a deadline. At the end of a shift it is that end, not
    /// the beginning of the next one. `from_ms` itself if there is nothing to do; `None` if there is never that much work again.
    pub fn add_working(&self, from_ms: i64, span_ms: i64) -> Option<i64> {
        if span_ms <= 0 {
            return Some(from_ms);
        }
        let (first, time) = day_and_time(from_ms);
        let (mut day, mut left) = (first, span_ms);
        while day <= LAST_DAY {
            if day > first {
                let ordinary = self.ordinary_days(day);
                // The work that `left` ends in must not be jumped over, hence the 1; a week without work has no such place.
                let days = match (left - 1).checked_div(self.week_length) {
                    Some(weeks) => weeks.min(ordinary / 7) * 7,
                    None => ordinary,
                };
                if days > 0 {
                    left -= days / 7 * self.week_length;
                    day += days;
                    continue;
                }
            }
            let begin = if day == first { time } else { 0 };
            for (start, end) in self.worked(day) {
                let start = start.max(begin);
                let length = (end - start).max(0);
                if left <= length {
                    return Some(moment(day, start + left));
                }
                left -= length;
            }
            day += 1;
        }
        None
    }

    /// What is worked on a day.
    fn worked(&self, day: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.shifts(day).worked_after(self.shifts(day - 1))
    }

    fn shifts(&self, day: i64) -> &Shifts {
        self.exceptions.get(&day).unwrap_or_else(|| &self.week[weekday(day)])
    }

    /// How many days from `day` on are worked as on any such weekday. An exception changes the day after it, too, by a shift that
    /// passes midnight or is missing.
    fn ordinary_days(&self, day: i64) -> i64 {
        match self.exceptions.range(day - 1..).next() {
            Some((exception, _)) => (exception - day).max(0),
            None => LAST_DAY + 1 - day,
        }
    }
}

impl TryFrom<CalendarSettings> for Calendar {
    type Error = CalendarError;

    fn try_from(settings: CalendarSettings) -> Result<Self, CalendarError> {
        Self::new(settings)
    }
}

impl From<Calendar> for CalendarSettings {
    fn from(calendar: Calendar) -> Self {
        calendar.settings
    }
}

/// The day, since 1970, and the milliseconds since its midnight, both in China.
fn day_and_time(at_ms: i64) -> (i64, i64) {
    let local = at_ms.saturating_add(AHEAD).clamp(FIRST_DAY * DAY, (LAST_DAY + 1) * DAY - 1);
    (local.div_euclid(DAY), local.rem_euclid(DAY))
}

/// The other way round.
fn moment(day: i64, time: i64) -> i64 {
    day * DAY + time - AHEAD
}

/// 0 for a Monday. The first day of 1970 was a Thursday.
fn weekday(day: i64) -> usize {
    (day + 3).rem_euclid(7) as usize
}

/// The days since 1970 of `YYYY-MM-DD`.
fn day_number(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return None };
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let month = time::Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = time::Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    let number = i64::from(date.to_julian_day()) - i64::from(time::OffsetDateTime::UNIX_EPOCH.to_julian_day());
    (FIRST_DAY..=LAST_DAY).contains(&number).then_some(number)
}

fn not_a_day(text: &str) -> String {
    format!("`{text}` is no day of the calendar; write it as in 2026-10-01")
}

fn shifts(weekday: &str, written: &[String], problems: &mut Vec<String>) -> Shifts {
    let mut spans = Vec::with_capacity(written.len());
    for text in written {
        match span(text) {
            Ok(span) => spans.push((span, text)),
            Err(problem) => problems.push(format!("`{weekday}`: {problem}")),
        }
    }
    spans.sort();
    for pair in spans.windows(2) {
        if let [((_, end), before), ((start, _), after)] = pair
            && start < end
        {
            problems.push(format!("`{weekday}`: {before} and {after} overlap; make one shift of them"));
        }
    }
    Shifts(spans.into_iter().map(|(span, _)| span).collect())
}

/// The beginning and end of `HH:MM-HH:MM`, as milliseconds since midnight.
fn span(text: &str) -> Result<(i64, i64), String> {
    let times = text.split_once('-').map(|(start, end)| (time_of_day(start.trim()), time_of_day(end.trim())));
    let Some((Some(start), Some(end))) = times else {
        return Err(format!("`{text}` is no shift; write it as in 09:00-18:00"));
    };
    match (start, end) {
        (DAY, _) => Err(format!("`{text}` begins at 24:00; write 00:00 for the beginning of a day")),
        _ if start == end => Err(format!("`{text}` ends when it begins; write 00:00-24:00 for the whole day")),
        _ => Ok((start, if end < start { end + DAY } else { end })),
    }
}

/// Milliseconds since midnight of `HH:MM`, from 00:00 to 24:00.
fn time_of_day(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        let right = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        right.then(|| digits.parse::<i64>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let time = (hours * 60 + minutes) * MINUTE;
    (minutes < 60 && time <= DAY).then_some(time)
}

/// All days of all holidays.
fn holidays(written: &[Holiday], problems: &mut Vec<String>) -> Vec<i64> {
    let mut days = Vec::new();
    for Holiday { from, to, .. } in written {
        let to = to.as_ref().unwrap_or(from);
        match (day_number(&from.0), day_number(&to.0)) {
            (Some(first), Some(last)) if first > last => {
                problems.push(format!("`holidays`: {} lies after {}; exchange them, or correct one", from.0, to.0));
            }
            (Some(first), Some(last)) if last - first >= LONGEST_HOLIDAY => {
                problems.push(format!("`holidays`: {} to {} is longer than a year; correct one of them", from.0, to.0));
            }
            (Some(first), Some(last)) => days.extend(first..=last),
            (None, _) => problems.push(format!("`holidays`: {}", not_a_day(&from.0))),
            (_, None) => problems.push(format!("`holidays`: {}", not_a_day(&to.0))),
        }
    }
    days
}

fn add_official(official: &OfficialYear, week: &[Shifts; 7], exceptions: &mut BTreeMap<i64, Shifts>) {
    for (from, to) in official.holidays {
        if let (Some(first), Some(last)) = (day_number(from), day_number(to)) {
            exceptions.extend((first..=last).map(|day| (day, Shifts::default())));
        }
    }
    for day in official.working_days.iter().filter_map(|day| day_number(day)) {
        let like = if weekday(day) == Weekday::Sunday as usize { Weekday::Monday } else { Weekday::Friday };
        exceptions.insert(day, week[like as usize].clone());
    }
}

#[cfg(test)]
mod tests;
