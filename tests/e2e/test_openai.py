"""The OpenAI wire: what its clients send and expect, over a sandbox and over a real upstream."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support import ADMIN_KEY, Server, Upstream, configuration, sandbox, unique, until

HELLO = [{"role": "user", "content": "Hello."}]


def complete(client, **fields):
    return client.post("/v1/chat/completions", {"model": "writer", "messages": HELLO, **fields})


def test_B8_a_completion_has_openais_shape(user):
    answer = complete(user)
    assert answer.status == 200
    body = answer.json
    assert body["object"] == "chat.completion" and body["id"].startswith("chatcmpl-") and body["model"] == "writer"
    choice = body["choices"][0]
    assert choice["index"] == 0 and choice["finish_reason"] in ("stop", "length")
    assert choice["message"]["role"] == "assistant" and choice["message"]["content"]
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert answer.headers["turnpike-model"] == "writer@1" and answer.headers["turnpike-provider"] == "quick"
    assert answer.headers["x-request-id"]
    assert body["turnpike"]["sandbox"] is True, "a sandbox says so in every answer"
    assert answer.headers["turnpike-cost-usd"] == "0" and user.jobs() == [], "a call is no job"
    assert int(answer.headers["turnpike-queue-ms"]) >= 0 and int(answer.headers["turnpike-overhead-us"]) > 0


def test_the_users_own_id_may_be_openais_user(server, admin):
    key = admin.post("/api/admin/keys", {"role": "service"}).json["key"]
    client, name = server.client(key), unique()
    answer = complete(client, user=name)
    assert answer.status == 200
    meters = server.client(account=name).get("/api/subscription/usage").json["meters"]
    assert next(meter["used"] for meter in meters if meter["meter"] == "calls") == 1


def test_an_accounts_key_may_tag_its_end_users(server, admin):
    key = admin.post("/api/admin/keys", {"role": "account", "user_id": unique()}).json["key"]
    assert complete(server.client(key), user="an end user of theirs").status == 200


def test_max_tokens_bound_the_answer(user):
    for name in ("max_tokens", "max_completion_tokens"):
        body = complete(user, **{name: 3}).json
        assert body["usage"]["completion_tokens"] == 3 and body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("model", ["gpt-4o", "narrator", ""])
def test_B8_an_unknown_model_is_not_found(user, model):
    answer = complete(user, model=model)
    error = answer.error
    if model:
        assert answer.status == 404 and error["code"] == "model_not_found" and error["param"] == "model"
    else:
        assert answer.status == 400 and error["param"] == "model"
    assert error["type"] == "invalid_request_error" and error["turnpike"]["code"]


BAD = {
    "a stream that is no choice": ({"stream": "yes"}, "stream"),
    "tools": ({"tools": [{"type": "function"}]}, "tools"),
    "no messages": ({"messages": []}, "messages"),
    "a bad role": ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
    "two answers": ({"n": 2}, "n"),
    "too hot": ({"temperature": 3}, "temperature"),
    "an unknown field": ({"temprature": 1}, "temprature"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
}


@pytest.mark.parametrize("name", BAD)
def test_B8_a_refusal_has_openais_shape(user, name):
    fields, param = BAD[name]
    answer = complete(user, **fields)
    assert answer.status == 400, answer
    error = answer.error
    assert error["type"] == "invalid_request_error" and error["param"] == param
    assert set(error) >= {"message", "type", "param", "code"} and error["turnpike"]["code"] == "invalid_request"
    assert user.jobs() == []


def test_B8_a_bad_key_is_told_as_openai_does(server):
    answer = complete(server.client(key="sk-wrong"))
    assert answer.status == 401 and answer.error["code"] == "invalid_api_key"


def test_models_are_those_of_the_plan(server, user):
    listed = user.get("/v1/models").json
    assert listed["object"] == "list"
    assert {"writer", "sleeper"} <= {model["id"] for model in listed["data"]}
    assert all(model["object"] == "model" and model["owned_by"] and model["created"] for model in listed["data"])
    assert user.get("/v1/models/writer").json["id"] == "writer"
    missing = user.get("/v1/models/gpt-4o")
    assert missing.status == 404 and missing.error["code"] == "model_not_found"
    mute = server.client(account=unique())
    mute.post("/api/jobs", {"task": "text", "input": {"prompt": "x"}, "userTier": "mute"})
    assert mute.get("/v1/models").json["data"] == []
    refused = complete(mute)
    assert refused.status == 404 and refused.error["code"] == "model_not_found"


def test_a_failed_completion_is_told(user):
    answer = complete(user, model="critic")
    assert answer.status == 400 and answer.error["type"] == "invalid_request_error"
    broken = complete(user, model="wreck")
    assert broken.status == 502 and broken.error["turnpike"]["code"] == "upstream_error"


# --- Over an upstream


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as made:
        yield made


@pytest.fixture(scope="module")
def relay(tmp_path_factory, upstream):
    config = configuration(
        providers={"parrot": {"kind": "openai", "base_url": upstream.url, "api_key": "${env:PARROT_KEY}",
                              "concurrency": 4},
                   "spare": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "use": "if_reachable"},
                   "fallback": sandbox()},
        models={"parrot": ("text", "parrot")})
    config["models"]["careful"] = {"task": "text", "providers": ["spare", "fallback"]}
    with Server(tmp_path_factory.mktemp("relay"), config, environment={"PARROT_KEY": "sk-of-the-upstream"}) as running:
        yield running


def test_a_completion_comes_from_the_upstream(relay, upstream):
    client = relay.client(account=unique())
    answer = complete(client, model="parrot", messages=[{"role": "user", "content": "What did I say?"}])
    assert answer.status == 200
    body = answer.json
    assert body["choices"][0]["message"]["content"] == "You said: What did I say?"
    assert body["usage"]["prompt_tokens"] == 4 and body["usage"]["completion_tokens"] == 6
    assert body["system_fingerprint"] == "fp_fake" and "turnpike" not in body, "as it came"
    assert answer.headers["turnpike-provider"] == "parrot"
    assert "What did I say?" in upstream.asked


def test_a_job_is_tried_again_when_the_upstream_stumbles(relay, upstream):
    client = relay.client(account=unique())
    prompt = unique("stumble")
    upstream.rule(prompt=prompt, status=429, times=1, headers={"Retry-After": "1"})
    upstream.rule(prompt=prompt, status=500, times=1)
    job = client.completed(client.submit("text", {"prompt": prompt}, model="parrot")["id"])
    assert job["attempt"] == 3 and upstream.asked.count(prompt) == 3
    assert job["result"]["output"]["text"] == f"You said: {prompt}"


def test_what_an_upstream_refuses_is_not_tried_again(relay, upstream):
    client = relay.client(account=unique())
    prompt = unique("refused")
    upstream.rule(prompt=prompt, status=400)
    job = client.ended(client.submit("text", {"prompt": prompt}, model="parrot")["id"])
    assert job["status"] == "failed" and job["error"]["code"] == "invalid_input"
    assert upstream.asked.count(prompt) == 1


def test_a_provider_that_is_not_there_at_start_is_passed_over_and_named(relay):
    assert relay.said("not used: spare")
    client = relay.client(account=unique())
    job = client.completed(client.submit("text", {"prompt": "x"}, model="careful")["id"])
    assert job["model"]["provider"] == "fallback" and job["result"]["output"]["sandbox"] is True


def test_the_upstreams_key_is_told_to_nobody(relay):
    admin = relay.client()
    text = json.dumps(admin.get("/api/admin/policy").json)
    assert "${env:PARROT_KEY}" in text and "sk-of-the-upstream" not in text
    assert "sk-of-the-upstream" not in relay.output() and ADMIN_KEY not in relay.output()


# --- Streams, and the other operations


def chunk(content=None, finish=None):
    delta = {} if content is None else {"content": content}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "theirs",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


class Wire:
    """An upstream whose answers a test writes: bytes for each path, piece by piece, each when it is let."""

    def __init__(self):
        self.asked = []  # (path, headers, body)
        self.answers = {}  # path -> (content type, pieces); a piece is bytes, or an Event to wait for
        self.sent = 0
        self.broken = threading.Event()
        wire = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                wire.asked.append((self.path, self.headers, body))
                kind, pieces = wire.answers[self.path]
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    for piece in pieces:
                        if isinstance(piece, threading.Event):
                            assert piece.wait(20)
                            continue
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                        self.wfile.flush()
                        wire.sent += len(piece)
                    self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    wire.broken.set()
                    self.close_connection = True

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def events(self, *values, path="/v1/chat/completions"):
        pieces = [value if isinstance(value, (bytes, threading.Event)) else b"data: %s\n\n" % json.dumps(value).encode()
                  for value in values]
        self.answers[path] = ("text/event-stream", pieces)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


DONE = b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def wire():
    made = Wire()
    yield made
    made.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, wire):
    config = configuration(
        providers={"theirs": {"kind": "openai", "base_url": wire.url, "api_key": "${env:PARROT_KEY}", "concurrency": 16},
                   "quick": sandbox()},
        prices={"theirs": {"chat": {"input_per_million": "1.00", "output_per_million": "2.00"}}})
    tasks = {"chat": "text", "vectors": "embedding", "painter": "image", "editor": "image_edit", "voice": "speech",
             "ears": "transcription"}
    config["models"] = {name: {"task": task, "version": "2", "providers": [{"provider": "theirs", "model": name}]} for name, task in tasks.items()}
    config["models"]["writer"] = {"task": "text", "providers": ["quick"]}
    with Server(tmp_path_factory.mktemp("gateway"), config, environment={"PARROT_KEY": "sk-of-the-upstream"}) as running:
        yield running


class Stream:
    """A streamed answer, event by event."""

    def __init__(self, client, path="/v1/chat/completions", headers=None, **body):
        self.connection = client._connect()
        headers = client.headers({"Content-Type": "application/json", **(headers or {})})
        self.connection.request("POST", path, json.dumps({"stream": True, **body}).encode(), headers)
        self.response = self.connection.getresponse()
        self.status, self.headers = self.response.status, self.response.headers

    def __iter__(self):
        for line in self.response:
            if line.startswith(b"data: "):
                text = line[6:].decode().strip()
                yield text if text == "[DONE]" else json.loads(text)

    def leave(self):
        self.response.close()
        self.connection.close()


def tokens(client):
    meters = client.get("/api/subscription/usage").json["meters"]
    return next((meter["used"] for meter in meters if meter["meter"] == "tokens"), 0)


def test_tokens_come_one_by_one_and_the_end_when_it_is_charged(gateway, wire):
    client = gateway.client(account=unique())
    second, third = threading.Event(), threading.Event()
    wire.events(chunk("a"), second, chunk("b"), third, chunk(finish="stop"), {**chunk(), "choices": [], "usage": USAGE}, DONE)
    stream = Stream(client, model="chat", messages=HELLO)
    assert stream.status == 200 and stream.headers["Content-Type"].startswith("text/event-stream")
    assert stream.headers["turnpike-model"] == "chat@2" and stream.headers["turnpike-provider"] == "theirs"
    events = iter(stream)
    assert next(events) == chunk("a"), "the first does not wait for the second"
    second.set()
    assert next(events) == chunk("b")
    third.set()
    assert list(events) == [chunk(finish="stop"), "[DONE]"], "usage is for who asks"
    assert tokens(client) == 9
    sent = json.loads(wire.asked[-1][2])
    assert sent["stream_options"] == {"include_usage": True} and sent["max_tokens"] == 4096
    assert wire.asked[-1][1]["Authorization"] == "Bearer sk-of-the-upstream"


def test_who_asks_for_usage_is_told_the_cost_too(gateway, wire):
    client = gateway.client(account=unique())
    wire.events(chunk("a"), chunk(finish="stop"), {**chunk(), "choices": [], "usage": USAGE}, DONE)
    events = list(Stream(client, model="chat", messages=HELLO, stream_options={"include_usage": True}))
    assert events[-1] == "[DONE]" and events[-2]["choices"] == []
    assert events[-2]["usage"] == {**USAGE, "turnpike": {"cost_usd": events[-2]["usage"]["turnpike"]["cost_usd"]}}


def test_a_sandbox_streams_in_one_piece(gateway):
    events = list(Stream(gateway.client(account=unique()), model="writer", messages=HELLO,
                         stream_options={"include_usage": True}))
    assert events[-1] == "[DONE]" and events[0]["choices"][0]["delta"]["content"]
    assert events[-2]["usage"]["total_tokens"] > 0 and events[-2]["usage"]["turnpike"]["cost_usd"] == "0"


def test_a_client_that_leaves_pays_what_was_used(gateway, wire):
    client = gateway.client(account=unique())
    rest = threading.Event()
    wire.events(chunk("a"), rest, *[chunk("b")] * 50, chunk(finish="stop"), {**chunk(), "choices": [], "usage": USAGE}, DONE)
    stream = Stream(client, model="chat", messages=HELLO)
    assert next(iter(stream)) == chunk("a")
    stream.leave()
    rest.set()
    until(lambda: tokens(client) == 9, "its usage is charged")


def test_a_stream_that_breaks_ends_with_an_error(gateway, wire):
    client = gateway.client(account=unique())
    wire.events(chunk("a"), {"error": {"message": "it burns", "type": "server_error"}})
    events = list(Stream(client, model="chat", messages=HELLO))
    assert events[0] == chunk("a") and len(events) == 2
    assert "it burns" in events[1]["error"]["message"] and events[1]["error"]["turnpike"]["code"] == "upstream_error"
    wire.events({"error": {"message": "it burns at once", "type": "server_error"}})
    refused = Stream(client, model="chat", messages=HELLO)
    assert refused.status == 502, "nothing had been sent: the status says it"


def test_a_slow_client_slows_its_own_upstream(gateway, wire):
    client = gateway.client(account=unique())
    big = chunk("x" * 60_000)
    wire.events(*[big] * 400, chunk(finish="stop"), {**chunk(), "choices": [], "usage": USAGE}, DONE)
    wire.sent = 0
    stream = Stream(client, model="chat", messages=HELLO)
    events = iter(stream)
    assert next(events) == big
    other = list(Stream(gateway.client(account=unique()), model="writer", messages=HELLO))
    assert other[-1] == "[DONE]", "nobody else waits"
    assert wire.sent < 400 * 60_000, "the upstream waits"
    assert sum(event == big for event in events) == 399
    assert wire.sent > 400 * 60_000


def test_a_streams_key_replays_it(gateway, wire):
    client = gateway.client(account=unique())
    key = {"Idempotency-Key": unique("stream")}
    wire.events(chunk("a"), chunk(finish="stop"), {**chunk(), "choices": [], "usage": USAGE}, DONE)
    first = list(Stream(client, headers=key, model="chat", messages=HELLO))
    asked = len(wire.asked)
    again = Stream(client, headers=key, model="chat", messages=HELLO)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Content-Type"].startswith("text/event-stream")
    assert list(again) == first and len(wire.asked) == asked and tokens(client) == 9


def test_every_byte_of_a_request_goes_on(gateway, wire):
    client = gateway.client(account=unique())
    reply = b'{"id":"x","odd": 1.50,"choices":[{"message":{"tool_calls":[]}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}'
    wire.answers["/v1/chat/completions"] = ("application/json", [reply])
    body = (b'{"tools":[{"type":"function","function":{"name":"f"}}],"model":"chat","max_tokens":5, "temperature":0.70,'
            b'"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],'
            b'"response_format":{"type":"json_object"},"not_known_yet":{"a":[1e2]}}')
    answer = client.post("/v1/chat/completions", body, {"Content-Type": "application/json"})
    assert answer.status == 200 and answer.body == reply
    assert wire.asked[-1][2] == body


OTHERS = {
    "/v1/completions": ("chat", {"prompt": "x"}, b'{"choices":[{"text":"y"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'),
    "/v1/responses": ("chat", {"input": "x"}, b'{"output":[],"usage":{"input_tokens":3,"output_tokens":1}}'),
    "/v1/embeddings": ("vectors", {"input": ["x"]}, b'{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":4,"total_tokens":4}}'),
    "/v1/images/generations": ("painter", {"prompt": "x", "size": "16x16"}, b'{"data":[{"b64_json":"AAAA"}]}'),
    "/v1/audio/speech": ("voice", {"input": "x", "voice": "v"}, b"ID3\x00\xff"),
}


@pytest.mark.parametrize("path", OTHERS)
def test_the_other_operations_pass_through(gateway, wire, path):
    client = gateway.client(account=unique())
    model, fields, reply = OTHERS[path]
    kind = "audio/mpeg" if "speech" in path else "application/json"
    wire.answers[path] = (kind, [reply])
    answer = client.post(path, {"model": model, **fields})
    assert answer.status == 200, answer
    assert answer.body == reply and answer.headers["Content-Type"] == kind
    assert answer.headers["turnpike-model"] == f"{model}@2" and wire.asked[-1][0] == path
    if b"tokens" in reply:
        assert tokens(client) == 4


@pytest.mark.parametrize("path, model, name", [("/v1/audio/transcriptions", "ears", "file"), ("/v1/images/edits", "editor", "image")])
def test_forms_pass_through(gateway, wire, path, model, name):
    client = gateway.client(account=unique())
    reply = b'{"data":[{"b64_json":"AAAA"}]}' if name == "image" else b'{"text":"hi","usage":{"type":"duration","seconds":2.5}}'
    wire.answers[path] = ("application/json", [reply])
    form = (b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + model.encode() +
            b'\r\n--x\r\nContent-Disposition: form-data; name="' + name.encode() +
            b'"; filename="a"\r\nContent-Type: application/octet-stream\r\n\r\n\x00\xff\r\n--x--\r\n')
    answer = client.post(path, form, {"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status == 200 and answer.body == reply, answer
    assert wire.asked[-1][2] == form
    missing = client.post(path, form.replace(b"filename", b"x"), {"Content-Type": "multipart/form-data; boundary=x"})
    assert missing.status == 400 and missing.error["param"] == name


def test_a_model_that_is_not_there_is_told_with_those_that_are(gateway):
    answer = gateway.client(account=unique()).post("/v1/embeddings", {"model": "chat", "input": "x"})
    assert answer.status == 404 and answer.error["code"] == "model_not_found" and "vectors" in answer.error["message"]


def test_calls_are_measured_by_the_conventions(gateway, wire):
    text = gateway.client().get("/metrics").body.decode()
    for name in ("gen_ai_server_request_duration_seconds", "gen_ai_server_time_to_first_token_seconds",
                 "gen_ai_client_token_usage", "turnpike_overhead_seconds"):
        assert f"{name}_count" in text, name
    assert 'gen_ai_operation_name="chat"' in text and 'gen_ai_token_type="output"' in text
