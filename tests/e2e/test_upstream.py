"""The fake upstream does what it is told: what the tests of the gateway conclude rests on that."""

import http.client
import json
import socket

import pytest

from support import WAIT_SECONDS, Upstream, unique, until

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as made:
        yield made


def send(upstream, path=CHAT, key="sk-a", **fields):
    link = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=WAIT_SECONDS)
    link.request("POST", path, json.dumps(fields), {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    return link


def chat(upstream, prompt, **fields):
    return send(upstream, model="parrot", messages=[{"role": "user", "content": prompt}], **fields)


def read(link):
    with link.getresponse() as response:
        return response.status, response.headers, response.read()


def events(body):
    return [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: ")]


def test_the_same_request_gets_the_same_answer(upstream):
    first, second = (read(chat(upstream, "Say it again."))[2] for _ in range(2))
    assert first == second and json.loads(first)["choices"][0]["message"]["content"] == "You said: Say it again."


def test_a_stream_has_a_usage_chunk_for_who_asks(upstream):
    without = events(read(chat(upstream, "One two.", stream=True))[2])
    with_usage = events(read(chat(upstream, "One two.", stream=True, stream_options={"include_usage": True}))[2])
    assert without[-1] == with_usage[-1] == "[DONE]"
    assert not any('"usage"' in event for event in without)
    last = json.loads(with_usage[-2])
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 4
    said = "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in without[:-1])
    assert said == "You said: One two."


def test_anthropics_stream_ends_with_its_stop(upstream):
    body = read(send(upstream, "/v1/messages", model="parrot", stream=True, max_tokens=3,
                     messages=[{"role": "user", "content": "One two three."}]))[2]
    told = [json.loads(event) for event in events(body)]
    assert told[0]["type"] == "message_start" and told[-1]["type"] == "message_stop"
    assert told[-2]["delta"]["stop_reason"] == "max_tokens" and told[-2]["usage"]["output_tokens"] == 3


def test_a_stream_waits_for_each_step(upstream):
    prompt = unique("step")
    upstream.rule(prompt=prompt, step=prompt, tokens=3)
    with chat(upstream, prompt, stream=True).getresponse() as response:
        for token in range(3):
            upstream.step(prompt)
            while f"t{token}" not in (line := response.readline().decode()):
                assert line, "the stream ended"
            assert upstream.requests(prompt=prompt)[0]["events"] == token + 1
        assert response.read().endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault, broken", [
    ("refuse", (ConnectionResetError, http.client.RemoteDisconnected)),
    ("reset", (ConnectionResetError, http.client.IncompleteRead)),
    ("close", http.client.IncompleteRead),
    ("wrong_length", http.client.IncompleteRead),
])
def test_a_fault_breaks_the_answer_off(upstream, stream, fault, broken):
    prompt = unique(fault)
    upstream.rule(prompt=prompt, fault=fault, after=1)
    with pytest.raises(broken):
        read(chat(upstream, prompt, stream=stream))
    assert upstream.ended(prompt=prompt)["end"] == "fault"


@pytest.mark.parametrize("fault", ["garbage", "half_json", "end", "error_event"])
def test_a_fault_spoils_a_stream_that_ends_well_as_http(upstream, fault):
    prompt = unique(fault)
    upstream.rule(prompt=prompt, fault=fault, after=1)
    status, _, body = read(chat(upstream, prompt, stream=True))
    assert status == 200 and b"You" in body and b"[DONE]" not in body
    assert (b"server_error" in body) == (fault == "error_event")


@pytest.mark.parametrize("fault", ["garbage", "half_json"])
def test_a_fault_spoils_a_body(upstream, fault):
    prompt = unique(fault)
    upstream.rule(prompt=prompt, fault=fault)
    status, _, body = read(chat(upstream, prompt))
    assert status == 200
    with pytest.raises(ValueError):
        json.loads(body)


@pytest.mark.parametrize("fault", ["silence", "hang"])
def test_nothing_more_comes_until_who_asked_leaves(upstream, fault):
    prompt = unique(fault)
    upstream.rule(prompt=prompt, fault=fault, after=1)
    link = chat(upstream, prompt, stream=True)
    until(lambda: any(record.get("hangs") for record in upstream.requests(prompt=prompt)), "the hanging")
    link.sock.setblocking(False)
    got = b""
    while True:
        try:
            more = link.sock.recv(65536)
            assert more, "the connection ended"
            got += more
        except BlockingIOError:
            break
    assert (b"You" in got) == (fault == "hang") and b"[DONE]" not in got
    link.close()
    assert upstream.ended(prompt=prompt)["end"] == "left"


def test_a_body_may_be_huge_and_stops_with_who_reads_it(upstream):
    prompt = unique("huge")
    upstream.rule(prompt=prompt, fault="huge")
    link = chat(upstream, prompt)
    response = link.getresponse()
    assert response.headers["Content-Length"] == "200000000"
    response.read(1_000_000)
    response.close()
    link.close()
    record = upstream.ended(prompt=prompt)
    assert record["end"] == "left" and 1_000_000 <= record["sent_bytes"] < 50_000_000


def test_a_refusal_is_told_as_it_was_said(upstream):
    prompt = unique("refusal")
    upstream.rule(prompt=prompt, status=429, times=1, headers={"Retry-After": "7"}, body={"error": {"message": "slow down"}})
    status, headers, body = read(chat(upstream, prompt))
    assert (status, headers["Retry-After"], json.loads(body)) == (429, "7", {"error": {"message": "slow down"}})
    assert read(chat(upstream, prompt))[0] == 200, "the rule was for one time"


def test_a_key_has_its_limit(upstream):
    key = unique("sk")
    upstream.limit_key(key, 2)
    fields = {"model": "parrot", "messages": [{"role": "user", "content": "x"}]}
    answers = [read(send(upstream, key=key, **fields)) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429] and int(answers[2][1]["Retry-After"]) >= 1


def test_it_goes_down_and_comes_up_where_it_was():
    with Upstream() as upstream:
        held = socket.create_connection(("127.0.0.1", upstream.port), timeout=WAIT_SECONDS)
        until(lambda: upstream.state["open"] == 1, "the connection")
        upstream.down()
        with pytest.raises(ConnectionResetError):
            held.recv(1)
        with pytest.raises(ConnectionRefusedError):
            chat(upstream, "x")
        upstream.up()
        assert read(chat(upstream, "x"))[0] == 200
        assert upstream.state["requests"] == 1


def test_it_writes_down_what_it_was_asked(upstream):
    prompt = unique("seen")
    read(chat(upstream, prompt, temperature=0.5))
    record = upstream.ended(prompt=prompt)
    assert (record["key"], record["model"], record["fields"]["temperature"]) == ("sk-a", "parrot", 0.5)
    assert record["headers"]["content-type"] == "application/json" and record["end"] == "complete"
