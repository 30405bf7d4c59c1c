"""What the real API refuses, in its words as far as we know them (claude-api.md sections 0, 1, 3, 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .before import error_answer
from .caching import prompt_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .frames import Json
    from .replies import Answer

# id: (lifecycle, context window, most output tokens)
MODELS: dict[str, tuple[str, int, int]] = {
    "claude-fable-5-2": ("active", 1_000_000, 128_000),
    "claude-fable-5-1": ("active", 1_000_000, 128_000),
    "claude-fable-5": ("active", 1_000_000, 128_000),
    "claude-opus-5-5": ("active", 1_000_000, 128_000),
    "claude-opus-5": ("active", 1_000_000, 128_000),
    "claude-opus-4-8": ("active", 1_000_000, 128_000),
    "claude-opus-4-7": ("active", 1_000_000, 128_000),
    "claude-opus-4-6": ("active", 1_000_000, 128_000),
    "claude-opus-4-5": ("active", 200_000, 64_000),
    "claude-sonnet-5-5": ("active", 1_000_000, 128_000),
    "claude-sonnet-5": ("active", 1_000_000, 128_000),
    "claude-sonnet-4-6": ("active", 1_000_000, 128_000),
    "claude-sonnet-4-5": ("deprecated", 200_000, 64_000),
    "claude-sonnet-4-5-20250929": ("deprecated", 200_000, 64_000),
    "claude-haiku-5-5": ("active", 1_000_000, 128_000),
    "claude-haiku-4-5": ("active", 200_000, 64_000),
    "claude-haiku-4-5-20251001": ("active", 200_000, 64_000),
    "claude-sonnet-4-20250514": ("retired", 200_000, 64_000),
    "claude-opus-4-20250514": ("retired", 200_000, 32_000),
    "claude-opus-4-1": ("retired", 200_000, 32_000),
}
THINKS_ALWAYS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5")
NO_FORCED_TOOLS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-")
FIELD_NAMES = (
    "max_tokens messages model system stream stop_sequences tools tool_choice thinking output_config cache_control "
    "metadata service_tier inference_geo speed container diagnostics"
)
FIELDS = frozenset(FIELD_NAMES.split())
LARGEST_BODY = 32 * 1024 * 1024
ROLES = ("user", "assistant", "system")
PREFILL = "This model does not support assistant message prefill. The conversation must end with a user message."


class Refused(Exception):
    """A request the API answers with an error."""

    def __init__(self, message: str, status: int = 400, error_type: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.answer: Answer = error_answer(status, error_type, message)


def check_headers(headers: Mapping[str, str]) -> str:
    """Return the API key, or refuse."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = headers.get("x-api-key") or (token if scheme.lower() == "bearer" else "")
    if not key:
        raise Refused("x-api-key header is required", 401, "authentication_error")
    if "invalid" in key:
        raise Refused("invalid x-api-key", 401, "authentication_error")
    if "anthropic-version" not in headers:
        raise Refused("anthropic-version: header is required")
    return key


def check_body(body: Any, *, counting: bool = False) -> None:
    """Refuse what the API refuses; ``counting`` for count_tokens, which wants no max_tokens."""
    if not isinstance(body, dict):
        raise Refused("The request body is not valid JSON: expected an object")
    for name in ("max_tokens", "messages", "model"):
        if name not in body and not (counting and name == "max_tokens"):
            raise Refused(f"{name}: Field required")
    for name in body:
        if name not in FIELDS:
            raise Refused(f"{name}: Extra inputs are not permitted")
    _check_model(body)
    _check_options(body)
    _check_messages(body["messages"])
    _check_blocks(body)
    _check_tools(body["messages"])
    _check_context(body)


def _check_model(body: Json) -> None:
    """Claude's retired and invented models do not exist; other names pass, as unpriced or local ones would."""
    model = body["model"]
    if not isinstance(model, str) or not model:
        raise Refused("model: Input should be a valid string")
    known = MODELS.get(model)
    if (known is None and model.startswith("claude-")) or (known and known[0] == "retired"):
        raise Refused(f"model: {model}", 404, "not_found_error")


def _check_options(body: Json) -> None:
    most, model = body.get("max_tokens", 1), body["model"]
    if type(most) is not int or most < 0:
        raise Refused("max_tokens: Input should be a valid integer greater than or equal to 0")
    largest = MODELS.get(model, ("", 0, most))[2]
    if most > largest:
        raise Refused(
            f"max_tokens: {most} > {largest}, which is the maximum allowed number of output tokens for {model}"
        )
    for n, sequence in enumerate(body.get("stop_sequences") or ()):
        if not sequence.strip():
            raise Refused(f"stop_sequences.{n}: each stop sequence must contain non-whitespace")
    for name in body.get("metadata") or {}:
        if name != "user_id":
            raise Refused(f"metadata.{name}: Extra inputs are not permitted")
    if "@" in str((body.get("metadata") or {}).get("user_id")):
        raise Refused("metadata.user_id: user_id appears to contain an email address")
    _check_thinking(body)


def _check_thinking(body: Json) -> None:
    kind, model = (body.get("thinking") or {}).get("type"), body["model"]
    effort = (body.get("output_config") or {}).get("effort")
    if effort not in (None, "low", "medium", "high", "xhigh", "max"):
        raise Refused("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    if kind == "enabled":
        raise Refused('thinking: "enabled" is not supported by this model. Use "adaptive" and output_config.effort')
    if kind == "disabled" and (model.startswith(THINKS_ALWAYS) or effort in ("xhigh", "max")):
        raise Refused('thinking: "disabled" is not supported by this model')
    if kind not in (None, "adaptive", "disabled", "between_tools"):
        raise Refused("thinking.type: Input should be 'adaptive', 'disabled' or 'between_tools'")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool") and model.startswith(NO_FORCED_TOOLS):
        raise Refused("tool_choice: forcing tool use is not supported by this model")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise Refused("messages: at least one message is required")
    if len(messages) > 100_000:
        raise Refused("messages: Input should have at most 100000 items")
    for n, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise Refused(f"messages.{n}.role: Input should be 'user', 'assistant' or 'system'")
        if extra := set(message) - {"role", "content"}:
            raise Refused(f"messages.{n}.{min(extra)}: Extra inputs are not permitted")
        if "content" not in message:
            raise Refused(f"messages.{n}.content: Field required")
        if not message["content"]:
            raise Refused(f"messages.{n}: all messages must have non-empty content")
    if messages[0]["role"] != "user":
        raise Refused('messages: first message must use the "user" role')
    last = messages[-1]
    if last["role"] == "assistant" and not any(b["type"] == "server_tool_use" for b in _objects(last["content"])):
        raise Refused(PREFILL)


def _objects(content: Any) -> list[Json]:
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if isinstance(block, dict) and "type" in block]


def _placed_blocks(body: Json) -> Iterator[tuple[str, Any]]:
    """Every text and block of the request with its place in it."""
    system = body.get("system")
    for n, block in enumerate(system if isinstance(system, list) else ()):
        yield f"system.{n}", block
    for n, message in enumerate(body["messages"]):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for m, block in enumerate(blocks):
            yield f"messages.{n}.content.{m}", block


def _check_blocks(body: Json) -> None:
    points = int("cache_control" in body)
    for place, block in _placed_blocks(body):
        if not isinstance(block, dict) or "type" not in block:
            raise Refused(f"{place}.type: Field required")
        if block["type"] == "text":
            _check_text(place, block)
        if block["type"] == "thinking" and not block.get("signature"):
            raise Refused(f"{place}: Invalid `signature` in `thinking` block")
        points += "cache_control" in block
    points += sum("cache_control" in tool for tool in body.get("tools") or ())
    if points > 4:
        raise Refused(f"A maximum of 4 blocks with cache_control may be provided. Found {points}.")


def _check_text(place: str, block: Json) -> None:
    if not isinstance(block.get("text"), str):
        raise Refused(f"{place}.text: Input should be a valid string")
    if not block["text"]:
        raise Refused(f"{place.split('.')[0]}: text content blocks must be non-empty")
    if not block["text"].strip():
        raise Refused(f"{place.split('.')[0]}: text content blocks must contain non-whitespace text")


def _check_tools(messages: list[Json]) -> None:
    """Every tool_result answers a tool_use of the message before, and every tool_use is answered."""
    asked: set[str] = set()
    for n, message in enumerate(messages):
        blocks = _objects(message["content"])
        answered = {str(block.get("tool_use_id")) for block in blocks if block["type"] == "tool_result"}
        if orphans := answered - asked:
            raise Refused(
                f"messages.{n}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {min(orphans)}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if unanswered := asked - answered:
            raise Refused(
                f"messages.{n - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{min(unanswered)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
                "message."
            )
        asked = {str(block.get("id")) for block in blocks if block["type"] == "tool_use"}


def _check_context(body: Json) -> None:
    window = MODELS.get(body["model"], ("", 0, 0))[1]
    prompt = prompt_tokens(body)
    if window and prompt > window:
        raise Refused(f"prompt is too long: {prompt} tokens > {window} maximum")


def model_info(model: str) -> Json:
    """One entry of ``GET /v1/models``."""
    lifecycle, window, most = MODELS[model]
    line = model.split("-")[1]
    past = {"deprecated_at": "2026-04-14T00:00:00Z"} if lifecycle != "active" else {"deprecated_at": None}
    retires = {"active": None, "deprecated": "2026-11-30T00:00:00Z", "retired": "2026-06-15T00:00:00Z"}[lifecycle]
    return {
        "type": "model",
        "id": model,
        "display_name": model.replace("-", " ").title(),
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": lifecycle,
        **past,
        "retires_at": retires,
        "max_input_tokens": window,
        "max_tokens": most,
        "capabilities": None,
        "line": line,
    }


def model_list() -> Json:
    entries = [model_info(model) for model in MODELS]
    return {"data": entries, "has_more": False, "first_id": entries[0]["id"], "last_id": entries[-1]["id"]}
