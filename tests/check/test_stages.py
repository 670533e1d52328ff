"""What scripts/test counts: a stage that gives no verdict is a failure, never a success."""

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CTEST = """<testsuite>
<testcase name="unit/a/Good" status="run"/>
<testcase name="unit/a/Bad" status="fail"><failure message="Failed"/><system-out>expected 1</system-out></testcase>
<testcase name="unit/a/Left" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/></testcase>
<testcase name="unit_b_NOT_BUILT" status="notrun"><skipped message="Unable to find executable"/></testcase>
</testsuite>"""
PYTEST = """<testsuites><testsuite>
<testcase classname="tests.e2e.a" name="test_good"/>
<testcase classname="tests.e2e.a" name="test_bad"><failure message="no">assert 1 == 2</failure></testcase>
<testcase classname="tests.e2e.a" name="test_broken"><error message="fixture">boom</error></testcase>
</testsuite></testsuites>"""


@pytest.fixture(name="script")
def load_script(tmp_path):
    """scripts/test as a module, with its folders in a place of the test's own."""
    loader = SourceFileLoader("stages", str(ROOT / "scripts/test"))
    spec = importlib.util.spec_from_loader("stages", loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["stages"] = module  # dataclasses look their module up
    loader.exec_module(module)
    module.ROOT = tmp_path
    module.REPORT = tmp_path
    return module


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_counts_a_report_of_ctest_and_takes_what_did_not_run_for_a_failure(script, tmp_path, capsys):
    report = tmp_path / "a.xml"
    report.write_text(CTEST)
    stage = script.Stage("unit", 10)
    stage.count_report(report, 8, "ctest")
    assert (stage.tally.passed, stage.tally.failed, stage.tally.skipped) == (1, 2, ["unit/a/Left"])
    said = capsys.readouterr().out
    assert "FAILED unit/a/Bad\nexpected 1" in said and "FAILED unit_b_NOT_BUILT" in said


def test_counts_a_report_of_pytest_with_failures_and_errors(script, tmp_path):
    report = tmp_path / "a.xml"
    report.write_text(PYTEST)
    stage = script.Stage("e2e", 10)
    stage.count_report(report, 1, "pytest")
    assert (stage.tally.passed, stage.tally.failed) == (1, 2)


def test_a_bad_status_without_a_failed_test_is_broken(script, tmp_path):
    report = tmp_path / "a.xml"
    report.write_text("<testsuite><testcase name='a' status='run'/></testsuite>")
    with pytest.raises(script.Broken, match="ended with status 3"):
        script.Stage("unit", 10).count_report(report, 3, "ctest")


def test_a_missing_report_is_broken(script, tmp_path):
    with pytest.raises(script.Broken, match="left no report"):
        script.Stage("unit", 10).count_report(tmp_path / "none.xml", 0, "ctest")


@pytest.mark.parametrize(("says", "status", "broken"), [
    ("echo working; echo '40 passed, 0 failed'", 0, None),
    ("echo '40 passed, 0 failed'; echo 'and more'", 0, "does not say"),
    ("echo '39 passed, 0 failed'", 0, "39 of 40"),
    ("echo '39 passed, 1 failed'", 0, "ended with status 0"),
    ("echo '40 passed, 0 failed'", 1, "ended with status 1"),
    ("echo 'all fine'", 0, "does not say"),
])
def test_the_simulation_must_say_how_many_seeds_passed(script, tmp_path, says, status, broken):
    program(tmp_path / "build/simulate", f'test "$*" = "--seeds 40" || exit 9\n{says}\nexit {status}')
    stage = script.Stage("simulation", 10)
    if broken is None:
        stage.simulate("release", 40, "--seeds", 40)
        assert (stage.tally.passed, stage.tally.failed) == (40, 0)
    else:
        with pytest.raises(script.Broken, match=broken):
            stage.simulate("release", 40, "--seeds", 40)


def test_a_stage_that_runs_nothing_or_cannot_build_counts_as_one_failure(script):
    script.STAGES = {"empty": (lambda stage: None, 1), "broken": (lambda stage: stage.must("false"), 1)}
    assert script.run("empty")[0].failed == 1
    assert script.run("broken")[0].failed == 1


def test_a_command_that_hangs_is_ended_with_its_children(script, tmp_path):
    program(tmp_path / "hang", "sleep 300 & echo $! > child; wait")
    stage = script.Stage("hung", 1)
    with pytest.raises(script.Broken, match="was ended"):
        stage.call(tmp_path / "hang", quiet=True)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while is_alive(child):
        assert time.monotonic() < deadline


def test_ending_the_test_ends_what_it_started(tmp_path):
    program(tmp_path / "scripts/build", "sleep 300 & echo $! > child.part; mv child.part child; wait")
    shutil.copy(ROOT / "scripts/test", tmp_path / "scripts/test")
    test = subprocess.Popen([tmp_path / "scripts/test", "check"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not (tmp_path / "child").exists():
        assert time.monotonic() < deadline
    test.terminate()
    assert test.wait(10) == 130
    while is_alive(int((tmp_path / "child").read_text())):
        assert time.monotonic() < deadline


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_suites_name_targets_and_tests_of_the_folders_that_exist(script, tmp_path):
    for name in ("unit/net/a.cpp", "unit/policy/a.cpp", "contract/journal/a.cpp", "unit/empty/README.md"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).touch()
    targets, pattern = script.suites(("unit", "contract"))
    assert targets == ["unit_net", "unit_policy", "contract_journal"]
    assert re.search(pattern, "unit/net/A.B") and not re.search(pattern, "unit_net_NOT_BUILT")
    assert script.suites(("unit",), ("net",))[0] == ["unit_net"]
    with pytest.raises(script.Broken):
        script.suites(("unit",), ("none",))


def test_the_table_in_the_readme_gives_each_stage_its_budget(script):
    rows = re.findall(r"^\| `(\w+)` \| (\d+) min \|", (ROOT / "tests/README.md").read_text(), re.MULTILINE)
    budgets = {name: minutes for name, (_, minutes) in script.STAGES.items()}
    assert {name: int(minutes) for name, minutes in rows} == budgets
    assert sum(budgets.values()) <= 30
