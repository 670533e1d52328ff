"""The OpenAI wire: what its clients send and expect, over a sandbox and over a real upstream."""

import json

import pytest

from support import ADMIN_KEY, Server, Upstream, configuration, sandbox, unique

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
    assert answer.headers["turnpike-model"] == "writer" and answer.headers["turnpike-provider"] == "quick"
    assert answer.headers["x-request-id"]
    assert body["turnpike"]["sandbox"] is True, "a sandbox says so in every answer"
    assert body["turnpike"]["cost_usd"] == "0" and user.jobs() == [], "a call is no job"


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
    "a stream": ({"stream": True}, "stream"),
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
    assert body["model"] == "parrot" and body["turnpike"]["sandbox"] is False
    assert answer.headers["turnpike-provider"] == "parrot"
    assert "What did I say?" in upstream.asked


def test_a_job_is_tried_again_when_the_upstream_stumbles(relay, upstream):
    client = relay.client(account=unique())
    prompt = unique("stumble")
    upstream.rule(prompt=prompt, status=429, times=1)
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
