//! `yingda bench routing`: the same seed gives the same figures, and they are those of a desk.

use serde_json::Value;
use tempfile::tempdir;

use crate::socket::yingda;

/// A day with few sessions, as JSON.
fn day(arguments: &[&str]) -> Value {
    let folder = tempdir().unwrap();
    let all = [&["bench", "routing", "--sessions", "3000", "--agents", "24", "--json"], arguments].concat();
    let output = yingda(&folder.path().join("data"), &all).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn figure(day: &Value, policy: usize, name: &str) -> f64 {
    day["policies"][policy][name].as_f64().unwrap()
}

#[test]
fn a_day_is_the_same_for_the_same_seed() {
    let first = day(&[]);
    assert_eq!(first, day(&[]));
    let other = day(&["--seed", "43"]);
    assert_ne!(first["policies"], other["policies"]);
    // Two days are the mean of both.
    let both = day(&["--seeds", "2"]);
    for policy in 0..3 {
        let mean =
            f64::midpoint(figure(&first, policy, "mean_wait_seconds"), figure(&other, policy, "mean_wait_seconds"));
        assert!((figure(&both, policy, "mean_wait_seconds") - mean).abs() < 1e-6);
    }
}

#[test]
fn a_quiet_day_has_no_queue_and_a_full_one_has() {
    // In one team: by teams, whoever comes when nobody of theirs is there waits for the others.
    let quiet = day(&["--load", "0.2", "--pooled"]);
    let full = day(&["--load", "1.3"]);
    for policy in 0..3 {
        assert!(figure(&quiet, policy, "p95_wait_seconds") < 1.0, "{quiet:#}");
        assert!(figure(&full, policy, "p95_wait_seconds") > 60.0, "{full:#}");
        for day in [&quiet, &full] {
            let longest = figure(day, policy, "longest_wait_seconds");
            assert!(longest >= figure(day, policy, "p95_wait_seconds"));
        }
    }
    // Ours is the first: it finds skills, and no VIP waits long for an agent who is free.
    for day in [&quiet, &full] {
        assert!(figure(day, 0, "skilled") > figure(day, 1, "skilled"));
        assert_eq!(figure(day, 0, "vip_late_while_free"), 0.0);
    }
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let folder = tempdir().unwrap();
    for arguments in [&["--agents", "3"][..], &["--sessions", "0"], &["--seeds", "0"], &["--load", "NaN"]] {
        let all = [&["bench", "routing"], arguments].concat();
        let output = yingda(&folder.path().join("data"), &all).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(arguments[0]), "{said}");
    }
}
