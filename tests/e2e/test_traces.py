"""Seen from outside: the line that each request leaves in the log, and the trace that it belongs to."""

import http.server
import json
import secrets
import socket
import threading

import pytest

from gateway import CHAT, KEYS, PRICE, Stream, cost, on_plan, question, remote, routed, said
from support import ADMIN_KEY, WAIT_SECONDS, Server, Upstream, configuration, sandbox, unique, until

COLLECTOR_KEY = "the-key-of-the-collector"
SERVER, INTERNAL, CLIENT = 2, 1, 3  # kinds of span


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans as an OpenTelemetry collector does, and keeps them."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Receiver)
        self.requests = []  # (path, headers, body)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def resources(self):
        return [resource for _, _, body in list(self.requests) for resource in body["resourceSpans"]]

    def spans(self, trace=None):
        found = [span for resource in self.resources() for scope in resource["scopeSpans"] for span in scope["spans"]]
        return [span for span in found if trace in (None, span["traceId"])]

    def trace(self, trace, count):
        """Waits for so many spans of a trace: by kind, in the order of their beginnings."""
        spans = until(lambda: found if len(found := self.spans(trace)) >= count else None, f"{count} spans of {trace}")
        assert len(spans) == count, spans
        return sorted(spans, key=lambda span: (int(span["startTimeUnixNano"]), span["kind"] != SERVER))

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def attributes(span):
    """Names to values, in whatever clothes these come."""
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def traceparent(sampled=True):
    """A client's header, and its two ids."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return {"traceparent": f"00-{trace}-{span}-{'01' if sampled else '00'}"}, trace, span


def settings(first, second, endpoint=None, sample="0%"):
    made = configuration(
        providers={"first": remote(first), "second": remote(second), "quick": sandbox()},
        models={}, prices={"first": {"default": PRICE}, "second": {"default": PRICE}},
        plans={"metered": {"priority_class": "standard"}, "mute": {"priority_class": "low", "tasks": []}},
        endpoints=[{"path": "/say", "task": "speech", "wait": "20s"}])
    made["models"] = routed("parrot", "first", "second") | {"narrator": {"task": "speech", "providers": ["quick"]}}
    if endpoint:
        made["telemetry"] = {"otlp": {"endpoint": endpoint, "sample": sample, "service_name": "gateway-of-the-test",
                                      "headers": {"Authorization": "Bearer ${env:COLLECTOR_KEY}"}}}
    return made


@pytest.fixture(scope="module")
def upstreams():
    with Upstream() as first, Upstream() as second:
        yield first, second


@pytest.fixture(scope="module")
def collector():
    with Collector() as made:
        yield made


def run(home, config):
    return Server(home, config, environment={**KEYS, "COLLECTOR_KEY": COLLECTOR_KEY})


@pytest.fixture(scope="module")
def traced(tmp_path_factory, upstreams, collector):
    with run(tmp_path_factory.mktemp("traced"), settings(*upstreams, collector.url)) as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory, upstreams):
    """Without telemetry, as it is unless somebody wants it."""
    with run(tmp_path_factory.mktemp("plain"), settings(*upstreams)) as running:
        yield running


@pytest.fixture
def prompt():
    return unique("prompt")


# --- The line of a request


def test_a_call_leaves_one_line_with_everything_but_its_content(plain, upstreams, prompt):
    upstreams[0].rule(prompt=prompt, text="an answer that is nobody's business")
    client = on_plan(plain, "metered")
    header, trace, _ = traceparent()
    name = unique("req")
    body = question(prompt)
    answer = client.post(CHAT, body, {**header, "x-request-id": name})
    assert answer.status == 200 and answer.headers["x-request-id"] == name
    line = plain.logged("request", request=name)
    expected = {"level": "info", "method": "POST", "path": CHAT, "status": 200, "plan": "metered", "task": "text",
                "model_asked": "parrot", "model": "parrot", "version": "1", "provider": "first", "stream": False,
                "tokens_in": answer.json["usage"]["prompt_tokens"], "tokens_out": answer.json["usage"]["completion_tokens"],
                "cost_usd": answer.headers["turnpike-cost-usd"], "bytes_in": len(json.dumps(body)),
                "bytes_out": len(answer.body), "trace": trace}
    assert {key: line.get(key) for key in expected} == expected
    assert line["account"].startswith("acct_") and line["key"].startswith("key_") and line["job"].startswith("job_")
    assert 0 <= line["queue_ms"] <= line["duration_ms"] and 0 < line["upstream_ms"] <= line["duration_ms"]
    assert 0 < line["overhead_us"] <= 1000 * line["duration_ms"]
    assert "error" not in line and "ttft_ms" not in line
    assert len([each for each in plain.log("request") if each["request"] == name]) == 1
    assert not [each for each in plain.log("job.started") if each["job"] == line["job"]], "the line says it all"


def test_a_stream_leaves_its_line_at_its_end(plain, upstreams, prompt):
    upstreams[0].rule(prompt=prompt, step=prompt, tokens=2)
    client = on_plan(plain, "metered")
    name = unique("req")
    with Stream(client, question(prompt), headers={"x-request-id": name}) as stream:
        upstreams[0].step(prompt)
        assert stream.token() == "t0"
        assert not [each for each in plain.log("request") if each["request"] == name]
        upstreams[0].step(prompt)
        assert stream.rest()[-1] == "[DONE]"
    line = plain.logged("request", request=name, status=200, stream=True, provider="first")
    assert line["tokens_out"] == 2 and line["cost_usd"] not in ("", "0")
    assert 0 < line["ttft_ms"] <= line["duration_ms"] and 0 < line["upstream_ms"] and line["bytes_out"] > 100
    assert "error" not in line


def test_a_stream_that_was_left_says_so(plain, upstreams, prompt):
    upstreams[0].rule(prompt=prompt, step=prompt, tokens=50)
    name = unique("req")
    with Stream(on_plan(plain, "metered"), question(prompt), headers={"x-request-id": name}) as stream:
        upstreams[0].step(prompt)
        assert stream.token() == "t0"
    upstreams[0].step(prompt, None)
    line = plain.logged("request", request=name, error="client_left")
    assert line["stream"] and line["provider"] == "first" and "cost_usd" not in line


def test_a_refusal_and_a_failure_leave_their_lines(plain, upstreams, prompt):
    refused = on_plan(plain, "mute").post(CHAT, question(prompt))
    line = plain.logged("request", request=refused.headers["x-request-id"])
    assert line["status"] == refused.status == 404 and refused.error["code"] == "model_not_found"
    assert line["error"] == "model_not_allowed", "in our words, which tell more than OpenAI's"
    assert line["plan"] == "mute" and line["model_asked"] == "parrot" and "provider" not in line
    for upstream in upstreams:
        upstream.rule(prompt=prompt, status=500)
    failed = on_plan(plain, "metered").post(CHAT, question(prompt))
    line = plain.logged("request", request=failed.headers["x-request-id"])
    assert line["status"] == failed.status == 502 and line["failure"] == "transient" and line["error"]
    unknown = plain.client(key="tp_of-nobody").post(CHAT, question(prompt))
    line = plain.logged("request", request=unknown.headers["x-request-id"])
    assert line["status"] == 401 and line["error"] == "invalid_api_key" and line["key"] == "anonymous"


def test_an_endpoint_that_runs_a_task_leaves_a_line_and_other_requests_none(plain):
    client = on_plan(plain, "metered")
    answer = client.post("/say", {"text": "Good morning."})
    assert answer.status == 200
    line = plain.logged("request", request=answer.headers["x-request-id"])
    assert line["path"] == "/say" and line["job"] == answer.json["id"] and line["provider"] == "quick"
    shown = client.get(f"/api/jobs/{answer.json['id']}")
    assert client.post("/say", {"text": "And again."}).status == 200
    assert not [each for each in plain.log("request") if each["request"] == shown.headers["x-request-id"]]


def test_no_prompt_answer_or_key_is_ever_in_the_log(plain, traced, collector):
    """After all that the tests above have said."""
    for server in (plain, traced):
        client = on_plan(server, "metered")
        words = unique("never-to-be-seen")
        assert client.post(CHAT, question(words)).status == 200
        with Stream(client, question(words), headers=traceparent()[0]) as stream:
            assert words in said(stream.rest())
        until(lambda: len(server.log("request")) >= 2, "the lines")
        seen = server.output() + json.dumps([body for _, _, body in collector.requests])
        for secret in (words, "nobody's business", "Good morning", ADMIN_KEY, COLLECTOR_KEY, *KEYS.values()):
            assert secret not in seen.replace("first admin key, shown this once: " + ADMIN_KEY, ""), secret


# --- Traces


def test_a_call_is_a_trace_that_goes_on_upstream(traced, upstreams, collector, prompt):
    client = on_plan(traced, "metered")
    header, trace, parent = traceparent()
    answer = client.post(CHAT, question(prompt), header)
    assert answer.status == 200
    own, queue, asked = collector.trace(trace, 3)
    assert (own["kind"], queue["kind"], asked["kind"]) == (SERVER, INTERNAL, CLIENT)
    assert own["parentSpanId"] == parent and queue["parentSpanId"] == asked["parentSpanId"] == own["spanId"]
    assert upstreams[0].ended(prompt=prompt)["headers"]["traceparent"] == f"00-{trace}-{asked['spanId']}-01"
    assert own["name"] == f"POST {CHAT}" and asked["name"] == "chat parrot" and queue["name"] == "queue"
    told = attributes(own)
    usage = answer.json["usage"]
    expected = {"http.request.method": "POST", "http.route": CHAT, "http.response.status_code": "200",
                "gen_ai.operation.name": "chat", "gen_ai.request.model": "parrot", "gen_ai.response.model": "parrot",
                "gen_ai.provider.name": "first", "gen_ai.usage.input_tokens": str(usage["prompt_tokens"]),
                "gen_ai.usage.output_tokens": str(usage["completion_tokens"]), "turnpike.plan": "metered",
                "turnpike.cost_usd": str(cost(usage["prompt_tokens"], usage["completion_tokens"])),
                "turnpike.request": answer.headers["x-request-id"]}
    assert {key: told.get(key) for key in expected} == expected
    assert attributes(asked)["gen_ai.provider.name"] == "first" and "error.type" not in attributes(asked)
    assert own["status"] == asked["status"] == {}
    for child in (queue, asked):
        assert int(own["startTimeUnixNano"]) <= int(child["startTimeUnixNano"])
        assert int(child["startTimeUnixNano"]) <= int(child["endTimeUnixNano"]) <= int(own["endTimeUnixNano"])


def test_what_the_collector_gets_is_otlp(traced, collector, prompt):
    header, trace, _ = traceparent()
    assert on_plan(traced, "metered").post(CHAT, question(prompt), header).status == 200
    collector.trace(trace, 3)
    path, headers, body = collector.requests[-1]
    assert path == "/v1/traces" and headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == f"Bearer {COLLECTOR_KEY}"
    resource = {each["key"]: each["value"]["stringValue"] for each in body["resourceSpans"][0]["resource"]["attributes"]}
    assert resource["service.name"] == "gateway-of-the-test" and resource["service.version"]
    metrics = traced.client().get("/metrics").body.decode()
    assert 'turnpike_trace_spans_total{outcome="dropped"} 0' in metrics
    until(lambda: 'turnpike_trace_spans_total{outcome="sent"} 0' not in traced.client().get("/metrics").body.decode(),
          "spans that were taken")


def test_a_stream_is_a_trace_too(traced, upstreams, collector, prompt):
    header, trace, parent = traceparent()
    with Stream(on_plan(traced, "metered"), question(prompt), headers=header) as stream:
        assert stream.rest()[-1] == "[DONE]"
    own, _, asked = collector.trace(trace, 3)
    assert own["parentSpanId"] == parent and attributes(own)["gen_ai.usage.output_tokens"] == "3"
    assert attributes(own)["turnpike.time_to_first_token"] > 0
    assert asked["spanId"] in upstreams[0].ended(prompt=prompt)["headers"]["traceparent"]
    assert traced.logged("request", trace=trace)["stream"]


def test_each_try_is_a_span_with_why_it_failed(traced, upstreams, collector, prompt):
    upstreams[0].rule(prompt=prompt, status=500)
    header, trace, _ = traceparent()
    assert on_plan(traced, "metered").post(CHAT, question(prompt), header).status == 200
    tries = [span for span in collector.trace(trace, 4) if span["kind"] == CLIENT]
    assert [attributes(each)["gen_ai.provider.name"] for each in tries] == ["first", "second"]
    assert attributes(tries[0])["error.type"] == "transient" and tries[0]["status"] == {"code": 2, "message": "transient"}
    assert "error.type" not in attributes(tries[1])
    for upstream, each in zip(upstreams, tries):
        assert upstream.ended(prompt=prompt)["headers"]["traceparent"] == f"00-{trace}-{each['spanId']}-01"


def test_what_is_not_sampled_is_not_exported(traced, upstreams, collector, prompt):
    """The client's word counts; without one, no trace begins here, for the share is 0%."""
    client = on_plan(traced, "metered")
    header, trace, _ = traceparent(sampled=False)
    assert client.post(CHAT, question(prompt), header).status == 200
    assert upstreams[0].ended(prompt=prompt)["headers"]["traceparent"] == header["traceparent"]
    other = unique("prompt")
    assert client.post(CHAT, question(other)).status == 200
    assert "traceparent" not in upstreams[0].ended(prompt=other)["headers"]
    last, marked, _ = traceparent()
    assert client.post(CHAT, question(unique("prompt")), last).status == 200
    collector.trace(marked, 3)
    assert collector.spans(trace) == []
    assert "trace" not in traced.logged("request", request=client.post(CHAT, question(other)).headers["x-request-id"])


def test_traces_begin_here_where_the_configuration_says_so(tmp_path, upstreams, collector, prompt):
    with run(tmp_path, settings(*upstreams, collector.url, "100%")) as server:
        answer = on_plan(server, "metered").post(CHAT, question(prompt))
        trace = server.logged("request", request=answer.headers["x-request-id"])["trace"]
        server.stop()
        own, _, asked = collector.trace(trace, 3)  # what waits is sent before the end
        assert "parentSpanId" not in own
        assert upstreams[0].ended(prompt=prompt)["headers"]["traceparent"] == f"00-{trace}-{asked['spanId']}-01"


@pytest.mark.parametrize("spoil", [lambda good: good.upper(), lambda good: "ff" + good[2:], lambda good: good + "-x",
                                   lambda good: good[:-3], lambda good: "00-" + "0" * 32 + good[35:]])
def test_a_header_that_is_not_valid_is_as_if_it_were_not_there(traced, upstreams, prompt, spoil):
    header = spoil(traceparent()[0]["traceparent"])
    assert on_plan(traced, "metered").post(CHAT, question(prompt), {"traceparent": header}).status == 200
    assert "traceparent" not in upstreams[0].ended(prompt=prompt)["headers"]


def test_without_telemetry_the_clients_trace_is_passed_on(plain, upstreams, prompt):
    header, _, _ = traceparent()
    client = on_plan(plain, "metered")
    assert client.post(CHAT, question(prompt), header).status == 200
    assert upstreams[0].ended(prompt=prompt)["headers"]["traceparent"] == header["traceparent"]
    other = unique("prompt")
    assert client.post(CHAT, question(other)).status == 200
    assert "traceparent" not in upstreams[0].ended(prompt=other)["headers"]


def test_a_collector_that_is_away_or_hangs_fails_nothing_and_holds_nothing_up(tmp_path, upstreams):
    hanging = socket.create_server(("127.0.0.1", 0))  # takes connections, and never answers
    nobody = socket.create_server(("127.0.0.1", 0))
    away = nobody.getsockname()[1]
    nobody.close()
    for turn, port in enumerate((away, hanging.getsockname()[1])):
        with run(tmp_path / str(turn), settings(*upstreams, f"http://127.0.0.1:{port}", "100%")) as server:
            client = on_plan(server, "metered")
            for _ in range(20):
                assert client.post(CHAT, question(unique("prompt"))).status == 200
            if port == away:
                server.logged("traces.not_sent")
                failures = client.acting_for(None).get("/metrics").body.decode()
                assert "turnpike_trace_export_failures_total 0" not in failures
            server.signal(15)
            assert server.left(WAIT_SECONDS) == 0, server.output()
    hanging.close()
