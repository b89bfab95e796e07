#!/usr/bin/env python3
"""Compares exported models with the libraries that they are written for.

    check_exports.py --missing     the libraries that are not installed, one a line
    check_exports.py FOLDER        FOLDER/CASE/{hugging-face,sentence-transformers,onnx} against FOLDER/CASE/expected.json

`expected.json` is what Yingda says: model texts, their token ids, embeddings and logits; the first two texts are those of the
snippets in the cards, which are run as they stand. Needs no network. Libraries: requirements.txt beside this file.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

LIBRARIES = ["numpy", "onnx", "onnxruntime", "safetensors", "sentence_transformers", "tokenizers", "torch", "transformers"]
TOLERANCE = 1e-4

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def close(what, theirs, ours):
    import numpy

    theirs, ours = numpy.asarray(theirs, dtype="float64"), numpy.asarray(ours, dtype="float64")
    assert theirs.shape == ours.shape, f"{what}: shape {theirs.shape}, and Yingda's is {ours.shape}"
    worst = float(numpy.abs(theirs - ours).max())
    assert worst <= TOLERANCE, f"{what}: largest difference {worst:.2e}"
    print(f"  {what}: largest difference {worst:.1e}")


def run_card(folder):
    """Runs the Python of the card where the card lies, and gives its variables."""
    [snippet] = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    values, before = {}, Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(snippet, f"{folder.name}/README.md", "exec"), values)
    finally:
        os.chdir(before)
    return values


def check_transformers(folder, expected):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer, BertModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text)["input_ids"] for text in expected["texts"]]
    assert ids == expected["ids"], "the tokenizer gives other ids"
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert tokenizer.convert_ids_to_tokens(range(len(vocabulary) - 1)) == vocabulary[:-1], "vocab.txt has other tokens"
    special = [tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token, tokenizer.unk_token, tokenizer.mask_token]
    assert special == ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"], special

    batch = tokenizer(expected["texts"], padding=True, return_tensors="pt")
    for kind in [AutoModel, BertModel]:
        model, report = kind.from_pretrained(folder, output_loading_info=True)
        # A message about anything but the pooler would say that a name is wrong.
        assert {name.split(".")[0] for name in report["missing_keys"]} <= {"pooler"}, report["missing_keys"]
        assert not report["unexpected_keys"], report["unexpected_keys"]
        assert model.dtype == torch.float32, model.dtype
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        close(f"transformers {kind.__name__}", torch.nn.functional.normalize(pooled), expected["embedding"])
    assert model.config.id2label == dict(enumerate(expected["intents"])), model.config.id2label
    heads = [name for name in load_file(folder / "heads.safetensors") if not name.startswith("lexical.")]
    assert sorted(heads) == ["intent.bias", "intent.weight", "sentiment.bias", "sentiment.weight"], sorted(heads)

    values = run_card(folder)
    for name in ["embedding", "intent_logits", "sentiment_logits"]:
        close(f"transformers, the card's {name}", values[name], expected[name][:2])


def check_sentence_transformers(folder, expected):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == expected["max_tokens"], model.max_seq_length
    close("sentence-transformers", model.encode(expected["texts"]), expected["embedding"])
    assert model.similarity_fn_name == "cosine", model.similarity_fn_name
    close("sentence-transformers, the card's embedding", run_card(folder)["embedding"], expected["embedding"][:2])


def check_onnx(folder, expected):
    import numpy
    import onnx
    import onnxruntime

    path = str(folder / "model.onnx")
    onnx.checker.check_model(path, full_check=True)
    names = ["embedding", "intent_logits", "sentiment_logits"]

    def inputs(rows):
        length = max(map(len, rows))
        ids = numpy.zeros((len(rows), length), dtype="int64")
        mask = numpy.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}

    with tempfile.TemporaryDirectory() as place:
        for level in ["DISABLE_ALL", "ENABLE_ALL"]:
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
            options.intra_op_num_threads = 1
            if level == "ENABLE_ALL":
                options.optimized_model_filepath = str(Path(place) / "optimized.onnx")
                # It warns that such a file is only good for this machine: it is only looked at.
                options.log_severity_level = 3
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            together = session.run(names, inputs(expected["ids"]))
            alone = [session.run(names, inputs([row])) for row in expected["ids"]]
            for index, name in enumerate(names):
                close(f"onnxruntime {level} {name}", together[index], expected[name])
                close(f"onnxruntime {level} {name}, alone", [row[index][0] for row in alone], expected[name])
            # The second segment is a real input.
            other = inputs(expected["ids"])
            other["token_type_ids"][:, 1:] = 1
            assert numpy.abs(session.run(names, other)[0] - together[0]).max() > TOLERANCE, "segments change nothing"
        nodes = Counter(node.op_type for node in onnx.load(Path(place) / "optimized.onnx").graph.node)
    print(f"  onnxruntime runs {dict(nodes)}")
    # What the optimizer must still see for what it is: a norm in one node, and GELU with its bias.
    wanted = {"LayerNormalization": 2 * expected["layers"] + 1, "Softmax": expected["layers"], "Erf": 0, "Tanh": 0}
    wanted |= {"BiasGelu": expected["layers"]} if expected["activation"] == "gelu" else {}
    wanted |= {"FastGelu": expected["layers"]} if expected["activation"] == "gelu_new" else {}
    for operator, count in wanted.items():
        assert nodes[operator] == count, f"{operator}: {nodes[operator]} and not {count}: the optimizer does not fuse it"
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["intents"]) == expected["intents"], meta
    values = run_card(folder)
    for name in names:
        close(f"onnxruntime, the card's {name}", values[name], expected[name][:2])


def main():
    if sys.argv[1:] == ["--missing"]:
        print("\n".join(name for name in LIBRARIES if importlib.util.find_spec(name) is None))
        return
    import torch

    torch.set_num_threads(1)
    checks = {
        "hugging-face": check_transformers, "sentence-transformers": check_sentence_transformers, "onnx": check_onnx,
    }
    for case in sorted(Path(sys.argv[1]).iterdir()):
        expected = json.loads((case / "expected.json").read_text(encoding="utf-8"))
        for name, check in checks.items():
            if (case / name).exists():
                print(f"{case.name}/{name}")
                check((case / name).resolve(), expected)


if __name__ == "__main__":
    main()
