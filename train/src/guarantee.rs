//! `calibrate`: the confidence from which the reply decision may answer, so that wrong automatic answers stay below a bound.
//!
//! What is bounded is the share of wrong ones **among automatic answers** (selective risk), not among all messages: a message
//! counts as answered when its first intent passes the intent gates of the reply decision (probability and distance to the
//! second), and as wrong when that intent is not its label. A label that the model does not know is always wrong. Intents that the
//! reply decision hands over or refuses are no automatic answers, and count neither way. The probability of the
//! answer (`yingda tune`) comes on top and is not part of it, nor are replies that are nearly word for word and need no intent.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use yingda_datasets::{ColumnMap, Message};
use yingda_models::selective::{Bound, Choice, GRID, Group, Row, Simulated, choose, rows_that_would_do, simulate};
use yingda_models::{Guarantee, IntentGuarantee, ModelFolder, ModelSettings, fingerprint};

use crate::{
    TrainError, calibrate,
    chats::{self, Seen},
    eval::{Scored, score_examples},
    examples::{self, Example, data_fingerprint},
    fit::write_json,
    output,
    statistics::rows_by_session,
};

/// Intents that the reply decision never answers: it hands them over, or says that the shop does not do this.
const NOT_ANSWERED: [&str; 3] = ["out_of_scope", "转人工", "投诉"];

/// What is asked of `calibrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct CalibrateFlags {
    /// Model folder; its `yingda.json` gets the thresholds
    #[arg(long, value_name = "FOLDER")]
    pub model: PathBuf,
    /// Labelled chats that the model has not learnt from, as they will come
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Column names: OURS=THEIRS, such as text=content; may be repeated
    #[arg(long, value_name = "OURS=THEIRS")]
    pub map: Vec<String>,
    /// Largest share of wrong ones among automatic answers
    #[arg(long, default_value_t = 0.02, value_name = "SHARE")]
    pub max_wrong: f64,
    /// Probability with which the share must stay below it
    #[arg(long, default_value_t = 0.95, value_name = "PROBABILITY")]
    pub confidence: f64,
    /// A threshold for each common intent, and one for the others; an intent that cannot be certified is never answered
    #[arg(long)]
    pub per_intent: bool,
    /// Intents that are never answered automatically; may be repeated [default: out_of_scope 转人工 投诉]
    #[arg(long, value_name = "INTENT")]
    pub not_answered: Vec<String>,
    /// Write nothing; choose and check on so many random splits and draws of the data, at --max-wrong, 0.02 and 0.05
    #[arg(long, value_name = "RUNS")]
    pub simulate: Option<usize>,
    /// Seed of the random splits
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Where to compute: cpu or cuda
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

/// A threshold of one or several intents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupOutcome {
    /// The intents that share it.
    pub intents: Vec<String>,
    /// Least probability for an automatic answer; `None`: never.
    pub threshold: Option<f32>,
    /// Labelled messages said to be of these intents.
    pub rows: usize,
    /// Those that are answered.
    pub answered: usize,
    /// Wrong ones among the answered.
    pub wrong: usize,
}

/// What was certified and written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibrated {
    /// As it stands in `yingda.json`.
    pub guarantee: Guarantee,
    /// One group, or with `--per-intent` one for each common intent and one for the others.
    pub groups: Vec<GroupOutcome>,
    /// How much less the rows of a session say than as many independent ones.
    pub design_effect: f64,
    /// Sessions that it rests on.
    pub sessions: usize,
    /// The folder's new name for the reply store.
    pub model_id: String,
}

/// What `--simulate` found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulation {
    /// Probability that was asked for.
    pub confidence: f64,
    /// Labelled messages.
    pub rows: usize,
    /// Sessions.
    pub sessions: usize,
    /// At each bound.
    pub bounds: Vec<Simulated>,
}

/// Labelled messages, judged.
struct Judged {
    sessions: Vec<Vec<Row>>,
    /// Intents that may be answered.
    answerable: Vec<usize>,
    rows: usize,
}

/// Chooses thresholds on labelled chats and writes them into the model folder; see [`choose`] for what is promised.
///
/// # Errors
/// When a flag, the folder or the data is not usable, and when nothing can be certified: nothing is written then.
pub fn certify(flags: &CalibrateFlags) -> Result<Calibrated, TrainError> {
    let bound = bound(flags)?;
    let (mut settings, judged) = judge(flags)?;
    let sessions: Vec<&[Row]> = judged.sessions.iter().map(Vec::as_slice).collect();
    let choice = choose(&sessions, &judged.answerable, bound, flags.per_intent);
    if !choice.any() {
        return Err(TrainError::NothingCertified(refusal(&choice, &judged, bound)));
    }
    let labels = &settings.labels.intents;
    let groups: Vec<GroupOutcome> = choice.groups.iter().map(|group| outcome(group, labels)).collect();
    let answered: usize = groups.iter().map(|group| group.answered).sum();
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    // A group of one common intent has a threshold of its own; the last may be that of all others, or all there is.
    let is_shared = |index: usize| !flags.per_intent || (index + 1 == groups.len() && groups[index].intents.len() > 1);
    let shared = (0..groups.len()).find(|&index| is_shared(index)).map(|index| &groups[index]);
    let threshold = shared.and_then(|group| group.threshold);
    let mut per_intent = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        if is_shared(index) && group.threshold.is_some() {
            continue;
        }
        let coverage = share(group.answered, group.rows);
        for intent in &group.intents {
            let own = IntentGuarantee { threshold: group.threshold, coverage, rows: group.rows };
            per_intent.insert(intent.clone(), own);
        }
    }
    let guarantee = Guarantee {
        max_wrong: bound.max_wrong,
        confidence: bound.confidence,
        threshold,
        coverage: share(answered, judged.rows),
        rows: judged.rows,
        per_intent,
    };
    if let Some(threshold) = threshold {
        settings.thresholds.intent_confidence = threshold;
    }
    settings.guarantee = Some(guarantee.clone());
    let old = fingerprint(&flags.model)?;
    write_json(&flags.model.join("yingda.json"), &settings)?;
    let new = fingerprint(&flags.model)?;
    let calibrated = Calibrated {
        guarantee,
        groups,
        design_effect: choice.design_effect,
        sessions: judged.sessions.len(),
        model_id: new.clone(),
    };
    write_card(&flags.model, &calibrated)?;
    if old != new {
        output::line(&format!(
            "the model is now {new} (before: {old}); fill the reply store of a running service again with `yingda index`"
        ));
    }
    Ok(calibrated)
}

/// Repeats the choice on random parts of the data and checks it; writes nothing.
///
/// # Errors
/// When a flag, the folder or the data is not usable.
pub fn rehearse(flags: &CalibrateFlags, runs: usize) -> Result<Simulation, TrainError> {
    let asked = bound(flags)?;
    if runs == 0 {
        return Err(TrainError::Usage("--simulate is 0; ask for at least 1 run, 200 say something".into()));
    }
    let (_, judged) = judge(flags)?;
    let mut bounds = vec![0.02, 0.05, asked.max_wrong];
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    let at = |max_wrong: f64| {
        let bound = Bound { max_wrong, ..asked };
        simulate(&judged.sessions, &judged.answerable, bound, flags.per_intent, runs, flags.seed)
    };
    Ok(Simulation {
        confidence: asked.confidence,
        rows: judged.rows,
        sessions: judged.sessions.len(),
        bounds: bounds.into_iter().map(at).collect(),
    })
}

fn bound(flags: &CalibrateFlags) -> Result<Bound, TrainError> {
    for (name, value) in [("max-wrong", flags.max_wrong), ("confidence", flags.confidence)] {
        if !(value > 0.0 && value < 1.0) {
            return Err(TrainError::Usage(format!("--{name} is {value}; it must lie between 0 and 1, such as 0.02")));
        }
    }
    Ok(Bound { max_wrong: flags.max_wrong, confidence: flags.confidence })
}

fn judge(flags: &CalibrateFlags) -> Result<(ModelSettings, Judged), TrainError> {
    let map = ColumnMap::for_chats(&flags.map)?;
    let folder = ModelFolder::open(&flags.model, &yingda_models::device(&flags.device)?, false)?;
    let labels = &folder.settings.labels;
    if let Some(unknown) = flags.not_answered.iter().find(|&intent| !labels.intents.contains(intent)) {
        return Err(TrainError::Usage(format!(
            "--not-answered: the model has no intent {unknown}; its intents stand in yingda.json"
        )));
    }
    let mut messages = chats::of_model(&flags.data, &map, &folder.settings)?;
    let copies = drop_copies(&mut messages);
    if copies > 0 {
        output::line(&format!("{copies} messages stand more than once and count once"));
    }
    let kept = examples::examples(messages, labels, &folder.tokenizer, folder.settings.context_turns)?;
    let seen = Seen::read(&folder.path)?.sessions(&kept).into_iter().map(str::to_owned).collect::<HashSet<_>>();
    let is_seen = |example: &Example| seen.contains(&example.message.session_id);
    let count = kept.iter().filter(|example| is_seen(example)).count();
    if count == kept.len() && count > 0 || data_fingerprint(&kept) == folder.settings.data_fingerprint {
        return Err(TrainError::Usage(
            "--data is what the model was made from, on which it is surer than it will be; give labelled chats that it has not seen"
                .into(),
        ));
    }
    if count > 0 {
        output::line(&format!(
            "{count} of {} labelled messages are left out: the model was made from their sessions, and is surer there than it will be",
            kept.len()
        ));
    }
    let kept: Vec<_> = kept.into_iter().filter(|kept| kept.message.intent.is_some() && !is_seen(kept)).collect();
    if kept.is_empty() {
        return Err(TrainError::Usage(
            "no user message has an intent; check the columns with `yingda-train check`, or map one with --map intent=..."
                .into(),
        ));
    }
    let unknown = kept.iter().filter(|example| example.intent.is_none()).count();
    if unknown > 0 {
        output::line(&format!(
            "{unknown} of {} messages have an intent that the model does not know: whatever it answers them is wrong",
            kept.len()
        ));
    }
    let never = |intent: &String| {
        if flags.not_answered.is_empty() {
            NOT_ANSWERED.contains(&intent.as_str())
        } else {
            flags.not_answered.contains(intent)
        }
    };
    let answerable: Vec<usize> = (0..labels.intents.len()).filter(|&index| !never(&labels.intents[index])).collect();
    if answerable.is_empty() {
        return Err(TrainError::Usage(
            "--not-answered names every intent; leave out those that may be answered".into(),
        ));
    }
    let scored = score_examples(&folder.model, &folder.settings, &kept)?;
    let sessions = rows_by_session(kept.iter().map(|example| example.message.session_id.as_str()));
    let rows = judged_rows(&scored, &folder.settings, &answerable);
    let sessions = sessions.into_iter().map(|session| session.into_iter().map(|row| rows[row]).collect()).collect();
    Ok((folder.settings, Judged { sessions, answerable, rows: kept.len() }))
}

/// Keeps the first of messages that stand several times: of the same session and turn, or of sessions that hold the same
/// messages under different names. How many were dropped.
fn drop_copies(messages: &mut Vec<Message>) -> usize {
    // Of a message that stands twice in a session once, so that such a session is the same as its copy.
    let mut sessions: HashMap<&str, BTreeSet<(i64, &str, &str)>> = HashMap::new();
    for message in messages.iter() {
        let turn = (message.turn, message.role.as_str(), message.text.as_str());
        sessions.entry(&message.session_id).or_default().insert(turn);
    }
    // A chat of one short message comes again by itself; a whole conversation does not.
    let telling =
        |turns: &BTreeSet<(i64, &str, &str)>| turns.iter().map(|turn| turn.2.chars().count()).sum::<usize>() >= TELLING;
    let mut names: Vec<&str> = sessions.keys().copied().collect();
    names.sort_unstable();
    let mut known: HashSet<&BTreeSet<(i64, &str, &str)>> = HashSet::new();
    let copied = names.into_iter().filter(|name| telling(&sessions[name]) && !known.insert(&sessions[name]));
    let copied: HashSet<String> = copied.map(str::to_owned).collect();
    let before = messages.len();
    let mut met: HashSet<(String, i64, &'static str, String)> = HashSet::new();
    messages.retain(|message| {
        let row = (message.session_id.clone(), message.turn, message.role.as_str(), message.text.clone());
        !copied.contains(&message.session_id) && met.insert(row)
    });
    before - messages.len()
}

/// Characters from which on two chats that are the same are one that was copied.
const TELLING: usize = 12;

fn judged_rows(scored: &Scored, settings: &ModelSettings, answerable: &[usize]) -> Vec<Row> {
    scored
        .rows()
        .map(|(example, logits, _)| {
            let mut ranked: Vec<(usize, f32)> =
                calibrate::softmax(logits, settings.temperatures.intent).into_iter().enumerate().collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            let (predicted, confidence) = ranked[0];
            let gap = confidence - ranked.get(1).map_or(0.0, |second| second.1);
            let passes = answerable.contains(&predicted) && gap >= settings.thresholds.intent_gap;
            Row::new(predicted, confidence, passes, example.intent != Some(predicted as u32))
        })
        .collect()
}

fn outcome(group: &Group, labels: &[String]) -> GroupOutcome {
    GroupOutcome {
        intents: group.intents.iter().map(|&intent| labels[intent].clone()).collect(),
        threshold: group.certified.map(|certified| GRID[certified.step]),
        rows: group.rows,
        answered: group.certified.map_or(0, |certified| certified.answered),
        wrong: group.certified.map_or(0, |certified| certified.wrong),
    }
}

/// Why nothing could be certified, and what it would need.
fn refusal(choice: &Choice, judged: &Judged, bound: Bound) -> String {
    let promise = format!(
        "no threshold keeps wrong automatic answers below {} with a confidence of {}",
        percent(bound.max_wrong),
        percent(bound.confidence)
    );
    // With several groups, the one that can be mended with the fewest rows speaks for all.
    let level = Bound { confidence: 1.0 - (1.0 - bound.confidence) / choice.groups.len() as f64, ..bound };
    let needs = |nearest: (usize, usize)| rows_that_would_do(nearest, judged.rows, level, choice.design_effect);
    let nearest = choice
        .groups
        .iter()
        .filter_map(|group| group.nearest)
        .min_by_key(|&nearest| needs(nearest).unwrap_or(usize::MAX));
    let reason = match nearest.map(|nearest| (nearest, needs(nearest))) {
        None => "no message reaches the intent gates at all; the model must learn more first".to_owned(),
        Some(((answered, wrong), Some(rows))) => format!(
            "at best {wrong} of {answered} answers were wrong, too few answers to be sure; about {rows} labelled messages of this \
             kind would do ({} were given), or a larger --max-wrong",
            judged.rows
        ),
        Some(((answered, wrong), None)) => format!(
            "at best {wrong} of {answered} answers were wrong, so more labelled messages will not help; mend the model (see \
             errors.jsonl of `yingda-train eval`), or allow more with --max-wrong"
        ),
    };
    format!("{promise}: {reason}. Nothing was written")
}

fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

const HEADING: &str = "## Guarantee";

/// Puts the guarantee into the model card, in the place of an older one.
fn write_card(model: &Path, calibrated: &Calibrated) -> Result<(), TrainError> {
    let path = model.join("README.md");
    let card = match std::fs::read_to_string(&path) {
        Ok(card) => card,
        // A folder without a card is whole.
        Err(_) => return Ok(()),
    };
    let mut kept = Vec::new();
    let mut inside = false;
    for line in card.lines() {
        if line.starts_with("## ") {
            inside = line == HEADING;
        }
        if !inside {
            kept.push(line);
        }
    }
    let text = format!("{}\n\n{HEADING}\n\n{}\n", kept.join("\n").trim_end(), promise(calibrated));
    Ok(yingda_datasets::write_atomically(&path, |file| {
        std::io::Write::write_all(file, text.as_bytes())
            .map_err(|source| yingda_datasets::DatasetsError::Write { file: path.display().to_string(), source })
    })?)
}

/// What was certified, in two sentences.
fn promise(calibrated: &Calibrated) -> String {
    let guarantee = &calibrated.guarantee;
    let answered: usize = calibrated.groups.iter().map(|group| group.answered).sum();
    let wrong: usize = calibrated.groups.iter().map(|group| group.wrong).sum();
    let alike = if calibrated.design_effect > 1.005 {
        format!("; messages of a session are alike, so {:.2} count as one", calibrated.design_effect)
    } else {
        String::new()
    };
    let from = match (guarantee.threshold, guarantee.per_intent.len()) {
        (Some(threshold), 0) => format!("Answering from intent probability {threshold}"),
        (Some(threshold), own) => {
            let own = if own == 1 { "one intent".to_owned() } else { format!("{own} intents") };
            format!("Answering from intent probability {threshold}, and {own} from one of their own or never")
        }
        (None, _) => "Answering each intent from a probability of its own or never".to_owned(),
    };
    format!(
        "{from}: at most {} of automatic answers are of the wrong intent, with {} confidence. Of {} labelled messages in {} \
         sessions {answered} are answered ({:.1} %), {wrong} of them wrongly{alike}.",
        percent(guarantee.max_wrong),
        percent(guarantee.confidence),
        guarantee.rows,
        calibrated.sessions,
        guarantee.coverage * 100.0,
    )
}

/// What was certified, for a terminal.
pub fn table(calibrated: &Calibrated) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["intent", "from", "rows", "answered", "wrong", "wrong share"]);
    for group in &calibrated.groups {
        let name = match group.intents.as_slice() {
            [intent] => intent.clone(),
            _ if calibrated.groups.len() == 1 => "all".to_owned(),
            intents => format!("{} others", intents.len()),
        };
        let share = group.wrong as f64 / group.answered.max(1) as f64;
        table.add_row([
            name,
            group.threshold.map_or("never".to_owned(), |threshold| threshold.to_string()),
            group.rows.to_string(),
            group.answered.to_string(),
            group.wrong.to_string(),
            if group.answered == 0 { "·".to_owned() } else { format!("{:.2} %", share * 100.0) },
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n\n{}", promise(calibrated))
}

/// What the random choices came to, for a terminal.
pub fn simulation_table(simulation: &Simulation) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "bound",
        "checked on",
        "certified",
        "exceeded",
        "mean coverage",
        "wrong",
    ]);
    for at in &simulation.bounds {
        for (name, checked) in [("the whole pool", at.drawn), ("the other half", at.halves)] {
            table.add_row([
                percent(at.max_wrong),
                name.to_owned(),
                format!("{:.1} %", checked.certified * 100.0),
                format!("{:.1} %", checked.exceeded * 100.0),
                format!("{:.1} %", checked.coverage * 100.0),
                format!("{:.2} %", checked.wrong * 100.0),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{table}\n\n{} runs on {} messages in {} sessions, confidence {}. The whole pool: chosen on half as many sessions, drawn with \
         replacement; exceeded when the rate in the pool, which is the real one there, is above the bound: at most {} of the runs \
         may. The other half: chosen on a random half, exceeded when the rate on the other is above the bound; strict, because \
         that half is a sample too, and a lucky half leaves an unlucky one. For what is measured on a sample of the same size to \
         stay below the bound in 95 % of the runs, choose with --confidence 0.99.",
        simulation.bounds.first().map_or(0, |at| at.runs),
        simulation.rows,
        simulation.sessions,
        percent(simulation.confidence),
        percent(1.0 - simulation.confidence)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_without_noise() {
        assert_eq!([0.02, 0.005, 0.95, 1.0 - 0.95, 0.12345].map(percent), ["2 %", "0.5 %", "95 %", "5 %", "12.345 %"]);
    }

    #[test]
    fn a_refusal_says_what_is_needed() {
        let bound = Bound { max_wrong: 0.02, confidence: 0.95 };
        let refused = |rows: usize, wrong: usize| {
            let sessions: Vec<Vec<Row>> = (0..rows).map(|row| vec![Row::new(0, 0.9, true, row < wrong)]).collect();
            let slices: Vec<&[Row]> = sessions.iter().map(Vec::as_slice).collect();
            let choice = choose(&slices, &[0], bound, false);
            assert!(!choice.any());
            refusal(&choice, &Judged { rows, sessions, answerable: vec![0] }, bound)
        };
        let few = refused(100, 0);
        assert!(
            few.contains("0 of 100 answers were wrong")
                && few.contains("labelled messages of this kind would do (100 were given)"),
            "{few}"
        );
        let bad = refused(400, 40);
        assert!(bad.contains("40 of 400") && bad.contains("will not help"), "{bad}");
        let none = refusal(
            &choose(&[], &[0], bound, false),
            &Judged { rows: 5, sessions: vec![], answerable: vec![0] },
            bound,
        );
        assert!(none.contains("no message reaches"), "{none}");
    }
}
