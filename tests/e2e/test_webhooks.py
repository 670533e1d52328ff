"""Outgoing webhooks: signed, in order, tried again, kept over a crash, and never sent where they must not go."""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support import Server, configuration, sandbox, unique, until

TEXT = {"prompt": "Say something."}
JOB_TYPES = ["job.queued", "job.started", "job.completed"]


class Receiver:
    """An application's own server: keeps what it is sent and answers as it is told."""

    def __init__(self, status=200, headers=None, port=0):
        self.status = status
        self.headers = headers or {}
        self.seen = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.seen.append((dict(self.headers), body))
                status = receiver.status.pop(0) if isinstance(receiver.status, list) else receiver.status
                if isinstance(receiver.status, list) and not receiver.status:
                    receiver.status = 200
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, host="127.0.0.1"):
        return f"http://{host}:{self.port}/hook"

    def events(self):
        return [json.loads(body) for _, body in list(self.seen)]

    def types(self, subject=None):
        return [event["type"] for event in self.events() if subject in (None, event["subject"])]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def settings(**webhooks):
    return configuration(
        providers={"quick": sandbox(), "broken": sandbox(faults={"transient": "100%"})},
        models={"writer": ("text", "quick"), "wreck": ("text", "broken")},
        plans={"free": {"priority_class": "low", "quotas": {"jobs": 4}}},
        webhooks={"allow_private": True, "allow_http": True, "retry": ["50ms", "50ms", "100ms"], **webhooks})


@pytest.fixture
def own(tmp_path):
    with Server(tmp_path, settings()) as running:
        yield running


@pytest.fixture
def receiver():
    with Receiver() as running:
        yield running


def make(client, url, events=("job.*",), **more):
    answer = client.post("/api/webhooks/endpoints", {"url": url, "events": list(events), **more})
    assert answer.status == 201, answer
    return answer.json


def deliveries(client, endpoint, query=""):
    answer = client.get(f"/api/webhooks/endpoints/{endpoint['id']}/deliveries?limit=100{query}")
    assert answer.status == 200, answer
    return answer.json["data"]


def signature(secret, headers, body):
    """As the specification of Standard Webhooks computes it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def test_events_are_delivered_signed_and_in_order(own, receiver):
    client = own.client(account=unique())
    endpoint = make(client, receiver.url(), description="the shop")
    assert endpoint["enabled"] and len(base64.b64decode(endpoint["secret"].removeprefix("whsec_"))) == 24
    jobs = [client.submit("text", TEXT)["id"] for _ in range(10)]
    until(lambda: len(receiver.seen) >= 30, "thirty deliveries")
    for job in jobs:
        assert receiver.types(job) == JOB_TYPES
    for headers, body in receiver.seen:
        assert headers["webhook-signature"] == signature(endpoint["secret"], headers, body)
        assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
        assert headers["Content-Type"] == "application/json"
        event = json.loads(body)
        assert event["id"] == headers["webhook-id"] and event["specversion"] == "1.0"
    assert len({headers["webhook-id"] for headers, _ in receiver.seen}) == 30
    ends = [event for event in receiver.events() if event["type"] == "job.completed"]
    assert all(event["data"]["job"]["result"]["output"] for event in ends), "the end tells what came of it"
    until(lambda: len(deliveries(client, endpoint, "&status=delivered")) == 30, "all noted as delivered")
    shown = client.get(f"/api/webhooks/endpoints/{endpoint['id']}")
    assert b"whsec_" not in shown.body and shown.json["description"] == "the shop"
    assert "whsec_" not in own.output(), "secrets are printed nowhere"


def test_what_fails_is_tried_again_and_then_given_up(own, receiver):
    client = own.client(account=unique())
    receiver.status = [500, 503]
    endpoint = make(client, receiver.url(), ["job.completed"])
    client.submit("text", TEXT)
    until(lambda: len(receiver.seen) == 3, "the third attempt")
    assert len({headers["webhook-id"] for headers, _ in receiver.seen}) == 1, "the same message each time"
    assert len({body for _, body in receiver.seen}) == 1
    [delivery] = until(lambda: deliveries(client, endpoint, "&status=delivered"), "it was taken")
    assert delivery["attempts"] == 3 and delivery["response_status"] == 200 and delivery["error"] is None
    receiver.status = 500
    client.submit("text", TEXT)
    [delivery] = until(lambda: deliveries(client, endpoint, "&status=failed"), "it was given up")
    assert delivery["attempts"] == 4 and delivery["error"] == "answered 500", "three waits, four attempts"
    own.logged("webhook.given_up", endpoint=endpoint["id"])
    receiver.status = 200
    again = client.post(f"/api/webhooks/endpoints/{endpoint['id']}/redeliver", {"event": delivery["event"]})
    assert again.status == 202 and again.json["status"] == "pending"
    until(lambda: not deliveries(client, endpoint, "&status=failed"), "it was taken at last")
    assert receiver.seen[-1][0]["webhook-id"] == delivery["event"]


def test_one_subject_waits_and_others_do_not(own, receiver):
    client = own.client(account=unique())
    own.configure(settings(retry=["300ms"] * 10))
    own.signal(1)
    own.logged("policy.applied", version=2)
    make(client, receiver.url(), ["job.queued", "job.completed"])
    receiver.status = [500]
    first = client.submit("text", TEXT)["id"]
    until(lambda: receiver.seen, "the first attempt")
    second = client.submit("text", TEXT)["id"]
    until(lambda: receiver.types(second) == ["job.queued", "job.completed"], "the second job's events")
    assert receiver.types(first) == ["job.queued"], "its end waits behind its beginning"
    until(lambda: receiver.types(first) == ["job.queued", "job.queued", "job.completed"], "the first job's events")


def test_an_endpoint_that_is_gone_is_disabled_and_can_be_enabled_again(own, receiver):
    client = own.client(account=unique())
    receiver.status = 410
    endpoint = make(client, receiver.url(), ["job.completed"])
    path = f"/api/webhooks/endpoints/{endpoint['id']}"
    client.submit("text", TEXT)
    until(lambda: not client.get(path).json["enabled"], "it was disabled")
    assert "410" in client.get(path).json["disabled_reason"]
    client.completed(client.submit("text", TEXT)["id"])
    time.sleep(0.3)
    assert len(receiver.seen) == 1, "nothing more is sent"
    assert client.post(f"{path}/redeliver", {"event": json.loads(receiver.seen[0][1])["id"]}).status == 409
    audit = own.client().get("/api/admin/audit").json["data"]
    assert any(row["action"] == "webhook.disabled" and row["subject"] == endpoint["id"] for row in audit)
    receiver.status = 200
    assert client.request("PATCH", path, {"enabled": True}).json["enabled"]
    until(lambda: len(receiver.seen) == 2, "what waited is sent")
    assert receiver.seen[0][0]["webhook-id"] == receiver.seen[1][0]["webhook-id"]


def test_redirects_are_not_followed(own, receiver):
    client = own.client(account=unique())
    with Receiver(status=302, headers={"Location": receiver.url()}) as mover:
        endpoint = make(client, mover.url(), ["job.completed"])
        client.submit("text", TEXT)
        [delivery] = until(lambda: deliveries(client, endpoint, "&status=failed"), "it was given up")
    assert delivery["response_status"] == 302 and not receiver.seen


def test_a_crash_loses_no_event(own, receiver):
    own.configure(settings(retry=["100ms"] * 20))
    own.signal(1)
    own.logged("policy.applied", version=2)
    client = own.client(account=unique())
    receiver.status = 503
    endpoint = make(client, receiver.url(), ["job.completed"])
    jobs = [client.submit("text", TEXT)["id"] for _ in range(20)]
    for job in jobs:
        client.completed(job)
    own.kill()
    receiver.seen.clear()
    receiver.status = 200
    own.start()
    client = own.client(account=client.account)
    until(lambda: {event["subject"] for event in receiver.events()} >= set(jobs), "every end was told")
    until(lambda: not deliveries(client, endpoint, "&status=pending"), "nothing waits")
    for headers, body in receiver.seen:
        assert headers["webhook-signature"] == signature(endpoint["secret"], headers, body)


def test_nothing_is_sent_to_private_addresses_unless_allowed(tmp_path, receiver):
    with Server(tmp_path, settings(allow_private=False)) as server:
        client = server.client(account=unique())
        for url in (receiver.url(), receiver.url("[::1]"), "http://169.254.169.254/latest", "http://10.0.0.1/",
                    "unix:/run/docker.sock:/x", "ftp://example.com/", "http://user:pw@example.com/", "nonsense"):
            refused = client.post("/api/webhooks/endpoints", {"url": url, "events": ["*"]})
            assert refused.status == 400 and refused.error["param"] == "url", (url, refused)
        # A name shows where it leads only when it is looked up; so do the odd ways to write an address.
        ends = {}
        for host in ("localhost", "2130706433", "127.1"):
            ends[host] = make(client, receiver.url(host), ["job.completed"])
        client.completed(client.submit("text", TEXT)["id"])
        for host, endpoint in ends.items():
            [delivery] = until(lambda: deliveries(client, endpoint, "&status=failed"), "it was given up")
            assert "not public" in delivery["error"], (host, delivery)
    assert not receiver.seen


def test_without_tls_only_where_it_is_allowed(tmp_path):
    with Server(tmp_path, settings(allow_http=False)) as server:
        refused = server.client(account=unique()).post("/api/webhooks/endpoints",
                                                       {"url": "http://example.com/", "events": ["*"]})
        assert refused.status == 400 and "https" in refused.error["message"]


def test_a_secret_is_rotated_without_a_gap(own, receiver):
    client = own.client(account=unique())
    endpoint = make(client, receiver.url(), ["job.completed"])
    path = f"/api/webhooks/endpoints/{endpoint['id']}"
    rotated = client.post(f"{path}/rotate", {"overlap_s": 3600})
    assert rotated.status == 200 and rotated.json["secret"] != endpoint["secret"]
    client.submit("text", TEXT)
    until(lambda: receiver.seen, "a delivery")
    headers, body = receiver.seen[0]
    assert headers["webhook-signature"].split() == [signature(secret, headers, body)
                                                    for secret in (rotated.json["secret"], endpoint["secret"])]
    last = client.post(f"{path}/rotate", {"overlap_s": 0}).json
    client.submit("text", TEXT)
    until(lambda: len(receiver.seen) == 2, "another")
    headers, body = receiver.seen[1]
    assert headers["webhook-signature"] == signature(last["secret"], headers, body)


def test_who_is_told_of_what(own, receiver):
    ada, bob = own.client(account=unique()), own.client(account=unique())
    with Receiver() as everybodys:
        mine = make(ada, receiver.url(), ["job.completed"])
        all_of_it = make(own.client(), everybodys.url(), ["*"])
        assert mine["account"] and all_of_it["account"] is None
        jobs = [client.submit("text", TEXT)["id"] for client in (ada, bob)]
        until(lambda: set(everybodys.types(jobs[0]) + everybodys.types(jobs[1])) >= {"job.completed"}
              and len(everybodys.seen) >= 6, "everything")
        until(lambda: receiver.seen, "ada's")
    assert [event["subject"] for event in receiver.events()] == [jobs[0]]
    for client in (bob, own.client(account=unique("nobody-yet"))):
        assert client.get("/api/webhooks/endpoints").json["data"] == []
        for endpoint in (mine, all_of_it):
            path = f"/api/webhooks/endpoints/{endpoint['id']}"
            assert client.get(path).status == 404 and client.delete(path).status == 404
            assert client.request("PATCH", path, {"enabled": False}).status == 404
    assert ada.delete(f"/api/webhooks/endpoints/{mine['id']}").json["deleted"]
    assert ada.get(f"/api/webhooks/endpoints/{mine['id']}").status == 404
    assert len(own.client().get("/api/webhooks/endpoints").json["data"]) == 1


def test_SD4_a_threshold_is_told_once_by_webhook_and_as_an_alert(own, receiver):
    client = own.client(account=unique())
    assert own.client().request("PUT", f"/api/subscription/{client.account}", {"plan": "free"}).status == 200
    make(client, receiver.url(), ["usage.threshold"])
    for _ in range(4):
        client.completed(client.submit("text", TEXT)["id"])
    until(lambda: len(receiver.seen) == 3, "half, four fifths, all")
    told = [(event["data"]["meter"], event["data"]["threshold_percent"]) for event in receiver.events()]
    assert told == [("jobs", 50), ("jobs", 80), ("jobs", 100)] or set(told) == {("jobs", 50), ("jobs", 80), ("jobs", 100)}
    alerts = own.client().get("/api/admin/alerts").json["data"]
    assert [alert["data"]["threshold_percent"] for alert in alerts] == [100, 80, 50]
    assert all(alert["user_id"] == client.account and alert["type"] == "usage.threshold" for alert in alerts)
    page = own.client().get(f"/api/admin/alerts?limit=1&starting_after={alerts[0]['id']}").json
    assert page["data"] == alerts[1:2] and page["has_more"]
    assert client.get("/api/admin/alerts").status in (200, 403)


@pytest.mark.parametrize("body, param", [
    ({"url": "https://example.com/"}, "events"),
    ({"events": ["*"]}, "url"),
    ({"url": "https://example.com/", "events": []}, "events"),
    ({"url": "https://example.com/", "events": ["job.complete"]}, "events"),
    ({"url": "https://example.com/", "events": ["*"], "secret": "mine"}, "secret"),
    ({"url": "https://example.com/" + "x" * 3000, "events": ["*"]}, "url"),
])
def test_bad_endpoints_are_refused_by_field(own, body, param):
    refused = own.client(account=unique()).post("/api/webhooks/endpoints", body)
    assert refused.status == 400 and refused.error["param"] == param, refused


def test_an_account_has_only_so_many_endpoints(own):
    client = own.client(account=unique())
    for _ in range(10):
        make(client, "https://example.com/")
    refused = client.post("/api/webhooks/endpoints", {"url": "https://example.com/", "events": ["*"]})
    assert refused.status == 403 and refused.error["code"] == "limit_exceeded"


def endpoints(client):
    return client.get("/api/webhooks/endpoints").json["data"]


def test_JS5_a_job_names_the_webhook_that_is_told_how_it_ends(own, receiver):
    client = own.client(account=unique())
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        first = list(pool.map(lambda _: own.client(account=client.account).submit("text", TEXT, webhook_url=receiver.url())["id"],
                              range(16)))
    until(lambda: len(receiver.seen) == 16, "sixteen ends")
    silent = client.submit("text", TEXT)["id"]
    client.completed(silent)
    cancelled = client.submit("text", TEXT, run_at=int(time.time()) + 3600, webhook_url=receiver.url())["id"]
    assert client.delete(f"/api/jobs/{cancelled}").status == 200
    failed = client.submit("text", TEXT, model="wreck", max_attempts=1, webhook_url=receiver.url())["id"]
    until(lambda: len(receiver.seen) == 18, "two more ends")
    told = {event["subject"]: event["type"] for event in receiver.events()}
    assert told == dict.fromkeys(first, "job.completed") | {cancelled: "job.cancelled", failed: "job.failed"}
    [endpoint] = endpoints(client)
    assert endpoint["url"] == receiver.url() and endpoint["events"] == [] and "secret" not in endpoint
    rotated = client.post(f"/api/webhooks/endpoints/{endpoint['id']}/rotate", {"overlap_s": 0}).json
    client.submit("text", TEXT, webhook_url=receiver.url())
    until(lambda: len(receiver.seen) == 19, "another end")
    headers, body = receiver.seen[-1]
    assert headers["webhook-signature"] == signature(rotated["secret"], headers, body)


def test_a_webhook_that_wants_the_event_anyway_gets_it_once(own, receiver):
    client = own.client(account=unique())
    endpoint = make(client, receiver.url(), ["job.queued", "job.completed"])
    job = client.submit("text", TEXT, webhook_url=receiver.url())["id"]
    until(lambda: len(deliveries(client, endpoint, "&status=delivered")) == 2, "both")
    assert receiver.types(job) == ["job.queued", "job.completed"] and len(endpoints(client)) == 1


def test_the_webhook_of_a_job_is_told_after_a_crash(own, receiver):
    receiver.status = [503]
    client = own.client(account=unique())
    jobs = [client.submit("text", TEXT, webhook_url=receiver.url(), run_at=int(time.time()) + 1)["id"] for _ in range(5)]
    own.kill()
    own.start()
    until(lambda: {event["subject"] for event in receiver.events()} >= set(jobs), "every end was told")
    assert set(receiver.types()) == {"job.completed"}


def test_a_webhook_of_a_job_that_cannot_be_is_refused_and_the_job_with_it(own, receiver):
    client = own.client(account=unique())
    off = make(client, receiver.url())
    client.request("PATCH", f"/api/webhooks/endpoints/{off['id']}", {"enabled": False})
    refused = client.post("/api/jobs", {"task": "text", "input": TEXT, "webhook_url": receiver.url()})
    assert refused.status == 409 and refused.error["param"] == "webhook_url" and off["id"] in refused.error["message"]
    for n in range(9):
        make(client, f"https://example.com/{n}")
    refused = client.post("/api/jobs", {"task": "text", "input": TEXT, "webhook_url": "https://example.com/another"})
    assert refused.status == 403 and refused.error["code"] == "limit_exceeded" and refused.error["param"] == "webhook_url"
    assert client.get("/api/jobs").json["data"] == []


def test_a_burst_arrives_whole_and_in_order(own, receiver):
    """More than what is kept in memory for one endpoint."""
    client = own.client(account=unique())
    make(client, receiver.url())
    jobs = [client.submit("text", TEXT)["id"] for _ in range(400)]
    until(lambda: len(receiver.seen) >= 1200, "all of it", seconds=60)
    events = receiver.events()
    assert len(events) == 1200 and len({event["id"] for event in events}) == 1200
    by_subject = {}
    for event in events:
        by_subject.setdefault(event["subject"], []).append(event["type"])
    assert len(by_subject) == 400 and set(by_subject) == set(jobs)
    assert all(types == JOB_TYPES for types in by_subject.values())
