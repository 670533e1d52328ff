"""Versions of the policy are shown, compared and rolled back; the audit behind them cannot be changed unseen."""

import sqlite3

import pytest

from support import Server, turnpike
from test_policy import two_at_a_time


@pytest.fixture
def own(tmp_path):
    with Server(tmp_path, two_at_a_time()) as running:
        yield running


def apply(own, limit, reason=""):
    own.configure(two_at_a_time(limit))
    done = turnpike("apply", "--config", own.config_file, "--data", own.data, "--reason", reason)
    assert done.returncode == 0, done.stderr


def ask(own, *arguments):
    return turnpike(*arguments, "--data", own.data)


def limit_in_force(own):
    plans = {plan["name"]: plan for plan in own.client().get("/api/admin/plans").json["data"]}
    return plans["tier1"]["limits"]["concurrent_jobs"]


def test_B9_a_version_is_listed_shown_compared_and_rolled_back(own):
    first = own.config_file.read_text()
    apply(own, 7, "more for tier1")
    assert limit_in_force(own) == 7
    listed = ask(own, "policy", "list").stdout.splitlines()
    assert len(listed) == 2 and listed[0].split()[0] == "2" and listed[0].endswith("more for tier1")
    assert ask(own, "policy", "show", "1").stdout == first
    changed = [line for line in ask(own, "policy", "diff", "2").stdout.splitlines() if line[:1] in "+-"]
    assert any(line.startswith("+") and "7" in line for line in changed)
    assert len([line for line in changed if line[:3] not in ("---", "+++")]) == 2, changed
    backwards = ask(own, "policy", "diff", "1", "2").stdout
    assert any(line.startswith("-") and "7" in line for line in backwards.splitlines())
    back = ask(own, "policy", "rollback", "1", "--reason", "too much")
    assert back.returncode == 0 and "version 3" in back.stdout
    assert limit_in_force(own) == 1 and ask(own, "policy", "show", "3").stdout == first
    newest = own.client().get("/api/admin/policy/versions").json["data"][0]
    assert newest["version"] == 3 and newest["reason"] == "roll back to version 1: too much"


def test_a_version_that_is_not_there_is_said(own):
    for arguments in (("show", "9"), ("diff", "9"), ("diff", "1", "9"), ("rollback", "9")):
        answer = ask(own, "policy", *arguments)
        assert answer.returncode == 1 and "version 9" in answer.stderr, arguments
    assert ask(own, "policy", "show", "0").returncode == 2
    refused = own.client().post("/api/admin/policy/rollback", {"version": "1", "reason": ""})
    assert refused.status == 400 and refused.error["param"] in ("version", "reason")


def test_what_no_longer_reads_is_not_rolled_back_to(own):
    apply(own, 7)
    own.stop()
    with sqlite3.connect(own.data / "journal.db") as database:
        database.execute("UPDATE policy_versions SET text = text || 'colour: blue\n' WHERE version = 1")
    own.start()
    refused = ask(own, "policy", "rollback", "1")
    assert refused.returncode == 3 and "colour" in refused.stderr
    assert limit_in_force(own) == 7


def test_B9_the_audit_names_who_did_what_and_what_was_tampered_with(own):
    apply(own, 7, "more")
    apply(own, 8)
    rows = own.client().get("/api/admin/audit").json["data"]
    assert [row["number"] for row in rows] == sorted((row["number"] for row in rows), reverse=True)
    assert all(row["actor"] and row["action"] and len(row["hash"]) == 64 for row in rows)
    page = own.client().get(f"/api/admin/audit?limit=1&starting_after={rows[0]['number']}").json
    assert page["data"] == rows[1:2] and page["has_more"]
    verified = ask(own, "audit", "verify")
    assert verified.returncode == 0 and "everything agrees" in verified.stdout
    assert f"{rows[0]['number']}:{rows[0]['hash']}" in verified.stdout, "the head is the newest row"
    own.stop()
    with sqlite3.connect(own.data / "journal.db") as database:
        with pytest.raises(sqlite3.IntegrityError, match="only appended to"):
            database.execute("UPDATE audit SET actor = 'nobody' WHERE id = 2")
        for (trigger,) in database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'").fetchall():
            database.execute(f"DROP TRIGGER {trigger}")
        database.execute("UPDATE audit SET actor = 'nobody' WHERE id = 2")
    tampered = ask(own, "audit", "verify")
    assert tampered.returncode == 1 and "2" in tampered.stdout and "agrees" not in tampered.stdout
