#!/usr/bin/env python3
"""What customers of `yingda serve` see while its Qdrant server is there, hangs, is gone and comes back.

    python bench/qdrant_faults.py --yingda target/release/yingda --qdrant PROGRAM [--postgres URL] [--seconds 10] [--json]

Run it in the root of the repository. PROGRAM is a Qdrant server (https://github.com/qdrant/qdrant/releases); it is started on
free ports in a temporary folder, and `yingda serve --sample` beside it. One caller asks a known question, a word that wants a
person, a message that starts a guided flow and another known question in turn, each in a session of its own, for --seconds a
phase. Then a collection of another dimension, made by somebody else, is put under the collection's name; ours is removed; and the name
is given free again.

With --postgres (an empty database of its own), two more `yingda serve` share one store and that database: releases are
published on one until the other answers from them, and rolled back on the other.

Only the standard library is used. A table goes to standard output, or JSON with --json; progress goes to standard error.
"""

import argparse
import collections
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# (what it is, its text)
MESSAGES = [
    ("known", "怎么退货"),
    ("person", "我要找人工客服"),
    ("flow", "帮我查一下快递到哪了"),
    ("known", "发票怎么开"),
]
RELEASES = 20
COLLECTION = "yingda"
# Seconds after which a program that should be up, or a release that should be seen, is given up.
PATIENCE = 60
RULES = "api/yingda.rules.example.toml"


class Problem(Exception):
    """A sentence for the person who ran the program."""


def say(line):
    print(line, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def request(port, method, path, body=None, timeout=30):
    """Status and JSON of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text[:1] in (b"{", b"[") else {}
    finally:
        connection.close()


def until(what, check, pause=0.05):
    """Waits until `check` holds; seconds that it took."""
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE:
        try:
            if check():
                return time.monotonic() - started
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(pause)
    raise Problem(f"{what} took longer than {PATIENCE} seconds")


class Program:
    """A server in a process of its own, stopped in the end."""

    def __init__(self, name, command, log, cwd=None, environment=None):
        self.name, self.command, self.log, self.cwd = name, command, log, cwd
        self.environment = {**os.environ, **(environment or {})}
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=self.cwd, env=self.environment
            )

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Qdrant(Program):
    def __init__(self, program, folder):
        self.http, self.grpc = free_port(), free_port()
        environment = {
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__HTTP_PORT": str(self.http),
            "QDRANT__SERVICE__GRPC_PORT": str(self.grpc),
            "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
            "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
            "QDRANT__TELEMETRY_DISABLED": "true",
        }
        folder.mkdir()
        super().__init__("qdrant", [str(program)], folder / "log", folder, environment)

    def start(self):
        super().start()
        return until("starting Qdrant", lambda: request(self.http, "GET", "/readyz")[0] == 200)

    def version(self):
        return request(self.http, "GET", "/")[1].get("version", "?")


class Yingda(Program):
    def __init__(self, program, folder, qdrant, *more):
        self.port = free_port()
        command = [str(program), "serve", "--sample", "--open", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--data", str(folder), "--qdrant", f"http://127.0.0.1:{qdrant.grpc}", "--rules", RULES, *more]
        super().__init__("yingda", command, folder.with_suffix(".log"))

    def start(self):
        super().start()
        until("starting yingda", lambda: self.ended() or request(self.port, "GET", "/readyz")[0] == 200)
        if self.ended():
            raise Problem(f"yingda did not start: {self.log.read_text(errors='replace')[-500:]}")

    def ended(self):
        return self.process.poll() is not None

    def chat(self, session, text):
        return request(self.port, "POST", "/v1/chat", {"session_id": session, "text": text})

    def knows(self, text="怎么退货"):
        """Whether the knowledge answers or offers something."""
        answer = self.chat(f"knows-{time.monotonic_ns()}", text)[1]
        return answer.get("reason") != "knowledge_unavailable"


def phase(name, service, seconds):
    """Latency of messages one after the other, and what was decided."""
    say(f"{name}: {seconds} s")
    times, said = [], collections.defaultdict(collections.Counter)
    until_then, number = time.monotonic() + seconds, 0
    while time.monotonic() < until_then:
        kind, text = MESSAGES[number % len(MESSAGES)]
        began = time.monotonic()
        status, answer = service.chat(f"{name}-{number}", text)
        times.append((time.monotonic() - began) * 1000)
        number += 1
        word = answer.get("decision", "?") if status == 200 else str(status)
        if answer.get("reason") == "knowledge_unavailable":
            word += " (knowledge_unavailable)"
        said[kind][word] += 1
    times.sort()
    return {
        "phase": name,
        "messages": number,
        "p50_ms": statistics.median(times),
        "p99_ms": times[min(len(times) - 1, int(len(times) * 0.99))],
        "max_ms": times[-1],
        "said": {kind: dict(words) for kind, words in said.items()},
    }


def aliases(qdrant, *actions):
    if request(qdrant.http, "POST", "/collections/aliases", {"actions": list(actions)})[0] != 200:
        raise Problem(f"Qdrant did not do {actions}")


def of_others(qdrant):
    """Puts a collection of 8 numbers, made by somebody else, under our name."""
    other = {"vectors": {"size": 8, "distance": "Cosine"}}
    if request(qdrant.http, "PUT", "/collections/of-others", other)[0] != 200:
        raise Problem("Qdrant did not make a collection")
    aliases(qdrant, {"create_alias": {"collection_name": "of-others", "alias_name": COLLECTION}})


def remove_ours(qdrant):
    listed = request(qdrant.http, "GET", "/collections")[1]["result"]["collections"]
    for name in (collection["name"] for collection in listed):
        if name.startswith(COLLECTION):
            request(qdrant.http, "DELETE", f"/collections/{name}")


def faults(arguments, folder):
    qdrant = Qdrant(arguments.qdrant, folder / "qdrant")
    service = Yingda(arguments.yingda, folder / "one", qdrant)
    found = {"phases": []}
    step = lambda name: found["phases"].append(phase(name, service, arguments.seconds))
    try:
        qdrant.start()
        found["qdrant"] = qdrant.version()
        service.start()
        step("there")
        qdrant.signal(signal.SIGSTOP)
        step("hangs")
        qdrant.signal(signal.SIGCONT)
        found["answers_after_going_on_seconds"] = until("answering again", service.knows)
        step("goes on")
        qdrant.signal(signal.SIGKILL)
        qdrant.process.wait()
        step("killed")
        status = lambda method, path, body=None: request(service.port, method, path, body)[0]
        found["while_killed"] = {
            "POST /v1/search": status("POST", "/v1/search", {"text": "怎么退货"}),
            "POST /v1/knowledge/publish": status("POST", "/v1/knowledge/publish", {}),
            "GET /readyz": status("GET", "/readyz"),
        }
        qdrant.start()
        found["answers_after_start_seconds"] = until("answering again", service.knows)
        step("started again")
        of_others(qdrant)
        step("another's name")
        remove_ours(qdrant)
        until("seeing the other collection", lambda: not service.knows())
        step("another dimension")
        other = Yingda(arguments.yingda, folder / "other", qdrant)
        Program.start(other)
        found["starting_with_another_dimension"] = {
            "exit": other.process.wait(PATIENCE),
            "says": other.log.read_text(errors="replace").strip().splitlines()[-1],
        }
        aliases(qdrant, {"delete_alias": {"alias_name": COLLECTION}})
        found["answers_after_the_name_is_free_seconds"] = until("answering again", service.knows)
    finally:
        service.end()
        qdrant.end()
    return found


def entry(answer):
    return {"question": "机器人坏了多久能修好", "answer": answer, "similar_questions": ["机器人坏了要修多久"]}


def replicas(arguments, folder):
    """Seconds from the answer to `publish` on one service to the answer of the other."""
    qdrant = Qdrant(arguments.qdrant, folder / "qdrant-of-two")
    one, two = (
        Yingda(arguments.yingda, folder / name, qdrant, "--database", arguments.postgres) for name in ("a", "b")
    )
    try:
        qdrant.start()
        one.start()
        two.start()

        def answers(service, answer):
            found = request(service.port, "POST", "/v1/search", {"text": "机器人坏了多久能修好", "limit": 1})[1]
            return found["matches"][0]["answer"] == answer

        def ok(service, method, path, body):
            status, answer = request(service.port, method, path, body)
            if status >= 300:
                raise Problem(f"{method} {path} was answered with {status}: {answer}")
            return answer

        seen = []
        for number in range(RELEASES):
            say(f"release {number + 1} of {RELEASES}")
            ok(one, "PUT", "/v1/knowledge/entries/bench-repair", {"entry": entry(f"{number + 1} 天")})
            ok(one, "POST", "/v1/knowledge/publish", {})
            seen.append(until("the other replica", lambda: answers(two, f"{number + 1} 天"), pause=0.005))
        releases = ok(one, "GET", "/v1/knowledge/releases", None)["releases"]
        ok(two, "POST", "/v1/knowledge/rollback", {"release": releases[1]["release"]})
        back = until("the other replica", lambda: answers(one, f"{RELEASES - 1} 天"), pause=0.005)
        return {"releases": RELEASES, "median_seconds": statistics.median(seen), "worst_seconds": max(seen),
                "roll_back_seconds": back}
    finally:
        one.end()
        two.end()
        qdrant.end()


def table(found):
    lines = [f"Qdrant {found['qdrant']}; one caller, milliseconds", ""]
    lines.append(f"{'':<20}{'messages':>9}{'p50':>8}{'p99':>8}{'max':>9}  decided")
    for row in found["phases"]:
        said = "; ".join(
            f"{kind}: {', '.join(f'{word} {count}' for word, count in words.items())}" for kind, words in row["said"].items()
        )
        figures = f"{row['p50_ms']:>8.1f}{row['p99_ms']:>8.1f}{row['max_ms']:>9.1f}"
        lines.append(f"{row['phase']:<20}{row['messages']:>9}{figures}  {said}")
    for name in [name for name in found if name.startswith("answers_after")]:
        lines.append(f"{name.replace('_', ' ')}: {found[name]:.2f}")
    lines.append(f"while killed: {found['while_killed']}")
    lines.append(f"starting with another dimension: {found['starting_with_another_dimension']}")
    if "replicas" in found:
        lines.append(f"two replicas: {found['replicas']}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--yingda", type=Path, required=True, help="the program")
    parser.add_argument("--qdrant", type=Path, required=True, help="a Qdrant server's program")
    parser.add_argument("--postgres", help="address of an empty database; without it two replicas are not measured")
    parser.add_argument("--seconds", type=float, default=10, help="length of a phase")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.yingda, arguments.qdrant = arguments.yingda.resolve(), arguments.qdrant.resolve()
    try:
        for program in (arguments.yingda, arguments.qdrant):
            if not program.is_file():
                raise Problem(f"{program} is no program")
        if not Path(RULES).is_file():
            raise Problem("run it in the root of the repository")
        with tempfile.TemporaryDirectory() as folder:
            found = faults(arguments, Path(folder))
            if arguments.postgres:
                found["replicas"] = replicas(arguments, Path(folder))
    except (Problem, OSError, http.client.HTTPException) as problem:
        say(f"error: {problem}")
        return 1
    print(json.dumps(found, ensure_ascii=False, indent=2) if arguments.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
