//! What several tests need.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The tiny BERT that transformers made, with everything that transformers computed from it.
pub(crate) fn golden() -> PathBuf {
    root().join("tests/golden")
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// All numbers of nested JSON lists, in order.
pub(crate) fn numbers(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(numbers).collect(),
        serde_json::Value::Number(number) => vec![number.as_f64().unwrap()],
        other => panic!("not a number: {other}"),
    }
}

/// The sample's files.
pub(crate) fn sample(file: &str) -> PathBuf {
    root().join("datasets/data/sample").join(file)
}
