#!/usr/bin/env python3
"""TF-IDF, logistic regression and BM25: what a fine-tuned model has to beat.

    python bench/tfidf.py FOLDER [--only TASK ...] [--json]

FOLDER is what bench/prepare.py filled, or a run that `yingda-train fit` wrote. A table goes to standard output, or JSON with
--json; progress goes to standard error.

Classification. Features are TF-IDF of character 1- to 3-grams (sublinear counts; where there are 1,000 training rows or more,
n-grams that stand in one row only are left out). C of the logistic regression (1, 3, 10, 30, 100) and the class weight (none,
balanced) are chosen by 5-fold cross-validation on the training rows alone, folds by whole sessions, for the best macro-F1; of
more than 20,000 training rows, as many are drawn for this. A task of more than 100 classes fits slowly and is chosen on the
first of the five folds only, without class weights. Then all training rows are learnt from, and the test rows are scored once.
A text alone is seen, without earlier turns. macro_f1 is the mean F1 over the
classes that have rows in the scored set, as `yingda-train` counts it; a row whose label training lacks is left out and
counted. Where a task has several folds, figures are means over them; macro_f1_pooled is that of all folds' rows together, which
is steadier for rare classes.

Retrieval. An entry scores as its best text does. R@1 and R@10 are the shares of queries whose right entry is the first, or
among the first ten different entries; MRR@10 is the mean of 1/rank, 0 beyond the tenth. BM25 counts character 1- and 2-grams
(k1 1.2, b 0.75); TF-IDF is the cosine of character 1- to 3-grams, fitted on the index.

Pairs. AUC of the TF-IDF cosine (character 1- to 3-grams). IDF is counted on the texts of the training pairs.

Of a run, splits/train.parquet, validation.parquet and knowledge.parquet are learnt from (all that the model saw) and
test.parquet is scored, in the cleaned form `model_text`.
"""

import argparse
import json
import statistics
import sys
import time
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

SEED = 20260101
GRID_C = [1.0, 3.0, 10.0, 30.0, 100.0]
CLASS_WEIGHTS = [None, "balanced"]
MANY_CLASSES = 100
MOST_ROWS_TO_CHOOSE = 20_000


class Problem(Exception):
    """A sentence for the person who ran the program."""


def say(line):
    print(line, file=sys.stderr, flush=True)


def cleaned(text):
    return unicodedata.normalize("NFKC", text).lower()


def tfidf(rows):
    return TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2 if rows >= 1000 else 1, dtype=np.float32
    )


# Classification.


def scores(gold, predicted):
    present = sorted(set(gold))
    macro = f1_score(gold, predicted, labels=present, average="macro", zero_division=0)
    return {"rows": len(gold), "accuracy": float(accuracy_score(gold, predicted)), "macro_f1": float(macro)}


def fit(matrix, labels, c, class_weight):
    model = LogisticRegression(C=c, class_weight=class_weight, max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(matrix, labels)


def choose(texts, labels, sessions):
    """C and class weight with the best mean macro-F1 over the folds, and how each setting did."""
    many = len(set(labels)) > MANY_CLASSES
    alone = len(set(sessions)) == len(sessions)
    folds = (StratifiedKFold if alone else StratifiedGroupKFold)(5, shuffle=True, random_state=SEED)
    rows = np.arange(len(texts))
    if alone and len(rows) > MOST_ROWS_TO_CHOOSE:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MOST_ROWS_TO_CHOOSE, replace=False))
    texts, labels, sessions = ([column[row] for row in rows] for column in (texts, labels, sessions))
    labels = np.array(labels, dtype=object)
    with warnings.catch_warnings():
        # A class with fewer rows than folds is missing in some of them.
        warnings.simplefilter("ignore", UserWarning)
        splits = list(folds.split(texts, labels, sessions))[: 1 if many else None]
    found = {}
    for learn, check in splits:
        vectorizer = tfidf(len(learn))
        matrix = vectorizer.fit_transform([texts[row] for row in learn])
        check_matrix = vectorizer.transform([texts[row] for row in check])
        for class_weight in CLASS_WEIGHTS[: 1 if many else None]:
            for c in GRID_C:
                model = fit(matrix, labels[learn], c, class_weight)
                score = scores(labels[check], model.predict(check_matrix))["macro_f1"]
                found.setdefault((c, class_weight), []).append(score)
    grid = [{"C": c, "class_weight": weight, "macro_f1": statistics.fmean(f1)} for (c, weight), f1 in found.items()]
    # Of equals the first: the simpler setting stands first.
    return max(grid, key=lambda setting: setting["macro_f1"]), grid


def classify(train, test):
    """`train` and `test` are lists of (session, text, label)."""
    sessions, texts, labels = (list(column) for column in zip(*train, strict=True))
    labels = np.array(labels, dtype=object)
    if len(set(labels)) < 2:
        raise Problem("training has fewer than two classes; there is nothing to learn.")
    known = set(labels)
    scored = [row for row in test if row[2] in known]
    if not scored:
        raise Problem("no test row has a label that training knows.")
    chosen, grid = choose(texts, labels, sessions)
    vectorizer = tfidf(len(texts))
    matrix = vectorizer.fit_transform(texts)
    model = fit(matrix, labels, chosen["C"], chosen["class_weight"])
    predicted = model.predict(vectorizer.transform([text for _, text, _ in scored]))
    gold = np.array([label for *_, label in scored], dtype=object)
    return {
        "train_rows": len(train),
        "classes": len(known),
        "chosen": {"C": chosen["C"], "class_weight": chosen["class_weight"]},
        "cross_validation": grid,
        **scores(gold, predicted),
        "rows_with_unknown_label": len(test) - len(scored),
        "said": list(zip(gold.tolist(), predicted.tolist(), strict=True)),
    }


def classification(folder, task):
    def rows(file):
        found = [json.loads(line) for line in read_lines(folder / file)]
        return [
            (row["session_id"], cleaned(row["text"]), row[task["label"]])
            for row in found
            if row["role"] == "user" and row.get(task["label"])
        ]

    return mean_of([classify(rows(split["train"]), rows(split["test"])) for split in task["splits"]])


def mean_of(splits):
    """One result of the results of all splits."""
    means = {score: statistics.fmean(split[score] for split in splits) for score in ("accuracy", "macro_f1")}
    gold, predicted = zip(*(pair for split in splits for pair in split.pop("said")), strict=True)
    pooled = scores(gold, predicted)["macro_f1"]
    return {**means, "macro_f1_pooled": pooled, "rows": len(gold), "splits": splits}


# Retrieval.


class Bm25:
    """BM25 (Robertson and Zaragoza 2009) with Lucene's IDF, which is never negative."""

    def __init__(self, texts, k1=1.2, b=0.75):
        self.vectorizer = CountVectorizer(analyzer="char", ngram_range=(1, 2), dtype=np.float32)
        counts = self.vectorizer.fit_transform(texts).tocoo()
        lengths = np.bincount(counts.row, weights=counts.data, minlength=len(texts))
        document_frequency = np.bincount(counts.col, minlength=counts.shape[1])
        idf = np.log1p((len(texts) - document_frequency + 0.5) / (document_frequency + 0.5))
        fullness = k1 * (1 - b + b * lengths / lengths.mean())
        weights = idf[counts.col] * counts.data * (k1 + 1) / (counts.data + fullness[counts.row])
        self.weights = scipy.sparse.csr_matrix((weights, (counts.row, counts.col)), shape=counts.shape)

    def scores(self, queries):
        return self.vectorizer.transform(queries) @ self.weights.T


class Cosine:
    def __init__(self, texts):
        self.vectorizer = tfidf(0)
        self.index = self.vectorizer.fit_transform(texts)

    def scores(self, queries):
        return self.vectorizer.transform(queries) @ self.index.T


def ranks(index_entries, query_entries, scores):
    """The rank of the right entry of each query, from 1. An entry scores as its best text; of equal ones the first leads."""
    names = sorted(set(index_entries))
    place = {name: number for number, name in enumerate(names)}
    columns = np.array([place[entry] for entry in index_entries])
    found = []
    for query, right in enumerate(query_entries):
        best = np.zeros(len(names))
        np.maximum.at(best, columns, scores[[query]].toarray()[0])
        order = np.argsort(-best, kind="stable")
        found.append(int(np.flatnonzero(order == place[right])[0]) + 1 if right in place else len(names) + 1)
    return np.array(found)


def retrieval(folder, task):
    index, queries = (read_table(folder / task[file], ("id", "text")) for file in ("index", "queries"))
    texts, asked = ([cleaned(text) for _, text in rows] for rows in (index, queries))
    result = {"texts": len(index), "queries": len(queries)}
    for name, method in [("bm25", Bm25), ("tfidf", Cosine)]:
        found = ranks([entry for entry, _ in index], [entry for entry, _ in queries], method(texts).scores(asked).tocsr())
        result[name] = {
            "recall_at_1": float((found <= 1).mean()),
            "recall_at_10": float((found <= 10).mean()),
            "mrr_at_10": float(np.where(found <= 10, 1 / found, 0).mean()),
        }
    return result


# Pairs.


def pairs(folder, task):
    header = ("left", "right", "label")
    test = read_table(folder / task["test"], header)
    fitted_on = read_table(folder / task["train"], header)
    vectorizer = tfidf(0).fit(sorted({cleaned(text) for left, right, _ in fitted_on for text in (left, right)}))
    left, right = (vectorizer.transform([cleaned(row[side]) for row in test]) for side in (0, 1))
    cosine = np.asarray(left.multiply(right).sum(axis=1)).ravel()
    return {"pairs": len(test), "auc": float(roc_auc_score([label == "1" for *_, label in test], cosine))}


# Files.


def read_lines(path):
    try:
        return [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}; fill the folder again with bench/prepare.py.") from error


def read_table(path, header):
    first, *rows = (tuple(line.split("\t")) for line in read_lines(path))
    if first != header:
        raise Problem(f"{path} begins with {first}; the header must be {header}.")
    return rows


def read_run(run):
    """Training and test rows of a run, for each task that both have."""
    import polars

    frames = {}
    for name in ["train", "validation", "knowledge", "test"]:
        path = run / f"splits/{name}.parquet"
        if path.is_file():
            columns = ["session_id", "role", "model_text", "intent", "sentiment"]
            frame = polars.read_parquet(path, columns=columns).with_columns(polars.all().cast(polars.String))
            frames[name] = frame.filter(polars.col("role") == "user", polars.col("model_text").is_not_null())
    if not {"train", "test"} <= frames.keys():
        raise Problem(f"{run}/splits has no train.parquet and test.parquet; is it the folder of a finished `yingda-train fit`?")
    test = frames.pop("test")
    train = polars.concat(list(frames.values()))
    tasks = {}
    for label in ["intent", "sentiment"]:
        sides = [frame.filter(polars.col(label).is_not_null()) for frame in (train, test)]
        if all(side.height for side in sides):
            tasks[label] = [side.select("session_id", "model_text", label).rows() for side in sides]
    return tasks


def run_tasks(folder, only):
    """Name, kind and result of each task."""
    if (folder / "tasks.json").is_file():
        kinds = {"classification": classification, "retrieval": retrieval, "pairs": pairs}
        tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
        steps = {
            name: (task["kind"], lambda task=task: kinds[task["kind"]](folder, task))
            for name, task in tasks.items()
            # Text and pairs to pretrain on have nothing to score.
            if task["kind"] in kinds and (task["kind"] != "pairs" or "test" in task)
        }
    elif (folder / "splits").is_dir():
        steps = {
            name: ("classification", lambda sides=sides: mean_of([classify(*sides)])) for name, sides in read_run(folder).items()
        }
    else:
        raise Problem(f"{folder} has neither tasks.json (bench/prepare.py writes it) nor splits/ (`yingda-train fit` does).")
    unknown = set(only or ()) - steps.keys()
    if unknown:
        raise Problem(f"no task {', '.join(sorted(unknown))}; there are {', '.join(steps)}.")
    for name, (kind, step) in steps.items():
        if only and name not in only:
            continue
        started = time.monotonic()
        result = step()
        result["seconds"] = round(time.monotonic() - started, 1)
        say(f"{name}: {result['seconds']:.0f} s")
        yield name, kind, result


def table(results):
    rows = [("task", "method", "rows", "figures")]
    for name, (kind, result) in results.items():
        if kind == "classification":
            figures = f"accuracy {result['accuracy']:.4f}  macro-F1 {result['macro_f1']:.4f}"
            if len(result["splits"]) > 1:
                figures += f" (pooled {result['macro_f1_pooled']:.4f})"
            rows.append((name, "TF-IDF + LR", f"{result['rows']:,}", figures))
        elif kind == "pairs":
            rows.append((name, "TF-IDF cosine", f"{result['pairs']:,}", f"AUC {result['auc']:.4f}"))
        else:
            for method, title in [("bm25", "BM25"), ("tfidf", "TF-IDF cosine")]:
                found = result[method]
                figures = f"R@1 {found['recall_at_1']:.4f}  R@10 {found['recall_at_10']:.4f}  MRR@10 {found['mrr_at_10']:.4f}"
                rows.append((name, title, f"{result['queries']:,}", figures))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    pad = lambda row: f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}"  # noqa: E731
    return "\n".join(pad(row) for row in rows)


def main():
    parser = argparse.ArgumentParser(description="TF-IDF, logistic regression and BM25 on the benchmarks or on a run.")
    help_folder = "what bench/prepare.py filled, or a run of `yingda-train fit`"
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=help_folder)
    parser.add_argument("--only", nargs="+", metavar="TASK", help="only these tasks")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    try:
        results = {name: (kind, result) for name, kind, result in run_tasks(arguments.folder, arguments.only)}
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    if arguments.json:
        versions = {"numpy": np.__version__, "scikit-learn": sklearn.__version__}
        plain = {name: {"kind": kind, **result} for name, (kind, result) in results.items()}
        print(json.dumps({"versions": versions, "tasks": plain}, ensure_ascii=False, indent=2))
    else:
        print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
