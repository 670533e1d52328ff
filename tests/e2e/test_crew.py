"""presets/crew.yaml: a topic becomes content by a crew of steps (CR1, CR3, CR4), each branch counted for its type."""

import threading

import pytest
import yaml

from support import ROOT, Server, unique, until


def preset(**changes):
    """The preset without Ollama, which the machine may have, and with a sandbox that is quick."""
    config = yaml.safe_load((ROOT / "presets/crew.yaml").read_text())
    del config["providers"]["ollama"]
    for model in config["models"].values():
        model["providers"] = ["sandbox"]
    config["providers"]["sandbox"]["latency"] = {"p50": "5ms", "p99": "20ms"}
    for name, value in changes.items():
        config[name] = value
    return config


@pytest.fixture(scope="module")
def crew(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("crew"), preset()) as running:
        yield running


def ask(crew, method, path, body=None, account=None):
    client = crew.client(account=account)
    try:
        return client.request(method, path, body)
    finally:
        client.close()


def generate(crew, user, tier, status=202, **body):
    answer = ask(crew, "POST", "/api/generate", {"topic": "tea and its history", "userId": user, "userTier": tier, **body})
    assert answer.status == status, answer.json
    return answer.json


def ended(crew, run):
    def look():
        seen = ask(crew, "GET", f"/api/runs/{run['id']}").json
        return seen if seen["status"] in ("completed", "failed", "cancelled") else None

    return until(look, f"{run['id']} ends")


def states(run):
    return {step["name"]: step["status"] for step in run["steps"]}


def used(crew, user, meter):
    account = ask(crew, "GET", "/api/subscription/usage", account=user).json
    return next((m for m in account["meters"] if m["meter"] == meter), {"used": 0, "held": 0})


def test_CR4_a_topic_is_researched_written_edited_and_branched(crew):
    run = ended(crew, generate(crew, unique("user"), "pro"))
    assert run["status"] == "completed", run
    assert set(states(run).values()) == {"completed"}
    output = run["result"]["output"]
    assert output["topic"] == "tea and its history"
    assert all(output[kind] for kind in ("blog", "social", "audio", "video"))
    at = {step["name"]: (step["started_at"], step["finished_at"]) for step in run["steps"]}
    assert at["research"][1] <= at["write"][0] <= at["write"][1] <= at["edit"][0]
    assert all(at["edit"][1] <= at[kind][0] for kind in ("blog", "social", "audio", "video"))


def test_CR4_with_no_types_named_all_that_the_plan_has(crew):
    run = ended(crew, generate(crew, unique("user"), "basic"))
    assert states(run) == {
        "research": "completed",
        "write": "completed",
        "edit": "completed",
        "blog": "completed",
        "social": "completed",
        "audio": "skipped",
        "video": "skipped",
    }
    assert set(run["result"]["output"]) == {"topic", "text", "blog", "social"}


def test_CR4_only_the_types_that_are_named(crew):
    run = ended(crew, generate(crew, unique("user"), "pro", content_types=["social"]))
    assert {name for name, state in states(run).items() if state == "completed"} == {"research", "write", "edit", "social"}


def test_CR4_a_type_that_the_plan_lacks_is_403_and_named(crew):
    refused = generate(crew, unique("user"), "free", status=403, content_types=["blog", "video"])["error"]
    assert refused["code"] == "not_in_plan"
    assert "video" in refused["message"] and refused["param"] == "content_types"
    unknown = generate(crew, unique("user"), "free", status=400, content_types=["poem"])["error"]
    assert "poem" in unknown["message"] and "blog" in unknown["message"]


def test_CR4_the_model_is_the_tier_s(crew):
    def model_of(tier):
        run = ended(crew, generate(crew, unique("user"), tier, content_types=["blog"]))
        job = ask(crew, "GET", f"/api/jobs/{run['steps'][0]['jobs'][0]['id']}").json
        return job["model"]["id"]

    assert {tier: model_of(tier) for tier in ("free", "basic", "pro", "enterprise")} == {
        "free": "small",
        "basic": "medium",
        "pro": "large",
        "enterprise": "own",
    }


def test_CR1_free_has_five_blogs_a_month(crew):
    user = unique("user")
    for _ in range(5):
        assert ended(crew, generate(crew, user, "free"))["status"] == "completed"
    assert used(crew, user, "blog")["used"] == 5
    refused = generate(crew, user, "free", status=403)["error"]
    assert refused["code"] == "quota_exceeded"
    assert (refused["limit"], refused["used"], refused["upgrade_to"]) == (5, 5, "basic")
    # Another plan goes on where this one has ended.
    assert ended(crew, generate(crew, user, "basic", content_types=["blog"]))["status"] == "completed"


def test_CR3_what_a_branch_counts_for_is_held_from_the_start(crew):
    """Ten at once: five are accepted, whatever their steps still have to do."""
    user = unique("user")
    generate(crew, user, "free", status=400, topic="x")  # the account is there, and nothing is used
    answers = []

    def one():
        answers.append(ask(crew, "POST", "/api/generate", {"topic": "tea", "userId": user, "userTier": "free"}))

    threads = [threading.Thread(target=one) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a.status for a in answers) == [202] * 5 + [403] * 5
    for answer in answers:
        if answer.status == 202:
            assert ended(crew, answer.json)["status"] == "completed"
    blog = used(crew, user, "blog")
    assert (blog["used"], blog["held"]) == (5, 0)


def test_CR3_a_run_that_fails_gives_its_counts_back(tmp_path):
    config = preset()
    config["providers"]["sandbox"]["faults"] = {"invalid_input": "100%"}
    with Server(tmp_path / "failing", config) as failing:
        user = unique("user")
        run = ended(failing, generate(failing, user, "free"))
        assert run["status"] == "failed"
        assert run["error"]["code"] == "invalid_input" and "research" in run["error"]["message"]
        blog = used(failing, user, "blog")
        assert (blog["used"], blog["held"]) == (0, 0)
        assert states(run)["blog"] == "waiting"


def test_CR4_what_a_body_may_be(crew):
    missing = generate(crew, unique("user"), "free", status=400, topic=None)["error"]
    assert "topic" in missing["message"]
    odd = generate(crew, unique("user"), "free", status=400, colour="red")["error"]
    assert "colour" in odd["message"]
