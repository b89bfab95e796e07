#!/usr/bin/env python3
"""Event files and Python's TensorBoard.

Made with Python 3.11.7 and
    tensorboard==2.21.0  protobuf==7.36.2  numpy==2.4.6
Run, from anywhere (needs no network):
    python3 -m venv ~/tensorboard-venv
    ~/tensorboard-venv/bin/pip install tensorboard==2.21.0 protobuf==7.36.2 numpy==2.4.6
    ~/tensorboard-venv/bin/python tests/golden/tensorboard_events.py                    # the golden bytes of train/src/tensorboard.rs
    ~/tensorboard-venv/bin/python tests/golden/tensorboard_events.py RUN/tensorboard    # what TensorBoard reads in a folder

Without a folder it prints, in hexadecimal, the records that TensorBoard's own writer makes of three events. The tests hold
these bytes and never run this script.
"""

import io
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def scalar(tag, step, value, wall_time):
    return Event(wall_time=wall_time, step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))


def golden():
    events = [
        Event(wall_time=1767225600.5, file_version="brain.Event:2"),
        scalar("train/loss", 300, 0.625, 1767225601.25),
        scalar("validation/意图", 0, -1.5, 1767225602.0),
    ]
    for event in events:
        buffer = io.BytesIO()
        RecordWriter(buffer).write(event.SerializeToString(deterministic=True))
        print(buffer.getvalue().hex())


def show(folder):
    found = EventAccumulator(folder, size_guidance={"scalars": 0})
    found.Reload()
    for tag in found.Tags()["scalars"]:
        points = [(event.step, round(event.value, 6)) for event in found.Scalars(tag)]
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), f"{tag} repeats steps: {steps}"
        print(tag, points if len(points) <= 12 else f"{points[:6]} ... {points[-2:]} ({len(points)} points)")


if len(sys.argv) > 1:
    show(sys.argv[1])
else:
    golden()
