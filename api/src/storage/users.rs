//! People, the browsers in which they are logged in, and wrong passwords. Of passwords and cookies only hashes are kept.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Dialect, Storage, StorageError, Tx, new_id};
use crate::auth::Role;

/// A person who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Their id.
    pub id: String,
    /// What they log in with, in small letters.
    pub login: String,
    /// The name that others read.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The team that they belong to.
    pub team: Option<String>,
    /// The organisation outside the house to which they belong.
    pub organisation: Option<String>,
    /// Since when they cannot log in.
    pub disabled_at: Option<i64>,
    /// When they last logged in.
    pub last_login_at: Option<i64>,
    /// When the account was made.
    pub created_at: i64,
    /// When an admin or they themselves last changed it.
    pub changed_at: i64,
}

/// A browser in which somebody is logged in.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who.
    pub user: User,
    /// What the browser must send along with everything that changes something.
    pub csrf_token: String,
    /// When they logged in.
    pub created_at: i64,
    /// About when the browser last asked for something.
    pub last_seen_at: i64,
}

/// A login to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewLogin<'a> {
    /// Hash of the cookie.
    pub token_hash: &'a str,
    /// Who is logged in.
    pub user_id: &'a str,
    /// What the browser must send along.
    pub csrf_token: &'a str,
    /// Now.
    pub at: i64,
    /// When it ends unless the browser comes again.
    pub expires_at: i64,
}

fn user(row: &AnyRow) -> Result<User, StorageError> {
    let role: String = row.try_get("role")?;
    Ok(User {
        id: row.try_get("id")?,
        login: row.try_get("login")?,
        name: row.try_get("name")?,
        role: role.parse().map_err(|()| StorageError::Unknown { what: "the role", value: role })?,
        team: row.try_get("team")?,
        organisation: row.try_get("organisation")?,
        disabled_at: row.try_get("disabled_at")?,
        last_login_at: row.try_get("last_login_at")?,
        created_at: row.try_get("created_at")?,
        changed_at: row.try_get("changed_at")?,
    })
}

impl Storage {
    /// All people, by login name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn users(&self) -> Result<Vec<User>, StorageError> {
        let rows = sqlx::query("SELECT * FROM users ORDER BY login").fetch_all(&self.readers).await?;
        rows.iter().map(user).collect()
    }

    /// A person, if they exist.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn user(&self, id: &str) -> Result<Option<User>, StorageError> {
        let row = sqlx::query("SELECT * FROM users WHERE id = $1").bind(id).fetch_optional(&self.readers).await?;
        row.as_ref().map(user).transpose()
    }

    /// The person with this login name, and the hash of their password.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn user_by_login(&self, login: &str) -> Result<Option<(User, String)>, StorageError> {
        let row = sqlx::query("SELECT * FROM users WHERE login = $1").bind(login).fetch_optional(&self.readers).await?;
        row.map(|row| Ok((user(&row)?, row.try_get("password_hash")?))).transpose()
    }

    /// Who is logged in with a cookie of this hash, unless that has expired or they were disabled.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn login(&self, token_hash: &str, at: i64) -> Result<Option<Login>, StorageError> {
        let row = sqlx::query(
            "SELECT users.*, logins.csrf_token, logins.created_at AS logged_in_at, logins.last_seen_at \
             FROM logins JOIN users ON users.id = logins.user_id \
             WHERE logins.token_hash = $1 AND logins.expires_at > $2 AND users.disabled_at IS NULL",
        )
        .bind(token_hash)
        .bind(at)
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| {
            Ok(Login {
                user: user(&row)?,
                csrf_token: row.try_get("csrf_token")?,
                created_at: row.try_get("logged_in_at")?,
                last_seen_at: row.try_get("last_seen_at")?,
            })
        })
        .transpose()
    }

    /// Notes that a browser came again.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn extend_login(&self, token_hash: &str, at: i64, expires_at: i64) -> Result<(), StorageError> {
        sqlx::query("UPDATE logins SET last_seen_at = $2, expires_at = $3 WHERE token_hash = $1")
            .bind(token_hash)
            .bind(at)
            .bind(expires_at)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Logs a browser out.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn end_login(&self, token_hash: &str) -> Result<(), StorageError> {
        sqlx::query("DELETE FROM logins WHERE token_hash = $1").bind(token_hash).execute(&self.writer).await?;
        Ok(())
    }

    /// Removes logins that expired before now, and wrong passwords from before `failures_before`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget_logins(&self, at: i64, failures_before: i64) -> Result<(), StorageError> {
        sqlx::query("DELETE FROM logins WHERE expires_at <= $1").bind(at).execute(&self.writer).await?;
        sqlx::query("DELETE FROM login_failures WHERE at < $1").bind(failures_before).execute(&self.writer).await?;
        Ok(())
    }
}

impl Tx {
    /// Waits until nobody else makes or changes people, in any replica.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn lock_users(&mut self) -> Result<(), StorageError> {
        if self.dialect == Dialect::Postgres {
            sqlx::query("SELECT 1 FROM pg_advisory_xact_lock(20250712)").execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Waits until nobody else counts wrong passwords of this login name, in any replica.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn lock_failures(&mut self, login: &str) -> Result<(), StorageError> {
        if self.dialect == Dialect::Postgres {
            sqlx::query("SELECT 1 FROM pg_advisory_xact_lock(20250713, hashtext($1))")
                .bind(login)
                .execute(self.connection())
                .await?;
        }
        Ok(())
    }

    /// A person, if they exist.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn user(&mut self, id: &str) -> Result<Option<User>, StorageError> {
        let row = sqlx::query("SELECT * FROM users WHERE id = $1").bind(id).fetch_optional(self.connection()).await?;
        row.as_ref().map(user).transpose()
    }

    /// How many open tickets a person has, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn open_tickets_of(&mut self, name: &str) -> Result<i64, StorageError> {
        let row = sqlx::query(
            "SELECT COUNT(*) FROM tickets WHERE assignee = $1 \
             AND status IN ('new', 'assigned', 'in_progress', 'waiting_customer')",
        )
        .bind(name)
        .fetch_one(self.connection())
        .await?;
        Ok(row.try_get(0)?)
    }

    /// Who is listed at the desk under one name is listed under another. What is listed under that name already stays.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn rename_agent(&mut self, from: &str, to: &str) -> Result<(), StorageError> {
        for sql in [
            "DELETE FROM agents WHERE name = $1 AND EXISTS (SELECT 1 FROM agents WHERE name = $2)",
            "UPDATE agents SET name = $2 WHERE name = $1",
        ] {
            sqlx::query(sql).bind(from).bind(to).execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Whether somebody has this login name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn has_login(&mut self, login: &str) -> Result<bool, StorageError> {
        let row = sqlx::query("SELECT id FROM users WHERE login = $1").bind(login);
        Ok(row.fetch_optional(self.connection()).await?.is_some())
    }

    /// Whether anybody else has a display name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn has_name(&mut self, name: &str, id: &str) -> Result<bool, StorageError> {
        let row = sqlx::query("SELECT id FROM users WHERE name = $1 AND id <> $2").bind(name).bind(id);
        Ok(row.fetch_optional(self.connection()).await?.is_some())
    }

    /// Whether anybody else is an admin who may log in.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn has_other_admin(&mut self, id: &str) -> Result<bool, StorageError> {
        let row = sqlx::query("SELECT id FROM users WHERE role = 'admin' AND disabled_at IS NULL AND id <> $1 LIMIT 1")
            .bind(id);
        Ok(row.fetch_optional(self.connection()).await?.is_some())
    }

    /// Stores a new person.
    ///
    /// # Errors
    ///
    /// When the database fails, or somebody has the login name.
    pub async fn add_user(&mut self, user: &User, password_hash: &str) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO users (id, login, name, role, team, password_hash, disabled_at, last_login_at, created_at, changed_at, \
             organisation) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .persistent(false)
        .bind(user.id.as_str())
        .bind(user.login.as_str())
        .bind(user.name.as_str())
        .bind(user.role.as_str())
        .bind(user.team.as_deref())
        .bind(password_hash)
        .bind(user.disabled_at)
        .bind(user.last_login_at)
        .bind(user.created_at)
        .bind(user.changed_at)
        .bind(user.organisation.as_deref())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Stores what may change of a person; without a hash the password stays.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn update_user(&mut self, user: &User, password_hash: Option<&str>) -> Result<(), StorageError> {
        sqlx::query(
            "UPDATE users SET name = $2, role = $3, team = $4, disabled_at = $5, changed_at = $6, \
             password_hash = COALESCE($7, password_hash), organisation = $8 WHERE id = $1",
        )
        .persistent(false)
        .bind(user.id.as_str())
        .bind(user.name.as_str())
        .bind(user.role.as_str())
        .bind(user.team.as_deref())
        .bind(user.disabled_at)
        .bind(user.changed_at)
        .bind(password_hash)
        .bind(user.organisation.as_deref())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Notes that somebody gave the password of this hash, and locks them until the transaction ends; `false` when that is not
    /// their password any more, or they cannot log in.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn note_login(&mut self, id: &str, password_hash: &str, at: i64) -> Result<bool, StorageError> {
        let done = sqlx::query(
            "UPDATE users SET last_login_at = $3 WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL",
        )
        .bind(id)
        .bind(password_hash)
        .bind(at)
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Logs a browser in.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_login(&mut self, new: NewLogin<'_>) -> Result<(), StorageError> {
        sqlx::query(
            "INSERT INTO logins (token_hash, user_id, csrf_token, created_at, last_seen_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(new.token_hash)
        .bind(new.user_id)
        .bind(new.csrf_token)
        .bind(new.at)
        .bind(new.at)
        .bind(new.expires_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Logs a person out everywhere. Change them first: whoever logs in at the same time is then either refused or logged out.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn end_logins_of(&mut self, user_id: &str) -> Result<(), StorageError> {
        sqlx::query("DELETE FROM logins WHERE user_id = $1").bind(user_id).execute(self.connection()).await?;
        Ok(())
    }

    /// When the last wrong passwords of a login name came, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn failures(&mut self, login: &str, limit: i64) -> Result<Vec<i64>, StorageError> {
        let rows = sqlx::query("SELECT at FROM login_failures WHERE login = $1 ORDER BY at DESC LIMIT $2")
            .bind(login)
            .bind(limit)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| Ok(row.try_get("at")?)).collect()
    }

    /// Counts a wrong password.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn add_failure(&mut self, login: &str, at: i64) -> Result<(), StorageError> {
        sqlx::query("INSERT INTO login_failures (id, login, at) VALUES ($1, $2, $3)")
            .bind(new_id())
            .bind(login)
            .bind(at)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Forgets the wrong passwords of a login name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget_failures(&mut self, login: &str) -> Result<(), StorageError> {
        sqlx::query("DELETE FROM login_failures WHERE login = $1").bind(login).execute(self.connection()).await?;
        Ok(())
    }
}
