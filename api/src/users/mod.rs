//! People: their accounts, their log-ins, and what ends those. No HTTP here.
//!
//! Every method is told the time, in milliseconds since 1970.

pub mod addresses;
pub mod password;
#[cfg(test)]
mod tests;

use unicode_normalization::UnicodeNormalization;

use self::password::{Hashing, LEAST_CHARACTERS, MOST_BYTES};
use crate::auth::{self, KeyError, Role};
use crate::storage::{Login, NewLogin, Storage, StorageError, Tx, User, new_id};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Milliseconds after which a browser that asks for nothing is logged out.
pub const IDLE: i64 = 12 * HOUR;
/// Milliseconds after which a browser is logged out in any case.
pub const LONGEST: i64 = 7 * 24 * HOUR;
/// A browser that comes again is noted at most this often, in milliseconds: most requests shall write nothing.
const NOTED: i64 = MINUTE;

/// Wrong passwords within [`FAILURE_WINDOW`] that lock a login name.
const FAILURES: usize = 5;
const FAILURE_WINDOW: i64 = 15 * MINUTE;
/// Milliseconds that the lock lasts.
const LOCK: i64 = 15 * MINUTE;

/// Most characters of a login name, a display name and a team.
const LONGEST_NAME: usize = 64;

/// What people may be.
pub const ROLES: [Role; 3] = [Role::Agent, Role::Supervisor, Role::Admin];

/// Why something cannot be done with an account. The sentences are for the command line.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The login name cannot be one.
    #[error("a login name has 1 to {LONGEST_NAME} letters, digits or signs of . _ - @")]
    LoginForm,
    /// The display name cannot be one.
    #[error("a display name has 1 to {LONGEST_NAME} characters, none of them a control character")]
    NameForm,
    /// The team's name cannot be one.
    #[error("a team has at most {LONGEST_NAME} characters, none of them a control character")]
    TeamForm,
    /// The role is none for people.
    #[error("people are agent, supervisor or admin; caller is for keys")]
    RoleForm,
    /// The password is too short.
    #[error("a password has at least {LEAST_CHARACTERS} characters")]
    PasswordShort,
    /// The password is too long.
    #[error("a password has at most {MOST_BYTES} bytes")]
    PasswordLong,
    /// The password is the login name.
    #[error("the password must not be the login name")]
    PasswordIsLogin,
    /// Somebody has the login name.
    #[error("somebody has the login name `{0}` already")]
    LoginTaken(String),
    /// Somebody has the display name.
    #[error("somebody is called `{0}` already; tickets are assigned by that name, so write another one")]
    NameTaken(String),
    /// The person is known by the old name wherever their tickets are.
    #[error("`{name}` has {tickets} open tickets under that name; transfer or resolve them before it is changed")]
    HasTickets {
        /// The name as it is.
        name: String,
        /// How many are open.
        tickets: i64,
    },
    /// No such organisation.
    #[error("there is no organisation `{0}`")]
    NoOrganisation(String),
    /// Nobody outside the house looks after others.
    #[error("people of an outside organisation are agents")]
    OutsideRole,
    /// No such person.
    #[error("nobody has the login name or id `{0}`; see `yingda users list`")]
    NotFound(String),
    /// Nobody would be left to manage the others.
    #[error("this is the last admin who can log in; make another one first")]
    LastAdmin,
    /// Nobody locks themselves out.
    #[error("nobody can disable their own account")]
    OwnAccount,
    /// There is no such login name, or the password is another one. Which of them is told to nobody.
    #[error("login name or password is wrong")]
    WrongLogin,
    /// The password is right and the account disabled.
    #[error("the account is disabled")]
    Disabled,
    /// Too many wrong passwords came.
    #[error("the login name is locked for another {milliseconds} ms")]
    Locked {
        /// Until a password is looked at again.
        milliseconds: i64,
    },
    /// Too many passwords are worked on.
    #[error("too many people log in at once")]
    Busy,
    /// No randomness.
    #[error("the operating system gave no random numbers: {0}")]
    Random(String),
    /// The work on a password failed.
    #[error("the password cannot be worked on: {0}")]
    Hash(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<KeyError> for UserError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Random(message) => Self::Random(message),
            KeyError::Storage(error) => Self::Storage(error),
        }
    }
}

/// An account to be made.
#[derive(Clone)]
pub struct NewUser {
    /// What they will log in with.
    pub login: String,
    /// The name that others read.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The team that they belong to; nothing or empty for none.
    pub team: Option<String>,
    /// Their first password.
    pub password: String,
}

/// What to change of an account; what is left out stays.
#[derive(Clone, Default)]
pub struct UserChange {
    /// The name that others read.
    pub name: Option<String>,
    /// What they may do.
    pub role: Option<Role>,
    /// The team that they belong to; empty for none.
    pub team: Option<String>,
    /// The organisation outside the house to which they belong, whose team is theirs too; empty for none.
    pub organisation: Option<String>,
    /// Whether they can log in no more.
    pub disabled: Option<bool>,
    /// A new password.
    pub password: Option<String>,
}

/// A browser that was just logged in.
pub struct LoggedIn {
    /// Who.
    pub user: User,
    /// What the browser keeps as its cookie. Only its hash is stored.
    pub token: String,
    /// What the browser must send along with everything that changes something.
    pub csrf_token: String,
}

/// A login name in the form that is kept: in small letters, and the same however it was typed.
///
/// # Errors
///
/// When it is empty, too long, or holds other signs than letters, digits and `. _ - @`.
pub fn checked_login(login: &str) -> Result<String, UserError> {
    let login = login.nfkc().collect::<String>().trim().to_lowercase();
    let fine = |letter: char| letter.is_alphanumeric() || ['.', '_', '-', '@'].contains(&letter);
    let length = login.chars().count();
    if (1..=LONGEST_NAME).contains(&length) && login.chars().all(fine) { Ok(login) } else { Err(UserError::LoginForm) }
}

fn checked_name(name: &str) -> Result<String, UserError> {
    let name = name.trim();
    let length = name.chars().count();
    if (1..=LONGEST_NAME).contains(&length) && !name.chars().any(char::is_control) {
        Ok(name.to_owned())
    } else {
        Err(UserError::NameForm)
    }
}

fn checked_team(team: &str) -> Result<Option<String>, UserError> {
    if team.trim().is_empty() {
        return Ok(None);
    }
    checked_name(team).map(Some).map_err(|_| UserError::TeamForm)
}

fn checked_role(role: Role) -> Result<Role, UserError> {
    if ROLES.contains(&role) { Ok(role) } else { Err(UserError::RoleForm) }
}

/// For how many milliseconds a login name is still locked, by its last wrong passwords, newest first.
fn locked_for(failures: &[i64], at: i64) -> Option<i64> {
    let (newest, oldest) = (failures.first()?, failures.get(FAILURES - 1)?);
    let until = newest + LOCK;
    (newest - oldest < FAILURE_WINDOW && at < until).then_some(until - at)
}

/// What can be done with accounts. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    storage: Storage,
    hashing: Hashing,
}

impl Users {
    /// The accounts of a database.
    pub fn new(storage: Storage) -> Self {
        Self { storage, hashing: Hashing::default() }
    }

    /// Makes an account.
    ///
    /// # Errors
    ///
    /// When a part of it cannot be used, somebody has the login name, or the database fails.
    pub async fn create(&self, new: NewUser, at: i64) -> Result<User, UserError> {
        self.create_in(new, None, at).await
    }

    /// Makes an account of somebody who belongs to an organisation outside the house, if one is named.
    ///
    /// # Errors
    ///
    /// As [`Users::create`], and when there is no such organisation, or they are to be more than an agent.
    pub async fn create_in(&self, new: NewUser, organisation: Option<&str>, at: i64) -> Result<User, UserError> {
        let login = checked_login(&new.login)?;
        let mut user = User {
            id: new_id(),
            name: checked_name(&new.name)?,
            role: checked_role(new.role)?,
            team: new.team.as_deref().map(checked_team).transpose()?.flatten(),
            organisation: None,
            disabled_at: None,
            last_login_at: None,
            created_at: at,
            changed_at: at,
            login,
        };
        password::check(&new.password, &user.login)?;
        let hash = self.hashing.turn().await?.hash(&new.password).await?;
        let mut tx = self.storage.begin().await?;
        tx.lock_users().await?;
        if tx.has_login(&user.login).await? {
            return Err(UserError::LoginTaken(user.login));
        }
        if tx.has_name(&user.name, &user.id).await? {
            return Err(UserError::NameTaken(user.name));
        }
        if let Some(organisation) = organisation {
            put_in(&mut tx, &mut user, organisation).await?;
        }
        tx.add_user(&user, &hash).await?;
        // Whoever tried this name before it was one shall not keep its owner out.
        tx.forget_failures(&user.login).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Changes an account; `by` is the id of the person who does it, if it is one. Another role, organisation or password, and
    /// disabling, log the person out everywhere.
    ///
    /// # Errors
    ///
    /// When nobody has the id, a part of the change cannot be used, tickets are open under the old name, no admin would be left,
    /// people would disable themselves, or the database fails.
    pub async fn change(&self, id: &str, change: UserChange, by: Option<&str>, at: i64) -> Result<User, UserError> {
        let missing = || UserError::NotFound(id.to_owned());
        let login = self.storage.user(id).await?.ok_or_else(missing)?.login;
        let name = change.name.as_deref().map(checked_name).transpose()?;
        let role = change.role.map(checked_role).transpose()?;
        let team = change.team.as_deref().map(checked_team).transpose()?;
        let hash = match &change.password {
            Some(password) => {
                password::check(password, &login)?;
                Some(self.hashing.turn().await?.hash(password).await?)
            }
            None => None,
        };

        let mut tx = self.storage.begin().await?;
        tx.lock_users().await?;
        let before = tx.user(id).await?.ok_or_else(missing)?;
        let mut after = before.clone();
        after.name = name.unwrap_or(after.name);
        after.role = role.unwrap_or(after.role);
        after.team = team.unwrap_or(after.team);
        if let Some(organisation) = &change.organisation {
            put_in(&mut tx, &mut after, organisation).await?;
        }
        if after.organisation.is_some() && after.role != Role::Agent {
            return Err(UserError::OutsideRole);
        }
        after.disabled_at = match change.disabled {
            Some(true) => before.disabled_at.or(Some(at)),
            Some(false) => None,
            None => before.disabled_at,
        };
        after.changed_at = at;
        if tx.has_name(&after.name, id).await? {
            return Err(UserError::NameTaken(after.name));
        }
        if after.name != before.name {
            let tickets = tx.open_tickets_of(&before.name).await?;
            if tickets > 0 {
                return Err(UserError::HasTickets { name: before.name, tickets });
            }
            tx.rename_agent(&before.name, &after.name).await?;
        }
        if by == Some(id) && after.disabled_at.is_some() {
            return Err(UserError::OwnAccount);
        }
        let manages = |user: &User| user.role == Role::Admin && user.disabled_at.is_none();
        if manages(&before) && !manages(&after) && !tx.has_other_admin(id).await? {
            return Err(UserError::LastAdmin);
        }
        tx.update_user(&after, hash.as_deref()).await?;
        let moved = after.role != before.role || after.organisation != before.organisation;
        if hash.is_some() || moved || after.disabled_at.is_some() {
            tx.end_logins_of(id).await?;
        }
        if hash.is_some() || (before.disabled_at.is_some() && after.disabled_at.is_none()) {
            tx.forget_failures(&after.login).await?;
        }
        tx.commit().await?;
        Ok(after)
    }

    /// Logs a browser in.
    ///
    /// # Errors
    ///
    /// When login name or password is wrong, the login name is locked, the account is disabled, too many log in at once, or the
    /// database fails.
    pub async fn log_in(&self, login: &str, password: &str, at: i64) -> Result<LoggedIn, UserError> {
        let (user, hash) = self.prove(login, password, at).await?;
        let mut tx = self.storage.begin().await?;
        // The password may have been changed, or the account disabled, while this one was looked at.
        if !tx.note_login(&user.id, &hash, at).await? {
            return Err(UserError::WrongLogin);
        }
        tx.forget_failures(&user.login).await?;
        let logged_in = new_login(&mut tx, user, at).await?;
        tx.commit().await?;
        Ok(logged_in)
    }

    /// Changes the password of a person who knows the old one. They are logged out everywhere, and logged in anew where they
    /// are.
    ///
    /// # Errors
    ///
    /// As [`Users::log_in`], and when the new password cannot be used.
    pub async fn change_password(&self, login: &str, old: &str, new: &str, at: i64) -> Result<LoggedIn, UserError> {
        password::check(new, login)?;
        let (mut user, old_hash) = self.prove(login, old, at).await?;
        let hash = self.hashing.turn().await?.hash(new).await?;
        let mut tx = self.storage.begin().await?;
        if !tx.note_login(&user.id, &old_hash, at).await? {
            return Err(UserError::WrongLogin);
        }
        // What an admin changed meanwhile stays.
        user = tx.user(&user.id).await?.ok_or(UserError::WrongLogin)?;
        user.changed_at = at;
        tx.update_user(&user, Some(&hash)).await?;
        tx.forget_failures(&user.login).await?;
        tx.end_logins_of(&user.id).await?;
        let logged_in = new_login(&mut tx, user, at).await?;
        tx.commit().await?;
        Ok(logged_in)
    }

    /// Who is logged in with a cookie, if anybody is. That they came is noted.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn logged_in(&self, token: &str, at: i64) -> Result<Option<Login>, StorageError> {
        let hash = auth::hash(token);
        let login = self.storage.login(&hash, at).await?;
        if let Some(login) = &login
            && at - login.last_seen_at >= NOTED
        {
            let expires_at = (at + IDLE).min(login.created_at + LONGEST);
            // Who may read shall be able to, also while the database cannot be written.
            if let Err(error) = self.storage.extend_login(&hash, at, expires_at).await {
                tracing::warn!(%error, "it is not noted that somebody is still there");
            }
        }
        Ok(login)
    }

    /// Logs a browser out.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn log_out(&self, token: &str) -> Result<(), StorageError> {
        self.storage.end_login(&auth::hash(token)).await
    }

    /// Forgets logins that have expired, and wrong passwords that lock nothing any more.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget(&self, at: i64) -> Result<(), StorageError> {
        self.storage.forget_logins(at, at - FAILURE_WINDOW - LOCK).await
    }

    /// The person whose login name and password these are, and the hash of that password. Takes as long for a login name that
    /// nobody has.
    async fn prove(&self, login: &str, password: &str, at: i64) -> Result<(User, String), UserError> {
        let turn = self.hashing.turn().await?;
        let Ok(login) = checked_login(login) else {
            turn.verify(password, None).await?;
            return Err(UserError::WrongLogin);
        };
        self.count_failure(&login, at).await?;
        let known = self.storage.user_by_login(&login).await?;
        let right = turn.verify(password, known.as_ref().map(|(_, hash)| hash.as_str())).await?;
        match known {
            Some((user, _)) if right && user.disabled_at.is_some() => Err(UserError::Disabled),
            Some(known) if right => Ok(known),
            _ => Err(UserError::WrongLogin),
        }
    }

    /// Counts a wrong password before it is looked at; a right one is forgiven afterwards. So many guesses that come at once
    /// are no more guesses than one after the other.
    async fn count_failure(&self, login: &str, at: i64) -> Result<(), UserError> {
        let mut tx = self.storage.begin().await?;
        tx.lock_failures(login).await?;
        let failures = tx.failures(login, FAILURES as i64).await?;
        if let Some(milliseconds) = locked_for(&failures, at) {
            return Err(UserError::Locked { milliseconds });
        }
        tx.add_failure(login, at).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Puts a person into an organisation, whose team is theirs from then on; an empty one takes them out.
async fn put_in(tx: &mut Tx, user: &mut User, organisation: &str) -> Result<(), UserError> {
    if organisation.is_empty() {
        user.organisation = None;
        return Ok(());
    }
    let missing = || UserError::NoOrganisation(organisation.to_owned());
    let id = uuid::Uuid::try_parse(organisation).map_err(|_| missing())?.to_string();
    let organisation = tx.organisation(&id).await?.ok_or_else(missing)?;
    if user.role != Role::Agent {
        return Err(UserError::OutsideRole);
    }
    (user.organisation, user.team) = (Some(organisation.id), Some(organisation.team));
    Ok(())
}

async fn new_login(tx: &mut Tx, user: User, at: i64) -> Result<LoggedIn, UserError> {
    let (token, csrf_token) = (auth::secret()?, auth::secret()?);
    let new = NewLogin {
        token_hash: &auth::hash(&token),
        user_id: &user.id,
        csrf_token: &csrf_token,
        at,
        expires_at: at + IDLE,
    };
    tx.add_login(new).await?;
    Ok(LoggedIn { user: User { last_login_at: Some(at), ..user }, token, csrf_token })
}
