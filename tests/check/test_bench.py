"""What the benchmark makes of its measurements."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import bench  # noqa: E402
import gateway as gateway_bench  # noqa: E402
import processes  # noqa: E402

METRICS = """# TYPE turnpike_pickup_seconds histogram
turnpike_pickup_seconds_count{plan="a"} 10
turnpike_pickup_seconds_bucket{plan="a",le="0.001"} 4
turnpike_pickup_seconds_bucket{plan="a",le="0.002"} 8
turnpike_pickup_seconds_bucket{plan="a",le="+Inf"} 10
turnpike_pickup_seconds_bucket{plan="b",le="0.001"} 1
turnpike_pickup_seconds_bucket{plan="b",le="0.002"} 2
turnpike_pickup_seconds_bucket{plan="b",le="+Inf"} 2
"""


def test_a_histogram_is_summed_over_its_labels():
    assert bench.histogram(METRICS, "turnpike_pickup_seconds") == {0.001: 5, 0.002: 10, float("inf"): 12}


def test_a_histogram_that_is_not_there_voids_the_measurement():
    with pytest.raises(processes.Failed, match="no histogram"):
        bench.histogram("other 1\n", "turnpike_pickup_seconds")


@pytest.mark.parametrize(("share", "seconds"), [(0.25, 0.0005), (0.5, 0.001), (0.75, 0.0015), (1.0, 0.002)])
def test_a_quantile_is_linear_within_its_bucket(share, seconds):
    assert bench.quantile({0.001: 5, 0.002: 10, float("inf"): 10}, share) == pytest.approx(seconds)


def test_a_quantile_beyond_the_last_bound_is_that_bound():
    assert bench.quantile({0.001: 5, float("inf"): 10}, 0.99) == 0.001


def test_only_what_came_between_two_looks_counts():
    assert bench.subtract({1.0: 7, 2.0: 9}, {1.0: 3, 2.0: 4}) == {1.0: 4, 2.0: 5}


@pytest.mark.parametrize(("ours", "theirs", "met", "ratio"), [
    ([9, 20, 30], [10, 10, 10], True, "2.00"), ([19, 19, 90], [10, 10, 1], False, "1.90")])
def test_a_ratio_is_met_by_medians(ours, theirs, met, ratio):
    cells, verdict = bench.row(bench.Figure("a", "a", "/s", 0, 2.0, times=True), ours, theirs)
    assert (verdict, cells[3], cells[5]) == (met, ratio, "met" if met else "SHORT")


@pytest.mark.parametrize(("ours", "met"), [([1, 4.9, 9], True), ([5.0], False)])
def test_a_bound_is_met_below_it_only(ours, met):
    assert bench.row(bench.Figure("a", "a", "ms", 2, 5.0), ours, [])[1] is met


def test_the_table_says_every_figure_beside_its_target():
    found = {"submits": 30.0, "completes": 20.0, "pickup_p50": 0.5, "pickup_p99": 6.0, "inside_p50": 0.1, "inside_p99": 0.2}
    alone = {"queued_mb": 399.0, "restart_seconds": 1.0, "restart_mb": 401.0, "idle_mb": 20.0}
    peer = {"submits": 10.0, "completes": 10.0, "pickup_p50": 1.0, "pickup_p99": 2.0}
    text = bench.table(bench.FULL, {"turnpike": [found], "bullmq": [peer]}, alone)
    verdicts = [line.split("|")[6].strip() for line in text.splitlines()[2:10]]
    assert verdicts == ["met", "SHORT", "met", "SHORT", "met", "met", "SHORT", "met"]


@pytest.mark.parametrize(("ours", "verdicts"), [
    ({"requests_per_second": 6000.0, "added_p50_us": 149.0, "added_p99_us": 999.0, "chunk_p50_us": 49.0}, ["met"] * 5),
    ({"requests_per_second": 5999.0, "added_p50_us": 150.0, "added_p99_us": 1000.0, "chunk_p50_us": 50.0}, ["SHORT"] * 5)])
def test_the_gateways_table_says_every_figure_beside_its_target(ours, verdicts):
    nginx = {"requests_per_second": 10_000.0, "added_p50_us": 50.0, "added_p99_us": 60.0}
    rounds = {"turnpike": [ours], "nginx": [nginx], "portkey": [{**nginx, "requests_per_second": 300.0}]}
    text = gateway_bench.table(gateway_bench.FULL, rounds, {"open_mb": 299.0, "growth_mb": 16.0})
    told = [line.split("|")[6].strip() for line in text.splitlines()[2:]]
    assert [verdict for verdict in told if verdict] == verdicts + ["met", "SHORT"]


def test_a_server_that_ends_at_once_is_named_with_what_it_said(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'the port is taken' >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(processes.Failed, match=r"status 3:\nthe port is taken"):
        processes.Turnpike("bench.yaml", tmp_path / "data", program)
