"""Draws what the reply store costs as it grows, from what `yingda bench store --json` printed at several sizes.

    python bench/plot_store.py docs/store.svg size-1000.json size-10000.json size-100000.json
"""

import json
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "yingda"
# Words stay words, and can be searched.
matplotlib.rcParams["svg.fonttype"] = "none"
import matplotlib.pyplot as plt


def main(out, files):
    runs = sorted((json.load(open(name, encoding="utf-8")) for name in files), key=lambda run: run["entries"])
    sizes = [run["entries"] for run in runs]
    figure, (cost, latency) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for label, value in [
        ("build time, s", lambda run: run["build_seconds"]),
        ("disk, MiB", lambda run: run["disk_mib"]),
        ("resident memory, MiB", lambda run: run["searched"]["resident_mib"]),
        ("open and answer once, ms", lambda run: run["searched"]["open_ms"]),
    ]:
        if all(value(run) is not None for run in runs):
            cost.plot(sizes, [value(run) for run in runs], marker="o", label=label)
    for label, pick in [
        ("one caller", lambda searched: searched["alone"]),
        ("one caller, while writing", lambda searched: (searched["writing"] or {}).get("alone")),
        ("16 callers", lambda searched: searched["together"]),
        ("16 callers, while writing", lambda searched: (searched["writing"] or {}).get("together")),
    ]:
        picked = [(run["entries"], pick(run["searched"])) for run in runs]
        picked = [(size, found) for size, found in picked if found]
        line = latency.plot([size for size, _ in picked], [found["p99_ms"] for _, found in picked], marker="o", label=label)
        latency.plot([size for size, _ in picked], [found["p50_ms"] for _, found in picked], marker=".", linestyle=":",
                     color=line[0].get_color())
    cost.set_title("Cost of the embedded store")
    latency.set_title("Hybrid search, ms: p99 (p50 dotted)")
    for axes in (cost, latency):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("entries")
        axes.grid(True, which="both", alpha=0.2)
        axes.legend(fontsize="small")
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
