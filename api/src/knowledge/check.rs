//! What a knowledge file may hold and should not: contradictions, wordings that lie with the wrong entry, entries that are out
//! of date or that nobody needs. The file itself is in order; people must judge what is found.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

use serde::Serialize;
use time::{OffsetDateTime, UtcOffset};
use unicode_normalization::UnicodeNormalization as _;
use yingda_engine::{Engine, EngineError, KnowledgeEntry};

use super::KnowledgeError;

/// Most wordings that are compared with each other: 50,000 take a minute or two on two cores, twice as many four times that.
pub const MAX_WORDINGS: usize = 50_000;
/// Fewest answers that tell which entries are never used.
pub const MIN_ANSWERS: u64 = 1000;
/// Cosine from which two wordings are taken for the same question.
pub const SAME: f32 = 0.97;
/// How much nearer to another entry a wording must lie than to its own.
///
/// A small encoder puts many a good wording next to another entry. In the sample shop 167 of 1,439 are nearer to another one,
/// 92 of them by more than 0.1 and 31 by more than 0.3; those furthest out belong to entries that overlap, and the widest gap is
/// 0.63 (换个能做主的人来跟我说, a complaint that is nearest to 叫个活人跟我讲). From 0.65 on the sample is clean. With an earlier
/// model of the sample, of its wordings, put one by one with a random entry of another intent, three of four were still found:
/// what is misplaced like that has hardly anything to do with its new home. With another entry of the same intent it was 2 in
/// 100; a lower margin finds more of those, for somebody who has the time to look at what is in order, too.
pub const MARGIN: f32 = 0.65;

/// What counts as a finding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckSettings {
    /// Two wordings are the same question from this cosine on.
    pub same: f32,
    /// A wording lies with the wrong entry if another one is nearer by more than this.
    pub margin: f32,
    /// Today, as `YYYYMMDD`.
    pub today: u32,
}

impl Default for CheckSettings {
    /// The defaults, today in UTC+8, where the customers are.
    fn default() -> Self {
        let china = UtcOffset::from_hms(8, 0, 0).unwrap_or(UtcOffset::UTC);
        let now = OffsetDateTime::now_utc().to_offset(china);
        let today = now.year().unsigned_abs() * 10_000 + u32::from(u8::from(now.month())) * 100 + u32::from(now.day());
        Self { same: SAME, margin: MARGIN, today }
    }
}

/// One wording of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wording<'a> {
    /// Index of the entry.
    pub entry: usize,
    /// The standard question or a similar one.
    pub text: &'a str,
}

/// A wording as a finding names it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FoundWording {
    /// Id of its entry.
    pub id: String,
    /// The wording.
    pub text: String,
}

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// Two entries answer the same question differently.
    DifferentAnswers {
        /// Cosine of the two wordings.
        cosine: f32,
        /// A wording of the entry that stands first.
        one: FoundWording,
        /// The wording of the other entry that is the same or nearly so.
        other: FoundWording,
    },
    /// A wording lies nearer to another entry, with another answer, than to its own.
    NearerToAnother {
        /// The wording.
        wording: FoundWording,
        /// Its cosine to the nearest other wording of its entry.
        own_cosine: f32,
        /// That wording.
        own: String,
        /// Its cosine to the nearest wording of another entry.
        other_cosine: f32,
        /// That wording.
        other: FoundWording,
    },
    /// The last day of an entry is over.
    Expired {
        /// The entry.
        id: String,
        /// Its question.
        question: String,
        /// Its last day.
        valid_to: String,
    },
    /// The first day of an entry has not come.
    NotValidYet {
        /// The entry.
        id: String,
        /// Its question.
        question: String,
        /// Its first day.
        valid_from: String,
    },
    /// No customer ever got this answer.
    NeverUsed {
        /// The entry.
        id: String,
        /// Its question.
        question: String,
    },
}

/// All different wordings of entries.
///
/// # Errors
///
/// When there are more than [`MAX_WORDINGS`].
pub fn wordings(entries: &[KnowledgeEntry]) -> Result<Vec<Wording<'_>>, KnowledgeError> {
    let all = entries.iter().enumerate();
    let wordings: Vec<Wording<'_>> = all
        .flat_map(|(index, entry)| entry.wordings().into_iter().map(move |text| Wording { entry: index, text }))
        .collect();
    match wordings.len() {
        count if count > MAX_WORDINGS => Err(KnowledgeError::TooManyWordings { wordings: count }),
        _ => Ok(wordings),
    }
}

/// The embeddings of wordings, in their order; `at_once` texts wait for the model together, and `progress` counts them.
///
/// # Errors
///
/// When the model fails.
pub async fn embed(
    engine: &Engine,
    wordings: &[Wording<'_>],
    at_once: usize,
    progress: impl Fn(usize),
) -> Result<Vec<Vec<f32>>, EngineError> {
    let mut embeddings = Vec::with_capacity(wordings.len());
    for some in wordings.chunks(at_once.max(1)) {
        let texts = some.iter().map(|wording| wording.text.to_owned()).collect();
        embeddings.extend(engine.understand(texts).await?.into_iter().map(|understood| understood.embedding));
        progress(embeddings.len());
    }
    Ok(embeddings)
}

/// Everything that is found, kind by kind, the clearest first. `embeddings` are those of `wordings`, of length 1; `answers`
/// counts the bot's answers by entry, if they are known.
pub fn find(
    entries: &[KnowledgeEntry],
    wordings: &[Wording<'_>],
    embeddings: &[Vec<f32>],
    answers: Option<&BTreeMap<String, u64>>,
    settings: &CheckSettings,
) -> Vec<Finding> {
    let rivals = Rivals::new(entries, settings.today);
    let nearest = nearest(wordings, embeddings, &rivals);
    let found = |index: usize| FoundWording {
        id: entries[wordings[index].entry].id.clone(),
        text: wordings[index].text.to_owned(),
    };

    // One finding for two entries, with the wordings that are most alike: whoever looks at one sees the others.
    let mut pairs: BTreeMap<(usize, usize), (f32, usize, usize)> = BTreeMap::new();
    let mut add = |one: usize, other: usize, cosine: f32| {
        let (one, other) = (one.min(other), one.max(other));
        let pair = pairs.entry((wordings[one].entry, wordings[other].entry)).or_insert((cosine, one, other));
        if cosine > pair.0 {
            *pair = (cosine, one, other);
        }
    };
    for (one, other) in same_text(wordings, &rivals) {
        add(one, other, dot(&embeddings[one], &embeddings[other]));
    }
    for (index, near) in nearest.iter().enumerate() {
        if let Some((cosine, other)) = near.rival
            && cosine >= settings.same
        {
            add(index, other, cosine);
        }
    }
    let mut same: Vec<(f32, usize, usize)> = pairs.values().copied().collect();
    same.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut findings: Vec<Finding> = same
        .into_iter()
        .map(|(cosine, one, other)| Finding::DifferentAnswers { cosine, one: found(one), other: found(other) })
        .collect();

    let mut strays = Vec::new();
    for (index, near) in nearest.iter().enumerate() {
        // An entry with one wording has nothing that this one should lie near to.
        if let (Some((own_cosine, own)), Some((other_cosine, other))) = (near.own, near.rival)
            && other_cosine > own_cosine + settings.margin
        {
            let (one, two) = (wordings[index].entry, wordings[other].entry);
            // That these two are alike has been said.
            if !pairs.contains_key(&(one.min(two), one.max(two))) {
                strays.push((other_cosine - own_cosine, index, own_cosine, own, other_cosine, other));
            }
        }
    }
    strays.sort_by(|one, other| other.0.total_cmp(&one.0));
    findings.extend(strays.into_iter().map(|(_, index, own_cosine, own, other_cosine, other)| {
        let own = wordings[own].text.to_owned();
        Finding::NearerToAnother { wording: found(index), own_cosine, own, other_cosine, other: found(other) }
    }));

    findings.extend(out_of_date(entries, settings.today));
    findings.extend(answers.into_iter().flat_map(|answers| never_used(entries, answers, settings.today)));
    findings
}

fn out_of_date(entries: &[KnowledgeEntry], today: u32) -> impl Iterator<Item = Finding> {
    let of = |entry: &KnowledgeEntry| (entry.id.clone(), entry.question.clone());
    let expired = entries.iter().filter_map(move |entry| {
        let valid_to = entry.valid_to.clone().filter(|day| number(day) < today)?;
        let (id, question) = of(entry);
        Some(Finding::Expired { id, question, valid_to })
    });
    let early = entries.iter().filter_map(move |entry| {
        let valid_from = entry.valid_from.clone().filter(|day| number(day) > today)?;
        let (id, question) = of(entry);
        Some(Finding::NotValidYet { id, question, valid_from })
    });
    expired.chain(early)
}

/// Entries that could have answered and never did. Few answers tell nothing, and that an entry is not valid has been said.
fn never_used(entries: &[KnowledgeEntry], answers: &BTreeMap<String, u64>, today: u32) -> Vec<Finding> {
    if answers.values().sum::<u64>() < MIN_ANSWERS {
        return Vec::new();
    }
    let unused = entries.iter().filter(|entry| {
        let (from, to) = period(entry);
        (from..=to).contains(&today) && !answers.contains_key(&entry.id)
    });
    unused.map(|entry| Finding::NeverUsed { id: entry.id.clone(), question: entry.question.clone() }).collect()
}

/// A day that was checked, as `YYYYMMDD`.
fn number(day: &str) -> u32 {
    day.bytes().filter(u8::is_ascii_digit).fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

fn period(entry: &KnowledgeEntry) -> (u32, u32) {
    (entry.valid_from.as_deref().map_or(0, number), entry.valid_to.as_deref().map_or(u32::MAX, number))
}

/// Which entries contradict each other if they answer the same question: those with different answers that hold on the same
/// day, today or later. Whether last year's answer was another one matters to nobody.
struct Rivals {
    /// For every entry the number of its answer and the days on which it holds.
    entries: Vec<(usize, u32, u32)>,
}

impl Rivals {
    fn new(entries: &[KnowledgeEntry], today: u32) -> Self {
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let entries = entries
            .iter()
            .map(|entry| {
                let next = numbers.len();
                // Blanks and line breaks make no other answer.
                let answer = entry.answer.split_whitespace().collect::<Vec<_>>().join(" ");
                let answer = *numbers.entry(answer).or_insert(next);
                let (from, to) = period(entry);
                (answer, from.max(today), to)
            })
            .collect();
        Self { entries }
    }

    fn are(&self, one: usize, other: usize) -> bool {
        let ((answer, from, to), (other_answer, other_from, other_to)) = (self.entries[one], self.entries[other]);
        answer != other_answer && from.max(other_from) <= to.min(other_to)
    }
}

/// A wording without what makes no other question: width, case, blanks, punctuation.
fn plain(text: &str) -> String {
    let letters: String = text.nfkc().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect();
    // Of "？？" nothing would be left, and it is not the same as "!!".
    if letters.is_empty() { text.split_whitespace().collect() } else { letters }
}

/// Pairs of wordings of rivals that are the same text: every one with the first that it contradicts.
fn same_text(wordings: &[Wording<'_>], rivals: &Rivals) -> Vec<(usize, usize)> {
    let mut by_text: HashMap<String, Vec<usize>> = HashMap::new();
    let mut pairs = Vec::new();
    for (index, wording) in wordings.iter().enumerate() {
        let same = by_text.entry(plain(wording.text)).or_default();
        pairs.extend(
            same.iter().find(|other| rivals.are(wordings[**other].entry, wording.entry)).map(|other| (*other, index)),
        );
        same.push(index);
    }
    pairs
}

/// What lies nearest to a wording: cosine and index.
#[derive(Clone, Copy, Debug, Default)]
struct Nearest {
    /// Among the other wordings of its entry.
    own: Option<(f32, usize)>,
    /// Among the wordings of rivals of its entry.
    rival: Option<(f32, usize)>,
}

/// Every wording against every other. Blocks of rows and columns stay in the processor's cache while they are multiplied.
fn nearest(wordings: &[Wording<'_>], embeddings: &[Vec<f32>], rivals: &Rivals) -> Vec<Nearest> {
    const ROWS: usize = 32;
    const COLUMNS: usize = 128;
    let mut nearest = vec![Nearest::default(); wordings.len()];
    let better = |held: &mut Option<(f32, usize)>, cosine: f32, index: usize| {
        if held.is_none_or(|(best, _)| cosine > best) {
            *held = Some((cosine, index));
        }
    };
    let fill = |first: usize, rows: &mut [Nearest]| {
        for columns in (0..wordings.len()).step_by(COLUMNS) {
            let columns = columns..(columns + COLUMNS).min(wordings.len());
            for (row, near) in rows.iter_mut().enumerate() {
                let row = first + row;
                for column in columns.clone() {
                    let cosine = dot(&embeddings[row], &embeddings[column]);
                    let (one, other) = (wordings[row].entry, wordings[column].entry);
                    if one != other {
                        if near.rival.is_none_or(|(best, _)| cosine > best) && rivals.are(one, other) {
                            near.rival = Some((cosine, column));
                        }
                    } else if row != column {
                        better(&mut near.own, cosine, column);
                    }
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = wordings.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (thread, rows) in nearest.chunks_mut(share).enumerate() {
            scope.spawn(move || {
                for (block, rows) in rows.chunks_mut(ROWS).enumerate() {
                    fill(thread * share + block * ROWS, rows);
                }
            });
        }
    });
    nearest
}

/// Sums in lanes, which the compiler turns into vector instructions; a plain sum must keep its order and cannot be.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (ones, others) = (one.chunks_exact(LANES), other.chunks_exact(LANES));
    let rest: f32 = ones.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in ones.zip(others) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}
