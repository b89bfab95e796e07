//! The whole multi-task model as one ONNX graph.
//!
//! The nodes stand as PyTorch's exporter writes a Hugging Face BERT, so that the optimizers of onnxruntime know them: its
//! sessions fuse GELU and scales, its offline tool (`onnxruntime.transformers.optimizer`, model type `bert`) attention too.

use std::{collections::BTreeMap, fs, path::Path};

use candle_core::Tensor;
use prost::Message as _;
use serde::Serialize;
use yingda_models::{BertConfig, HiddenAct, Lexical, ModelError, ModelFolder, Pooling, replace_folder};

use super::{
    card_for,
    onnx_graph::{
        FLOAT, Graph, GraphProto, INT64, Length, ModelProto, OperatorSetIdProto, StringStringEntryProto, float, int,
        ints, value,
    },
    onnx_lexical, open, text_note,
};
use crate::TrainError;

/// The first operator set with a layer norm, and the version of the format that belongs to it.
const OPERATOR_SET: i64 = 17;
const FORMAT_VERSION: i64 = 8;

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct OnnxSummary {
    /// Size of `model.onnx` in bytes.
    pub bytes: u64,
    /// Its nodes.
    pub nodes: usize,
}

/// Writes a folder with `model.onnx`: inputs `input_ids`, `attention_mask` and `token_type_ids`, each `[batch, length]` of
/// 64-bit integers; outputs `embedding [batch, hidden]` of length 1, `intent_logits [batch, intents]` and
/// `sentiment_logits [batch, 3]`, before temperature. Tokenizer, labels and card stand beside it.
///
/// # Errors
/// When the folder is not a model folder, `out` exists already, the model is too large for one file, or the folder cannot
/// be written; nothing is there then.
pub fn export_onnx(model: &Path, out: &Path) -> Result<OnnxSummary, TrainError> {
    let (folder, card) = open(model, out)?;
    let proto = build(&folder)?;
    // The format's limit for one file.
    if proto.encoded_len() > i32::MAX as usize {
        return Err(TrainError::Usage(format!(
            "{} is too large for one ONNX file (2 GiB); export it with --format hugging-face",
            model.display()
        )));
    }
    let bytes = proto.encode_to_vec();
    let summary = OnnxSummary { bytes: bytes.len() as u64, nodes: proto.graph.map_or(0, |graph| graph.node.len()) };
    let card = card_for(&card, "onnx", "text-classification", &section(&folder));
    replace_folder(out, |fresh| {
        let write = |name: &str, bytes: &[u8]| {
            let path = fresh.join(name);
            fs::write(&path, bytes).map_err(|source| ModelError::Io { doing: "write", path, source })
        };
        write("model.onnx", &bytes)?;
        write("README.md", card.as_bytes())?;
        for name in ["config.json", "tokenizer.json", "yingda.json"] {
            let path = model.join(name);
            let content = fs::read(&path).map_err(|source| ModelError::Io { doing: "read", path, source })?;
            write(name, &content)?;
        }
        Ok(())
    })?;
    Ok(summary)
}

fn build(folder: &ModelFolder) -> Result<ModelProto, TrainError> {
    let config = folder.model.encoder().config();
    let mut builder =
        Builder { graph: Graph::default(), weights: folder.model.weights(), config, hidden: config.hidden_size as i64 };
    builder.model(folder.settings.pooling, folder.model.lexical())?;
    let graph = builder.graph;

    let labels = &folder.settings.labels;
    let rows = |length: usize| [Length::Named("batch"), Length::Known(length)];
    let tokens = || [Length::Named("batch"), Length::Named("length")];
    let input = ["input_ids", "attention_mask", "token_type_ids"].map(|name| value(name, INT64, &tokens()));
    let output = [
        ("embedding", config.hidden_size),
        ("intent_logits", labels.intents.len()),
        ("sentiment_logits", labels.sentiments.len()),
    ]
    .map(|(name, length)| value(name, FLOAT, &rows(length)));
    let about = [
        ("intents", serde_json::to_string(&labels.intents)),
        ("sentiments", serde_json::to_string(&labels.sentiments)),
        ("temperatures", serde_json::to_string(&folder.settings.temperatures)),
    ];
    Ok(ModelProto {
        ir_version: FORMAT_VERSION,
        producer_name: "yingda-train".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(GraphProto {
            node: graph.nodes,
            name: "yingda".to_owned(),
            initializer: graph.initializers,
            input: input.to_vec(),
            output: output.to_vec(),
        }),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }],
        metadata_props: about
            .map(|(key, value)| StringStringEntryProto {
                key: key.to_owned(),
                value: value.expect("plain data is always JSON"),
            })
            .to_vec(),
    })
}

struct Builder<'a> {
    graph: Graph,
    weights: &'a BTreeMap<String, Tensor>,
    config: &'a BertConfig,
    hidden: i64,
}

impl Builder<'_> {
    fn tensor(&self, name: &str) -> Result<&Tensor, TrainError> {
        self.weights
            .get(name)
            .ok_or_else(|| TrainError::Usage(format!("the model has no weight {name}; train it again")))
    }

    fn weight(&mut self, name: &str) -> Result<String, TrainError> {
        let tensor = self.tensor(name)?.clone();
        self.graph.weight(name, &tensor)
    }

    /// `x Wᵀ + b`: ONNX multiplies with `W` as it stands, so it is stored transposed.
    fn linear(&mut self, name: &str, x: &str, output: Option<&str>) -> Result<String, TrainError> {
        let weight = self.tensor(&format!("{name}.weight"))?.t()?.contiguous()?;
        let weight = self.graph.weight(&format!("{name}.weight"), &weight)?;
        let bias = self.weight(&format!("{name}.bias"))?;
        let product = self.graph.node(&format!("{name}/MatMul"), "MatMul", &[x, &weight], Vec::new());
        let sum = output.map_or_else(|| format!("{name}/Add"), str::to_owned);
        Ok(self.graph.node(&sum, "Add", &[&product, &bias], Vec::new()))
    }

    fn norm(&mut self, name: &str, x: &str) -> Result<String, TrainError> {
        let (weight, bias) = (self.weight(&format!("{name}.weight"))?, self.weight(&format!("{name}.bias"))?);
        let attributes = vec![int("axis", -1), float("epsilon", self.config.layer_norm_eps as f32)];
        let node = format!("{name}/LayerNormalization");
        Ok(self.graph.node(&node, "LayerNormalization", &[x, &weight, &bias], attributes))
    }

    fn model(&mut self, pooling: Pooling, lexical: Option<&Lexical>) -> Result<(), TrainError> {
        let mut x = self.embeddings()?;
        let mask = self.mask();
        for index in 0..self.config.num_hidden_layers {
            x = self.layer(&format!("encoder.layer.{index}"), &x, &mask)?;
        }
        let own = self.own();
        let pooled = match pooling {
            Pooling::Mean => self.mean(&x, &own),
        };
        self.unit(&pooled);
        let found = lexical.map(|lexical| onnx_lexical::find(&mut self.graph, lexical, &own));
        let heads = lexical.map_or([None, None], Lexical::heads);
        for (task, head) in ["intent", "sentiment"].into_iter().zip(heads) {
            let output = format!("{task}_logits");
            match (head, &found) {
                (Some(head), Some(found)) => {
                    let logits = self.linear(task, &pooled, None)?;
                    onnx_lexical::add(&mut self.graph, (task, head), found, &logits, &output)?;
                }
                _ => drop(self.linear(task, &pooled, Some(&output))?),
            }
        }
        Ok(())
    }

    /// 1 on the tokens of the texts themselves and 0 on their contexts and on padding, `[batch, length]`, whole numbers.
    fn own(&mut self) -> String {
        let graph = &mut self.graph;
        let one = graph.number("one", 1);
        let first = graph.node("own/Sub", "Sub", &[&one, "token_type_ids"], Vec::new());
        graph.node("own/Mul", "Mul", &[&first, "attention_mask"], Vec::new())
    }

    fn embeddings(&mut self) -> Result<String, TrainError> {
        let words = self.weight("embeddings.word_embeddings.weight")?;
        let segments = self.weight("embeddings.token_type_embeddings.weight")?;
        let positions = self.weight("embeddings.position_embeddings.weight")?;
        let graph = &mut self.graph;
        let words = graph.node("embeddings/words", "Gather", &[&words, "input_ids"], Vec::new());
        let segments = graph.node("embeddings/segments", "Gather", &[&segments, "token_type_ids"], Vec::new());
        // 0, 1, 2 ... in every row.
        let (zero, one) = (graph.number("zero", 0), graph.number("one", 1));
        let first = graph.numbers("axis_0", &[0]);
        let shape = graph.node("positions/shape", "Shape", &["input_ids"], Vec::new());
        let batch = graph.node("positions/batch", "Gather", &[&shape, &zero], vec![int("axis", 0)]);
        let length = graph.node("positions/length", "Gather", &[&shape, &one], vec![int("axis", 0)]);
        let row = graph.node("positions/Range", "Range", &[&zero, &length, &one], Vec::new());
        let row = graph.node("positions/row", "Unsqueeze", &[&row, &first], Vec::new());
        let batch = graph.node("positions/batch_list", "Unsqueeze", &[&batch, &first], Vec::new());
        let length = graph.node("positions/length_list", "Unsqueeze", &[&length, &first], Vec::new());
        let shape = graph.node("positions/Concat", "Concat", &[&batch, &length], vec![int("axis", 0)]);
        let places = graph.node("positions/Expand", "Expand", &[&row, &shape], Vec::new());
        let positions = graph.node("embeddings/positions", "Gather", &[&positions, &places], Vec::new());
        let sum = graph.node("embeddings/words_segments", "Add", &[&words, &segments], Vec::new());
        let sum = graph.node("embeddings/Add", "Add", &[&sum, &positions], Vec::new());
        self.norm("embeddings.LayerNorm", &sum)
    }

    /// 0 where a token is and -10,000 on padding, `[batch, 1, 1, length]`: its exponential is 0 in 32-bit floats.
    fn mask(&mut self) -> String {
        let graph = &mut self.graph;
        let (first, second) = (graph.numbers("axis_1", &[1]), graph.numbers("axis_2", &[2]));
        let (one, low) = (graph.scalar("one_float", 1.0), graph.scalar("low", -10_000.0));
        let mask = graph.node("mask/rows", "Unsqueeze", &["attention_mask", &first], Vec::new());
        let mask = graph.node("mask/heads", "Unsqueeze", &[&mask, &second], Vec::new());
        let mask = graph.node("mask/Cast", "Cast", &[&mask], vec![int("to", i64::from(FLOAT))]);
        let padding = graph.node("mask/Sub", "Sub", &[&one, &mask], Vec::new());
        graph.node("mask/Mul", "Mul", &[&padding, &low], Vec::new())
    }

    fn layer(&mut self, name: &str, x: &str, mask: &str) -> Result<String, TrainError> {
        let context = self.attention(&format!("{name}.attention.self"), x, mask)?;
        let attended = self.linear(&format!("{name}.attention.output.dense"), &context, None)?;
        let sum = self.graph.node(&format!("{name}.attention.output/Add"), "Add", &[&attended, x], Vec::new());
        let x = self.norm(&format!("{name}.attention.output.LayerNorm"), &sum)?;
        let inner = self.linear(&format!("{name}.intermediate.dense"), &x, None)?;
        let inner = self.activation(&format!("{name}.intermediate"), &inner);
        let inner = self.linear(&format!("{name}.output.dense"), &inner, None)?;
        let sum = self.graph.node(&format!("{name}.output/Add"), "Add", &[&inner, &x], Vec::new());
        self.norm(&format!("{name}.output.LayerNorm"), &sum)
    }

    fn attention(&mut self, name: &str, x: &str, mask: &str) -> Result<String, TrainError> {
        let heads = self.config.num_attention_heads as i64;
        let size = self.hidden / heads;
        let query = self.linear(&format!("{name}.query"), x, None)?;
        let key = self.linear(&format!("{name}.key"), x, None)?;
        let value = self.linear(&format!("{name}.value"), x, None)?;
        let graph = &mut self.graph;
        // 0 keeps a length as it is.
        let (split, join) = (graph.numbers("split", &[0, 0, heads, size]), graph.numbers("join", &[0, 0, self.hidden]));
        let scale = graph.scalar("scale", (size as f32).sqrt());
        let mut apart = |part: &str, x: &str, order: [i64; 4]| {
            let x = graph.node(&format!("{name}.{part}/Reshape"), "Reshape", &[x, &split], Vec::new());
            graph.node(&format!("{name}.{part}/Transpose"), "Transpose", &[&x], vec![ints("perm", &order)])
        };
        let query = apart("query", &query, [0, 2, 1, 3]);
        let key = apart("key", &key, [0, 2, 3, 1]);
        let value = apart("value", &value, [0, 2, 1, 3]);
        let scores = graph.node(&format!("{name}/scores"), "MatMul", &[&query, &key], Vec::new());
        let scores = graph.node(&format!("{name}/Div"), "Div", &[&scores, &scale], Vec::new());
        let scores = graph.node(&format!("{name}/Add"), "Add", &[&scores, mask], Vec::new());
        let shares = graph.node(&format!("{name}/Softmax"), "Softmax", &[&scores], vec![int("axis", 3)]);
        let context = graph.node(&format!("{name}/context"), "MatMul", &[&shares, &value], Vec::new());
        let order = ints("perm", &[0, 2, 1, 3]);
        let context = graph.node(&format!("{name}/Transpose"), "Transpose", &[&context], vec![order]);
        Ok(graph.node(&format!("{name}/Reshape"), "Reshape", &[&context, &join], Vec::new()))
    }

    fn activation(&mut self, name: &str, x: &str) -> String {
        let graph = &mut self.graph;
        match self.config.hidden_act {
            HiddenAct::Relu => graph.node(&format!("{name}/Relu"), "Relu", &[x], Vec::new()),
            // x/2 (1 + erf(x/√2)), Hendrycks and Gimpel 2016, <https://arxiv.org/abs/1606.08415>.
            HiddenAct::Gelu => {
                let root = graph.scalar("root_of_two", std::f32::consts::SQRT_2);
                let (one, half) = (graph.scalar("one_float", 1.0), graph.scalar("half", 0.5));
                let inner = graph.node(&format!("{name}/Div"), "Div", &[x, &root], Vec::new());
                let inner = graph.node(&format!("{name}/Erf"), "Erf", &[&inner], Vec::new());
                let inner = graph.node(&format!("{name}/Add"), "Add", &[&inner, &one], Vec::new());
                let inner = graph.node(&format!("{name}/Mul"), "Mul", &[x, &inner], Vec::new());
                graph.node(&format!("{name}/Half"), "Mul", &[&inner, &half], Vec::new())
            }
            // x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))), ibid.
            HiddenAct::GeluApproximate => {
                let (one, half) = (graph.scalar("one_float", 1.0), graph.scalar("half", 0.5));
                let (three, share) = (graph.scalar("three", 3.0), graph.scalar("gelu_share", 0.044_715));
                let scale = graph.scalar("gelu_scale", (2.0 / std::f32::consts::PI).sqrt());
                let cube = graph.node(&format!("{name}/Pow"), "Pow", &[x, &three], Vec::new());
                let cube = graph.node(&format!("{name}/Share"), "Mul", &[&cube, &share], Vec::new());
                let inner = graph.node(&format!("{name}/Sum"), "Add", &[x, &cube], Vec::new());
                let inner = graph.node(&format!("{name}/Scale"), "Mul", &[&inner, &scale], Vec::new());
                let inner = graph.node(&format!("{name}/Tanh"), "Tanh", &[&inner], Vec::new());
                let inner = graph.node(&format!("{name}/Add"), "Add", &[&inner, &one], Vec::new());
                let outer = graph.node(&format!("{name}/Half"), "Mul", &[x, &half], Vec::new());
                graph.node(&format!("{name}/Mul"), "Mul", &[&outer, &inner], Vec::new())
            }
        }
    }

    /// The mean of the texts' own tokens.
    fn mean(&mut self, x: &str, own: &str) -> String {
        let graph = &mut self.graph;
        let (second, last) = (graph.numbers("axis_1", &[1]), graph.numbers("axis_2", &[2]));
        let mask = graph.node("pooling/Cast", "Cast", &[own], vec![int("to", i64::from(FLOAT))]);
        let mask = graph.node("pooling/Unsqueeze", "Unsqueeze", &[&mask, &last], Vec::new());
        let tokens = graph.node("pooling/tokens", "Mul", &[x, &mask], Vec::new());
        let sum = graph.node("pooling/sum", "ReduceSum", &[&tokens, &second], vec![int("keepdims", 0)]);
        let count = graph.node("pooling/count", "ReduceSum", &[&mask, &second], vec![int("keepdims", 0)]);
        graph.node("pooling/mean", "Div", &[&sum, &count], Vec::new())
    }

    /// The output `embedding`: the pooled text with length 1.
    fn unit(&mut self, pooled: &str) {
        let graph = &mut self.graph;
        let (second, least) = (graph.numbers("axis_1", &[1]), graph.scalar("least", 1e-12));
        let squares = graph.node("embedding/squares", "Mul", &[pooled, pooled], Vec::new());
        let sum = graph.node("embedding/sum", "ReduceSum", &[&squares, &second], vec![int("keepdims", 1)]);
        let sum = graph.node("embedding/Add", "Add", &[&sum, &least], Vec::new());
        let length = graph.node("embedding/Sqrt", "Sqrt", &[&sum], Vec::new());
        graph.node("embedding", "Div", &[pooled, &length], Vec::new());
    }
}

fn section(model: &ModelFolder) -> String {
    format!(
        "## Use with onnxruntime\n\n\
         ```python\n\
         import json\n\
         \n\
         import numpy\n\
         import onnxruntime\n\
         from tokenizers import Tokenizer\n\
         \n\
         tokenizer, model = Tokenizer.from_file(\"tokenizer.json\"), onnxruntime.InferenceSession(\"model.onnx\")\n\
         tokenizer.enable_padding()\n\
         tokenizer.enable_truncation({max_tokens})\n\
         rows = tokenizer.encode_batch([\"怎么退货\", \"快递三天没动了\"])\n\
         embedding, intent_logits, sentiment_logits = model.run(None, {{\n    \
             \"input_ids\": numpy.array([row.ids for row in rows]),\n    \
             \"attention_mask\": numpy.array([row.attention_mask for row in rows]),\n    \
             \"token_type_ids\": numpy.array([row.type_ids for row in rows]),\n\
         }})\n\
         labels = json.loads(model.get_modelmeta().custom_metadata_map[\"intents\"])\n\
         print([labels[index] for index in intent_logits.argmax(-1)])\n\
         ```\n\n\
         All inputs are 64-bit integers of the same shape, `[batch, length]`, both free; `embedding` has length 1. Divide the \
         logits by the temperatures in `yingda.json` before the softmax for calibrated probabilities.\n\n{}\n",
        text_note(model),
        max_tokens = model.tokenizer.max_tokens(),
    )
}
