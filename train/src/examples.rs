//! From messages to examples, and from examples to length-bucketed batches.

use std::collections::{BTreeSet, HashMap, VecDeque};

use sha2::{Digest, Sha256};
use yingda_datasets::{Knowledge, Message, Role};
use yingda_models::{Encoded, Labels, SENTIMENTS, Seeded, TextTokenizer, context};

use crate::TrainError;

/// One user message as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The message it was made from.
    pub message: Message,
    /// Its text after the contract.
    pub model_text: String,
    /// Its tokens, and those of its context.
    pub encoded: Encoded,
    /// Head index of its intent, if it has one that the model knows.
    pub intent: Option<u32>,
    /// Head index of its sentiment, if it has one.
    pub sentiment: Option<u32>,
}

/// Makes an example of every user message that has a label. A label that `labels` lacks counts as missing.
///
/// `messages` are all messages of their sessions, those of one session in order; up to `context_turns` of what was said before a message is its
/// context.
///
/// # Errors
/// When the tokenizer fails.
pub fn examples(
    messages: Vec<Message>,
    labels: &Labels,
    tokenizer: &TextTokenizer,
    context_turns: usize,
) -> Result<Vec<Example>, TrainError> {
    let contract = tokenizer.contract();
    let index = |labels: &[String], label: &str| labels.iter().position(|known| known == label).map(|i| i as u32);
    let mut examples = Vec::new();
    // The last turns of every session: its messages need not stand together.
    let mut sessions: HashMap<String, VecDeque<(bool, String)>> = HashMap::new();
    for message in messages {
        let before = sessions.entry(message.session_id.clone()).or_default();
        let model_text =
            if context_turns > 0 || is_labelled(&message) { contract.model_text(&message.text) } else { String::new() };
        if is_labelled(&message) {
            let turns = before.iter().map(|(customer, text)| (*customer, text.as_str()));
            let encoded = tokenizer.encode_with_context(&model_text, &context(turns))?;
            let intent = message.intent.as_deref().and_then(|intent| index(&labels.intents, intent));
            let sentiment = message.sentiment.map(|sentiment| sentiment_index(sentiment.as_str()));
            let customer = message.role == Role::User;
            before.push_back((customer, model_text.clone()));
            examples.push(Example { message, model_text, encoded, intent, sentiment });
        } else {
            before.push_back((message.role == Role::User, model_text));
        }
        while before.len() > context_turns {
            before.pop_front();
        }
    }
    Ok(examples)
}

/// Whether a message can be learnt from: a customer's, with at least one label.
pub fn is_labelled(message: &Message) -> bool {
    message.role == Role::User && (message.intent.is_some() || message.sentiment.is_some())
}

fn sentiment_index(name: &str) -> u32 {
    SENTIMENTS.iter().position(|&known| known == name).expect("both crates know the same three sentiments") as u32
}

/// The labels that stand on the training messages, in code-point order.
pub fn labels(messages: &[Message]) -> Labels {
    let intents: BTreeSet<&str> =
        messages.iter().filter(|m| m.role == Role::User).filter_map(|m| m.intent.as_deref()).collect();
    Labels {
        intents: intents.into_iter().map(str::to_owned).collect(),
        sentiments: SENTIMENTS.map(str::to_owned).to_vec(),
    }
}

/// How many examples each class has: intents, then sentiments, in head order.
pub fn label_counts(examples: &[Example], labels: &Labels) -> (Vec<usize>, Vec<usize>) {
    let mut intents = vec![0; labels.intents.len()];
    let mut sentiments = vec![0; labels.sentiments.len()];
    for example in examples {
        if let Some(intent) = example.intent {
            intents[intent as usize] += 1;
        }
        if let Some(sentiment) = example.sentiment {
            sentiments[sentiment as usize] += 1;
        }
    }
    (intents, sentiments)
}

/// SHA-256 over texts and labels, in order: two runs with the same fingerprint learnt from the same data.
pub fn data_fingerprint(examples: &[Example]) -> String {
    let mut hasher = Sha256::new();
    for example in examples {
        let field = |text: &str| [(text.len() as u64).to_le_bytes().to_vec(), text.as_bytes().to_vec()].concat();
        hasher.update(field(&example.model_text));
        hasher.update(field(example.message.intent.as_deref().unwrap_or_default()));
        hasher.update(field(example.sentiment.map_or("", |index| SENTIMENTS[index as usize])));
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 over all that a run is judged by and draws pairs from, in order: messages with their labels, and the knowledge.
pub fn rest_fingerprint(messages: [&[Message]; 2], knowledge: &Knowledge) -> String {
    let mut hasher = Sha256::new();
    let mut field = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    for message in messages.into_iter().flatten() {
        field(&message.session_id);
        field(&message.text);
        field(message.intent.as_deref().unwrap_or_default());
        field(message.sentiment.map_or("", |sentiment| sentiment.as_str()));
    }
    for entry in &knowledge.entries {
        field(&entry.id);
        field(entry.intent.as_deref().unwrap_or_default());
        field(&entry.question);
        entry.similar_questions.iter().for_each(|wording| field(wording));
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One epoch's batches as indices into `examples`: shuffled, then sorted by length within pools of 32 batches so that little
/// padding is computed, then shuffled again.
pub fn batches(lengths: &[usize], batch_size: usize, generator: &mut Seeded) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    generator.shuffle(&mut order);
    let mut batches = Vec::new();
    for pool in order.chunks_mut(32 * batch_size) {
        pool.sort_by_key(|&index| lengths[index]);
        batches.extend(pool.chunks(batch_size).map(<[usize]>::to_vec));
    }
    generator.shuffle(&mut batches);
    batches
}

/// Batches for evaluation: sorted by length, nothing random.
pub fn sorted_batches(lengths: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    order.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_once_and_the_same_for_a_seed() {
        let lengths: Vec<usize> = (0..101).map(|index| 3 + index * 7 % 40).collect();
        let made = batches(&lengths, 8, &mut Seeded::new(7, 1));
        assert_eq!(made, batches(&lengths, 8, &mut Seeded::new(7, 1)));
        assert_ne!(made, batches(&lengths, 8, &mut Seeded::new(8, 1)));
        let mut seen: Vec<usize> = made.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..101).collect::<Vec<_>>());
    }
}
