"""Streams through the gateway: bytes as they come, usage and cost to who asks, and whoever leaves pays what was used."""

import json
import signal
from decimal import Decimal
from pathlib import Path

import pytest

from gateway import (CHAT, PRICE, Stream, cost, on_plan, paid, question, remote, resident_mb, routed, said, serve,
                     usages, used, verified)
from support import Upstream, configuration, unique, until

TOKENS = 8
MANY = 20_000_000  # tokens, of an answer that nobody wants to the end: hundreds of megabytes on the wire
# Of a stream that nobody reads: what the kernel takes in the gateway's name on its two sockets, and the gateway itself.
UNREAD_BYTES_MAX = (8 << 20) + sum(int(Path(f"/proc/sys/net/ipv4/tcp_{side}").read_text().split()[2])
                                   for side in ("rmem", "wmem"))
READ_ON_BYTES_MAX = 16 << 20  # for the usage at the end, once nobody reads
SLOW_CLIENTS = 6
GROWTH_MB_MAX = 100


def plans():
    metered = {"priority_class": "standard", "cost_cap": {"monthly_usd": "10000", "hard_stop": True}}
    return {"metered": metered,
            "single": {**metered, "limits": {"concurrent_calls": 1}},
            "small": {**metered, "quotas": {"tokens": 400}}}


def settings(upstream):
    return configuration(providers={"first": remote(upstream)}, models={}, prices={"first": {"default": PRICE}},
                         plans=plans()) | {"models": routed("parrot", "first")}


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as made:
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory, upstream):
    with serve(tmp_path_factory.mktemp("streams"), settings(upstream)) as running:
        yield running
        verified(running)


@pytest.fixture
def client(server):
    client = on_plan(server, "metered")
    yield client
    client.close()


@pytest.fixture
def prompt():
    return unique("prompt")


ASKS_USAGE = {"stream_options": {"include_usage": True}}


# --- Bytes as they come


def test_no_token_waits_for_the_next(client, upstream, prompt):
    """The upstream sends a token only after the client has the one before: a gateway that gathers would hang."""
    upstream.rule(prompt=prompt, step=prompt, tokens=TOKENS)
    with Stream(client, question(prompt)) as stream:
        for token in range(TOKENS):
            upstream.step(prompt)
            assert stream.token().strip() == f"t{token}"
            assert upstream.requests(prompt=prompt)[0]["events"] <= token + 1
        rest = stream.rest()
        assert rest[-1] == "[DONE]" and said(rest) == ""


def test_the_head_comes_with_the_first_token_and_says_who_serves(client, upstream, prompt):
    upstream.rule(prompt=prompt, step=prompt, tokens=2)
    with Stream(client, question(prompt)) as stream:
        upstream.step(prompt)
        assert stream.token() == "t0" and stream.status == 200
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert stream.headers["turnpike-model"] == "parrot@1" and stream.headers["turnpike-provider"] == "first"
        assert stream.headers["x-request-id"] and stream.headers["Cache-Control"] is not None
        upstream.step(prompt)
        stream.rest()


def test_a_stream_says_the_same_as_an_answer_in_one_piece(client, upstream, prompt):
    with Stream(client, question(prompt)) as stream:
        events = stream.rest()
    whole = client.post(CHAT, question(prompt))
    assert whole.status == 200
    assert said(events) == whole.json["choices"][0]["message"]["content"] == f"You said: {prompt}"
    chunks = [json.loads(data) for data in events[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]][-1] == "stop"


def test_bytes_that_come_one_by_one_are_the_same(client, upstream, prompt):
    text = "Straße \U0001f600 \"quoted\"\nnew line, data: [DONE] in the middle, \u2028 and \r\n\r\n more"
    upstream.rule(prompt=prompt, text=text, split_bytes=1)
    with Stream(client, question(prompt)) as stream:
        events = stream.rest()
    assert said(events) == text and events.count("[DONE]") == 1 and events[-1] == "[DONE]"


def test_a_connection_serves_on_after_a_stream(client, prompt):
    with Stream(client, question(prompt)) as stream:
        assert stream.rest()[-1] == "[DONE]"
        stream.connection.request("GET", "/healthz")
        assert stream.connection.getresponse().status == 200


# --- Usage and cost


def test_usage_is_asked_of_the_upstream_and_kept_from_who_did_not_ask(client, upstream, prompt):
    with Stream(client, question(prompt)) as stream:
        events = stream.rest()
    assert upstream.ended(prompt=prompt)["fields"]["stream_options"] == {"include_usage": True}
    assert usages(events) == []
    assert all(json.loads(data)["choices"] for data in events[:-1]), "a chunk without choices is the usage chunk"
    assert paid(client) == cost(1, 3)


def test_who_asks_gets_usage_and_cost_in_the_last_chunk(client, prompt):
    with Stream(client, question(prompt, **ASKS_USAGE)) as stream:
        events = stream.rest()
    assert events[-1] == "[DONE]"
    last = json.loads(events[-2])
    assert last["choices"] == [] and usages(events) == [last["usage"]], "once, and last"
    told = last["usage"]
    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (1, 3, 4)
    assert Decimal(told["turnpike"]["cost_usd"]) == cost(1, 3) == paid(client), "what it says is what was paid"


def test_other_options_of_the_stream_reach_the_upstream(client, upstream, prompt):
    with Stream(client, question(prompt, stream_options={"include_usage": False, "include_obfuscation": False})) as stream:
        assert usages(stream.rest()) == []
    options = upstream.ended(prompt=prompt)["fields"]["stream_options"]
    assert options == {"include_usage": True, "include_obfuscation": False}


@pytest.mark.parametrize("told, charge", [("zero", Decimal(0)), ({"completion_tokens": 2, "total_tokens": 3}, cost(1, 2)),
                                          ({"prompt_tokens_details": {"cached_tokens": 1}}, cost(1, 3))])
def test_what_the_upstream_says_is_charged_also_where_it_says_zero(client, upstream, prompt, told, charge):
    upstream.rule(prompt=prompt, usage=told)
    with Stream(client, question(prompt)) as stream:
        assert stream.rest()[-1] == "[DONE]"
    assert paid(client) == charge


def test_an_upstream_that_says_nothing_of_usage_is_not_free(client, upstream, prompt):
    upstream.rule(prompt=prompt, usage="none", tokens=100)
    with Stream(client, question(prompt, max_tokens=200)) as stream:
        assert stream.rest()[-1] == "[DONE]"
    assert cost(0, 25) <= paid(client) <= cost(500, 200), "an estimate of what came, and no more than was held"


@pytest.mark.parametrize("path, body, last", [
    ("/v1/completions", {"model": "parrot"}, "[DONE]"),
    ("/v1/responses", {"model": "parrot"}, "response.completed"),
])
def test_the_other_texts_stream_too(client, upstream, prompt, path, body, last):
    field = "input" if path.endswith("responses") else "prompt"
    upstream.rule(prompt=prompt, step=prompt, tokens=3)
    with Stream(client, {**body, field: prompt}, path) as stream:
        seen = []
        for token in range(3):
            upstream.step(prompt)
            while f"t{token}" not in (data := stream.next()):
                seen.append(data)
            seen.append(data)
        seen += stream.rest()
    end = seen[-1] if seen[-1] == "[DONE]" else json.loads(seen[-1])["type"]
    assert end == last
    if last != "[DONE]":
        told = json.loads(seen[-1])["response"]["usage"]
        assert (told["input_tokens"], told["output_tokens"]) == (1, 3)
    assert paid(client) == cost(1, 3)


# --- Who leaves, and who is slow


@pytest.mark.parametrize("tokens_seen", [0, 1, 3])
def test_who_leaves_pays_what_the_upstream_used(client, upstream, prompt, tokens_seen):
    upstream.rule(prompt=prompt, step=prompt, tokens=TOKENS)
    stream = Stream(client, question(prompt))
    upstream.step(prompt, tokens_seen)
    for token in range(tokens_seen):
        assert stream.token().strip() == f"t{token}"
    until(lambda: upstream.requests(prompt=prompt), "the request")
    stream.leave()
    upstream.step(prompt, None)
    assert upstream.ended(prompt=prompt)["end"] == "complete", "it is read on to its usage"
    assert paid(client) == cost(1, TOKENS)
    assert used(client, "tokens") == 1 + TOKENS


def test_a_slow_client_slows_its_own_upstream_only(server, client, upstream, prompt):
    before = resident_mb(server)
    slow = []
    try:
        for number in range(SLOW_CLIENTS):
            name = f"{prompt}-slow-{number}"
            upstream.rule(prompt=name, tokens=MANY, chunk_tokens=100, no_limit=True)
            slow.append(Stream(client, question(name), receive_bytes=4096))
            assert slow[-1].token(), "it has begun"

        def sent():
            return [upstream.requests(prompt=f"{prompt}-slow-{number}")[0]["sent_bytes"] for number in range(SLOW_CLIENTS)]

        def stands_still():
            first = sent()
            with Stream(client, question(f"{prompt}-{len(first)}", max_tokens=5000)) as quick:  # takes its time, and is served
                assert quick.rest()[-1] == "[DONE]"
            return first if sent() == first else None

        upstream.rule(prompt=f"{prompt}-{SLOW_CLIENTS}", tokens=2000)
        held = until(stands_still, "the slow upstreams' standing still")
        assert max(held) < UNREAD_BYTES_MAX
        assert resident_mb(server) - before < GROWTH_MB_MAX
    finally:
        for stream in slow:
            stream.leave()
    for number in range(SLOW_CLIENTS):
        record = upstream.ended(prompt=f"{prompt}-slow-{number}")
        assert record["end"] == "left", "reading on for the usage is bounded"
        assert record["sent_bytes"] < UNREAD_BYTES_MAX + READ_ON_BYTES_MAX
    assert paid(client) > 0


def test_a_stream_takes_its_place_until_it_ends(server, upstream, prompt):
    client = on_plan(server, "single")
    upstream.rule(prompt=prompt, step=prompt, tokens=2)
    with Stream(client, question(prompt)) as stream:
        upstream.step(prompt)
        assert stream.token() == "t0"
        refused = client.post(CHAT, question("another"))
        assert refused.status == 429 and refused.error["turnpike"]["code"] == "concurrency_limited"
        upstream.step(prompt)
        assert stream.rest()[-1] == "[DONE]"
    assert client.post(CHAT, question("another")).status == 200, "free again with the last byte"


def test_who_leaves_frees_the_place_when_the_upstream_ends(server, upstream, prompt):
    client = on_plan(server, "single")
    upstream.rule(prompt=prompt, step=prompt, tokens=2)
    stream = Stream(client, question(prompt))
    upstream.step(prompt)
    assert stream.token() == "t0"
    stream.leave()
    upstream.step(prompt)
    until(lambda: client.post(CHAT, question("another")).status == 200, "the free place")


# --- How it ends


# fault of the upstream after two tokens
BROKEN = ["reset", "close", "end", "garbage", "half_json", "error_event", "wrong_length"]


@pytest.mark.parametrize("fault", BROKEN)
def test_a_failure_inside_a_stream_is_an_error_event_and_the_end(client, upstream, prompt, fault):
    upstream.rule(prompt=prompt, fault=fault, after=2, tokens=2 if fault == "wrong_length" else TOKENS,
                  **({"usage": "none"} if fault == "wrong_length" else {}))
    with Stream(client, question(prompt, max_tokens=20)) as stream:
        events = stream.rest()
    if fault == "wrong_length" and events[-1] == "[DONE]":
        assert said(events) == "t0 t1", "all events had come: what is missing is HTTP's only"
        return
    assert said(events[:-1]) == "t0 t1"
    error = json.loads(events[-1])["error"]
    assert {"message", "type", "param", "code"} <= set(error) and error["message"]
    assert "sk-of-the-upstream" not in events[-1] and upstream.url not in events[-1]
    assert not usages(events[:-1])
    assert paid(client) <= cost(500, 20), "no more than was held"


def test_a_stream_that_says_no_more_is_ended_by_the_attempts_time(tmp_path, upstream, prompt):
    config = settings(upstream)
    config["defaults"]["plan"]["attempt_timeout"] = "2s"
    upstream.rule(prompt=prompt, fault="hang", after=2, tokens=TOKENS)
    with serve(tmp_path, config) as server:
        client = on_plan(server, "metered")
        with Stream(client, question(prompt, max_tokens=20)) as stream:
            events = stream.rest()
        assert said(events[:-1]) == "t0 t1" and json.loads(events[-1])["error"]["message"]
        assert upstream.ended(prompt=prompt)["end"] == "left", "its connection is closed"
        assert paid(client) <= cost(500, 20)
        verified(server)


def test_a_stream_is_cut_where_nothing_more_is_to_be_had(server, upstream, prompt):
    """The plan has 400 tokens, and the upstream does not keep to the limit that it is sent."""
    client = on_plan(server, "small")
    upstream.rule(prompt=prompt, tokens=100_000, no_limit=True)
    with Stream(client, question(prompt, max_tokens=300)) as stream:
        events = stream.rest()
    error = json.loads(events[-1].replace("[DONE]", "{}")).get("error")
    assert error and error["code"] == "insufficient_quota", events[-1]
    record = upstream.ended(prompt=prompt)
    assert record["end"] == "left" and record["events"] < 50_000
    refused = client.post(CHAT, question("more"))
    assert refused.status == 429 and refused.error["code"] == "insufficient_quota"


def test_a_limit_that_nobody_asked_for_does_not_block_what_remains(server, upstream, prompt):
    """400 tokens are left, and the model's longest answer has 4,096: what is sent upstream is clamped."""
    client = on_plan(server, "small")
    upstream.rule(prompt=prompt, tokens=100_000)
    with Stream(client, question(prompt)) as stream:
        assert stream.status == 200, stream.response.read()
        events = stream.rest()
    assert said(events).startswith("t0 t1")
    fields = upstream.ended(prompt=prompt)["fields"]
    assert 0 < (fields.get("max_tokens") or fields["max_completion_tokens"]) <= 400
    assert used(client, "tokens") <= 400


def test_a_refusal_before_the_stream_is_no_stream(server, client, prompt):
    with Stream(client, question(prompt, model="gpt-unknown")) as stream:
        assert stream.status == 404 and stream.headers["Content-Type"].startswith("application/json")
        assert json.loads(stream.response.read())["error"]["code"] == "model_not_found"


def test_a_server_that_is_told_to_stop_ends_its_streams_well(tmp_path, upstream, prompt):
    with serve(tmp_path, settings(upstream)) as server:
        client = on_plan(server, "metered")
        upstream.rule(prompt=prompt, step=prompt, tokens=TOKENS)
        with Stream(client, question(prompt, **ASKS_USAGE)) as stream:
            upstream.step(prompt)
            assert stream.token() == "t0"
            server.signal(signal.SIGTERM)
            upstream.step(prompt, None)
            events = stream.rest()
            assert said(events) == "".join(f" t{at}" for at in range(1, TOKENS)) and events[-1] == "[DONE]"
            assert usages(events)[0]["completion_tokens"] == TOKENS
        assert server.left() == 0, server.output()


def test_B3_a_kill_in_the_middle_of_streams_leaves_the_books_right(tmp_path, upstream, prompt):
    with serve(tmp_path, settings(upstream)) as server:
        client = on_plan(server, "metered")
        streams = []
        for number in range(4):
            name = f"{prompt}-{number}"
            upstream.rule(prompt=name, step=name, tokens=TOKENS)
            streams.append(Stream(client, question(name, max_tokens=20)))
            upstream.step(name, 2)
            assert streams[-1].token() == "t0"
        server.kill()
        for stream in streams:
            stream.leave()
        server.start()
        client = server.client(account=client.account)
        charged = paid(client)
        assert 0 <= charged <= 4 * cost(500, 20), "no more than was held, and nothing held any more"
        verified(server)
        assert client.post(CHAT, question("on")).status == 200
        server.stop()

