//! When what failed is tried again.

use sha2::{Digest, Sha256};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// What is waited after the first, the second ... attempt, in milliseconds.
const WAITS: [i64; 6] = [10 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE, HOUR, 6 * HOUR];

/// Milliseconds until the attempt that follows `attempts` failed ones; `None` when it was tried often enough. Up to a tenth is
/// added, chosen by `seed` and always the same for it, so that not everything that failed at once comes back at once.
pub fn retry_in(attempts: i64, seed: &str) -> Option<i64> {
    let wait = *WAITS.get(usize::try_from(attempts.checked_sub(1)?).ok()?)?;
    let chosen = Sha256::digest(format!("{attempts} {seed}"));
    Some(wait + wait / 10 * i64::from(chosen[0]) / 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        for (attempts, seconds) in [(1, 10), (2, 30), (3, 120), (4, 600), (5, 3600), (6, 21_600)] {
            let wait = retry_in(attempts, "seed").unwrap();
            assert!((seconds * SECOND..=seconds * SECOND * 11 / 10).contains(&wait), "{attempts}: {wait}");
        }
        for attempts in [i64::MIN, -1, 0, 7, i64::MAX] {
            assert_eq!(retry_in(attempts, "seed"), None, "{attempts}");
        }
    }

    #[test]
    fn the_same_seed_waits_the_same_and_others_are_spread() {
        assert_eq!(retry_in(3, "a"), retry_in(3, "a"));
        let waits: std::collections::BTreeSet<_> = (0..50).map(|seed| retry_in(6, &seed.to_string())).collect();
        assert!(waits.len() > 30, "{waits:?}");
    }
}
