#!/usr/bin/env python3
"""Turns the public data sets into the files that the benchmarks read: chats, pairs, retrieval, text to pretrain on.

    python bench/prepare.py DATA OUT

DATA is a folder of public data sets in one common form (bench/README.md names each of them); OUT gets one folder a task, the
folder pretrain/, and tasks.json, written last, which says what is where. Only the standard library is used. Everything
random comes from SHA-256 of the text or of the session's name and a fixed salt, so the same data give the same files, byte
for byte, on every machine.

Two texts are "the same" when their keys are: Unicode NFKC, lower case, without white space and invisible characters.
"""

import argparse
import collections
import hashlib
import itertools
import json
import re
import sys
import unicodedata
from pathlib import Path

SALT = "yingda-bench-1"
FOLDS = 5
COMMONEST_ACTS = 20
HELD_OUT_OF_TEN = 1
# A line of pretraining text is dropped when it holds a held-out text of at least so many characters anywhere within.
CONTAINED = 12
# In chats, held-out texts that are shorter are what everyone says, and stay.
SAID_BY_ALL = 6
# Sources of pretraining text that are taken whole; what is left out, and why, stands in bench/README.md.
PRETRAIN_TEXTS = [
    "abstracts_csl", "app_descriptions_iflytek", "news_titles_tnews", "ocnli_sentences", "passages_chid", "news_titles_thuc",
    "tech_weekly",
]

INVISIBLE = re.compile(r"[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")


class Problem(Exception):
    """A sentence for the person who ran the program."""


def key(text):
    """What two texts that are the same have in common."""
    return INVISIBLE.sub("", unicodedata.normalize("NFKC", text).lower())


def number(text):
    """A large number that belongs to the text."""
    return int.from_bytes(hashlib.sha256(f"{SALT}\0{text}".encode()).digest()[:8], "big")


def held_out(text):
    """Whether a text, known by its key, is in the held-out tenth."""
    return number(text) % 10 < HELD_OUT_OF_TEN


def one_line(text):
    return " ".join(text.split())


def lines(path):
    """The lines of a file, split on LF alone: some texts hold other characters that Python takes for the end of a line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Problem(f"{path} is missing; DATA must hold the data sets that bench/README.md names.") from None
    except UnicodeDecodeError as error:
        raise Problem(f"{path} is not UTF-8: {error}.") from error
    return [line for line in text.split("\n") if line]


def json_lines(path):
    rows = []
    for line_number, line in enumerate(lines(path), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise Problem(f"{path}, line {line_number}: {error}.") from error
    return rows


def tsv(path):
    header, *rows = (line.split("\t") for line in lines(path))
    for line_number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise Problem(f"{path}, line {line_number}: {len(row)} cells, the header has {len(header)}.")
    return [dict(zip(header, row, strict=True)) for row in rows]


class Output:
    """The folder that is filled, and the list of what it holds."""

    def __init__(self, folder):
        self.folder = folder
        self.tasks = {}

    def path(self, name):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name, text_lines):
        text_lines = list(text_lines)
        with self.path(name).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in text_lines)
        return len(text_lines)

    def chats(self, name, rows, labels):
        """Rows of chats with the labels named, and no others."""
        keep = ["session_id", "turn", "role", "text", *labels]
        kept = ({field: row[field] for field in keep if row.get(field) is not None} for row in rows)
        self.write(name, (json.dumps(row, ensure_ascii=False) for row in kept))

    def table(self, name, header, rows):
        self.write(name, ("\t".join(row) for row in [header, *(tuple(map(one_line, row)) for row in rows)]))

    def task(self, name, label, splits):
        """A task of classification: for each split its rows to train and to test on."""
        entry = {"kind": "classification", "label": label, "splits": []}
        for folder, train, test in splits:
            place = f"{name}/{folder}" if folder else name
            self.chats(f"{place}/train.jsonl", train, [label])
            self.chats(f"{place}/test.jsonl", test, [label])
            labelled = [sum(row["role"] == "user" and row.get(label) is not None for row in rows) for rows in (train, test)]
            entry["splits"].append(
                {
                    "train": f"{place}/train.jsonl",
                    "test": f"{place}/test.jsonl",
                    "train_labelled": labelled[0],
                    "test_labelled": labelled[1],
                }
            )
            print(f"{place}: {labelled[0]:,} labelled to train, {labelled[1]:,} to test ({len(train):,} and {len(test):,} rows)")
        entry["classes"] = len({row[label] for _, train, _ in splits for row in train if row.get(label) is not None})
        print(f"{name}: {entry['classes']} classes of {label}")
        self.tasks[name] = entry


def securities(data, out):
    """300 standard questions as intents, and retrieval of the standard question."""
    train, test = (json_lines(data / f"faq-securities/intent_{split}.jsonl") for split in ("train", "dev"))
    out.task("securities-300", "intent", [("", train, test)])
    standard = json_lines(data / "faq-securities/replies.jsonl")
    index = [(entry["id"], entry["question"]) for entry in standard] + [(row["intent"], row["text"]) for row in train]
    queries = [(row["intent"], row["text"]) for row in test]
    out.table("securities-300/index.tsv", ("id", "text"), index)
    out.table("securities-300/queries.tsv", ("id", "text"), queries)
    out.tasks["securities-retrieval"] = {
        "kind": "retrieval",
        "index": "securities-300/index.tsv",
        "queries": "securities-300/queries.tsv",
        "entries": len(standard),
    }
    known = {key(text) for _, text in index}
    same = sum(key(text) in known for _, text in queries)
    counts = f"{len(index):,} texts of {len(standard)} entries, {len(queries):,} queries ({same} of them stand in the index)"
    print(f"securities-retrieval: {counts}")
    answers(data, out, standard, train, test)
    return standard, train, test


def answers(data, out, standard, train, test):
    """The same as a knowledge base, with labelled questions for `yingda tune`, and questions of another product's customers."""
    wordings = collections.defaultdict(list)
    for row in train:
        wordings[row["intent"]].append(one_line(row["text"]))
    entries = []
    for entry in standard:
        question = one_line(entry["question"])
        similar = sorted(set(wordings[entry["id"]]) - {question})
        # There are no answers in this set; the standard question stands for its own.
        entries.append({"id": entry["id"], "question": question, "similar_questions": similar, "answer": question, "intent": entry["id"]})

    def labelled(rows):
        return (json.dumps({"text": text, "knowledge": right}, ensure_ascii=False) for text, right in rows)

    out.write("securities-answers/knowledge.jsonl", (json.dumps(entry, ensure_ascii=False) for entry in entries))
    out.write("securities-answers/questions.jsonl", labelled((one_line(row["text"]), [row["intent"]]) for row in test))
    known = {key(text) for entry in entries for text in (entry["question"], *entry["similar_questions"])}
    # Read by eye, without any model: questions that a standard question answers all the same (你好, 注销账号 ...).
    answered = set(lines(Path(__file__).with_name("zhihu_answered.txt")))
    zhihu = json_lines(data / "queries-zhihu/messages.jsonl")
    outside = [
        one_line(row["text"]) for row in zhihu if row["session_id"] not in answered and key(row["text"]) not in known
    ]
    out.write("securities-answers/outside.jsonl", labelled((text, []) for text in outside))
    print(
        f"securities-answers: {len(entries)} entries, {len(test):,} labelled questions, {len(outside)} questions of others "
        f"({len(zhihu) - len(outside)} left out, which it answers)"
    )


def jd(data, out):
    """Acts and satisfaction of real chats, five folds by session. Whole sessions are kept: earlier turns are context."""
    rows = json_lines(data / "chats-jd/chats.jsonl")
    # Dealt out in the order of their hashes, so that all folds have nearly the same number of sessions.
    order = sorted({row["session_id"] for row in rows}, key=number)
    fold = {session: place % FOLDS for place, session in enumerate(order)}
    counts = collections.Counter(row["intent"] for row in rows if row["role"] == "user" and row.get("intent"))
    del counts["OTHER"]
    # Equal counts in the order of the acts' names.
    commonest = {act for act, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:COMMONEST_ACTS]}

    def act(row, rest):
        if row["role"] != "user" or not row.get("intent"):
            return None
        return row["intent"] if row["intent"] in commonest else rest

    def folds(rows):
        def side(number, tested):
            return [row for row in rows if (fold[row["session_id"]] == number) == tested]

        return [(f"fold-{number}", side(number, False), side(number, True)) for number in range(FOLDS)]

    out.task("jd-acts", "intent", folds([{**row, "intent": act(row, None)} for row in rows]))
    out.task("jd-acts-other", "intent", folds([{**row, "intent": act(row, "OTHER")} for row in rows]))
    out.task("jd-satisfaction", "sentiment", folds(rows))
    return rows


def assistant(data, out):
    train, test = (json_lines(data / f"intent-assistant/{split}.jsonl") for split in ("train", "dev"))
    out.task("assistant", "intent", [("", train, test)])
    return train, test


def tenth(rows):
    """Rows to train on, and the held-out tenth by the hash of the text: the same text is never on both sides."""
    sides = ([], [])
    for row in rows:
        sides[held_out(key(row["text"]))].append(row)
    return sides


def reviews(data, out):
    waimai, hotel, shopping = (json_lines(data / f"sentiment-reviews/{name}.jsonl") for name in ("waimai", "hotel", "shopping"))
    hotels = {key(row["text"]) for row in hotel}
    doubles = [row for row in shopping if row.get("intent") == "酒店" and key(row["text"]) in hotels]
    dropped = {row["session_id"] for row in doubles}
    train, test = tenth([*waimai, *hotel, *(row for row in shopping if row["session_id"] not in dropped)])
    print(f"reviews: {len(doubles):,} hotel reviews of the shopping file also stand in the hotel file and are dropped from it")
    out.task("reviews", "sentiment", [("", train, test)])
    return train, test


def car(data, out):
    rows = json_lines(data / "sentiment-car/messages.jsonl")
    # Rows without a sentiment are of no use to the task; their text may be pretrained on unless it is held out.
    train, test = tenth(rows)
    out.task("car", "sentiment", [("", *([row for row in side if row.get("sentiment")] for side in (train, test)))])
    return train, test


def components(pairs):
    """For each pair the smallest key of all texts that pairs connect it with: pairs that share a text share this."""
    parent = {}

    def root(text):
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for left, right, _ in pairs:
        first, second = sorted((root(key(left)), root(key(right))))
        parent[second] = first
    return [root(key(left)) for left, _, _ in pairs]


def question_pairs(data, out):
    """Same meaning or not, of finance and of general questions: for both, rows to train on, and for both, the held-out tenth. A text,
    and all that pairs connect with it, is on one side only."""
    sides = ([], [])
    for topic in ("finance", "general"):
        pairs = [(row["q1"], row["q2"], row["label"]) for row in tsv(data / f"question-pairs-{topic}/pairs.tsv")]
        parts = ([], [])
        for pair, component in zip(pairs, components(pairs), strict=True):
            parts[held_out(component)].append(pair)
        task = {"kind": "pairs"}
        for side, name, rows in zip(sides, ("train", "test"), parts, strict=True):
            side.append(rows)
            task[name] = f"pairs-{topic}/{name}.tsv"
            out.table(task[name], ("left", "right", "label"), rows)
            print(f"pairs-{topic} {name}: {len(rows):,} pairs, {sum(label == '1' for *_, label in rows):,} of them the same")
        out.tasks[f"pairs-{topic}"] = task
    return sides


class HeldOut:
    """All texts that something is scored on; none of them may be learnt from."""

    def __init__(self, texts):
        self.keys = {key(text) for text in texts}
        self.starts = collections.defaultdict(list)
        for text in self.keys:
            if len(text) >= CONTAINED:
                self.starts[text[:CONTAINED]].append(text)

    def __contains__(self, text_key):
        return text_key in self.keys

    def within(self, text_key):
        """Whether a held-out text stands somewhere in a longer text."""
        for place in range(len(text_key) - CONTAINED + 1):
            for text in self.starts.get(text_key[place : place + CONTAINED], ()):
                if text_key.startswith(text, place):
                    return True
        return False


def pretrain(data, out, sources, keep_out):
    """One file of lines a source. The same text stands once, in the first source that has it."""
    seen, entry, total = set(), [], 0
    for name, texts in sources:
        kept, dropped = [], 0
        for text in texts:
            text = one_line(text)
            text_key = key(text)
            if len(text_key) < 2 or text_key in seen:
                continue
            if text_key in keep_out or keep_out.within(text_key):
                dropped += 1
                continue
            seen.add(text_key)
            kept.append(text)
        out.write(f"pretrain/{name}.txt", kept)
        characters = sum(map(len, kept))
        total += characters
        entry.append({"file": f"pretrain/{name}.txt", "lines": len(kept), "characters": characters})
        print(f"pretrain/{name}.txt: {len(kept):,} lines, {characters:,} characters ({dropped:,} lines hold a held-out text)")
    print(f"pretrain: {len(seen):,} lines, {total:,} characters")
    out.tasks["pretrain"] = {"kind": "text", "files": entry}


def sessions(rows):
    """Who said what in each session."""
    found = collections.defaultdict(list)
    for row in rows:
        found[row["session_id"]].append((row["role"], row["text"]))
    return found


def pretrain_chats(out, sources, keep_out):
    """Chats to pretrain on, with what was said before each turn. A turn that is or holds a held-out text is dropped, unless
    that is as short as 好的."""
    files = []
    for name, sessions in sources:
        rows, dropped = [], 0
        for session, turns in sessions.items():
            for role, text in turns:
                text = one_line(text)
                text_key = key(text)
                if not text_key or (len(text_key) >= SAID_BY_ALL and text_key in keep_out) or keep_out.within(text_key):
                    dropped += 1
                else:
                    rows.append({"session_id": session, "turn": len(rows), "role": role, "text": text})
        out.chats(f"pretrain/{name}.jsonl", rows, [])
        files.append({"file": f"pretrain/{name}.jsonl", "lines": len(rows)})
        print(f"pretrain/{name}.jsonl: {len(rows):,} messages ({dropped:,} turns are empty or hold a held-out text)")
    out.tasks["pretrain-chats"] = {"kind": "text", "files": files}


def pretrain_pairs(data, out, finance, general, standard, train, keep_out):
    """Pairs to learn the embedding from; the general ones in a file of their own, since they are few and may be read more often."""
    question = {entry["id"]: entry["question"] for entry in standard}
    text = {row["session_id"]: row["text"] for row in train}
    found = [*finance]
    by_entry = collections.defaultdict(list)
    for row in train:
        found.append((row["text"], question[row["intent"]], "1"))
        by_entry[row["intent"]].append(row["text"])
    # Each question also with another one of its entry: with the next in the order of the hashes.
    for texts in by_entry.values():
        texts.sort(key=number)
        found.extend((left, right, "1") for left, right in zip(texts, texts[1:], strict=False))
    for row in tsv(data / "faq-securities/hard_negatives.tsv"):
        if row["query_id"] in text:
            found.append((text[row["query_id"]], question[row["faq_id"]], "0"))
    labels = collections.defaultdict(set)
    for left, right, label in itertools.chain(found, general):
        labels[frozenset((key(left), key(right)))].add(label)
    written, files = set(), []
    for name, pairs in (("pairs", found), ("pairs_general", general)):
        kept = []
        for left, right, label in pairs:
            both = frozenset((key(left), key(right)))
            # Neither a pair with both labels, nor one with itself, nor one that anything is scored on.
            if len(both) < 2 or len(labels[both]) > 1 or both in written or any(one in keep_out for one in both):
                continue
            written.add(both)
            kept.append((left, right, label))
        out.table(f"pretrain/{name}.tsv", ("left", "right", "label"), kept)
        files.append({"file": f"pretrain/{name}.tsv", "lines": len(kept)})
        same = sum(label == "1" for *_, label in kept)
        print(f"pretrain/{name}.tsv: {len(kept):,} pairs, {same:,} of them the same ({len(pairs) - len(kept):,} dropped)")
    out.tasks["pretrain-pairs"] = {"kind": "pairs", "files": files}


def prepare(data, out):
    def texts(path):
        return [row["text"] for row in json_lines(data / path)]

    standard, securities_train, securities_test = securities(data, out)
    jd_rows = jd(data, out)
    assistant_train, assistant_test = assistant(data, out)
    reviews_train, reviews_test = reviews(data, out)
    car_train, car_test = car(data, out)
    (finance_train, general_train), pairs_test = question_pairs(data, out)

    held = [row["text"] for side in (securities_test, assistant_test, reviews_test, car_test) for row in side]
    # Each session of the JD chats is tested on in one of the folds, so all its customers' messages are held out.
    held += [row["text"] for row in jd_rows if row["role"] == "user"]
    held += [text for left, right, _ in itertools.chain(*pairs_test) for text in (left, right)]
    keep_out = HeldOut(held)

    unlabelled = json_lines(data / "chats-jd-unlabelled/chats.jsonl")
    egret = json_lines(data / "faq-gamedev/replies.jsonl")
    estate = tsv(data / "replies-realestate/pairs.tsv")
    sources = [
        ("securities", [entry["question"] for entry in standard] + [row["text"] for row in securities_train]),
        ("jd_unlabelled", [row["text"] for row in unlabelled]),
        ("assistant", [row["text"] for row in assistant_train]),
        ("pairs_finance", [text for left, right, _ in finance_train for text in (left, right)]),
        ("pairs_general", [text for left, right, _ in general_train for text in (left, right)]),
        ("realestate", [text for row in estate for text in (row["question"], row["reply"])]),
        ("gamedev", [text for entry in egret for text in (entry["question"], entry.get("answer") or "")]),
        ("car", [row["text"] for row in car_train]),
        ("reviews", [row["text"] for row in reviews_train]),
        ("chatbot", texts("sentiment-chatbot/messages.jsonl")),
        ("tv", texts("sentiment-tv/messages.jsonl")),
        ("weibo", texts("sentiment-weibo/virus_train.jsonl")),
        *((name, lines(data / f"pretrain-text/{name}.txt")) for name in PRETRAIN_TEXTS),
    ]
    pretrain(data, out, sources, keep_out)
    answered = {f"estate-{row['row']}": [("user", row["question"]), ("agent", row["reply"])] for row in estate if row["label"] == "1"}
    answered |= {f"gamedev-{entry['id']}": [("user", entry["question"]), ("agent", entry.get("answer") or "")] for entry in egret}
    chats = [
        ("chats_jd", sessions(unlabelled)),
        ("chats_tv", sessions(json_lines(data / "sentiment-tv/messages.jsonl"))),
        ("chats_answered", answered),
    ]
    pretrain_chats(out, chats, keep_out)
    pretrain_pairs(data, out, finance_train, general_train, standard, securities_train, keep_out)
    out.write("tasks.json", [json.dumps(out.tasks, ensure_ascii=False, indent=2)])


def main():
    parser = argparse.ArgumentParser(description="Turns the public data sets into the files that the benchmarks read.")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of the public data sets")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to fill")
    arguments = parser.parse_args()
    try:
        if not arguments.data.is_dir():
            raise Problem(f"{arguments.data} is not a folder; name the folder of the public data sets.")
        try:
            (arguments.out / "tasks.json").unlink(missing_ok=True)
            prepare(arguments.data, Output(arguments.out))
        except OSError as error:
            raise Problem(f"{error.filename or arguments.out} cannot be written or read: {error.strerror}.") from error
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
