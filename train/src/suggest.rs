//! `suggest`: which messages are most worth a label next, as tasks for Label Studio.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use yingda_datasets::{ColumnMap, DatasetsError, Message, NearDuplicates, Role, Sentiment, write_atomically};
use yingda_models::{Encoded, Labels, ModelFolder, Seeded, text::TextContract};

use crate::{
    TrainError, chats, eval,
    examples::{self, Example},
    fit::write_json,
    metrics::best,
    output,
};

/// The random stream that orders equally uncertain messages.
const TIES: u64 = 1 << 44;
/// Messages of the chat that a task shows before the one in question.
const BEFORE: usize = 4;

/// The flags of `suggest`.
#[derive(Args, Clone, Debug)]
pub struct SuggestArgs {
    /// Model folder
    #[arg(long, value_name = "FOLDER")]
    pub model: PathBuf,
    /// Chats; messages without an intent are suggested, those with one count as known
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Column names: OURS=THEIRS, such as text=content; may be repeated
    #[arg(long, value_name = "OURS=THEIRS")]
    pub map: Vec<String>,
    /// How many messages to suggest
    #[arg(long, default_value_t = 200)]
    pub count: usize,
    /// Choose among this many of the most uncertain messages [default: 10 times --count]
    #[arg(long)]
    pub pool: Option<usize>,
    /// Seed of the order among equally uncertain messages
    #[arg(long, default_value_t = 20_260_101)]
    pub seed: u64,
    /// Label Studio tasks with predictions, to import as they are
    #[arg(long, value_name = "FILE.json")]
    pub out: PathBuf,
    /// Also write the labelling configuration that the tasks fit
    #[arg(long, value_name = "FILE.xml")]
    pub label_config: Option<PathBuf>,
    /// Where to compute: cpu or cuda
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// What `suggest` gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SuggestSummary {
    /// The model that was asked.
    pub model: String,
    /// Customers' messages without an intent.
    pub unlabelled: usize,
    /// Of those, how many say almost the same as a message with an intent or as a more uncertain one.
    pub near_duplicates: usize,
    /// The most uncertain, of which the suggested ones were chosen.
    pub pool: usize,
    /// Suggested messages.
    pub suggested: usize,
    /// Suggested messages by the intent that the model would give them.
    pub intents: BTreeMap<String, usize>,
    /// Mean margin of all messages without an intent, and of the suggested ones.
    pub margins: [f64; 2],
}

/// A message with what the model says of it.
struct Candidate<'a> {
    example: &'a Example,
    intents: Vec<f32>,
    sentiments: Vec<f32>,
    /// Distance between the first and the second intent: small is uncertain.
    margin: f32,
}

/// Runs `suggest`.
///
/// A message is uncertain when its two likeliest intents are close (margin sampling, Scheffer, Decomain and Wrobel
/// 2001). Among the most uncertain, messages are taken by the greedy k-center rule of core-set selection (Sener and
/// Savarese 2018, <https://arxiv.org/abs/1708.00489>): always the one that is farthest from all that have a label or
/// were taken.
///
/// # Errors
/// When the model or the data is not usable, nothing is left to label, or a file cannot be written.
pub fn suggest(args: &SuggestArgs) -> Result<SuggestSummary, TrainError> {
    if args.count == 0 || args.pool.is_some_and(|pool| pool < args.count) {
        return Err(TrainError::Usage("--count must be at least 1, and --pool at least --count".into()));
    }
    let device = yingda_models::device(&args.device)?;
    let folder = ModelFolder::open(&args.model, &device, false)?;
    let messages = chats::of_model(&args.data, &ColumnMap::for_chats(&args.map)?, &folder.settings)?;
    let mut sessions: HashMap<&str, Vec<&Message>> = HashMap::new();
    for message in &messages {
        sessions.entry(&message.session_id).or_default().push(message);
    }
    sessions.values_mut().for_each(|session| session.sort_by_key(|message| message.turn));

    // Examples are made of labelled messages: here, of every customer's.
    let marked = messages.iter().map(|message| Message { sentiment: Some(Sentiment::Neutral), ..message.clone() });
    let mut examples = examples::examples(
        marked.collect(),
        &folder.settings.labels,
        &folder.tokenizer,
        folder.settings.context_turns,
    )?;
    examples.retain(|example| !example.model_text.is_empty());
    let (labelled, unlabelled): (Vec<Example>, Vec<Example>) =
        examples.into_iter().partition(|example| example.message.intent.is_some());
    if unlabelled.is_empty() {
        return Err(TrainError::Usage(
            "every customer's message has an intent already; give chats that have messages without one".into(),
        ));
    }

    let scored = eval::score_examples(&folder.model, &folder.settings, &unlabelled)?;
    let mut candidates: Vec<Candidate<'_>> = scored
        .probabilities()
        .map(|(example, intents, sentiments)| Candidate { example, margin: margin(&intents), intents, sentiments })
        .collect();
    let mean = |margins: &mut dyn Iterator<Item = f32>| {
        let (sum, count) = margins.fold((0.0, 0usize), |(sum, count), margin| (sum + f64::from(margin), count + 1));
        sum / count.max(1) as f64
    };
    let mean_margin = mean(&mut candidates.iter().map(|candidate| candidate.margin));
    Seeded::new(args.seed, TIES).shuffle(&mut candidates);
    candidates.sort_by(|a, b| a.margin.total_cmp(&b.margin));

    let known = labelled.iter().map(|example| example.model_text.as_str());
    let fresh = firsts(known, candidates.iter().map(|candidate| candidate.example.model_text.as_str()));
    let mut fresh = fresh.into_iter();
    candidates.retain(|_| fresh.next().unwrap_or(false));
    let near_duplicates = unlabelled.len() - candidates.len();
    candidates.truncate(args.pool.unwrap_or_else(|| args.count.saturating_mul(10)));
    if candidates.is_empty() {
        return Err(TrainError::Usage(
            "every message without an intent says almost the same as one that has it; give other chats".into(),
        ));
    }

    let texts: Vec<&Encoded> = candidates.iter().map(|candidate| &candidate.example.encoded).collect();
    let embeddings = eval::embed(&folder.model, &texts)?;
    let texts: Vec<&Encoded> = labelled.iter().map(|example| &example.encoded).collect();
    let centers = eval::embed(&folder.model, &texts)?;
    let taken = farthest_first(&embeddings, &centers, args.count);
    if taken.len() < args.count {
        output::line(&format!("there are only {} different messages without an intent", taken.len()));
    }

    let contract = folder.tokenizer.contract();
    let chosen: Vec<&Candidate<'_>> = taken.iter().map(|&place| &candidates[place]).collect();
    let mut intents: BTreeMap<String, usize> = BTreeMap::new();
    let mut tasks = Vec::with_capacity(chosen.len());
    for candidate in &chosen {
        let message = &candidate.example.message;
        *intents.entry(folder.settings.labels.intents[best(&candidate.intents).0].clone()).or_default() += 1;
        let session = sessions.get(message.session_id.as_str()).map_or(&[][..], Vec::as_slice);
        tasks.push(task(candidate, &folder.settings.labels, &folder.model_id, contract, session));
    }
    write_json(&args.out, &tasks)?;
    if let Some(path) = &args.label_config {
        write_text(path, &label_config(&folder.settings.labels))?;
    }
    Ok(SuggestSummary {
        model: folder.model_id.clone(),
        unlabelled: unlabelled.len(),
        near_duplicates,
        pool: candidates.len(),
        suggested: chosen.len(),
        intents,
        margins: [mean_margin, mean(&mut chosen.iter().map(|candidate| candidate.margin))],
    })
}

/// Distance between the largest and the second largest probability; 1 where there is one class.
fn margin(probabilities: &[f32]) -> f32 {
    let (first, most) = best(probabilities);
    let others = probabilities.iter().enumerate().filter(|(class, _)| *class != first);
    most - others.map(|(_, &probability)| probability).fold(0.0, f32::max)
}

/// Whether each text says something that no `known` text and no text before it says almost the same.
fn firsts<'a>(known: impl Iterator<Item = &'a str>, texts: impl Iterator<Item = &'a str>) -> Vec<bool> {
    let mut all: Vec<&str> = known.collect();
    let count = all.len();
    all.extend(texts);
    let clusters = NearDuplicates::default().clusters(&all);
    let mut seen: HashSet<(Option<usize>, &str)> = HashSet::new();
    // Short texts have no cluster; they are the same only letter by letter.
    let fresh = clusters.into_iter().zip(&all).map(|(cluster, text)| match cluster {
        Some(cluster) => seen.insert((Some(cluster), "")),
        None => seen.insert((None, text)),
    });
    fresh.collect::<Vec<bool>>().split_off(count)
}

/// Up to `count` places in `pool`, each the one that is farthest from `centers` and from those before it; the first of
/// the pool where there is no center. Vectors have length 1, the distance is 1 less the cosine, and of equals the first
/// is taken.
///
/// The greedy 2-approximation of k-center (Gonzalez 1985), as Sener and Savarese 2018 use it.
pub fn farthest_first(pool: &[Vec<f32>], centers: &[Vec<f32>], count: usize) -> Vec<usize> {
    let distance = |a: &[f32], b: &[f32]| 1.0 - a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let mut nearest: Vec<f32> = pool
        .iter()
        .map(|vector| centers.iter().map(|center| distance(vector, center)).fold(f32::INFINITY, f32::min))
        .collect();
    let mut taken = Vec::with_capacity(count.min(pool.len()));
    while taken.len() < count.min(pool.len()) {
        let (place, _) = best(&nearest);
        taken.push(place);
        for (nearest, vector) in nearest.iter_mut().zip(pool) {
            *nearest = nearest.min(distance(vector, &pool[place]));
        }
        // Below every distance, so that nothing is taken twice, not even among equal vectors.
        nearest[place] = f32::NEG_INFINITY;
    }
    taken
}

/// A task in Label Studio's JSON format (<https://labelstud.io/guide/predictions>). Texts leave this program with
/// personal data masked, as the model reads them.
fn task(
    candidate: &Candidate<'_>,
    labels: &Labels,
    model_id: &str,
    contract: &TextContract,
    session: &[&Message],
) -> Value {
    let message = &candidate.example.message;
    let masked = |text: &str| contract.mask(text).0;
    // Its name alone: where it lay is nobody's business.
    let file = Path::new(&message.file).file_name().map(|name| name.to_string_lossy().into_owned());
    let earlier: Vec<&&Message> = session.iter().filter(|other| other.turn < message.turn).collect();
    let before: Vec<String> = earlier[earlier.len().saturating_sub(BEFORE)..]
        .iter()
        .map(|other| {
            let who = match other.role {
                Role::User => "客户",
                Role::Agent => "客服",
                Role::Bot => "机器人",
            };
            format!("{who}：{}", masked(&other.text))
        })
        .collect();
    let choice = |name: &str, labels: &[String], probabilities: &[f32]| {
        let (place, probability) = best(probabilities);
        json!({
            "id": name, "from_name": name, "to_name": "text", "type": "choices", "score": rounded(probability),
            "value": { "choices": [labels[place]] },
        })
    };
    json!({
        "data": {
            "text": masked(&message.text),
            "before": if before.is_empty() { "（会话开始）".to_owned() } else { before.join("\n") },
            "session_id": message.session_id,
            "turn": message.turn,
            "file": file,
            "row": message.row,
            "margin": rounded(candidate.margin),
        },
        "predictions": [{
            "model_version": model_id,
            "score": rounded(best(&candidate.intents).1),
            "result": [
                choice("intent", &labels.intents, &candidate.intents),
                choice("sentiment", &labels.sentiments, &candidate.sentiments),
            ],
        }],
    })
}

/// Four digits: more would be noise in a file for people.
fn rounded(number: f32) -> f64 {
    (f64::from(number) * 1e4).round() / 1e4
}

/// A labelling configuration for Label Studio whose names are those of the tasks.
pub fn label_config(labels: &Labels) -> String {
    let mut text = String::from(
        "<View>\n  <Header value=\"上文\"/>\n  <Text name=\"before\" value=\"$before\"/>\n  <Header value=\"客户这句话\"/>\n  \
         <Text name=\"text\" value=\"$text\"/>\n",
    );
    for (name, title, labels, layout) in [
        ("intent", "意图", &labels.intents, "showInline=\"true\" required=\"true\""),
        ("sentiment", "情绪", &labels.sentiments, "showInline=\"true\""),
    ] {
        let _ = writeln!(text, "  <Header value=\"{title}\"/>");
        let _ = writeln!(text, "  <Choices name=\"{name}\" toName=\"text\" choice=\"single\" {layout}>");
        for label in labels {
            let _ = writeln!(text, "    <Choice value=\"{}\"/>", escaped(label));
        }
        text.push_str("  </Choices>\n");
    }
    text.push_str("</View>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn write_text(path: &Path, text: &str) -> Result<(), TrainError> {
    Ok(write_atomically(path, |file| {
        file.write_all(text.as_bytes())
            .map_err(|source| DatasetsError::Write { file: path.display().to_string(), source })
    })?)
}

impl SuggestSummary {
    /// The report for a terminal.
    pub fn report(&self) -> String {
        let mut by_count: Vec<_> = self.intents.iter().collect();
        by_count.sort_by(|a, b| b.1.cmp(a.1));
        let intents: Vec<String> = by_count.iter().map(|(intent, count)| format!("{intent} {count}")).collect();
        format!(
            "{} messages without an intent; {} are near-duplicates; {} chosen among the {} most uncertain\n\
             mean margin: {:.3} over all, {:.3} of those chosen\nthe model says of them: {}",
            self.unlabelled,
            self.near_duplicates,
            self.suggested,
            self.pool,
            self.margins[0],
            self.margins[1],
            intents.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(degrees: f32) -> Vec<f32> {
        vec![degrees.to_radians().cos(), degrees.to_radians().sin()]
    }

    /// On a circle the farthest point can be told by hand.
    #[test]
    fn the_farthest_comes_first() {
        let pool: Vec<Vec<f32>> = [0.0, 10.0, 90.0, 100.0, 170.0, 10.0].map(turned).to_vec();
        // From 0 the farthest is 170; then 90 and 100 are 80 and 70 away from the nearest, then 10s and 100.
        assert_eq!(farthest_first(&pool, &[], 3), [0, 4, 2]);
        // A label at 175 degrees makes 0 the farthest, then 90 (85 away) and not 100 (75).
        assert_eq!(farthest_first(&pool, &[turned(175.0)], 2), [0, 2]);
        // Everything once, and no more than there is.
        let mut all = farthest_first(&pool, &[], 99);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        assert_eq!(farthest_first(&[], &[], 3), [0usize; 0]);
    }

    #[test]
    fn what_is_said_already_is_not_asked_again() {
        let long = "请问我昨天下午买的那双白色运动鞋什么时候可以发货呢";
        let known = [long, "好的"];
        let texts = ["请问我昨天下午买的那双白色运动鞋什么时候可以发货呢?", "好的", "在吗", "在吗", "发票怎么开"];
        assert_eq!(firsts(known.into_iter(), texts.into_iter()), [false, false, true, false, true]);
    }

    #[test]
    fn the_margin_is_between_the_first_two() {
        assert!((margin(&[0.2, 0.5, 0.3]) - 0.2).abs() < 1e-6);
        assert_eq!(margin(&[1.0]), 1.0);
        assert_eq!(margin(&[0.5, 0.5]), 0.0);
    }

    #[test]
    fn label_names_cannot_break_the_configuration() {
        let labels = Labels { intents: vec!["退&换 \"货\" <b>".into()], sentiments: vec!["neutral".into()] };
        let text = label_config(&labels);
        assert!(text.contains("<Choice value=\"退&amp;换 &quot;货&quot; &lt;b&gt;\"/>"), "{text}");
        assert_eq!(text.matches("<Choices ").count(), 2);
    }
}
