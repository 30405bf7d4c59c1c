"""The values of one turn: who asks, what was said, what it used.

A turn is one user message, one call to a model and its reply. Nothing here touches a clock, a file or a socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from workbench.markdown import safe_html
from workbench.wording import dollars

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from workbench.budgets import Budget

LOCAL_MODEL = "local"
"""The name of the embedded model wherever a model id is expected."""

DEFAULT_ID = "00000000-0000-0000-0000-000000000001"
"""The org and the user that exist from the start."""

NOT_TEXT = "holds characters that are no text (NUL or half a surrogate pair); remove them"
"""What is wrong with a text that neither store nor upstream take."""

Role = Literal["user", "assistant"]
Status = Literal["complete", "interrupted", "failed", "lost"]
"""How a turn ended. ``lost``: its process died; found at the next start."""
MessageStatus = Literal["streaming", "complete", "interrupted", "failed", "lost"]
Source = Literal["ask", "widget", "magic", "map", "server", "import"]
Block = dict[str, Any]
"""A content block as the Messages API sends it: ``{"type": "text", "text": …}`` and others."""


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a turn runs, and from where."""

    org_id: str = DEFAULT_ID
    user_id: str = DEFAULT_ID
    source: Source = "ask"
    key_id: str | None = None
    """The API key that was shown, if one was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one call to a model.

    The five counts are disjoint. ``thinking_tokens`` are part of ``output_tokens``. ``estimated`` is true when
    the call ended before the final count arrived: its output tokens are then counted from the text received.
    """

    uncached_input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    web_searches: int = 0
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    estimated: bool = False

    @property
    def input_tokens(self) -> int:
        """The whole prompt: uncached input, cache reads and cache writes."""
        return (
            self.uncached_input_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
        )

    @property
    def cache_write_tokens(self) -> int:
        """Tokens written to the prompt cache, for five minutes or an hour."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_tokens(self) -> int:
        """The whole prompt and the reply."""
        return self.input_tokens + self.output_tokens


@dataclass(slots=True)
class Delta:
    """A streamed piece of a reply: ``text`` of the block number ``index``.

    ``kind`` is ``text`` for what people read, ``thinking`` for the model's reasoning (its text may be empty),
    ``tool`` for the arguments of a tool call.
    """

    text: str
    kind: Literal["text", "thinking", "tool"] = "text"
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One entry of a chat.

    ``content`` is the text people read; ``blocks`` the content blocks as sent and received. ``token_count`` is, of
    an assistant message, its output tokens; of a user message, the input tokens it added (None until known).
    """

    id: str = field(repr=False)
    chat_id: str = field(repr=False)
    seq: int
    role: Role
    content: str
    blocks: Sequence[Block] = field(default=(), repr=False)
    token_count: int | None = None
    status: MessageStatus = "complete"
    stop_reason: str | None = field(default=None, repr=False)
    model: str | None = field(default=None, repr=False)
    created_at: datetime = field(repr=False)

    def _repr_markdown_(self) -> str:
        return f"**{self.role}**\n\n{self.content}"

    def _repr_html_(self) -> str:
        return safe_html(self._repr_markdown_())


@dataclass(frozen=True, slots=True)
class PromptWanted:
    """A prompt as somebody asks for it, such as ``support@production``; its version is found out when a turn begins."""

    reference: str
    variables: Mapping[str, object] | None = None
    """What to put in for its variables; None for what the chat has already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPrompt:
    """The version of a prompt that a chat uses; model and effort are what it asks for where nobody else does."""

    name: str
    version: int
    label: str | None = None
    """The label that was asked for; None: the version itself was."""
    variables: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    effort: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What an experiment assigned to a chat."""

    experiment: str
    variant: str
    unit_id: str = ""
    """The chat or the user, whichever the experiment's unit is; known when it is assigned."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The prompt of a chat from a turn on, with the system prompt that came of it."""

    system: str | None
    prompt: ChatPrompt
    exposure: Exposure | None = None


@dataclass(slots=True, kw_only=True)
class ChatInfo:
    """A chat apart from its messages. Not ``stored`` before its first turn: an empty chat leaves no trace."""

    id: str
    title: str = ""
    system: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    prompt: ChatPrompt | None = None
    """Where ``system`` comes from, if from a prompt."""
    exposure: Exposure | None = None
    wanted: PromptWanted | None = None
    """The prompt to use from the next turn on."""
    forked_from: str | None = None
    created_at: datetime | None = None
    stored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent upstream for one turn."""

    model: str
    max_tokens: int
    messages: Sequence[dict[str, Any]]
    system: str | None = None
    user: str | None = None
    """An opaque id of the end user, for the upstream's abuse checks. Never a name or an address."""
    schema: dict[str, Any] | None = None
    """The JSON schema that the reply must fit, if it is to be JSON."""
    effort: str | None = None
    """How hard the model is to think, ``low`` to ``max``; None for its own default."""
    alone: bool = False
    """One of many questions that share a system prompt and nothing else, asked by somebody who asks again by himself: the
    question is not worth keeping in a cache, nor a failure trying again at once."""


EMPTY_USAGE = Usage()


@dataclass(slots=True)
class Answer:
    """What the upstream has sent so far. ``finished`` only once its last event, ``message_stop``, was read."""

    usage: Usage = EMPTY_USAGE
    counted: bool = False
    """Whether ``usage.output_tokens`` is the upstream's own final count."""
    billed: bool = False
    """Whether the upstream may charge for the call: it was sent, and no answer says that it is for nothing."""
    started: bool = False
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None
    request_id: str | None = None
    """The upstream's own id of the call, for questions to its support."""
    finished: bool = False
    characters: int = 0
    """Of what was generated so far, as far as it was sent: text, thinking, arguments of tool calls."""
    _blocks: dict[int, Block] = field(default_factory=dict)
    # joined on demand: adding to one growing string copies it for every delta
    _parts: dict[tuple[int, str], list[str]] = field(default_factory=dict)

    def open_block(self, index: int, block: Block) -> None:
        """Begin the block of that number."""
        self._blocks[index] = block
        self.characters += len(str(block.get("text") or block.get("thinking") or block.get("input") or ""))

    def block(self, index: int) -> Block:
        """Return a block that was opened; KeyError when it was not."""
        return self._blocks[index]

    def add(self, index: int, key: str, piece: str) -> None:
        """Add a piece to the string under ``key`` of an open block; KeyError when there is no such block."""
        parts = self._parts.get((index, key))
        if parts is None:
            parts = self._parts[index, key] = [self._blocks[index].get(key) or ""]
        parts.append(piece)
        if key != "signature":
            self.characters += len(piece)

    def close_block(self, index: int) -> Block:
        """Return the block of that number, which nothing will be added to any more; KeyError when there is none."""
        self._join()
        for part in [part for part in self._parts if part[0] == index]:
            del self._parts[part]
        return self._blocks[index]

    @property
    def blocks(self) -> list[Block]:
        """The content blocks, in order."""
        self._join()
        return [self._blocks[index] for index in sorted(self._blocks)]

    def _join(self) -> None:
        for (index, key), parts in self._parts.items():
            parts[:] = ["".join(parts)]
            self._blocks[index][key] = parts[0]

    @property
    def text(self) -> str:
        """The text people read."""
        return visible_text(self.blocks)


def is_text(text: str) -> bool:
    r"""Tell whether a text can be kept and sent.

    >>> is_text("héllo"), is_text("a\x00b"), is_text("\ud800")
    (True, False, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def visible_text(blocks: Sequence[Block]) -> str:
    """Return the text of the text blocks, in order."""
    return "".join(block["text"] for block in blocks if block.get("type") == "text" and block.get("text"))


def estimate_tokens(characters: int, per_token: float = 3.2) -> int:
    """Return a rough count of the tokens in a text of so many characters, rounded up.

    3.2 characters a token is a fair guess for English on models since Opus 4.7; pass 2.5 for an upper bound.

    >>> estimate_tokens(100)
    32
    """
    return -int(-characters // per_token)


def estimated(answer: Answer) -> Usage:
    """Return the usage of an answer that broke off: input as announced, output counted from what arrived."""
    if answer.counted:
        return answer.usage
    tokens = max(answer.usage.output_tokens, estimate_tokens(answer.characters))
    return replace(answer.usage, output_tokens=tokens, estimated=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The reply of one turn, and what it used.

    ``str(reply)`` is its text and a notebook shows it as Markdown. ``cost_usd`` is None when the price is unknown.
    ``ttft_ms`` is the time to the first token, None when none came.
    """

    text: str
    usage: Usage
    cost_usd: Decimal | None
    chat_id: str
    message_id: str
    request_id: str
    model: str
    status: Status
    stop_reason: str | None
    ttft_ms: int | None
    duration_ms: int
    created_at: datetime
    blocks: Sequence[Block] = field(default=(), repr=False)
    prompt: str | None = None
    """The prompt version it was asked with, such as ``support@3``; None without one."""
    experiment: str | None = None
    """The experiment that assigned the version, if one did."""
    variant: str | None = None
    """The arm it is, such as ``v3``."""

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return safe_html(self.text)  # where there is HTML too, notebooks leave the Markdown alone

    @property
    def footer(self) -> str:
        """One quiet line on how the reply came about: model, tokens, cost, seconds."""
        parts = [self.model_label, f"{self.usage.input_tokens:,} in + {self.usage.output_tokens:,} out tokens"]
        parts += [dollars(self.cost_usd), f"{self.duration_ms / 1000:.1f} s"]
        if self.usage.cache_read_tokens:
            parts.insert(2, f"{self.usage.cache_read_tokens:,} from cache")
        if self.status != "complete":
            parts.insert(0, self.status)
        elif self.stop_reason == "max_tokens":
            parts.insert(0, "cut at max_tokens")
        elif self.stop_reason == "refusal":
            parts.insert(0, "refused")
        return " · ".join(parts)

    @property
    def model_label(self) -> str:
        """The model as people should read it: the embedded one says that it is."""
        return "local (embedded model)" if self.model == LOCAL_MODEL else self.model


@dataclass(slots=True, eq=False, kw_only=True)
class LiveTurn:
    """One turn while it runs: iterate it for the deltas, once; then ``reply`` is final.

    It starts as ``interrupted`` and only a stream read to its end makes it ``complete``, so no path can forget.
    """

    caller: Caller
    chat: ChatInfo
    question: str
    model: str
    max_tokens: int
    id: str
    request_id: str
    question_id: str
    message_id: str
    started_at: datetime
    history_messages: int
    left_out_messages: int
    context_tokens: int
    """What the messages sent before the question count for, as far as known."""
    input_estimate: int
    """Upper estimate of the input tokens."""
    worst_case_usd: Decimal | None
    attached: Sequence[Block] = ()
    """Blocks, text or pictures, that were sent before the question, in its message."""
    schema: dict[str, Any] | None = None
    """The JSON schema that the reply must fit, if it is to be JSON."""
    chosen: Chosen | None = None
    """The prompt from this turn on; None when the chat goes on as it was."""
    budget: Budget | None = None
    """The tightest of the budgets it counts against, as it stood before; None when there is none."""
    shortened: bool = False
    """Whether ``max_tokens`` is less than was asked for, because no more is affordable."""
    answer: Answer = field(default_factory=Answer)
    upstream: AsyncIterator[list[Delta]] | None = None
    status: Status = "interrupted"
    error_type: str | None = None
    ttft_ms: int | None = None
    duration_ms: int = 0
    cost_usd: Decimal | None = None
    price_source: str = "unknown"

    @property
    def system(self) -> str | None:
        """The system prompt that is sent."""
        return self.chat.system if self.chosen is None else self.chosen.system

    @property
    def prompt(self) -> ChatPrompt | None:
        """Where it comes from, if from a prompt."""
        return self.chat.prompt if self.chosen is None else self.chosen.prompt

    @property
    def exposure(self) -> Exposure | None:
        """The variant of an experiment that it is, if it is one."""
        return self.chat.exposure if self.chosen is None else self.chosen.exposure

    def batches(self) -> AsyncIterator[list[Delta]]:
        """Return the deltas in the lists in which the upstream sent them: the cheap way to pass a stream on."""
        upstream, self.upstream = self.upstream, None
        if upstream is None:
            raise RuntimeError("a live turn can be read once; its reply is in .reply")
        return upstream

    async def __aiter__(self) -> AsyncIterator[Delta]:
        async for batch in self.batches():
            for delta in batch:
                yield delta

    @property
    def usage(self) -> Usage:
        """What the turn used; estimated, and marked so, when it ended before its final counts."""
        if self.answer.started:
            usage = estimated(self.answer)
            if usage.estimated:  # a guess never costs more than was held
                usage = replace(usage, output_tokens=min(usage.output_tokens, self.max_tokens))
            # llama.cpp leaves the first event out, and the input count with it, when a reply begins with half a letter
            return (
                usage
                if usage.input_tokens
                else replace(usage, uncached_input_tokens=self.input_estimate, estimated=True)
            )
        if self.answer.billed:
            return Usage(uncached_input_tokens=self.input_estimate, estimated=True)
        return EMPTY_USAGE

    @property
    def budget_left_usd(self) -> Decimal | None:
        """What the tightest budget has left beside what this turn holds, in US dollars; None without a budget."""
        if self.budget is None or self.worst_case_usd is None:
            return None
        return self.budget.left_usd - self.worst_case_usd

    @property
    def question_tokens(self) -> int:
        """The input tokens the question added to the chat; of the first question, the system prompt included."""
        announced = self.answer.usage.input_tokens
        if self.left_out_messages or not announced:
            return estimate_tokens(len(self.question) + sum(len(block.get("text", "")) for block in self.attached))
        return max(0, announced - self.context_tokens)

    @property
    def reply(self) -> Reply:
        """The reply so far; final once the turn has ended."""
        return Reply(
            text=self.answer.text,
            usage=self.usage,
            cost_usd=self.cost_usd,
            chat_id=self.chat.id,
            message_id=self.message_id,
            request_id=self.request_id,
            model=self.model,
            status=self.status,
            stop_reason=self.answer.stop_reason,
            ttft_ms=self.ttft_ms,
            duration_ms=self.duration_ms,
            created_at=self.started_at,
            blocks=self.answer.blocks,
            prompt=None if self.prompt is None else str(self.prompt),
            experiment=None if self.exposure is None else self.exposure.experiment,
            variant=None if self.exposure is None else self.exposure.variant,
        )
