"""What schemathesis does not know of the server by itself; its command line loads this module."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import jsonschema
import schemathesis

if TYPE_CHECKING:
    from schemathesis import Case, CheckContext, HookContext, Response

KEY = re.compile(r"[!-~]{1,255}")
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(@[A-Za-z0-9][A-Za-z0-9_.-]{0,63})?")


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Give each request that may be sent again a key of its own, and ask with no prompt that there is.

    The tool sends one key with different bodies, which is refused, and the document has no words for that.
    """
    for name in list(case.headers or ()):
        if name.lower() == "idempotency-key" and KEY.fullmatch(str(case.headers[name])):
            case.headers[name] = f"{case.headers[name][:200]}{uuid.uuid4()}"
    if case.path in ("/chat", "/chat/stream"):
        _ask_for_nobodys_prompt(case.body)


def _ask_for_nobodys_prompt(body: Any) -> None:
    """Let a question name no prompt that an earlier request saved.

    Whether its values fit depends on the variables in that text, and the document has no words for that either.
    """
    if isinstance(body, dict) and isinstance(body.get("prompt"), str) and REFERENCE.fullmatch(body["prompt"]):
        body["prompt"] = "nobodys"


@schemathesis.check
def events_conformance(context: CheckContext, response: Response, case: Case) -> None:
    """Every event of a stream is JSON that fits one of the shapes that the document names for it.

    The tool's own check stops at the text of an event: what it holds is only said in ``contentSchema``.
    """
    if "text/event-stream" not in response.headers.get("content-type", [""])[0]:
        return
    document = case.operation.schema.raw_schema
    documented = document["paths"][case.path][case.method.lower()]["responses"]["200"]["content"]
    data = documented["text/event-stream"]["itemSchema"]["properties"]["data"]
    schema = data["contentSchema"] | {"components": document["components"]}
    lines = [line for line in response.content.decode().split("\n") if line and not line.startswith(":")]
    told = [json.loads(line.removeprefix("data: ")) for line in lines]
    unfit = [event for event in told if not jsonschema.Draft202012Validator(schema).is_valid(event)]
    assert not unfit, f"not as documented: {unfit[0]}"
    assert [event["done"] for event in told] == [False] * (len(told) - 1) + [True], "one last event, and no other"
