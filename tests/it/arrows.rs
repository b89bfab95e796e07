//! Who may use whom: the arrows of the house, read from `cargo metadata`.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use crate::support::root;

/// Normal dependencies by package name, of the whole graph as it is resolved.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    // For this platform only: the packages of others need not be on this machine.
    let version = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let normal =
            node["deps"].as_array().unwrap().iter().filter(|dependency| {
                dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null())
            });
        let used = normal.map(|dependency| names[dependency["pkg"].as_str().unwrap()].to_owned());
        graph.entry(names[node["id"].as_str().unwrap()].to_owned()).or_default().extend(used);
    }
    graph
}

/// Every crate that a build of `name` alone compiles into it.
fn compiled(name: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn our_crates_use_each_other_only_along_the_arrows() {
    let graph = dependencies();
    let allowed: [(&str, &[&str]); 5] = [
        ("yingda-models", &[]),
        ("yingda-datasets", &[]),
        ("yingda-train", &["yingda-models", "yingda-datasets"]),
        ("yingda-engine", &["yingda-models"]),
        ("yingda", &["yingda-engine"]),
    ];
    for (name, allowed) in allowed {
        let ours: Vec<&str> =
            graph[name].iter().map(String::as_str).filter(|used| used.starts_with("yingda")).collect();
        for used in &ours {
            assert!(allowed.contains(used), "{name} must not use {used}");
        }
    }
}

#[test]
fn rooms_do_not_know_what_is_not_theirs() {
    let graph = dependencies();
    let forbidden: [(&str, &[&str]); 5] = [
        ("yingda-models", &["tokio", "axum", "polars", "qdrant-edge", "qdrant-client", "sqlx"]),
        ("yingda-datasets", &["candle-core", "candle-nn", "qdrant-edge", "qdrant-client", "axum", "sqlx"]),
        ("yingda-train", &["qdrant-edge", "qdrant-client", "axum", "sqlx"]),
        ("yingda-engine", &["polars", "sqlx"]),
        ("yingda", &["polars"]),
    ];
    for (name, forbidden) in forbidden {
        let used = compiled(name);
        assert!(used.contains("serde"), "{name}: the tree was read");
        for crate_name in forbidden {
            assert!(
                !used.contains(*crate_name),
                "{name} must not compile {crate_name}, directly or through another crate"
            );
        }
    }
    for name in ["candle-core", "candle-nn", "candle-transformers", "tokenizers", "qdrant-edge", "qdrant-client"] {
        assert!(!graph["yingda"].contains(name), "api must not name {name}");
    }
    for name in ["axum", "sqlx"] {
        assert!(!graph["yingda-engine"].contains(name), "engine must not name {name}");
    }
    assert!(!graph["yingda-datasets"].contains("tokio"), "datasets must not name tokio");
}
