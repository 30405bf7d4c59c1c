"""Questions about the ledger, answered with SQL on a locked copy of one's own rows."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import workbench as wb
from tests.faults.upstream import Usage, reply
from workbench.asking import MOST_QUERIES, ask_ledger, copied_rows
from workbench.errors import InvalidRequest
from workbench.store.analyst import Query
from workbench.turns import DEFAULT_ID

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.upstream import ScriptedUpstream


def says(words: str) -> object:
    return reply(words, usage=Usage(uncached_input_tokens=100, output_tokens=50))


def sql(query: str) -> object:
    return says(f"```sql\n{query};\n```")


@pytest.fixture
def ledger(scripted: ScriptedUpstream) -> ScriptedUpstream:
    scripted.script(says("a"), says("b"), says("c"))
    wb.Chat(title="Ours").ask("The secret word is heron")
    wb.Chat(title="Carol's", user="carol").ask("more of the same")
    wb.Chat(title="Elsewhere", org="other").ask("of another org")
    return scripted


def asked(upstream: ScriptedUpstream, n: int) -> str:
    return str(upstream.requests[n].body["messages"][-1]["content"][-1]["text"])


def test_the_sql_the_table_and_the_answer(ledger: ScriptedUpstream) -> None:
    ledger.script(
        sql("SELECT user_id, SUM(cost_usd) AS usd FROM usage GROUP BY 1 ORDER BY 1"), says("Each spent $0.0007.")
    )
    answer = ask_ledger("Who spent what?")

    assert str(answer) == "Each spent $0.0007."
    # 100 x 2 + 50 x 10, a million
    assert answer.table is not None
    assert [(user, str(usd)) for user, usd in answer.table.to_numpy()] == [(DEFAULT_ID, "0.0007"), ("carol", "0.0007")]
    assert "Who spent what?" in asked(ledger, 3)
    assert "2 rows:\n\nuser_id,usd\n" in asked(ledger, 4) and "5 queries left" in asked(ledger, 4)
    assert answer.cost_usd == answer.chat.cost_usd > 0
    shown = answer._repr_html_()
    assert "SUM(cost_usd)" in shown and "<td>0.0007</td>" in shown and "Each spent" in shown
    assert "claude-sonnet-5-5 · 1 query · $0.0014" in shown


def test_the_model_sees_no_other_org_no_text_and_no_foreign_title(ledger: ScriptedUpstream) -> None:
    with closing(copied_rows(None, None, DEFAULT_ID, DEFAULT_ID)) as rows:
        assert rows.execute("SELECT DISTINCT user_id FROM usage ORDER BY 1").fetchall() == [(DEFAULT_ID,), ("carol",)]
        assert rows.execute("SELECT title FROM chats ORDER BY title").fetchall() == [("Ours",), (None,)]
        everything = [rows.execute(f"SELECT * FROM {name}").fetchall() for name in ("usage", "chats", "messages")]
    assert "heron" not in str(everything) and "other" not in str(everything)
    with closing(copied_rows("2099-01-01", None, DEFAULT_ID, DEFAULT_ID)) as rows:
        assert rows.execute("SELECT COUNT(*) FROM usage").fetchall() == [(0,)]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT title FROM chats WHERE user_id = 'carol'", "title\nNULL\n"),
        ("SELECT NULL::INTEGER AS n, [1, NULL] AS l", "n,l\nNULL,[ 1. nan]\n"),
        ("SELECT '-infinity'::TIMESTAMPTZ AS t", "t\na time out of range\n"),
        ("SELECT union_value(a := 1) AS u", "The query failed: the result is no DataFrame, cast it to VARCHAR"),
        ("SELECT '24:00:00'::TIME AS t", "The query failed: the result is no DataFrame, cast it to VARCHAR: hour must"),
    ],
)
def test_every_kind_of_value_can_be_told(ledger: ScriptedUpstream, query: str, told: str) -> None:
    ledger.script(sql(query), says("Well."))
    answer = ask_ledger("What is there?")
    assert told in asked(ledger, 4)
    assert answer.text == "Well." and answer._repr_html_()


@pytest.mark.parametrize(
    "hostile",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_csv('https://example.com/x.csv')",
        "COPY usage TO '/tmp/stolen.csv'",
        "ATTACH '/tmp/x.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "RESET lock_configuration",
        "SELECT * FROM secrets_of_python",
        "SELECT getenv('ANTHROPIC_API_KEY')",
        "EXPORT DATABASE '/tmp/stolen'",
        "CREATE MACRO f() AS 1",
        "DELETE FROM usage",
        "SELECT 1; SELECT 2",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "SELECT * FROM duckdb_secrets(); DROP TABLE usage",
        "SELECT a.id || b.id FROM range(1000000000) a(id), range(1000000000) b(id) ORDER BY 1",
    ],
)
def test_sql_can_do_no_harm(ledger: ScriptedUpstream, hostile: str) -> None:
    secrets_of_python = wb.usage()
    assert len(secrets_of_python) == 2
    with closing(copied_rows(None, None, DEFAULT_ID, DEFAULT_ID)) as rows:
        with pytest.raises(InvalidRequest):
            Query(hostile, 1).run(rows.cursor())
        assert rows.execute("SELECT COUNT(*) FROM usage").fetchall() == [(2,)]


def test_a_failed_query_is_told_and_asked_again(ledger: ScriptedUpstream) -> None:
    ledger.script(sql("SELECT costs FROM usage"), sql("SELECT 1 WHERE FALSE"), says("Nothing."))
    answer = ask_ledger("What?")

    assert "The query failed" in asked(ledger, 4) and "costs" in asked(ledger, 4)
    assert "No rows; columns: 1" in asked(ledger, 5)
    assert [each.error is None for each in answer.queries] == [False, True]
    assert "The query failed" in answer._repr_markdown_()


def test_a_model_that_never_answers_is_stopped(ledger: ScriptedUpstream) -> None:
    ledger.script(*[sql("SELECT 1 AS one")] * (MOST_QUERIES + 1))
    answer = ask_ledger("Go on for ever")

    assert len(answer.queries) == MOST_QUERIES
    assert answer.text == f"No answer after {MOST_QUERIES} queries; ask something narrower."
    assert "Answer now, without SQL." in asked(ledger, 2 + MOST_QUERIES + 1)


def test_what_a_title_or_a_model_says_is_shown_harmlessly(ledger: ScriptedUpstream) -> None:
    ledger.script(
        sql("SELECT '<img src=x onerror=alert(1)> | ![x](http://e.com/q) | `a` ' || repeat('x', 500) AS \"<b>t</b>\""),
        says("<script>alert(1)</script> done"),
    )
    shown = ask_ledger("?")._repr_html_()

    for tag in ("<img", "<script", "<b>"):
        assert tag not in shown
    assert shown.count("<td>") == 1


def test_nobody_pays_for_an_empty_question(ledger: ScriptedUpstream) -> None:
    with pytest.raises(wb.InvalidRequest, match="the question is empty; write something to ask"):
        ask_ledger(" ")
    assert len(ledger.requests) == 3


def test_the_embedded_model_cannot_write_sql_and_says_so(no_key: Path) -> None:
    with pytest.raises(wb.InvalidRequest, match="too small to write SQL; set ANTHROPIC_API_KEY"):
        ask_ledger("How many calls were there?")
