"""Who may ask for what: keys, roles, accounts, tickets; and what of others' nobody sees."""

import time

import pytest

from support import Client, Events, Server, configuration, turnpike, unique

TEXT = {"prompt": "Say something."}


def make_key(admin, **fields):
    answer = admin.post("/api/admin/keys", fields)
    assert answer.status == 201, answer
    return answer.json


def assert_unauthorized(answer):
    assert answer.status == 401 and answer.error["code"] == "invalid_api_key", answer
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", [None, "", "tp_no-scheme", "Basic dHA6dHA=", "Bearer ", "Bearer tp_unknown"])
def test_without_a_good_key_nothing_is_answered(server, header):
    client = Client(server.port, key=None)
    headers = {} if header is None else {"Authorization": header}
    for path in ("/api/jobs", "/v1/models", "/api/admin/keys", "/api/events", f"/artifacts/{'0' * 64}.wav"):
        answer = client.get(path, **headers)
        assert answer.status == 401, (path, answer)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert_unauthorized(client.post("/api/jobs", {"task": "text", "input": TEXT}, headers))
    client.close()


def test_what_is_public_needs_no_key(server):
    client = Client(server.port, key=None)
    for path in ("/healthz", "/readyz", "/docs", "/openapi.yaml", "/metrics"):
        assert client.get(path).status == 200, path
    client.close()


def test_a_key_is_shown_once_and_never_listed(admin):
    key = make_key(admin, role="service", name="shop")
    assert key["key"].startswith("tp_") and len(key["key"]) == 46 and key["id"].startswith("key_")
    listed = admin.get("/api/admin/keys?limit=100")
    entry = next(entry for entry in listed.json["data"] if entry["id"] == key["id"])
    assert entry["name"] == "shop" and "key" not in entry
    assert key["key"].encode() not in listed.body


def test_a_revoked_key_works_no_more(server, admin):
    key = make_key(admin, role="service")
    client = server.client(key["key"], unique())
    assert client.get("/api/jobs").status == 200
    assert admin.delete(f"/api/admin/keys/{key['id']}").status == 200
    assert_unauthorized(client.get("/api/jobs"))


def test_a_key_expires(server, admin):
    key = make_key(admin, role="service", expires_at=int(time.time()) + 1)
    client = server.client(key["key"], unique())
    deadline = time.time() + 5
    while client.get("/api/jobs").status == 200:
        assert time.time() < deadline
        time.sleep(0.05)
    assert_unauthorized(client.get("/api/jobs"))


def test_a_rotated_key_overlaps_with_the_new_one(server, admin):
    old = make_key(admin, role="service", name="turning")
    new = admin.post(f"/api/admin/keys/{old['id']}/rotate", {"overlap_s": 600})
    assert new.status == 201 and new.json["key"] != old["key"]
    for key in (old["key"], new.json["key"]):
        assert server.client(key, unique()).get("/api/jobs").status == 200
    last = admin.post(f"/api/admin/keys/{new.json['id']}/rotate", {"overlap_s": 0})
    assert last.status == 201
    assert_unauthorized(server.client(new.json["key"], unique()).get("/api/jobs"))
    assert server.client(last.json["key"], unique()).get("/api/jobs").status == 200


def test_only_an_admin_operates(server, admin):
    service = server.client(make_key(admin, role="service")["key"])
    account = server.client(make_key(admin, role="account", user_id=unique())["key"])
    for client in (service, account):
        for method, path in (("GET", "/api/admin/keys"), ("GET", "/api/admin/accounts"), ("GET", "/api/admin/policy"),
                             ("POST", "/api/admin/keys"), ("POST", "/api/admin/policy/apply")):
            answer = client.request(method, path)
            assert answer.status == 403 and answer.error["code"] == "forbidden", (path, answer)


def test_a_worker_claims_jobs_and_does_nothing_else(server, admin):
    worker = server.client(make_key(admin, role="worker")["key"])
    for path in ("/api/jobs", "/v1/models", "/api/admin/keys"):
        assert worker.get(path).status == 403


def test_an_accounts_key_acts_for_its_account_alone(server, admin):
    name = unique()
    client = server.client(make_key(admin, role="account", user_id=name)["key"])
    job = client.submit("text", TEXT)
    assert job["user_id"] == name
    for answer in (client.post("/api/jobs", {"task": "text", "input": TEXT, "userId": unique()}),
                   client.get("/api/jobs", **{"Turnpike-Account": unique()}),
                   client.post("/api/jobs", {"task": "text", "input": TEXT, "userTier": "tier4"})):
        assert answer.status == 403 and answer.error["code"] == "forbidden", answer
    assert client.get("/api/jobs", **{"Turnpike-Account": name}).status == 200
    assert client.job(job["id"])["plan"] == "tier1"


def test_a_service_must_name_its_user_to_submit(server, admin):
    service = server.client(make_key(admin, role="service")["key"])
    answer = service.post("/api/jobs", {"task": "text", "input": TEXT})
    assert answer.status == 400 and answer.error["param"] == "Turnpike-Account"
    for name in ("user", "userId"):
        user = unique()
        answer = service.post("/api/jobs", {"task": "text", "input": TEXT, name: user})
        assert answer.status == 202 and answer.json["user_id"] == user


def test_AG6_another_accounts_things_do_not_exist(server, admin):
    mine = server.client(make_key(admin, role="account", user_id=unique())["key"])
    other = server.client(make_key(admin, role="account", user_id=unique())["key"])
    job = mine.submit("text", TEXT, model="sleeper")["id"]
    for method, path in (("GET", f"/api/jobs/{job}"), ("DELETE", f"/api/jobs/{job}"), ("GET", f"/api/jobs/{job}/why"),
                         ("POST", f"/api/jobs/{job}/retry"), ("GET", f"/api/jobs/{job}/events")):
        answer = other.request(method, path)
        assert answer.status == 404 and answer.error["code"] == "not_found", (method, path, answer)
        absent = other.request(method, path.replace(job, "job_0000000000001"))
        assert answer.error["message"].replace(job, "job_0000000000001") == absent.error["message"]
    assert other.jobs() == []
    assert mine.job(job)["status"] in ("queued", "processing")
    assert mine.delete(f"/api/jobs/{job}").status == 200


def test_AG6_a_service_sees_one_user_at_a_time(server, admin):
    key = make_key(admin, role="service")["key"]
    one, two = server.client(key, unique()), server.client(key, unique())
    job = one.submit("text", TEXT)["id"]
    assert two.get(f"/api/jobs/{job}").status == 404
    assert server.client(key, unique("never-seen")).get(f"/api/jobs/{job}").status == 404
    assert server.client(key, unique("never-seen")).jobs() == []
    assert server.client(key).get(f"/api/jobs/{job}").status == 200, "naming nobody, it sees its application's users"


def test_accounts_are_listed_and_their_plan_is_changed(server, admin, user):
    user.submit("text", TEXT)
    found = admin.get(f"/api/admin/accounts?user_id={user.account}").json["data"]
    assert len(found) == 1 and found[0]["plan"] == "tier1" and found[0]["id"].startswith("acct_")
    path = f"/api/admin/accounts/{found[0]['id']}"
    refused = admin.request("PUT", path, {"plan": "tier9"})
    assert refused.status == 400 and refused.error["param"] == "plan"
    assert admin.request("PUT", path, {"plan": "tier4"}).json["plan"] == "tier4"
    assert admin.get(path).json["plan"] == "tier4"
    assert user.submit("text", TEXT)["plan"] == "tier4"
    assert admin.get("/api/admin/accounts/acct_0000000000001").status == 404


def test_a_ticket_opens_events_and_nothing_else(server, user):
    job = user.submit("text", TEXT)["id"]
    user.completed(job)
    answer = user.post("/api/tickets")
    assert answer.status == 201 and time.time() < answer.json["expires_at"] <= time.time() + 61
    ticket = answer.json["ticket"]
    nobody = Client(server.port, key=None)
    assert b"job.completed" in nobody.get(f"/api/jobs/{job}/events?ticket={ticket}").body
    assert nobody.get(f"/api/jobs/{job}?ticket={ticket}").status == 401
    forged = ticket[:-2] + ("AA" if not ticket.endswith("AA") else "BB")
    assert_unauthorized(nobody.get(f"/api/jobs/{job}/events?ticket={forged}"))
    other = server.client(account=unique()).post("/api/tickets").json["ticket"]
    assert nobody.get(f"/api/jobs/{job}/events?ticket={other}").status == 404
    nobody.close()


def test_keys_are_made_from_the_command_line(server):
    made = turnpike("keys", "create", "--role", "service", "--name", "line", "--data", server.data)
    assert made.returncode == 0, made
    key = made.stdout.strip()
    assert made.stdout == key + "\n" and key.startswith("tp_"), "the key alone"
    assert server.client(key, unique()).get("/api/jobs").status == 200
    listed = turnpike("keys", "list", "--data", server.data)
    line = next(line for line in listed.stdout.splitlines() if "\tline\t" in line)
    assert key not in listed.stdout
    assert turnpike("keys", "revoke", line.split("\t")[0], "--data", server.data).returncode == 0
    assert_unauthorized(server.client(key, unique()).get("/api/jobs"))


def test_an_accounts_key_is_made_from_the_command_line(server):
    name = unique()
    made = turnpike("keys", "create", "--role", "account", "--account", name, "--data", server.data)
    client = server.client(made.stdout.strip())
    assert client.submit("text", TEXT)["user_id"] == name
    for wrong in (["--role", "account"], ["--role", "service", "--account", "x"], ["--role", "king"], []):
        refused = turnpike("keys", "create", *wrong, "--data", server.data)
        assert refused.returncode == 2 and refused.stdout == "" and refused.stderr


def test_no_secret_is_ever_logged(server, admin):
    key = make_key(admin, role="service")["key"]
    server.client(key, unique()).submit("text", {"prompt": "a-prompt-nobody-may-log"})
    assert key not in server.output() and admin.key not in server.output()
    assert "a-prompt-nobody-may-log" not in server.output()


def test_pages_of_named_origins_read_answers_and_streams(tmp_path):
    page = "https://app.example"
    with Server(tmp_path, configuration(server={"origins": [page]})) as server:
        client = server.client(account=unique())
        asked = client.request("OPTIONS", "/api/jobs", headers={
            "Origin": page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"})
        assert asked.status == 204 and asked.body == b"" and asked.headers["Access-Control-Allow-Origin"] == page
        assert asked.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        made = client.post("/api/jobs", {"task": "text", "input": {"prompt": "x"}}, headers={"Origin": page})
        assert made.status == 202 and made.headers["Access-Control-Allow-Origin"] == page
        assert "x-request-id" in made.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in made.headers
        refused = Client(server.port, key="tp_wrong").get("/api/jobs", Origin=page)
        assert refused.status == 401 and refused.headers["Access-Control-Allow-Origin"] == page
        with Events(client, "/api/events", headers={"Origin": page}) as events:
            assert events.response.headers["Access-Control-Allow-Origin"] == page
        other = client.get("/api/jobs", Origin="https://evil.example")
        assert other.status == 200 and "Access-Control-Allow-Origin" not in other.headers and other.headers["Vary"] == "Origin"
        question = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        assert client.request("OPTIONS", "/api/jobs", headers=question).status == 405
