"""wb.map in Message Batches: half the price, nothing asked or paid twice whoever dies when, and no result believed blindly."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import workbench as wb
from tests.faults.batches import BATCHES
from tests.faults.upstream import Request, ScriptedUpstream, Usage, fault, reply, words
from workbench import batches as api
from workbench import runtime
from workbench.mapping import Table, follow
from workbench.mapping import batch as batch_module
from workbench.mapping import run as run_module
from workbench.store import batches as kept
from workbench.store import tenants
from workbench.store.check import check
from workbench.turns import DEFAULT_ID, Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

D = Decimal
ROOT = Path(__file__).parents[1]
HALF = D("0.0015")
"""1,000 x $2 + 100 x $10, a million, and half of it."""
ME = Caller(source="map")


@pytest.fixture
def upstream(scripted: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedUpstream]:
    """The upstream that answers; nobody waits long. At the end the ledger holds together."""
    monkeypatch.setattr(run_module, "PAUSE", 0.002)
    monkeypatch.setattr(follow, "SOONEST", 0.01)
    monkeypatch.setattr(follow, "SETTLED", timedelta(seconds=0.3))
    scripted.default = says("re")
    yield scripted
    assert [finding for finding in run(check(engine().store.backend)) if not finding.ok] == []


def engine() -> Any:
    return runtime.runtime().engine


def run(coroutine: Any) -> Any:
    return runtime.runtime().run(coroutine)


def says(text: str) -> Callable[[Request], Any]:
    return lambda request: reply(f"{text} {request.prompt}", usage=Usage(1000, output_tokens=100))


def numbered(count: int, start: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"n": range(start, start + count)})


def spent() -> Decimal:
    (cost,) = wb.sql("SELECT COALESCE(SUM(cost_usd), 0) AS cost FROM usage WHERE source = 'map'")["cost"]
    return D(cost)


def left() -> int:
    """How many questions still wait for a batch."""
    return len(run(kept.waiting(engine().store, ME)))


def none_was_begun() -> None:
    tables = ("messages", "usage", "holds", "batches")
    assert [wb.sql(f"SELECT COUNT(*) AS n FROM {table}")["n"][0] for table in tables] == [0, 0, 0, 0]


# What comes of it ---------------------------------------------------------------------------------------------------


def test_a_batch_answers_every_row_at_half_the_price(upstream: ScriptedUpstream) -> None:
    result = wb.map(numbered(300), "{n}", system="You are terse.", batch=True)

    assert result["reply"].tolist() == [f"re {n}" for n in range(300)] and result["error"].isna().all()
    assert result["cost_usd"].tolist() == [HALF] * 300 and not result["cached"].any()
    assert len(upstream.batches.all) == 1 and len(upstream.requests) == 4  # created, looked at twice, read
    (batch,) = upstream.batches.all
    asked = batch.requests[0]["params"]
    assert asked["system"][0]["text"] == "You are terse." and "stream" not in asked
    calls = wb.usage()
    assert len(calls) == 300 and calls["cost_usd"].sum() == result["cost_usd"].sum() == 300 * HALF
    assert (calls["service_tier"] == "batch").all() and (calls["source"] == "map").all()
    assert set(calls["id"]) == {each["custom_id"] for each in batch.requests}
    assert calls["duration_ms"].isna().all() and not calls["usage_estimated"].any()
    assert wb.chats().empty and wb.map_batches().empty


def test_what_was_answered_in_a_batch_is_not_asked_again_and_the_other_way_round(upstream: ScriptedUpstream) -> None:
    wb.map(numbered(10), "{n}", batch=True)
    alone = wb.map(numbered(15), "{n}")
    again = wb.map(numbered(20), "{n}", batch="auto")

    assert alone["cached"].tolist() == [True] * 10 + [False] * 5
    assert again["cached"].tolist() == [True] * 15 + [False] * 5
    assert [len(batch.requests) for batch in upstream.batches.all] == [10, 5]
    assert spent() == 15 * HALF + 5 * 2 * HALF


def test_rows_that_failed_in_a_batch_have_errors_cost_nothing_and_are_asked_again(upstream: ScriptedUpstream) -> None:
    kinds = {0: "expired", 1: "canceled", 2: None}
    upstream.batches.outcome = lambda request: kinds.get(int(request.prompt) % 10)  # type: ignore[assignment,return-value]
    upstream.default = lambda request: fault("400") if request.prompt[-1] == "2" else says("re")(request)
    result = wb.map(numbered(300), "{n}", batch=True)

    errors = result["error"].dropna()
    assert (
        len(errors) == 90
        and errors[0] == "the batch expired, after 24 hours, before this was answered; the same call asks again"
    )
    assert errors[1] == "the batch was canceled before this was answered; the same call asks again"
    assert errors[2] == "Claude refused the request (400): messages: Input is not valid"
    assert result["cost_usd"].sum() == spent() == 210 * HALF
    ended = Counter(zip(wb.usage()["status"], wb.usage()["error_type"].astype(object).fillna(""), strict=True))
    assert ended == {
        ("complete", ""): 210,
        ("failed", "batch_expired"): 30,
        ("interrupted", "batch_canceled"): 30,
        ("failed", "upstream_refused"): 30,
    }
    upstream.batches.outcome, upstream.default = lambda request: None, says("re")
    again = wb.map(numbered(300), "{n}", batch=True)
    assert again["error"].isna().all() and again["cached"].sum() == 210
    assert len(upstream.batches.all[1].requests) == 90 and spent() == 300 * HALF


def test_structured_output_in_a_batch(upstream: ScriptedUpstream) -> None:
    said = ['{"label": "good", "n": 1}', '{"label": "bad", "n": 2}', "no JSON", '{"label": "odd", "n": 2}']
    upstream.default = lambda request: reply(said[int(request.prompt)])
    result = wb.map(
        numbered(4).rename(columns={"n": "row"}), "{row}", out={"label": ["good", "bad"], "n": int}, batch=True
    )

    assert result["label"].astype(object).tolist()[:2] == ["good", "bad"] and result["n"].tolist()[:2] == [1, 2]
    assert str(result["n"].dtype) == "Int64" and result["label"].isna().tolist() == [False, False, True, True]
    assert result["error"].tolist()[2:] == [
        "the reply does not fit: it is no JSON",
        "the reply does not fit: label: input should be 'good' or 'bad'",
    ]
    formats = [each["params"]["output_config"]["format"]["type"] for each in upstream.batches.all[0].requests]
    assert formats == ["json_schema"] * 4


def test_a_question_that_cannot_be_sent_is_an_error_of_its_row(upstream: ScriptedUpstream) -> None:
    result = wb.map(pd.DataFrame({"text": ["a", " ", None]}), "{text}", batch=True)

    assert result["reply"].isna().tolist() == [False, True, True]
    assert result["error"][1] == "the message is empty; write something to ask"
    assert [len(batch.requests) for batch in upstream.batches.all] == [1]


def test_many_questions_go_in_several_batches(upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MOST_REQUESTS", 40)
    result = wb.map(numbered(100), "{n}", batch=True)

    assert result["error"].isna().all() and spent() == 100 * HALF
    assert [len(batch.requests) for batch in upstream.batches.all] == [40, 40, 20]


def test_no_batch_is_larger_than_the_api_takes() -> None:
    sizes = [api.MOST_BYTES // 3] * 7
    parts = list(api.split(sizes))
    assert parts == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7)]
    assert list(api.split([])) == []


def test_no_more_bodies_are_kept_than_those_of_one_batch(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each repeats the system prompt: 100,000 of 20 kB are 2 GB."""
    alive = most = 0

    class Body(bytes):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def counted(*args: Any) -> bytes:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return Body(api.encoded(*args))

    monkeypatch.setattr(batch_module, "encoded", counted)
    monkeypatch.setattr(api, "MOST_REQUESTS", 10)
    result = wb.map(numbered(100), "{n}", batch=True)

    assert result["error"].isna().all() and [len(batch.requests) for batch in upstream.batches.all] == [10] * 10
    assert most <= 20  # those of the batch before may still be there


# Whoever dies -------------------------------------------------------------------------------------------------------

DYING = """
import os, signal, sys
import pandas as pd
import workbench as wb
from workbench.mapping import batch, follow
from workbench.store import batches as kept, store
from workbench.store.store import Store

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dies(owner, name, at=1, before=True):
    real, calls = getattr(owner, name), 0
    async def dying(*args, **more):
        nonlocal calls
        calls += 1
        if calls == at and before:
            die()
        result = await real(*args, **more)
        if calls == at:
            die()
        return result
    setattr(owner, name, dying)

follow.SOONEST, follow.TOGETHER, store.TOGETHER = 0.01, 50, 50
exec(sys.argv[1])
wb.map(pd.DataFrame({"n": range(120)}), "{n}", batch=True)
"""
HALF_WRITTEN = """
within, calls = Store._within, 0
def dying(*args):
    global calls
    calls += 1
    return die() if calls == 70 else within(*args)
Store._within = staticmethod(dying)
"""
STAGES = {
    "half of it written": HALF_WRITTEN,
    "before it is sent": "dies(kept, 'sending')",
    "as it is sent, and nothing arrived": "dies(batch, 'create')",
    "as it is sent, and it arrived": "dies(batch, 'create', before=False)",
    "once its id is noted": "dies(kept, 'sent', before=False)",
    "as it waits": "dies(follow, 'retrieve', before=False)",
    "before anything is recorded": "dies(Store, 'record_batch')",
    "half of it recorded": "dies(Store, 'record_batch', at=2)",
    "once all is recorded": "dies(Store, 'record_batch', at=3, before=False)",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_process_that_is_killed_leaves_its_batch_to_the_next_which_asks_nothing_twice(
    stage: str, upstream: ScriptedUpstream
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", DYING, STAGES[stage]],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    before = spent()
    result = wb.map(numbered(120), "{n}", batch=True)

    assert Counter(upstream.batches.prompts) == {str(n): 1 for n in range(120)} and len(upstream.batches.all) == 1
    assert result["reply"].tolist() == [f"re {n}" for n in range(120)]
    assert spent() == 120 * HALF == before + result["cost_usd"].sum()
    assert wb.usage()["status"].tolist() == ["complete"] * 120 and left() == 0


def interrupt_at_look(upstream: ScriptedUpstream, look: int) -> None:
    """A Ctrl-C when somebody looks at a batch for that time."""
    looks = [0]
    original = upstream.batches.serve

    def serve(request: Request) -> tuple[bytes, str]:
        looks[0] += request.method == "GET" and request.path.count("/") == 4
        if looks[0] == look:
            looks[0] += 1000
            os.kill(os.getpid(), signal.SIGINT)
        return original(request)

    upstream.batches.serve = serve  # type: ignore[method-assign]


@pytest.mark.parametrize("then", [True, False, "auto"])
def test_an_interrupt_leaves_the_batch_running_and_the_same_call_takes_it_up(
    then: Any, upstream: ScriptedUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.batches.ends_at_look = None
    interrupt_at_look(upstream, 2)
    with pytest.raises(KeyboardInterrupt):
        wb.map(numbered(20), "{n}", batch=True)
    told = capsys.readouterr().err
    assert "Interrupted: 0 of 20 questions" in told and "The batch msgbatch_00000001 runs on" in told
    assert "wb.map_cancel('msgbatch_00000001')" in told
    assert left() == 20 and spent() == 0
    runtime.close()  # as if in another process
    estimate = wb.map_estimate(numbered(25), "{n}")
    assert (estimate.to_ask, estimate.waiting) == (5, 20) and "20 in a batch already" in estimate.line

    upstream.batches.end(upstream.batches.all[0])
    upstream.batches.ends_at_look = 1
    result = wb.map(numbered(25), "{n}", batch=then)
    assert result["error"].isna().all() and not result["cached"].any()
    assert [len(batch.requests) for batch in upstream.batches.all] == ([20] if then is False else [20, 5])
    assert spent() == result["cost_usd"].sum() == 20 * HALF + 5 * (2 * HALF if then is False else HALF)
    told = capsys.readouterr().err
    assert ("20 questions are in a batch that an earlier call began; waiting for it" in told) == (then is False)


def test_an_answer_that_is_lost_is_looked_for_and_no_other_batch_is_taken_for_it(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def foreign(count: int) -> None:
        asked = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "theirs"}]}
        body = json.dumps({"requests": [{"custom_id": f"map-{n}", "params": asked} for n in range(count)]}).encode()
        headers = {"authorization": "Bearer sk", "anthropic-version": "2026-10-21", "content-type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(upstream.url + BATCHES, body, headers)).close()

    foreign(20)
    upstream.batches.lost_answers = 1
    with pytest.raises(wb.UpstreamError, match="not known whether the batch was begun; make the same call again"):
        wb.map(numbered(20), "{n}", batch=True)
    assert left() == 20
    foreign(20)
    foreign(7)
    monkeypatch.setattr(api, "PAGE", 1)
    result = wb.map(numbered(20), "{n}", batch=True)

    assert result["reply"].tolist() == [f"re {n}" for n in range(20)] and spent() == 20 * HALF
    assert [len(batch.requests) for batch in upstream.batches.all] == [20, 20, 20, 7]


def test_a_batch_that_never_arrived_is_asked_again_once_that_is_certain(upstream: ScriptedUpstream) -> None:
    upstream.script(fault("500"), path=BATCHES)
    with pytest.raises(wb.UpstreamError, match="not known whether the batch was begun"):
        wb.map(numbered(5), "{n}", batch=True)
    assert upstream.batches.all == [] and left() == 5
    result = wb.map(numbered(5), "{n}", batch=True)

    assert result["error"].isna().all() and len(upstream.batches.all) == 1
    assert wb.usage()["status"].tolist() == ["complete"] * 5


def test_a_process_waits_for_one_that_sends_the_same_and_asks_nothing(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tables of one process: the second comes while the first is being sent."""
    first, second = (Table(numbered(20), "{n}", None, None, None, 99, "r", DEFAULT_ID, DEFAULT_ID) for _ in range(2))
    first.batch = second.batch = True
    sending, create = asyncio.Event(), batch_module.create

    async def slow(*arguments: Any) -> Any:
        sending.set()
        await asyncio.sleep(0.5)
        return await create(*arguments)

    monkeypatch.setattr(batch_module, "create", slow)

    async def both() -> None:
        task = asyncio.create_task(first._batch_run(None).run())
        await sending.wait()
        second.waiting = await kept.waiting(engine().store, ME)
        await asyncio.gather(task, second._batch_run(None).run())

    run(both())
    second.look_up()
    assert len(upstream.batches.all) == 1
    for table in (first, second):
        assert table.result()["r"].tolist() == [f"re {n}" for n in range(20)]
    assert len(wb.usage()) == 20


def test_what_another_process_has_recorded_meanwhile_is_taken_and_not_asked(upstream: ScriptedUpstream) -> None:
    first, second = (Table(numbered(20), "{n}", None, None, None, 99, "r", DEFAULT_ID, DEFAULT_ID) for _ in range(2))
    first.batch = second.batch = True

    async def both() -> None:
        task = asyncio.create_task(first._batch_run(None).run())
        while not (waiting := await kept.waiting(engine().store, ME)):
            await asyncio.sleep(0.01)
        second.waiting = waiting
        await task
        await second._batch_run(None).run()

    run(both())
    assert len(upstream.batches.all) == 1 and len(wb.usage()) == 20
    assert second.result()["r"].tolist() == [f"re {n}" for n in range(20)] and second.result()["cached"].all()


@pytest.mark.parametrize("arrives", [True, False])
def test_an_interrupt_while_it_is_sent_asks_nothing_twice(
    arrives: bool, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create = batch_module.create

    async def interrupted(*arguments: Any) -> Any:
        if arrives:
            await create(*arguments)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    monkeypatch.setattr(batch_module, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        wb.map(numbered(5), "{n}", batch=True)
    assert "What was sent goes on by itself, and the same call finds it" in capsys.readouterr().err
    monkeypatch.setattr(batch_module, "create", create)

    assert wb.map(numbered(5), "{n}", batch=True)["error"].isna().all()
    assert len(upstream.batches.all) == 1 and spent() == 5 * HALF


# What it costs ------------------------------------------------------------------------------------------------------


def budget(usd: str) -> None:
    run(tenants.set_org(engine().store.backend, DEFAULT_ID, {"budget_usd": D(usd), "budget_period": None}))


def held() -> Decimal:
    (standing,) = run(engine().store.budgets(ME, datetime.now(UTC)))
    return D(standing.held_usd)


def test_max_cost_is_never_passed_in_a_batch(upstream: ScriptedUpstream) -> None:
    stops = finished = 0
    for seed in range(30):
        chance = random.Random(seed)
        df = pd.DataFrame({"text": [f"{seed} {n} {'word ' * chance.randrange(200)}" for n in range(12)]})
        upstream.default = lambda request, chance=chance: reply(
            words(chance.randrange(1, request.body["max_tokens"] + 1))
        )
        limit, before = D(chance.randrange(1, 40)) / 1000, spent()
        for _ in range(chance.choice([1, 3])):
            now = spent()
            try:
                result = wb.map(df, "{text}", max_tokens=400, max_cost=limit, batch=True)
            except wb.InvalidRequest:
                assert spent() == now
                continue
            assert result["cost_usd"].sum() == spent() - now <= limit, seed
            stops += result["error"].fillna("").str.startswith("not asked: max_cost=").any()
            finished += result["error"].isna().all()
        assert spent() - before <= 3 * limit
    assert stops >= 10 and finished >= 5, (stops, finished)


def test_as_much_is_asked_as_the_worst_case_of_a_batch_allows(
    upstream: ScriptedUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    # the worst case of a question is half of 100 x $10 and 90 x $4, a million: $0.00068
    result = wb.map(numbered(10), "{n}", max_tokens=100, max_cost="0.0034", batch=True)

    assert len(upstream.batches.all[0].requests) == 5
    assert result["error"][5:].tolist() == ["not asked: max_cost=$0.0034 might have been passed"] * 5
    assert "5 questions are left, which will cost $0.00005" in capsys.readouterr().err
    with pytest.raises(wb.InvalidRequest, match="more than max_cost"):
        wb.map(numbered(10, 100), "{n}", max_tokens=100, max_cost="0.00001", batch=True)
    assert len(upstream.batches.all) == 1


def test_what_waits_in_a_batch_counts_against_max_cost(upstream: ScriptedUpstream) -> None:
    upstream.batches.ends_at_look = None
    interrupt_at_look(upstream, 1)
    with pytest.raises(KeyboardInterrupt):
        wb.map(numbered(4), "{n}", max_tokens=100, batch=True)
    upstream.batches.end(upstream.batches.all[0])
    upstream.batches.ends_at_look = 1
    wb.map(numbered(10), "{n}", max_tokens=100, max_cost="0.0034", batch=True)

    assert [len(batch.requests) for batch in upstream.batches.all] == [4, 1]  # worst cases of five fit


def test_a_budget_holds_the_worst_case_until_the_results_are_recorded(upstream: ScriptedUpstream) -> None:
    budget("1")
    upstream.batches.ends_at_look = None
    interrupt_at_look(upstream, 1)
    with pytest.raises(KeyboardInterrupt):
        wb.map(numbered(10), "{n}", max_tokens=100, batch=True)
    assert held() == 10 * D("0.00068")
    assert wb.map_batches()["held_usd"].tolist() == [D("0.0068")]
    (days,) = wb.sql("SELECT MIN(EPOCH(expires_at) - EPOCH(started_at)) / 86400 AS days FROM holds")["days"]
    assert 29 <= days < 29.01
    runtime.close()  # nor does the hold end with its process
    assert held() == 10 * D("0.00068")

    upstream.batches.end(upstream.batches.all[0])
    upstream.batches.ends_at_look = 1
    wb.map(numbered(10), "{n}", max_tokens=100)
    assert held() == 0 and spent() == 10 * HALF


def test_a_budget_bounds_a_batch(upstream: ScriptedUpstream) -> None:
    upstream.default = reply("fine", usage=Usage(50, output_tokens=100))  # $0.00055 in a batch
    budget("0.0034")
    result = wb.map(numbered(10), "{n}", max_tokens=100, batch=True)

    assert [len(batch.requests) for batch in upstream.batches.all] == [5]
    assert spent() == 5 * D("0.00055") and result["error"][5:].str.startswith("not asked: org ").all()
    with pytest.raises(wb.BudgetExceeded) as caught:
        wb.map(numbered(10), "{n}", max_tokens=100, batch=True)
    assert caught.value.left_usd == D("0.00065") and caught.value.needed_usd == D("0.00068")
    assert len(upstream.batches.all) == 1 and left() == 0


def test_the_estimate_says_what_a_batch_would_save(upstream: ScriptedUpstream) -> None:
    alone = wb.map_estimate(numbered(9), "{n}")
    batch = wb.map_estimate(numbered(9), "{n}", batch=True)

    assert alone.line.endswith(
        f"cost: {alone.range}; as a batch half of it, answers within 24 hours, mostly within one"
    )
    assert batch.line.endswith(f"cost: {batch.range} as a batch, answers within 24 hours, mostly within one")
    assert (alone.low_usd, alone.high_usd) == (batch.low_usd * 2, batch.high_usd * 2)  # type: ignore[operator]
    assert "a batch costs half of every token; of a question that fails in it nothing is charged" in batch.reasons
    assert "batch" not in wb.map_estimate(numbered(9), "{n}", model="some-model").line
    assert "batch" not in wb.map_estimate(numbered(9), "{n}", model="local").line


# Servers ------------------------------------------------------------------------------------------------------------


def test_a_server_without_batches_is_an_error_that_leaves_nothing_behind(upstream: ScriptedUpstream) -> None:
    upstream.batches.there = False
    with pytest.raises(
        wb.UpstreamRefused, match=r"Claude has no Message Batches at this address \(404\); leave batch out"
    ):
        wb.map(numbered(5), "{n}", batch=True)
    none_was_begun()


def test_auto_asks_one_by_one_where_there_are_no_batches(
    upstream: ScriptedUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.batches.there = False
    result = wb.map(numbered(5), "{n}", batch="auto")

    assert result["error"].isna().all() and spent() == 5 * 2 * HALF
    assert "no Message Batches; the questions are asked one by one" in capsys.readouterr().err


def test_the_embedded_model_has_no_batches(no_key: Path) -> None:
    with pytest.raises(wb.InvalidRequest, match="the embedded model has no batches"):
        wb.map(numbered(1), "{n}", batch=True)
    with pytest.raises(wb.InvalidRequest, match="batch is 'yes'; it must be True, False or 'auto'"):
        wb.map(numbered(1), "{n}", batch="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["429", "429_retry_after", "529"])
def test_a_server_with_too_much_to_do_is_asked_again(name: str, upstream: ScriptedUpstream) -> None:
    one = f"{BATCHES}/msgbatch_00000001"
    upstream.script(*[fault(name, retry_after=0.05)] * 3, path=BATCHES)
    upstream.script(*[fault(name, retry_after=0.05), fault("500"), fault("reset_before")] * 2, path=one)
    upstream.script(fault(name, retry_after=0.05), fault("502_html"), path=f"{one}/results")
    result = wb.map(numbered(5), "{n}", batch=True)

    assert result["error"].isna().all() and len(upstream.batches.all) == 1 and upstream.scripted == 0
    assert spent() == 5 * HALF


@pytest.mark.parametrize(
    ("name", "kind"), [("401", wb.UpstreamRefused), ("429_retry_after_hour", wb.UpstreamRateLimited)]
)
def test_a_batch_that_is_refused_leaves_nothing_behind(
    name: str, kind: type[Exception], upstream: ScriptedUpstream
) -> None:
    upstream.script(*[fault(name)] * 5, path=BATCHES)
    with pytest.raises(kind):
        wb.map(numbered(5), "{n}", batch=True)
    none_was_begun()


def test_what_no_batch_could_be_begun_for_is_said_once_others_run(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "MOST_REQUESTS", 4)
    create, calls = batch_module.create, [0]

    async def second_fails(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            upstream.script(fault("402"), path=BATCHES)
        return await create(*arguments)

    monkeypatch.setattr(batch_module, "create", second_fails)
    result = wb.map(numbered(10), "{n}", batch=True)

    assert result["reply"].notna().tolist() == [True] * 4 + [False] * 6 and left() == 0
    assert result["error"][4:].str.startswith("not asked: Claude's account has a billing problem").all()
    assert "6 questions are left" in capsys.readouterr().err


# Results ------------------------------------------------------------------------------------------------------------


def edited(change: Callable[[list[Any]], list[Any]]) -> Callable[[list[bytes]], list[bytes]]:
    """Results with another content; what is no bytes is written as JSON."""

    def edit(lines: list[bytes]) -> list[bytes]:
        changed = change([json.loads(line) for line in lines])
        return [each if isinstance(each, bytes) else json.dumps(each).encode() for each in changed]

    return edit


def without_message(line: Any, **message: Any) -> Any:
    return line | {"result": {"type": "succeeded", "message": line["result"]["message"] | message}}


HOSTILE: dict[str, Callable[[list[Any]], list[Any]]] = {
    "unknown ones": lambda lines: [lines[0] | {"custom_id": "who"}, lines[0] | {"custom_id": ""}, *lines],
    "unknown ones in place of the first": lambda lines: [*([lines[0] | {"custom_id": "who"}] * 50), *lines],
    "one twice": lambda lines: [*lines, lines[0], without_message(lines[0], content=[{"type": "text", "text": "no"}])],
    "no JSON between": lambda lines: [b"", b"<html>", b"[" * 10_000, b'{"custom_id": 5}', b"\xff\xfe", *lines, b"{"],
    "another order": lambda lines: random.Random(1).sample(lines, len(lines)),
    "names of the future": lambda lines: [line | {"new": [1]} for line in lines],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_results_that_are_odd_beside_the_right_ones_change_nothing(name: str, upstream: ScriptedUpstream) -> None:
    upstream.batches.edit = edited(HOSTILE[name])
    result = wb.map(numbered(20), "{n}", batch=True)

    assert result["reply"].tolist() == [f"re {n}" for n in range(20)] and result["error"].isna().all()
    assert len(wb.usage()) == 20 and spent() == 20 * HALF


def failing(line: Any, result: Any) -> Any:
    return line | {"result": result}


BROKEN: dict[str, Callable[[Any], list[Any]]] = {
    "missing": lambda line: [],
    "of no known kind": lambda line: [failing(line, {"type": "postponed"})],
    "without a message": lambda line: [failing(line, {"type": "succeeded"})],
    "with a message that is none": lambda line: [failing(line, {"type": "succeeded", "message": {"content": "text"}})],
    "without usage": lambda line: [without_message(line, usage=None)],
    "with a count below zero": lambda line: [without_message(line, usage={"input_tokens": -5, "output_tokens": 1})],
    "with a block that is none": lambda line: [without_message(line, content=[{"type": "text", "text": {"a": 1}}])],
    "null": lambda line: [failing(line, None)],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_result_that_cannot_be_read_is_an_error_of_its_row_and_counted_as_charged(
    name: str, upstream: ScriptedUpstream
) -> None:
    upstream.batches.edit = edited(lambda lines: [*BROKEN[name](lines[0]), *lines[1:]])
    result = wb.map(numbered(5), "{n}", batch=True)  # the results come last one first

    assert result["reply"].isna().tolist() == [False] * 4 + [True]
    told = (
        "the batch ended without a result for this" if name == "missing" else "its result in the batch cannot be read"
    )
    assert result["error"][4] == f"{told}; the same call asks again"
    calls = wb.usage().set_index("id").loc[upstream.batches.all[0].requests[4]["custom_id"]]
    assert (calls["status"], calls["service_tier"]) == ("failed", "batch")
    assert calls["usage_estimated"] and calls["cost_usd"] > 0 and result["cost_usd"].sum() == spent()
    upstream.batches.edit = lambda lines: lines
    assert wb.map(numbered(5), "{n}", batch=True)["error"].isna().all()
    assert len(upstream.batches.all[1].requests) == 1


def test_text_that_some_store_cannot_keep_is_kept_as_far_as_it_can(upstream: ScriptedUpstream) -> None:
    odd = [{"type": "text", "text": "a\x00b"}, {"type": "thinking", "thinking": "", "signature": "x"}]
    upstream.batches.edit = edited(lambda lines: [without_message(lines[0], content=odd), *lines[1:]])
    result = wb.map(numbered(3), "{n}", batch=True)
    assert result["error"].isna().all() and result["reply"][2] == "a\x00b"

    half = lambda lines: [json.dumps(lines[0]).replace("re 5", "\\ud800").encode(), *lines[1:]]
    upstream.batches.edit = edited(half)
    result = wb.map(numbered(3, 3), "{n}", batch=True)
    assert result["reply"].tolist()[:2] == ["re 3", "re 4"]  # the line is no JSON, so whose result it is nobody knows
    assert result["error"][2] == "the batch ended without a result for this; the same call asks again"


def test_a_model_without_a_price_is_asked_at_unknown_cost(upstream: ScriptedUpstream) -> None:
    result = wb.map(numbered(3), "{n}", model="some-model", batch=True)
    assert result["error"].isna().all() and result["cost_usd"].tolist() == [None] * 3
    assert wb.usage()["cost_usd"].isna().all()


def test_results_that_break_off_are_read_again(upstream: ScriptedUpstream) -> None:
    reads = [0]

    def half_at_first(lines: list[bytes]) -> list[bytes]:
        reads[0] += 1
        return [*lines[:7], lines[7][:30]] if reads[0] < 3 else lines

    upstream.batches.edit = half_at_first
    result = wb.map(numbered(20), "{n}", batch=True)

    assert result["error"].isna().all() and reads == [3]
    assert len(wb.usage()) == 20 and spent() == 20 * HALF


def test_a_tier_that_the_upstream_names_otherwise_is_a_batch_all_the_same(upstream: ScriptedUpstream) -> None:
    usage = {"input_tokens": 1000, "output_tokens": 100, "service_tier": "standard"}
    upstream.batches.edit = edited(lambda lines: [without_message(line, usage=usage) for line in lines])
    assert wb.map(numbered(3), "{n}", batch=True)["cost_usd"].tolist() == [HALF] * 3


# What runs ----------------------------------------------------------------------------------------------------------


def begun(upstream: ScriptedUpstream, count: int = 6) -> None:
    """A batch that runs and nobody waits for."""
    upstream.batches.ends_at_look = None
    interrupt_at_look(upstream, 1)
    with pytest.raises(KeyboardInterrupt):
        wb.map(numbered(count), "{n}", batch=True)


def test_batches_that_run_are_listed_and_those_that_ended_recorded(upstream: ScriptedUpstream) -> None:
    begun(upstream)
    listed = wb.map_batches()
    assert listed[["batch", "model", "questions", "status", "processing", "succeeded"]].values.tolist() == [
        ["msgbatch_00000001", "claude-sonnet-5-5", 6, "in_progress", 6, 0]
    ]
    assert wb.map_batches(user="bob").empty
    upstream.batches.end(upstream.batches.all[0])
    assert wb.map_batches()[["status", "processing", "succeeded"]].values.tolist() == [["ended", 0, 6]]
    assert spent() == 6 * HALF and wb.map_batches().empty
    assert wb.map(numbered(6), "{n}")["cached"].all()


def test_a_batch_can_be_canceled(upstream: ScriptedUpstream) -> None:
    begun(upstream)
    wb.map_cancel("msgbatch_00000001")
    assert wb.map_batches()["status"].tolist() == ["canceling"]
    upstream.batches.end(upstream.batches.all[0])
    result = wb.map(numbered(6), "{n}", batch=True)

    assert result["error"].str.startswith("the batch was canceled").all() and spent() == 0
    with pytest.raises(wb.NotFound, match=r"no batch 'msgbatch_00000001'; wb\.map_batches"):
        wb.map_cancel("msgbatch_00000001")
    upstream.batches.ends_at_look = 1
    assert wb.map(numbered(6), "{n}", batch=True)["error"].isna().all()


def test_a_batch_that_the_server_does_not_know_can_be_given_up(upstream: ScriptedUpstream) -> None:
    begun(upstream)
    upstream.batches.all.clear()
    with pytest.raises(wb.UpstreamRefused, match=r"does not know the batch 'msgbatch_00000001'.*wb.map_cancel"):
        wb.map(numbered(6), "{n}", batch=True)
    assert wb.map_batches()["status"].tolist() == ["unknown"]
    wb.map_cancel("msgbatch_00000001")

    calls = wb.usage()
    assert (calls["status"] == "lost").all() and calls["usage_estimated"].all() and spent() > 0 and left() == 0
    upstream.batches.ends_at_look = 1
    assert wb.map(numbered(6), "{n}", batch=True)["error"].isna().all()


def test_a_batch_that_nobody_can_look_for_can_be_given_up(upstream: ScriptedUpstream) -> None:
    upstream.batches.lost_answers = 1
    with pytest.raises(wb.UpstreamError, match="not known whether the batch was begun"):
        wb.map(numbered(4), "{n}", batch=True)
    upstream.script(fault("403"), path=BATCHES)
    with pytest.raises(wb.UpstreamRefused, match="no permission"):
        wb.map(numbered(4), "{n}", batch=True)
    assert left() == 4
    (id,) = wb.map_batches()["batch"]
    wb.map_cancel(id)
    assert (wb.usage()["status"] == "lost").all() and wb.usage()["usage_estimated"].all() and left() == 0


def test_a_batch_that_nobody_came_for_is_lost_when_its_results_are(upstream: ScriptedUpstream) -> None:
    begun(upstream, 2)
    runtime.close()
    _ = engine()
    assert wb.usage().empty and left() == 2
    run(engine().store.backend.write([kept.Statement("UPDATE holds SET expires_at = started_at", ())]))
    runtime.close()  # the next to open the store finds it

    calls = wb.usage()
    assert (calls["status"] == "lost").all() and (calls["service_tier"] == "batch").all()
    # 90 tokens of input at $2 and 600 of a reply at $10, a million, and half of it
    assert calls["cost_usd"].tolist() == [D("0.00309")] * 2 and left() == 0


def test_progress_says_how_far_the_batch_is(upstream: ScriptedUpstream, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    update = follow.Follow.ended

    async def told(self: Any, *arguments: Any) -> Any:
        result = await update(self, *arguments)
        lines.append(self._watcher.line)
        return result

    follow.Follow.ended = told  # type: ignore[method-assign]
    try:
        wb.map(numbered(6), "{n}", batch=True, show=True)
    finally:
        follow.Follow.ended = update  # type: ignore[method-assign]
    assert lines == ["0 of 6 questions · $0 so far · 1 batch, 0 min: 0 processing, 6 succeeded, 0 errored"]
    assert "6 of 6 questions · $0.0090 so far" in capsys.readouterr().err
