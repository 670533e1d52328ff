"""Events over a WebSocket: what is told, resuming, limits, who may, and how it ends."""

import json
import signal
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
import websocket

from support import WAIT_SECONDS, Client, Events, Server, configuration, sandbox, tls_context, unique, until

# The library of Debian 12 is older than IANA's "Try Again Later".
websocket._abnf.VALID_CLOSE_STATUS = (*websocket._abnf.VALID_CLOSE_STATUS, 1013)

TEXT = {"prompt": "Say something."}
END = {"job.completed", "job.failed", "job.cancelled", "job.expired"}


class Socket:
    """A WebSocket to /api/ws of whom `client` is. Its messages are told apart: events, errors, subscriptions."""

    def __init__(self, client, query="", origin=None, **options):
        scheme = "wss" if client.tls else "ws"
        host = "localhost" if client.tls else "127.0.0.1"
        if client.tls:
            options["sslopt"] = {"context": client.tls}
        self.raw = websocket.create_connection(
            f"{scheme}://{host}:{client.port}/api/ws{query}", timeout=WAIT_SECONDS,
            header=[f"{name}: {value}" for name, value in client.headers().items()],
            origin=origin, suppress_origin=origin is None, **options)

    def say(self, **message):
        self.raw.send(json.dumps(message))

    def hear(self):
        return json.loads(self.raw.recv())

    def ask(self, **message):
        """The next message, which must be the answer."""
        self.say(**message)
        return self.hear()

    def subscribe(self, *subjects, after=None):
        answer = self.ask(subscribe=list(subjects), **({"after": after} if after else {}))
        assert answer.get("object") == "subscription", answer
        return answer

    def until_end(self, *jobs):
        """Events until each of these jobs has ended."""
        left, heard = set(jobs), []
        while left:
            event = self.hear()
            assert event.get("specversion") == "1.0", event
            heard.append(event)
            if event["type"] in END:
                left.discard(event["subject"])
        return heard

    def closed(self):
        """Reads on to the close frame: its code and reason, and the texts before it."""
        texts = []
        while True:
            opcode, data = self.raw.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return struct.unpack("!H", data[:2])[0], data[2:].decode(), texts
            texts.append(json.loads(data))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()


def kinds(events):
    return [event["type"] for event in events]


def refused(client, query="", **options):
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        Socket(client, query, **options)
    return caught.value


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """A server with a worker's task, so that progress comes when a test says so."""
    config = configuration(providers={"quick": sandbox(), "own": {"kind": "pull", "concurrency": 4},
                                      "slow": sandbox("30s")},
                           models={"writer": ("text", "quick"), "artisan": ("image", "own"), "sleeper": ("text", "slow")})
    with Server(tmp_path_factory.mktemp("worked"), config) as running:
        yield running


def submitted(server, account, count, threads=4):
    """So many jobs of an account that run at once, as fast as they can be submitted."""
    def submit(_):
        client = server.client(account=account)
        made = [client.submit("text", TEXT)["id"] for _ in range(count // threads)]
        client.close()
        return made
    with ThreadPoolExecutor(threads) as pool:
        return [job for made in pool.map(submit, range(threads)) for job in made]


# --- What is told


def test_a_jobs_life_is_told_with_its_percent(worked):
    user = worked.client(account=unique())
    admin = worked.client()
    job = user.submit("image", {"prompt": "A tree."})["id"]
    with Socket(user) as live:
        answer = live.subscribe(job)
        assert answer["subjects"] == [job] and answer["last_event_id"].startswith("evt_")
        state = live.hear()
        assert state["type"] == "job.queued" and state["subject"] == job
        assert state["data"]["job"]["status"] == "queued", "it begins with the job as it stands"
        work, = until(lambda: admin.post("/api/work/claim", {"wait_s": 5}).json["data"], "work to claim")
        events = [live.hear()]
        told = admin.post(f"/api/work/{work['id']}/progress", {"percent": 25, "message": "a quarter"})
        assert told.status == 200, told
        done = admin.post(f"/api/work/{work['id']}/complete", {"output": {"done": True}})
        assert done.status == 200, done
        events += live.until_end(job)
    assert kinds(events) == ["job.started", "job.progress", "job.completed"]
    assert events[1]["data"]["percent"] == 25 and events[1]["data"]["message"] == "a quarter"
    assert events[-1]["data"]["job"]["status"] == "completed" and events[-1]["data"]["job"]["result"]
    assert all(event["id"].startswith("evt_") and event["subject"] == job for event in events)
    user.close()
    admin.close()


def test_every_end_is_told_with_its_error(user):
    jobs = {model: user.submit("text", TEXT, model=model)["id"] for model in ("writer", "critic", "sleeper")}
    with Socket(user) as live:
        live.subscribe(*jobs.values())
        user.reached(jobs["sleeper"], "processing")
        user.delete(f"/api/jobs/{jobs['sleeper']}")
        ends = {event["subject"]: event for event in live.until_end(*jobs.values()) if event["type"] in END}
    assert ends[jobs["writer"]]["type"] == "job.completed"
    assert ends[jobs["critic"]]["type"] == "job.failed"
    assert ends[jobs["critic"]]["data"]["job"]["error"]["code"] == "invalid_input"
    assert ends[jobs["sleeper"]]["type"] == "job.cancelled"


def test_a_job_that_has_ended_is_told_as_it_stands_and_not_again(user):
    job = user.completed(user.submit("text", TEXT)["id"])["id"]
    with Socket(user) as live:
        live.subscribe(job)
        assert live.hear()["type"] == "job.completed"
        other = user.submit("text", TEXT)["id"]
        live.subscribe(other)
        assert {event["subject"] for event in live.until_end(other)} == {other}


def test_it_tells_the_same_as_the_streams(user):
    user.completed(user.submit("text", TEXT)["id"])
    with Socket(user) as live, Events(user, "/api/events") as stream:
        live.subscribe("account")
        jobs = [user.submit("text", TEXT)["id"] for _ in range(3)]
        by_socket = live.until_end(*jobs)
        by_stream = []
        for _, _, event in stream:
            by_stream.append(event)
            if len(by_stream) == len(by_socket):
                break
    assert by_socket == by_stream


def test_a_job_and_its_account_tell_each_event_once(user):
    user.completed(user.submit("text", TEXT)["id"])
    with Socket(user) as live:
        live.subscribe("account")
        job = user.submit("text", TEXT, model="clerk")["id"]
        live.say(subscribe=[job])
        heard = []
        while not any(message.get("type") == "job.completed" for message in heard):
            heard.append(live.hear())
        ids = [message["id"] for message in heard if message.get("id", "").startswith("evt_")]
        assert len(ids) == len(set(ids)) and ids == sorted(ids)


def test_what_is_unsubscribed_is_told_no_more(user):
    user.completed(user.submit("text", TEXT)["id"])
    with Socket(user) as live:
        job = user.submit("text", TEXT, model="sleeper")["id"]
        live.subscribe("account", job)
        live.say(unsubscribe=["account"])
        answer = {}
        while answer.get("object") != "subscription":
            answer = live.hear()
        assert answer["subjects"] == [job]
        other = user.completed(user.submit("text", TEXT)["id"])["id"]
        user.delete(f"/api/jobs/{job}")
        assert other not in {event["subject"] for event in live.until_end(job)}
        assert live.ask(unsubscribe=[job]) == {"object": "subscription", "subjects": [], "last_event_id": None}


# --- Resuming


def test_who_comes_back_misses_nothing_and_hears_nothing_twice(user):
    user.completed(user.submit("text", TEXT)["id"])
    with Socket(user) as live:
        begun = live.subscribe("account")["last_event_id"]
        jobs = [user.submit("text", TEXT)["id"] for _ in range(4)]
        seen = live.until_end(*jobs)
    ids = [event["id"] for event in seen]
    assert ids == sorted(set(ids))
    for cut in (0, len(ids) // 2, len(ids) - 2):
        with Socket(user) as live:
            live.subscribe("account", after=ids[cut])
            again = [live.hear()["id"] for _ in ids[cut + 1:]]
        assert again == ids[cut + 1:]
    with Socket(user) as live:  # who saw nothing at all comes back to where it began
        live.subscribe("account", after=begun)
        assert [live.hear()["id"] for _ in ids] == ids


def test_several_jobs_are_resumed_in_one_order(user):
    jobs = [user.completed(user.submit("text", TEXT)["id"])["id"] for _ in range(3)]
    with Events(user, "/api/events", last_event_id="evt_0000000000001") as stream:
        everything = []
        for event_id, kind, event in stream:
            everything.append((event_id, event["subject"]))
            if kind in END and event["subject"] == jobs[-1]:
                break
    wanted = [(event_id, subject) for event_id, subject in everything if subject != jobs[1]]
    with Socket(user) as live:
        live.subscribe(jobs[0], jobs[2], after=wanted[0][0])
        told = [live.hear() for _ in wanted[1:]]
    assert [(event["id"], event["subject"]) for event in told] == wanted[1:]


def test_a_socket_that_is_cut_in_the_middle_is_resumed_while_jobs_run(user):
    """Reconnects after every few events, while the jobs run: together they heard what one that stayed did."""
    user.completed(user.submit("text", TEXT)["id"])
    with Socket(user) as steady:
        last = steady.subscribe("account")["last_event_id"]
        jobs = [user.submit("text", TEXT, model="hermit")["id"] for _ in range(12)]
        heard, left = [], set(jobs)
        while left:
            with Socket(user) as live:
                live.subscribe("account", after=last)
                for _ in range(3):
                    event = live.hear()
                    heard.append(event)
                    last = event["id"]
                    if event["type"] in END:
                        left.discard(event["subject"])
                    if not left:
                        break
                live.raw.sock.close()
        assert heard == steady.until_end(*jobs)[:len(heard)]


def test_a_slow_reader_is_told_where_to_resume(server, user):
    large = [user.submit("text", TEXT, metadata={"note": "x" * 12_000})["id"] for _ in range(99)]
    user.completed(large[-1])
    slow = Socket(user)
    begun = slow.subscribe("account")["last_event_id"]
    for _ in range(6):  # states of 12 kB each: more than the sockets' buffers hold, and nobody reads
        slow.say(subscribe=large)
        slow.say(unsubscribe=large)
    made = submitted(server, user.account, 400)  # three events each
    for job in made:
        user.completed(job)
    code, reason, texts = slow.closed()
    slow.raw.close()
    error = texts.pop()["error"]
    told = [event for event in texts if event.get("id", "").startswith("evt_") and event["subject"] in made]
    assert code == 1013 and reason == f"resume after {error['resume_after']}"
    assert error["code"] == "unavailable" and error["resume_after"] == told[-1]["id"] > begun
    ended = {event["subject"] for event in told if event["type"] in END}
    assert ended < set(made), "it missed some"
    with Socket(user) as again:
        again.subscribe("account", after=error["resume_after"])
        rest = again.until_end(*set(made) - ended)
    ids = [event["id"] for event in told + rest]
    assert ids == sorted(set(ids)), "nothing is told twice, and all in order"


# --- Who may be told what


def test_two_accounts_do_not_hear_of_each_other(server):
    one, two = server.client(account=unique()), server.client(account=unique())
    for client in (one, two):
        client.completed(client.submit("text", TEXT)["id"])
    with Socket(one) as first, Socket(two) as second:
        first.subscribe("account")
        second.subscribe("account")
        jobs = [(one.submit("text", TEXT)["id"], two.submit("text", TEXT)["id"]) for _ in range(5)]
        ones, twos = {job for job, _ in jobs}, {job for _, job in jobs}
        assert {event["subject"] for event in first.until_end(*ones)} == ones
        assert {event["subject"] for event in second.until_end(*twos)} == twos
    one.close()
    two.close()


def test_another_accounts_job_is_not_there(server, user):
    stranger = server.client(account=unique())
    own = user.submit("text", TEXT)["id"]
    other = stranger.submit("text", TEXT)["id"]
    for after in ({}, {"after": "evt_0000000000001"}):
        with Socket(user) as live:
            answer = live.ask(subscribe=[own, other], **after)
            assert answer["error"]["code"] == "not_found" and answer["error"]["param"] == "subscribe[1]"
            assert answer["error"]["doc_url"] == "/docs#error-not_found"
            assert live.ask(unsubscribe=[own])["subjects"] == [], "of a message that is refused nothing holds"
    stranger.close()


def test_an_operator_hears_of_everybody(server, admin, user):
    with Socket(admin) as live:
        live.subscribe("account")
        job = user.submit("text", TEXT)["id"]
        assert any(event["subject"] == job for event in live.until_end(job))


def test_a_ticket_opens_a_socket_of_its_account(server, user):
    job = user.submit("text", TEXT)["id"]
    ticket = user.post("/api/tickets").json["ticket"]
    nobody = Client(server.port, key=None)
    with Socket(nobody, f"?ticket={ticket}") as live:
        live.subscribe(job)
        assert live.until_end(job)[-1]["type"] == "job.completed"
        stranger = server.client(account=unique())
        other = stranger.submit("text", TEXT)["id"]
        assert live.ask(subscribe=[other])["error"]["code"] == "not_found"
        stranger.close()
    assert refused(nobody).status_code == 401
    assert refused(nobody, "?ticket=tkt_nonsense").status_code == 401
    assert refused(Client(server.port, key="tp_wrong")).status_code == 401


def test_a_workers_key_opens_no_socket(server, admin):
    key = admin.post("/api/admin/keys", {"role": "worker"}).json["key"]
    assert refused(server.client(key=key)).status_code == 403


def test_pages_of_other_origins_may_not_open_a_socket(tmp_path):
    with Server(tmp_path, configuration(server={"origins": ["https://app.example"]})) as server:
        client = server.client(account=unique())
        assert refused(client, origin="https://evil.example").status_code == 403
        assert refused(client, origin="null").status_code == 403
        for origin in ("https://app.example", f"http://127.0.0.1:{server.port}", None):
            with Socket(client, origin=origin) as live:
                live.subscribe("account")


# --- Mistakes


def test_a_mistake_is_told_and_the_socket_stays(user):
    job = user.submit("text", TEXT)["id"]
    with Socket(user) as live:
        for text, param in (("nonsense", "message"), ("[1]", "message"), ("{}", "subscribe"),
                            ('{"subscribe":["everything"]}', "subscribe[0]"),
                            ('{"subscribe":["batch_0000000000001"]}', "subscribe[0]"),
                            ('{"subscribe":["account"],"after":"yesterday"}', "after"),
                            ('{"subscribe":["account"],"since":1}', "since")):
            live.raw.send(text)
            error = live.hear()["error"]
            assert error["param"] == param and error["type"] == "invalid_request_error", (text, error)
            assert error["code"] == "invalid_request" and error["message"] and error["doc_url"]
        live.subscribe(job)
        assert live.until_end(job)
        live.raw.send(json.dumps({"subscribe": ["account"], "after": "evt_0000000000001"}))
        assert live.hear()["error"]["code"] == "conflict", "one order of ids for the whole socket"


def test_what_is_no_handshake_is_told_what_is_missing(user):
    answer = user.get("/api/ws")
    assert answer.status == 426 and answer.error["param"] == "Upgrade"
    assert answer.headers["Upgrade"] == "websocket" and answer.headers["Sec-WebSocket-Version"] == "13"
    assert refused(user, "?subscribe=account").status_code == 400


# --- Limits


def test_sockets_subscriptions_and_messages_are_bounded(tmp_path):
    limits = {"sockets": 3, "sockets_per_account": 2, "socket_subscriptions": 2, "socket_message_bytes": 1024}
    with Server(tmp_path, configuration(server={"limits": limits})) as server:
        users = [server.client(account=unique()) for _ in range(2)]
        jobs = [users[0].submit("text", TEXT)["id"] for _ in range(3)]
        users[1].submit("text", TEXT)
        with Socket(users[0]) as one, Socket(users[0]):
            assert refused(users[0]).status_code == 429
            with Socket(users[1]):
                assert refused(server.client()).status_code == 503
                metrics = server.client().get("/metrics").body.decode()
                assert "turnpike_websockets_open 3\n" in metrics
            one.subscribe(*jobs[:2])
            one.until_end(*jobs[:2])
            error = one.ask(subscribe=[jobs[2]])["error"]
            assert error["code"] == "limit_exceeded" and error["param"] == "subscribe"
            one.raw.send(json.dumps({"subscribe": ["x" * 1024]}))
            code, reason, _ = one.closed()
            assert code == 1009 and "1024 bytes" in reason
        until(lambda: "turnpike_websockets_open 0\n" in server.client().get("/metrics").body.decode(), "all to close")


def test_breaches_of_the_protocol_have_their_codes(user):
    def code_after(send):
        with Socket(user) as live:
            send(live.raw)
            return live.closed()[0]
    assert code_after(lambda raw: raw.send_binary(b"x")) == 1003
    assert code_after(lambda raw: raw.send(b"\xff", websocket.ABNF.OPCODE_TEXT)) == 1007
    assert code_after(lambda raw: raw.sock.sendall(b"\x81\x02hi")) == 1002


def test_a_peer_that_does_not_answer_pings_is_closed(tmp_path):
    config = configuration(providers={"slow": sandbox("2500ms")}, models={"sleeper": ("text", "slow")},
                           server={"idle_timeout": "1s"})
    with Server(tmp_path, config) as server:
        user = server.client(account=unique())
        with Socket(user) as silent:
            ping, close = silent.raw.recv_frame(), silent.raw.recv_frame()  # which answer nothing, unlike recv()
            assert ping.opcode == websocket.ABNF.OPCODE_PING and close.opcode == websocket.ABNF.OPCODE_CLOSE
            assert struct.unpack("!H", close.data[:2])[0] == 1008
        job = user.submit("text", TEXT)["id"]
        with Socket(user) as answering:
            answering.subscribe(job)
            assert answering.until_end(job)[-1]["type"] == "job.completed"
        user.close()


# --- The end


def test_a_server_that_stops_says_so(tmp_path):
    with Server(tmp_path, configuration(providers={"slow": sandbox("30s")}, models={"sleeper": ("text", "slow")},
                                        server={"drain_timeout": "0s"})) as server:
        user = server.client(account=unique())
        job = user.submit("text", TEXT)["id"]
        with Socket(user) as live, Socket(user) as idle:
            live.subscribe(job, "account")
            server.signal(signal.SIGTERM)
            for one in (live, idle):
                code, reason, _ = one.closed()
                assert code == 1001 and reason == "the server is stopping"
                one.raw.close()
            assert server.left() == 0, server.output()


def test_a_client_that_closes_gets_its_close_back(user):
    live = Socket(user)
    live.subscribe("account")
    live.raw.send_close(4001, b"enough")
    code, reason, _ = live.closed()
    assert code == 4001
    live.raw.close()


def test_readers_that_leave_disturb_nobody(server, user):
    job = user.submit("text", TEXT, model="clerk")["id"]
    for i in range(20):
        live = Socket(user)
        live.subscribe(job)
        live.raw.sock.shutdown(socket.SHUT_RDWR) if i % 2 else live.raw.close()
    assert user.completed(job)["status"] == "completed"
    until(lambda: "turnpike_websockets_open 0\n" in server.client().get("/metrics").body.decode(), "all to leave")


def test_sockets_work_over_tls(tmp_path, certificate):
    key, chain = certificate
    config = configuration(server={"tls": {"certificate": str(chain), "key": str(key)}})
    with Server(tmp_path / "server", config) as server:
        user = server.client(account=unique(), tls=tls_context(chain))
        job = user.submit("text", TEXT)["id"]
        with Socket(user) as live:
            live.subscribe(job)
            assert live.until_end(job)[-1]["type"] == "job.completed"
            for _ in range(30):
                live.say(subscribe=["nothing", "of", "the", "kind"] * 20)
            assert [live.hear()["error"]["param"] for _ in range(30)] == ["subscribe[0]"] * 30
