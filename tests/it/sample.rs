//! Our own sample shop passes our own checks, and its test split shares nothing with the rest.

use std::collections::{BTreeMap, BTreeSet};

use yingda_datasets::{CheckOptions, ColumnMap, Role, check, check_knowledge, has_errors, load, load_knowledge};
use yingda_models::text::TextContract;

use crate::support::sample;

#[test]
fn the_sample_passes_our_own_checker() {
    let contract = TextContract::default();
    for file in ["train.jsonl", "test.jsonl"] {
        let chats = load(&[sample(file)], &ColumnMap::default()).unwrap();
        let report = check(&chats, &CheckOptions::default(), &|text| contract.model_text(text)).unwrap();
        assert!(!report.has_errors(), "{file}\n{}", report.table(20));
    }
    let knowledge = load_knowledge(&[sample("knowledge.jsonl")], &ColumnMap::default()).unwrap();
    let problems = check_knowledge(&knowledge, &|text| contract.model_text(text));
    assert!(!has_errors(&problems), "{problems:?}");
    assert!(knowledge.entries.len() >= 200);
    assert!(knowledge.entries.iter().all(|entry| entry.similar_questions.len() >= 4));
}

#[test]
fn the_sample_is_as_large_and_as_skewed_as_it_says() {
    let messages =
        load(&[sample("train.jsonl"), sample("test.jsonl")], &ColumnMap::default()).unwrap().messages().unwrap();
    let sessions: BTreeSet<&str> = messages.iter().map(|message| message.session_id.as_str()).collect();
    let intents: BTreeSet<&str> = messages.iter().filter_map(|message| message.intent.as_deref()).collect();
    assert!(sessions.len() >= 1500 && messages.len() >= 8000 && intents.len() >= 24);
    assert!(intents.contains("out_of_scope"));
    let mut sentiments = BTreeMap::<&str, f64>::new();
    let feelings: Vec<_> = messages.iter().filter(|m| m.role == Role::User).filter_map(|m| m.sentiment).collect();
    for feeling in &feelings {
        *sentiments.entry(feeling.as_str()).or_default() += 1.0 / feelings.len() as f64;
    }
    assert!((0.70..0.80).contains(&sentiments["neutral"]), "{sentiments:?}");
    assert!((0.12..0.20).contains(&sentiments["negative"]), "{sentiments:?}");
}

/// Long messages that are nearly the same in both would make the test split too easy.
#[test]
fn the_test_split_shares_no_wording_with_training() {
    let texts = |file: &str| -> Vec<String> {
        let contract = TextContract::default();
        let messages = load(&[sample(file)], &ColumnMap::default()).unwrap().messages().unwrap();
        messages.iter().filter(|m| m.role == Role::User).map(|m| contract.model_text(&m.text)).collect()
    };
    let shingles = |text: &str| -> BTreeSet<String> {
        let characters: Vec<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
        characters.windows(3).map(|window| window.iter().collect()).collect()
    };
    let train: Vec<BTreeSet<String>> = texts("train.jsonl").iter().map(|text| shingles(text)).collect();
    for text in texts("test.jsonl").iter().filter(|text| text.chars().count() >= 10) {
        let own = shingles(text);
        for other in &train {
            let shared = own.intersection(other).count();
            let all = own.len() + other.len() - shared;
            assert!((shared as f64) < 0.8 * all as f64, "{text} stands in training too");
        }
    }
}
