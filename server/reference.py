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
    from collections.abc import Iterable

Json = dict[str, Any]

SERVER = "http://localhost:3000"
LIMITS = {"minimum": "from", "maximum": "to", "minLength": "at least", "maxLength": "at most"}
SAMPLES: dict[str, object] = {"string": "…", "integer": 0, "number": 0, "boolean": False, "object": {}}
LONG_LINE = 90


def html(document: Json) -> str:
    """Return the OpenAPI document as a page: every path, parameter, body and answer, each with an address of its own."""
    return _Reference(document).page()


# Markup ---------------------------------------------------------------------------------------------------------------


class Html(str):
    """A text that is markup already."""

    __slots__ = ()


def tag(name: str, *children: str | None, **attributes: str | None) -> Html:
    """Return an element; children that are no ``Html`` are texts, and those that are None are left out.

    >>> tag("a", "5 < 6", Html("<br>"), href="#x", class_="big")
    '<a href="#x" class="big">5 &lt; 6<br></a>'
    """
    said = "".join(f' {key.rstrip("_")}="{escape(text)}"' for key, text in attributes.items() if text is not None)
    return Html(f"<{name}{said}>{together(children)}</{name}>")


def together(parts: Iterable[str | None]) -> Html:
    """Return texts and markup, one after the other."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts if part is not None))


def _prose(markdown: str) -> Html:
    return Html(safe_html(markdown))


def _line(markdown: str) -> Html:
    """A sentence or a few, without a paragraph around."""
    return Html(re.sub(r"^<p>|</p>\s*$", "", safe_html(markdown)))


def _code(text: str, label: str) -> Html:
    return _wide(tag("pre", tag("code", text)), label)


def _wide(inner: Html, label: str) -> Html:
    """What may be wider than the page, and can be moved by keyboard too."""
    return tag("div", inner, class_="scroll", tabindex="0", role="group", **{"aria-label": label})


def _table(names: list[str], rows: Iterable[Html], label: str) -> Html:
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") if name else tag("td") for name in names)))
    return _wide(tag("table", head, tag("tbody", *rows)), label)


def _row(name: str, where: str | None, schema: Json, description: str, note: str | None) -> Html:
    sentence = description and f"{description[:1].upper()}{description[1:]}" + (
        "" if description.endswith(".") else "."
    )
    more = [sentence] if sentence else []
    if schema.get("default") not in (None, "", []):
        more.append(f"Default: `{json.dumps(schema['default'])}`")
    if examples := [_bare(each) for each in schema.get("examples", ())]:
        more.append("Example: " + ", ".join(f"`{each}`" for each in examples))
    return tag(
        "tr",
        tag("td", tag("code", name), tag("span", note, class_="note") if note else None),
        None if where is None else tag("td", where),
        tag("td", _kind(schema)),
        tag("td", _line(" ".join(more))),
    )


def _bare(example: object) -> str:
    return ", ".join(map(str, example)) if isinstance(example, list) else str(example)


def _heading(level: str, title: Html | str, id: str, name: str) -> Html:
    link = tag("a", "#", href=f"#{id}", class_="anchor", **{"aria-label": f"Link to {name}"})
    return tag(level, title, link, id=id)


# The page -------------------------------------------------------------------------------------------------------------


class _Reference:
    def __init__(self, document: Json) -> None:
        self.info: Json = document["info"]
        self.shapes: dict[str, Json] = document["components"]["schemas"]
        self.security: dict[str, Json] = document["components"].get("securitySchemes", {})
        self.operations: list[tuple[str, str, Json]] = [
            (method, path, operation) for path, of in document["paths"].items() for method, operation in of.items()
        ]
        self.sent: set[str] = set()
        """The shapes that clients send; the others they get."""

    def page(self) -> str:
        head = (
            Html('<meta charset="utf-8">'),
            tag("title", f"API – {self.info['title']}"),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            Html('<link rel="icon" type="image/svg+xml" href="static/icon.svg">'),
            Html('<link rel="stylesheet" href="static/docs.css">'),
        )
        body = (
            tag("a", "Skip to the reference", class_="skip", href="#reference"),
            self._contents(),
            tag("main", *self._main(), id="reference", tabindex="-1"),
        )
        return f"<!doctype html>\n{tag('html', tag('head', *head), tag('body', *body), lang='en')}\n"

    def _contents(self) -> Html:
        groups: dict[str, list[Html]] = defaultdict(list)
        for method, path, operation in self.operations:
            name = together((tag("span", method.upper(), class_=f"method {method}"), f" {path}"))
            groups[operation.get("tags", ["other"])[0]].append(tag("a", name, href=f"#{_id(method, path)}"))
        groups["shapes"] = [tag("a", name, href=f"#{name}") for name in self.shapes]
        lists = [
            together((tag("h2", name.capitalize()), tag("ul", *(tag("li", link) for link in links), role="list")))
            for name, links in groups.items()
        ]
        return tag("nav", tag("a", self.info["title"], href="./", class_="home"), *lists, **{"aria-label": "Contents"})

    def _main(self) -> Iterable[Html | None]:
        yield tag("h1", f"{self.info['title']} API")
        openapi = tag("a", "OpenAPI", href="openapi.json")
        yield tag("p", f"Version {self.info['version']}. For programs: ", openapi, class_="quiet")
        yield _prose(self.info["description"])
        for scheme in self.security.values():
            header = "Authorization: Bearer wb_…" if scheme["type"] == "http" else scheme["name"]
            yield tag("p", _line(f"Send `{header}` with every request that is about somebody's data."), class_="box")
        for each in self.operations:
            yield self._operation(*each)
        yield tag("h2", "Shapes", id="shapes")
        for name, schema in self.shapes.items():
            yield self._shape(name, schema)

    def _operation(self, method: str, path: str, operation: Json) -> Html:
        id, parameters = _id(method, path), operation.get("parameters", [])
        title = together((tag("span", method.upper(), class_=f"method {method}"), " ", tag("code", path)))
        rows = [
            _row(each["name"], each["in"], _given(each["schema"]), each.get("description", ""), _must(each))
            for each in parameters
        ]
        return tag(
            "section",
            _heading("h2", title, id, f"{method} {path}"),
            tag("p", operation["summary"], class_="lead"),
            _prose(operation["description"]) if "description" in operation else None,
            _code(self._curl(method, path, operation), "Example of a request"),
            tag("h3", "Parameters") if rows else None,
            _table(["name", "in", "type", "meaning"], rows, "Parameters") if rows else None,
            self._body(operation["requestBody"]) if "requestBody" in operation else None,
            tag("h3", "Answers"),
            *self._answers(operation["responses"]),
            **{"aria-labelledby": id},
        )

    def _body(self, body: Json) -> Html:
        ((media_type, content),) = body["content"].items()
        self.sent |= {each.rpartition("/")[2] for each in [content["schema"].get("$ref", "")]}
        return together((tag("h3", "Body"), tag("p", tag("code", media_type), ": ", _kind(content["schema"]))))

    def _answers(self, responses: Json) -> Iterable[Html]:
        for status, answer in responses.items():
            if status.startswith("2"):
                yield tag("p", tag("code", status, class_="good"), " ", _answered(answer))
                for media_type, content in answer.get("content", {}).items():
                    yield from self._content(media_type, content)
        problems = [
            tag("tr", tag("td", tag("code", status)), tag("td", _phrase(status)), tag("td", _answered(answer)))
            for status, answer in sorted(responses.items())
            if not status.startswith("2")
        ]
        if problems:
            yield tag("p", "Else a ", tag("a", "Problem", href="#Problem"), ":")
            yield _table(["status", "", "when"], problems, "Problems")

    def _content(self, media_type: str, content: Json) -> Iterable[Html]:
        schema = content.get("schema") or content.get("itemSchema") or {}
        yield tag("p", tag("code", media_type), ": ", _kind(schema))
        example = content.get("example", self._sample(schema) if media_type == "application/json" else None)
        if example not in (None, {}):
            yield _code(example.strip() if isinstance(example, str) else _json(example), f"Example of {media_type}")

    def _curl(self, method: str, path: str, operation: Json) -> str:
        """Return the request as a command that works in a shell."""
        query = []
        for each in operation.get("parameters", []):
            examples = each["schema"].get("examples") or [None]
            if each["in"] == "path":
                path = path.replace(f"{{{each['name']}}}", str(examples[0] or "…"))
            elif each["in"] == "query" and examples[0] is not None:
                query.append((each["name"], _bare(examples[0])))
        address = f"{SERVER}{path}" + (f"?{urlencode(query, safe=',:+')}" if query else "")
        streams = any("text/event-stream" in answer.get("content", {}) for answer in operation["responses"].values())
        parts = ["curl -N" if streams else "curl"]
        parts[0] += f" -X {method.upper()}" if method != "get" else ""
        parts[0] += f' "{address}"' if query else f" {address}"
        if "requestBody" in operation:
            ((media_type, content),) = operation["requestBody"]["content"].items()
            body = json.dumps(self._sample(content["schema"]), ensure_ascii=False)
            parts += [f"-H 'content-type: {media_type}'", "-d '{}'".format(body.replace("'", "'\\''"))]
        return (" \\\n  " if sum(map(len, parts)) > LONG_LINE else " ").join(parts)

    def _shape(self, name: str, schema: Json) -> Html:
        required = schema.get("required", [])
        # of what is sent most may be left out, of what is got most is always there
        notes = {True: "required", False: None} if name in self.sent else {True: None, False: "optional"}
        rows = [
            _row(field, None, kind, kind.get("description", ""), notes[field in required])
            for field, kind in schema.get("properties", {}).items()
        ]
        examples = schema.get("examples") or [self._sample(schema)]
        return tag(
            "section",
            _heading("h3", name, name, name),
            _prose(schema.get("description", "")),
            _table(["field", "type", "meaning"], rows, f"Fields of {name}"),
            _code("\n".join(_json(each) for each in examples), f"Example of {name}"),
            **{"aria-labelledby": name},
        )

    def _sample(self, schema: Json) -> object:
        """Return a value that a schema allows, made of the examples in it."""
        if "$ref" in schema:
            return self._sample(self.shapes[schema["$ref"].rpartition("/")[2]])
        for key in ("examples", "enum"):
            if schema.get(key):
                return schema[key][0]
        if "const" in schema:
            return schema["const"]
        if kinds := schema.get("anyOf") or schema.get("oneOf"):
            return self._sample(kinds[0])
        if fields := schema.get("properties"):
            always = list(schema.get("required") or fields)
            return {name: self._sample(each) for name, each in fields.items() if name in always}
        if schema.get("type") == "array":
            return [self._sample(schema.get("items", {}))]
        return SAMPLES.get(str(schema.get("type")))


def _id(method: str, path: str) -> str:
    """How an operation is called in an address.

    >>> _id("get", "/chats/{chat_id}")
    'get-chats-chat_id'
    """
    return f"{method}-" + (re.sub(r"\W+", "-", path, flags=re.ASCII).strip("-") or "root")


def _json(value: object) -> str:
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= LONG_LINE else json.dumps(value, indent=2, ensure_ascii=False)


def _must(parameter: Json) -> str | None:
    return "required" if parameter.get("required") and parameter["in"] != "path" else None


def _given(schema: Json) -> Json:
    """What a parameter is when it is there: one that may be null is one that may be left out."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return schema | {"anyOf": kinds} if kinds else schema


def _answered(answer: Json) -> Html:
    headers = ", ".join(f"`{name}`" for name in answer.get("headers", ()))
    return _line(answer["description"] + (f" (headers {headers})" if headers else ""))


def _phrase(status: str) -> str:
    return HTTPStatus(int(status)).phrase


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
    if kind == "object" and list(schema.get("properties", ())) == ["data"]:
        return together(("events, each ", _kind(schema["properties"]["data"])))
    limits = ", ".join(f"{words} {schema[key]:g}" for key, words in LIMITS.items() if key in schema)
    pattern = together((" like ", tag("code", schema["pattern"]))) if "pattern" in schema else None
    return together((" or ".join(kind) if isinstance(kind, list) else kind, f", {limits}" if limits else None, pattern))


def _choice(kinds: list[Html]) -> Html:
    return together(part for at, kind in enumerate(kinds) for part in ((" or ", kind) if at else (kind,)))
