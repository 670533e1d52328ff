"""Runs of workflows: their order, lists and conditions, failures, what is repeated and what never, who may see them."""

import collections
import json

import pytest
import yaml
from test_webhooks import Receiver
from test_ws import Socket

from support import ROOT, Events, Server, Upstream, configuration, sandbox, shell, turnpike, unique, until

RUN_ENDED = ("completed", "failed", "cancelled")

WORKFLOWS = {
    "line": {"steps": {
        "first": {"task": "echo", "input": {"n": "${input.n}", "said": "first"}},
        "second": {"task": "echo", "input": {"before": "${steps.first.output.said}", "n": "${steps.first.output.n}"}},
        "third": {"task": "echo", "input": {"text": "n is ${steps.second.output.n}, after ${steps.second.output.before}"}},
    }},
    "diamond": {"steps": {
        "join": {"task": "echo", "input": {"left": "${steps.left.output.is}", "right": "${steps.right.output.is}"}},
        "left": {"task": "echo", "needs": ["top"], "input": {"is": "left"}},
        "right": {"task": "echo", "needs": ["top"], "input": {"is": "right"}},
        "top": {"task": "echo"},
    }},
    "lists": {"steps": {
        "split": {"task": "echo", "input": {"words": "${input.words}"}},
        "each": {"task": "echo", "foreach": "${steps.split.output.words}", "at_most": 5,
                 "input": {"word": "${item}", "place": "${index}"}},
        "files": {"task": "file", "foreach": {"word": "${steps.each.output.*.word}"}, "input": {"word": "${item.word}"}},
        "all": {"task": "echo", "input": {"words": "${steps.each.output.*.word}", "files": "${steps.files.artifacts.*.mime}"}},
    }, "output": {"words": "${steps.all.output.words}", "mimes": "${steps.all.output.files}"}, "artifacts": ["files"]},
    "maybe": {"steps": {
        "loud": {"task": "echo", "when": {"input": "options.loud"}, "input": {"is": "loud"}},
        "hd": {"task": "echo", "when": {"feature": "hd"}, "input": {"is": "hd"}},
        "end": {"task": "echo", "input": {"loud": "${steps.loud.output.is:-quiet}", "hd": "${steps.hd.output.is?}"}},
    }},
    "broken": {"steps": {
        "good": {"task": "echo"},
        "bad": {"task": "fail", "needs": ["good"], "retry": {"attempts": 1}},
        "never": {"task": "echo", "needs": ["good", "bad"]},
    }},
    "wanting": {"steps": {
        "good": {"task": "echo"},
        "next": {"task": "echo", "input": {"x": "${steps.good.output.not_there}"}},
    }},
    "talk": {"steps": {
        "opening": {"task": "text", "model": "parrot", "input": {"prompt": "${input.id} opening"}},
        "parts": {"task": "text", "model": "parrot", "foreach": "${input.parts}",
                  "retry": {"attempts": 1}, "needs": ["opening"], "input": {"prompt": "${input.id} part ${item}"}},
        "closing": {"task": "text", "model": "parrot", "needs": ["parts"], "input": {"prompt": "${input.id} closing"}},
    }},
    "slow": {"steps": {
        "quick": {"task": "echo"},
        "wait": {"task": "text", "model": "sleeper", "needs": ["quick"], "input": {"prompt": "x"}},
        "after": {"task": "echo", "needs": ["wait"]},
    }},
    "said": {"steps": {"say": {"task": "text", "input": {"prompt": "${input.prompt?}"}}}},
}


def config_of(upstream, **more):
    tasks = {"echo": shell("cat", stdin_json=True),
             "fail": shell("echo it broke on purpose >&2; exit 3"),
             "file": {"steps": [{"command": ["sh", "-c", "echo \"$0\" > out.txt", "${input.word}"]}],
                      "outputs": {"text": {"file": "out.txt", "mime": "text/plain"}}}}
    return configuration(
        providers={"programs": {"kind": "exec", "concurrency": 8, "tasks": tasks}, "quick": sandbox(),
                   "slow": sandbox("30s"),
                   "parrot": {"kind": "openai", "base_url": upstream.url, "concurrency": 8, "breaker": "off"}},
        models={**{f"model-{task}": (task, "programs") for task in tasks}, "writer": ("text", "quick"),
                "sleeper": ("text", "slow"), "parrot": ("text", "parrot")},
        plans={"tier1": {"priority_class": "low", "limits": {"concurrent_jobs": 8, "queue_depth": 50},
                         "features": {"hd": False}},
               "rich": {"priority_class": "high", "features": {"hd": True}},
               "mute": {"priority_class": "low", "tasks": ["text"]}},
        workflows=WORKFLOWS,
        endpoints=[{"path": "/line", "workflow": "line", "wait": "20s", "schema": {
                        "type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}},
                   {"path": "/slow", "workflow": "slow", "wait": "1s", "status": 201},
                   {"path": "/open", "workflow": "diamond", "public": "tier1"}],
        **more)


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory, upstream):
    with Server(tmp_path_factory.mktemp("runs"), config_of(upstream)) as running:
        yield running


def start(client, workflow, run_input=None, **fields):
    answer = client.post("/api/runs", {"workflow": workflow, "input": run_input or {}, **fields})
    assert answer.status == 202, answer
    assert answer.headers["Location"] == f"/api/runs/{answer.json['id']}"
    return answer.json


def look(client, run_id):
    answer = client.get(f"/api/runs/{run_id}")
    assert answer.status == 200, answer
    return answer.json


def ended(client, run_id):
    def has_ended():
        run = look(client, run_id)
        return run if run["status"] in RUN_ENDED else None
    return until(has_ended, f"the end of {run_id}")


def completed(client, run_id):
    run = ended(client, run_id)
    assert run["status"] == "completed", run
    return run


def steps_of(run):
    return {step["name"]: step for step in run["steps"]}


def statuses(run):
    return {step["name"]: step["status"] for step in run["steps"]}


# --- What follows what


def test_a_run_is_answered_at_once_and_its_steps_follow_one_another(user):
    run = start(user, "line", {"n": 7}, metadata={"order": "9"}, priority=3)
    assert run["object"] == "run" and run["id"].startswith("run_") and run["workflow"] == "line"
    assert run["user_id"] == user.account and run["plan"] == "tier1" and run["priority"] == 3
    assert run["status"] in ("queued", "processing")
    done = completed(user, run["id"])
    assert done["result"] == {"output": {"third": {"text": "n is 7, after first"}}, "artifacts": []}
    assert done["progress"] == {"percent": 100, "message": None}
    assert done["error"] is None and done["queue"] is None and done["metadata"] == {"order": "9"}
    assert [(step["name"], step["task"], step["needs"]) for step in done["steps"]] == [
        ("first", "echo", []), ("second", "echo", ["first"]), ("third", "echo", ["second"])]
    assert set(statuses(done).values()) == {"completed"}
    jobs = [user.job(step["jobs"][0]["id"]) for step in done["steps"]]
    assert all(job["run"] == run["id"] and job["status"] == "completed" for job in jobs)
    for before, after in zip(done["steps"], done["steps"][1:]):
        assert before["finished_at"] <= after["started_at"]


def test_steps_side_by_side_and_what_joins_them(user):
    done = completed(user, start(user, "diamond")["id"])
    assert done["result"]["output"] == {"join": {"left": "left", "right": "right"}}
    steps = steps_of(done)
    assert steps["join"]["needs"] == ["left", "right"] and steps["left"]["needs"] == ["top"]


def test_a_list_has_a_job_for_each_item_in_its_order(server, user):
    done = completed(user, start(user, "lists", {"words": ["a", "b", "ü"]})["id"])
    assert done["result"]["output"] == {"words": ["a", "b", "ü"], "mimes": ["text/plain"] * 3}
    assert [user.get(artifact["url"]).body.decode() for artifact in done["result"]["artifacts"]] == ["a\n", "b\n", "ü\n"]
    assert len(steps_of(done)["each"]["jobs"]) == 3
    listed = user.jobs(f"&run={done['id']}")
    assert len(listed) == 8 and {job["run"] for job in listed} == {done["id"]}


def test_an_empty_list_is_a_step_without_jobs(user):
    done = completed(user, start(user, "lists", {"words": []})["id"])
    assert done["result"] == {"output": {"words": [], "mimes": []}, "artifacts": []}
    assert steps_of(done)["each"]["jobs"] == [] and steps_of(done)["each"]["status"] == "completed"


def test_a_step_is_skipped_where_plan_or_input_do_not_ask_for_it(server, user):
    done = completed(user, start(user, "maybe")["id"])
    assert statuses(done) == {"loud": "skipped", "hd": "skipped", "end": "completed"}
    assert done["result"]["output"] == {"end": {"loud": "quiet"}}
    rich = server.client(account=unique())
    done = completed(rich, start(rich, "maybe", {"options": {"loud": True}}, userTier="rich")["id"])
    assert done["result"]["output"] == {"end": {"loud": "loud", "hd": "hd"}}
    rich.close()


# --- What goes wrong


def test_a_step_that_fails_fails_the_run_with_its_name(user):
    failed = ended(user, start(user, "broken")["id"])
    assert failed["status"] == "failed" and failed["result"] is None
    assert "`bad`" in failed["error"]["message"] and "it broke on purpose" in failed["error"]["message"]
    assert failed["error"]["code"] == "transient"
    assert statuses(failed) == {"good": "completed", "bad": "failed", "never": "waiting"}
    assert steps_of(failed)["bad"]["jobs"][0]["error"]["code"] == "transient"


def test_a_value_that_is_not_there_fails_the_run_with_the_steps_name(user):
    failed = ended(user, start(user, "wanting")["id"])
    assert failed["status"] == "failed" and failed["error"]["code"] == "invalid_step"
    assert "`next`" in failed["error"]["message"] and "steps.good.output.not_there" in failed["error"]["message"]
    assert statuses(failed)["next"] != "completed"


def test_a_list_that_is_too_long_fails_the_run(user):
    failed = ended(user, start(user, "lists", {"words": list("abcdef")})["id"])
    assert failed["status"] == "failed" and "at_most allows 5" in failed["error"]["message"]


def test_a_retry_goes_on_and_repeats_nothing_that_completed(user, upstream):
    mark = unique()
    rule = upstream.rule(prompt=f"{mark} part b", status=400, message="not this one")
    run = start(user, "talk", {"id": mark, "parts": ["a", "b", "c"]})
    failed = ended(user, run["id"])
    assert failed["status"] == "failed" and "`parts`" in failed["error"]["message"], failed
    until(lambda: all(job["status"] in ("completed", "failed", "cancelled")
                      for job in steps_of(look(user, run["id"]))["parts"]["jobs"]), "the others")
    upstream.forget(rule)
    before = [job["id"] for job in steps_of(failed)["parts"]["jobs"]]
    answer = until(lambda: (got := user.post(f"/api/runs/{run['id']}/retry")).status == 202 and got, "a retry")
    assert answer.json["status"] in ("queued", "processing")
    done = completed(user, run["id"])
    assert [job["id"] for job in steps_of(done)["parts"]["jobs"]] == before
    asked = collections.Counter(prompt for prompt in upstream.asked if prompt.startswith(mark))
    assert asked[f"{mark} opening"] == 1 and asked[f"{mark} closing"] == 1 and asked[f"{mark} part b"] == 2
    assert user.post(f"/api/runs/{run['id']}/retry").status == 409


def test_a_run_is_cancelled_with_all_that_it_has(user):
    run = start(user, "slow")
    until(lambda: statuses(look(user, run["id"]))["wait"] == "running", "the slow step")
    answer = user.delete(f"/api/runs/{run['id']}")
    assert answer.status == 200 and answer.json["status"] == "cancelled", answer
    assert statuses(answer.json)["after"] in ("waiting", "cancelled")
    until(lambda: user.job(steps_of(look(user, run["id"]))["wait"]["jobs"][0]["id"])["status"] == "cancelled", "its job")
    assert user.delete(f"/api/runs/{run['id']}").status == 409


# --- Requests


def test_the_paths_of_jobs_do_the_same(user):
    answer = user.post("/api/jobs", {"workflow": "line", "input": {"n": 1}})
    assert answer.status == 202 and answer.json["object"] == "run", answer
    run = answer.json["id"]
    done = until(lambda: (got := user.get(f"/api/jobs/{run}").json)["status"] == "completed" and got, "the end")
    assert done == look(user, run)
    assert user.delete(f"/api/jobs/{run}").status == 409
    assert user.post(f"/api/jobs/{run}/retry").status == 409
    with Events(user, f"/api/jobs/{run}/events") as stream:
        assert [kind for _, kind, _ in stream] == ["run.completed"]


def test_what_is_a_jobs_alone_is_refused(user):
    given = {"model": "writer", "max_attempts": 2, "backoff": {"base_s": 1}, "timeout_s": 5, "run_at": 4_000_000_000,
             "dedupe_key": "x", "content_type": "x"}
    for field, value in given.items():
        for path in ("/api/jobs", "/api/runs"):
            answer = user.post(path, {"workflow": "line", "input": {"n": 1}, field: value})
            assert answer.status == 400 and answer.error["param"] == field, answer
    assert user.post("/api/runs", {"workflow": "lin", "input": {}}).error["param"] == "workflow"
    assert "did you mean `line`?" in user.post("/api/runs", {"workflow": "lin", "input": {}}).error["message"]
    assert user.post("/api/runs", {"workflow": "line"}).error["param"] == "input"
    assert user.post("/api/runs", {"workflow": "line", "input": {}, "task": "echo"}).error["param"] == "task"
    assert user.get("/api/runs").json["data"] == []


def test_a_run_that_cannot_begin_is_refused_and_not_stored(server, user):
    missing = user.post("/api/runs", {"workflow": "line", "input": {}})
    assert missing.status in (400, 422) and "input.n" in missing.error["message"], missing
    bad = user.post("/api/runs", {"workflow": "said", "input": {"prompt": 7}})
    assert bad.status in (400, 422) and "prompt" in bad.error["message"], bad
    mute = server.client(account=unique())
    refused = mute.post("/api/runs", {"workflow": "line", "input": {"n": 1}, "userTier": "mute"})
    assert refused.status == 403 and refused.error["code"] == "not_in_plan", refused
    assert refused.error["upgrade_to"] and refused.error["why_url"]
    mute.close()
    assert user.get("/api/runs").json["data"] == [] and user.jobs() == []


def test_the_same_idempotency_key_is_one_run(user):
    body = {"workflow": "line", "input": {"n": 2}}
    first = user.post("/api/runs", body, {"Idempotency-Key": "one"})
    second = user.post("/api/runs", body, {"Idempotency-Key": "one"})
    assert first.status == second.status == 202 and first.body == second.body
    assert second.headers["Idempotent-Replayed"] == "true"
    assert user.post("/api/runs", {**body, "priority": 1}, {"Idempotency-Key": "one"}).status == 422
    assert [run["id"] for run in user.get("/api/runs").json["data"]] == [first.json["id"]]


def test_runs_are_listed_and_filtered(user):
    runs = [start(user, "line", {"n": n})["id"] for n in range(3)]
    other = start(user, "diamond")["id"]
    for run in [*runs, other]:
        completed(user, run)
    page = user.get("/api/runs?limit=2").json
    assert page["object"] == "list" and page["has_more"] is True
    assert [run["id"] for run in page["data"]] == [other, runs[2]]
    assert all("jobs" not in step for run in page["data"] for step in run["steps"])
    rest = user.get(f"/api/runs?starting_after={runs[2]}").json
    assert [run["id"] for run in rest["data"]] == [runs[1], runs[0]] and rest["has_more"] is False
    assert [run["id"] for run in user.get("/api/runs?workflow=diamond").json["data"]] == [other]
    assert len(user.get("/api/runs?status=completed").json["data"]) == 4
    assert user.get("/api/runs?status=expired").error["param"] == "status"
    assert user.get("/api/jobs?run=7").error["param"] == "run"


def test_another_account_sees_nothing(server, user):
    run = start(user, "diamond")["id"]
    other = server.client(account=unique())
    start(other, "diamond")
    for answer in (other.get(f"/api/runs/{run}"), other.delete(f"/api/runs/{run}"), other.post(f"/api/runs/{run}/retry"),
                   other.get(f"/api/runs/{run}/events"), other.get(f"/api/jobs/{run}")):
        assert answer.status == 404, answer
    assert other.jobs(f"&run={run}") == []
    other.close()
    for absent in ("run_0000000000001", "run_x", "job_0000000000001"):
        assert user.get(f"/api/runs/{absent}").status == 404


def test_an_endpoint_waits_for_the_run(user):
    answer = user.post("/line", {"n": 5})
    assert answer.status == 200 and answer.json["result"]["output"]["third"]["text"] == "n is 5, after first", answer
    assert user.post("/line", {"n": "five"}).error["param"] == "n"
    later = user.post("/slow", {})
    assert later.status == 201 and later.json["object"] == "run" and later.json["status"] == "processing", later
    assert user.delete(f"/api/runs/{later.json['id']}").status == 200


def test_whoever_has_no_key_runs_what_is_public_and_sees_what_came_of_it(server):
    nobody = server.client(key=None)
    answer = nobody.post("/open", {})
    assert answer.status == 202 and answer.json["object"] == "run", answer
    done = completed(nobody, answer.json["id"])
    assert done["result"]["output"]["join"]["left"] == "left"
    assert nobody.post("/api/runs", {"workflow": "diamond", "input": {}}).status == 401
    nobody.close()


# --- Events


def test_a_stream_tells_of_the_run_and_its_steps_and_ends_with_it(user):
    run = start(user, "slow")
    with Events(user, f"/api/runs/{run['id']}/events") as stream:
        told, cancelled = [], False
        for _, kind, event in stream:
            told.append((kind, event))
            if not cancelled and statuses(look(user, run["id"]))["wait"] == "running":
                assert user.delete(f"/api/runs/{run['id']}").status == 200
                cancelled = True
    assert told[0][0] in ("run.started",) and told[0][1]["data"]["run"]["id"] == run["id"]
    # What ended with it is told with it.
    ends = [event for kind, event in told if kind == "run.cancelled"]
    assert len(ends) == 1 and ends[0]["data"]["run"]["status"] == "cancelled"


def test_a_socket_tells_of_a_run_in_order(user):
    run = start(user, "line", {"n": 1})["id"]
    socket = Socket(user)
    socket.subscribe(run)
    heard = []
    while not heard or heard[-1]["type"] != "run.completed":
        heard.append(socket.hear())
    ids = [event["id"] for event in heard if event["id"].startswith("evt_")]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)
    assert heard[0]["id"] == run and heard[-1]["data"]["run"]["status"] == "completed"
    # All of it, from the log.
    again = Socket(user)
    again.subscribe(run, after="evt_0000000000001")
    told = []
    while not told or told[-1]["type"] != "run.completed":
        told.append(again.hear())
    steps = [(event["type"], event["data"]["step"]) for event in told if event["type"].startswith("run.step.")]
    assert steps == [(f"run.step.{what}", step) for step in ("first", "second", "third") for what in ("queued", "completed")]
    jobs = [event["data"]["run_id"] for event in told if event["type"].startswith("job.")]
    assert jobs and set(jobs) == {run}
    assert [event["type"] for event in told].count("run.started") == 1
    socket.raw.close()
    again.raw.close()


def test_a_run_names_the_webhook_that_is_told_how_it_ends(tmp_path, upstream):
    hooks = {"allow_private": True, "allow_http": True}
    with Receiver() as receiver, Server(tmp_path, config_of(upstream, webhooks=hooks)) as server:
        user = server.client(account=unique())
        good = start(user, "line", {"n": 1}, webhook_url=receiver.url())["id"]
        bad = start(user, "broken", webhook_url=receiver.url())["id"]
        until(lambda: len(receiver.seen) == 2, "both ends")
        told = {event["subject"]: event for event in receiver.events()}
        assert {run: event["type"] for run, event in told.items()} == {good: "run.completed", bad: "run.failed"}
        assert told[good]["data"]["run"]["result"]["output"]["third"]["text"] == "n is 1, after first"
        assert told[bad]["data"]["code"] == "transient"
        private = server.client(account=unique()).post(
            "/api/runs", {"workflow": "line", "input": {"n": 1}, "webhook_url": "ftp://example.com"})
        assert private.status == 400 and private.error["param"] == "webhook_url"
        user.close()
        server.stop()


# --- The contract and the configuration


def test_a_run_has_the_documented_fields_and_no_other(user):
    schemas = yaml.safe_load((ROOT / "api/openapi.yaml").read_text())["components"]["schemas"]
    run = completed(user, start(user, "diamond")["id"])
    documented = schemas["Run"]["properties"]
    assert set(run) == set(documented)
    step = documented["steps"]["items"]["properties"]
    assert all(set(each) == set(step) for each in run["steps"])
    assert set(run["steps"][0]["jobs"][0]) == set(step["jobs"]["items"]["properties"])


BAD_WORKFLOWS = {
    "a cycle": ({"steps": {"a": {"task": "echo", "needs": ["b"]}, "b": {"task": "echo", "needs": ["a"]}}}, "a -> b -> a"),
    "an unknown step": ({"steps": {"a": {"task": "echo", "needs": ["q"]}}}, "unknown step `q`"),
    "an unknown task": ({"steps": {"a": {"task": "ecko"}}}, "did you mean `echo`?"),
    "a reference to nothing": ({"steps": {"a": {"task": "echo", "input": {"x": "${steps.b.output}"}}}}, "unknown step `b`"),
    "an item of no list": ({"steps": {"a": {"task": "echo", "input": {"x": "${item}"}}}}, "`item` is there only"),
}


@pytest.mark.parametrize("name", BAD_WORKFLOWS)
def test_a_bad_graph_is_refused_with_its_line(tmp_path, upstream, name):
    workflow, words = BAD_WORKFLOWS[name]
    text = yaml.safe_dump({**config_of(upstream), "workflows": {"bad": workflow}, "endpoints": []}, sort_keys=False)
    (tmp_path / "bad.yaml").write_text(text)
    done = turnpike("check", "--config", tmp_path / "bad.yaml")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert words in said, said
    line = int(said.split("bad.yaml:")[1].split(":")[0])
    first = next(number for number, content in enumerate(text.splitlines(), 1) if content.startswith("workflows:"))
    assert first < line <= len(text.splitlines()), said


def test_a_run_keeps_the_workflow_that_it_began_with(tmp_path, upstream):
    mark = unique()
    upstream.rule(prompt=f"{mark} opening", gate=mark)
    with Server(tmp_path, config_of(upstream)) as server:
        user = server.client(account=unique())
        run = start(user, "talk", {"id": mark, "parts": ["a"]})["id"]
        until(lambda: f"{mark} opening" in upstream.asked, "the first step")
        changed = config_of(upstream)
        changed["workflows"] = {"line": WORKFLOWS["line"], "slow": WORKFLOWS["slow"], "diamond": WORKFLOWS["diamond"]}
        server.configure(changed)
        done = turnpike("apply", "--config", server.config_file, "--data", server.data)
        assert done.returncode == 0, done
        assert user.post("/api/runs", {"workflow": "talk", "input": {}}).error["param"] == "workflow"
        upstream.step(mark, None)
        assert [step["name"] for step in completed(user, run)["steps"]] == ["opening", "parts", "closing"]
        user.close()
        server.stop()


def test_killed_in_the_middle_nothing_is_repeated_and_the_run_completes(tmp_path):
    with Upstream(latency_s=0.05) as upstream, Server(tmp_path, config_of(upstream)) as server:
        account = unique()
        parts = [str(n) for n in range(30)]
        client = server.client(account=account)
        runs = [start(client, "talk", {"id": f"r{n}", "parts": parts})["id"] for n in range(3)]
        client.close()
        for kill in range(1, 5):
            until(lambda at=kill: len(upstream.asked) >= at * 18, f"the way to kill {kill}")
            server.kill()
            server.start()
        client = server.client(account=account)
        for run in runs:
            done = completed(client, run)
            assert len(steps_of(done)["parts"]["jobs"]) == len(parts)
        jobs = client.jobs()
        assert len(jobs) == 3 * (len(parts) + 2) and {job["status"] for job in jobs} == {"completed"}
        assert {job["attempt"] for job in jobs} == {1}
        asked = collections.Counter(upstream.asked)
        assert len(asked) == 3 * (len(parts) + 2)
        repeats = sum(asked.values()) - len(asked)
        assert repeats <= 4 * 8, "only what ran at a kill is run again"
        told = collections.Counter()
        with Events(client, "/api/events", last_event_id="evt_0000000000001") as stream:
            for _, kind, event in stream:
                if kind == "job.completed" or kind.startswith("run."):
                    told[kind, event["subject"], json.dumps(event["data"].get("step"))] += 1
                if sum(count for (kind, _, _), count in told.items() if kind == "run.completed") == 3:
                    break
        assert set(told.values()) == {1}, "each job and each step is completed once"
        client.close()
        server.stop()
