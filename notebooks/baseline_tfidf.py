#!/usr/bin/env python3
"""TF-IDF and logistic regression on the split of a run: what a fine-tuned model has to beat.

    python notebooks/baseline_tfidf.py RUN --json out.json

RUN is the folder that `yingda-train fit` wrote; its splits/train.parquet, validation.parquet and test.parquet are read,
and splits/knowledge.parquet where the run had --knowledge: the baseline learns from all that the model learnt from.
Of these, the customer's messages (role `user`) with a label are used, in the cleaned form `model_text` that the model saw.

For each task, intent and sentiment, every combination of
  features      character 1- to 3-grams, or jieba words and pairs of words
  class weight  none or balanced
  C             0.3, 1, 3, 10, 30
is fitted on train, and the one with the best macro-F1 on validation is chosen. The test set is scored once, with that one.

macro_f1 is the mean F1 over the classes of train. macro_f1_of_present is the mean over the classes that have rows in the
scored set, which is what `yingda-train eval` calls macro_f1: compare that one. As there, a row whose label train lacks is
left out and counted.
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

import jieba
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

SPLITS = ["train", "validation", "test"]
TASKS = ["intent", "sentiment"]
COLUMNS = ["role", "model_text", *TASKS]
CLASS_WEIGHTS = [None, "balanced"]
GRID_C = [0.3, 1.0, 3.0, 10.0, 30.0]


class Problem(Exception):
    """A sentence for the person who ran the program."""


def read_splits(run):
    if not run.is_dir():
        raise Problem(f"{run} is not a folder; name the folder that `yingda-train fit` wrote.")
    folder = run / "splits"
    if not folder.is_dir():
        raise Problem(f"{run} has no folder splits/; is it the folder of a finished `yingda-train fit`?")
    splits = {}
    for name in SPLITS:
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise Problem(f"{path} is missing; `yingda-train fit` writes it beside the other splits.")
        try:
            columns = pyarrow.parquet.read_schema(path).names
            missing = [column for column in COLUMNS if column not in columns]
            if missing:
                raise Problem(f"{path} has no column {', '.join(missing)}; it has {', '.join(columns)}.")
            splits[name] = pd.read_parquet(path, columns=COLUMNS)
        except (pyarrow.ArrowException, OSError) as error:
            raise Problem(f"{path} cannot be read as Parquet: {error}") from error
    knowledge = folder / "knowledge.parquet"
    if knowledge.is_file():
        # Wordings of the knowledge that the model learnt from, too.
        splits["train"] = pd.concat([splits["train"], pd.read_parquet(knowledge, columns=COLUMNS)], ignore_index=True)
    return splits


def labelled(split, task):
    """Texts and labels of the customer's messages that have a label of the task."""
    rows = split[(split["role"].astype("object") == "user") & split[task].notna() & split["model_text"].notna()]
    return rows["model_text"].astype("object").tolist(), rows[task].astype("object").to_numpy(dtype=object)


def vectorizers(rows):
    # A piece that stands once in a large set only costs memory; in a small set it may be all there is.
    common = {"sublinear_tf": True, "min_df": 2 if rows >= 1000 else 1, "max_features": 300_000, "dtype": np.float32}
    return {
        "characters": TfidfVectorizer(analyzer="char", ngram_range=(1, 3), **common),
        "words": TfidfVectorizer(
            tokenizer=lambda text: [word for word in jieba.lcut(text) if word.strip()],
            token_pattern=None, ngram_range=(1, 2), **common,
        ),
    }


def scores(gold, predicted, classes):
    present = sorted(set(gold))
    macro = lambda labels: float(  # noqa: E731
        f1_score(gold, predicted, labels=labels, average="macro", zero_division=0)
    )
    return {
        "rows": len(gold),
        "accuracy": float(accuracy_score(gold, predicted)),
        "macro_f1": macro(classes),
        "macro_f1_of_present": macro(present),
    }


def known(texts, labels, classes):
    """The rows whose label train has, and how many were left out."""
    keep = [label in classes for label in labels]
    return [t for t, k in zip(texts, keep, strict=True) if k], labels[np.array(keep, dtype=bool)], keep.count(False)


def run_task(task, splits):
    texts, labels = labelled(splits["train"], task)
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise Problem(f"train has {len(classes)} class(es) of {task} on messages of role user; two are needed to learn from.")
    data = {name: known(*labelled(splits[name], task), set(classes)) for name in SPLITS}
    validation_texts, validation_labels, _ = data["validation"]
    if not validation_texts:
        raise Problem(f"validation has no message of role user with a known {task}; settings cannot be chosen without one.")

    best, grid = None, []
    for features, vectorizer in vectorizers(len(texts)).items():
        try:
            train_matrix = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise Problem(f"no {features} can be counted in the {task} texts of train: {error}.") from error
        validation_matrix = vectorizer.transform(validation_texts)
        for class_weight in CLASS_WEIGHTS:
            for c in GRID_C:
                model = LogisticRegression(C=c, class_weight=class_weight, max_iter=2000)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    model.fit(train_matrix, labels)
                found = scores(validation_labels, model.predict(validation_matrix), classes)
                setting = {"features": features, "class_weight": class_weight, "C": c}
                grid.append({**setting, "validation_macro_f1": found["macro_f1"]})
                # The first of equals stays: the simpler setting stands first.
                if best is None or found["macro_f1"] > best[0]:
                    best = (found["macro_f1"], setting, vectorizer, model)

    _, setting, vectorizer, model = best
    result = {"classes": classes, "train_rows": len(texts), "chosen": setting}
    for name in ["validation", "test"]:
        some_texts, gold, left_out = data[name]
        found = scores(gold, model.predict(vectorizer.transform(some_texts)), classes) if some_texts else None
        result[name] = found and {**found, "rows_with_unknown_label": left_out}
    result["grid"] = grid
    return result


def show(task, result):
    chosen = result["chosen"]
    print(f"{task}: {len(result['classes'])} classes, {result['train_rows']:,} training rows")
    print(f"  chosen: {chosen['features']}, class weight {chosen['class_weight'] or 'none'}, C {chosen['C']:g}")
    for name in ["validation", "test"]:
        found = result[name]
        if found is None:
            print(f"  {name}: no labelled rows")
            continue
        left_out = found["rows_with_unknown_label"]
        print(
            f"  {name}: accuracy {found['accuracy']:.4f}, macro-F1 {found['macro_f1']:.4f}"
            f" (over the classes present here {found['macro_f1_of_present']:.4f}), {found['rows']:,} rows"
            + (f"; {left_out:,} rows with a label that train lacks are left out" if left_out else "")
        )


def main():
    parser = argparse.ArgumentParser(description="TF-IDF and logistic regression on the split of a run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that `yingda-train fit` wrote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    arguments = parser.parse_args()
    jieba.setLogLevel(logging.WARNING)
    try:
        splits = read_splits(arguments.run)
        results = {}
        for task in TASKS:
            results[task] = run_task(task, splits)
            show(task, results[task])
        if arguments.json:
            versions = {m.__name__: m.__version__ for m in (np, pd, pyarrow, sklearn, jieba)}
            text = json.dumps({"run": str(arguments.run), "versions": versions, **results}, ensure_ascii=False, indent=2)
            try:
                arguments.json.write_text(text + "\n", encoding="utf-8")
            except OSError as error:
                raise Problem(f"{arguments.json} cannot be written: {error.strerror}.") from error
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
