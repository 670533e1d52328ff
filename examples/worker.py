#!/usr/bin/env python3
"""A worker of kind pull, with nothing but Python's standard library: counts words, and draws how long they are.

    TURNPIKE_KEY=tp_... python3 worker.py http://127.0.0.1:8080 [--providers own] [--once]

The key is of role worker. One made for an account (`turnpike keys create --role worker --account ann`) is given that
account's work alone. See worker.yaml.
"""

import argparse
import json
import os
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib

WAIT_S = 20  # the server answers a claim by then, with work or without


class Refused(Exception):
    def __init__(self, status, message, retry_after):
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Server:
    def __init__(self, url, key):
        self.url = url.rstrip("/")
        self.key = key

    def post(self, path, body, content_type="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method="POST", headers={
            "Authorization": f"Bearer {self.key}", "Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S + 40) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            try:
                message = json.load(refusal)["error"]["message"]
            except (ValueError, KeyError):
                message = str(refusal)
            raise Refused(refusal.code, message, int(refusal.headers.get("Retry-After") or 1)) from None


class Heart:
    """Says that the work is still being done, until it is left; then `stopped` says whether to leave it."""

    def __init__(self, server, work):
        self.server = server
        self.work = work
        self.over = threading.Event()
        self.stopped = False
        self.thread = threading.Thread(target=self.beat, daemon=True)

    def beat(self):
        while not self.over.wait(self.work["lease_s"] / 3):
            try:
                self.stopped = self.server.post(f"/api/work/{self.work['id']}/heartbeat", {})["cancelled"]
            except Refused as refusal:
                self.stopped = refusal.status == 409  # it is no longer ours
            except OSError:
                continue  # the next beat may get through
            if self.stopped:
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def bars(lengths, height=32, width=8):
    """A PNG in grey with one bar for each length."""
    tallest = max(lengths)
    rows = b""
    for y in range(height, 0, -1):
        rows += b"\0" + b"".join((b"\x20" if length * height >= y * tallest else b"\xf0") * (width - 1) + b"\xff"
                                 for length in lengths)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", len(lengths) * width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def count_words(server, work):
    text = work["input"].get("text")
    if not isinstance(text, str) or not text.split():
        return server.post(f"/api/work/{work['id']}/fail",
                           {"class": "invalid_input", "message": "`text` must hold at least one word"})
    words = text.split()[:512]
    server.post(f"/api/work/{work['id']}/progress", {"percent": 50, "message": "counted"})
    server.post(f"/api/work/{work['id']}/files?name=lengths", bars([len(word) for word in words]), "image/png")
    return server.post(f"/api/work/{work['id']}/complete", {
        "output": {"words": len(words), "different": len(set(words))},
        "usage": {"characters": len(text), "images": 1}})


TASKS = {"count_words": count_words}


def do(server, work):
    try:
        with Heart(server, work) as heart:
            task = TASKS.get(work["task"])
            if task is None:
                server.post(f"/api/work/{work['id']}/fail",
                            {"class": "misconfigured", "message": f"this worker does not know {work['task']}"})
            elif not heart.stopped:
                task(server, work)
        print(f"{work['job']}: reported", flush=True)
    except Refused as refusal:
        if refusal.status != 409:
            raise
        print(f"{work['job']}: {refusal}", flush=True)  # cancelled, or lost to another: nothing to do


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--providers", nargs="+", help="of kind pull; default: all")
    parser.add_argument("--once", action="store_true", help="leave after the first work")
    options = parser.parse_args()
    key = os.environ.get("TURNPIKE_KEY")
    if not key:
        sys.exit("set TURNPIKE_KEY to a key of role worker")
    server = Server(options.url, key)
    claim = {"wait_s": WAIT_S, **({"providers": options.providers} if options.providers else {})}
    while True:
        try:
            works = server.post("/api/work/claim", claim)["data"]
        except Refused as refusal:
            if refusal.status not in (429, 503):
                sys.exit(f"the claim was refused: {refusal}")
            works = []
            time.sleep(refusal.retry_after)
        except OSError as trouble:
            print(f"no answer ({trouble}): trying again", flush=True)
            works = []
            time.sleep(1)
        for work in works:  # in the order of the queue
            do(server, work)
        if works and options.once:
            return


if __name__ == "__main__":
    main()
