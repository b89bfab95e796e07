//! Times and days.

use time::OffsetDateTime;

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// Of a moment in milliseconds since 1970 the day in UTC+8, where the customers are, as `YYYYMMDD`.
pub(crate) fn day(milliseconds: i64) -> i64 {
    let seconds = milliseconds.div_euclid(1000).saturating_add(8 * 3600);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    i64::from(at.year()) * 10_000 + i64::from(u8::from(at.month())) * 100 + i64::from(at.day())
}

/// The day that it is there now.
pub(crate) fn today() -> i64 {
    day(now())
}
