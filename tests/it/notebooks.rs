//! The notebooks run from a clean kernel over what a small run leaves behind, and are kept without outputs.
//!
//! `YINGDA_TEST_PYTHON` names an interpreter that has `notebooks/requirements.txt`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
};

use yingda_train::fit::fit;

use crate::{
    learning::{small_fit, write_chats},
    support::{json, root, say},
};

/// Runs a notebook in its folder with a new kernel, writes nothing, and prints what its cells said.
const EXECUTE: &str = r#"
import sys
from pathlib import Path
import nbformat
from nbclient import NotebookClient
path = Path(sys.argv[1])
notebook = nbformat.read(path, as_version=4)
client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}})
client.execute()
plots = 0
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        plots += "image/png" in output.get("data", {})
        print(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
print("plots:", plots)
"#;

/// The interpreter for tests that need Python, if there is one.
pub(crate) fn python(test: &str) -> Option<PathBuf> {
    let python = std::env::var_os("YINGDA_TEST_PYTHON").filter(|python| !python.is_empty());
    if python.is_none() {
        say(&format!("{test} is skipped: YINGDA_TEST_PYTHON names no Python with what notebooks/ and bench/ require"));
    }
    python.map(PathBuf::from)
}

fn execute(python: &Path, notebook: &str, variables: &[(&str, &Path)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(python)
        .args(["-c", EXECUTE])
        .arg(root().join("notebooks").join(notebook))
        .envs(variables.iter().copied())
        .env("IPYTHONDIR", folder.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("MPLBACKEND")
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{notebook}: {errors}");
    // matplotlib says so of each letter that the font lacks.
    if said.contains("Chinese labels are drawn in") {
        assert!(!said.contains("missing from font"), "{notebook}: {said}");
    } else {
        assert!(said.contains("No Chinese font was found"), "{notebook}: {said}");
    }
    said.into_owned()
}

fn plots(said: &str) -> usize {
    said.lines().last().unwrap().strip_prefix("plots: ").unwrap().parse().unwrap()
}

#[test]
fn notebooks_run_from_a_clean_kernel() {
    let Some(python) = python("notebooks_run_from_a_clean_kernel") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (chats, test, run) =
        (folder.path().join("chats.csv"), folder.path().join("test.csv"), folder.path().join("run"));
    write_chats(&chats);
    // The same words, said by others.
    let others = std::fs::read_to_string(&chats).unwrap().replace("\ns", "\nt").replacen("tession", "session", 1);
    std::fs::write(&test, others).unwrap();
    let config = small_fit(&chats, &["--test", test.to_str().unwrap()]);
    fit(&config, &run, false, &AtomicBool::new(false)).unwrap();

    let said = execute(&python, "read_a_run.ipynb", &[("YINGDA_RUN", &run)]);
    assert!(said.contains("3 validation lines") && said.contains("mistakes in 60 messages"), "{said}");
    assert!(plots(&said) >= 8, "{said}");
    let said = execute(&python, "choose_thresholds.ipynb", &[("YINGDA_RUN", &run)]);
    assert!(said.contains("60 messages") && said.contains("Cheapest threshold: "), "{said}");
    assert!(plots(&said) >= 3, "{said}");

    // The sample has times and channels, our own chats have neither.
    let said = execute(&python, "look_at_the_chats.ipynb", &[]);
    assert!(!said.contains("The file has no times.") && said.contains("mini_program"), "{said}");
    assert!(plots(&said) >= 5, "{said}");
    let said = execute(&python, "look_at_the_chats.ipynb", &[("YINGDA_CHATS", &chats)]);
    assert!(said.contains("The file has no times.") && said.contains("60 messages of customers"), "{said}");
}

#[test]
fn notebooks_are_kept_without_outputs() {
    let mut found = 0;
    for entry in std::fs::read_dir(root().join("notebooks")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "ipynb") {
            continue;
        }
        found += 1;
        for cell in json(&path)["cells"].as_array().unwrap() {
            if cell["cell_type"] == "code" {
                assert_eq!(cell["outputs"], serde_json::json!([]), "{}: clear its outputs", path.display());
                assert!(cell["execution_count"].is_null(), "{}: clear its outputs", path.display());
            }
        }
    }
    assert_eq!(found, 3);
}
