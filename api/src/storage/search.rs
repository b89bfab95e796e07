//! Search over the texts of tickets: the turns that led to a ticket, those said while people had it, notes, and its fields.
//!
//! Each text is indexed as its pairs of neighbouring characters, for Chinese has no spaces between words and the tokenizers of both
//! databases begin at three characters. What has all pairs of the words that are looked for is read and compared, so the pairs may
//! lie: they are kept as numbers of 31 bits, and a pair that was changed away stays. A table of pairs of our own was measured too: it
//! takes four times (PostgreSQL) to seventeen times (SQLite) the space, and three to ten times as long to fill.
//!
//! A text is known by its place, one number that sorts by the ticket first: the newest tickets are found without looking at the rest.

use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::organisations::share_of;
use super::statement::Statement;
use super::tickets::{OPEN, ticket, ticket_event};
use super::{Dialect, Storage, StorageError, Tx};
use crate::desk::Ticket;
use crate::desk::sharing::View;

/// Least and most characters that can be looked for.
pub const SEARCHED: std::ops::RangeInclusive<usize> = 2..=64;
/// Texts that are read and compared for one page at most; then the page ends early.
const MOST_READ: usize = 1000;
/// Places that are asked for, and texts that are indexed, in one statement.
const AT_ONCE: usize = 100;
/// Tickets that are indexed in one go.
const TICKETS_AT_ONCE: i64 = 500;
/// Places of one ticket: twice the number of a turn, or twice the number of an event and one.
const PLACES: i64 = 1 << 21;
/// Characters shown around what was found.
const AROUND: usize = 24;

/// Where in a ticket something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a turn of its session.
    Turn {
        /// Its number.
        seq: i64,
        /// `user`, `bot` or `agent`.
        role: String,
    },
    /// In what people noted in its history.
    Note {
        /// Number of the event.
        seq: i64,
    },
    /// In its category, tags or fields.
    Field,
}

/// A ticket that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The ticket.
    pub ticket: Ticket,
    /// Where.
    pub place: Place,
    /// What stands there: the words that were looked for, with some of what is around them.
    pub snippet: String,
}

/// A page of what was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundPage {
    /// Newest first.
    pub found: Vec<Found>,
    /// The ticket behind which to go on, if there may be more.
    pub next: Option<String>,
}

/// One character as it is compared: full-width letters and digits as narrow ones, capital letters as small ones.
fn folded(character: char) -> char {
    let narrow = match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character),
        '\u{3000}' => ' ',
        other => other,
    };
    let mut small = narrow.to_lowercase();
    match (small.next(), small.next()) {
        (Some(small), None) => small,
        _ => narrow,
    }
}

/// The pairs of neighbouring characters in texts, each once, as numbers with spaces between; empty where there is none.
fn pairs<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut pairs: Vec<u32> = Vec::new();
    for text in texts {
        let characters: Vec<u32> = text.chars().map(|character| u32::from(folded(character))).collect();
        let of_text = characters.windows(2).map(|pair| ((pair[0] << 16) ^ (pair[0] >> 16) ^ pair[1]) & 0x7fff_ffff);
        pairs.extend(of_text);
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// Where the words stand in a text, with some of what is around them.
fn snippet(text: &str, words: &[char]) -> Option<String> {
    let characters: Vec<char> = text.chars().collect();
    let compared: Vec<char> = characters.iter().copied().map(folded).collect();
    let at = compared.windows(words.len()).position(|window| window == words)?;
    let (from, to) = (at.saturating_sub(AROUND), (at + words.len() + AROUND).min(characters.len()));
    let before = if from > 0 { "…" } else { "" };
    let behind = if to < characters.len() { "…" } else { "" };
    Some(format!("{before}{}{behind}", characters[from..to].iter().collect::<String>()))
}

/// What people noted with an event: why, and what it says.
fn noted<'a>(kind: &str, reason: Option<&'a str>, data: &'a Value) -> Vec<&'a str> {
    let said = match kind {
        "note" => data.get("text"),
        "resolved" => data.get("note"),
        _ => None,
    };
    reason.into_iter().chain(said.and_then(Value::as_str)).collect()
}

/// What people can write into a ticket: the texts and numbers of its category, tags and fields, as its history tells them.
fn written(told: &Map<String, Value>) -> Vec<String> {
    let mut left: Vec<&Value> = ["category", "tags", "fields"].iter().filter_map(|name| told.get(*name)).collect();
    let mut texts = Vec::new();
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => texts.push(text.clone()),
            Value::Number(number) => texts.push(number.to_string()),
            Value::Array(items) => left.extend(items),
            Value::Object(fields) => left.extend(fields.values()),
            Value::Null | Value::Bool(_) => {}
        }
    }
    texts
}

/// The place of a turn, or else of an event, in the ticket of a number. One that is too far behind has none.
fn place(number: i64, seq: i64, is_turn: bool) -> Option<i64> {
    let within = seq.checked_mul(2)?.checked_add(i64::from(!is_turn))?;
    (0..PLACES).contains(&within).then_some(number * PLACES + within)
}

/// What is seen in a place of a ticket, if the words are there.
async fn look(
    connection: &mut AnyConnection,
    ticket: &Ticket,
    view: &View,
    place: i64,
    words: &[char],
) -> Result<Option<(Place, String)>, StorageError> {
    let (seq, is_turn) = (place % PLACES / 2, place % 2 == 0);
    if is_turn {
        let turn = sqlx::query("SELECT role, text_masked, created_at FROM turns WHERE session_id = $1 AND seq = $2")
            .bind(ticket.session_id.as_str())
            .bind(seq)
            .fetch_optional(connection)
            .await?;
        let Some(turn) = turn else { return Ok(None) };
        let (role, text): (String, String) = (turn.try_get(0)?, turn.try_get(1)?);
        if !view.shows_turn(ticket, seq, turn.try_get(2)?) {
            return Ok(None);
        }
        return Ok(snippet(&text, words).map(|snippet| (Place::Turn { seq, role }, snippet)));
    }
    let event = sqlx::query("SELECT * FROM ticket_events WHERE ticket_id = $1 AND seq = $2")
        .bind(ticket.id.as_str())
        .bind(seq)
        .fetch_optional(connection)
        .await?;
    let Some(event) = event else { return Ok(None) };
    if let Some(event) = view.event(ticket_event(&event)?) {
        let noted = noted(&event.kind, event.reason.as_deref(), &event.data);
        if let Some(snippet) = noted.into_iter().find_map(|text| snippet(text, words)) {
            return Ok(Some((Place::Note { seq }, snippet)));
        }
    }
    // What an event wrote may have been changed since.
    let found = written(&view.ticket(ticket.clone()).told()).into_iter().find_map(|text| snippet(&text, words));
    Ok(found.map(|snippet| (Place::Field, snippet)))
}

impl Storage {
    /// Tickets that have the words somewhere, newest first, older than the ticket `before`, about `limit` at most. Words of fewer
    /// than two characters are found nowhere.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn search_tickets(
        &self,
        words: &str,
        before: Option<&str>,
        limit: usize,
    ) -> Result<FoundPage, StorageError> {
        self.search_seen_tickets(words, None, before, limit).await
    }

    /// As [`Storage::search_tickets`], but only what an organisation sees, if one is named.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn search_seen_tickets(
        &self,
        words: &str,
        organisation: Option<&str>,
        before: Option<&str>,
        limit: usize,
    ) -> Result<FoundPage, StorageError> {
        let looked_for = pairs([words]);
        let words: Vec<char> = words.chars().map(folded).collect();
        let mut page = FoundPage::default();
        if looked_for.is_empty() || limit == 0 {
            return Ok(page);
        }
        let mut connection = self.readers.acquire().await?;
        let mut before = match before {
            Some(id) => older_than(&mut connection, id).await?,
            None => i64::MAX,
        };
        // The tickets of a number, as far as they are not found yet. Two that were opened at once may share one.
        let (mut number, mut tickets) = (None, Vec::new());
        let mut read = 0;
        loop {
            let places = self.with_pairs(&mut connection, &looked_for, organisation, before).await?;
            for place in &places {
                if number != Some(place / PLACES) {
                    if page.found.len() >= limit {
                        page.next = page.found.last().map(|found| found.ticket.id.clone());
                        return Ok(page);
                    }
                    number = Some(place / PLACES);
                    tickets = seen_tickets(&mut connection, place / PLACES, organisation).await?;
                }
                for (ticket, view) in std::mem::take(&mut tickets) {
                    if read >= MOST_READ {
                        page.next = Some(ticket.id);
                        return Ok(page);
                    }
                    read += 1;
                    match look(&mut connection, &ticket, &view, *place, &words).await? {
                        Some((place, snippet)) => {
                            page.found.push(Found { ticket: view.ticket(ticket), place, snippet });
                        }
                        None => tickets.push((ticket, view)),
                    }
                }
            }
            match places.last() {
                // What is found need not be found again in the rest of the ticket.
                Some(last) if places.len() == AT_ONCE && tickets.is_empty() => before = last / PLACES * PLACES,
                Some(last) if places.len() == AT_ONCE => before = *last,
                _ => return Ok(page),
            }
        }
    }

    /// Places, before this one, of texts that have all of the pairs, the newest ticket first.
    async fn with_pairs(
        &self,
        connection: &mut AnyConnection,
        pairs: &str,
        organisation: Option<&str>,
        before: i64,
    ) -> Result<Vec<i64>, StorageError> {
        let (place, mut sql) = match self.dialect {
            Dialect::Sqlite => {
                let mut sql = Statement::new("SELECT rowid FROM ticket_search WHERE ticket_search MATCH ");
                sql.push_bind(pairs);
                ("rowid", sql)
            }
            Dialect::Postgres => {
                let mut sql = Statement::new("SELECT place FROM ticket_search WHERE pairs @> string_to_array(");
                sql.push_bind(pairs).push(", ' ')::INTEGER[]");
                ("place", sql)
            }
        };
        sql.push(" AND ").push(place).push(" < ").push_bind(before);
        if let Some(organisation) = organisation {
            // What is not shared is not even read, and no page ends at it.
            sql.push(" AND ").push(place).push(" / ").push(PLACES);
            sql.push(" IN (SELECT t.number FROM tickets t JOIN ticket_shares s ON s.ticket_id = t.id");
            sql.push(" WHERE s.organisation = ").push_bind(organisation).push(")");
        }
        sql.push(" ORDER BY ").push(place).push(" DESC LIMIT ").push_bind(AT_ONCE as i64);
        let query = sql.build();
        query.fetch_all(connection).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Makes the index of pairs, once, each database in its own way, and fills it from the tickets that there are.
    pub(super) async fn prepare_search(&self) -> Result<(), StorageError> {
        const DONE: &str = "SELECT done FROM report_progress WHERE name = 'ticket_search'";
        let done: i64 = sqlx::query(DONE).fetch_one(&self.readers).await?.try_get(0)?;
        if done > 0 {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        // The update locks the row, in both databases: of several replicas one makes the index.
        let lock = "UPDATE report_progress SET done = done WHERE name = 'ticket_search'";
        sqlx::query(lock).execute(tx.connection()).await?;
        let done: i64 = sqlx::query(DONE).fetch_one(tx.connection()).await?.try_get(0)?;
        if done > 0 {
            return Ok(());
        }
        let statements: &[&'static str] = match self.dialect {
            // Only which pair is in which place is kept; the place is the rowid.
            Dialect::Sqlite => &["CREATE VIRTUAL TABLE ticket_search USING fts5(\
                 pairs, content='', contentless_delete=1, detail='none')"],
            Dialect::Postgres => &[
                "CREATE TABLE ticket_search (place BIGINT NOT NULL, pairs INTEGER[] NOT NULL)",
                "CREATE INDEX ticket_search_by_place ON ticket_search (place)",
                "CREATE INDEX ticket_search_by_pairs ON ticket_search USING gin (pairs)",
            ],
        };
        for statement in statements {
            sqlx::query(*statement).execute(tx.connection()).await?;
        }
        tx.index_all_tickets().await?;
        sqlx::query("UPDATE report_progress SET done = 1 WHERE name = 'ticket_search'")
            .execute(tx.connection())
            .await?;
        tx.commit().await
    }
}

/// The place behind all places of tickets that are older than one.
async fn older_than(connection: &mut AnyConnection, id: &str) -> Result<i64, StorageError> {
    let row = sqlx::query("SELECT number FROM tickets WHERE id < $1 ORDER BY id DESC LIMIT 1")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    let number: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(number.map_or(0, |number| (number + 1) * PLACES))
}

/// The tickets of a number that are seen, and how.
async fn seen_tickets(
    connection: &mut AnyConnection,
    number: i64,
    organisation: Option<&str>,
) -> Result<Vec<(Ticket, View)>, StorageError> {
    let query = sqlx::query("SELECT * FROM tickets WHERE number = $1 ORDER BY id DESC").bind(number);
    let tickets = query.fetch_all(&mut *connection).await?;
    let mut seen = Vec::with_capacity(tickets.len());
    for row in &tickets {
        let ticket = ticket(row)?;
        let view = match organisation {
            None => Some(View::House),
            Some(organisation) => share_of(&mut *connection, &ticket.id, organisation).await?.map(View::Shared),
        };
        seen.extend(view.map(|view| (ticket, view)));
    }
    Ok(seen)
}

impl Tx {
    /// Makes texts known to the search: pairs by place.
    async fn index(&mut self, texts: Vec<(i64, String)>) -> Result<(), StorageError> {
        let (insert, array, end) = match self.dialect {
            // What stands in a place never changes: writing it again is the same.
            Dialect::Sqlite => ("INSERT OR REPLACE INTO ticket_search (rowid, pairs) VALUES ", "", ")"),
            Dialect::Postgres => {
                ("INSERT INTO ticket_search (place, pairs) VALUES ", "string_to_array(", ", ' ')::INTEGER[])")
            }
        };
        for texts in texts.chunks(AT_ONCE) {
            let mut sql = Statement::new(insert);
            for (index, (place, pairs)) in texts.iter().enumerate() {
                sql.push(if index == 0 { "(" } else { ", (" }).push_bind(*place).push(", ");
                sql.push(array).push_bind(pairs.as_str()).push(end);
            }
            sql.build().execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Makes a turn known that is said while people have its session.
    pub(super) async fn index_turn(&mut self, session_id: &str, seq: i64, text: &str) -> Result<(), StorageError> {
        let pairs = pairs([text]);
        if pairs.is_empty() {
            return Ok(());
        }
        let open = format!("SELECT number FROM tickets WHERE session_id = $1 AND status IN {OPEN}");
        let row = sqlx::query(AssertSqlSafe(open)).bind(session_id).fetch_optional(self.connection()).await?;
        let number: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
        let place = number.and_then(|number| place(number, seq, true));
        self.index(place.map(|place| (place, pairs)).into_iter().collect()).await
    }

    /// Makes the turns known that led to a new ticket.
    pub(super) async fn index_earlier_turns(&mut self, ticket: &Ticket) -> Result<(), StorageError> {
        let rows = sqlx::query(
            "SELECT t.number, u.seq, u.text_masked FROM tickets t \
             JOIN turns u ON u.session_id = t.session_id AND u.seq >= t.from_seq WHERE t.id = $1",
        )
        .bind(ticket.id.as_str())
        .fetch_all(self.connection())
        .await?;
        let texts = rows.iter().map(turn_pairs).collect::<Result<Vec<_>, _>>()?;
        self.index(texts.into_iter().flatten().collect()).await
    }

    /// Makes known what the last event of a ticket says, and what it wrote into the ticket.
    pub(super) async fn index_last_event(&mut self, ticket_id: &str) -> Result<(), StorageError> {
        let row = sqlx::query(
            "SELECT t.number, e.seq, e.kind, e.reason, e.after, e.data FROM tickets t \
             JOIN ticket_events e ON e.ticket_id = t.id WHERE t.id = $1 ORDER BY e.seq DESC LIMIT 1",
        )
        .bind(ticket_id)
        .fetch_one(self.connection())
        .await?;
        self.index(event_pairs(&row)?.into_iter().collect()).await
    }

    /// Makes all tickets known that there are; the index must not know any.
    pub(super) async fn index_all_tickets(&mut self) -> Result<(), StorageError> {
        let last = sqlx::query("SELECT MAX(number) FROM tickets").fetch_one(self.connection()).await?;
        let last: Option<i64> = last.try_get(0)?;
        let mut from = 0;
        while last.is_some_and(|last| from <= last) {
            let rows = sqlx::query(
                "SELECT t.number, u.seq, u.text_masked FROM tickets t \
                 JOIN turns u ON u.session_id = t.session_id AND u.seq >= t.from_seq \
                 WHERE t.number >= $1 AND t.number < $2",
            )
            .bind(from)
            .bind(from + TICKETS_AT_ONCE)
            .fetch_all(self.connection())
            .await?;
            let mut texts = rows.iter().map(turn_pairs).collect::<Result<Vec<_>, _>>()?;
            let rows = sqlx::query(
                "SELECT t.number, e.seq, e.kind, e.reason, e.after, e.data FROM tickets t \
                 JOIN ticket_events e ON e.ticket_id = t.id WHERE t.number >= $1 AND t.number < $2 \
                 AND (e.reason IS NOT NULL OR e.kind IN ('opened', 'amended', 'note', 'resolved'))",
            )
            .bind(from)
            .bind(from + TICKETS_AT_ONCE)
            .fetch_all(self.connection())
            .await?;
            for row in &rows {
                texts.push(event_pairs(row)?);
            }
            self.index(texts.into_iter().flatten().collect()).await?;
            from += TICKETS_AT_ONCE;
        }
        Ok(())
    }
}

/// Place and pairs of a row with a ticket's number and a turn's number and text.
fn turn_pairs(row: &AnyRow) -> Result<Option<(i64, String)>, StorageError> {
    let (number, seq, text): (Option<i64>, i64, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let place = number.and_then(|number| place(number, seq, true));
    let pairs = pairs([text.as_str()]);
    Ok(place.filter(|_| !pairs.is_empty()).map(|place| (place, pairs)))
}

/// Place and pairs of a row with a ticket's number and an event.
fn event_pairs(row: &AnyRow) -> Result<Option<(i64, String)>, StorageError> {
    let (number, seq, kind): (Option<i64>, i64, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (reason, after, data): (Option<String>, String, String) = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    let after: Map<String, Value> = serde_json::from_str(&after).unwrap_or_default();
    let data: Value = serde_json::from_str(&data).unwrap_or_default();
    let written = written(&after);
    let noted = noted(&kind, reason.as_deref(), &data);
    let pairs = pairs(noted.into_iter().chain(written.iter().map(String::as_str)));
    let place = number.and_then(|number| place(number, seq, false));
    Ok(place.filter(|_| !pairs.is_empty()).map(|place| (place, pairs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_each_pair_once() {
        assert_eq!(pairs([""]), "");
        assert_eq!(pairs(["退"]), "");
        assert_eq!(pairs(["好好好好"]).split(' ').count(), 1);
        assert_eq!(pairs(["退款了吗"]).split(' ').count(), 3);
        assert_eq!(pairs(["退款", "了吗"]).split(' ').count(), 2, "no pair of two texts");
        assert_eq!(pairs(["ＡＢ１２"]), pairs(["ab12"]));
        for pair in pairs(["😀😀退％_'\"\n"]).split(' ') {
            assert!(pair.parse::<i32>().is_ok_and(|pair| pair >= 0), "{pair} is an INTEGER of PostgreSQL");
        }
    }

    #[test]
    fn places_sort_by_ticket_first() {
        assert!(place(2, 1, true) > place(1, 900_000, false));
        assert_eq!(place(1, 5, true).map(|place| (place / PLACES, place % PLACES / 2, place % 2)), Some((1, 5, 0)));
        assert_eq!(place(1, 5, false).map(|place| (place / PLACES, place % PLACES / 2, place % 2)), Some((1, 5, 1)));
        assert_eq!(place(1, PLACES / 2, true), None, "it would be a place of the next ticket");
        assert_eq!(place(1, i64::MAX, true), None);
    }

    #[test]
    fn a_snippet_shows_what_is_around() {
        let words: Vec<char> = "退款".chars().collect();
        assert_eq!(snippet("我要退款", &words).as_deref(), Some("我要退款"));
        assert_eq!(snippet("款退", &words), None);
        assert_eq!(snippet("退", &words), None);
        let long = format!("{}退款{}", "前".repeat(50), "后".repeat(50));
        let expected = format!("…{}退款{}…", "前".repeat(AROUND), "后".repeat(AROUND));
        assert_eq!(snippet(&long, &words), Some(expected));
        let words: Vec<char> = "ab".chars().collect();
        assert_eq!(snippet("İＡＢ", &words).as_deref(), Some("İＡＢ"), "the original is shown, and nothing is shifted");
    }
}
