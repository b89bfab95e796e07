#!/usr/bin/env python3
"""How fast onnxruntime serves a model, as it is and in dynamic int8, and what it answers.

    python bench/serving_speed.py MODEL.onnx [MODEL.onnx ...] [--ids IDS.json] [--threads 2] [--seconds 2] [--json]

A model takes input_ids and attention_mask, and token_type_ids if it wants them, as integers of shape [batch, tokens]. It is
timed at batch 1 x 16, 1 x 64, 32 x 16 and 32 x 64 tokens without padding, and with a batch of mixed lengths (--lengths) that
is padded to its longest text: the time is the median of as many passes as fit into --seconds, after three that are not
counted. int8 is onnxruntime.quantization.quantize_dynamic with its default settings (--per-channel: a scale for each output
channel) in a temporary file. A model that onnxruntime.transformers.optimizer has fused can be named like any other.

--ids names a JSON file with lists of token ids, one a text. All of them go through the model as one batch, padded at the end
with --padding, and the outputs come with the JSON under "outputs", nested as the tensors are, so that another engine's can be
compared. What stands at padding positions means nothing.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

SHAPES = [(1, 16), (1, 64), (32, 16), (32, 64)]
# 32 messages of a chat: most are short, some are long.
LENGTHS = [5, 9, 14, 7, 22, 11, 64, 6, 17, 12, 8, 31, 10, 19, 5, 13, 26, 9, 15, 48, 7, 12, 38, 6, 20, 11, 16, 8, 55, 10, 24, 18]
SEED = 20260101


class Problem(Exception):
    """A sentence for the person who ran the program."""


def open_model(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own, many and undocumented
        raise Problem(f"{path} cannot be opened by onnxruntime: {error}") from error


def quantize(path, small, per_channel):
    # A model that was fused beforehand has operators whose types onnx cannot infer: they are floats.
    options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    try:
        quantize_dynamic(
            str(path), str(small), weight_type=QuantType.QInt8, per_channel=per_channel, extra_options=options
        )
    except Exception as error:  # as above
        raise Problem(f"{path} cannot be quantized by onnxruntime: {error}") from error


def inputs(session, texts, padding):
    """A padded batch in the form that the model wants."""
    width = max(map(len, texts))
    ids = np.full((len(texts), width), padding)
    mask = np.zeros((len(texts), width))
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    kinds = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}
    batch = {}
    for wanted in session.get_inputs():
        if wanted.name not in values or wanted.type not in kinds:
            raise Problem(f"the model wants an input {wanted.name} of {wanted.type}; known are {', '.join(values)}.")
        batch[wanted.name] = values[wanted.name].astype(kinds[wanted.type])
    return batch


def median_milliseconds(session, batch, seconds):
    for _ in range(3):
        session.run(None, batch)
    taken = []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        started = time.perf_counter()
        session.run(None, batch)
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken), len(taken)


def measure(session, arguments):
    generator = np.random.default_rng(SEED)
    text = lambda length: generator.integers(1, arguments.vocabulary, length)  # noqa: E731
    batches = {f"{batch}x{tokens}": [text(tokens) for _ in range(batch)] for batch, tokens in SHAPES}
    batches["mixed"] = [text(length) for length in arguments.lengths]
    found = {}
    for name, texts in batches.items():
        batch = inputs(session, texts, arguments.padding)
        milliseconds, passes = median_milliseconds(session, batch, arguments.seconds)
        found[name] = {"milliseconds": milliseconds, "passes": passes, "batch": len(texts)}
    return found


def outputs(session, texts, padding):
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, inputs(session, texts, padding))
    return {name: value.tolist() for name, value in zip(names, values, strict=True)}


def run(arguments):
    texts = None
    if arguments.ids:
        try:
            texts = json.loads(arguments.ids.read_text(encoding="utf-8"))
            usable = all(text and all(isinstance(token, int) for token in text) for text in texts) and texts
        except (OSError, ValueError, TypeError) as error:
            raise Problem(f"{arguments.ids} cannot be read: {error}") from error
        if not usable:
            raise Problem(f"{arguments.ids} must be a JSON list of lists of token ids, none of them empty.")
    results = []
    for path in arguments.models:
        if not path.is_file():
            raise Problem(f"{path} is missing; name an ONNX file.")
        with tempfile.TemporaryDirectory() as folder:
            small = Path(folder) / "int8.onnx"
            quantize(path, small, arguments.per_channel)
            for precision, file in [("fp32", path), ("int8", small)]:
                session = open_model(file, arguments.threads)
                found = {"model": str(path), "precision": precision, "bytes": file.stat().st_size}
                found["shapes"] = measure(session, arguments)
                if texts:
                    found["outputs"] = outputs(session, texts, arguments.padding)
                results.append(found)
    return results


def main():
    parser = argparse.ArgumentParser(description="Serving speed of onnxruntime.")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx", help="model in ONNX, 32-bit floats")
    parser.add_argument("--ids", type=Path, metavar="FILE", help="token ids of texts, whose outputs are printed with --json")
    parser.add_argument("--lengths", type=lambda text: [int(part) for part in text.split(",")], default=LENGTHS,
                        help="tokens of the texts of the mixed batch, such as 5,9,14")
    parser.add_argument("--vocabulary", type=int, default=1000, help="token ids are drawn from 1 to this")
    parser.add_argument("--padding", type=int, default=0, help="token id of padding")
    parser.add_argument("--threads", type=int, default=2, help="threads of onnxruntime")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each shape")
    parser.add_argument("--per-channel", action="store_true", help="quantize with a scale for each output channel")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    try:
        results = run(arguments)
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    if arguments.json:
        about = {"threads": arguments.threads, "per_channel": arguments.per_channel, "lengths": arguments.lengths}
        print(json.dumps({"peer": "onnxruntime", "version": onnxruntime.__version__, **about, "results": results}))
    else:
        for found in results:
            times = "  ".join(f"{name} {shape['milliseconds']:.2f} ms" for name, shape in found["shapes"].items())
            print(f"{found['model']} {found['precision']} ({found['bytes'] / 1e6:.1f} MB): {times}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
