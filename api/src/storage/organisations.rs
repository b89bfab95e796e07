//! Organisations outside the house, and what is shared with them.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::{Storage, StorageError, Tx};
use crate::desk::sharing::{Organisation, Share};

const OF_TEAM: &str = "SELECT * FROM organisations WHERE team = $1";
const SHARE: &str = "SELECT * FROM ticket_shares WHERE ticket_id = $1 AND organisation = $2";

fn organisation(row: &AnyRow) -> Result<Organisation, StorageError> {
    Ok(Organisation {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        team: row.try_get("team")?,
        created_at: row.try_get("created_at")?,
    })
}

fn share(row: &AnyRow) -> Result<Share, StorageError> {
    let sees: String = row.try_get("sees")?;
    Ok(Share {
        ticket_id: row.try_get("ticket_id")?,
        organisation: row.try_get("organisation")?,
        sees: sees.parse().map_err(|()| StorageError::Unknown { what: "the share", value: sees })?,
        after_seq: row.try_get("after_seq")?,
        created_at: row.try_get("created_at")?,
    })
}

/// What an organisation sees of a ticket, read through any connection.
pub(super) async fn share_of(
    connection: &mut AnyConnection,
    ticket_id: &str,
    organisation: &str,
) -> Result<Option<Share>, StorageError> {
    let row = sqlx::query(SHARE).bind(ticket_id).bind(organisation).fetch_optional(connection).await?;
    row.as_ref().map(share).transpose()
}

impl Storage {
    /// All organisations, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn organisations(&self) -> Result<Vec<Organisation>, StorageError> {
        let rows = sqlx::query("SELECT * FROM organisations ORDER BY name").fetch_all(&self.readers).await?;
        rows.iter().map(organisation).collect()
    }

    /// An organisation, if it exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn organisation(&self, id: &str) -> Result<Option<Organisation>, StorageError> {
        let row = sqlx::query("SELECT * FROM organisations WHERE id = $1").bind(id).fetch_optional(&self.readers);
        row.await?.as_ref().map(organisation).transpose()
    }

    /// The organisation to which a team belongs, if to any.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn organisation_of_team(&self, team: &str) -> Result<Option<Organisation>, StorageError> {
        let row = sqlx::query(OF_TEAM).bind(team).fetch_optional(&self.readers).await?;
        row.as_ref().map(organisation).transpose()
    }

    /// The organisation to which the person or key of a name belongs, if to any.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn organisation_of_name(&self, name: &str) -> Result<Option<String>, StorageError> {
        let row = sqlx::query(
            "SELECT organisation FROM users WHERE name = $1 AND organisation IS NOT NULL UNION ALL \
             SELECT organisation FROM api_keys WHERE name = $2 AND organisation IS NOT NULL AND revoked_at IS NULL",
        )
        .bind(name)
        .bind(name)
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// What an organisation sees of a ticket; `None`: nothing.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn share(&self, ticket_id: &str, organisation: &str) -> Result<Option<Share>, StorageError> {
        let row = sqlx::query(SHARE).bind(ticket_id).bind(organisation).fetch_optional(&self.readers).await?;
        row.as_ref().map(share).transpose()
    }

    /// All that is shared with an organisation.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn shares_of(&self, organisation: &str) -> Result<Vec<Share>, StorageError> {
        let sql = "SELECT * FROM ticket_shares WHERE organisation = $1 ORDER BY ticket_id";
        let rows = sqlx::query(sql).bind(organisation).fetch_all(&self.readers).await?;
        rows.iter().map(share).collect()
    }

    /// What is shared with an organisation of the tickets of a session.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn shares_in_session(&self, organisation: &str, session_id: &str) -> Result<Vec<Share>, StorageError> {
        let rows = sqlx::query(
            "SELECT s.* FROM ticket_shares s JOIN tickets t ON t.id = s.ticket_id \
             WHERE s.organisation = $1 AND t.session_id = $2 ORDER BY s.ticket_id",
        )
        .bind(organisation)
        .bind(session_id)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(share).collect()
    }

    /// With whom a ticket is shared, oldest first, each with the organisation's name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn shares_of_ticket(&self, ticket_id: &str) -> Result<Vec<(Share, String)>, StorageError> {
        let rows = sqlx::query(
            "SELECT s.*, o.name AS organisation_name FROM ticket_shares s \
             JOIN organisations o ON o.id = s.organisation WHERE s.ticket_id = $1 ORDER BY s.created_at, o.name",
        )
        .bind(ticket_id)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((share(row)?, row.try_get("organisation_name")?))).collect()
    }
}

impl Tx {
    /// An organisation, if it exists.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn organisation(&mut self, id: &str) -> Result<Option<Organisation>, StorageError> {
        let query = sqlx::query("SELECT * FROM organisations WHERE id = $1").bind(id);
        query.fetch_optional(self.connection()).await?.as_ref().map(organisation).transpose()
    }

    /// The organisation to which a team belongs, if to any.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn organisation_of_team(&mut self, team: &str) -> Result<Option<Organisation>, StorageError> {
        let row = sqlx::query(OF_TEAM).bind(team).fetch_optional(self.connection()).await?;
        row.as_ref().map(organisation).transpose()
    }

    /// Whether another organisation has a name or a team. Lock the people first: nobody else adds one meanwhile.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn has_organisation(&mut self, name: &str, team: &str, but: &str) -> Result<bool, StorageError> {
        let query = sqlx::query("SELECT id FROM organisations WHERE (name = $1 OR team = $2) AND id <> $3");
        Ok(query.bind(name).bind(team).bind(but).fetch_optional(self.connection()).await?.is_some())
    }

    /// Stores a new organisation.
    ///
    /// # Errors
    ///
    /// When the database fails, or another one has its name or its team.
    pub async fn add_organisation(&mut self, new: &Organisation) -> Result<(), StorageError> {
        sqlx::query("INSERT INTO organisations (id, name, team, created_at) VALUES ($1, $2, $3, $4)")
            .bind(new.id.as_str())
            .bind(new.name.as_str())
            .bind(new.team.as_str())
            .bind(new.created_at)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Gives an organisation another name.
    ///
    /// # Errors
    ///
    /// When the database fails, or another one has the name.
    pub async fn rename_organisation(&mut self, id: &str, name: &str) -> Result<(), StorageError> {
        let query = sqlx::query("UPDATE organisations SET name = $2 WHERE id = $1").bind(id).bind(name);
        query.execute(self.connection()).await?;
        Ok(())
    }

    /// What an organisation sees of a ticket; `None`: nothing.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn share(&mut self, ticket_id: &str, organisation: &str) -> Result<Option<Share>, StorageError> {
        share_of(self.connection(), ticket_id, organisation).await
    }

    /// Shares a ticket whose session is locked. What was shared before keeps the turn from which on it was.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn put_share(&mut self, new: &Share) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO ticket_shares (ticket_id, organisation, sees, after_seq, created_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (ticket_id, organisation) DO UPDATE SET sees = excluded.sees",
        )
        .bind(new.ticket_id.as_str())
        .bind(new.organisation.as_str())
        .bind(new.sees.as_str())
        .bind(new.after_seq)
        .bind(new.created_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Takes a ticket back whose session is locked; says whether it was shared.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn remove_share(&mut self, ticket_id: &str, organisation: &str) -> Result<bool, StorageError> {
        let query = sqlx::query("DELETE FROM ticket_shares WHERE ticket_id = $1 AND organisation = $2");
        let done = query.bind(ticket_id).bind(organisation).execute(self.connection()).await?;
        Ok(done.rows_affected() > 0)
    }
}
