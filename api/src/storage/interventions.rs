//! Interventions: what rules did about tickets, the money they may spend, and alerts that nobody has seen.

use std::collections::{HashMap, HashSet};

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::tickets::{OPEN, ticket};
use super::{Storage, StorageError, Tx};
use crate::desk::Ticket;
use crate::desk::intervention::{Alert, Coupon, NewIntervention, Pending, Refusal};

fn alert(row: &AnyRow) -> Result<Alert, StorageError> {
    Ok(Alert {
        id: row.try_get("alert_id")?,
        rule: row.try_get("rule")?,
        ticket: ticket(row)?,
        created_at: row.try_get("told_at")?,
        acknowledged_by: row.try_get("acknowledged_by")?,
    })
}

/// Alerts with their tickets.
const ALERTS: &str = "SELECT t.*, i.id AS alert_id, i.rule, i.created_at AS told_at, i.acknowledged_by \
                      FROM interventions i JOIN tickets t ON t.id = i.ticket_id WHERE i.action = 'supervisor_alert'";

impl Storage {
    /// Of all open tickets: how likely each of the customer's messages is negative, from the one that led to the ticket, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn moods(&self) -> Result<HashMap<String, Vec<f64>>, StorageError> {
        let sql = format!(
            "SELECT t.id, u.sentiment_negative FROM tickets t \
             JOIN turns u ON u.session_id = t.session_id AND u.seq >= t.from_seq \
             WHERE t.status IN {OPEN} AND u.role = 'user' AND u.sentiment_negative IS NOT NULL ORDER BY t.id, u.seq"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.readers).await?;
        let mut moods: HashMap<String, Vec<f64>> = HashMap::new();
        for row in &rows {
            moods.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
        }
        Ok(moods)
    }

    /// Open tickets of which a target was missed, since they began again at the last.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn missed_targets(&self) -> Result<HashSet<String>, StorageError> {
        let sql = format!(
            "SELECT DISTINCT m.ticket_id FROM service_level_marks m \
             JOIN tickets t ON t.id = m.ticket_id AND t.reopened = m.round \
             WHERE m.state = 'breached' AND t.status IN {OPEN}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Tickets that were rated since a moment, with the score.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn rated_since(&self, since: i64) -> Result<Vec<(Ticket, i64)>, StorageError> {
        let rows = sqlx::query(
            "SELECT t.*, r.score FROM ratings r JOIN tickets t ON t.id = r.ticket_id WHERE r.created_at >= $1 ORDER BY t.id",
        )
        .bind(since)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((ticket(row)?, row.try_get("score")?))).collect()
    }

    /// Ticket and rule of each intervention about open tickets and those that were rated since a moment.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn interventions_since(&self, since: i64) -> Result<HashSet<(String, String)>, StorageError> {
        let sql = format!(
            "SELECT i.ticket_id, i.rule FROM interventions i JOIN tickets t ON t.id = i.ticket_id WHERE t.status IN {OPEN} \
             UNION SELECT i.ticket_id, i.rule FROM interventions i JOIN ratings r ON r.ticket_id = i.ticket_id \
             WHERE r.created_at >= $1"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(since).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Coupons that are to be asked for at a moment, the oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn pending_interventions(&self, at: i64, limit: i64) -> Result<Vec<Pending>, StorageError> {
        let rows = sqlx::query(
            "SELECT id, ticket_id, rule, COALESCE(user_id, '') AS customer, amount_fen, month, attempts FROM interventions \
             WHERE state = 'pending' AND next_at <= $1 ORDER BY id LIMIT $2",
        )
        .bind(at)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Pending {
                    id: row.try_get("id")?,
                    ticket_id: row.try_get("ticket_id")?,
                    rule: row.try_get("rule")?,
                    user_id: row.try_get("customer")?,
                    amount_fen: row.try_get("amount_fen")?,
                    month: row.try_get("month")?,
                    attempts: row.try_get("attempts")?,
                })
            })
            .collect()
    }

    /// Notes that a coupon is asked for, and when it may be again; says whether nobody else has noted it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn begin_coupon_attempt(&self, pending: &Pending, next_at: i64) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "UPDATE interventions SET attempts = attempts + 1, next_at = $2 \
             WHERE id = $1 AND state = 'pending' AND attempts = $3",
        )
        .bind(pending.id.as_str())
        .bind(next_at)
        .bind(pending.attempts)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// What a rule has spent in a month, in fen, with what is on its way.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn spent(&self, rule: &str, month: &str) -> Result<i64, StorageError> {
        let row = sqlx::query("SELECT spent_fen FROM intervention_budgets WHERE rule = $1 AND month = $2")
            .bind(rule)
            .bind(month)
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    /// Alerts that nobody has seen, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn alerts(&self, limit: i64) -> Result<Vec<Alert>, StorageError> {
        let sql = format!("{ALERTS} AND i.acknowledged_at IS NULL ORDER BY i.id LIMIT $1");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(limit).fetch_all(&self.readers).await?;
        rows.iter().map(alert).collect()
    }

    /// An alert, if it exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn alert(&self, id: &str) -> Result<Option<Alert>, StorageError> {
        let sql = format!("{ALERTS} AND i.id = $1");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_optional(&self.readers).await?;
        row.as_ref().map(alert).transpose()
    }
}

impl Tx {
    /// Notes an intervention; says whether the rule had not intervened in this ticket.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_intervention(&mut self, new: &NewIntervention<'_>) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "INSERT INTO interventions (id, ticket_id, rule, action, state, user_id, amount_fen, month, attempts, next_at, \
             created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10) ON CONFLICT (ticket_id, rule) DO NOTHING",
        )
        .persistent(false)
        .bind(new.id.as_str())
        .bind(new.ticket_id)
        .bind(new.rule)
        .bind(new.action)
        .bind(new.state)
        .bind(new.user_id)
        .bind(new.amount_fen)
        .bind(new.month)
        .bind(new.at)
        .bind(new.at)
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Sets the money of a coupon aside and counts it for its customer, or says why not; then nothing is.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn set_aside(
        &mut self,
        new: &NewIntervention<'_>,
        user_id: &str,
        coupon: &Coupon,
    ) -> Result<Option<Refusal>, StorageError> {
        sqlx::query(
            "INSERT INTO intervention_budgets (rule, month, spent_fen) VALUES ($1, $2, 0) ON CONFLICT (rule, month) DO NOTHING",
        )
        .bind(new.rule)
        .bind(new.month)
        .execute(self.connection())
        .await?;
        // The comparison is made with the row locked, so that however many spend at once the sum stays within the budget.
        let spent = sqlx::query(
            "UPDATE intervention_budgets SET spent_fen = spent_fen + $3 \
             WHERE rule = $1 AND month = $2 AND spent_fen + $4 <= $5",
        )
        .bind(new.rule)
        .bind(new.month)
        .bind(coupon.amount_fen)
        .bind(coupon.amount_fen)
        .bind(coupon.budget_fen)
        .execute(self.connection())
        .await?;
        if spent.rows_affected() == 0 {
            return Ok(Some(Refusal::Budget));
        }
        sqlx::query(
            "INSERT INTO intervention_customers (rule, month, user_id, coupons) VALUES ($1, $2, $3, 0) \
             ON CONFLICT (rule, month, user_id) DO NOTHING",
        )
        .bind(new.rule)
        .bind(new.month)
        .bind(user_id)
        .execute(self.connection())
        .await?;
        let counted = sqlx::query(
            "UPDATE intervention_customers SET coupons = coupons + 1 \
             WHERE rule = $1 AND month = $2 AND user_id = $3 AND coupons < $4",
        )
        .bind(new.rule)
        .bind(new.month)
        .bind(user_id)
        .bind(coupon.customer_limit)
        .execute(self.connection())
        .await?;
        if counted.rows_affected() > 0 {
            return Ok(None);
        }
        self.return_money(new.rule, new.month, coupon.amount_fen).await?;
        Ok(Some(Refusal::CustomerLimit))
    }

    /// Gives back what was set aside for a coupon that is not given.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn give_back(&mut self, pending: &Pending) -> Result<(), StorageError> {
        self.return_money(&pending.rule, &pending.month, pending.amount_fen).await?;
        sqlx::query(
            "UPDATE intervention_customers SET coupons = coupons - 1 WHERE rule = $1 AND month = $2 AND user_id = $3",
        )
        .bind(pending.rule.as_str())
        .bind(pending.month.as_str())
        .bind(pending.user_id.as_str())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn return_money(&mut self, rule: &str, month: &str, amount_fen: i64) -> Result<(), StorageError> {
        sqlx::query("UPDATE intervention_budgets SET spent_fen = spent_fen - $3 WHERE rule = $1 AND month = $2")
            .bind(rule)
            .bind(month)
            .bind(amount_fen)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Notes how an intervention that was pending ended; says whether it was.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn settle_intervention(&mut self, id: &str, state: &str) -> Result<bool, StorageError> {
        let done = sqlx::query("UPDATE interventions SET state = $2 WHERE id = $1 AND state = 'pending'")
            .bind(id)
            .bind(state)
            .execute(self.connection())
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes that somebody has seen an alert; says whether nobody had.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn acknowledge_alert(&mut self, id: &str, by: &str, at: i64) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "UPDATE interventions SET acknowledged_by = $2, acknowledged_at = $3 \
             WHERE id = $1 AND action = 'supervisor_alert' AND acknowledged_at IS NULL",
        )
        .bind(id)
        .bind(by)
        .bind(at)
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
