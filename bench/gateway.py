#!/usr/bin/python3
"""Turnpike as a gateway, measured beside nginx as a bare proxy and Portkey's gateway, in one run on one machine:
scripts/bench, or bench/gateway.py [--quick]."""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import urllib.error
from dataclasses import dataclass

from bench import machine, say, spread, write_results
from processes import LOAD_SECONDS_MAX, ROOT, Failed, Folder, Nginx, Paced, Portkey, Turnpike

CONNECTIONS = 32
DELAY_MICROS = 2000  # of the upstream behind which latency is measured
STREAMS, CHUNKS, PACE_MICROS = 16, 200, 5000
HELD_PACE_MICROS = 2_000_000  # of streams that are only held open
DESCRIPTORS = 16_384
PATH = "/v1/chat/completions"
CANNED = json.dumps({
    "id": "chatcmpl-bench", "object": "chat.completion", "created": 1790000000, "model": "bench",
    "choices": [{"index": 0, "message": {"role": "assistant",
                                         "content": "A canned answer of some words, as long as answers to short questions are."},
                 "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 16, "total_tokens": 25, "prompt_tokens_details": {"cached_tokens": 0}}},
    separators=(",", ":"))


@dataclass(frozen=True)
class Size:
    rounds: int
    seconds: int         # of each load
    warm_up_seconds: int
    open_streams: int
    steady_requests: int  # over which memory is to stay flat


FULL = Size(rounds=5, seconds=8, warm_up_seconds=2, open_streams=5_000, steady_requests=1_000_000)
QUICK = Size(rounds=1, seconds=2, warm_up_seconds=1, open_streams=500, steady_requests=20_000)


# --- The sides: an address, and the headers that make it ask an upstream


@dataclass
class Side:
    name: str
    process: object
    headers: dict

    def wrk(self, connections, seconds, headers=None):
        """Requests in so many seconds; void if any was not answered with 200."""
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", ROOT / "bench/gateway/post.lua",
                   f"http://{self.process.address}{PATH}", "--",
                   *(f"{name}={value}" for name, value in {**self.headers, **(headers or {})}.items())]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=LOAD_SECONDS_MAX, check=False)
        if done.returncode:
            raise Failed(f"wrk against {self.name}: {done.stdout}{done.stderr}")
        found = json.loads(done.stdout.strip().split("\n")[-1])
        if found["wrong"] or not found["requests"]:
            raise Failed(f"{self.name} failed {found['wrong']} of {found['requests']} requests")
        return found

    def stream_command(self, streams):
        return [ROOT / "build/bench/bench_streams", "--address", self.process.address, "--streams", streams,
                *(part for name, value in self.headers.items() for part in ("--header", f"{name}: {value}"))]

    def streams(self):
        """How late the pieces of streams come."""
        # Spread, so that their pieces do not come all at once and queue for each other.
        command = [*self.stream_command(STREAMS), "--spread-us", PACE_MICROS // STREAMS]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=LOAD_SECONDS_MAX,
                              check=False)
        if done.returncode:
            raise Failed(f"streams through {self.name}: {done.stderr.strip()}")
        return json.loads(done.stdout)


def canned(folder):
    return Nginx(folder, f"location = {PATH} {{ default_type application/json; return 200 '{CANNED}'; }}")


def direct(upstream):
    return Side("direct", upstream, {})


def nginx(folder, upstream):
    peer = Nginx(folder, "location / { proxy_pass http://upstream; proxy_http_version 1.1; "
                         "proxy_set_header Connection ''; proxy_buffering off; }",
                 f"upstream upstream {{ server {upstream.address}; keepalive 512; keepalive_requests 1000000000; }}")
    return Side("nginx", peer, {})


def portkey(folder, upstream):
    return Side("portkey", Portkey(folder), {"x-portkey-provider": "openai", "Authorization": "Bearer sk-of-the-bench",
                                             "x-portkey-custom-host": f"http://{upstream.address}/v1"})


def turnpike(folder, upstream):
    """With an account's own key."""
    folder.mkdir(parents=True)
    config = folder / "config.yaml"
    config.write_text((ROOT / "bench/gateway/turnpike.yaml").read_text().replace("UPSTREAM", upstream.address))
    server = Turnpike(config, folder / "data")
    try:
        key = server.send("POST", "/api/admin/keys", {"role": "account", "user_id": "bench"})["key"]
    except (urllib.error.URLError, KeyError) as trouble:
        server.kill()
        raise Failed(f"no key of an account: {trouble}") from trouble
    return Side("turnpike", server, {"Authorization": f"Bearer {key}"})


SIDES = {"turnpike": turnpike, "nginx": nginx, "portkey": portkey}
STREAMED = ("turnpike", "nginx")  # Portkey 1.15.2 answers 500 to these streams: it changes headers that are immutable


# --- One round: side -> figure -> value


def throughput(size, folder, order):
    """Requests a second at 32 connections, over the canned upstream."""
    found = {}
    with canned(folder / "canned") as upstream:
        for name in order:
            side = SIDES[name](folder / name, upstream)
            with side.process:
                side.wrk(CONNECTIONS, size.warm_up_seconds)
                done = side.wrk(CONNECTIONS, size.seconds)
                found[name] = {"requests_per_second": done["requests"] / done["seconds"], "busy_p99_us": done["p99_us"]}
    return found


def latency(size, folder, order):
    """What is added at one connection to an upstream that takes 2 ms."""
    found = {}
    with Paced(folder / "slow", "--delay-us", DELAY_MICROS) as upstream:
        direct(upstream).wrk(1, size.warm_up_seconds)
        bare = direct(upstream).wrk(1, size.seconds)
        for name in order:
            side = SIDES[name](folder / name, upstream)
            with side.process:
                side.wrk(1, size.warm_up_seconds)
                done = side.wrk(1, size.seconds)
                found[name] = {"added_p50_us": done["p50_us"] - bare["p50_us"], "added_p99_us": done["p99_us"] - bare["p99_us"]}
    return found


def chunks(folder, order):
    """What is added to each piece of 16 streams."""
    found = {}
    with Paced(folder / "paced", "--chunks", CHUNKS, "--pace-us", PACE_MICROS) as upstream:
        bare = direct(upstream).streams()
        for name in (name for name in order if name in STREAMED):
            side = SIDES[name](folder / name, upstream)
            with side.process:
                side.streams()
                done = side.streams()
                if done["chunks"] != STREAMS * CHUNKS:
                    raise Failed(f"{name} passed {done['chunks']} of {STREAMS * CHUNKS} pieces on")
                found[name] = {"chunk_p50_us": done["p50_us"] - bare["p50_us"], "chunk_p99_us": done["p99_us"] - bare["p99_us"]}
    return found


def memory(size, folder):
    """Turnpike alone: streams that are only open, and a long load."""
    found = {}
    with Paced(folder / "held", "--pace-us", HELD_PACE_MICROS) as upstream:
        side = turnpike(folder / "open", upstream)
        with side.process as server, subprocess.Popen(
                [str(part) for part in [*side.stream_command(size.open_streams), "--hold"]],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
            line = holder.stdout.readline()
            found["open_mb"] = server.resident_mb()
            _, trouble = holder.communicate("")
            if not line or json.loads(line)["streams"] != size.open_streams:
                raise Failed(f"{size.open_streams} open streams: {trouble.strip()}")
    with canned(folder / "canned") as upstream:
        side = turnpike(folder / "steady", upstream)
        with side.process as server:
            def serve(requests):
                while requests > 0:
                    requests -= side.wrk(CONNECTIONS, size.seconds)["requests"]

            serve(size.steady_requests // 5)  # until the caches are as large as they may be
            before = server.resident_mb()
            serve(size.steady_requests)
            found["steady_mb"], found["growth_mb"] = before, server.resident_mb() - before
            server.stop()
    return found


# --- The table


def verdict(ours, target, at_least):
    return "met" if (ours >= target if at_least else ours < target) else "SHORT"


def table(size, rounds, alone):
    def values(side, figure):
        return [found[figure] for found in rounds[side] if figure in found]

    def middle(side, figure):
        return statistics.median(values(side, figure)) if values(side, figure) else None

    lines = [["figure", *SIDES, "target", ""]]

    def line(title, figure, digits, target, met):
        lines.append([title, *(spread(values(side, figure), digits) for side in SIDES), target, met])

    key = "requests_per_second"
    ratios = {peer: middle("turnpike", key) / middle(peer, key) for peer in ("nginx", "portkey")}
    line(f"requests/s, {CONNECTIONS} connections", key, 0, f"0.6 of nginx: {ratios['nginx']:.2f}", verdict(ratios["nginx"], 0.6, True))
    lines.append(["", "", "", "", f"20 times Portkey: {ratios['portkey']:.1f}", verdict(ratios["portkey"], 20, True)])
    line("p99 meanwhile, us", "busy_p99_us", 0, "", "")
    for title, figure, target in (("added at one connection, p50, us", "added_p50_us", 150),
                                  ("added at one connection, p99, us", "added_p99_us", 1000),
                                  ("added to a piece of a stream, p50, us", "chunk_p50_us", 50)):
        ours = middle("turnpike", figure)
        line(title, figure, 0, f"under {target}", "-" if ours is None else verdict(ours, target, False))
    line("added to a piece of a stream, p99, us", "chunk_p99_us", 0, "", "")
    for title, figure, target in ((f"resident with {size.open_streams:,} open streams, MB", "open_mb", 300),
                                  (f"growth over {size.steady_requests:,} requests, MB", "growth_mb", 16)):
        lines.append([title, f"{alone[figure]:,.1f}", "-", "-", f"under {target}", verdict(alone[figure], target, False)])
    widths = [max(len(each[column]) for each in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(each, widths)) + " |" for each in lines)


def versions():
    said = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return {"nginx": said.strip().rsplit("/", 1)[-1],
            "portkey": json.loads((ROOT / "bench/portkey/package.json").read_text())["dependencies"]["@portkey-ai/gateway"]}


def run(size):
    rounds = {name: [] for name in SIDES}
    with Folder() as folder:
        about = machine(folder) | versions()
        say("  ".join(f"{name} {value}" for name, value in about.items()))
        for number in range(1, size.rounds + 1):
            order = list(SIDES) if number % 2 else list(reversed(SIDES))
            here = folder / f"gateway-{number}"
            parts = [throughput(size, here / "throughput", order), latency(size, here / "latency", order), chunks(here / "chunks", order)]
            for name in SIDES:
                found = {key: value for part in parts for key, value in part.get(name, {}).items()}
                rounds[name].append(found)
                say(f"round {number} {name:<8} " + "  ".join(f"{key} {value:,.0f}" for key, value in found.items()))
        alone = memory(size, folder / "gateway-memory")
        say("alone   turnpike " + "  ".join(f"{key} {value:,.1f}" for key, value in alone.items()))
    return about, rounds, alone


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; its figures prove nothing")
    size = QUICK if parser.parse_args().quick else FULL
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
    try:
        about, rounds, alone = run(size)
    except Failed as failed:
        say(f"bench: {failed}")
        return 1
    head = (f"{size.rounds} rounds of {size.seconds} s each, one thread of wrk; medians (least to most). Turnpike with a key, "
            "rates, quotas, prices and a cap in force, each call in the journal.")
    write_results("gateway", about, head, table(size, rounds, alone), rounds, alone)
    return 0


if __name__ == "__main__":
    sys.exit(main())
