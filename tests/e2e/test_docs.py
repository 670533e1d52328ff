"""What is written down is what is served: openapi.yaml, the reference page, the README's lines."""

import json
import re
import subprocess

import yaml

from support import BINARY, ROOT, Client, Server, turnpike

README_FENCE = re.compile(r"^```sh\n# try\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Runs as `curl` does, and keeps each answer with its status.
CURL = """
curl() {
  local answer
  answer=$(mktemp "$ANSWERS/XXXXXX")
  command curl --max-time 60 --write-out '%{http_code}' --output "$answer" "$@" > "$answer.status" || return
  cat "$answer"
}
"""


def test_the_readmes_lines_work_as_printed(tmp_path):
    blocks = README_FENCE.findall((ROOT / "README.md").read_text())
    assert len(blocks) >= 3
    answers = tmp_path / "answers"
    answers.mkdir()
    with Server(tmp_path / "home", (ROOT / "presets/dev.yaml").read_text()) as server:
        script = CURL + "".join(blocks)
        for printed, here in (("build/turnpike", str(BINARY)), ("http://127.0.0.1:8080", f"http://127.0.0.1:{server.port}"),
                              ("--data data", f"--data {server.data}")):
            assert printed in script
            script = script.replace(printed, here)
        done = subprocess.run(["bash", "-e", "-c", script], cwd=ROOT, env={"PATH": "/usr/bin:/bin", "ANSWERS": str(answers)},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done
        server.stop()
    got = sorted(path for path in answers.iterdir() if path.suffix == ".status")
    assert len(got) == script.count("curl -s ")
    objects = set()
    for path in got:
        assert path.read_text().startswith("2"), (path.read_text(), path.with_suffix("").read_text())
        objects.add(json.loads(path.with_suffix("").read_text())["object"])
    assert objects >= {"job", "why", "chat.completion"}


def test_the_readmes_way_to_change_a_limit_works(tmp_path):
    command = "apply --config presets/dev.yaml --data data"
    assert f"build/turnpike {command}" in (ROOT / "README.md").read_text().replace("\n", " ")
    with Server(tmp_path, (ROOT / "presets/dev.yaml").read_text()) as server:
        done = turnpike(*command.replace("--data data", f"--data {server.data}").split(), cwd=ROOT)
        assert done.returncode == 0, done
        server.stop()


def contract(server):
    answer = server.client(key=None).get("/openapi.yaml")
    assert answer.status == 200
    assert answer.body.decode() == (ROOT / "api/openapi.yaml").read_text(), "built from the file in the repository"
    return yaml.safe_load(answer.body)


def test_every_documented_operation_is_served(server, admin):
    document = contract(server)
    assert document["openapi"].startswith("3.1") and len(document["paths"]) >= 20
    for path, item in document["paths"].items():
        concrete = re.sub(r"\{[^}]*\}", "nothing", path)
        for method in set(item) & {"get", "post", "put", "patch", "delete"}:
            if (method, path) == ("get", "/api/events"):
                continue  # a stream without an end
            answer = admin.request(method.upper(), concrete)
            assert answer.status != 405, (method, path)
            assert b"there is nothing at" not in answer.body, (method, path)
            assert str(answer.status) in item[method]["responses"] or "default" in item[method]["responses"], (
                method, path, answer.status)


def resolve(document, schema):
    while "$ref" in schema:
        found = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def test_a_job_has_the_documented_fields_and_no_other(server, user):
    document = contract(server)
    response = document["paths"]["/api/jobs/{id}"]["get"]["responses"]["200"]
    schema = resolve(document, resolve(document, response)["content"]["application/json"]["schema"])
    job = user.completed(user.submit("text", {"prompt": "x"})["id"])
    assert set(job) == set(schema["properties"])


def test_the_reference_page_shows_every_path_and_needs_nothing_from_elsewhere(server):
    page = Client(server.port, key=None).get("/docs")
    assert page.status == 200 and page.headers["Content-Type"].startswith("text/html")
    text = page.body.decode()
    for path in contract(server)["paths"]:
        assert path in text, path
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text)
