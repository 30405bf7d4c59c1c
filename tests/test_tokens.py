"""Token counts before a call, by whoever can count them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import workbench as wb
from tests.faults.upstream import fault, reply
from workbench import tokens

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream


def test_claude_counts_what_would_be_sent(scripted: ScriptedUpstream) -> None:
    scripted.script(reply("Four"))
    chat = wb.Chat("You are terse.")
    chat.ask("What is 2+2?")

    alone, in_chat = wb.count_tokens("And 3+3?"), chat.count_tokens("And 3+3?")
    assert (alone.counted_by, in_chat.counted_by) == ("claude", "claude")
    assert in_chat.tokens > alone.tokens
    asked = scripted.requests[-1]
    assert asked.path == "/v1/messages/count_tokens"
    assert [message["content"][0]["text"] for message in asked.body["messages"]] == ["What is 2+2?", "Four", "And 3+3?"]
    assert asked.body["system"] == "You are terse."
    assert len(wb.usage()) == 1  # nothing is billed, and nothing kept
    assert len(chat.messages) == 2


def test_what_claude_will_not_count_is_an_error(scripted: ScriptedUpstream) -> None:
    scripted.script(fault("429"), path="/v1/messages/count_tokens")
    with pytest.raises(wb.UpstreamRateLimited, match="rate limit is exceeded"):
        wb.count_tokens("hi")
    with pytest.raises(wb.ModelRetired):
        wb.count_tokens("hi", model="claude-sonnet-4-20250514")
    with pytest.raises(wb.InvalidRequest, match="the message is empty"):
        wb.count_tokens(" ")


def test_the_embedded_model_counts_for_itself(no_key: Path) -> None:
    count = wb.count_tokens("What is 2+2?", system="You are terse.")
    reply = wb.Chat("You are terse.", max_tokens=1).ask("What is 2+2?")
    assert count == (reply.usage.input_tokens, "local")


def test_without_a_key_the_count_for_claude_is_rough(no_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "find_spec", lambda name: None)
    count = wb.count_tokens("What is 2+2?", model="claude-sonnet-5-5")
    assert (count.counted_by, count.tokens) == ("estimate", 13)


def test_ctok_counts_offline_with_each_models_own_vocabulary(no_key: Path, ctok: None) -> None:
    system, question = "You are terse.", "What is 2+2?"  # three words each
    assert wb.count_tokens(question, model="claude-sonnet-4-6", system=system) == (13, "ctok")
    assert wb.count_tokens(question, model="claude-opus-5-5", system=system) == (12, "ctok")
    assert tokens.offline_tokens("claude-sonnet-4-5", [system, question, "Four", "And 3+3?"], replies=1) == 7 + 9 + 6
    assert tokens.offline_tokens("local", [question]) is None
    assert tokens.offline_tokens("claude-2", [question]) is None
