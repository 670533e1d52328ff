"""What upstreams do to a gateway: each fault is bounded, told apart, served by another where there is one, and charged right."""

import collections
import concurrent.futures
import hashlib
import http.client
import itertools
import time
from decimal import Decimal

import pytest

from gateway import (CHAT, KEYS, PRICE, Stream, cost, on_plan, paid, question, remote, resident_mb, routed, said, serve,
                     usage, used, verified)
from support import Client, Upstream, configuration, unique, until

TRY_SECONDS = 2  # of one provider
ATTEMPT_SECONDS = 8  # of a call, over all of them
BOUND_SECONDS = TRY_SECONDS + 6  # of an answer, on a busy machine
MAX_TOKENS = 16
# What one call may have held: its longest answer, and an input whose tokens are at most its bytes.
HELD_MOST = cost(1000, MAX_TOKENS)
RESIDENT_MB_MAX = 250

# Fault -> (what the upstream does, how it is classified, whether it is sure that nothing was billed).
FAULTS = {
    "refused": ({"fault": "refuse"}, "transient", False),
    "reset": ({"fault": "reset"}, "transient", False),
    "closed": ({"fault": "close"}, "transient", False),
    "garbage": ({"fault": "garbage"}, "bad_output", False),
    "half a JSON": ({"fault": "half_json"}, "bad_output", False),
    "wrong length": ({"fault": "wrong_length"}, "transient", False),
    "redirect": ({"fault": "redirect"}, None, True),
    "huge": ({"fault": "huge"}, "bad_output", False),
    "silence": ({"fault": "silence"}, "timeout", False),
    "hangs": ({"fault": "hang"}, "timeout", False),
    "three bytes a second": ({"bytes_per_second": 3}, "timeout", False),
    "500": ({"status": 500}, "transient", True),
    "502 with words of a proxy": ({"status": 502, "body": "<html>Bad Gateway</html>"}, "transient", True),
    "503": ({"status": 503, "headers": {"Retry-After": "1"}}, "transient", True),
    "429": ({"status": 429, "headers": {"Retry-After": "1"}}, "rate_limited", True),
    "401": ({"status": 401, "message": "Incorrect API key provided: sk-of-the-upstream"}, "misconfigured", True),
    "404": ({"status": 404, "code": "model_not_found"}, "misconfigured", True),
    "empty": ({"status": 200, "body": ""}, "bad_output", False),
    "an error as an answer": ({"status": 200, "body": {"error": {"message": "it did not go well"}}}, None, False),
}
NAMES = {fault: f"m{number}" for number, fault in enumerate(FAULTS)}


def plans(second=True):
    """`second`: there is a second provider, which one of the plans prefers."""
    made = {"metered": {"priority_class": "standard", "cost_cap": {"monthly_usd": "100", "hard_stop": True},
                        "attempt_timeout": f"{ATTEMPT_SECONDS}s", "retry": {"attempts": 1}}}
    if second:
        made["ordered"] = made["metered"] | {"providers": {"text": ["second", "steady"]}}
    return made


@pytest.fixture(scope="module")
def upstreams():
    with Upstream() as first, Upstream() as second:
        for fault, (what, _, _) in FAULTS.items():
            first.rule(model=NAMES[fault], **what)
            first.rule(model=NAMES[fault] + "-alone", **what)
        yield first, second


@pytest.fixture(scope="module")
def server(tmp_path_factory, upstreams):
    """For each fault a provider of its own."""
    first, second = upstreams
    names = [*NAMES.values(), "steady"]
    providers = {name: remote(first, timeout=f"{TRY_SECONDS}s") for name in names} | {"second": remote(second)}
    models = {}
    for name in names:
        models |= routed(name, name, "second") | routed(f"{name}-alone", name)
    models |= routed("both", "steady", "second")
    for task in OTHERS:
        models |= routed(f"both-{task}", "steady", "second", task=task)
    media = {"per_image": "0.01", "characters_per_million": "15", "per_audio_second": "0.0001"}
    prices = {name: {"default": PRICE | media} for name in providers}
    config = configuration(providers=providers, models={}, plans=plans(), prices=prices) | {"models": models}
    with serve(tmp_path_factory.mktemp("faults"), config) as running:
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


def ask(client, prompt, model, **fields):
    """The answer and how long it took."""
    started = time.monotonic()
    answer = client.post(CHAT, question(prompt, model, max_tokens=MAX_TOKENS, **fields))
    return answer, time.monotonic() - started


def charged_right(client, fault, served):
    """What was served is paid exactly; beyond it nothing where nothing was billed, else no more than was held."""
    beyond = paid(client) - served
    if FAULTS[fault][2]:
        assert beyond == 0
    else:
        assert 0 <= beyond <= HELD_MOST


# --- Where there is a second one


@pytest.mark.parametrize("fault", FAULTS)
def test_SD8_what_the_first_does_not_serve_the_second_does(server, client, upstreams, prompt, fault):
    first, second = upstreams
    answer, seconds = ask(client, prompt, NAMES[fault])
    assert answer.status == 200, answer
    assert answer.json["choices"][0]["message"]["content"] == f"You said: {prompt}"
    assert answer.headers["turnpike-provider"] == "second" and seconds < BOUND_SECONDS
    assert len(first.requests(prompt=prompt)) >= 1 and len(second.requests(prompt=prompt)) == 1
    assert first.requests(path="/v1/elsewhere") == [], "no redirect is followed with a key in hand"
    charged_right(client, fault, cost(1, 3))
    assert used(client, "calls") == 1


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "wrong length"])  # there all events come before it
def test_SD8_a_stream_that_has_not_begun_is_served_by_the_second(client, upstreams, prompt, fault):
    if fault in ("reset", "closed", "hangs", "half a JSON", "garbage"):
        upstreams[0].rule(prompt=prompt, model=NAMES[fault], after=-1, **FAULTS[fault][0])
    with Stream(client, question(prompt, NAMES[fault], max_tokens=MAX_TOKENS)) as stream:
        assert stream.status == 200
        events = stream.rest()
        assert stream.headers["turnpike-provider"] == "second"
    assert said(events) == f"You said: {prompt}" and events[-1] == "[DONE]"
    charged_right(client, fault, cost(1, 3))


# --- The other operations

FORM = b"".join([
    b'--frontier\r\nContent-Disposition: form-data; name="model"\r\n\r\nboth-%b\r\n',
    b'--frontier\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nas it was\r\n',
    b'--frontier\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\nContent-Type: application/octet-stream\r\n\r\n'])
OTHERS = {  # task -> (path, body, or the name of a form's file)
    "embedding": ("/v1/embeddings", {"input": "some text"}),
    "image": ("/v1/images/generations", {"prompt": "a square"}),
    "image_edit": ("/v1/images/edits", b"image"),
    "speech": ("/v1/audio/speech", {"input": "some words", "voice": "alloy"}),
    "transcription": ("/v1/audio/transcriptions", b"file"),
}


@pytest.mark.parametrize("task", OTHERS)
def test_SD8_the_other_operations_fall_back_with_every_byte(client, upstreams, task):
    first, second = upstreams
    path, body = OTHERS[task]
    first.rule(model=f"both-{task}", status=503)
    headers = {}
    if isinstance(body, bytes):
        data = bytes(range(256)) * 40  # boundaries, zeros and all
        body = FORM % (task.encode(), body) + data + b"\r\n--frontier--\r\n"
        headers["Content-Type"] = "multipart/form-data; boundary=frontier"
    else:
        body = {"model": f"both-{task}", **body}
    answer = client.post(path, body, headers)
    assert answer.status == 200, answer
    assert answer.headers["turnpike-provider"] == "second"
    seen, seen_again = (upstream.requests(model=f"both-{task}") for upstream in upstreams)
    assert len(seen) == len(seen_again) == 1 and seen[0]["body"] == seen_again[0]["body"]
    assert seen[0]["files"] == seen_again[0]["files"] and seen[0]["body_bytes"] == seen_again[0]["body_bytes"]
    if headers:
        assert seen[0]["files"][[*seen[0]["files"]][0]]["sha256"] == hashlib.sha256(data).hexdigest()


# --- Where there is none


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_alone_is_bounded_and_told(server, client, upstreams, prompt, fault):
    answer, seconds = ask(client, prompt, NAMES[fault] + "-alone")
    assert seconds < BOUND_SECONDS
    assert answer.status == (504 if FAULTS[fault][1] == "timeout" else 502), answer
    error = answer.error
    assert {"message", "type", "param", "code"} <= set(error) and error["message"]
    assert error["turnpike"]["code"] == ("upstream_timeout" if FAULTS[fault][1] == "timeout" else "upstream_error")
    for secret in (*KEYS.values(), upstreams[0].url, str(upstreams[0].port)):
        assert secret not in answer.body.decode(), "neither a key nor an address is told"
    charged_right(client, fault, Decimal(0))
    assert resident_mb(server) < RESIDENT_MB_MAX


@pytest.mark.parametrize("fault", [fault for fault, (_, kind, _) in FAULTS.items() if kind])
def test_a_jobs_error_says_which_kind_it_was(client, prompt, fault):
    job = client.submit("text", {"prompt": prompt, "max_tokens": MAX_TOKENS}, model=NAMES[fault] + "-alone", max_attempts=1)
    ended = client.ended(job["id"])
    assert ended["status"] == "failed" and ended["error"]["code"] == FAULTS[fault][1], ended["error"]
    charged_right(client, fault, Decimal(0))


def test_what_the_client_got_wrong_is_tried_once_and_told_in_the_upstreams_words(client, upstreams, prompt):
    first, second = upstreams
    words = {"error": {"message": "'top_q' is not a field", "type": "invalid_request_error", "param": "top_q", "code": "unknown"}}
    first.rule(prompt=prompt, status=400, body=words)
    answer, _ = ask(client, prompt, "both")
    assert answer.status == 400 and answer.error["message"] == words["error"]["message"]
    assert answer.error["type"] == "invalid_request_error" and answer.error["param"] == "top_q"
    assert len(first.requests(prompt=prompt)) == 1 and second.requests(prompt=prompt) == []
    assert paid(client) == 0


def test_after_all_of_it_no_connection_is_left_with_an_answer_in_it(upstreams):
    until(lambda: upstreams[0].state["busy"] == 0 and upstreams[1].state["busy"] == 0, "the end of all requests")


# --- The order is the plan's


def test_SD1_the_plans_order_of_providers_is_kept(server, upstreams, prompt):
    first, second = upstreams
    for _ in range(3):
        client = on_plan(server, "ordered")
        answer, _ = ask(client, prompt, "both")
        assert answer.status == 200 and answer.headers["turnpike-provider"] == "second"
    assert first.requests(prompt=prompt) == []
    second.rule(prompt=prompt, status=500)
    answer, _ = ask(on_plan(server, "ordered"), prompt, "both")
    assert answer.status == 200 and answer.headers["turnpike-provider"] == "steady"


# --- Going down under load


LOADERS = 16
CALLS_EACH = 60


def load(server, accounts, calls, halfway):
    """Calls of all accounts at once; `halfway` when half of them are answered. Every answer with its prompt."""
    counter = itertools.count(1)

    def caller(number):
        client = Client(server.port, account=accounts[number])
        found = []
        for call in range(calls):
            prompt = f"load-{number}-{call}"
            try:
                found.append((prompt, client.post(CHAT, question(prompt, "both", max_tokens=MAX_TOKENS))))
            except (OSError, http.client.HTTPException) as broken:
                found.append((prompt, broken))
            if next(counter) == len(accounts) * calls // 2:
                halfway()
        client.close()
        return found

    with concurrent.futures.ThreadPoolExecutor(len(accounts)) as pool:
        return [each for found in pool.map(caller, range(len(accounts))) for each in found]


def pair(first, second, cool_down="1s"):
    providers = {"steady": remote(first, breaker={"failures": 3, "cool_down": cool_down}), "second": remote(second)}
    prices = {name: {"default": PRICE} for name in providers}
    return configuration(providers=providers, models={}, prices=prices, plans=plans()) | {
        "models": routed("both", "steady", "second")}


def test_SD8_the_first_dies_under_load_and_no_request_fails(tmp_path):
    with Upstream(latency_s=0.02) as first, Upstream(latency_s=0.02) as second:
        with serve(tmp_path, pair(first, second)) as server:
            clients = [on_plan(server, "metered") for _ in range(LOADERS)]
            port = first.port
            answers = load(server, [client.account for client in clients], CALLS_EACH, first.kill)
            assert len(answers) == LOADERS * CALLS_EACH
            wrong = [(prompt, answer) for prompt, answer in answers if getattr(answer, "status", None) != 200]
            assert not wrong, wrong[:3]
            by = collections.Counter(answer.headers["turnpike-provider"] for _, answer in answers)
            assert by["steady"] >= LOADERS * CALLS_EACH // 2 - LOADERS and by["second"] > 0
            for prompt, answer in answers:
                assert answer.json["choices"][0]["message"]["content"] == f"You said: {prompt}"
            served = CALLS_EACH * cost(1, 3)
            for client in clients:  # each may have had one call in flight at the first
                assert served <= paid(client) <= served + HELD_MOST
                assert used(client, "calls") == CALLS_EACH
            verified(server)
            first.start(port)
            until(lambda: ask(clients[0], unique(), "both")[0].headers["turnpike-provider"] == "steady",
                  "the first's serving again")
            server.stop()


def test_SD8_a_breaker_spares_an_upstream_that_only_fails(tmp_path):
    with Upstream(status=500) as first, Upstream() as second:
        with serve(tmp_path, pair(first, second, cool_down="1h")) as server:
            client = on_plan(server, "metered")
            for _ in range(20):
                answer, _ = ask(client, unique(), "both")
                assert answer.status == 200 and answer.headers["turnpike-provider"] == "second"
            assert first.state["requests"] == 3
            assert paid(client) == 20 * cost(1, 3)


def test_SD8_an_upstream_that_resets_all_it_has_costs_no_call(tmp_path):
    """It is back at once: whoever was in flight is served by the other."""
    with Upstream(latency_s=0.02) as first, Upstream(latency_s=0.02) as second:
        with serve(tmp_path, pair(first, second)) as server:
            clients = [on_plan(server, "metered") for _ in range(4)]

            def flap():
                first.down()
                first.up()

            answers = load(server, [client.account for client in clients], 25, flap)
            assert [answer.status for _, answer in answers] == [200] * 100
            for client in clients:
                assert 25 * cost(1, 3) <= paid(client) <= 25 * cost(1, 3) + HELD_MOST
            verified(server)


# --- Keys and limits of an upstream


def keyed(upstream, keys, **more):
    provider = remote(upstream, keys=keys, saturation="spill", **more)
    del provider["api_key"]
    return configuration(providers={"steady": provider}, models={}, prices={"steady": {"default": PRICE}},
                         plans=plans(second=False)) | {"models": routed("both", "steady")}


def two_keys(**limits):
    return [{"name": "one", "key": "${env:FIRST_KEY}", **limits}, {"name": "two", "key": "${env:SECOND_KEY}", **limits}]


def test_JS3_the_keys_of_a_pool_add_up_and_none_is_asked_beyond_its_limit(tmp_path):
    each = 10
    with Upstream() as upstream:
        for key in ("FIRST_KEY", "SECOND_KEY"):
            upstream.limit_key(KEYS[key], each)
        with serve(tmp_path, keyed(upstream, two_keys(requests_per_minute=each))) as server:
            clients = [on_plan(server, "metered") for _ in range(2 * each)]
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda client: ask(client, unique(), "both")[0], clients))
            assert [answer.status for answer in answers] == [200] * (2 * each)
            asked = collections.Counter(record["key"] for record in upstream.requests())
            assert asked == {KEYS["FIRST_KEY"]: each, KEYS["SECOND_KEY"]: each}
            assert all(record["status"] == 200 for record in upstream.requests())


def test_JS3_an_account_stays_with_its_key(tmp_path):
    with Upstream() as upstream, serve(tmp_path, keyed(upstream, two_keys(requests_per_minute=1000))) as server:
        clients = [on_plan(server, "metered") for _ in range(16)]
        for client in clients:
            for _ in range(3):
                assert ask(client, client.account, "both")[0].status == 200
        keys = collections.defaultdict(set)
        for record in upstream.requests():
            keys[record["prompt"]].add(record["key"])
        assert all(len(found) == 1 for found in keys.values()), "the upstream's prompt cache stays warm"
        assert len(set().union(*keys.values())) == 2, "and both are used"


def test_JS3_a_key_that_is_refused_is_left_alone_and_the_other_serves(tmp_path):
    with Upstream() as upstream:
        upstream.rule(key=KEYS["FIRST_KEY"], status=429, headers={"Retry-After": "3600"})
        with serve(tmp_path, keyed(upstream, two_keys())) as server:
            for _ in range(12):
                client = on_plan(server, "metered")
                assert ask(client, unique(), "both")[0].status == 200
                assert paid(client) == cost(1, 3)
            assert len(upstream.requests(key=KEYS["FIRST_KEY"])) == 1, "it said when to come back"


def test_JS2_a_limit_of_the_upstream_holds_in_any_window(tmp_path):
    requests, window_s = 5, 1.0
    with Upstream() as upstream:
        config = keyed(upstream, two_keys(), limit={"requests": requests, "per": "1s"})
        config["providers"]["steady"]["saturation"] = "wait"
        with serve(tmp_path, config) as server:
            client = on_plan(server, "metered")
            jobs = [client.submit("text", {"prompt": unique(), "max_tokens": MAX_TOKENS}, model="both")["id"] for _ in range(15)]
            for job in jobs:
                client.completed(job)
            times = [record["at"] for record in upstream.requests()]
            assert len(times) == 15
            # They begin as the limit says; on their way they may come closer together by as much as a busy machine delays.
            for first, last in zip(times, times[requests:]):
                assert last - first > window_s - 0.2


def test_usage_shows_what_a_call_holds_while_it_runs(client, upstreams, prompt):
    upstreams[0].rule(prompt=prompt, gate=prompt)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        other = Client(client.port, account=client.account)
        waiting = pool.submit(ask, other, prompt, "steady-alone")
        until(lambda: upstreams[0].requests(prompt=prompt), "the request")
        held = Decimal(usage(client)["cost"]["held_usd"])
        assert cost(1, MAX_TOKENS) <= held <= HELD_MOST
        upstreams[0].step(prompt)
        assert waiting.result()[0].status == 200
        other.close()
    assert paid(client) == cost(1, 3)
