//! Who may do what: API keys, people, and their roles.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::storage::{KeyRecord, Storage, StorageError, User};

/// What every key of ours starts with, so that a leaked one is recognised.
const PREFIX: &str = "yd_";

/// What a key or a person may do. Each role may also do what the ones before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sends messages and reads sessions.
    Caller,
    /// Works tickets.
    Agent,
    /// Looks after agents and their tickets.
    Supervisor,
    /// Reloads the model and manages keys and people.
    Admin,
}

impl Role {
    /// All roles, the smallest first.
    pub const ALL: [Self; 4] = [Self::Caller, Self::Agent, Self::Supervisor, Self::Admin];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Agent => "agent",
            Self::Supervisor => "supervisor",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// How somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// By an API key.
    Key,
    /// A person, by the cookie of their browser.
    User,
    /// Not at all: the service asks for nothing.
    Open,
}

/// Who came with a request.
#[derive(Clone, Debug)]
pub struct Identity {
    /// How they are known.
    pub kind: IdentityKind,
    /// Id of the key or the person; `open` when the service asks for none.
    pub id: String,
    /// Name of the key, or the person's display name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The person's team.
    pub team: Option<String>,
    /// The organisation outside the house to which they belong.
    pub organisation: Option<String>,
}

impl Identity {
    /// Whoever comes to a service that was started with `--open`.
    pub fn open() -> Self {
        Self::new(IdentityKind::Open, "open".to_owned(), "open".to_owned(), Role::Admin)
    }

    /// Whoever comes with a key.
    pub fn key(key: KeyRecord) -> Self {
        Self::new(IdentityKind::Key, key.id, key.name, key.role).of(key.organisation)
    }

    /// A person who is logged in.
    pub fn user(user: &User) -> Self {
        let identity = Self::new(IdentityKind::User, user.id.clone(), user.name.clone(), user.role);
        Self { team: user.team.clone(), ..identity }.of(user.organisation.clone())
    }

    /// Whoever is outside is an agent at most, whatever stands in the database.
    fn of(self, organisation: Option<String>) -> Self {
        let role = if organisation.is_some() { self.role.min(Role::Agent) } else { self.role };
        Self { role, organisation, ..self }
    }

    fn new(kind: IdentityKind, id: String, name: String, role: Role) -> Self {
        Self { kind, id, name, role, team: None, organisation: None }
    }
}

/// What is wrong with the machine when no secret can be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No randomness.
    #[error("the operating system gave no random numbers: {0}")]
    Random(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// 32 random bytes in hex.
pub(crate) fn secret() -> Result<String, KeyError> {
    let mut bytes = [0_u8; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(hex::encode(bytes))
}

/// The HMAC-SHA256 (RFC 2104) that a secret of any length makes of what goes into it.
pub(crate) fn hmac(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("an HMAC takes a key of any length")
}

fn new_key() -> Result<String, KeyError> {
    Ok(format!("{PREFIX}{}", secret()?))
}

/// What is kept of a key or a cookie. Each holds 256 random bits, so a plain hash is enough: there is nothing to guess.
pub fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// Makes a key; the second part is the key itself, which can never be read again.
///
/// # Errors
///
/// When the database or the machine's randomness fails.
pub async fn create_key(storage: &Storage, name: &str, role: Role) -> Result<(KeyRecord, String), KeyError> {
    let key = new_key()?;
    let mut tx = storage.begin().await?;
    let record = tx.add_key(name, role, &hash(&key)).await?;
    tx.commit().await?;
    Ok((record, key))
}

/// Makes an agent's key for an organisation outside the house, `None` when there is no such organisation; the second part is the key
/// itself, which can never be read again.
///
/// # Errors
///
/// When the database or the machine's randomness fails.
pub async fn create_outside_key(
    storage: &Storage,
    name: &str,
    organisation: &str,
) -> Result<Option<(KeyRecord, String)>, KeyError> {
    let key = new_key()?;
    let mut tx = storage.begin().await?;
    if tx.organisation(organisation).await?.is_none() {
        return Ok(None);
    }
    let record = tx.add_outside_key(name, organisation, &hash(&key)).await?;
    tx.commit().await?;
    Ok(Some((record, key)))
}

/// Makes an admin key if there has never been any key.
///
/// # Errors
///
/// When the database or the machine's randomness fails.
pub async fn first_key(storage: &Storage) -> Result<Option<String>, KeyError> {
    let mut tx = storage.begin().await?;
    tx.lock_keys().await?;
    if tx.has_keys().await? {
        return Ok(None);
    }
    let key = new_key()?;
    tx.add_key("first", Role::Admin, &hash(&key)).await?;
    tx.commit().await?;
    Ok(Some(key))
}

/// Whose key this is, if it is one.
///
/// # Errors
///
/// When the database fails.
pub async fn identify(storage: &Storage, key: &str) -> Result<Option<Identity>, StorageError> {
    if !key.starts_with(PREFIX) || key.len() > 256 {
        return Ok(None);
    }
    Ok(storage.key_by_hash(&hash(key)).await?.map(Identity::key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_long_random_and_recognisable() {
        let (one, two) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!(one, two);
        assert!(one.starts_with("yd_"));
        assert_eq!(one.len(), 3 + 64);
    }

    #[test]
    fn the_hash_is_sha256_in_hex() {
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn roles_are_ordered_and_read_back() {
        assert!(Role::Caller < Role::Agent && Role::Agent < Role::Supervisor && Role::Supervisor < Role::Admin);
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
    }
}
