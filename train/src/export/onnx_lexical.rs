//! The lexical part of a model as ONNX nodes: n-grams of token ids are looked up by binary search.

use candle_core::{Device, Tensor};
use yingda_models::{Lexical, LexicalHead};

use super::onnx_graph::{FLOAT, Graph, INT64, int};
use crate::TrainError;

/// Which n-grams a text has, as values of the graph.
pub(super) struct Found {
    /// Row of each n-gram `[batch, n-grams of the text]`; any row where it is not known.
    rows: String,
    /// 1 where it is known, else 0, `[batch, 1, n-grams of the text]`.
    known: String,
    /// The root of the number of known ones, at least 1, `[batch, 1]`.
    root: String,
}

/// Looks up the n-grams of every text. `own` `[batch, length]`, whole numbers, is 1 on the tokens of the texts, which stand first.
pub(super) fn find(graph: &mut Graph, lexical: &Lexical, own: &str) -> Found {
    let one = graph.number("one", 1);
    let keys = graph.node("lexical/ids", "Add", &["input_ids", &one], Vec::new());
    let single = graph.node("lexical/single", "Mul", &[&keys, own], Vec::new());
    let second = graph.numbers("axis_1", &[1]);
    let mut all = vec![single.clone()];
    for place in 1..Lexical::LONGEST {
        // The n-gram before it, and the token after that; where there is none, the key is 0, which none has.
        let (from, short) = (graph.numbers(&format!("lexical/from_{place}"), &[place as i64]), all[place - 1].clone());
        let (start, end) = (graph.numbers("axis_0", &[0]), graph.numbers("lexical/last", &[-1]));
        let far = graph.numbers("lexical/far", &[i64::MAX]);
        let shift = graph.number(&format!("lexical/shift_{place}"), 1 << (Lexical::BITS as usize * place));
        let name = |part: &str| format!("lexical/{place}/{part}");
        let before = graph.node(&name("before"), "Slice", &[&short, &start, &end, &second], Vec::new());
        let after = graph.node(&name("after"), "Slice", &[&single, &from, &far, &second], Vec::new());
        let there = graph.node(&name("there"), "Sign", &[&after], Vec::new());
        let shifted = graph.node(&name("shifted"), "Mul", &[&after, &shift], Vec::new());
        let key = graph.node(&name("sum"), "Add", &[&before, &shifted], Vec::new());
        all.push(graph.node(&name("key"), "Mul", &[&key, &there], Vec::new()));
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let keys = graph.node("lexical/keys", "Concat", &all, vec![int("axis", 1)]);

    // The last key that is not above the wanted one; behind the last there are some that are above all.
    let size = lexical.keys().len().next_power_of_two();
    let mut sorted: Vec<i64> = lexical.keys().iter().map(|&key| key as i64).collect();
    sorted.resize(size, i64::MAX);
    let sorted = graph.numbers("lexical/grams", &sorted);
    let zero = graph.number("zero", 0);
    let mut rows = graph.node("lexical/start", "Mul", &[&keys, &zero], Vec::new());
    let mut step = size / 2;
    while step > 0 {
        let name = |part: &str| format!("lexical/search_{step}/{part}");
        let width = graph.number(&format!("lexical/step_{step}"), step as i64);
        let next = graph.node(&name("next"), "Add", &[&rows, &width], Vec::new());
        let key = graph.node(&name("key"), "Gather", &[&sorted, &next], Vec::new());
        let reached = graph.node(&name("reached"), "LessOrEqual", &[&key, &keys], Vec::new());
        let reached = graph.node(&name("Cast"), "Cast", &[&reached], vec![int("to", i64::from(INT64))]);
        let moved = graph.node(&name("moved"), "Mul", &[&reached, &width], Vec::new());
        rows = graph.node(&name("Add"), "Add", &[&rows, &moved], Vec::new());
        step /= 2;
    }
    let key = graph.node("lexical/found", "Gather", &[&sorted, &rows], Vec::new());
    let known = graph.node("lexical/Equal", "Equal", &[&key, &keys], Vec::new());
    let known = graph.node("lexical/Cast", "Cast", &[&known], vec![int("to", i64::from(FLOAT))]);
    let count = graph.node("lexical/count", "ReduceSum", &[&known, &second], vec![int("keepdims", 1)]);
    let least = graph.scalar("one_float", 1.0);
    let count = graph.node("lexical/Max", "Max", &[&count, &least], Vec::new());
    let root = graph.node("lexical/Sqrt", "Sqrt", &[&count], Vec::new());
    let known = graph.node("lexical/known", "Unsqueeze", &[&known, &second], Vec::new());
    Found { rows, known, root }
}

/// `logits` with what the head says of the found n-grams, as the value `output`.
pub(super) fn add(
    graph: &mut Graph,
    (task, head): (&str, &LexicalHead),
    found: &Found,
    logits: &str,
    output: &str,
) -> Result<(), TrainError> {
    let labels = head.bias.len();
    let weight = Tensor::from_slice(&head.weight, (head.weight.len() / labels, labels), &Device::Cpu)?;
    let weight = graph.weight(&format!("lexical.{task}.weight"), &weight)?;
    let bias = graph.weight(&format!("lexical.{task}.bias"), &Tensor::from_slice(&head.bias, labels, &Device::Cpu)?)?;
    let second = graph.numbers("axis_1", &[1]);
    let name = |part: &str| format!("lexical/{task}/{part}");
    let rows = graph.node(&name("rows"), "Gather", &[&weight, &found.rows], Vec::new());
    let sum = graph.node(&name("MatMul"), "MatMul", &[&found.known, &rows], Vec::new());
    let sum = graph.node(&name("sum"), "Squeeze", &[&sum, &second], Vec::new());
    let share = graph.node(&name("share"), "Div", &[&sum, &found.root], Vec::new());
    let part = graph.node(&name("part"), "Add", &[&share, &bias], Vec::new());
    graph.node(output, "Add", &[logits, &part], Vec::new());
    Ok(())
}
