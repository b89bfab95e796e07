//! How often one address may try to log in. Loosely, in the memory of one process: what guards an account is its own lock.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Tries without success that one address has within [`WINDOW`]. A whole office may come from one address.
const TRIES: u32 = 60;
/// Milliseconds after which tries are forgotten.
const WINDOW: i64 = 15 * 60_000;
/// Addresses that are remembered.
const MOST: usize = 10_000;

/// Counts tries by address.
#[derive(Debug, Default)]
pub struct Addresses {
    seen: Mutex<HashMap<IpAddr, Tries>>,
}

#[derive(Debug)]
struct Tries {
    since: i64,
    count: u32,
}

impl Addresses {
    /// Counts a try; the error says for how many milliseconds there will be none.
    ///
    /// # Errors
    ///
    /// When the address has tried too often.
    pub fn count(&self, address: IpAddr, now: i64) -> Result<(), i64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST {
            seen.retain(|_, tries| now - tries.since < WINDOW);
            if seen.len() >= MOST {
                // So many at once are no office. Forgetting them costs less than refusing everybody.
                seen.clear();
            }
        }
        let tries = seen.entry(network(address)).or_insert(Tries { since: now, count: 0 });
        if now - tries.since >= WINDOW {
            *tries = Tries { since: now, count: 0 };
        }
        if tries.count >= TRIES {
            return Err(tries.since + WINDOW - now);
        }
        tries.count += 1;
        Ok(())
    }

    /// Takes a try back that was a success.
    pub fn forgive(&self, address: IpAddr) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tries) = seen.get_mut(&network(address)) {
            tries.count = tries.count.saturating_sub(1);
        }
    }
}

/// Who has one IPv6 address has as many as they like: the first 64 bits tell who it is.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_tries_too_often_waits_and_others_do_not() {
        let addresses = Addresses::default();
        let (bad, good) = (address("203.0.113.7"), address("203.0.113.8"));
        for _ in 0..TRIES {
            assert_eq!(addresses.count(bad, 1000), Ok(()));
        }
        assert_eq!(addresses.count(bad, 61_000), Err(WINDOW - 60_000));
        assert_eq!(addresses.count(good, 61_000), Ok(()));
        assert_eq!(addresses.count(bad, 1000 + WINDOW), Ok(()), "after a while it may try again");
    }

    #[test]
    fn a_success_does_not_count() {
        let addresses = Addresses::default();
        let office = address("203.0.113.7");
        for _ in 0..3 * TRIES {
            assert_eq!(addresses.count(office, 0), Ok(()));
            addresses.forgive(office);
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let addresses = Addresses::default();
        for host in 0..TRIES {
            assert_eq!(addresses.count(address(&format!("2001:db8::{host:x}")), 0), Ok(()));
        }
        assert!(addresses.count(address("2001:db8::ffff"), 0).is_err());
        assert_eq!(addresses.count(address("2001:db8:0:1::1"), 0), Ok(()));
        assert_eq!(network(address("::ffff:203.0.113.7")), address("203.0.113.7"));
    }

    #[test]
    fn memory_has_a_limit() {
        let addresses = Addresses::default();
        for number in 0..3 * MOST as u32 {
            let _ = addresses.count(IpAddr::V4(number.into()), 0);
        }
        assert!(addresses.seen.lock().unwrap().len() <= MOST);
    }
}
