#!/usr/bin/python3
"""A fake upstream as a process of its own, which can do everything that upstreams do to a gateway, on command:

    tests/e2e/upstream.py [--port PORT]

It speaks OpenAI's wire (upstream_wire.py) and Anthropic's /v1/messages on one port of loopback, is told what to do on
another, and prints both. Which request is treated how is said by rules; the first that matches and is not used up wins:

    {"match": {"prompt"?, "model"?, "key"?, "path"?}, "times"?, ...what to do}

`match` compares whole values, but for `path`, which is an end of it. What to do, all optional:

    latency_s      before the first byte                  status, message, code, body, headers   instead of an answer
    gate           a step to wait for before that         text, tokens, chunk_tokens, finish_reason, no_limit   of the answer
    pace_s, step   before each token event of a stream    usage    none, zero, always (asked or not), or its values
    bytes_per_second, split_bytes (bytes of one packet)   fault, after (token events that go before it; -1: not even
                                                          what a stream begins with), size_bytes

    fault          what goes wrong
    refuse         the connection is reset before a byte of an answer
    silence        no byte ever comes
    reset, close   the connection is reset, or closed without an end of the body, after some of it
    hang           nothing more comes after some of it
    end            the body ends well after some of it, without what belongs to its end
    garbage        bytes that are nothing
    half_json      half an event or body, and a proper end
    error_event    a stream says that it failed
    wrong_length   Content-Length says more than comes
    redirect       302
    huge           `size_bytes` of an answer, as fast as they are taken

What waits, waits for at most WAIT_SECONDS. Every request is written down.
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import signal
import socket
import struct
import sys
import time

import upstream_wire as wire

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 256 * 1024 * 1024
KEPT_BYTES_MAX = 16 * 1024  # of a body, in what is written down
REQUESTS_MAX = 200_000  # written down
WAIT_SECONDS = 120
HUGE_BYTES = 200_000_000
SEND_BUFFER_BYTES = 64 * 1024  # of the kernel: what is sent has nearly been taken
PIECE = b" " * 65_536
REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class Left(Exception):
    """Whoever asked has left."""


class Steps:
    """Named permissions to go on, given one by one or for good."""

    def __init__(self):
        self.given = {}
        self.changed = asyncio.Condition()

    async def give(self, name, count):
        async with self.changed:
            self.given[name] = float("inf") if count is None else self.given.get(name, 0) + count
            self.changed.notify_all()

    async def take(self, name):
        async with self.changed:
            await self.changed.wait_for(lambda: self.given.get(name, 0) > 0)
            self.given[name] -= 1


class Fake:
    """What it was told, and what it saw."""

    def __init__(self):
        self.rules = []
        self.rule_ids = itertools.count(1)
        self.keys = {}  # key -> {"limit", "window_s"?}
        self.key_times = {}
        self.requests = []
        self.connections = set()
        self.open_max = 0
        self.busy = 0  # requests being answered
        self.busy_max = 0
        self.steps = Steps()
        self.server = None
        self.port = 0

    # --- Up and down

    async def up(self):
        if self.server is None:
            loop = asyncio.get_running_loop()
            self.server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self.port, backlog=1024,
                                                   reuse_address=True)
            self.port = self.server.sockets[0].getsockname()[1]

    async def down(self):
        """Nobody listens, and what is open is reset."""
        if self.server is not None:
            self.server.close()
            self.server = None
        for connection in list(self.connections):
            connection.reset()

    # --- What a request is to get

    def rule_for(self, asked):
        for rule in self.rules:
            match = rule.get("match", {})
            fits = (all(getattr(asked, name) == match[name] for name in ("prompt", "model", "key") if name in match)
                    and asked.path.endswith(match.get("path", "")))
            if fits and rule.get("times", 1) > 0:
                if "times" in rule:
                    rule["times"] -= 1
                return rule
        return {}

    def over_limit(self, asked):
        """Seconds until the key has room again; none where it has."""
        limit = self.keys.get(asked.key)
        if limit is None:
            return None
        now = time.monotonic()
        window = limit.get("window_s", float("inf"))
        times = [at for at in self.key_times.get(asked.key, []) if now - at < window]
        self.key_times[asked.key] = times
        if len(times) >= limit["limit"]:
            return max(1, -int(-(window - (now - times[0])) // 1)) if window != float("inf") else limit.get("retry_after", 1)
        times.append(now)
        return None

    def write_down(self, asked):
        record = {
            "n": len(self.requests), "at": time.monotonic(), "method": asked.method, "path": asked.path,
            "headers": asked.headers, "key": asked.key, "model": asked.model, "prompt": asked.prompt, "stream": asked.stream,
            "body": asked.body[:KEPT_BYTES_MAX].decode("utf-8", "replace"), "body_bytes": len(asked.body),
            "fields": asked.fields if len(asked.body) <= KEPT_BYTES_MAX or asked.files else {},
            "files": {name: {"filename": given, "type": kind, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                      for name, (given, kind, data) in asked.files.items()},
            "status": None, "events": 0, "sent_bytes": 0, "end": "open", "rule": None,
        }
        if len(self.requests) < REQUESTS_MAX:
            self.requests.append(record)
        return record

    def state(self):
        return {"requests": len(self.requests), "open": len(self.connections), "open_max": self.open_max,
                "busy": self.busy, "busy_max": self.busy_max, "up": self.server is not None, "port": self.port}


class Connection(asyncio.Protocol):
    """One connection of a client: its requests, one after another."""

    def __init__(self, fake):
        self.fake = fake
        self.buffer = bytearray()
        self.more = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.gone = asyncio.Event()
        self.transport = None
        self.task = None

    # --- asyncio's side

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.fake.connections.add(self)
        self.fake.open_max = max(self.fake.open_max, len(self.fake.connections))
        self.task = asyncio.ensure_future(self.serve())

    def data_received(self, data):
        self.buffer += data
        self.more.set()
        if len(self.buffer) > BODY_BYTES_MAX + HEAD_BYTES_MAX:
            self.reset()

    def eof_received(self):
        self.gone.set()
        self.more.set()
        return False

    def connection_lost(self, _):
        self.fake.connections.discard(self)
        self.gone.set()
        self.more.set()
        self.room.set()

    def pause_writing(self):
        self.room.clear()

    def resume_writing(self):
        self.room.set()

    # --- Reading

    async def read_until(self, mark):
        while (at := self.buffer.find(mark)) < 0:
            await self.wait_for_more()
        return self.take(at + len(mark))

    async def read_exactly(self, size):
        while len(self.buffer) < size:
            await self.wait_for_more()
        return self.take(size)

    async def wait_for_more(self):
        if self.gone.is_set():
            raise Left
        self.more.clear()
        await self.more.wait()

    def take(self, size):
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    async def read_request(self):
        lines = (await self.read_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name:
                headers[name.lower()] = value.strip()
        body = bytearray()
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int((await self.read_until(b"\r\n")).split(b";")[0], 16):
                body += await self.read_exactly(size)
                await self.read_exactly(2)
            await self.read_until(b"\r\n")
        elif length := int(headers.get("content-length", 0)):
            if headers.get("expect", "").lower() == "100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body += await self.read_exactly(length)
        asked = wire.Asked(method, target.split("?")[0], headers, bytes(body))
        kind = headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            asked.fields, asked.files = wire.read_form(kind, asked.body)
        elif asked.body:
            try:
                fields = json.loads(asked.body)
                asked.fields = fields if isinstance(fields, dict) else {}
            except ValueError:
                asked.fields = {}
        return asked

    # --- Writing

    def reset(self):
        """An end that the other side cannot take for a proper one."""
        if self.transport is None or self.transport.is_closing():
            return
        link = self.transport.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def send(self, data, record, rule):
        """Awaits that it is taken. Slow where the rule says so."""
        size = rule.get("split_bytes") or len(data) or 1
        pace = rule.get("bytes_per_second")
        if pace:
            size = 1
        for at in range(0, len(data), size):
            if self.gone.is_set() or self.transport.is_closing():
                raise Left
            piece = data[at:at + size]
            self.transport.write(piece)
            record["sent_bytes"] += len(piece)
            # The loop turns: whoever else waits has its turn, who left is noticed, and each piece is a packet of its own.
            await asyncio.sleep(0)
            await self.room.wait()
            if pace:
                await self.pause(1 / pace)

    async def waiting(self, what, seconds=WAIT_SECONDS):
        """Awaits `what`, unless whoever asked leaves meanwhile."""
        doing, leaving = asyncio.ensure_future(what), asyncio.ensure_future(self.gone.wait())
        try:
            done, _ = await asyncio.wait({doing, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            doing.cancel()
            leaving.cancel()
        if doing not in done:
            raise Left

    async def pause(self, seconds):
        if seconds > 0:
            await self.waiting(asyncio.sleep(seconds), seconds + WAIT_SECONDS)

    # --- Answering

    async def serve(self):
        try:
            while not self.gone.is_set():
                asked = await self.read_request()
                record = self.fake.write_down(asked)
                self.fake.busy += 1
                self.fake.busy_max = max(self.fake.busy_max, self.fake.busy)
                try:
                    await self.answer(asked, record)
                except Left:
                    record["end"] = "left"
                    raise
                finally:
                    self.fake.busy -= 1
                if record["end"] == "fault":
                    break
        except Left:
            pass
        except (ValueError, KeyError, IndexError, AttributeError, TypeError) as bad:
            print(f"cannot read a request, or answer it: {bad!r}", file=sys.stderr, flush=True)
        finally:
            self.transport.close()

    async def answer(self, asked, record):
        rule = self.fake.rule_for(asked)
        record["rule"] = rule.get("id")
        if rule.get("gate"):
            await self.waiting(self.fake.steps.take(rule["gate"]))
        await self.pause(rule.get("latency_s", 0))
        if (seconds := self.fake.over_limit(asked)) is not None:
            answer = wire.error(asked, 429, "too many requests with this key", "rate_limit_exceeded")
            return await self.send_body(answer, {"headers": {"Retry-After": str(seconds)}}, record)
        if "status" in rule:
            answer = wire.error(asked, rule["status"], rule.get("message") or f"the upstream says {rule['status']}",
                                rule.get("code"))
            if "body" in rule:
                text = rule["body"]
                answer.body = text.encode() if isinstance(text, str) else wire.dump(text)
            return await self.send_body(answer, rule, record)
        if rule.get("fault") == "refuse":
            record["end"] = "fault"
            return self.reset()
        if rule.get("fault") == "silence":
            return await self.hang(record)
        if rule.get("fault") == "redirect":
            answer = wire.Answer(status=302)
            return await self.send_body(answer, {"headers": {"Location": f"http://127.0.0.1:{self.fake.port}/v1/elsewhere"}},
                                        record)
        answer = wire.answer(asked, rule)
        if rule.get("fault") == "huge":
            return await self.send_huge(answer, rule, record)
        if answer.events is None:
            return await self.send_body(answer, rule, record)
        return await self.send_stream(asked, answer, rule, record)

    async def hang(self, record):
        record["hangs"] = True
        await self.gone.wait()
        record["end"] = "left"
        raise Left

    def head(self, answer, framing, more=None):
        headers = {"Content-Type": answer.content_type, **framing, "x-request-id": "req_of-the-fake", **(more or {})}
        text = f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Whatever')}\r\n"
        return (text + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n").encode()

    async def send_body(self, answer, rule, record):
        body, fault = answer.body, rule.get("fault")
        if fault == "garbage":
            body = hashlib.sha256(body).digest() * 8
        elif fault == "half_json":
            body = body[:len(body) // 2]
        length = len(body) + (100 if fault == "wrong_length" else 0)
        record["status"] = answer.status
        start = self.head(answer, {"Content-Length": length}, rule.get("headers"))
        if fault in ("reset", "close", "hang"):
            await self.send(start + body[:len(body) // 2], record, rule)
            return await self.break_off(fault, record)
        await self.send(start + body, record, rule)
        if fault == "wrong_length":
            return await self.break_off("close", record)
        record["end"] = "complete" if fault is None else f"complete: {fault}"

    async def break_off(self, fault, record):
        if fault == "hang":
            await self.hang(record)
        record["end"] = "fault"
        if fault == "reset":
            self.reset()
        else:
            self.transport.close()

    async def send_huge(self, answer, rule, record):
        size = rule.get("size_bytes", HUGE_BYTES)
        record["status"] = 200
        await self.send(self.head(answer, {"Content-Length": size}), record, {})
        left = size
        while left > 0:
            await self.send(PIECE[:left], record, {})
            left -= len(PIECE)
        record["end"] = "complete: huge"

    async def send_stream(self, asked, answer, rule, record):
        fault, after = rule.get("fault"), rule.get("after", 0)
        record["status"] = 200
        framing = {"Content-Length": "1000000"} if fault == "wrong_length" else {"Transfer-Encoding": "chunked"}
        await self.send(self.head(answer, framing, rule.get("headers")), record, rule)

        def framed(data):
            return data if fault == "wrong_length" else b"%x\r\n%b\r\n" % (len(data), data)

        tokens = 0
        for kind, data in answer.events:
            if fault in ("reset", "close", "hang", "end", "garbage", "half_json", "error_event") and tokens >= after and (kind != "start" or after < 0):
                return await self.spoil(fault, asked, data, framed, rule, record)
            if kind == "token":
                if rule.get("step"):
                    await self.waiting(self.fake.steps.take(rule["step"]))
                await self.pause(rule.get("pace_s", 0))
                tokens += 1
            await self.send(framed(data), record, rule)
            record["events"] = tokens
        if fault == "wrong_length":
            return await self.break_off("close", record)
        await self.send(b"0\r\n\r\n", record, rule)
        record["end"] = "complete"

    async def spoil(self, fault, asked, data, framed, rule, record):
        if fault in ("reset", "close", "hang"):
            return await self.break_off(fault, record)
        if fault == "garbage":
            await self.send(framed(hashlib.sha256(asked.body).digest() * 8 + b"\n\n"), record, rule)
        elif fault == "half_json":
            await self.send(framed(data[:len(data) // 2] + b"\n\n"), record, rule)
        elif fault == "error_event":
            await self.send(framed(wire.error_event(asked, rule.get("message") or "the fake fails as it was told")), record, rule)
        await self.send(b"0\r\n\r\n", record, rule)
        record["end"] = f"complete: {fault}"


class Control(asyncio.Protocol):
    """Where it is told what to do: one JSON object a line, and one for each answer."""

    def __init__(self, fake):
        self.fake = fake
        self.buffer = bytearray()
        self.transport = None
        self.lines = asyncio.Queue(1024)
        self.task = None

    def connection_made(self, transport):
        self.transport = transport
        self.task = asyncio.ensure_future(self.work())

    def connection_lost(self, _):
        self.task.cancel()

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\n")) >= 0:
            self.lines.put_nowait(bytes(self.buffer[:end]))
            del self.buffer[:end + 1]

    async def work(self):
        while True:
            told = json.loads(await self.lines.get())
            said = await getattr(self, "do_" + told.pop("do"))(**told)
            self.transport.write(json.dumps(said).encode() + b"\n")

    async def do_rule(self, rule):
        rule["id"] = next(self.fake.rule_ids)
        self.fake.rules.insert(0, rule)
        return rule["id"]

    async def do_forget(self, rule=None):
        self.fake.rules = [each for each in self.fake.rules if rule is not None and each["id"] != rule]
        return len(self.fake.rules)

    async def do_key(self, key, limit):
        """`limit`: {"limit", "window_s"?, "retry_after"?}, or nothing for none."""
        self.fake.key_times.pop(key, None)
        if limit is None:
            self.fake.keys.pop(key, None)
        else:
            self.fake.keys[key] = limit
        return True

    async def do_step(self, name, count):
        await self.fake.steps.give(name, count)
        return True

    async def do_up(self):
        await self.fake.up()
        return True

    async def do_down(self):
        await self.fake.down()
        return True

    async def do_state(self):
        return self.fake.state()

    async def do_requests(self, start=0, names=None):
        return [record if names is None else [record[name] for name in names] for record in self.fake.requests[start:]]


async def run(port):
    fake = Fake()
    fake.port = port
    await fake.up()
    loop = asyncio.get_running_loop()
    control = await loop.create_server(lambda: Control(fake), "127.0.0.1", 0)
    print(f"upstream {fake.port} control {control.sockets[0].getsockname()[1]}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Whoever started it holds its input open: with them it ends.
    loop.add_reader(sys.stdin, lambda: sys.stdin.buffer.read1(1024) or stop.set())
    await stop.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(run(parser.parse_args().port))


if __name__ == "__main__":
    main()
