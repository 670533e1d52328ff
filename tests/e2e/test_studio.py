"""presets/studio.yaml: each plan is served the versions that its policy of models says, without any key (SD1, SD5, SD6)."""

import pytest
import yaml
from support import ROOT, Server, unique

TEXT = {"prompt": "a word about rivers", "max_tokens": 8}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    config = yaml.safe_load((ROOT / "presets/studio.yaml").read_text())
    del config["providers"]["sandbox"]["faults"]  # no chance in what is looked at here
    with Server(tmp_path_factory.mktemp("studio"), config) as running:
        yield running


def served(studio, plan, task, job_input, **fields):
    """The model and version that answered one job of a new user of the plan."""
    client = studio.client(account=unique())
    job = client.completed(client.submit(task, job_input, userTier=plan, **fields)["id"])
    return f"{job['model']['id']}@{job['model']['version']}"


@pytest.mark.parametrize("plan, version", [("FREE", "writer@3.0.0"), ("PRO", "writer@2.1.0"),
                                           ("BUSINESS", "writer@2.1.0"), ("ENTERPRISE", "writer@2.0.0")])
def test_SD1_each_plan_has_its_version(studio, plan, version):
    assert served(studio, plan, "text", TEXT) == version
    assert served(studio, plan, "text", TEXT, model="writer") == version


@pytest.mark.parametrize("plan, version", [("FREE", "narrator@2025-09-15"), ("ENTERPRISE", "narrator@2024-12-01")])
def test_SD1_voices_have_versions_too(studio, plan, version):
    assert served(studio, plan, "speech", {"text": "one two"}) == version


def test_a_request_may_name_a_version_or_an_alias(studio):
    assert served(studio, "FREE", "text", TEXT, model="writer@2.0.0") == "writer@2.0.0"
    assert served(studio, "FREE", "text", TEXT, model="writer@2") == "writer@2.1.0"
    assert served(studio, "PRO", "text", TEXT, model="quick") == "writer@2.1.0"


def test_SD5_a_plan_has_what_it_sees_and_no_more(studio):
    client = studio.client(account=unique())

    def refused(plan, model):
        answer = client.post("/api/jobs", {"task": "text", "input": TEXT, "userTier": plan, "model": model})
        assert answer.error["param"] == "model", answer
        return answer.status, answer.error["message"]

    assert served(studio, "BUSINESS", "text", TEXT, model="drafter") == "drafter@1"
    assert refused("FREE", "drafter") == (403, "plan FREE sees no version of model drafter")
    assert refused("ENTERPRISE", "writer@2.1.0") == (
        403, "plan ENTERPRISE does not have version 2.1.0 of model writer: it has 2.0.0")
    assert refused("PRO", "writer@9") == (400, "model writer has no version of that name: it has 2.1.0, 2.0.0")


def test_models_are_listed_as_the_plan_sees_them(studio):
    client = studio.client(account=unique())
    client.completed(client.submit("text", TEXT, userTier="ENTERPRISE")["id"])  # the account is on the plan now
    listed = client.get("/v1/models").json["data"]
    assert {model["id"]: model["turnpike"]["version"] for model in listed} == {
        "writer": "2.0.0", "narrator": "2024-12-01"}
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    assert client.post("/v1/chat/completions", {"model": "drafter", **chat}).status in (403, 404)
