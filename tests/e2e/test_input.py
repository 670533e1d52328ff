"""Bad input gets a 4xx that names the field, and leaves nothing behind."""

import json
import re
import socket
import time

import pytest

from support import unique

GOOD = {"task": "text", "input": {"prompt": "Hello."}}


def job(**fields):
    return {**GOOD, **fields}


def bytes_of(text):
    return text.encode() if isinstance(text, str) else text


# name -> (body, the `param` that the answer names)
BAD_JOBS = {
    "not JSON": (b"{", "body"),
    "trailing garbage": (b'{"task":"text"} x', "body"),
    "a list": (b"[]", "body"),
    "empty": (b"", "body"),
    "invalid UTF-8": (b'{"task":"text","input":{"prompt":"\xff\xfe"}}', "body"),
    "overlong UTF-8": (b'{"task":"text","input":{"prompt":"\xc0\xaf"}}', "body"),
    "a lone surrogate": (rb'{"task":"text","input":{"prompt":"\ud800"}}', "body"),
    "a NUL": (rb'{"task":"text","input":{"prompt":"a\u0000b"}}', "body"),
    "a raw NUL": (b'{"task":"text","input":{"prompt":"a\x00b"}}', "body"),
    "10,000 brackets": (b'{"task":"text","input":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "body"),
    "10,000 braces": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "body"),
    "a name twice": (b'{"task":"text","task":"speech","input":{"prompt":"x"}}', "task"),
    "NaN": (b'{"task":"text","input":{"prompt":"x"},"priority":NaN}', "body"),
    "an unknown field": (job(prority=1), "prority"),
    "an unknown field of the input": (job(input={"prompt": "x", "temprature": 1}), "input.temprature"),
    "no task": ({"input": {}}, "task"),
    "no input": ({"task": "text"}, "input"),
    "an unknown task": (job(task="dance"), "task"),
    "a task of another type": (job(task=7), "task"),
    "an input of another type": (job(input="x"), "input"),
    "a prompt of another type": (job(input={"prompt": 7}), "input.prompt"),
    "an empty prompt": (job(input={"prompt": ""}), "input.prompt"),
    "neither prompt nor messages": (job(input={}), "input.prompt"),
    "both prompt and messages": (job(input={"prompt": "x", "messages": [{"role": "user", "content": "x"}]}),
                                 "input.messages"),
    "messages without a role": (job(input={"messages": [{"content": "x"}]}), "input.messages.0.role"),
    "an unknown model": (job(model="wrtier"), "model"),
    "an unknown plan": (job(userTier="tier9"), "userTier"),
    "a priority too high": (job(priority=1001), "priority"),
    "a fraction of a priority": (job(priority=0.5), "priority"),
    "a priority beyond 64 bits": (b'{"task":"text","input":{"prompt":"x"},"priority":99999999999999999999999}', "priority"),
    "no attempts": (job(max_attempts=0), "max_attempts"),
    "too many attempts": (job(max_attempts=101), "max_attempts"),
    "no timeout": (job(timeout_s=0), "timeout_s"),
    "run_at in the past": (job(run_at=int(time.time()) - 3600), "run_at"),
    "run_at beyond a year": (job(run_at=int(time.time()) + 400 * 86400), "run_at"),
    "run_at negative": (job(run_at=-1), "run_at"),
    "run_at as a text": (job(run_at="tomorrow"), "run_at"),
    "a backoff that shrinks": (job(backoff={"base_s": 5, "cap_s": 1}), "backoff.cap_s"),
    "an unknown field of backoff": (job(backoff={"bass_s": 5}), "backoff.bass_s"),
    "metadata that is no text": (job(metadata={"n": 1}), "metadata.n"),
    "metadata too large": (job(metadata={"n": "x" * 17_000}), "metadata"),
    "a dedupe key too long": (job(dedupe_key="x" * 256), "dedupe_key"),
    "a webhook that is no URL": (job(webhook_url="example"), "webhook_url"),
    "a webhook at a private address": (job(webhook_url="https://10.0.0.1/"), "webhook_url"),
    "an unknown workflow": ({"workflow": "story", "input": {}}, "workflow"),
    "a task beside a workflow": ({"workflow": "story", "task": "text", "input": {}}, "task"),
    "a user id of another type": (job(userId=7), "userId"),
    "an empty user id": (job(userId=""), "userId"),
    "two users": (job(userId="another"), "Turnpike-Account"),
}


@pytest.mark.parametrize("name", BAD_JOBS)
def test_bad_job_is_refused_with_its_field_and_not_stored(user, name):
    body, param = BAD_JOBS[name]
    answer = user.post("/api/jobs", body, {"Content-Type": "application/json"})
    assert answer.status == 400, answer
    error = answer.error
    assert error["code"] == "invalid_request" and error["type"] == "invalid_request_error"
    assert error["param"] == param, error
    assert error["message"] and error["doc_url"]
    assert answer.headers["x-request-id"].startswith("req_")
    assert user.jobs() == []


def test_a_mistyped_field_is_told_what_was_meant(user):
    assert "`priority`" in user.post("/api/jobs", job(prority=1)).error["message"]


def test_every_mistake_is_told_at_once(user):
    message = user.post("/api/jobs", job(prority=1, max_attempts="x", run_at=-5)).error["message"]
    assert all(f"`{name}`" in message for name in ("prority", "max_attempts", "run_at"))


# task -> (input, the field)
BAD_INPUTS = {
    "speech without text": ("speech", {}, "input.text"),
    "a voice that is an option": ("speech", {"text": "x", "voice": "-w/etc/passwd"}, "input.voice"),
    "a voice that is a path": ("speech", {"text": "x", "voice": "../../etc/passwd"}, "input.voice"),
    "an image without a prompt": ("image", {"width": 100}, "input.prompt"),
    "an image of no width": ("image", {"prompt": "x", "width": 0}, "input.width"),
    "an image too wide": ("image", {"prompt": "x", "width": 8193}, "input.width"),
    "an image of a format": ("image", {"prompt": "x", "format": "svg"}, "input.format"),
    "an edit without an image": ("image_edit", {"operations": {}}, "input.image"),
    "an edit of no artifact": ("image_edit", {"image": "/etc/passwd"}, "input.image"),
    "an edit of an unknown artifact": ("image_edit", {"image": "art_0000000000001"}, "input.image"),
    "an edit of an address": ("image_edit", {"image_url": "http://127.0.0.1/"}, "input.image_url"),
    "texts that are no texts": ("embedding", {"texts": [1]}, "input.texts"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_of_a_task_is_refused_with_its_field(user, name):
    task, task_input, field = BAD_INPUTS[name]
    answer = user.post("/api/jobs", {"task": task, "input": task_input})
    assert answer.status == 400 and answer.error["param"] == field, answer
    assert user.jobs() == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "status=done", "colour=red", "batch=b",
                                   "starting_after=job_1", "starting_after=acct_0000000000001",
                                   "starting_after=job_0000000000001&ending_before=job_0000000000002"])
def test_bad_query_is_refused(user, query):
    answer = user.get(f"/api/jobs?{query}")
    assert answer.status == 400 and answer.error["code"] == "invalid_request"
    assert answer.error["param"] in query


def test_a_body_over_the_limit_is_refused(user):
    answer = user.post("/api/jobs", job(input={"prompt": "x" * (1 << 20)}))
    assert answer.status == 413 and answer.error["code"] == "too_large"
    assert user.jobs() == []


def test_an_input_just_below_the_limit_is_taken(user):
    made = user.submit("text", {"prompt": "x" * ((1 << 20) - 200)})
    user.completed(made["id"])


def test_text_of_any_script_comes_back_as_it_was(user):
    label = "Größe 大きさ \U0001f600 \"quoted\" \\ / \t\n"
    made = user.submit("text", {"prompt": label}, metadata={"label": label})
    assert user.completed(made["id"])["metadata"] == {"label": label}


def test_a_path_that_is_not_there_is_not_found(user):
    for path in ("/", "/api", "/api/nothing", "/v2/models", "/api/jobs/", "//api/jobs"):
        answer = user.get(path)
        assert answer.status == 404 and answer.error["code"] == "not_found", path


@pytest.mark.parametrize("path", ["/../etc/passwd", "/artifacts/../../etc/passwd", "/artifacts/%2e%2e%2fetc%2fpasswd",
                                  "/api/jobs/%00", "/api/jobs/%zz", "/api/jobs/%ff"])
def test_a_path_that_climbs_or_is_garbled_is_refused(user, path):
    assert user.get(path).status in (400, 404)


def test_a_method_that_is_not_there_names_those_that_are(user):
    answer = user.request("PATCH", "/api/jobs")
    assert answer.status == 405 and answer.error["code"] == "method_not_allowed"
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) >= {"GET", "POST"}
    made = user.submit("text", GOOD["input"])
    answer = user.request("PUT", f"/api/jobs/{made['id']}", {})
    assert answer.status == 405
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) >= {"GET", "DELETE"}


def test_a_request_id_is_kept_or_made(user):
    assert user.get("/api/jobs", **{"x-request-id": "mine-7"}).headers["x-request-id"] == "mine-7"
    assert user.get("/api/jobs").headers["x-request-id"].startswith("req_")
    assert user.get("/nothing").headers["x-request-id"].startswith("req_")


def exchange(port, text, timeout=15):
    """Sends bytes as they are; returns what came back until the server closed, or what there was."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(bytes_of(text))
        got = b""
        while True:
            part = connection.recv(65536)
            if not part:
                return got
            got += part


@pytest.mark.parametrize("text", [
    "GARBAGE\r\n\r\n",
    "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n",
    "POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST /api/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
], ids=["no HTTP", "another version", "a bad header", "a negative length", "two framings", "two lengths", "a bad chunk"])
def test_what_is_no_http_is_refused_and_cut(server, text):
    answer = exchange(server.port, text)
    assert answer.split(b" ")[1].startswith(b"4") or answer.split(b" ")[1] == b"505", answer
    assert server.client().get("/healthz").status == 200


def test_a_header_over_the_limit_is_refused(server):
    answer = exchange(server.port, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + "y" * 20_000 + "\r\n\r\n")
    assert answer.split(b" ")[1] == b"431", answer[:200]


def test_pipelined_requests_are_answered_in_order(server):
    ask = "GET {} HTTP/1.1\r\nHost: x\r\nConnection: {}\r\n\r\n"
    answer = exchange(server.port, ask.format("/healthz", "keep-alive") + ask.format("/nothing", "keep-alive")
                      + ask.format("/healthz", "close"))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"], answer


def test_nothing_bad_leaves_an_account_behind(server, admin):
    name = unique("never")
    client = server.client(account=name)
    assert client.post("/api/jobs", b"{").status == 400
    assert client.post("/api/jobs", job(prority=1)).status == 400
    client.close()
    assert admin.get(f"/api/admin/accounts?user_id={name}").json["data"] == []


def test_every_error_has_the_same_shape(server, user):
    for answer in (user.post("/api/jobs", b"{"), user.get("/nothing"), user.request("PATCH", "/api/jobs"),
                   server.client(key="tp_wrong").get("/api/jobs")):
        assert set(json.loads(answer.body)["error"]) >= {"type", "code", "message", "param", "doc_url"}
