#!/usr/bin/python3
"""What we claim, measured beside BullMQ on Redis in one run on one machine: scripts/bench [--quick]."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from processes import COMPLETED, ROOT, Failed, Folder, Redis, Turnpike

IN_FLIGHT = 64
INPUT_BYTES = 200
PICKUP = "turnpike_pickup_seconds"
LOAD = ("--in-flight", IN_FLIGHT, "--input-bytes", INPUT_BYTES)


@dataclass(frozen=True)
class Size:
    rounds: int
    jobs: int            # of each throughput
    warm_up: int
    pickup_seconds: int
    queued: int          # for memory and restart


FULL = Size(rounds=5, jobs=20_000, warm_up=2_000, pickup_seconds=5, queued=1_000_000)
QUICK = Size(rounds=1, jobs=5_000, warm_up=500, pickup_seconds=2, queued=50_000)


@dataclass(frozen=True)
class Figure:
    """A row of the table. `target` is a ratio to the peer where `times` is set, else a bound that must not be reached."""
    key: str
    title: str
    unit: str
    digits: int
    target: float
    times: bool = False


def figures(size):
    return [
        Figure("submits", "durable submits", "/s", 0, 2.0, times=True),
        Figure("completes", "end to end", "/s", 0, 3.0, times=True),
        Figure("pickup_p50", "pickup at half load, p50", "ms", 2, 1.0),
        Figure("pickup_p99", "pickup at half load, p99", "ms", 2, 5.0),
        Figure("queued_mb", f"resident with {size.queued:,} queued", "MB", 0, 400.0),
        Figure("restart_seconds", f"ready after kill -9 with {size.queued:,} queued", "s", 2, 5.0),
        Figure("restart_mb", "resident after that restart", "MB", 0, 400.0),
        Figure("idle_mb", "resident when idle", "MB", 1, 40.0),
    ]


def say(text):
    print(text, file=sys.stderr, flush=True)


# --- One round of each side: figure -> value

def turnpike_round(size, folder):
    found = {}
    with Turnpike("queue.yaml", folder / "submits") as server:
        found["submits"] = server.load(size.jobs, "--warm-up", size.warm_up, *LOAD)["submits_per_second"]
        server.stop()
    with Turnpike("bench.yaml", folder / "work") as server:
        done = server.load(size.jobs, "--warm-up", size.warm_up, "--completed-metric", COMPLETED, *LOAD)
        found["completes"] = done["completes_per_second"]
        pace = found["completes"] / 2
        before = histogram(server.get("/metrics") or "", PICKUP)
        done = server.load(int(pace * size.pickup_seconds), "--per-second", pace, "--watch-every", 10,
                           "--completed-metric", COMPLETED, *LOAD)
        inside = subtract(histogram(server.get("/metrics") or "", PICKUP), before)
        server.stop()
    found["pickup_p50"], found["pickup_p99"] = done["pickups"]["p50_us"] / 1000, done["pickups"]["p99_us"] / 1000
    found["inside_p50"], found["inside_p99"] = quantile(inside, 0.5) * 1000, quantile(inside, 0.99) * 1000
    return found


def bullmq_round(size, folder):
    found = {}
    with Redis(folder / "adds") as redis:
        found["submits"] = redis.run("adds.js", size.jobs, "--warm-up", size.warm_up, *LOAD)["submits_per_second"]
        redis.stop()
    with Redis(folder / "redis") as redis:
        done = redis.run("work.js", size.jobs, "--warm-up", size.warm_up, "--concurrency", IN_FLIGHT, *LOAD)
        found["completes"] = done["completes_per_second"]
        pace = found["completes"] / 2
        done = redis.run("work.js", int(pace * size.pickup_seconds), "--warm-up", size.warm_up, "--per-second", pace,
                         "--concurrency", IN_FLIGHT, *LOAD)
        redis.stop()
    found["pickup_p50"], found["pickup_p99"] = done["pickups"]["p50_us"] / 1000, done["pickups"]["p99_us"] / 1000
    return found


def memory(size, folder):
    """Turnpike alone: idle, then with many jobs queued, then killed and started again."""
    found = {}
    with Turnpike("queue.yaml", folder / "queued") as server:
        time.sleep(2)  # what start-up took has been given back by then, or is kept
        found["idle_mb"] = server.resident_mb()
        server.load(size.queued, *LOAD)
        found["queued_mb"] = server.resident_mb()
        server.kill()
    with Turnpike("queue.yaml", folder / "queued") as server:
        found["restart_seconds"] = server.ready_seconds
        found["restart_mb"] = server.resident_mb()
        server.stop()
    return found


# --- The server's own histogram: upper bound in seconds -> how many at most that

def histogram(text, name):
    found = {}
    for labels, value in re.findall(rf"^{name}_bucket{{([^}}]*)}} (\S+)$", text, re.MULTILINE):
        bound = float(re.search(r'le="([^"]+)"', labels)[1].replace("+Inf", "inf"))
        found[bound] = found.get(bound, 0) + float(value)
    if not found:
        raise Failed(f"/metrics has no histogram {name}")
    return found


def subtract(after, before):
    return {bound: count - before.get(bound, 0) for bound, count in after.items()}


def quantile(buckets, share):
    """As Prometheus estimates it: linear within a bucket; in the last one, its lower bound."""
    bounds = sorted(buckets)
    goal = share * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= goal and buckets[bound] > below:
            return lower if bound == float("inf") else lower + (bound - lower) * (goal - below) / (buckets[bound] - below)
        lower, below = bound, buckets[bound]
    return lower


# --- The table

def spread(values, digits):
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def row(figure, ours, theirs):
    """The cells of one figure, and whether its target is met."""
    mine, peer = statistics.median(ours), statistics.median(theirs) if theirs else None
    ratio = mine / peer if peer else None
    met = ratio is not None and ratio >= figure.target if figure.times else mine < figure.target
    target = f"at least {figure.target:g} times" if figure.times else f"under {figure.target:g} {figure.unit}"
    return [f"{figure.title}, {figure.unit}", spread(ours, figure.digits), spread(theirs, figure.digits),
            f"{ratio:.2f}" if ratio else "-", target, "met" if met else "SHORT"], met


def table(size, rounds, alone):
    lines = [["figure", "Turnpike", "BullMQ", "ratio", "target", ""]]
    for figure in figures(size):
        if figure.key in alone:
            ours, theirs = [alone[figure.key]], []
        else:
            ours, theirs = ([found[figure.key] for found in rounds[side]] for side in ("turnpike", "bullmq"))
        lines.append(row(figure, ours, theirs)[0])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    inside = [statistics.median(found[key] for found in rounds["turnpike"]) for key in ("inside_p50", "inside_p99")]
    text += ["", f"Pickup is from sending a request to hearing that its job has started. Inside the server, from accepted to "
             f"started: p50 {inside[0]:.2f} ms, p99 {inside[1]:.2f} ms."]
    return "\n".join(text)


def machine(folder):
    """What the figures depend on."""
    model = re.search(r"^model name\s*: (.*)$", open("/proc/cpuinfo", encoding="utf-8").read(), re.MULTILINE)
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"), "commit": head.stdout.strip() or "unknown",
        "processor": model[1] if model else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
        "file_system": kind, "fdatasync_ms": round(sync_millis(folder / "probe"), 3),
        "node": subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip(),
    }


def versions():
    """Of the peer."""
    return {
        "bullmq": json.loads((ROOT / "bench/bullmq/package.json").read_text())["dependencies"]["bullmq"],
        "redis": subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()[2],
    }


def sync_millis(path):
    """Median of 200 appends of 4 KiB, each made durable."""
    samples = []
    with path.open("wb", buffering=0) as file:
        for _ in range(200):
            started = time.monotonic()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            samples.append((time.monotonic() - started) * 1000)
    path.unlink()
    return statistics.median(samples)


def write_results(name, about, head, figures_text, rounds, alone):
    """Prints the table, and keeps it with every round's figures."""
    text = "\n".join([", ".join(f"{each} {value}" for each, value in about.items()), head, "", figures_text])
    results = ROOT / "bench/results"
    results.mkdir(exist_ok=True)
    stem = about["time"].replace(":", "").replace("+0000", "Z") + f"-{name}"
    (results / f"{stem}.txt").write_text(text + "\n")
    (results / f"{stem}.json").write_text(json.dumps({"machine": about, "rounds": rounds, "alone": alone}, indent=1) + "\n")
    print(text, flush=True)


def run(size):
    rounds = {"turnpike": [], "bullmq": []}
    sides = [("turnpike", turnpike_round), ("bullmq", bullmq_round)]
    with Folder() as folder:
        about = machine(folder) | versions()
        say("  ".join(f"{name} {value}" for name, value in about.items()))
        for number in range(1, size.rounds + 1):
            for name, play in sides if number % 2 else reversed(sides):
                found = play(size, folder / f"{number}-{name}")
                rounds[name].append(found)
                say(f"round {number} {name:<8} " + "  ".join(f"{key} {value:,.2f}" for key, value in found.items()))
        alone = memory(size, folder)
        say("alone   turnpike " + "  ".join(f"{key} {value:,.2f}" for key, value in alone.items()))
    return about, rounds, alone


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; its figures prove nothing")
    size = QUICK if parser.parse_args().quick else FULL
    try:
        about, rounds, alone = run(size)
    except Failed as failed:
        say(f"bench: {failed}")
        return 1
    head = (f"{size.rounds} rounds of {size.jobs:,} jobs, inputs of {INPUT_BYTES} bytes, {IN_FLIGHT} in flight; medians "
            "(least to most)")
    write_results("queue", about, head, table(size, rounds, alone), rounds, alone)
    return 0


if __name__ == "__main__":
    sys.exit(main())
