//! What becomes of labelled questions: each is asked as the first message of a conversation, and nothing is stored.

use serde::Serialize;
use yingda_engine::ranking::LabelledQuestion;
use yingda_engine::{Decision, Engine, EngineError};

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Answered with an entry that is right.
    Right,
    /// Asked back, with a right entry among the choices.
    ClarifiedWithRight,
    /// Asked back without one.
    Clarified,
    /// Told that no answer is known, or that the shop does not do this.
    Refused,
    /// Handed to a person.
    HandedOver,
    /// Answered with anything else.
    Wrong,
}

/// How many questions met each fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fates {
    /// Answered rightly.
    pub right: usize,
    /// Asked back, a right entry among the choices.
    pub clarified_with_right: usize,
    /// Asked back without.
    pub clarified: usize,
    /// Refused.
    pub refused: usize,
    /// Handed to a person.
    pub handed_over: usize,
    /// Answered wrongly.
    pub wrong: usize,
}

impl Fates {
    fn count(&mut self, fate: Fate) {
        *match fate {
            Fate::Right => &mut self.right,
            Fate::ClarifiedWithRight => &mut self.clarified_with_right,
            Fate::Clarified => &mut self.clarified,
            Fate::Refused => &mut self.refused,
            Fate::HandedOver => &mut self.handed_over,
            Fate::Wrong => &mut self.wrong,
        } += 1;
    }
}

/// A question with what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// The question.
    pub text: String,
    /// Entries that are right.
    pub knowledge: Vec<String>,
    /// What became of it.
    pub fate: Fate,
    /// The entry that was answered with, if any.
    pub answered: Option<String>,
    /// The likeliest entry and its probability.
    pub best: Option<(String, f32)>,
}

/// What became of all questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Of the questions that the knowledge answers.
    pub answerable: Fates,
    /// Of the others.
    pub outside: Fates,
    /// Questions whose likeliest entry is right, whatever was decided.
    pub first: usize,
    /// Questions with a right entry among the likeliest three.
    pub among_three: usize,
    /// Each question.
    pub questions: Vec<Asked>,
}

/// Asks every question; `progress(done)` counts them.
///
/// # Errors
///
/// When the model or the store fails.
pub async fn evaluate(
    engine: &Engine,
    questions: &[LabelledQuestion],
    progress: impl Fn(usize),
) -> Result<Evaluation, EngineError> {
    let mut evaluation = Evaluation::default();
    for (done, question) in questions.iter().enumerate() {
        progress(done);
        let response = engine.respond(&question.conversation(), &question.text).await?;
        if response.unavailable {
            let message = "it does not answer, so nothing can be counted; try again when it does".to_owned();
            return Err(EngineError::Store { store: engine.info().store, message });
        }
        let right = |id: &String| question.knowledge.contains(id);
        let place = response.hits.iter().position(|hit| right(&hit.knowledge_id));
        evaluation.first += usize::from(place == Some(0));
        evaluation.among_three += usize::from(place.is_some_and(|place| place < 3));
        let fate = match &response.decision {
            Decision::Reply { knowledge_id: Some(id), .. } if right(id) => Fate::Right,
            Decision::Reply { .. } => Fate::Wrong,
            Decision::Clarify { choices, .. } if choices.iter().any(|choice| right(&choice.knowledge_id)) => {
                Fate::ClarifiedWithRight
            }
            Decision::Clarify { .. } => Fate::Clarified,
            Decision::OutOfScope { .. } | Decision::NoAnswer { .. } => Fate::Refused,
            Decision::Escalate { .. } => Fate::HandedOver,
        };
        let fates = if question.knowledge.is_empty() { &mut evaluation.outside } else { &mut evaluation.answerable };
        fates.count(fate);
        let answered = match response.decision {
            Decision::Reply { knowledge_id, .. } => knowledge_id,
            _ => None,
        };
        evaluation.questions.push(Asked {
            text: question.text.clone(),
            knowledge: question.knowledge.clone(),
            fate,
            answered,
            best: response.hits.into_iter().next().map(|hit| (hit.knowledge_id, hit.probability)),
        });
    }
    Ok(evaluation)
}
