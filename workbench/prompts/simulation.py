"""Chats that nobody had, for trying an experiment out before real ones come; everything of them says so."""

from __future__ import annotations

import math
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequest
from workbench.ids import new_id
from workbench.pricing import cost_and_source
from workbench.store import bulk
from workbench.turns import Usage
from workbench.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from workbench.prompts.experiments import StoredExperiment
    from workbench.store.backend import Backend

SYNTHETIC = "synthetic-"
"""With what the id of an org begins that simulated chats may be written to."""
MODEL = "claude-sonnet-5-5"
FACTORS = {"output_tokens": 350.0, "ttft": 900.0}
"""What an arm may multiply, and the geometric mean without that: tokens a reply, milliseconds to the first one."""
CHANCES = {"errors": 0.02, "thumbs": 0.6}
"""What an arm may add to, and the chance without that: of a failed call, of a rated chat's thumb to be up."""
MORE_TURNS = 0.6
"""The chance of another question after each reply."""
RATED = 0.3
MS_A_TOKEN = 15
INPUT_TOKENS = 400
"""Of a first question, with its prompt."""

Effects = dict[str, dict[str, float]]


def check(org_id: str, experiment: StoredExperiment, chats: int, effects: Mapping[str, Mapping[str, float]]) -> None:
    """Raise InvalidRequest if these chats cannot be simulated."""
    if not org_id.startswith(SYNTHETIC):
        raise InvalidRequest(
            f"simulated chats would be counted with the real ones of {org_id}; start the experiment in an org whose id "
            f"begins with {SYNTHETIC!r}"
        )
    if not experiment.running:
        raise InvalidRequest(f"the experiment {experiment.name} was stopped; start another one")
    if not isinstance(chats, int) or chats < 1:
        raise InvalidRequest(f"{chats!r} chats cannot be simulated; give a whole number of at least 1")
    if unknown := sorted(set(effects) - set(experiment.arms)):
        raise InvalidRequest(f"no arm {', '.join(unknown)} in {experiment.name}; it has {', '.join(experiment.arms)}")
    known = {*FACTORS, *CHANCES}
    if unknown := sorted({name for changes in effects.values() for name in changes} - known):
        raise InvalidRequest(f"no effect on {', '.join(unknown)}; there are {', '.join(sorted(known))}")


def rows(
    org_id: str,
    experiment: StoredExperiment,
    chats: int,
    effects: Mapping[str, Mapping[str, float]],
    now: datetime,
    random: Random,
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of simulated chats by table; those that the experiment does not take leave none."""
    tables = ("orgs", "users", "chats", "messages", "exposures", "usage", "feedback")
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in tables}
    made["orgs"].append({"id": org_id, "created_at": now})
    for n in range(chats):
        ids = {"org_id": org_id, "chat_id": new_id(), "user_id": f"{SYNTHETIC}user-{n % 40}"}
        dealt = experiment.arm_of(ids["chat_id"], ids["user_id"])
        if dealt is None or dealt[0] in experiment.stopped_arms:
            continue
        arm, unit_id = dealt
        made["users"].append({"org_id": org_id, "id": ids["user_id"], "created_at": now})
        at, changes = now + timedelta(milliseconds=n), effects.get(arm, {})
        begun = {"id": ids["chat_id"], "org_id": org_id, "user_id": ids["user_id"], "created_at": at, "updated_at": at}
        prompt = {"prompt_name": experiment.prompt, "prompt_version": int(arm[1:])}
        made["chats"].append(
            begun | prompt | {"title": "(synthetic chat)", "experiment": experiment.name, "variant": arm}
        )
        exposure = {"id": new_id(), "experiment": experiment.name, "variant": arm, "exposed_at": at}
        made["exposures"].append(ids | exposure | {"version": prompt["prompt_version"], "unit_id": unit_id})
        calls = _calls(ids, experiment, arm, at, changes, random)
        made["usage"] += calls
        made["messages"] += [message for place, call in enumerate(calls) for message in _messages(call, place)]
        if random.random() < RATED:
            up = random.random() < CHANCES["thumbs"] + changes.get("thumbs", 0)
            made["feedback"].append(
                ids
                | {"id": new_id(), "message_id": calls[-1]["message_id"], "score": 1 if up else -1, "created_at": at}
            )
    return made


def _calls(
    ids: Mapping[str, Any],
    experiment: StoredExperiment,
    arm: str,
    at: datetime,
    changes: Mapping[str, float],
    random: Random,
) -> list[dict[str, Any]]:
    """The calls of one chat: a reply makes the next question longer."""

    def about(name: str, spread: float) -> float:
        return FACTORS[name] * changes.get(name, 1) * math.exp(spread * random.gauss(0, 1))

    calls: list[dict[str, Any]] = []
    talkative, prompt = math.exp(0.5 * random.gauss(0, 1)), INPUT_TOKENS
    while not calls or random.random() < MORE_TURNS:
        fails = random.random() < CHANCES["errors"] + changes.get("errors", 0)
        reply, ttft = max(1, round(talkative * about("output_tokens", 0.5))), round(about("ttft", 0.5))
        usage = Usage() if fails else Usage(uncached_input_tokens=prompt, output_tokens=reply)
        cost, source = cost_and_source(MODEL, usage, at)
        call = {
            "id": new_id(),
            "request_id": f"{SYNTHETIC}{new_id()}",
            "message_id": new_id(),
            "source": "server",
            "model": MODEL,
            "prompt_name": experiment.prompt,
            "prompt_version": int(arm[1:]),
            "experiment": experiment.name,
            "variant": arm,
            "started_at": at,
            "ttft_ms": None if fails else ttft,
            "duration_ms": ttft + (0 if fails else MS_A_TOKEN * reply),
            "input_tokens": usage.input_tokens,
            "uncached_input_tokens": usage.uncached_input_tokens,
            "cache_read_tokens": 0,
            "cache_write_5m_tokens": 0,
            "cache_write_1h_tokens": 0,
            "output_tokens": usage.output_tokens,
            "thinking_tokens": 0,
            "web_searches": 0,
            "status": "failed" if fails else "complete",
            "error_type": "upstream_overloaded" if fails else None,
            "usage_estimated": False,
            "cost_usd": cost if cost is None else plain(cost),
            "price_source": source,
        }
        calls.append({**ids, **call})
        prompt += 60 + usage.output_tokens
    return calls


def _messages(call: Mapping[str, Any], place: int) -> Iterator[dict[str, Any]]:
    """A question and its reply, told only by their length."""
    for n, role in enumerate(("user", "assistant")):
        tokens = call["output_tokens"] if n else 60
        text = f"(synthetic {'reply' if n else 'question'} of {tokens} tokens)" if tokens else ""
        yield {
            "id": call["message_id"] if n else new_id(),
            "chat_id": call["chat_id"],
            "org_id": call["org_id"],
            "seq": 2 * place + 1 + n,
            "role": role,
            "content": text,
            "blocks": f'[{{"type":"text","text":"{text}"}}]' if text else "[]",
            "token_count": tokens,
            "status": call["status"] if n else "complete",
            "model": MODEL if n else None,
            "created_at": call["started_at"],
        }


async def simulate(
    backend: Backend,
    org_id: str,
    experiment: StoredExperiment,
    chats: int,
    effects: Mapping[str, Mapping[str, float]],
    now: datetime,
    seed: int,
) -> int:
    """Write simulated chats and return how many the experiment took; see :func:`workbench.experiments.simulate`."""
    check(org_id, experiment, chats, effects)
    made = rows(org_id, experiment, chats, effects, now, Random(seed))
    await bulk.add(backend, made)
    return len(made["exposures"])
