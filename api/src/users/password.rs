//! Passwords: what one must be, how it is kept, and how many are worked on at once.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use unicode_normalization::UnicodeNormalization;

use super::UserError;

/// Least characters of a password.
pub const LEAST_CHARACTERS: usize = 10;
/// Most bytes of a password.
pub const MOST_BYTES: usize = 256;

/// Passwords that are worked on at once; each takes 19 MiB while it is.
const AT_ONCE: usize = 4;
/// Passwords that may wait besides; about two seconds of work.
const WAITING: usize = 200;

/// What a password is compared with where there is nobody to compare it with, so that both take as long. No password has it.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Letters and digits that are not taken for one another. There are 32, so that each byte gives one of them evenly.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Checks a new password.
///
/// # Errors
///
/// When it is too short, too long, or the login name.
pub fn check(password: &str, login: &str) -> Result<(), UserError> {
    if password.len() > MOST_BYTES {
        Err(UserError::PasswordLong)
    } else if password.chars().count() < LEAST_CHARACTERS {
        Err(UserError::PasswordShort)
    } else if same_form(password).to_lowercase() == login {
        Err(UserError::PasswordIsLogin)
    } else {
        Ok(())
    }
}

/// A password that nobody can guess: 20 characters of 5 bits each, in four groups.
///
/// # Errors
///
/// When the operating system gives no random numbers.
pub fn random() -> Result<String, UserError> {
    let bytes = random_bytes::<20>()?;
    let letters: Vec<char> = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    Ok(letters.chunks(5).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-"))
}

/// The same password typed on another keyboard may come as other code points.
fn same_form(password: &str) -> String {
    password.nfkc().collect()
}

fn failed(error: impl Display) -> UserError {
    UserError::Hash(error.to_string())
}

fn random_bytes<const N: usize>() -> Result<[u8; N], UserError> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| UserError::Random(error.to_string()))?;
    Ok(bytes)
}

/// What is kept of a password, with this salt. The default parameters are OWASP's: Argon2id, 19 MiB, two passes, one lane.
fn kept(password: &str, salt: Salt, memory: &mut Vec<Block>) -> Result<PasswordHash, UserError> {
    let params = Params::default();
    memory.resize(params.block_count(), Block::new());
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let done = argon2.hash_password_into_with_memory(password.as_bytes(), salt.as_ref(), &mut output, memory);
    done.map_err(failed)?;
    Ok(PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(failed)?,
        salt: Some(salt),
        hash: Some(Output::new(&output).map_err(failed)?),
    })
}

/// Works on passwords away from the threads that serve requests, few at once: each takes memory and a core.
#[derive(Clone)]
pub struct Hashing {
    all: Arc<Semaphore>,
    working: Arc<Semaphore>,
    /// Of earlier work, for the next. Memory that is given back by one thread after the other may stay with the process: a flood
    /// of log-ins would hold several times what is in use.
    memories: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl Default for Hashing {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            working: Arc::new(Semaphore::new(AT_ONCE)),
            memories: Arc::default(),
        }
    }
}

/// The right to work on one password, and the memory for it.
pub struct Turn {
    memory: Vec<Block>,
    memories: Arc<Mutex<Vec<Vec<Block>>>>,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the permits are given back: there are never more memories than turns at once.
        if !self.memory.is_empty() {
            let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
            memories.push(std::mem::take(&mut self.memory));
        }
    }
}

impl Hashing {
    /// Waits until it is one's turn.
    ///
    /// # Errors
    ///
    /// At once, when too many wait already.
    pub async fn turn(&self) -> Result<Turn, UserError> {
        let place = Arc::clone(&self.all).try_acquire_owned().map_err(|_| UserError::Busy)?;
        // The semaphore is never closed.
        let work = Arc::clone(&self.working).acquire_owned().await.map_err(|_| UserError::Busy)?;
        let memory = self.memories.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Ok(Turn { memory, memories: Arc::clone(&self.memories), _permits: [place, work] })
    }
}

impl Turn {
    /// What is kept of a password.
    ///
    /// # Errors
    ///
    /// When the operating system gives no random numbers or the work fails.
    pub async fn hash(self, password: &str) -> Result<String, UserError> {
        let password = same_form(password);
        let salt = Salt::new(&random_bytes::<16>()?).map_err(failed)?;
        self.work(move |memory| Ok(kept(&password, salt, memory)?.to_string())).await
    }

    /// Whether this is the password of a hash. Without a hash it is not, after the same work.
    ///
    /// # Errors
    ///
    /// When the hash is none of ours or the work fails.
    pub async fn verify(self, password: &str, hash: Option<&str>) -> Result<bool, UserError> {
        let password = same_form(password);
        let hash = hash.unwrap_or(NOBODY).to_owned();
        self.work(move |memory| {
            let hash = PasswordHash::new(&hash).map_err(failed)?;
            let salt = hash.salt.ok_or_else(|| failed("a password is kept without a salt"))?;
            let given = kept(&password, salt, memory)?;
            if (given.algorithm, given.version, &given.params) != (hash.algorithm, hash.version, &hash.params) {
                return Err(failed("a password is kept in a way that this version does not know"));
            }
            // Compared in constant time.
            Ok(given.hash == hash.hash)
        })
        .await
    }

    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Vec<Block>) -> Result<T, UserError> + Send + 'static,
    ) -> Result<T, UserError> {
        // The turn ends with the work, also when nobody waits for it any more.
        let done = tokio::task::spawn_blocking(move || {
            let mut turn = self;
            work(&mut turn.memory)
        });
        done.await.map_err(failed)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_neither_short_nor_long_nor_the_login_name() {
        let checked = |password: &str| check(password, "xiaowang-2024");
        assert!(checked("0123456789").is_ok() && checked("一二三四五六七八九十").is_ok());
        assert!(checked("😀😀😀😀😀😀😀😀😀😀").is_ok() && checked("a\0b\0c\0d\0e\0").is_ok());
        assert!(matches!(checked("012345678"), Err(UserError::PasswordShort)));
        assert!(matches!(checked("😀😀😀😀😀😀😀😀😀"), Err(UserError::PasswordShort)));
        assert!(checked(&"x".repeat(256)).is_ok());
        assert!(matches!(checked(&"x".repeat(257)), Err(UserError::PasswordLong)));
        assert!(matches!(checked(&"好".repeat(86)), Err(UserError::PasswordLong)));
        for same in ["xiaowang-2024", "XiaoWang-2024", "ｘｉａｏｗａｎｇ-2024"] {
            assert!(matches!(checked(same), Err(UserError::PasswordIsLogin)), "{same}");
        }
    }

    #[test]
    fn a_random_password_is_new_each_time_and_good_enough() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 23);
        assert!(check(&one, "someone").is_ok());
        let distinct: std::collections::BTreeSet<_> = LETTERS.iter().collect();
        assert_eq!(distinct.len(), 32);
    }

    #[tokio::test]
    async fn a_password_is_kept_as_argon2id_with_the_recommended_parameters() {
        let hashing = Hashing::default();
        let hash = async |password: &str| hashing.turn().await.unwrap().hash(password).await.unwrap();
        let verify =
            async |password: &str, hash: Option<&str>| hashing.turn().await.unwrap().verify(password, hash).await;
        let parameters = "$argon2id$v=19$m=19456,t=2,p=1$";
        let password = "密码 with\0NUL é 😀";
        let (one, two) = (hash(password).await, hash(password).await);
        assert!(one.starts_with(parameters) && one != two, "{one} {two}");
        assert!(verify(password, Some(&one)).await.unwrap());
        assert!(verify("密码 with\0NUL e\u{301} 😀", Some(&one)).await.unwrap(), "another form of the same letters");
        for wrong in ["密码 with\0NUL é", "密码 with", "", &"长".repeat(100_000)] {
            assert!(!verify(wrong, Some(&one)).await.unwrap());
        }
        let weak = one.replace("m=19456", "m=8");
        for other in ["plain", "$argon2id$v=19$m=19456,t=2,p=1", weak.as_str()] {
            assert!(verify(password, Some(other)).await.is_err(), "{other}");
        }
        // What the crate itself makes and checks is the same.
        use argon2::{PasswordHasher as _, PasswordVerifier as _};
        assert!(
            Argon2::default().verify_password(password.nfkc().collect::<String>().as_bytes(), one.as_str()).is_ok()
        );
        let theirs =
            Argon2::default().hash_password_with_salt(b"correct horse", b"sixteen bytes ok").unwrap().to_string();
        assert!(verify("correct horse", Some(&theirs)).await.unwrap());

        // Nobody's hash takes the same work and is no password's.
        assert!(NOBODY.starts_with(parameters) && NOBODY.len() == one.len());
        assert!(!verify(password, None).await.unwrap() && !verify("", None).await.unwrap());
    }

    #[tokio::test]
    async fn few_are_worked_on_at_once_and_not_too_many_wait() {
        let hashing = Hashing::default();
        let mut working = Vec::new();
        for _ in 0..AT_ONCE {
            working.push(hashing.turn().await.unwrap());
        }
        let waiting: Vec<_> = (0..WAITING)
            .map(|_| {
                let hashing = hashing.clone();
                tokio::spawn(async move { hashing.turn().await.map(drop) })
            })
            .collect();
        while hashing.all.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(hashing.turn().await, Err(UserError::Busy)));
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "nobody has a turn beside those who work");
        drop(working);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn however_many_come_memory_is_used_again() {
        let hashing = Hashing::default();
        let mut guesses = tokio::task::JoinSet::new();
        for _ in 0..5 * AT_ONCE {
            let hashing = hashing.clone();
            guesses.spawn(async move { hashing.turn().await.unwrap().verify("guess", None).await.unwrap() });
        }
        assert!(guesses.join_all().await.iter().all(|right| !right));
        let memories = hashing.memories.lock().unwrap();
        assert!((1..=AT_ONCE).contains(&memories.len()), "{}", memories.len());
    }
}
