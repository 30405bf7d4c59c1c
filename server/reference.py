"""The reference at `/docs`: the OpenAPI document as a page to read, without a script and without anybody else's server."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from workbench.markdown import safe_html

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Json = dict[str, Any]

WHERE = {"path": "path", "query": "query", "header": "header"}


class Html(str):
    """A text that is markup already."""

    __slots__ = ()


def tag(name: str, *children: str | None, **attributes: str | None) -> Html:
    """Return an element; children that are no ``Html`` are texts, and those that are None are left out.

    >>> tag("a", "5 < 6", tag("br"), href="#x", class_="big")
    '<a href="#x" class="big">5 &lt; 6<br></br></a>'
    """
    said = "".join(f' {key.rstrip("_")}="{escape(text)}"' for key, text in attributes.items() if text is not None)
    return Html(f"<{name}{said}>{together(children)}</{name}>")


def together(parts: Iterable[str | None]) -> Html:
    """Return texts and markup, one after the other."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts if part is not None))


def html(document: Json) -> str:
    """Return the OpenAPI document as a page: every path, parameter, body and answer, each with an address of its own."""
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    info = document["info"]
    shapes = document["components"]["schemas"]
    body = tag(
        "body",
        tag("a", "Skip to the reference", class_="skip", href="#reference"),
        _contents(info, operations, shapes),
        tag(
            "main",
            tag("h1", f"{info['title']} API"),
            tag(
                "p",
                f"Version {info['version']}. The same as ",
                tag("a", "OpenAPI", href="openapi.json"),
                class_="quiet",
            ),
            _prose(info["description"]),
            _security(document),
            *(_operation(*each) for each in operations),
            tag("h2", "Shapes", id="shapes"),
            *(_shape(name, schema) for name, schema in shapes.items()),
            id="reference",
        ),
    )
    head = tag(
        "head",
        Html('<meta charset="utf-8">'),
        tag("title", f"API – {info['title']}"),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        Html('<link rel="icon" type="image/svg+xml" href="static/icon.svg">'),
        Html('<link rel="stylesheet" href="static/docs.css">'),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _prose(markdown: str) -> Html:
    return Html(safe_html(markdown))


def _line(markdown: str) -> Html:
    """One sentence or a few, without a paragraph around."""
    return Html(re.sub(r"^<p>|</p>\s*$", "", safe_html(markdown)))


def _id(method: str, path: str) -> str:
    """How an operation is called in an address.

    >>> _id("get", "/chats/{chat_id}")
    'get-chats-chat_id'
    """
    return f"{method}-" + (re.sub(r"\W+", "-", path, flags=re.ASCII).strip("-") or "root")


# The list of contents -------------------------------------------------------------------------------------------------


def _contents(info: Json, operations: list[tuple[str, str, Json]], shapes: Mapping[str, Json]) -> Html:
    groups: dict[str, list[Html]] = defaultdict(list)
    for method, path, operation in operations:
        name = together((tag("span", method.upper(), class_=f"method {method}"), f" {path}"))
        groups[operation.get("tags", ["other"])[0]].append(tag("a", name, href=f"#{_id(method, path)}"))
    groups["shapes"] = [tag("a", name, href=f"#{name}") for name in shapes]
    lists = [
        together((tag("h2", name.capitalize()), tag("ul", *(tag("li", link) for link in links), role="list")))
        for name, links in groups.items()
    ]
    return tag("nav", tag("a", info["title"], href="./", class_="home"), *lists, **{"aria-label": "Contents"})


def _security(document: Json) -> Html | None:
    schemes = document["components"].get("securitySchemes")
    if not schemes:
        return None
    kinds = [
        "Send `Authorization: Bearer wb_…` with every request."
        if scheme["type"] == "http"
        else f"Send `{scheme['name']}`."
        for scheme in schemes.values()
    ]
    return tag("p", _line(" ".join(kinds)), class_="note")


# One operation --------------------------------------------------------------------------------------------------------


def _operation(method: str, path: str, operation: Json) -> Html:
    id = _id(method, path)
    title = together((tag("span", method.upper(), class_=f"method {method}"), " ", tag("code", path)))
    return tag(
        "section",
        tag(
            "h2",
            title,
            tag("a", "#", href=f"#{id}", class_="anchor", **{"aria-label": f"Link to {method} {path}"}),
            id=id,
        ),
        tag("p", operation["summary"], class_="lead"),
        _prose(operation["description"]) if "description" in operation else None,
        _scroll(tag("pre", tag("code", _curl(method, path, operation))), "Example of a request"),
        _parameters(operation.get("parameters", [])),
        _body(operation.get("requestBody")),
        _answers(operation["responses"]),
        **{"aria-labelledby": id},
    )


def _scroll(inner: Html, label: str) -> Html:
    """What may be wider than the page; by keyboard too."""
    return tag("div", inner, class_="scroll", tabindex="0", role="group", **{"aria-label": label})


def _parameters(parameters: list[Json]) -> Html | None:
    if not parameters:
        return None
    rows = [
        _row(
            each["name"],
            WHERE[each["in"]],
            _kind(_sent(each["schema"])),
            each.get("description", ""),
            each["schema"],
            required=each.get("required", False),
        )
        for each in parameters
    ]
    return together((tag("h3", "Parameters"), _table(["name", "in", "type", "meaning"], rows, "Parameters")))


def _sent(schema: Json) -> Json:
    """What is sent when it is: a parameter that may be null is one that may be left out."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema


def _body(body: Json | None) -> Html | None:
    if body is None:
        return None
    ((media_type, content),) = body["content"].items()
    return tag("div", tag("h3", "Body"), tag("p", tag("code", media_type), ": ", _kind(content["schema"])))


def _answers(responses: Json) -> Html:
    good = [(status, answer) for status, answer in responses.items() if status.startswith("2")]
    bad = [(status, answer) for status, answer in responses.items() if not status.startswith("2")]
    problems = [
        tag(
            "tr",
            tag("td", tag("code", status)),
            tag("td", HTTPStatus(int(status)).phrase),
            tag("td", _answer_line(answer)),
        )
        for status, answer in sorted(bad)
    ]
    return together(
        (
            tag("h3", "Answers"),
            *(_answer(status, answer) for status, answer in good),
            tag("p", "Else a ", tag("a", "Problem", href="#Problem"), ":") if problems else None,
            _table(["status", "", "when"], problems, "Problems") if problems else None,
        )
    )


def _answer(status: str, answer: Json) -> Html:
    parts: list[Html] = [tag("p", tag("code", status, class_="good"), " ", _answer_line(answer))]
    for media_type, content in answer.get("content", {}).items():
        schema = content.get("schema") or content.get("itemSchema") or {}
        parts.append(tag("p", tag("code", media_type), ": ", _kind(schema)))
        if "example" in content:
            example = content["example"]
            shown = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
            parts.append(_scroll(tag("pre", tag("code", shown.strip())), f"Example of {media_type}"))
    return together(parts)


def _answer_line(answer: Json) -> Html:
    headers = ", ".join(f"`{name}`" for name in answer.get("headers", ()))
    return _line(answer["description"] + (f" (headers {headers})" if headers else ""))


def _curl(method: str, path: str, operation: Json) -> str:
    """Return the request as a command that works in a shell."""
    query = [
        (each["name"], example[0] if isinstance(example, list) else example)
        for each in operation.get("parameters", [])
        if each["in"] == "query" and (example := (each["schema"].get("examples") or [None])[0]) is not None
    ]
    for each in operation.get("parameters", []):
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", str(each["schema"]["examples"][0]))
    address = f"http://localhost:3000{path}" + (f"?{urlencode(query, safe=',:+')}" if query else "")
    parts = [
        "curl",
        *(["-X", method.upper()] if method != "get" else []),
        f'"{address}"' if "?" in address else address,
    ]
    if "requestBody" in operation:
        parts += ["-H", "'content-type: application/json'", "-d", '\'{"message": "What is 2+2?"}\'']
    if "text/event-stream" in operation["responses"]["200" if "200" in operation["responses"] else "204"].get(
        "content", {}
    ):
        parts.insert(1, "-N")
    return " ".join(parts)


# Shapes ---------------------------------------------------------------------------------------------------------------


def _shape(name: str, schema: Json) -> Html:
    required = schema.get("required", [])
    rows = [
        _row(field, None, _kind(kind), kind.get("description", ""), kind, required=field in required)
        for field, kind in schema.get("properties", {}).items()
    ]
    examples = [json.dumps(each, ensure_ascii=False) for each in schema.get("examples", [])]
    return tag(
        "section",
        tag("h3", name, tag("a", "#", href=f"#{name}", class_="anchor", **{"aria-label": f"Link to {name}"}), id=name),
        _prose(schema.get("description", "")),
        _table(["field", "type", "meaning"], rows, f"Fields of {name}"),
        _scroll(tag("pre", tag("code", "\n".join(examples))), f"Examples of {name}") if examples else None,
        **{"aria-labelledby": name},
    )


def _row(name: str, where: str | None, kind: Html, description: str, schema: Json, *, required: bool) -> Html:
    more = []
    if "default" in schema and schema["default"] not in (None, "", []):
        more.append(f"Default: `{json.dumps(schema['default'])}`.")
    if schema.get("examples"):
        more.append("Example: " + ", ".join(f"`{_bare(each)}`" for each in schema["examples"]) + ".")
    sentence = description and f"{description[:1].upper()}{description[1:]}" + (
        "" if description.endswith(".") else "."
    )
    return tag(
        "tr",
        tag("td", tag("code", name), tag("span", "required", class_="required") if required else None),
        None if where is None else tag("td", where),
        tag("td", kind),
        tag("td", _line(" ".join(filter(None, (sentence, *more))))),
    )


def _bare(example: object) -> str:
    return ", ".join(map(str, example)) if isinstance(example, list) else str(example)


def _table(names: list[str], rows: Iterable[Html], label: str) -> Html:
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") if name else tag("td") for name in names)))
    return _scroll(tag("table", head, tag("tbody", *rows)), label)


def _kind(schema: Json) -> Html:
    """Return what a value may be, in a few words, with links to the shapes."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return tag("a", name, href=f"#{name}")
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return _choice([_kind(each) for each in choices])
    if "const" in schema:
        return tag("code", json.dumps(schema["const"]))
    if "enum" in schema:
        return _choice([tag("code", json.dumps(each)) for each in schema["enum"]])
    if "contentSchema" in schema:
        return _kind(schema["contentSchema"])
    kind = schema.get("type", "any value")
    if kind == "array":
        return together(("list of ", _kind(schema.get("items", {}))))
    if kind == "object" and list(schema.get("properties", {})) == ["data"]:  # an event
        return together(("events, each ", _kind(schema["properties"]["data"])))
    limits = [f"{words} {schema[key]:g}" for key, words in LIMITS.items() if key in schema]
    limits += [f"like {schema['pattern']}"] if "pattern" in schema else []
    return together(
        (" or ".join(kind) if isinstance(kind, list) else kind, f" ({', '.join(limits)})" if limits else None)
    )


def _choice(kinds: list[Html]) -> Html:
    return together(part for at, kind in enumerate(kinds) for part in ((" or ", kind) if at else (kind,)))


LIMITS = {"minimum": "from", "maximum": "to", "minLength": "at least", "maxLength": "at most"}
