"""Which arm a chat gets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from hashlib import sha256

import pytest

import workbench as wb
from workbench.prompts.assignment import arm_of, shares

UNITS = [f"chat-{n}" for n in range(100_000)]
HALVES = {"v3": 0.5, "v4": 0.5}
HOSTILE = ["", ":", "a:b", "\0", "ünï", "日本", "\ud800", "x" * 10_000, "'; DROP TABLE chats; --"]


@pytest.mark.parametrize("arms", [HALVES, {"v3": 0.9, "v4": 0.1}, {"v1": 0.2, "v2": 0.5, "v3": 0.3}])
def test_units_split_within_half_a_point_of_the_weights(arms: dict[str, float]) -> None:
    dealt = Counter(arm_of("salt", unit, arms) for unit in UNITS)

    assert set(dealt) == set(arms)
    assert {arm: n / len(UNITS) for arm, n in dealt.items()} == pytest.approx(arms, abs=0.005)


def test_the_arm_is_what_the_formula_says() -> None:
    # first 52 bits of the hash: its first 13 hexadecimal digits
    points = {unit: int(sha256(f"s:{unit}".encode()).hexdigest()[:13], 16) / 2**52 for unit in UNITS[:200]}
    assert {unit: arm_of("s", unit, {"a": 0.3, "b": 0.7}) for unit in points} == {
        unit: "a" if point < 0.3 else "b" for unit, point in points.items()
    }


def test_another_process_deals_the_same() -> None:
    code = """if True:
        import json, sys
        from workbench.prompts.assignment import arm_of
        units, arms = json.load(sys.stdin)
        json.dump([arm_of("salt", unit, arms, 0.7) for unit in units], sys.stdout)"""
    units = [*UNITS[:2000], *HOSTILE]
    here = [arm_of("salt", unit, HALVES, 0.7) for unit in units]
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code]
        given = json.dumps([units, dict(reversed(HALVES.items()))])
        there = subprocess.run(
            command,
            input=given,
            capture_output=True,
            check=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
        )
        assert json.loads(there.stdout) == here


def test_the_order_in_which_arms_are_named_does_not_matter() -> None:
    arms = {"v10": 0.2, "v9": 0.5, "v2": 0.3}
    turned = dict(reversed(arms.items()))
    assert [arm_of("s", unit, arms) for unit in UNITS[:500]] == [arm_of("s", unit, turned) for unit in UNITS[:500]]


def test_changing_coverage_moves_nobody_between_arms() -> None:
    everyone = {unit: arm_of("salt", unit, HALVES) for unit in UNITS[:20_000]}
    before: set[str] = set()
    for coverage in (0.05, 0.3, 0.8):
        dealt = {unit: arm_of("salt", unit, HALVES, coverage) for unit in everyone}
        inside = {unit for unit, arm in dealt.items() if arm}

        assert len(inside) / len(everyone) == pytest.approx(coverage, abs=0.01)
        assert {unit: everyone[unit] for unit in inside} == {unit: dealt[unit] for unit in inside}
        assert before < inside  # more coverage takes units in, and none out
        # those who take part split as all do, else coverage and arm would hang together
        assert sum(dealt[unit] == "v3" for unit in inside) / len(inside) == pytest.approx(0.5, abs=0.05)
        before = inside


def test_another_salt_deals_anew() -> None:
    same = sum(arm_of("one", unit, HALVES) == arm_of("two", unit, HALVES) for unit in UNITS[:20_000])
    assert same / 20_000 == pytest.approx(0.5, abs=0.015)


def test_weights_are_relative() -> None:
    assert shares({"v3": 2, "v4": 2, "v5": 4}) == {"v3": 0.25, "v4": 0.25, "v5": 0.5}
    assert [arm_of("s", unit, {"v3": 50, "v4": 50}) for unit in UNITS[:500]] == [
        arm_of("s", unit, HALVES) for unit in UNITS[:500]
    ]


def test_an_arm_of_no_weight_gets_nobody_and_one_arm_gets_all() -> None:
    assert {arm_of("s", unit, {"a": 0, "b": 1, "c": 0}) for unit in UNITS[:2000]} == {"b"}
    assert {arm_of("s", unit, {"only": 0.1}) for unit in [*UNITS[:200], *HOSTILE]} == {"only"}


@pytest.mark.parametrize(
    ("arms", "coverage", "says"),
    [
        ({}, 1, "no arm has a weight above 0"),
        ({"a": 0, "b": 0.0}, 1, "no arm has a weight above 0"),
        ({"a": 1, "b": -0.5}, 1, "unlike {'b': -0.5}"),
        ({"a": float("nan")}, 1, "unlike {'a': nan}"),
        ({"a": float("inf"), "b": 1}, 1, "unlike {'a': inf}"),
        ({"a": 1}, 1.5, "a coverage of 1.5"),
        ({"a": 1}, float("nan"), "a coverage of nan"),
    ],
)
def test_what_cannot_be_dealt_is_refused(arms: dict[str, float], coverage: float, says: str) -> None:
    with pytest.raises(wb.InvalidRequest) as refused:
        arm_of("s", "u", arms, coverage)
    assert says in str(refused.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_will_do(name: str) -> None:
    dealt = {arm_of(name, f"{name}{n}", {name: 1, "other": 1}) for n in range(50)}
    assert dealt == {name, "other"}
