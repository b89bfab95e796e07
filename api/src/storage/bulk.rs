//! Many rows at once, for measuring: what a busy desk writes in months.

use sqlx::Row;

use super::statement::{Item, Statement};
use super::{Dialect, Storage, StorageError, Tx};

/// Values in one statement. SQLite allows 32,766, but looks through all names before it for the name of each.
const VALUES: usize = 450;

impl Tx {
    /// Adds rows to a table. Nothing else happens: see [`Tx::derive_all`].
    ///
    /// # Errors
    ///
    /// When the database refuses one of them.
    pub async fn add_rows(
        &mut self,
        table: &'static str,
        columns: &[&'static str],
        rows: Vec<Vec<Item>>,
    ) -> Result<(), StorageError> {
        let at_once = (VALUES / columns.len().max(1)).max(1);
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let mut sql = Statement::new("INSERT INTO ");
            sql.push(table).push(" (").push(columns.join(", ")).push(") VALUES ");
            for (index, row) in rows.by_ref().take(at_once).enumerate() {
                sql.push(if index == 0 { "(" } else { ", (" }).push_list(row).push(")");
            }
            sql.build().execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Makes what reports and search are made of, from rows that were added; there must be none of it yet.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn derive_all(&mut self) -> Result<(), StorageError> {
        for sql in [
            "INSERT INTO report_facts SELECT * FROM told_facts",
            "INSERT INTO session_answers \
             SELECT bot.session_id, customer.intent, MIN(bot.created_at), s.channel, s.handed_over_at FROM turns bot \
             JOIN turns customer ON customer.session_id = bot.session_id AND customer.seq = bot.seq - 1 \
             AND customer.role = 'user' JOIN sessions s ON s.id = bot.session_id \
             WHERE bot.role = 'bot' AND bot.decision = 'reply' AND customer.intent IS NOT NULL \
             GROUP BY bot.session_id, customer.intent, s.channel, s.handed_over_at",
        ] {
            sqlx::query(sql).execute(self.connection()).await?;
        }
        self.index_all_tickets().await
    }
}

impl Storage {
    /// Whether no session was ever stored.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn is_empty(&self) -> Result<bool, StorageError> {
        Ok(sqlx::query("SELECT id FROM sessions LIMIT 1").fetch_optional(&self.readers).await?.is_none())
    }

    /// Does at once what the database does by itself some time after many writes.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn settle(&self) -> Result<(), StorageError> {
        let sql = match self.dialect {
            Dialect::Sqlite => "PRAGMA wal_checkpoint(TRUNCATE)",
            Dialect::Postgres => "VACUUM ANALYZE",
        };
        sqlx::query(sql).fetch_optional(&self.writer).await?;
        Ok(())
    }

    /// Bytes of the database, and of the search index in it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn size(&self) -> Result<(i64, i64), StorageError> {
        let sql = match self.dialect {
            Dialect::Sqlite => {
                "SELECT (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size), \
                 (SELECT SUM(LENGTH(block)) FROM ticket_search_data) \
                 + (SELECT SUM(LENGTH(sz)) + 6 * COUNT(*) FROM ticket_search_docsize)"
            }
            Dialect::Postgres => "SELECT pg_database_size(current_database()), pg_total_relation_size('ticket_search')",
        };
        let row = sqlx::query(sql).fetch_one(&self.readers).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }
}
