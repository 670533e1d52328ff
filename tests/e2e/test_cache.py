"""Answers that are given again, over the real wire (CR5, JS7), and requests in flight that share one upstream."""

import threading

import pytest

from support import Server, configuration, unique, until
from test_openai import DONE, HELLO, USAGE, Stream, Wire, chunk, tokens

REPLY = b'{"id":"x","object":"chat.completion","created":1,"model":"theirs","choices":[],"usage":' \
        b'{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}'


@pytest.fixture(scope="module")
def wire():
    made = Wire()
    yield made
    made.close()


@pytest.fixture(scope="module")
def cached(tmp_path_factory, wire):
    config = configuration(
        providers={"theirs": {"kind": "openai", "base_url": wire.url, "api_key": "${env:KEY}", "concurrency": 16}},
        plans={"own": {"cache": {"ttl": "1h"}},
               "together": {"cache": {"scope": "shared", "normalise": {"field": "prompt"}}},
               "counted": {"cache": {"charge": "full"}, "quotas": {"calls": 2}}},
        prices={"theirs": {"chat": {"input_per_million": "1.00", "output_per_million": "2.00"}}})
    config["models"] = {"chat": {"task": "text", "providers": [{"provider": "theirs", "model": "chat"}]}}
    with Server(tmp_path_factory.mktemp("cached"), config, environment={"KEY": "sk"}) as running:
        yield running


def on(server, plan):
    account = unique()
    assert server.client().request("PUT", f"/api/subscription/{account}", {"plan": plan}).status == 200
    return server.client(account=account)


def ask(client, path="/v1/chat/completions", headers=None, **body):
    return client.post(path, {"model": "chat", "messages": HELLO, **body}, headers)


def test_JS7_the_same_request_is_asked_once(cached, wire):
    client = on(cached, "own")
    wire.answers["/v1/chat/completions"] = ("application/json", [REPLY])
    before = len(wire.asked)
    first, again = ask(client, seed=1), ask(client, seed=1.0, safety_identifier="x", metadata={"a": "b"})
    assert first.headers["turnpike-cache"] == "miss" and first.headers["turnpike-cost-usd"] == "0.000011"
    assert again.headers["turnpike-cache"] == "hit" and again.headers["turnpike-cost-usd"] == "0"
    assert again.body == first.body == REPLY and again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["turnpike-model"] == first.headers["turnpike-model"]
    assert len(wire.asked) == before + 1 and tokens(client) == 9, "a hit moves no meter"
    assert ask(client, seed=2).headers["turnpike-cache"] == "miss"
    assert ask(on(cached, "own"), seed=1).headers["turnpike-cache"] == "miss", "nobody else's"


def test_a_stream_is_replayed_as_a_stream(cached, wire):
    client = on(cached, "own")
    wire.events(chunk("a"), chunk("b"), chunk(finish="stop"), {**chunk(), "choices": [], "usage": USAGE}, DONE)
    before = len(wire.asked)
    first = Stream(client, model="chat", messages=HELLO)
    came = list(first)
    again = Stream(client, model="chat", messages=HELLO, stream_options={"include_usage": True})
    events = list(again)
    assert first.headers["turnpike-cache"] == "miss" and again.headers["turnpike-cache"] == "hit"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert events[:3] == came[:3] == [chunk("a"), chunk("b"), chunk(finish="stop")] and events[-1] == "[DONE]"
    assert events[-2]["usage"] == {**USAGE, "turnpike": {"cost_usd": "0"}}
    assert len(wire.asked) == before + 1 and tokens(client) == 9


def test_identical_streams_in_flight_share_one_upstream_and_survive_their_leader(cached, wire):
    leader, follower = on(cached, "together"), on(cached, "together")
    middle = threading.Event()
    wire.events(chunk("a"), middle, chunk("b"), {**chunk(), "choices": [], "usage": USAGE}, DONE)
    before = len(wire.asked)
    one = Stream(leader, model="chat", messages=HELLO, seed=11)
    assert next(iter(one)) == chunk("a")
    two = Stream(follower, model="chat", messages=HELLO, seed=11)
    events = iter(two)
    assert two.headers["turnpike-cache"] == "hit" and next(events) == chunk("a"), "from its beginning"
    one.leave()
    middle.set()
    assert list(events) == [chunk("b"), "[DONE]"]
    assert len(wire.asked) == before + 1 and tokens(follower) == 0
    until(lambda: tokens(leader) == 9, "the charge of who asked")


def test_cache_control_is_honoured(cached, wire):
    client = on(cached, "own")
    wire.answers["/v1/chat/completions"] = ("application/json", [REPLY])

    def said(control):
        return ask(client, seed=21, headers={"Cache-Control": control}).headers["turnpike-cache"]

    assert [said(control) for control in ("no-store", "max-age=3600", "max-age=3600", "no-cache", "max-age=0")] == [
        "bypass", "miss", "hit", "bypass", "miss"]


def test_CR5_the_same_topic_again_is_a_hit_and_the_rate_is_a_metric(cached, wire):
    client = on(cached, "together")
    wire.answers["/v1/completions"] = ("application/json", [REPLY])
    topic = unique("How black holes work ")

    def said(prompt):
        return client.post("/v1/completions", {"model": "chat", "prompt": prompt}).headers["turnpike-cache"]

    assert [said(topic), said(f"  {topic.upper()}?!"), said(topic + " not")] == ["miss", "hit", "miss"]
    metrics = cached.client().get("/metrics").body.decode()
    assert 'turnpike_cache_requests_total{plan="together",result="hit"}' in metrics
    assert 'turnpike_cache_requests_total{plan="together",result="miss"}' in metrics


def test_a_hit_may_count_in_full(cached, wire):
    client = on(cached, "counted")
    wire.answers["/v1/chat/completions"] = ("application/json", [REPLY])
    assert [ask(client).headers["turnpike-cache"] for _ in range(2)] == ["miss", "hit"]
    assert tokens(client) == 18
    refused = ask(client)
    assert refused.status == 429 and refused.error["code"] == "insufficient_quota"


def test_what_was_kept_outlives_a_restart(cached, wire):
    client = on(cached, "own")
    wire.answers["/v1/chat/completions"] = ("application/json", [REPLY])
    assert ask(client, seed=31).headers["turnpike-cache"] == "miss"
    cached.stop()
    cached.start()
    client = cached.client(account=client.account)
    assert ask(client, seed=31).headers["turnpike-cache"] == "hit"


def test_a_plan_without_a_cache_says_nothing_of_it(cached, wire):
    client = cached.client(account=unique())
    wire.answers["/v1/chat/completions"] = ("application/json", [REPLY])
    assert "turnpike-cache" not in ask(client).headers and "turnpike-cache" not in ask(client).headers
