#!/usr/bin/python3
"""What open listeners cost: `bench/sockets.py [--count 10000] [--streams]` opens WebSockets (or event streams), each subscribed
to one of 100 accounts, and tells the server's resident memory; then every account runs a job, and every listener must hear
its end. Plain sockets, so that they take little from the machine they share with the server."""

import argparse
import base64
import json
import os
import selectors
import socket
import tempfile
import time
from pathlib import Path

from processes import Failed, Turnpike

ACCOUNTS = 100
WAIT_SECONDS = 60
END = b"job.completed"


def opened(server, account, streams):
    """A socket whose server has answered that it is subscribed."""
    host, port = server.address.rsplit(":", 1)
    link = socket.create_connection((host, int(port)), timeout=WAIT_SECONDS)
    who = f"Host: {server.address}\r\nAuthorization: Bearer tp_{server.key}\r\nTurnpike-Account: {account}\r\n"
    if streams:
        link.sendall(f"GET /api/events HTTP/1.1\r\n{who}\r\n".encode())
        hear(link, b"retry: 2000")
        return link
    key = base64.b64encode(os.urandom(16)).decode()
    link.sendall(f"GET /api/ws HTTP/1.1\r\n{who}Upgrade: websocket\r\nConnection: Upgrade\r\n"
                 f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    text = json.dumps({"subscribe": ["account"]}).encode()
    mask = os.urandom(4)
    link.sendall(bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
    hear(link, b"last_event_id")
    return link


def hear(link, words):
    heard = b""
    while words not in heard:
        piece = link.recv(65536)
        if not piece:
            raise Failed(f"a listener was closed after {heard[-500:]!r}")
        heard += piece


def submit(server, account):
    server.send("POST", "/api/jobs", {"task": "text", "input": {"prompt": "x"}, "userId": account})


def measure(count, streams):
    with tempfile.TemporaryDirectory() as folder, Turnpike("sockets.yaml", Path(folder) / "data") as server:
        accounts = [f"user-{i}" for i in range(ACCOUNTS)]
        for account in accounts:
            submit(server, account)
        before = server.resident_mb()
        started = time.monotonic()
        links = [opened(server, accounts[i % ACCOUNTS], streams) for i in range(count)]
        opening = time.monotonic() - started
        after = server.resident_mb()
        selector = selectors.DefaultSelector()
        for link in links:
            selector.register(link, selectors.EVENT_READ, [link, b""])
        started = time.monotonic()
        for account in accounts:
            submit(server, account)
        left = count
        while left > 0:
            if time.monotonic() - started > WAIT_SECONDS:
                raise Failed(f"{left} of {count} listeners did not hear of their account's job")
            for entry, _ in selector.select(1):
                link, heard = entry.data
                entry.data[1] = heard = heard[-64:] + link.recv(65536)
                if END in heard:
                    selector.unregister(link)
                    left -= 1
        told = time.monotonic() - started
        loaded = server.resident_mb()
        for link in links:
            link.close()
        server.stop()
    kind = "event streams" if streams else "WebSockets"
    print(f"{count} {kind}: {after - before:.0f} MB more than the {before:.0f} MB before, "
          f"{(after - before) * 1e6 / count:.0f} bytes each; {loaded:.0f} MB in all once each has heard of a job; "
          f"opened in {opening:.1f} s, {ACCOUNTS} jobs told to all in {told:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--streams", action="store_true", help="server-sent events instead of WebSockets")
    options = parser.parse_args()
    measure(options.count, options.streams)
