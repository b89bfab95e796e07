//! How a receiver knows that a message is ours and new.

use hmac::Mac;

use crate::auth::hmac;

/// What every secret of a webhook begins with, so that a leaked one is recognised.
pub(super) const PREFIX: &str = "whsec_";

/// The header `X-Yingda-Signature` of a body: `t=<seconds>,v1=<hex>`, where the second part is the HMAC-SHA256 of `<seconds>.<body>`
/// with the whole secret as its key. `seconds` since 1970.
pub fn signature(secret: &str, seconds: i64, body: &str) -> String {
    let mut mac = hmac(secret.as_bytes());
    mac.update(format!("{seconds}.{body}").as_bytes());
    format!("t={seconds},v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also computed with Python's `hmac.new(b"whsec_test", b"1700000000.{}", "sha256").hexdigest()`.
    #[test]
    fn a_signature_is_the_one_that_others_compute() {
        let expected = "35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91";
        assert_eq!(signature("whsec_test", 1_700_000_000, "{}"), format!("t=1700000000,v1={expected}"));
    }

    #[test]
    fn secret_time_and_body_all_count() {
        let signed = signature("whsec_test", 1_700_000_000, "{}");
        assert_ne!(signed, signature("whsec_other", 1_700_000_000, "{}"));
        assert_ne!(signed[13..], signature("whsec_test", 1_700_000_001, "{}")[13..]);
        assert_ne!(signed, signature("whsec_test", 1_700_000_000, "{ }"));
    }
}
