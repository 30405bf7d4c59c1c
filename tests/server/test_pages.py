"""`/`, `/docs` and their files: given to everybody, and able to run and to call nothing but this server."""

from __future__ import annotations

import argparse
import gzip
import re
import shlex
import subprocess
import sys
import zipfile
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from server import pages
from server.reference import html
from tests.server.live import LiveServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.upstream import ScriptedUpstream

ROOT = Path(__file__).parents[2]
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types dompurify 'allow-duplicates'",
}
FROM_A_LINK = {
    "sec-fetch-site": "cross-site",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
    "sec-fetch-user": "?1",
}


CURL = argparse.ArgumentParser()
CURL.add_argument("-X", dest="method", default="GET")
CURL.add_argument("-H", dest="headers", action="append", default=[])
CURL.add_argument("-d", dest="data")
CURL.add_argument("-N", action="store_true")
CURL.add_argument("address")


class Elements(HTMLParser):
    """What is in a page: names, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.found if (value := attributes.get(name)) is not None]


@pytest.fixture(scope="module", params=["keys", "gateway"])
def locked(request: Any, running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    gateway = {"WORKBENCH_GATEWAY_KEYS": f"k1:{'s' * 40}"} if request.param == "gateway" else {}
    folder = tmp_path_factory.mktemp("locked")
    with LiveServer(folder, upstream=running.url, WORKBENCH_AUTH=request.param, **gateway) as server:
        yield server


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page.js", "/static/page.css", "/static/icon.svg"])
def test_what_browsers_show_may_run_and_call_nothing_but_this_server(server: LiveServer, path: str) -> None:
    answer = server.client.get(path)

    assert answer.status_code == 200
    assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_names_no_other_server_and_holds_no_script(server: LiveServer, path: str) -> None:
    page = Elements(server.client.get(path).text)

    loaded = [*page.values("src"), *(at["href"] for tag, at in page.found if tag == "link" and at["href"])]
    assert loaded and all(re.fullmatch(r"static/[a-z.]+\?v=[0-9a-f]{16}", address) for address in loaded)
    assert [at for tag, at in page.found if tag == "script" and "src" not in at] == []
    assert [tag for tag, _ in page.found if tag in ("style", "iframe", "img")] == []
    assert [name for _, at in page.found for name in at if name == "style" or name.startswith("on")] == []


def test_files_are_kept_by_browsers_until_their_content_changes(server: LiveServer) -> None:
    addresses = Elements(server.client.get("/").text).values("src")
    (script,) = (server.client.get(f"/{address}") for address in addresses)
    old = server.client.get("/static/page.js?v=0123456789abcdef")

    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert old.headers["cache-control"] == "no-cache"
    assert old.content == script.content == (ROOT / "server" / "static" / "page.js").read_bytes()


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page.css"])
def test_what_a_browser_has_already_is_not_sent_again(server: LiveServer, path: str) -> None:
    tag = server.client.get(path).headers["etag"]
    again = server.client.get(path, headers={"if-none-match": f'"other", W/{tag}'})
    other = server.client.get(path, headers={"if-none-match": '"other"'})

    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert other.status_code == 200


def test_files_are_zipped_for_those_who_can_read_that(server: LiveServer) -> None:
    with server.client.stream("GET", "/static/page.js", headers={"accept-encoding": "br, GZIP"}) as answer:
        zipped = b"".join(answer.iter_raw())
    plain = server.client.get("/static/page.js", headers={"accept-encoding": "identity"})

    assert answer.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in answer.headers["vary"]
    assert gzip.decompress(zipped) == plain.content
    assert len(zipped) < len(plain.content) / 2


def test_a_head_request_has_the_headers_alone(server: LiveServer) -> None:
    answer = server.client.head("/")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["etag"] == server.client.get("/").headers["etag"]


@pytest.mark.parametrize("name", ["nothing.js", "page.html", "..%2Fapp.py", "%2Fetc%2Fpasswd"])
def test_there_are_no_other_files(server: LiveServer, name: str) -> None:
    answer = server.client.get(f"/static/{name}")

    assert (answer.status_code, answer.json()["error"]) == (404, "Not Found")


# --- Who may see them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page.js"])
def test_the_pages_need_no_key(locked: LiveServer, path: str) -> None:
    assert locked.client.get(path).status_code == 200
    assert locked.client.get("/chats").status_code == 401


def test_the_page_knows_how_its_server_tells_callers_apart(server: LiveServer, locked: LiveServer) -> None:
    assert 'data-auth="dev"' in server.client.get("/").text
    assert f'data-auth="{locked.app.state.auth}"' in locked.client.get("/").text


def test_the_page_knows_who_answers_where_that_is_nobodys_secret(
    server: LiveServer, keyless: LiveServer, locked: LiveServer
) -> None:
    assert 'data-model="claude-sonnet-5-5"' in server.client.get("/").text
    assert 'data-model="local"' in keyless.client.get("/").text
    assert 'data-model=""' in locked.client.get("/").text


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_link_on_another_site_leads_to_the_page(server: LiveServer, path: str) -> None:
    assert server.client.get(path, headers=FROM_A_LINK).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/chats", {}),  # what is somebody's
        ("GET", "/usage", {}),
        ("GET", "/openapi.json", {}),
        ("GET", "/static/page.js", {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"}),
        ("GET", "/", {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}),  # no link
        ("GET", "/", {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"}),
        ("GET", "/", {"sec-fetch-dest": "iframe"}),  # to be clicked through
        ("GET", "/", {"origin": "https://evil.example"}),
        ("GET", "/", {"host": "evil.example"}),  # a name that leads to 127.0.0.1
        ("POST", "/", {}),
        ("POST", "/chat", {}),
        ("DELETE", "/chats/c", {}),
    ],
)
def test_nothing_else_is_given_to_another_site(
    server: LiveServer, upstream: ScriptedUpstream, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = server.client.request(method, path, headers=FROM_A_LINK | headers)

    assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden")
    assert upstream.requests == []


# --- The reference ----------------------------------------------------------------------------------------------


def test_the_reference_has_every_operation_parameter_answer_and_field(server: LiveServer) -> None:
    document = server.client.get("/openapi.json").json()
    text = server.client.get("/docs").text
    page = Elements(text)
    ids = page.values("id")

    assert len(ids) == len(set(ids))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{path}</code>" in text
            id = next(at for _, at in page.found if at.get("aria-label") == f"Link to {method} {path}")["href"]
            section = text.split(f'id="{str(id)[1:]}"')[1].split("</section>")[0]
            assert operation["summary"] in section
            for parameter in operation.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in section
            for status in operation["responses"]:
                assert re.search(rf"<code[^>]*>{status}</code>", section)
    for name, schema in document["components"]["schemas"].items():
        section = text.split(f'<h3 id="{name}">')[1].split("</section>")[0]
        assert [field for field in schema["properties"] if f"<code>{field}</code>" not in section] == []


def test_every_link_of_the_reference_leads_somewhere(server: LiveServer) -> None:
    page = Elements(server.client.get("/docs").text)
    ids = set(page.values("id"))
    links = [address for address in page.values("href") if not address.startswith("static/")]

    assert [link for link in links if link.startswith("#") and link[1:] not in ids] == []
    for link in {link for link in links if not link.startswith("#")}:
        assert server.client.get(f"/{link}".replace("/./", "/")).status_code == 200


def test_the_examples_of_requests_can_be_sent_as_they_are(server: LiveServer) -> None:
    text = server.client.get("/docs").text
    commands = [unescape(each).replace("\\\n", "") for each in re.findall(r"<code>(curl .*?)</code>", text, re.DOTALL)]
    answers = {}
    for command in commands:
        known, _ = CURL.parse_known_args(shlex.split(command)[1:])
        address = known.address.removeprefix("http://localhost:3000")
        headers = dict(each.split(": ") for each in known.headers)
        answer = server.client.request(known.method, address, headers=headers, content=known.data)
        answers[f"{known.method} {address.partition('?')[0]}"] = answer.status_code

    a_chat = "/chats/019ac8f0-5c1e-7d64-9a51-2f6b0c9e4d10"
    fine = (
        "POST /chat",
        "POST /chat/stream",
        "GET /chats",
        "GET /usage",
        "GET /prompts",
        "GET /experiments",
        "GET /healthz",
        "GET /readyz",
    )
    # the prompt is saved after it was read, and has one version, to which its label points already
    prompt = {
        "GET /prompts/support": 404,
        "POST /prompts/support": 201,
        "PUT /prompts/support/labels/production": 404,
        "POST /prompts/support/rollback": 409,
    }
    nowhere = (f"GET {a_chat}", f"DELETE {a_chat}", f"POST {a_chat.replace('chats', 'messages')}/feedback")
    experiment = ("GET /experiments/tone", "POST /experiments/tone", "PUT /experiments/tone/coverage")
    nowhere += (*experiment, "POST /experiments/tone/stop", "POST /experiments/tone/scores")
    assert answers == dict.fromkeys(fine, 200) | dict.fromkeys(nowhere, 404) | prompt


def test_the_reference_says_how_to_prove_who_calls(locked: LiveServer) -> None:
    said = {"keys": "Authorization: Bearer wb_…", "gateway": "x-wb-signature"}
    assert f"<code>{said[locked.app.state.auth]}</code>" in locked.client.get("/docs").text


def test_the_reference_shows_markup_as_text() -> None:
    operation = {
        "summary": "<b>&",
        "description": "<script>1</script> ![x](https://example.com/x)",
        "parameters": [{"name": "<i>", "in": "query", "schema": {"type": "string", "default": "<u>"}}],
        "responses": {"200": {"description": "ok", "content": {"text/plain": {"example": "<svg>"}}}},
    }
    document = {
        "info": {"title": "<T>", "version": "1", "description": "d"},
        "paths": {"/x": {"get": operation}},
        "components": {"schemas": {}},
    }

    found = {tag for tag, _ in Elements(html(document)).found}

    assert found.isdisjoint({"b", "script", "img", "i", "u", "svg", "t"})


# --- What is shipped --------------------------------------------------------------------------------------------


def test_the_wheel_has_the_pages_and_their_licences(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")

    names = zipfile.ZipFile(wheel).namelist()

    assert {f"server/static/{path.name}" for path in pages.STATIC.iterdir()} <= set(names)
    assert any(name.endswith("licenses/server/static/THIRD_PARTY_NOTICES.txt") for name in names)
    assert [name for name in names if "/js/" in name] == []
