//! Commands over labelled questions: `tune` and `evaluate`.

use std::path::PathBuf;

use clap::Args;
use yingda::StartError;
use yingda::config::{Config, Flags, ServeFlags};
use yingda::evaluation::{Fate, Fates, evaluate as ask_all};
use yingda::questions::{self, LabelledQuestion};
use yingda::{lock_data, open_engine};
use yingda_engine::ranking::{TuneOptions, TuneReport};

use super::{Shown, say, wrong};

/// What `tune` is asked.
#[derive(Args)]
pub(super) struct TuneFlags {
    /// Labelled questions: JSON Lines of {"text": ..., "knowledge": [ids of right entries]}
    questions: PathBuf,
    /// Labelled questions that are only judged: nothing is learnt from them, they are in the figures
    #[arg(long, value_name = "FILE")]
    judge: Option<PathBuf>,
    /// Knowledge file: the last wording of each entry with three or more, which `yingda-train fit --knowledge` does not learn
    /// from, becomes a labelled question too, judged as if it were not in the store
    #[arg(long, value_name = "FILE")]
    wordings: Option<PathBuf>,
    /// Largest share of wrong ones among automatic answers
    #[arg(long, default_value_t = 0.02, value_name = "SHARE")]
    max_wrong: f64,
    /// Probability with which the share must stay below it
    #[arg(long, default_value_t = 0.95, value_name = "PROBABILITY")]
    confidence: f64,
    /// Seed of the parts that judge each other
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Measure only; keep nothing
    #[arg(long)]
    dry_run: bool,
    /// Also write what was tuned to a file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// What `evaluate` is asked.
#[derive(Args)]
pub(super) struct EvaluateFlags {
    /// Labelled questions: JSON Lines of {"text": ..., "knowledge": [ids of right entries]}, where it matters with
    /// "context": [{"role": "user", "text": ...}, ...]
    questions: PathBuf,
    /// Ask each question as if nothing had been said before
    #[arg(long)]
    without_context: bool,
    /// Print the outcome as JSON, with every question
    #[arg(long)]
    json: bool,
}

pub(super) async fn tune(flags: Flags, tune: TuneFlags) -> Result<(), StartError> {
    let between = |value: f64| value > 0.0 && value < 1.0;
    for (flag, value) in [("--max-wrong", tune.max_wrong), ("--confidence", tune.confidence)] {
        if !between(value) {
            return Err(wrong(format!("{flag} is {value}; it is a share and must lie between 0 and 1")));
        }
    }
    let config = Config::load(flags, ServeFlags::default())?;
    let mut labelled = questions::read(&tune.questions)?;
    if let Some(file) = &tune.wordings {
        let entries = yingda::knowledge::read(file)?;
        let with_three = entries.into_iter().filter(|entry| entry.similar_questions.len() >= 2);
        labelled.extend(with_three.filter_map(|mut entry| {
            let text = entry.similar_questions.pop()?;
            Some(LabelledQuestion { text, knowledge: vec![entry.id], ..LabelledQuestion::default() })
        }));
    }
    let judged = tune.judge.as_deref().map(questions::read).transpose()?.unwrap_or_default();
    let _lock = lock_data(&config, false)?;
    let engine = open_engine(&config).await?;
    let options = TuneOptions { max_wrong: tune.max_wrong, confidence: tune.confidence, seed: tune.seed };
    let shown = Shown::new(labelled.len() + judged.len(), "questions");
    let tuned = engine.tune(&labelled, &judged, options, tune.dry_run, |done, _| shown.at(done)).await;
    shown.end();
    engine.close().await;
    let (tuning, report) = tuned?;
    if let Some(path) = &tune.write {
        let text = serde_json::to_string_pretty(&tuning).expect("plain data is always JSON");
        std::fs::write(path, text + "\n")
            .map_err(|error| wrong(format!("{} cannot be written: {error}; choose another --write", path.display())))?;
    }
    if tune.json {
        say!("{}", serde_json::to_string_pretty(&report).expect("plain data is always JSON"));
    } else {
        print(&report, options, tune.dry_run);
    }
    Ok(())
}

fn print(report: &TuneReport, options: TuneOptions, dry_run: bool) {
    let TuneReport { questions, answerable, judged, thresholds, .. } = report;
    say!("{questions} labelled questions, {answerable} of them answerable, and {judged} that were only judged");
    say!("{:<14} {:>6} {:>6} {:>6} {:>14} {:>18}", "", "R@1", "R@10", "MRR@10", "no-match AUROC", "answered at 2 %");
    for method in &report.methods {
        let auroc = method.no_match_auroc.map_or_else(|| "-".to_owned(), |auroc| format!("{auroc:.4}"));
        say!(
            "{:<14} {:>6.4} {:>6.4} {:>6.4} {auroc:>14} {:>18.3}",
            method.method,
            method.recall_at_1,
            method.recall_at_10,
            method.mrr_at_10,
            method.coverage_at_2
        );
    }
    say!("the first entry was promised to be right with {:.3} and was with {:.3}", report.promised, report.kept);
    say!(
        "answered from probability {:.3}: {:.1} % of the questions, {:.1} % of them wrongly; no answer is known below {:.2}",
        thresholds.answer,
        report.coverage * 100.0,
        report.wrong * 100.0,
        thresholds.relevant
    );
    let (share, confidence) = (options.max_wrong * 100.0, options.confidence * 100.0);
    match (&report.certificate, report.questions_that_would_do) {
        (Some(_), _) => {
            say!("certified: with {confidence:.0} % confidence at most {share:.1} % of the answers are wrong")
        }
        (None, Some(rows)) => say!(
            "not certified: {share:.1} % at {confidence:.0} % confidence would take about {rows} questions like these; the threshold is as measured"
        ),
        (None, None) => say!(
            "not certified: more questions like these would not do for {share:.1} % at {confidence:.0} % confidence; the threshold is as measured"
        ),
    }
    if let Some(first) = report.not_found.first() {
        say!(
            "{} questions whose entry is not among what was found, such as {:?} ({}): see whether the ids are those of the knowledge",
            report.not_found.len(),
            first.text,
            first.knowledge.join(" ")
        );
    }
    if dry_run {
        say!("nothing was kept");
    }
}

pub(super) async fn evaluate(flags: Flags, evaluate: EvaluateFlags) -> Result<(), StartError> {
    let config = Config::load(flags, ServeFlags::default())?;
    let mut labelled = questions::read(&evaluate.questions)?;
    if evaluate.without_context {
        labelled.iter_mut().for_each(|question| question.context.clear());
    }
    let _lock = lock_data(&config, false)?;
    let engine = open_engine(&config).await?;
    let shown = Shown::new(labelled.len(), "questions");
    let outcome = ask_all(&engine, &labelled, |done| shown.at(done)).await;
    shown.end();
    engine.close().await;
    let outcome = outcome?;
    if evaluate.json {
        say!("{}", serde_json::to_string_pretty(&outcome).expect("plain data is always JSON"));
        return Ok(());
    }
    say!(
        "{:<12} {:>5} {:>22} {:>9} {:>8} {:>11} {:>6}",
        "",
        "right",
        "clarified (with right)",
        "clarified",
        "refused",
        "handed over",
        "wrong"
    );
    for (name, fates) in [("answerable", outcome.answerable), ("outside", outcome.outside)] {
        let Fates { right, clarified_with_right, clarified, refused, handed_over, wrong } = fates;
        say!(
            "{name:<12} {right:>5} {clarified_with_right:>22} {clarified:>9} {refused:>8} {handed_over:>11} {wrong:>6}"
        );
    }
    let answerable = labelled.iter().filter(|question| !question.knowledge.is_empty()).count();
    let (first, three) = (outcome.first, outcome.among_three);
    say!(
        "a right entry is the likeliest for {first} of {answerable} answerable ones, among the likeliest three for {three}"
    );
    for asked in outcome.questions.iter().filter(|asked| asked.fate == Fate::Wrong) {
        let best = asked.best.as_ref().map_or(0.0, |best| best.1);
        let answered = asked.answered.as_deref().unwrap_or("a fixed sentence");
        say!("wrong: {} → {answered} ({best:.3}); right: {}", asked.text, asked.knowledge.join(" "));
    }
    Ok(())
}
