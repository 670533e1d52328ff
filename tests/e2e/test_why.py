"""B5: every decision can be explained to user and operator: why refused, why this model, why not the overrides."""

import pytest

from support import Server, configuration, sandbox, turnpike, unique, until

HELLO = [{"role": "user", "content": "Hello."}]


def plans():
    return configuration(
        providers={"quick": sandbox(), "slow": sandbox("30s"), "spare": sandbox()},
        models={"writer": ("text", "quick"), "sleeper": ("text", "slow"), "vector": ("embedding", "quick")},
        prices={"quick": {"default": {"per_request": "0.10"}}, "slow": {"default": {"per_request": "0.10"}}},
        content_types=["blog", "social"],
        plans={
            "free": {"priority_class": "low", "tasks": ["text"], "quotas": {"blog": 2}, "upgrade_to": "basic",
                     "limits": {"queue_depth": 3, "concurrent_jobs": 1}, "period": "day"},
            "basic": {"priority_class": "standard", "cost_cap": {"monthly_usd": "0.25", "hard_stop": True},
                      "providers": {"text": ["slow", "quick"]}},
            "fast": {"priority_class": "standard", "rates": {"rpm": 60, "burst": 1}},
            "single": {"priority_class": "standard", "limits": {"concurrent_calls": 1}},
        })


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("why"), plans()) as running:
        yield running


def on_plan(server, plan):
    name = unique()
    assert server.client().request("PUT", f"/api/subscription/{name}", {"plan": plan}).status == 200
    return server.client(account=name)


def own_key(server, client):
    made = server.client().post("/api/admin/keys", {"role": "account", "user_id": client.account})
    assert made.status == 201, made
    return server.client(key=made.json["key"])


def submit_blog(client, **more):
    return client.post("/api/jobs", {"task": "text", "input": {"prompt": "a post"}, "content_type": "blog", **more})


def chat(client, model="writer"):
    return client.post("/v1/chat/completions", {"model": model, "messages": HELLO})


def why(client, refused):
    answer = client.get(f"/api/requests/{refused.headers['x-request-id']}/why")
    assert answer.status == 200, answer
    return answer.json


def test_a_refusal_says_which_limit_how_much_was_used_and_held_and_by_what(server):
    client = on_plan(server, "free")
    client.completed(submit_blog(client).json["id"])
    holding = submit_blog(client, model="sleeper").json["id"]
    refused = submit_blog(client)
    assert refused.status == 403 and refused.error["code"] == "quota_exceeded"
    request = refused.headers["x-request-id"]
    assert refused.error["why_url"] == f"/api/requests/{request}/why"
    told = client.get(refused.error["why_url"]).json
    assert (told["object"], told["request"], told["method"], told["path"]) == ("why", request, "POST", "/api/jobs")
    assert (told["task"], told["model"], told["plan"], told["code"]) == ("text", None, "free", "quota_exceeded")
    assert told["message"] == refused.error["message"] and told["upgrade_to"] == "basic"
    limit = told["limit"]
    assert (limit["scope"], limit["meter"], limit["limit"], limit["used"], limit["held"], limit["wanted"]) == (
        "account", "blog", "2", "1", "1", "1")
    assert limit["resets_at"] == refused.error["resets_at"]
    assert [(each["id"], each["kind"], each["content_type"]) for each in limit["held_by"]] == [(holding, "job", "blog")]
    assert limit["held_by"][0]["status"] == "processing" and limit["held_by"][0]["meters"]["jobs"] == 1
    assert told["summary"].startswith(
        f"Refused because plan free allows 2 blog in this period; 1 is used, 1 is held by {holding}, and this asked for 1 more. "
        "It resets at 20")
    assert told["summary"].endswith("Plan basic has it, or more of it.")
    client.delete(f"/api/jobs/{holding}")
    until(lambda: submit_blog(client).status == 202, "what was held is there again")
    assert why(client, refused)["limit"]["held"] == "1", "as it stood when it was refused"


def test_it_is_told_to_its_account_and_to_operators_and_to_nobody_else(server):
    client = on_plan(server, "free")
    refused = client.post("/api/jobs", {"task": "embedding", "input": {"texts": ["x"]}})
    assert refused.status == 403 and refused.error["code"] == "not_in_plan"
    told = why(server.client(), refused)
    assert told["summary"].startswith("Refused: Plan free does not have task embedding; plans that have it: ")
    assert told["limit"] is None and told["upgrade_to"] == "basic"
    mine = own_key(server, client)
    assert why(mine, refused) == told == why(client, refused)
    other = own_key(server, on_plan(server, "free"))
    for stranger in (other, server.client(account="nobody-yet"), on_plan(server, "free")):
        absent = stranger.get(refused.error["why_url"])
        assert absent.status == 404 and absent.error["code"] == "not_found"
    assert server.client(key=None).get(refused.error["why_url"]).status == 401
    assert mine.get("/api/requests/req_nothing/why").status == 404


def test_a_refused_call_keeps_openais_shape_and_says_where_to_look(server):
    client = on_plan(server, "basic")
    jobs = [client.submit("text", {"prompt": "x"}, model="sleeper")["id"] for _ in range(2)]
    refused = chat(client)
    assert refused.status == 429 and refused.error["type"] == "insufficient_quota"
    assert set(refused.error) == {"message", "type", "param", "code", "turnpike"}
    told = client.get(refused.error["turnpike"]["why_url"]).json
    assert (told["path"], told["model"], told["code"]) == ("/v1/chat/completions", "writer", "cost_cap_reached")
    assert {each["id"] for each in told["limit"]["held_by"]} == set(jobs)
    assert told["limit"]["held_by"][0]["cost_usd"] == "0.1"
    assert "plan basic allows 0.25 USD in this period; 0 are used, 0.2 are held by job_" in told["summary"]
    for job in jobs:
        client.delete(f"/api/jobs/{job}")


def test_a_model_that_a_plan_does_not_have_is_explained_though_the_wire_does_not_say_so(server):
    client = on_plan(server, "free")
    assert server.client().request("PUT", f"/api/subscription/{client.account}",
                                   {"overrides": {"tasks": ["embedding"]}}).status == 200
    refused = chat(client)
    assert refused.status == 404 and refused.error["code"] == "model_not_found"
    assert why(client, refused)["code"] == "not_in_plan"


def test_rates_say_when_to_come_back(server):
    client = on_plan(server, "fast")
    assert chat(client).status == 200
    refused = chat(client)
    told = why(client, refused)
    assert told["code"] == "rate_limited" and told["limit"]["held_by"] is None
    assert told["retry_after_s"] == int(refused.headers["Retry-After"])
    assert "plan fast allows bursts of 1 (requests_per_minute)" in told["summary"] and "Come back after" in told["summary"]


def test_a_full_queue_is_explained(server):
    client = on_plan(server, "free")
    running = client.submit("text", {"prompt": "x"}, model="sleeper")["id"]
    waiting = [client.submit("text", {"prompt": "x"}, model="sleeper")["id"] for _ in range(3)]
    refused = client.post("/api/jobs", {"task": "text", "input": {"prompt": "x"}})
    assert refused.status == 429 and why(client, refused)["code"] == "queue_full"
    assert "plan free allows 3" in why(client, refused)["summary"]
    for job in waiting + [running]:
        client.delete(f"/api/jobs/{job}")


def test_a_request_that_was_not_refused_or_is_the_clients_mistake_is_not_kept(server):
    client = on_plan(server, "free")
    wrong = client.post("/api/jobs", {"task": "text", "input": {"prompt": 7}})
    assert wrong.status == 400 and "why_url" not in wrong.error
    assert client.get(f"/api/requests/{wrong.headers['x-request-id']}/why").status == 404
    named = client.post("/api/jobs", {"task": "text", "input": {"prompt": "x"}}, {"x-request-id": "my-own.1"})
    assert named.status == 202
    assert client.get("/api/requests/my-own.1/why").status == 404


def test_why_this_model_and_this_provider(server):
    client = on_plan(server, "free")
    by_default = client.get(f"/api/jobs/{client.submit('text', {'prompt': 'x'})['id']}/why").json["chosen"]
    assert (by_default["model"], by_default["provider"], by_default["route"]) == ("writer", "quick", [])
    assert by_default["text"] == "latest of writer for plan free; provider quick is the only one."
    client = on_plan(server, "basic")
    named = client.submit("text", {"prompt": "x"}, model="writer")["id"]
    why = client.get(f"/api/jobs/{named}/why").json
    assert "latest of writer for plan basic" in why["chosen"]["text"]
    assert "routed" in [entry["what"] for entry in why["history"]]


def test_overrides_that_no_longer_read_are_told(tmp_path):
    config = plans()
    with Server(tmp_path, config) as server:
        client = on_plan(server, "free")
        admin = server.client()
        account = admin.request("PUT", f"/api/subscription/{client.account}",
                                {"overrides": {"quotas": {"social": 9}}}).json["account"]
        assert admin.get(f"/api/admin/accounts/{account}").json["overrides_mistake"] is None
        config["content_types"] = ["blog"]
        server.configure(config)
        applied = turnpike("apply", "--config", str(server.config_file), "--data", str(server.data))
        assert applied.returncode == 0, applied
        mistake = admin.get(f"/api/admin/accounts/{account}").json["overrides_mistake"]
        assert mistake.startswith("overrides.quotas.social: ")
        assert admin.get(f"/api/subscription/{client.account}").json["overrides_mistake"] == mistake
        listed = admin.get(f"/api/admin/accounts?user_id={client.account}").json["data"][0]
        assert listed["overrides_mistake"] == mistake
        assert server.logged("account.overrides_unread", account=account)["message"] == mistake


def test_metrics_count_money_and_refusals_and_name_no_account(tmp_path):
    with Server(tmp_path, plans()) as server:
        client = on_plan(server, "basic")
        assert [chat(client).status for _ in range(3)] == [200, 200, 429]
        text = server.client().get("/metrics").body.decode()
        assert 'turnpike_cost_usd_total{model="writer",plan="basic",provider="quick"} 0.2' in text
        assert 'turnpike_usage_total{meter="calls",plan="basic"} 2' in text
        assert 'turnpike_refusals_total{code="cost_cap_reached",plan="basic",scope="account"} 1' in text
        assert 'turnpike_calls_total{model="writer",outcome="completed",plan="basic"} 2' in text
        assert "turnpike_call_duration_seconds_count 2" in text and "turnpike_held_cost_usd 0" in text
        assert client.account not in text and "acct_" not in text
