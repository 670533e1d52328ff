"""What the tests of the gateway stand on: streams as they come, what an account has paid, and what it should have."""

import http.client
import json
import socket
from decimal import Decimal

from support import WAIT_SECONDS, Server, turnpike, unique, until

CHAT = "/v1/chat/completions"
# Of one token, in each configuration of these tests.
INPUT_USD, OUTPUT_USD = Decimal("0.000001"), Decimal("0.00001")
PRICE = {"input_per_million": "1", "output_per_million": "10"}
KEYS = {"UPSTREAM_KEY": "sk-of-the-upstream", "FIRST_KEY": "sk-the-first", "SECOND_KEY": "sk-the-second"}


def remote(upstream, **more):
    """A provider that is this fake upstream, asked on however often it fails."""
    return {"kind": "openai", "base_url": upstream.url, "api_key": "${env:UPSTREAM_KEY}", "concurrency": 64,
            "breaker": {"failures": 1000, "cool_down": "1s"}, **more}


def routed(name, *providers, task="text", **more):
    """A model that these providers serve in this order, each under the model's own name."""
    return {name: {"task": task, "providers": [{"provider": provider, "model": name} for provider in providers], **more}}


def serve(home, config):
    return Server(home, config, environment=KEYS)


def question(prompt, model="parrot", **fields):
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **fields}


class Stream:
    """A call whose answer comes as server-sent events: each is there as soon as the server has sent it."""

    def __init__(self, client, body, path=CHAT, receive_bytes=None, headers=None):
        """`receive_bytes`: room in the kernel for what is not read yet."""
        link = socket.socket()
        link.settimeout(WAIT_SECONDS)
        if receive_bytes:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        link.connect(("127.0.0.1", client.port))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=WAIT_SECONDS)
        self.connection.sock = link
        self.connection.request("POST", path, json.dumps({"stream": True, **body}),
                                client.headers({"Content-Type": "application/json", **(headers or {})}))
        self.response = None

    def opened(self):
        """Awaits the head of the answer."""
        if self.response is None:
            self.response = self.connection.getresponse()
        return self

    @property
    def status(self):
        return self.opened().response.status

    @property
    def headers(self):
        return self.opened().response.headers

    def next(self):
        """The data of the next event; None at the end. A body that is cut off raises."""
        self.opened()
        data = []
        while line := self.response.readline():
            line = line.decode("utf-8", "replace").rstrip("\r\n")  # as clients read it
            if line.startswith("data:"):
                data.append(line.removeprefix("data:").removeprefix(" "))
            elif not line and data:
                return "\n".join(data)
        assert not data, f"an event without an end: {data}"
        # readline() takes a body that was cut off for one that has ended; read() does not.
        assert self.response.read() == b""
        return None

    def token(self):
        """The text of the next event that has some; None at the end."""
        while (data := self.next()) is not None:
            text = content(data)
            if text:
                return text
        return None

    def rest(self):
        events = []
        while (data := self.next()) is not None:
            events.append(data)
        return events

    def leave(self):
        self.connection.sock and self.connection.sock.close()
        self.response and self.response.close()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()


def content(data):
    """The text of one event's data; empty where it has none."""
    if data == "[DONE]":
        return ""
    choices = json.loads(data).get("choices") or []
    return "".join(choice.get("delta", {}).get("content") or choice.get("text") or "" for choice in choices)


def said(events):
    return "".join(content(data) for data in events)


def usages(events):
    """What the events say of usage, those that do."""
    return [found for found in (json.loads(data).get("usage") for data in events if data != "[DONE]") if found]


# --- Money


def on_plan(server, plan):
    name = unique()
    assert server.client().request("PUT", f"/api/subscription/{name}", {"plan": plan}).status == 200
    return server.client(account=name)


def usage(client):
    return client.get("/api/subscription/usage").json


def meter(client, name):
    return next((each for each in usage(client)["meters"] if each["meter"] == name), None)


def used(client, name):
    return (meter(client, name) or {"used": 0})["used"]


def cost(tokens_in, tokens_out):
    return tokens_in * INPUT_USD + tokens_out * OUTPUT_USD


def paid(client):
    """What the account has paid, once nothing is held any more."""
    def look():
        found = usage(client)["cost"]
        return found if Decimal(found["held_usd"]) == 0 else None
    return Decimal(until(look, "the end of the hold")["used_usd"])


def verified(server):
    said_ = turnpike("ledger", "verify", "--data", str(server.data))
    assert said_.returncode == 0, said_.stdout + said_.stderr
    assert "everything agrees" in said_.stdout


def resident_mb(server):
    for line in open(f"/proc/{server.process.pid}/status", encoding="utf-8"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the server has ended")
