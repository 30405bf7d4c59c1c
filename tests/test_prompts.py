"""Prompts: versions that never change, labels that move, and chats that use them."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from tests.faults.upstream import Usage, fault, reply
from tests.test_store import EVE, child
from workbench import runtime
from workbench.errors import Conflict, InvalidRequest, LabelProtected, ModelRetired, PromptError, UnknownPrompt
from workbench.prompts import labelling, versions
from workbench.prompts.differences import words
from workbench.prompts.text import Reference, render, variables_of
from workbench.store import Store
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream
    from workbench.prompts import Prompt

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


async def saved(store: Store, *texts: str, name: str = "support") -> list[Prompt]:
    return [await versions.save(store.backend, DEFAULT_ID, name, text, NOON, author="ada") for text in texts]


async def moved(store: Store, version: int, label: str = "production", *, force: bool = False) -> Prompt:
    return await labelling.move(
        store.backend, DEFAULT_ID, "support", label, version, NOON, by="ada", note="better", force=force
    )


async def rolled_back(store: Store, *, force: bool = False) -> int:
    found = await labelling.rollback(store.backend, DEFAULT_ID, "support", "production", NOON, by="bob", force=force)
    return found.version


async def pointed(store: Store, reference: str = "support") -> int:
    return (await versions.get(store.backend, DEFAULT_ID, reference)).version


# Names, references, variables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "means"),
    [
        ("support", ("support", "production", None)),
        ("support@staging", ("support", "staging", None)),
        ("support@3", ("support", None, 3)),
        ("support@v3", ("support", None, 3)),
        ("support@latest", ("support", "latest", None)),
        ("support@0", ("support", None, 0)),
        ("support@99999999999", ("support", None, 2147483647)),
        ("v2.tone_b-1@v3x", ("v2.tone_b-1", "v3x", None)),
    ],
)
def test_a_reference_means_a_label_or_a_version(reference: str, means: tuple[str, str | None, int | None]) -> None:
    assert Reference.parse(reference) == means


@pytest.mark.parametrize("reference", ["", "@3", "a b", "-a", "a" * 65, "support@", "ä", "a\n", "a@b@c"])
def test_what_can_be_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(PromptError, match="cannot be called"):
        Reference.parse(reference)


def test_values_are_put_in_as_they_are_and_never_read_again() -> None:
    text = "Help {{customer}} with {{ product }}; {{customer}}! {{2 + 2}} {{{customer}}}"
    values = {"customer": "{{product}} \\1 {x}", "product": "{{customer}}"}

    assert variables_of(text) == ("customer", "product")
    assert render(text, values, "support@1") == (
        "Help {{product}} \\1 {x} with {{customer}}; {{product}} \\1 {x}! {{2 + 2}} {{{product}} \\1 {x}}"
    )


@given(
    st.dictionaries(st.from_regex(r"[A-Za-z_]\w{0,9}", fullmatch=True), st.text("{} \\x1abc", max_size=9), max_size=4)
)
def test_any_value_comes_out_as_it_went_in(values: dict[str, str]) -> None:
    values = {name: value for name, value in values.items() if name.isascii()}
    text = "|".join(f"{{{{{name}}}}}" for name in values)

    assert render(text, values, "p@1") == "|".join(values.values())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "the prompt p@1 is missing 'a', 'b'; its variables are 'a', 'b'"),
        ({"a": 1, "c": 2}, "the prompt p@1 is missing 'b' and does not know 'c'; its variables are 'a', 'b'"),
        ({"a": "x", "b": None}, "the variable 'b' is of type NoneType; it must be a text"),
        ({"a": "x", "b": "\0"}, "the variable 'b' holds characters that are no text"),
        ({"a": "x", "b": 10**5000}, "the variable 'b' is a number of thousands of digits"),
        (7, "variables must be names with their values"),
    ],
)
def test_what_does_not_fit_the_variables_is_named(values: dict[str, object], told: str) -> None:
    with pytest.raises(PromptError, match=told.replace("{", r"\{")):
        render("{{a}} {{b}}", values, "p@1")


def test_a_long_value_that_is_named_often_is_refused_before_it_is_filled_in() -> None:
    """200,000 times a megabyte would be 200 GB."""
    text = "{{a}}" * 200_000
    with pytest.raises(PromptError, match=r"p@1 has 200,000,000,000 characters with these values, more than 1,000,000"):
        render(text, {"a": "x" * 1_000_000}, "p@1")
    assert render(text, {"a": "12345"}, "p@1") == "12345" * 200_000


def test_values_for_a_prompt_without_variables_are_refused() -> None:
    with pytest.raises(PromptError, match="p@1 does not know 'a'; it has no variables"):
        render("Hi", {"a": "x"}, "p@1")


# Versions -----------------------------------------------------------------------------------------------------------


async def test_a_version_is_kept_as_it_was_saved(store: Store) -> None:
    await versions.save(
        store.backend, DEFAULT_ID, "support", "Help {{customer}}. ", NOON, note="first", author="ada",
        model="claude-haiku-5-5", effort="low",
    )  # fmt: skip
    found = await versions.get(store.backend, DEFAULT_ID, "support")

    assert (str(found), found.text, found.variables) == ("support@1", "Help {{customer}}. ", ("customer",))
    assert (found.note, found.author, found.model, found.effort) == ("first", "ada", "claude-haiku-5-5", "low")
    assert (found.created_at, found.labels) == (NOON, ("production",))
    assert len(found.sha256) == 64


async def test_the_same_again_is_the_version_it_was(store: Store) -> None:
    first, second, again = await saved(store, "one", "two", "one")
    as_haiku = await versions.save(store.backend, DEFAULT_ID, "support", "one", NOON, model="claude-haiku-5-5")
    with_effort = await versions.save(store.backend, DEFAULT_ID, "support", "one", NOON, effort="low")

    assert [first.version, second.version, again.version] == [1, 2, 1]
    assert [as_haiku.version, with_effort.version] == [3, 4]
    assert await pointed(store) == 1  # later versions move nothing


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": "a b"}, PromptError),
        ({"text": " \n"}, PromptError),
        ({"text": "a\0b"}, PromptError),
        ({"text": 7}, PromptError),
        ({"text": "x" * 1_000_001}, PromptError),
        ({"effort": "extreme"}, PromptError),
        ({"model": ""}, PromptError),
        ({"model": "claude-3-opus-20240229"}, ModelRetired),
        ({"note": "x" * 2001}, PromptError),
    ],
)
async def test_what_cannot_be_a_version_is_refused(file_store: Store, changes: dict[str, str], error: type) -> None:
    asked = {"name": "support", "text": "Hi"} | changes
    with pytest.raises(error):
        await versions.save(file_store.backend, DEFAULT_ID, asked.pop("name"), asked.pop("text"), NOON, **asked)
    assert (await versions.table(file_store.backend, DEFAULT_ID)).num_rows == 0


async def test_what_there_is_not_is_answered_with_what_there_is(store: Store) -> None:
    await saved(store, "one", "two")
    for reference, told in (
        ("other", "no prompt 'other'; there are: support"),
        ("support@3", "no version 'support@3'; the newest is support@2"),
        ("support@staging", "no label 'support@staging'; support has: production, latest"),
    ):
        with pytest.raises(UnknownPrompt) as caught:
            await versions.get(store.backend, DEFAULT_ID, reference)
        assert str(caught.value) == told
    with pytest.raises(UnknownPrompt, match=r"there is none yet; save one with wb\.prompts\.save,"):
        await versions.get(store.backend, EVE.org_id, "support")


async def test_history_and_search_show_the_newest_first(store: Store) -> None:
    await saved(store, "one dog", "two dogs")
    await saved(store, "a cat", name="tone")
    rows = (await versions.history(store.backend, DEFAULT_ID, "support")).to_pylist()
    found = (await versions.found_in(store.backend, DEFAULT_ID, "DOG")).to_pylist()
    named = (await versions.table(store.backend, DEFAULT_ID)).to_pylist()

    assert [(row["version"], row["text"], row["labels"]) for row in rows] == [
        (2, "two dogs", None),
        (1, "one dog", "production"),
    ]
    assert [(row["name"], row["version"]) for row in found] == [("support", 2), ("support", 1)]
    assert [(row["name"], row["latest"], row["production"]) for row in named] == [("support", 2, 1), ("tone", 1, 1)]
    assert (await versions.history(store.backend, DEFAULT_ID, "support", 1, before=2))["version"].to_pylist() == [1]
    with pytest.raises(UnknownPrompt):
        await versions.history(store.backend, DEFAULT_ID, "other")


SAVE = """
async def main(path, texts):
    from workbench.prompts import versions
    store = await Store.open(path)
    print("ready", flush=True)
    sys.stdin.readline()
    for text in texts:
        print((await versions.save(store.backend, DEFAULT_ID, "support", text, NOON)).version, flush=True)
    store.close()
asyncio.run(main(sys.argv[1], sys.argv[2:]))
"""


async def test_two_processes_that_save_at_once_lose_nothing(address: str, backend: str) -> None:
    """Numbers stay dense; a text that both save is one version."""
    texts = [[f"{who} {n}" for n in range(15)] + [f"both {n}" for n in range(5)] for who in ("ada", "bob")]
    with child(SAVE, address, *texts[0]) as one, child(SAVE, address, *texts[1]) as two:
        for each in (one, two):
            assert each.stdout.readline() == "ready\n"
        for each in (one, two):
            each.stdin.write("go\n")
            each.stdin.flush()
        numbers = [list(map(int, each.stdout.read().split())) for each in (one, two)]
    store = await Store.open(address)
    rows = (await versions.history(store.backend, DEFAULT_ID, "support")).to_pylist()
    store.close()

    assert [row["version"] for row in rows] == list(range(35, 0, -1))
    kept = {row["version"]: row["text"] for row in rows}
    assert [[kept[n] for n in got] for got in numbers] == texts


# Labels -------------------------------------------------------------------------------------------------------------


async def test_every_move_is_kept_with_who_and_why(store: Store) -> None:
    await saved(store, "one", "two", "three")
    assert (await moved(store, 2)).labels == ("production",)
    await moved(store, 2)  # it is there already
    await moved(store, 3, "staging")
    moves = await labelling.moves(store.backend, DEFAULT_ID, "support", "production")

    assert [(m.move, m.from_version, m.version, m.moved_by, m.note) for m in moves] == [
        (2, 1, 2, "ada", "better"),
        (1, None, 1, "ada", "the first version"),
    ]
    assert [(label.label, label.version) for label in await labelling.labels(store.backend, DEFAULT_ID, "support")] == [
        ("production", 2),
        ("staging", 3),
    ]


async def test_each_rollback_goes_one_further_back(store: Store) -> None:
    await saved(store, "one", "two", "three")
    for version in (3, 2, 3):
        await moved(store, version)

    assert [await rolled_back(store) for _ in range(3)] == [2, 3, 1]
    moves = await labelling.moves(store.backend, DEFAULT_ID, "support")
    assert [(m.move, m.version, m.undid) for m in moves[:3]] == [(7, 1, 6), (6, 3, 5), (5, 2, 4)]
    assert moves[0].note == "rollback from version 3"
    with pytest.raises(Conflict, match="where it has always been, at version 1; move it"):
        await rolled_back(store)


async def test_a_rollback_of_what_was_moved_after_one_goes_back_to_that(store: Store) -> None:
    await saved(store, "one", "two", "three")
    await moved(store, 2)
    assert await rolled_back(store) == 1
    await moved(store, 3)

    assert await rolled_back(store) == 1
    assert await pointed(store) == 1


async def test_the_last_move_counts_whatever_the_clock_of_its_server_says(store: Store) -> None:
    await saved(store, "one", "two", "three")
    for version, minutes in ((2, 0), (3, -30), (2, -10), (1, -20)):
        at = NOON + timedelta(minutes=minutes)
        await labelling.move(store.backend, DEFAULT_ID, "support", "production", version, at)

    assert await pointed(store) == 1
    assert [await rolled_back(store) for _ in range(3)] == [2, 3, 2]
    assert await pointed(store) == 2


async def test_a_rollback_does_not_take_back_what_it_has_not_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody moves the label between looking and writing."""
    await saved(store, "one", "two", "three")
    await moved(store, 2)
    write = labelling._write

    async def too_late(*arguments: object, **more: object) -> str:
        monkeypatch.setattr(labelling, "_write", write)
        await moved(store, 3)
        return await write(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(labelling, "_write", too_late)
    with pytest.raises(Conflict, match="moved meanwhile"):
        await rolled_back(store)
    assert await pointed(store) == 3


async def test_a_protected_label_is_moved_by_force_only(store: Store) -> None:
    await saved(store, "one", "two")
    for _ in range(2):
        await labelling.protect(store.backend, DEFAULT_ID, "support", "production", NOON, "ada")
    with pytest.raises(LabelProtected):
        await moved(store, 2)
    await moved(store, 2, "staging")
    assert await pointed(store) == 1

    await moved(store, 2, force=True)
    with pytest.raises(LabelProtected):
        await rolled_back(store)
    assert await rolled_back(store, force=True) == 1
    await labelling.unprotect(store.backend, DEFAULT_ID, "support", "production")
    assert (await moved(store, 2)).labels == ("production", "staging")


@pytest.mark.parametrize("label", ["3", "v3", "v0", "latest", "a b", ""])
async def test_a_label_is_no_version(file_store: Store, label: str) -> None:
    await saved(file_store, "one")
    with pytest.raises(PromptError, match=r"cannot be called|cannot be moved"):
        await moved(file_store, 1, label)


async def test_an_org_knows_nothing_of_the_prompts_of_another(store: Store) -> None:
    await saved(store, "one", "two")
    hers = await versions.save(store.backend, EVE.org_id, "support", "hers", NOON)

    assert (hers.version, await pointed(store, "support@latest")) == (1, 2)
    with pytest.raises(UnknownPrompt):
        await labelling.move(store.backend, EVE.org_id, "support", "production", 2, NOON)
    assert (await versions.found_in(store.backend, EVE.org_id, "one")).num_rows == 0


# Differences --------------------------------------------------------------------------------------------------------


@given(st.text("ab .\n", max_size=12), st.text("ab .\n", max_size=12))
def test_the_words_of_a_difference_make_up_both_texts(before: str, after: str) -> None:
    pieces = words(before, after)

    assert "".join(piece.text for piece in pieces if piece.kind != "ins") == before
    assert "".join(piece.text for piece in pieces if piece.kind != "del") == after


def test_the_difference_of_long_monotonous_texts_is_there_at_once() -> None:
    """A table, or 4,000 words: with every pair of equal words looked at for every change it took minutes."""
    before, after = "| 1 | 2 |\n" * 4000, "| 1 | 3 |\n" * 4000
    begun = time.process_time()  # others may need the machine meanwhile
    pieces = words(before, after)

    assert time.process_time() - begun < 5
    assert "".join(piece.text for piece in pieces if piece.kind != "ins") == before
    assert "".join(piece.text for piece in pieces if piece.kind != "del") == after


def test_who_saves_is_a_name_that_every_store_can_keep(no_key: Path) -> None:
    """DuckDB would take NUL, and `workbench store copy` to PostgreSQL would then fail."""
    for change in (
        lambda: wb.prompts.save("support", "one", user="a\0"),
        lambda: wb.experiments.stop("tone", user="\ud800"),
    ):
        with pytest.raises(InvalidRequest, match="the user holds characters that are no text"):
            change()


def test_a_difference_is_said_in_words_tokens_and_dollars(scripted: ScriptedUpstream) -> None:
    """4 calls in a month, half of their input from the cache, at $2 new and $0.10 cached a million."""
    wb.prompts.save("support", "Be brief.")
    wb.prompts.save("support", "Be brief, <b>please</b>.")
    before = wb.prompts.diff("support")
    scripted.script(*[reply("Fine", usage=Usage(uncached_input_tokens=500, cache_read_tokens=500))] * 4)
    chat = wb.Chat(prompt="support")
    for _ in range(4):
        chat.ask("hi")
    diff = wb.prompts.diff("support", 1, 2)

    assert "no traffic yet" in str(before)
    assert (diff.calls, diff.cached_share, diff.tokens_after - diff.tokens_before) == (4, 0.5, 9)
    assert diff.usd_per_month == 4 * 9 * (Decimal("0.0000020") + Decimal("0.0000001")) / 2
    assert "about 3 tokens -> 12 (+9)" in str(diff)
    assert "+$0.0000378 a month at 4 calls in the last 30 days, 50% of their input from the cache" in str(diff)
    assert "Be brief{+, <b>please</b>+}." in str(diff)
    assert "Be brief<ins style=" in diff._repr_html_()
    assert "&lt;b&gt;please&lt;/b&gt;" in diff._repr_html_()


@pytest.mark.parametrize(("length", "price"), [(1000, "0.10"), (150_000, "0.50")])
def test_a_difference_is_priced_by_the_length_of_the_prompts(
    scripted: ScriptedUpstream, length: int, price: str
) -> None:
    """Haiku 5.5 costs five times as much a token above 100,000 of them."""
    wb.prompts.save("support", "Be brief.")
    wb.prompts.save("support", "Be brief, <b>please</b>.")
    scripted.script(reply("Fine", usage=Usage(uncached_input_tokens=length)))
    wb.Chat(prompt="support", model="claude-haiku-5-5").ask("hi")

    assert wb.prompts.diff("support", 1, 2).usd_per_month == 9 * Decimal(price) / 1_000_000


# What notebooks see -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_key")
def test_prompts_are_kept_compared_and_moved_from_a_notebook() -> None:
    wb.prompts.save("support", "You help {{customer}}.", note="first", user="ada")
    second = wb.prompts.save("support", "You help {{customer}} <fast>.", note="faster", effort="low", user="bob")
    wb.prompts.label("support", "production", 2, note="tried", user="ada")

    assert repr(second).startswith("<Prompt support@2 · ")
    assert "&lt;fast&gt;" in second._repr_html_()
    assert wb.prompts.render("support", {"customer": "Ada"}) == "You help Ada <fast>."
    history = wb.prompts.history("support")
    assert history[["version", "labels", "author", "variables"]].to_dict("records")[0] == {
        "version": 2,
        "labels": "production",
        "author": "bob",
        "variables": "customer",
    }
    assert wb.prompts.list().loc[0, ["name", "latest", "production"]].tolist() == ["support", 2, 2]
    assert wb.prompts.search("FAST")["version"].tolist() == [2]
    assert wb.prompts.rollback("support", note="complaints").version == 1
    moves = wb.prompts.moves("support")
    assert moves["note"].tolist() == ["rollback from version 2: complaints", "tried", "the first version"]
    assert moves["undid"].tolist()[0] == 2
    wb.prompts.protect("support", user="ada")
    assert wb.prompts.labels("support")["protected"].tolist() == [True]
    with pytest.raises(LabelProtected):
        wb.prompts.label("support", "production", 2)
    wb.prompts.protect("support", protected=False)
    assert wb.prompts.label("support", "staging", history["version"].iloc[0]).version == 2  # one of NumPy's
    assert wb.prompts.label("support", "production", "v2").version == 2


@pytest.mark.usefixtures("no_key")
def test_labels_of_a_prompt_that_there_is_not_are_an_error() -> None:
    for ask in (wb.prompts.labels, wb.prompts.moves, wb.prompts.history, wb.prompts.diff, wb.prompts.rollback):
        with pytest.raises(UnknownPrompt):
            ask("support")
    assert wb.prompts.labels().empty
    assert wb.prompts.list().empty


# Chats --------------------------------------------------------------------------------------------------------------


def system_of(scripted: ScriptedUpstream) -> str:
    return str(scripted.last.body["system"])


def calls() -> list[tuple[str, int]]:
    rows = wb.sql("SELECT prompt_name, prompt_version FROM usage ORDER BY started_at")
    return [(name, int(version)) for name, version in rows.itertuples(index=False)]


def test_a_chat_keeps_the_version_of_its_first_turn(scripted: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help {{customer}}.")
    wb.prompts.save("support", "You serve {{customer}}.")
    chat = wb.Chat(prompt="support", variables={"customer": "Ada"})
    wb.prompts.label("support", "production", 2)  # before the first turn: the chat has not looked yet
    said = chat.ask("hi")
    wb.prompts.label("support", "production", 1)
    chat.ask("and?")
    again = wb.Chat.open(chat.id)
    again.ask("well?")
    again.fork(at=2).ask("or?")
    other = wb.Chat(prompt="support", variables={"customer": "Bob"})
    other.ask("hi")

    assert (said.prompt, chat.prompt, again.prompt, other.prompt) == (
        "support@2",
        "support@2",
        "support@2",
        "support@1",
    )
    systems = [request.body["system"] for request in scripted.requests]
    assert systems == ["You serve Ada."] * 4 + ["You help Bob."]
    assert calls() == [("support", 2)] * 4 + [("support", 1)]
    summed = wb.usage(by=["prompt_name", "prompt_version"])
    assert summed["calls"].tolist() == [1, 4]
    assert wb.chats()["prompt"].tolist() == ["support@1", "support@2", "support@2"]


def test_a_chat_goes_on_with_another_prompt_from_the_next_turn_on(scripted: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help {{customer}}.")
    wb.prompts.save("support", "You serve {{customer}} for {{price}}.")
    wb.prompts.save("tone", "Be kind to {{customer}}.")
    chat = wb.Chat(prompt="support", variables={"customer": "Ada"})
    chat.ask("hi")
    chat.use_prompt("tone")  # the value it has goes on
    assert (chat.prompt, chat.system) == ("tone", "You help Ada.")
    assert chat.ask("and?").prompt == "tone@1"
    chat.use_prompt("support@2")
    with pytest.raises(PromptError, match="support@2 is missing 'price'"):
        chat.ask("well?")
    chat.use_prompt("support@2", {"customer": "Bob", "price": 3})
    chat.ask("well?")

    assert [r.body["system"] for r in scripted.requests] == [
        "You help Ada.",
        "Be kind to Ada.",
        "You serve Bob for 3.",
    ]
    assert wb.Chat.open(chat.id).system == "You serve Bob for 3."
    assert calls() == [("support", 1), ("tone", 1), ("support", 2)]


def test_a_prompt_that_is_chosen_while_a_reply_comes_is_that_of_the_next_turn(scripted: ScriptedUpstream) -> None:
    wb.prompts.save("support", "one")
    wb.prompts.save("tone", "two")
    scripted.script(reply("a b c", pause_after=1), reply("Fine"))
    chat = wb.Chat(prompt="support")
    stream = chat.stream("hi")
    pieces = iter(stream)
    next(pieces)
    chat.use_prompt("tone")
    scripted.release()
    list(pieces)

    assert (stream.reply.prompt, chat.ask("and?").prompt) == ("support@1", "tone@1")


def test_a_prompt_that_does_not_fit_is_said_before_anything_is_asked(scripted: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help {{customer}}.")
    for arguments, told in (
        ({"prompt": "other"}, "there are: support"),
        ({"prompt": "support@staging", "variables": {"customer": "Ada"}}, "support has: production, latest"),
        ({"prompt": "support"}, "is missing 'customer'"),
        ({"prompt": "support", "variables": {"customer": "Ada", "price": 3}}, "does not know 'price'"),
    ):
        chat = wb.Chat(**arguments)
        for ask in (chat.ask, chat.count_tokens, chat.estimate):
            with pytest.raises(PromptError, match=told):
                ask("hi")
    with pytest.raises(PromptError, match="not both"):
        wb.Chat("You are terse.", prompt="support")
    with pytest.raises(PromptError, match="name the prompt too"):
        wb.Chat(variables={"customer": "Ada"})
    with pytest.raises(PromptError, match="cannot be called"):
        wb.Chat().use_prompt("a b")
    assert scripted.requests == []
    assert wb.chats().empty


def test_the_model_and_the_effort_of_a_prompt_hold_unless_somebody_names_another(scripted: ScriptedUpstream) -> None:
    wb.prompts.save("support", "Hi", model="claude-haiku-5-5", effort="low")
    chat = wb.Chat(prompt="support")
    assert chat.model == "claude-haiku-5-5"
    chat.ask("hi")
    chat.ask("hi", model="claude-opus-5-5")
    wb.Chat.open(chat.id).ask("hi")
    wb.Chat(prompt="support", model="claude-sonnet-5-5").ask("hi")

    sent = [(r.body["model"], r.body["output_config"]) for r in scripted.requests]
    assert [model for model, _ in sent] == [
        "claude-haiku-5-5",
        "claude-opus-5-5",
        "claude-haiku-5-5",
        "claude-sonnet-5-5",
    ]
    assert [config for _, config in sent] == [{"effort": "low"}] * 4


def test_estimates_and_counts_know_the_prompt_before_the_first_turn(scripted: ScriptedUpstream) -> None:
    wb.prompts.save("long", "word " * 2000)
    plain, named = wb.Chat(), wb.Chat(prompt="long")

    assert named.estimate("hi").input_tokens - plain.estimate("hi").input_tokens > 2000
    assert named.count_tokens("hi").tokens - plain.count_tokens("hi").tokens > 1500
    named.ask("hi")
    named.use_prompt("long@1")
    assert wb.Chat.open(named.id).estimate("hi").cached_tokens == named.estimate("hi").cached_tokens


def test_another_prompt_is_read_from_no_cache(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Fine", usage=Usage(uncached_input_tokens=10, cache_write_5m_tokens=2000)))
    wb.prompts.save("long", "word " * 2000)
    wb.prompts.save("short", "Hi")
    chat = wb.Chat(prompt="long")
    chat.ask("hi")
    same = chat.estimate("hi")
    chat.use_prompt("short")
    other = chat.estimate("hi")

    assert (same.cached_tokens, other.cached_tokens) == (2000, 0)
    assert other.input_tokens < 100


def test_a_turn_that_fails_has_its_prompt_too(scripted: ScriptedUpstream) -> None:
    scripted.script(fault("400"))
    wb.prompts.save("support", "Hi")
    chat = wb.Chat(prompt="support")
    with pytest.raises(wb.UpstreamError) as caught:
        chat.ask("hi")

    assert caught.value.reply is not None
    assert caught.value.reply.prompt == "support@1"
    assert calls() == [("support", 1)]


DIE = """
import workbench as wb
wb.prompts.save("support", "Hi {{customer}}")
for piece in wb.Chat(prompt="support", variables={"customer": "Ada"}).stream("count"):
    print("begun", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lost_turn_has_its_prompt_too(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("one two three", pause_after=1))
    runtime.close()
    with child(DIE) as process:
        process.communicate(timeout=120)
    rows = wb.sql("SELECT status, prompt_name, prompt_version FROM usage")

    assert rows.values.tolist() == [["lost", "support", 1]]


async def test_chats_of_two_processes_see_a_move_at_once(address: str) -> None:
    """No cache keeps what a label pointed at: the second store reads it with its next question."""
    one, two = await Store.open(address), await Store.open(address)
    await saved(one, "one", "two")
    seen = [await pointed(two)]
    await moved(one, 2)
    seen.append(await pointed(two))
    await rolled_back(one)
    seen.append(await pointed(two))
    for store in (one, two):
        await asyncio.to_thread(store.close)

    assert seen == [1, 2, 1]


async def test_the_variables_of_a_chat_are_kept_with_it(scripted: ScriptedUpstream) -> None:
    wb.prompts.save("support", "You help {{customer}}.")
    hostile = 'Ada "{{x}}" \\ 日本'
    chat = wb.Chat(prompt="support", variables={"customer": hostile})
    await chat.aask("hi")
    (kept,) = wb.sql("SELECT CAST(prompt_variables AS TEXT) FROM chats").iloc[0].tolist()

    assert json.loads(kept) == {"customer": hostile}
    assert system_of(scripted) == f"You help {hostile}."
    assert wb.Chat.open(chat.id).info.prompt == chat.info.prompt
