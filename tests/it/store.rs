//! What a reply store promises, asked of both its homes: in this process, at a server (a stand-in), and at a real server where
//! `YINGDA_TEST_QDRANT_URL` (and `YINGDA_TEST_QDRANT_API_KEY`, if it wants one) says where one is.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use qdrant_client::{
    Qdrant,
    qdrant::{
        CreateAliasBuilder, CreateCollectionBuilder, Distance, Modifier, SparseVectorParamsBuilder,
        SparseVectorsConfigBuilder, VectorParamsBuilder, VectorsConfigBuilder,
    },
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use yingda_engine::{
    EngineError, Hit, KnowledgeEntry, StoreConfig, Tuning,
    store::{
        Candidate, Change, Contents, EdgeStore, FORMAT, Method, ReplyStore, Scope, SearchQuery, ServerSettings, Store,
        StoredReply,
    },
    terms::Terms,
};

use crate::qdrant_stand_in::StandIn;

const MODEL: &str = "yingda-test@000000000001";
const ANOTHER_MODEL: &str = "yingda-test@000000000002";
const DIMENSION: usize = 16;
const TODAY: i64 = 20_260_309;
const KEY: &str = "a-key-that-nobody-guesses";
const ALIAS: &str = "replies";

// The homes.

fn edge(folder: &Path) -> StoreConfig {
    StoreConfig::Edge { path: folder.join("replies") }
}

fn at(stand_in: &StandIn, api_key: Option<&str>) -> StoreConfig {
    StoreConfig::Server {
        url: stand_in.url(),
        api_key: api_key.map(str::to_owned),
        collection: ALIAS.into(),
        settings: ServerSettings::default(),
    }
}

async fn open(config: &StoreConfig) -> Store {
    Store::open(config).await.unwrap()
}

async fn refusal(config: &StoreConfig) -> String {
    Store::open(config).await.err().unwrap().to_string()
}

/// A collection of our own at a real server; removed when dropped, also when the test fails.
struct RealServer {
    url: String,
    api_key: Option<String>,
    alias: String,
}

impl RealServer {
    fn from_environment() -> Option<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Self {
            url: variable("YINGDA_TEST_QDRANT_URL")?,
            api_key: variable("YINGDA_TEST_QDRANT_API_KEY"),
            alias: format!("yingda-test-{}", uuid::Uuid::now_v7().simple()),
        })
    }

    fn config(&self) -> StoreConfig {
        StoreConfig::Server {
            url: self.url.clone(),
            api_key: self.api_key.clone(),
            collection: self.alias.clone(),
            settings: ServerSettings::default(),
        }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let clean = async {
            let client =
                Qdrant::from_url(&self.url).api_key(self.api_key.clone()).skip_compatibility_check().build()?;
            for collection in client.list_collections().await?.collections {
                if collection.name.starts_with(&self.alias) {
                    client.delete_collection(collection.name).await?;
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        // A thread of its own, because the test's runtime is busy dropping this.
        let cleaned = std::thread::scope(|scope| {
            let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            scope.spawn(move || runtime().block_on(clean)).join()
        });
        if !matches!(cleaned, Ok(Ok(()))) {
            say(&format!("collections {}* may be left at {}: {cleaned:?}", self.alias, self.url));
        }
    }
}

/// A line that is seen although the test passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

// What is stored and asked.

fn entry(id: &str) -> KnowledgeEntry {
    KnowledgeEntry {
        id: id.into(),
        question: format!("{id}是什么？"),
        answer: format!("{id}的答案"),
        intent: Some("咨询".into()),
        tags: vec!["测试".into()],
        ..KnowledgeEntry::default()
    }
}

fn reply(id: &str, embedding: Vec<f32>) -> StoredReply {
    worded(id, &format!("{id}是什么？"), embedding)
}

fn worded(id: &str, wording: &str, embedding: Vec<f32>) -> StoredReply {
    StoredReply { entry: entry(id), wording: wording.into(), embedding, terms: Terms::of_wording(wording, 9.0) }
}

fn contents(model_id: &str, replies: &[StoredReply]) -> Contents {
    Contents::new(model_id, DIMENSION, 1, replies, 9.0)
}

async fn fill(store: &Store, replies: Vec<StoredReply>) {
    store.replace(contents(MODEL, &replies), replies).await.unwrap();
}

/// An embedding whose cosine to [`asked`] is `cosine`.
fn at_cosine(cosine: f32) -> Vec<f32> {
    let mut embedding = vec![0.0; DIMENSION];
    embedding[0] = cosine;
    embedding[1] = (1.0 - cosine * cosine).sqrt();
    embedding
}

fn asked() -> Vec<f32> {
    at_cosine(1.0)
}

/// Random directions; the same for the same seed.
fn directions(seed: u64, count: usize) -> Vec<Vec<f32>> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let direction: Vec<f32> = (0..DIMENSION).map(|_| random.random_range(-1.0..1.0)).collect();
            let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
            direction.into_iter().map(|x| x / length).collect()
        })
        .collect()
}

/// One entry per direction, with ids that begin with `name`.
fn entries_at(directions: Vec<Vec<f32>>, name: &str) -> Vec<StoredReply> {
    directions.into_iter().enumerate().map(|(i, direction)| reply(&format!("{name}{i:03}"), direction)).collect()
}

/// By embedding alone.
fn dense(embedding: Vec<f32>) -> SearchQuery {
    SearchQuery { embedding, terms: Terms::default(), method: Method::Dense, exact: false }
}

/// The first `limit` entries, each by its nearest wording.
fn hits(candidates: Vec<Candidate>, limit: usize) -> Vec<Hit> {
    let hit = |candidate: Candidate| {
        let entry = candidate.entry().unwrap();
        Hit {
            score: candidate.cosine(),
            matched: candidate.wordings[0].text.clone(),
            knowledge_id: candidate.knowledge_id,
            question: entry.question,
            answer: entry.answer,
            parts: entry.parts,
            personal: false,
            intent: candidate.intent,
            probability: 0.0,
        }
    };
    candidates.into_iter().take(limit).map(hit).collect()
}

async fn near(store: &Store, embedding: Vec<f32>, limit: usize) -> Vec<Hit> {
    hits(store.search(MODEL, &dense(embedding), limit, &Scope::on(TODAY)).await.unwrap(), limit)
}

async fn search(store: &Store, limit: usize, day: i64) -> Vec<Hit> {
    hits(store.search(MODEL, &dense(asked()), limit, &Scope::on(day)).await.unwrap(), limit)
}

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.knowledge_id.as_str()).collect()
}

fn close(a: f32, b: f32) -> bool {
    (a - b).abs() < 1e-4
}

// The promises.

/// All promises in turn. `open` opens the same store again and again, empty at first.
async fn suite(open: impl AsyncFn() -> Store) {
    let store = open().await;
    an_empty_store_finds_nothing(&store).await;
    what_is_written_is_found_in_order_of_cosine(&store).await;
    an_entry_is_found_once_however_many_wordings_it_has(&store).await;
    the_nearest_of_many_are_found(&store).await;
    wordings_are_found_by_their_words(&store).await;
    both_ways_are_fused(&store).await;
    only_what_is_valid_on_the_day_is_found(&store).await;
    replacing_changes_everything_at_once(&store).await;
    content_of_another_model_is_refused(&store).await;
    a_malformed_day_names_the_entry_and_changes_nothing(&store).await;
    let store = what_was_written_survives_reopening(store, &open).await;
    let store = tuning_stays_with_its_content(store, &open).await;
    a_release_changes_what_it_names(&store).await;
    entries_are_found_by_those_they_are_for(&store).await;
    let store = an_older_release_is_refused_and_an_unfinished_one_forgotten(store, &open).await;
    let store = searches_during_releases_see_one_of_them(store).await;
    searches_during_a_replacement_see_one_whole_content(store).await;
}

async fn an_empty_store_finds_nothing(store: &Store) {
    assert_eq!(store.contents().await.unwrap(), None, "an empty store must have no contents");
    assert_eq!(search(store, 5, TODAY).await, [], "an empty store must find nothing");
    store.refresh(MODEL).await.unwrap();
}

async fn what_is_written_is_found_in_order_of_cosine(store: &Store) {
    let wanted = [("甲", 0.9), ("乙", 0.7), ("丙", 0.5), ("丁", 0.1), ("戊", -0.3)];
    let written = [3, 0, 4, 2, 1].map(|i: usize| reply(wanted[i].0, at_cosine(wanted[i].1)));
    fill(store, written.to_vec()).await;

    let hits = search(store, 10, TODAY).await;
    assert_eq!(ids(&hits), wanted.map(|(id, _)| id), "hits must be in order of cosine");
    for (hit, (id, cosine)) in hits.iter().zip(wanted) {
        assert!(close(hit.score, cosine), "the score of {id} must be its cosine {cosine}, not {}", hit.score);
        let written = reply(id, vec![]);
        let found = (&hit.question, &hit.matched, &hit.answer, &hit.intent);
        let entry = (&written.entry.question, &written.wording, &written.entry.answer, &written.entry.intent);
        assert_eq!(found, entry, "{id} must be found as it was written");
    }
    assert_eq!(ids(&search(store, 3, TODAY).await), ["甲", "乙", "丙"], "the limit must be respected");
}

async fn an_entry_is_found_once_however_many_wordings_it_has(store: &Store) {
    // All wordings of one entry are nearer than any wording of the next.
    let (entries, wordings) = (6, 12);
    let cosine = |entry: usize, wording: usize| 0.9 - 0.1 * entry as f32 - 0.005 * wording as f32;
    let mut replies = Vec::new();
    for entry in 0..entries {
        for wording in (0..wordings).rev() {
            let written = reply(&format!("问{entry}"), at_cosine(cosine(entry, wording)));
            let wording = format!("说法{wording}");
            replies.push(StoredReply { terms: Terms::of_wording(&wording, 9.0), wording, ..written });
        }
    }
    fill(store, replies).await;
    assert_eq!(
        store.contents().await.unwrap().map(|contents| contents.entries),
        Some(entries),
        "contents must count entries, not wordings"
    );
    for limit in [1, 3, entries, entries + 4] {
        let hits = search(store, limit, TODAY).await;
        let wanted: Vec<_> = (0..entries.min(limit)).map(|entry| format!("问{entry}")).collect();
        assert_eq!(ids(&hits), wanted, "the {limit} nearest entries must be found, each once");
        for (entry, hit) in hits.iter().enumerate() {
            assert_eq!(hit.matched, "说法0", "an entry must be found by its nearest wording");
            assert!(close(hit.score, cosine(entry, 0)), "an entry's score must be that of its nearest wording");
        }
    }
}

fn many() -> Vec<StoredReply> {
    entries_at(directions(1, 300), "问")
}

fn questions() -> Vec<Vec<f32>> {
    directions(2, 40)
}

async fn the_nearest_of_many_are_found(store: &Store) {
    let replies = many();
    fill(store, replies.clone()).await;
    for (number, question) in questions().into_iter().enumerate() {
        let cosine = |reply: &StoredReply| reply.embedding.iter().zip(&question).map(|(a, b)| a * b).sum::<f32>();
        let mut wanted: Vec<_> = replies.iter().map(|reply| (reply.entry.id.as_str(), cosine(reply))).collect();
        wanted.sort_by(|a, b| b.1.total_cmp(&a.1));
        wanted.truncate(10);
        let hits = near(store, question.clone(), 10).await;
        let nearest: Vec<_> = wanted.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids(&hits), nearest, "question {number}: the nearest must be found, in order");
        for (hit, (id, cosine)) in hits.iter().zip(wanted) {
            assert!(close(hit.score, cosine), "question {number}: {id} has cosine {cosine}, not {}", hit.score);
        }
    }
}

/// Nearest by embedding is what shares no word, and the other way round.
fn crossed() -> Vec<StoredReply> {
    vec![
        worded("甲", "运费由谁承担", at_cosine(0.9)),
        worded("乙", "退货运费谁出", at_cosine(0.2)),
        worded("丙", "怎么退货", at_cosine(0.5)),
        worded("丁", "怎么开发票", at_cosine(0.4)),
        worded("戊", "？？", at_cosine(0.3)),
    ]
}

fn with_words(text: &str, method: Method) -> SearchQuery {
    SearchQuery { embedding: asked(), terms: Terms::of_query(text), method, exact: false }
}

async fn wordings_are_found_by_their_words(store: &Store) {
    fill(store, crossed()).await;
    let by_words = async |text: &str| {
        let found = store.search(MODEL, &with_words(text, Method::Sparse), 5, &Scope::on(TODAY)).await.unwrap();
        found.iter().map(|candidate| candidate.knowledge_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(by_words("退货运费谁出").await, ["乙", "甲", "丙"], "most shared and rarest words first, none last");
    assert_eq!(by_words("发票").await, ["丁"], "only what shares a word must be found");
    assert_eq!(by_words("！！").await, [""; 0], "nothing can be found by signs alone");
    let found = store.search(MODEL, &with_words("发票", Method::Sparse), 5, &Scope::on(TODAY)).await.unwrap();
    let wording = &found[0].wordings[0];
    assert!(close(wording.cosine, 0.4), "the cosine must come along: {wording:?}");
    assert_eq!(wording.terms, Terms::of_query("怎么开发票").indices, "the terms must come along");
    let filler = store.search(MODEL, &with_words("不要紧", Method::Fused), 5, &Scope::on(TODAY)).await.unwrap();
    assert_eq!(filler.len(), 5, "what shares no word is still found by meaning");
}

async fn both_ways_are_fused(store: &Store) {
    fill(store, crossed()).await;
    let found = store.search(MODEL, &with_words("退货运费谁出", Method::Fused), 5, &Scope::on(TODAY)).await.unwrap();
    let rank = |first: usize, second: Option<usize>| {
        let one = |rank: usize| 1.0 / (rank + 60) as f32;
        one(first) + second.map_or(0.0, one)
    };
    // Ranks by embedding 甲 丙 丁 戊 乙, by words 乙 甲 丙.
    let expected = [
        ("甲", rank(0, Some(1))),
        ("丙", rank(1, Some(2))),
        ("乙", rank(4, Some(0))),
        ("丁", rank(2, None)),
        ("戊", rank(3, None)),
    ];
    for ((candidate, (id, score)), place) in found.iter().zip(expected).zip(1..) {
        assert_eq!(candidate.knowledge_id, id, "place {place}: {found:?}");
        assert!((candidate.score() - score).abs() < 1e-6, "{id} must have the fused score {score}: {candidate:?}");
    }
    assert_eq!(found.len(), 5);
}

async fn tuning_stays_with_its_content(store: Store, open: &impl AsyncFn() -> Store) -> Store {
    let replies = entries_at(directions(11, 4), "调");
    fill(&store, replies.clone()).await;
    let tuning = Tuning { questions: 77, ..Tuning::default() };
    store.keep_tuning(tuning.clone()).await.unwrap();
    let tuned = Some(Contents { tuning: Some(tuning), ..contents(MODEL, &replies) });
    assert_eq!(store.contents().await.unwrap(), tuned, "what was tuned must be in the contents");
    drop(store);
    let store = open().await;
    assert_eq!(store.contents().await.unwrap(), tuned, "what was tuned must survive reopening");
    assert_eq!(search(&store, 4, TODAY).await.len(), 4, "tuning must not touch what is found");
    store
}

async fn only_what_is_valid_on_the_day_is_found(store: &Store) {
    let limited = [
        ("一直有效", None, None),
        ("今天起", Some("2026-03-09"), None),
        ("到今天", None, Some("2026-03-09")),
        ("明天起", Some("2026-03-10"), None),
        ("到昨天", None, Some("2026-03-08")),
        ("只在今天", Some("2026-03-09"), Some("2026-03-09")),
        ("今年内", Some("2026-01-01"), Some("2026-12-31")),
    ];
    let replies = limited.iter().enumerate().map(|(i, (id, from, to))| {
        let mut written = reply(id, at_cosine(0.9 - 0.1 * i as f32));
        written.entry.valid_from = from.map(str::to_owned);
        written.entry.valid_to = to.map(str::to_owned);
        written
    });
    fill(store, replies.collect()).await;
    for (day, valid) in [
        (20_260_308, vec!["一直有效", "到今天", "到昨天", "今年内"]),
        (TODAY, vec!["一直有效", "今天起", "到今天", "只在今天", "今年内"]),
        (20_260_310, vec!["一直有效", "今天起", "明天起", "今年内"]),
        (20_270_101, vec!["一直有效", "今天起", "明天起"]),
    ] {
        assert_eq!(ids(&search(store, 10, day).await), valid, "what is valid on {day} must be found, and nothing else");
    }
}

async fn replacing_changes_everything_at_once(store: &Store) {
    fill(store, entries_at(directions(3, 20), "旧")).await;
    // Fewer, so that a remainder of the old would show; one keeps its id and wording.
    let mut new = entries_at(directions(4, 5), "新");
    new.push(reply("旧000", at_cosine(0.5)));
    fill(store, new.clone()).await;
    let hits = search(store, 100, TODAY).await;
    let found: BTreeSet<_> = hits.iter().map(|hit| hit.knowledge_id.clone()).collect();
    let written: BTreeSet<_> = new.iter().map(|reply| reply.entry.id.clone()).collect();
    assert_eq!(found, written, "after a replacement all of the new must be found and nothing of the old");
    let kept = hits.iter().find(|hit| hit.knowledge_id == "旧000").unwrap();
    assert!(close(kept.score, 0.5), "an entry that stayed must have its new embedding");
    assert_eq!(store.contents().await.unwrap(), Some(contents(MODEL, &new)), "contents must be those of the new");
}

fn change(store: &Contents, release: i64, replies: Vec<StoredReply>, retired: &[&str]) -> Change {
    let retired = retired.iter().map(|id| (*id).to_owned()).collect();
    Change { release, replies, retired, entries: store.entries, wordings: store.wordings }
}

async fn whole(store: &Store) -> Vec<(String, String)> {
    store.entries().await.unwrap().into_iter().map(|entry| (entry.id, entry.answer)).collect()
}

fn answering(id: &str, answer: &str, cosine: f32) -> StoredReply {
    let mut reply = reply(id, at_cosine(cosine));
    reply.entry.answer = answer.into();
    reply
}

async fn a_release_changes_what_it_names(store: &Store) {
    fill(store, vec![reply("甲", at_cosine(0.9)), reply("乙", at_cosine(0.7)), reply("丙", at_cosine(0.5))]).await;
    let first = store.contents().await.unwrap().unwrap();
    assert_eq!((first.release, first.entries, first.added), (1, 3, 0));

    let replies = vec![answering("甲", "新的", 0.4), reply("丁", at_cosine(0.8))];
    store.apply(change(&first, 2, replies, &["甲", "乙"])).await.unwrap();
    let found = search(store, 10, TODAY).await;
    assert_eq!(ids(&found), ["丁", "丙", "甲"], "乙 is gone, 甲 has moved");
    assert_eq!(found[2].answer, "新的");
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(id, answer)| ((*id).to_owned(), (*answer).to_owned())).collect()
    };
    assert_eq!(whole(store).await, pairs(&[("丁", "丁的答案"), ("丙", "丙的答案"), ("甲", "新的")]));
    let second = store.contents().await.unwrap().unwrap();
    assert_eq!((second.release, second.added, second.retired.len()), (2, 2, 1));

    // Back again, and once more: an entry may come and go as often as it likes.
    store
        .apply(change(&second, 5, vec![reply("乙", at_cosine(0.7)), reply("甲", at_cosine(0.9))], &["甲", "丁"]))
        .await
        .unwrap();
    let found = search(store, 10, TODAY).await;
    assert_eq!(ids(&found), ["甲", "乙", "丙"]);
    assert_eq!(found[0].answer, "甲的答案");
    store.apply(change(&second, 6, vec![], &["甲"])).await.unwrap();
    assert_eq!(ids(&search(store, 10, TODAY).await), ["乙", "丙"]);

    // What is out of use goes, and with it what searches must name at a server.
    let before = whole(store).await;
    store.forget(Duration::ZERO).await.unwrap();
    assert_eq!(ids(&search(store, 10, TODAY).await), ["乙", "丙"]);
    assert_eq!(whole(store).await, before);
    let contents = store.contents().await.unwrap().unwrap();
    assert_eq!(contents.release, 6);
    if let Store::Server(_) = store {
        assert_eq!(contents.retired, []);
    }
}

async fn entries_are_found_by_those_they_are_for(store: &Store) {
    let mut replies =
        vec![reply("所有人", at_cosine(0.5)), reply("网页", at_cosine(0.7)), reply("贵宾", at_cosine(0.9))];
    replies[1].entry.channels = vec!["web".into(), "app".into()];
    replies[2].entry.audiences = vec!["vip".into()];
    replies[2].entry.products = vec!["保温杯".into()];
    fill(store, replies).await;
    /// Channel, audiences, products, and what is found.
    type Case<'a> = (Option<&'a str>, Option<&'a [&'a str]>, &'a [&'a str], &'a [&'a str]);
    let scopes: [Case<'_>; 7] = [
        (None, None, &[], &["贵宾", "网页", "所有人"]),
        (Some("web"), Some(&[]), &[], &["网页", "所有人"]),
        (Some("wechat"), Some(&[]), &[], &["所有人"]),
        (Some("app"), Some(&["new", "vip"]), &[], &["贵宾", "网页", "所有人"]),
        (Some("wechat"), Some(&["vip"]), &[], &["贵宾", "所有人"]),
        (None, None, &["雨伞", "保温杯"], &["贵宾"]),
        (Some("web"), Some(&["new"]), &["保温杯"], &[]),
    ];
    for (channel, audiences, products, wanted) in scopes {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let scope = Scope {
            day: TODAY,
            channel: channel.map(str::to_owned),
            audiences: audiences.map(owned),
            products: owned(products),
        };
        let found = hits(store.search(MODEL, &dense(asked()), 10, &scope).await.unwrap(), 10);
        assert_eq!(ids(&found), wanted, "{scope:?}");
    }
}

async fn an_older_release_is_refused_and_an_unfinished_one_forgotten(
    store: Store,
    open: &impl AsyncFn() -> Store,
) -> Store {
    fill(&store, vec![reply("甲", at_cosine(0.9)), reply("乙", at_cosine(0.7))]).await;
    let first = store.contents().await.unwrap().unwrap();
    store.apply(change(&first, 3, vec![answering("甲", "三", 0.9)], &["甲"])).await.unwrap();
    let refused = store.apply(change(&first, 3, vec![answering("甲", "又三", 0.9)], &["甲"])).await.unwrap_err();
    assert!(refused.to_string().contains("release 3 is there already"), "{refused}");

    // The second wording cannot be written: the first one must not count, then or later.
    let mut broken = answering("丁", "四", 0.8);
    broken.entry.valid_from = Some("明天".into());
    let mut half = vec![answering("甲", "四", 0.9); 300];
    for (number, reply) in half.iter_mut().enumerate() {
        reply.wording = format!("甲{number}");
    }
    half.push(broken);
    store.apply(change(&first, 4, half, &["甲", "乙"])).await.unwrap_err();
    let old = [("乙".to_owned(), "乙的答案".to_owned()), ("甲".to_owned(), "三".to_owned())];
    assert_eq!(whole(&store).await, old);
    drop(store);
    let store = open().await;
    assert_eq!(whole(&store).await, old);
    store.apply(change(&first, 5, vec![reply("丙", at_cosine(0.3))], &[])).await.unwrap();
    let found = search(&store, 10, TODAY).await;
    let answers: Vec<_> = found.iter().map(|hit| hit.answer.as_str()).collect();
    assert_eq!((ids(&found), answers), (vec!["甲", "乙", "丙"], vec!["三", "乙的答案", "丙的答案"]));
    store
}

async fn searches_during_releases_see_one_of_them(store: Store) -> Store {
    const ENTRIES: usize = 12;
    let release = |number: i64| -> Vec<StoredReply> {
        let id = |entry: usize| format!("条{entry:02}");
        (0..ENTRIES).map(|entry| answering(&id(entry), &number.to_string(), 0.9 - entry as f32 / 50.0)).collect()
    };
    fill(&store, release(1)).await;
    let first = store.contents().await.unwrap().unwrap();
    let ids: Vec<String> = release(1).into_iter().map(|reply| reply.entry.id).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (store, done) = (Arc::new(store), Arc::new(AtomicBool::new(false)));
    let searchers: Vec<_> = (0..3)
        .map(|_| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            tokio::spawn(async move {
                let mut seen = BTreeSet::new();
                while !done.load(Ordering::SeqCst) {
                    let found = search(&store, 50, TODAY).await;
                    let answers: BTreeSet<_> = found.iter().map(|hit| hit.answer.clone()).collect();
                    assert_eq!((found.len(), answers.len()), (ENTRIES, 1), "a mixture of releases: {answers:?}");
                    seen.extend(answers);
                }
                seen
            })
        })
        .collect();
    for number in 2..=25 {
        store.apply(change(&first, number, release(number), &ids)).await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    for searcher in searchers {
        assert!(!searcher.await.unwrap().is_empty());
    }
    assert_eq!(search(&store, 50, TODAY).await[0].answer, "25");
    Arc::into_inner(store).unwrap()
}

async fn content_of_another_model_is_refused(store: &Store) {
    let refused = |what: &str, error: Option<EngineError>| match error {
        Some(EngineError::StoreOfAnotherModel { found, wanted, .. }) => {
            assert_eq!((found.as_str(), wanted.as_str()), (ANOTHER_MODEL, MODEL), "{what} must name both models");
        }
        other => panic!("{what} must refuse content of another model, not answer {other:?}"),
    };
    let replies = entries_at(directions(5, 5), "异");
    store.replace(contents(ANOTHER_MODEL, &replies), replies).await.unwrap();
    refused("a search", store.search(MODEL, &dense(asked()), 3, &Scope::on(TODAY)).await.err());
    refused("a refresh", store.refresh(MODEL).await.err());
    let hits = store.search(ANOTHER_MODEL, &dense(asked()), 3, &Scope::on(TODAY)).await.unwrap();
    assert_eq!(hits.len(), 5, "the model that filled the store must still find what is there");
}

async fn a_malformed_day_names_the_entry_and_changes_nothing(store: &Store) {
    let good = entries_at(directions(6, 3), "好");
    fill(store, good.clone()).await;
    let mut bad = entries_at(directions(7, 3), "坏");
    bad[1].entry.valid_from = Some("2026/03/09".into());
    match store.replace(contents(MODEL, &bad), bad).await {
        Err(EngineError::Knowledge { id, message }) => {
            assert_eq!(id, "坏001", "the error must name the entry");
            assert!(message.contains("valid_from") && message.contains("2026/03/09"), "not helpful: {message}");
        }
        other => panic!("a malformed day must be an error of the entry, not {other:?}"),
    }
    assert_eq!(search(store, 10, TODAY).await.len(), 3, "the old content must still be found");
    assert!(search(store, 10, TODAY).await.iter().all(|hit| hit.knowledge_id.starts_with('好')));
    assert_eq!(store.contents().await.unwrap(), Some(contents(MODEL, &good)), "the old contents must still be there");
}

async fn what_was_written_survives_reopening(store: Store, open: &impl AsyncFn() -> Store) -> Store {
    let replies = entries_at(directions(8, 7), "存");
    fill(&store, replies.clone()).await;
    let before = search(&store, 7, TODAY).await;
    drop(store);
    let store = open().await;
    assert_eq!(store.contents().await.unwrap(), Some(contents(MODEL, &replies)), "contents must survive reopening");
    assert_eq!(search(&store, 7, TODAY).await, before, "what is found must survive reopening");
    store
}

async fn searches_during_a_replacement_see_one_whole_content(store: Store) {
    const LIMIT: usize = 10;
    let store = Arc::new(store);
    let generation = |name| entries_at(directions(9, 40), name);
    fill(&store, generation("甲")).await;
    let replaced = Arc::new(AtomicBool::new(false));
    let searchers: Vec<_> = directions(10, 4)
        .into_iter()
        .map(|question| {
            let (store, replaced) = (store.clone(), replaced.clone());
            tokio::spawn(async move {
                let mut last = false;
                while !last {
                    last = replaced.load(Ordering::SeqCst);
                    let hits = near(&store, question.clone(), LIMIT).await;
                    let of = |name: char| hits.iter().filter(|hit| hit.knowledge_id.starts_with(name)).count();
                    let seen = (of('甲'), of('乙'));
                    assert!(seen == (LIMIT, 0) || seen == (0, LIMIT), "{seen:?}: mixed, or not all of one content");
                    assert!(!last || seen == (LIMIT, 0), "after the last replacement the old content was still found");
                }
            })
        })
        .collect();
    for name in ["乙", "甲", "乙", "甲", "乙", "甲"] {
        fill(&store, generation(name)).await;
    }
    replaced.store(true, Ordering::SeqCst);
    for searcher in searchers {
        searcher.await.unwrap();
    }
}

/// Collections that begin with the store's name stay where something leads to them, somebody may still be writing them, or they
/// are another store's; the rest was left by writers who were stopped.
async fn what_stopped_writers_left_at_a_server_goes(config: &StoreConfig) {
    let StoreConfig::Server { url, api_key, collection: alias, .. } = config else { panic!("no server") };
    let client = Qdrant::from_url(url).api_key(api_key.clone()).skip_compatibility_check().build().unwrap();
    let begun = |hours: u64| {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - hours * 3600;
        uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0))
    };
    let left = [format!("{alias}-{}", begun(25)), format!("{alias}-copy-0123456789abcdef-{}", begun(30).simple())];
    let served = format!("{alias}-{}", begun(48));
    let kept =
        [served.clone(), format!("{alias}-{}", begun(23)), format!("{alias}-b-{}", begun(48)), format!("{alias}b")];
    for name in left.iter().chain(&kept) {
        let mut dense = VectorsConfigBuilder::default();
        dense.add_named_vector_params("meaning", VectorParamsBuilder::new(4, Distance::Cosine));
        let mut sparse = SparseVectorsConfigBuilder::default();
        sparse.add_named_vector_params("words", SparseVectorParamsBuilder::default().modifier(Modifier::Idf));
        let request = CreateCollectionBuilder::new(name).vectors_config(dense).sparse_vectors_config(sparse);
        client.create_collection(request).await.unwrap();
    }
    client.create_alias(CreateAliasBuilder::new(&served, format!("{alias}-old"))).await.unwrap();
    let store = open(config).await;
    fill(&store, vec![reply("甲", at_cosine(0.9))]).await;
    assert_eq!(ids(&search(&store, 10, TODAY).await), ["甲"]);
    let there = client.list_collections().await.unwrap().collections;
    let there: BTreeSet<String> = there.into_iter().map(|collection| collection.name).collect();
    for name in &left {
        assert!(!there.contains(name), "{name} was left long ago");
    }
    for name in &kept {
        assert!(there.contains(name), "{name} is somebody's");
        client.delete_collection(name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_this_process() {
    let folder = TempDir::new().unwrap();
    let config = edge(folder.path());
    suite(async || open(&config).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_a_stand_in_for_a_server() {
    let stand_in = StandIn::start(Some(KEY));
    let config = at(&stand_in, Some(KEY));
    suite(async || open(&config).await).await;
    assert_eq!(stand_in.collections().len(), 1, "only the current collection must be left");
    what_stopped_writers_left_at_a_server_goes(&config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_a_real_server() {
    let Some(server) = RealServer::from_environment() else {
        say("store: no real server was asked; YINGDA_TEST_QDRANT_URL=http://HOST:6334 names one");
        return;
    };
    let config = server.config();
    suite(async || open(&config).await).await;
    what_stopped_writers_left_at_a_server_goes(&config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_homes_give_the_same_answers() {
    let folder = TempDir::new().unwrap();
    let stand_in = StandIn::start(None);
    let server = RealServer::from_environment();
    let mut answers: Vec<(String, Vec<Vec<Hit>>)> = Vec::new();
    for config in [edge(folder.path()), at(&stand_in, None)].into_iter().chain(server.as_ref().map(RealServer::config))
    {
        let store = open(&config).await;
        fill(&store, many()).await;
        let mut hits = Vec::new();
        for question in questions() {
            hits.push(near(&store, question, 10).await);
        }
        for (number, question) in questions().into_iter().enumerate() {
            let terms = Terms::of_query(&format!("问{:03}是什么", number * 7));
            let query = SearchQuery { embedding: question, terms, method: Method::Fused, exact: false };
            let mut candidates = store.search(MODEL, &query, 10, &Scope::on(TODAY)).await.unwrap();
            // Equal ranks are in no order that a store promises.
            candidates.sort_by(|a, b| b.cosine().total_cmp(&a.cosine()));
            hits.push(self::hits(candidates, 30));
        }
        answers.push((store.describe(), hits));
    }
    let (first, rest) = answers.split_first().unwrap();
    for other in rest {
        for (number, (a, b)) in first.1.iter().zip(&other.1).enumerate() {
            assert_eq!(ids(a), ids(b), "question {number}: {} and {} must agree", first.0, other.0);
            for (a, b) in a.iter().zip(b) {
                assert!(close(a.score, b.score), "question {number}: {a:?} and {b:?} must have one score");
                assert_eq!(Hit { score: 0.0, ..a.clone() }, Hit { score: 0.0, ..b.clone() }, "question {number}");
            }
        }
    }
}

// In this process only.

/// A copy into another home and back is the same, also where it was interrupted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_is_copied_from_home_to_home() {
    let stand_in = StandIn::start(None);
    let server = RealServer::from_environment();
    let servers = [Some(at(&stand_in, None)), server.as_ref().map(RealServer::config)];
    for config in servers.into_iter().flatten() {
        let folder = TempDir::new().unwrap();
        let here = Arc::new(open(&edge(&folder.path().join("a"))).await);
        let there = Arc::new(open(&config).await);
        let back = open(&edge(&folder.path().join("b"))).await;
        let error = here.copy_to(&there, |_, _| {}).await.unwrap_err().to_string();
        assert!(error.contains("nothing to copy"), "{error}");

        fill(&here, entries_at(directions(3, 6_000), "条")).await;
        let first = here.contents().await.unwrap().unwrap();
        let counts = Contents { entries: 6_000, wordings: 6_000, ..first };
        here.apply(change(
            &counts,
            7,
            vec![answering("条000", "新的", 0.5), reply("丁", at_cosine(0.8))],
            &["条000", "条001"],
        ))
        .await
        .unwrap();
        fill(&there, entries_at(directions(4, 3), "旧")).await;

        // The reader gives up in the middle; what was there is served on.
        let interrupted = tokio::spawn({
            let (here, there) = (Arc::clone(&here), Arc::clone(&there));
            async move { here.copy_to(&there, |done, _| assert!(done < 5_500, "interrupted")).await }
        });
        assert!(interrupted.await.unwrap_err().is_panic());
        assert_eq!(search(&there, 10, TODAY).await.len(), 3, "nothing was switched");

        let copied = here.copy_to(&there, |_, _| {}).await.unwrap();
        assert_eq!((copied.points, copied.resumed), (6_000, 5_120));
        assert!(copied.largest_difference < 1e-5, "{copied:?}");
        assert_eq!(whole(&there).await, whole(&here).await);
        let again = there.copy_to(&back, |_, _| {}).await.unwrap();
        assert_eq!((again.points, again.resumed, &again.checksum), (6_000, 0, &copied.checksum));
        for question in directions(5, 10) {
            let answers = [near(&here, question.clone(), 5).await, near(&back, question, 5).await];
            assert_eq!(ids(&answers[0]), ids(&answers[1]));
        }
        // A copy is a store like any other.
        let contents = back.contents().await.unwrap().unwrap();
        assert_eq!((contents.release, contents.added, contents.retired.len()), (7, 0, 0));
        back.apply(change(&contents, 8, vec![answering("丁", "改了", 0.8)], &["丁"])).await.unwrap();
        assert!(search(&back, 10, TODAY).await.iter().any(|hit| hit.answer == "改了"));
        here.copy_to(&there, |_, _| {}).await.unwrap();
        assert_eq!(whole(&there).await, whole(&here).await, "the same once more, over what is served");
    }
}

fn generations(root: &Path) -> Vec<String> {
    let names = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("gen-")).collect()
}

#[tokio::test]
async fn a_second_opener_of_a_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let config = edge(folder.path());
    let store = open(&config).await;
    fill(&store, entries_at(directions(1, 3), "问")).await;
    let root = folder.path().join("replies");
    match EdgeStore::open(&root).await.err() {
        Some(EngineError::StoreInUse { path }) => assert_eq!(path, root, "the error must name the folder"),
        other => panic!("a second opener must be told that the store is in use, not {other:?}"),
    }
    assert_eq!(search(&store, 3, TODAY).await.len(), 3, "the first opener must not notice");
    drop(store);
    assert_eq!(search(&open(&config).await, 3, TODAY).await.len(), 3, "a closed store must be free");
}

#[tokio::test]
async fn what_a_killed_writer_left_is_cleaned_up() {
    let folder = TempDir::new().unwrap();
    let config = edge(folder.path());
    let root = folder.path().join("replies");
    let replies = entries_at(directions(1, 3), "问");
    let store = open(&config).await;
    fill(&store, replies.clone()).await;
    drop(store);
    // A kill drops the locks and leaves the files: a generation without contents.json, and a pointer before its rename.
    let leftover = root.join("gen-killed");
    std::fs::create_dir_all(leftover.join("shard/segments")).unwrap();
    for file in ["gen-killed/in-use.lock", "gen-killed/shard/segments/half", "writing.lock", ".current"] {
        std::fs::write(root.join(file), "half").unwrap();
    }

    let store = open(&config).await;
    assert!(!leftover.exists(), "a half-written generation must be removed at the next open");
    assert_eq!(store.contents().await.unwrap(), Some(contents(MODEL, &replies)), "the current content must stay");
    for name in ["乙", "丙"] {
        fill(&store, entries_at(directions(2, 4), name)).await;
        assert_eq!(search(&store, 10, TODAY).await.len(), 4, "the store must still be writable");
    }
    assert_eq!(generations(&root).len(), 1, "only the current generation must be left: {:?}", generations(&root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_waits_for_whoever_tidies_up() {
    let folder = TempDir::new().unwrap();
    let store = open(&edge(folder.path())).await;
    fill(&store, vec![reply("甲", at_cosine(0.9))]).await;
    let first = store.contents().await.unwrap().unwrap();
    let tidying = std::fs::File::create(folder.path().join("replies/writing.lock")).unwrap();
    tidying.try_lock().unwrap();
    let held = Duration::from_millis(300);
    let started = Instant::now();
    let done = std::thread::spawn(move || {
        std::thread::sleep(held);
        drop(tidying);
    });
    store.apply(change(&first, 2, vec![answering("甲", "新的", 0.9)], &["甲"])).await.unwrap();
    assert!(started.elapsed() >= held, "it wrote while another one held the lock");
    assert_eq!(search(&store, 1, TODAY).await[0].answer, "新的");
    done.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_who_comes_late_writes_over_no_later_release() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(open(&edge(folder.path())).await);
    fill(&store, vec![reply("甲", at_cosine(0.9))]).await;
    let first = store.contents().await.unwrap().unwrap();
    for round in 1..6 {
        let late = std::fs::File::create(folder.path().join("replies/writing.lock")).unwrap();
        late.try_lock().unwrap();
        let writing: Vec<_> = [2 * round + 1, 2 * round]
            .map(|release| {
                let (store, answer) = (Arc::clone(&store), release.to_string());
                let change = change(&first, release, vec![answering("甲", &answer, 0.9)], &["甲"]);
                tokio::spawn(async move { store.apply(change).await })
            })
            .into();
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(late);
        for written in writing {
            if let Err(error) = written.await.unwrap() {
                assert!(error.to_string().contains("is there already"), "{error}");
            }
        }
        assert_eq!(store.contents().await.unwrap().unwrap().release, 2 * round + 1);
        assert_eq!(search(&store, 5, TODAY).await[0].answer, (2 * round + 1).to_string());
    }
}

#[tokio::test]
async fn a_refresh_finds_what_another_process_wrote() {
    let folder = TempDir::new().unwrap();
    let config = edge(folder.path());
    let reader = open(&config).await;
    let all_are = async |name: char, count: usize, when: &str| {
        let hits = search(&reader, 10, TODAY).await;
        let found = hits.len() == count && hits.iter().all(|hit| hit.knowledge_id.starts_with(name));
        assert!(found, "{when}: {count} entries of {name} must be found, not {hits:?}");
    };
    fill(&reader, entries_at(directions(1, 3), "旧")).await;

    let new = entries_at(directions(2, 4), "新");
    let writer = Store::open_to_write(&config).await.unwrap();
    fill(&writer, new.clone()).await;
    drop(writer);
    all_are('旧', 3, "before a refresh").await;
    reader.refresh(MODEL).await.unwrap();
    all_are('新', 4, "after a refresh").await;
    assert_eq!(reader.contents().await.unwrap(), Some(contents(MODEL, &new)), "a refresh must find the new contents");
    let root = folder.path().join("replies");
    assert_eq!(generations(&root).len(), 1, "after a refresh the old generation must go: {:?}", generations(&root));

    let theirs = entries_at(directions(3, 5), "异");
    let writer = Store::open_to_write(&config).await.unwrap();
    writer.replace(contents(ANOTHER_MODEL, &theirs), theirs).await.unwrap();
    drop(writer);
    assert!(
        matches!(reader.refresh(MODEL).await, Err(EngineError::StoreOfAnotherModel { .. })),
        "a refresh must refuse content of another model"
    );
    all_are('新', 4, "after a refused refresh").await;
}

#[tokio::test]
async fn damaged_contents_are_explained() {
    let folder = TempDir::new().unwrap();
    let config = edge(folder.path());
    let root = folder.path().join("replies");
    for damage in ["cut short", "missing"] {
        let store = open(&config).await;
        fill(&store, entries_at(directions(1, 3), "问")).await;
        drop(store);
        let file = root.join(&generations(&root)[0]).join("contents.json");
        match damage {
            "missing" => std::fs::remove_file(&file).unwrap(),
            _ => std::fs::write(&file, r#"{"model_id": "yin"#).unwrap(),
        }
        let message = refusal(&config).await;
        assert!(message.contains(&file.display().to_string()), "{damage}: the file must be named: {message}");
        assert!(message.contains("yingda index"), "{damage}: what to do? {message}");
        // Doing what it says helps: filling it again does not open what is there.
        let writer = Store::open_to_write(&config).await.unwrap();
        fill(&writer, entries_at(directions(1, 3), "问")).await;
        drop(writer);
        drop(open(&config).await);
    }
}

#[tokio::test]
async fn content_of_another_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let config = edge(folder.path());
    let replies = entries_at(directions(1, 3), "旧");
    let store = open(&config).await;
    store.replace(Contents { format: FORMAT - 1, ..contents(MODEL, &replies) }, replies).await.unwrap();
    let error = store.search(MODEL, &dense(asked()), 3, &Scope::on(TODAY)).await.unwrap_err();
    assert!(matches!(error, EngineError::StoreOfAnotherVersion { .. }), "{error:?}");
    assert!(error.to_string().contains("yingda index"), "what to do? {error}");
}

// At a server only.

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let message = refusal(&StoreConfig::Server {
        url: url.clone(),
        api_key: None,
        collection: ALIAS.into(),
        settings: ServerSettings::default(),
    })
    .await;
    assert!(message.contains(&url), "the address must be named: {message}");
    assert!(message.contains("cannot be reached"), "what is wrong? {message}");
}

#[tokio::test]
async fn a_wrong_key_is_explained() {
    let stand_in = StandIn::start(Some(KEY));
    for key in [None, Some("wrong-one")] {
        let message = refusal(&at(&stand_in, key)).await;
        assert!(message.contains("key"), "the key must be mentioned: {message}");
        assert!(message.contains(&stand_in.url()), "the address must be named: {message}");
        assert!(key.is_none_or(|key| !message.contains(key)), "a key must not be shown: {message}");
    }
    open(&at(&stand_in, Some(KEY))).await;
}

#[tokio::test]
async fn a_failed_write_leaves_the_old_content() {
    let stand_in = StandIn::start(None);
    let store = open(&at(&stand_in, None)).await;
    let old = entries_at(directions(1, 3), "旧");
    fill(&store, old.clone()).await;
    let collections = stand_in.collections();
    // Nothing is written, or only the first of several batches.
    for upserts in [0, 1] {
        stand_in.fail_after(Some(upserts));
        let new = entries_at(directions(2, 600), "新");
        let error = store.replace(contents(MODEL, &new), new).await.unwrap_err();
        assert!(matches!(error, EngineError::Store { .. }), "a failed write must be an error of the store: {error:?}");
        assert!(error.to_string().contains(&stand_in.url()), "the address must be named: {error}");
        assert_eq!(stand_in.collections(), collections, "a half-written collection must not be left");
        let hits = search(&store, 10, TODAY).await;
        assert!(
            hits.len() == 3 && hits.iter().all(|hit| hit.knowledge_id.starts_with('旧')),
            "the old content must still be found, not {hits:?}"
        );
        assert_eq!(store.contents().await.unwrap(), Some(contents(MODEL, &old)), "the old contents must stay");
    }
    stand_in.fail_after(None);
    fill(&store, entries_at(directions(2, 600), "新")).await;
    assert_eq!(search(&store, 10, TODAY).await.len(), 10, "the next write must succeed");
}
