//! The link to a survey: `/survey/{id}.{expires}.{signature}`. Who has it may answer, without a key.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::auth::hmac;

/// Sets these signatures apart from any others that the same secret might make.
const PURPOSE: &[u8] = b"yingda survey ";

fn signed(secret: &[u8], text: &str) -> Hmac<Sha256> {
    let mut code = hmac(secret);
    code.update(PURPOSE);
    code.update(text.as_bytes());
    code
}

/// The last part of a link. `expires_at` in milliseconds since 1970.
pub(super) fn token(secret: &[u8], id: &str, expires_at: i64) -> String {
    let text = format!("{id}.{expires_at}");
    let signature = hex::encode(signed(secret, &text).finalize().into_bytes());
    format!("{text}.{signature}")
}

/// Id and end of the survey that a link of ours names; `None` when any of it was changed.
pub(super) fn read<'a>(secret: &[u8], token: &'a str) -> Option<(&'a str, i64)> {
    let (text, signature) = token.rsplit_once('.')?;
    let (id, expires_at) = text.split_once('.')?;
    // What is signed is compared in constant time.
    signed(secret, text).verify_slice(&hex::decode(signature).ok()?).ok()?;
    Some((id, expires_at.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_was_changed_anywhere_is_none_of_ours() {
        let secret = [7; 32];
        let id = "0198c0de-0000-7000-8000-000000000001";
        let token = token(&secret, id, 1_800_000_000_000);
        assert_eq!(read(&secret, &token), Some((id, 1_800_000_000_000)));
        assert_eq!(read(&[8; 32], &token), None, "another secret");
        for place in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[place] = if other[place] == b'0' { b'1' } else { b'0' };
            assert_eq!(read(&secret, std::str::from_utf8(&other).unwrap()), None, "changed at {place}");
        }
        for bad in ["", ".", "..", "a.b", "a.1.zz", "应答.1.00", &token[..token.len() - 2], &format!("{token}00")] {
            assert_eq!(read(&secret, bad), None, "{bad}");
        }
    }
}
