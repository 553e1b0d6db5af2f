"""The conformance cases' bookkeeping: every upstream name has its case, and the score counts honestly."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import replace

import pytest

from tests.conformance import report
from tests.conformance.case import CASES, case
from tests.conformance.run import Result, choose, load
from tests.conformance.upstream import CASES as UPSTREAM

load()
GOOD = Result(group="Services", name="should work", conformance=True, outcome="passed")
BAD = replace(GOOD, name="should fail", conformance=False, outcome="failed", reason="it did not")


def test_every_upstream_name_is_listed_once() -> None:
    twice = [key for key, count in Counter((one.group, one.name) for one in UPSTREAM).items() if count > 1]
    assert twice == []


def test_every_upstream_case_in_scope_has_one_function_and_no_function_has_another_name() -> None:
    assert set(CASES) == {(one.group, one.name) for one in UPSTREAM}


def test_a_name_is_entered_once_only() -> None:
    with pytest.raises(AssertionError, match="two functions"):
        case(UPSTREAM[0].group, UPSTREAM[0].name)(lambda kit: None)


def test_the_conformance_cases_are_the_45_of_the_network_and_3_of_the_node() -> None:
    marked = Counter(one.group for one in UPSTREAM if one.conformance)
    assert marked.pop("sig-node") == 3
    assert marked["Services"] == 15
    assert marked["DNS"] == 8
    assert sum(marked.values()) == 45


def test_cases_written_for_iptables_say_what_they_mean_on_open_vswitch() -> None:
    for part in ("iptables", "INVALID", "CLOSE_WAIT", "localhost nodeports"):
        (found,) = [one for key, one in CASES.items() if part in key[1]]
        assert len(found.note) > 100, key_of(found.key)


def key_of(key: tuple[str, str]) -> str:
    return ": ".join(key)


def test_no_case_sleeps() -> None:
    modules = {inspect.getmodule(one.function) for one in CASES.values()}
    assert not [module for module in modules if module and "sleep(" in inspect.getsource(module)]


def test_patterns_choose_by_all_words_of_one_of_them() -> None:
    assert {one.name for one in choose(["iptables", "collection services"])} == {
        "should recreate its iptables rules if they are deleted [Disruptive]",
        "should delete a collection of services",
    }
    assert choose([]) == list(UPSTREAM)
    assert choose(["no such words"]) == []


def test_the_score_counts_conformance_cases_and_others_apart() -> None:
    assert str(report.Count.of([GOOD, BAD])) == "1/2"
    assert "conformance 1/1, others 0/1" in report.score([GOOD, BAD])


def test_a_case_that_is_not_passed_shows_its_reason() -> None:
    assert report.table([GOOD, BAD]).splitlines() == [
        "",
        "Services  1/2",
        "  passed     C  should work",
        "  NOT PASSED    should fail",
        "                 it did not",
    ]


def test_only_a_recorded_case_regresses_and_only_when_it_was_tried() -> None:
    assert report.regressed([GOOD, BAD], ["Services: should fail", "Services: not tried"]) == [BAD]
    assert report.regressed([GOOD, BAD], ["Services: should work"]) == []
    assert report.unrecorded([GOOD, BAD], []) == [GOOD]


def test_the_baseline_names_cases_in_scope_and_no_others() -> None:
    recorded = report.read_baseline()
    assert set(recorded) <= {str(one) for one in UPSTREAM}
    assert len(recorded) == len(set(recorded))


def test_what_passes_in_the_virtual_machine_is_told_and_may_lack_its_kernel_only_elsewhere() -> None:
    lacking = replace(BAD, waits=True, reason="waits for SCTP in this kernel")
    recorded = ["Services: should fail"]
    assert "with them others 1/1" in report.score([GOOD, lacking], recorded)
    assert report.regressed([GOOD, lacking], [], recorded) == []
    assert report.regressed([GOOD, BAD], [], recorded) == [BAD]


def test_the_virtual_machines_cases_are_in_scope_and_not_in_the_baseline() -> None:
    there = set(report.read_baseline(report.IN_VM))
    assert there <= {str(one) for one in UPSTREAM}
    assert not there & set(report.read_baseline())


def test_a_recorded_run_regresses_in_nothing() -> None:
    recorded = [one for one in report.baseline_text([GOOD, BAD]).splitlines() if one[:1] != "#"]
    assert recorded == ["Services: should work"]


def test_the_json_has_the_score_and_every_case() -> None:
    made = report.as_json([GOOD, BAD])
    assert made["conformance"] == {"passed": 1, "total": 1}
    assert made["others"] == {"passed": 0, "total": 1}
    assert made["groups"] == {"Services": {"passed": 1, "total": 2}}
    assert [one["outcome"] for one in made["cases"]] == ["passed", "failed"]
