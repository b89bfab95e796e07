//! Search over the texts of tickets: the turns that led to a ticket, those said while people had it, notes, and its fields.
//!
//! Each text is indexed as its pairs of neighbouring characters, for Chinese has no spaces between words and the tokenizers of both
//! databases begin at three characters. What has all pairs of the words that are looked for is read and compared, so the pairs may
//! lie: they are kept as numbers of 31 bits, and a pair that was changed away stays. A table of pairs of our own was measured too: it
//! takes four times (PostgreSQL) to seventeen times (SQLite) the space, and three to ten times as long to fill.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::any::Any;
use sqlx::{AnyConnection, AssertSqlSafe, QueryBuilder, Row};

use super::tickets::{OPEN, ticket};
use super::{Dialect, Storage, StorageError, Tx};
use crate::desk::Ticket;

/// Least and most characters that can be looked for.
pub const SEARCHED: std::ops::RangeInclusive<usize> = 2..=64;
/// Tickets that are read and compared for one page at most; then the page ends early.
const MOST_READ: usize = 1000;
/// Tickets that are read in one go.
const AT_ONCE: usize = 100;
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

/// The pairs of neighbouring characters in a text, each once, as numbers with spaces between; empty where there is none.
fn pairs(text: &str) -> String {
    let characters: Vec<u32> = text.chars().map(|character| u32::from(folded(character))).collect();
    let mut pairs: Vec<u32> =
        characters.windows(2).map(|pair| ((pair[0] << 16) ^ (pair[0] >> 16) ^ pair[1]) & 0x7fff_ffff).collect();
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
fn noted<'a>(reason: Option<&'a str>, kind: &str, data: &'a Value) -> Vec<&'a str> {
    let said = match kind {
        "note" => data.get("text"),
        "resolved" => data.get("note"),
        _ => None,
    };
    reason.into_iter().chain(said.and_then(Value::as_str)).collect()
}

/// What people can change of a ticket and look for.
fn of_fields(ticket: &Ticket) -> Vec<String> {
    let values = ticket.fields.values().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    ticket.category.iter().cloned().chain(ticket.tags.iter().cloned()).chain(values).collect()
}

/// The texts of a ticket, in the order in which they are compared: what was said last comes first.
#[derive(Default)]
struct Texts(Vec<(Place, String)>);

impl Storage {
    /// Tickets that have the words somewhere, newest first, older than the ticket `before`, at most `limit`. Words of fewer than
    /// two characters are found nowhere.
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
        let looked_for = pairs(words);
        let words: Vec<char> = words.chars().map(folded).collect();
        let mut page = FoundPage::default();
        if looked_for.is_empty() || limit == 0 {
            return Ok(page);
        }
        // Ids are UUID v7: they sort by the time they were made. `g` sorts behind all of them, in any locale.
        let mut before = before.unwrap_or("g").to_owned();
        let mut read = 0;
        let mut connection = self.readers.acquire().await?;
        loop {
            let batch = AT_ONCE.min(limit + 1);
            let candidates = self.with_pairs(&mut connection, &looked_for, &before, batch).await?;
            let last = candidates.len() < batch;
            let mut texts = texts_of(&mut connection, &candidates).await?;
            for ticket in tickets_of(&mut connection, &candidates).await? {
                let texts = texts.remove(&ticket.id).unwrap_or_default().0;
                let fields = of_fields(&ticket).into_iter().map(|text| (Place::Field, text));
                let mut all = texts.into_iter().chain(fields);
                let here = all.find_map(|(place, text)| Some((place, snippet(&text, &words)?)));
                let Some((place, snippet)) = here else { continue };
                if page.found.len() == limit {
                    page.next = page.found.last().map(|found| found.ticket.id.clone());
                    return Ok(page);
                }
                page.found.push(Found { ticket, place, snippet });
            }
            read += candidates.len();
            match candidates.into_iter().next_back() {
                Some(id) if !last => before = id,
                _ => return Ok(page),
            }
            if read >= MOST_READ {
                page.next = Some(before);
                return Ok(page);
            }
        }
    }

    /// Ids of tickets of which one text has all of the pairs, newest first.
    async fn with_pairs(
        &self,
        connection: &mut AnyConnection,
        pairs: &str,
        before: &str,
        limit: usize,
    ) -> Result<Vec<String>, StorageError> {
        let sql = match self.dialect {
            Dialect::Sqlite => {
                "SELECT DISTINCT ticket_id FROM ticket_search WHERE ticket_search MATCH $1 AND ticket_id < $2 \
                 ORDER BY ticket_id DESC LIMIT $3"
            }
            Dialect::Postgres => {
                "SELECT DISTINCT ticket_id FROM ticket_search WHERE pairs @> string_to_array($1, ' ')::INTEGER[] \
                 AND ticket_id < $2 ORDER BY ticket_id DESC LIMIT $3"
            }
        };
        // Planned anew with its values: a rare pair and a common one want different ways.
        let rows = sqlx::query(sql)
            .persistent(false)
            .bind(pairs)
            .bind(before)
            .bind(limit as i64)
            .fetch_all(connection)
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Makes the table of pairs, once, each database in its own way, and fills it from the tickets that there are.
    pub(super) async fn prepare_search(&self) -> Result<(), StorageError> {
        const DONE: &str = "SELECT done FROM report_progress WHERE name = 'ticket_search'";
        let done: i64 = sqlx::query(DONE).fetch_one(&self.readers).await?.try_get(0)?;
        if done > 0 {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        // The update locks the row, in both databases: of several replicas one makes the table.
        let lock = "UPDATE report_progress SET done = done WHERE name = 'ticket_search'";
        sqlx::query(lock).execute(tx.connection()).await?;
        let done: i64 = sqlx::query(DONE).fetch_one(tx.connection()).await?.try_get(0)?;
        if done > 0 {
            return Ok(());
        }
        let statements: &[&'static str] = match self.dialect {
            // Only the index is kept, and whose it is: neither the pairs themselves nor where in a text they stand.
            Dialect::Sqlite => &["CREATE VIRTUAL TABLE ticket_search USING fts5(\
                 ticket_id UNINDEXED, pairs, content='', contentless_delete=1, contentless_unindexed=1, detail='none')"],
            Dialect::Postgres => &[
                "CREATE TABLE ticket_search (ticket_id TEXT NOT NULL, pairs INTEGER[] NOT NULL)",
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

async fn tickets_of(connection: &mut AnyConnection, ids: &[String]) -> Result<Vec<Ticket>, StorageError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = QueryBuilder::new("SELECT * FROM tickets WHERE id IN ");
    push_list(&mut sql, ids);
    sql.push(" ORDER BY id DESC");
    sql.build().persistent(false).fetch_all(connection).await?.iter().map(ticket).collect()
}

/// Turns and notes of tickets, by ticket.
async fn texts_of(connection: &mut AnyConnection, ids: &[String]) -> Result<BTreeMap<String, Texts>, StorageError> {
    let mut texts: BTreeMap<String, Texts> = BTreeMap::new();
    if ids.is_empty() {
        return Ok(texts);
    }
    let mut sql = QueryBuilder::<Any>::new(
        "SELECT t.id, u.seq, u.role, u.text_masked FROM tickets t \
         JOIN turns u ON u.session_id = t.session_id AND u.seq >= t.from_seq WHERE t.id IN ",
    );
    push_list(&mut sql, ids);
    sql.push(" ORDER BY t.id, u.seq DESC");
    for row in sql.build().persistent(false).fetch_all(&mut *connection).await? {
        let place = Place::Turn { seq: row.try_get(1)?, role: row.try_get(2)? };
        texts.entry(row.try_get(0)?).or_default().0.push((place, row.try_get(3)?));
    }
    let mut sql = QueryBuilder::<Any>::new(
        "SELECT ticket_id, seq, kind, reason, data FROM ticket_events \
         WHERE (reason IS NOT NULL OR kind IN ('note', 'resolved')) AND ticket_id IN ",
    );
    push_list(&mut sql, ids);
    sql.push(" ORDER BY ticket_id, seq DESC");
    for row in sql.build().persistent(false).fetch_all(&mut *connection).await? {
        let (kind, reason): (String, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
        let data: String = row.try_get(4)?;
        let data: Value = serde_json::from_str(&data).unwrap_or_default();
        let texts = texts.entry(row.try_get(0)?).or_default();
        for text in noted(reason.as_deref(), &kind, &data) {
            texts.0.push((Place::Note { seq: row.try_get(1)? }, text.to_owned()));
        }
    }
    Ok(texts)
}

fn push_list(sql: &mut QueryBuilder<Any>, ids: &[String]) {
    sql.push("(");
    let mut listed = sql.separated(", ");
    ids.iter().for_each(|id| {
        listed.push_bind(id.clone());
    });
    sql.push(")");
}

impl Tx {
    /// Makes texts of tickets known to the search.
    async fn index_texts<'a>(
        &mut self,
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), StorageError> {
        let list = match self.dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => "string_to_array(",
        };
        let end = match self.dialect {
            Dialect::Sqlite => ")",
            Dialect::Postgres => ", ' ')::INTEGER[])",
        };
        let rows: Vec<(&str, String)> = texts.into_iter().map(|(ticket, text)| (ticket, pairs(text))).collect();
        let rows: Vec<&(&str, String)> = rows.iter().filter(|(_, pairs)| !pairs.is_empty()).collect();
        for rows in rows.chunks(AT_ONCE) {
            let mut sql = QueryBuilder::<Any>::new("INSERT INTO ticket_search (ticket_id, pairs) VALUES ");
            for (number, (ticket, pairs)) in rows.iter().enumerate() {
                sql.push(if number == 0 { "(" } else { ", (" }).push_bind((*ticket).to_owned());
                sql.push(", ").push(list).push_bind(pairs.clone()).push(end);
            }
            sql.build().execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Makes a turn known that is said while people have its session.
    pub(super) async fn index_turn(&mut self, session_id: &str, text: &str) -> Result<(), StorageError> {
        let open = format!("SELECT id FROM tickets WHERE session_id = $1 AND status IN {OPEN}");
        let row = sqlx::query(AssertSqlSafe(open)).bind(session_id).fetch_optional(self.connection()).await?;
        match row {
            Some(row) => self.index_texts([(row.try_get::<String, _>(0)?.as_str(), text)]).await,
            None => Ok(()),
        }
    }

    /// Makes the turns known that led to a new ticket.
    pub(super) async fn index_earlier_turns(&mut self, ticket: &Ticket) -> Result<(), StorageError> {
        let rows = sqlx::query("SELECT text_masked FROM turns WHERE session_id = $1 AND seq >= $2")
            .bind(ticket.session_id.as_str())
            .bind(ticket.from_seq)
            .fetch_all(self.connection())
            .await?;
        let texts = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        self.index_texts(texts.iter().map(|text| (ticket.id.as_str(), text.as_str()))).await
    }

    /// Makes known what an event of a ticket says.
    pub(super) async fn index_event(
        &mut self,
        ticket_id: &str,
        kind: &str,
        reason: Option<&str>,
        after: &serde_json::Map<String, Value>,
        data: &Value,
    ) -> Result<(), StorageError> {
        let mut texts: Vec<String> = noted(reason, kind, data).into_iter().map(str::to_owned).collect();
        for name in ["category", "tags", "fields"] {
            let mut left: Vec<&Value> = after.get(name).into_iter().collect();
            while let Some(value) = left.pop() {
                match value {
                    Value::String(text) => texts.push(text.clone()),
                    Value::Array(items) => left.extend(items),
                    Value::Object(fields) => left.extend(fields.values()),
                    Value::Number(number) => texts.push(number.to_string()),
                    Value::Null | Value::Bool(_) => {}
                }
            }
        }
        self.index_texts(texts.iter().map(|text| (ticket_id, text.as_str()))).await
    }

    /// Makes all tickets known that there are; the index must not know any.
    pub(super) async fn index_all_tickets(&mut self) -> Result<(), StorageError> {
        let mut after = String::new();
        loop {
            let rows = sqlx::query("SELECT * FROM tickets WHERE id > $1 ORDER BY id LIMIT 500")
                .bind(after.as_str())
                .fetch_all(self.connection())
                .await?;
            let tickets = rows.iter().map(ticket).collect::<Result<Vec<_>, _>>()?;
            let Some(last) = tickets.last() else { return Ok(()) };
            after.clone_from(&last.id);
            let ids: Vec<String> = tickets.iter().map(|ticket| ticket.id.clone()).collect();
            let texts = texts_of(self.connection(), &ids).await?;
            let said =
                texts.iter().flat_map(|(id, texts)| texts.0.iter().map(|(_, text)| (id.as_str(), text.as_str())));
            self.index_texts(said).await?;
            let fields: Vec<(&str, Vec<String>)> =
                tickets.iter().map(|ticket| (ticket.id.as_str(), of_fields(ticket))).collect();
            let fields = fields.iter().flat_map(|(id, texts)| texts.iter().map(|text| (*id, text.as_str())));
            self.index_texts(fields).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_each_pair_once() {
        assert_eq!(pairs(""), "");
        assert_eq!(pairs("退"), "");
        assert_eq!(pairs("好好好好").split(' ').count(), 1);
        assert_eq!(pairs("退款了吗").split(' ').count(), 3);
        assert_eq!(pairs("ＡＢ１２"), pairs("ab12"));
        for pair in pairs("😀😀退％_'\"\n").split(' ') {
            assert!(pair.parse::<i32>().is_ok_and(|pair| pair >= 0), "{pair} is an INTEGER of PostgreSQL");
        }
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
