"""Many turns' transactions as one: what they all write to a table goes there in one statement.

A statement costs DuckDB 0.5 to 1 ms however little it writes, and a second row hardly anything.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from workbench.store.backend import Statement
from workbench.store.queries import query

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

NAMES = (
    "new_chat",
    "use_chat",
    "renew_chat",
    "first_messages",
    "new_messages",
    "new_hold",
    "new_exposure",
    "end_message",
    "count_question",
    "new_usage",
    "settle",
)
OF_TURNS = frozenset(map(query, NAMES))
"""Each writes rows of its own turn, or of a chat: in whatever order those of turns in several chats come, the outcome is
the same."""
NEW_CHAT, NEW_MESSAGES, FIRST_MESSAGES = map(query, ("new_chat", "new_messages", "first_messages"))
NEEDLESS = query("budget_lock")
"""Transactions are written one after the other, so none has to wait for a lock."""
CHECK = query("refuse_overspent")
"""One is enough for all that have just been held on a budget: together they fit, or each is tried by itself."""
_ONLY_IF = {"end_message": (4, ("streaming", "lost")), "settle": (0, ("lost",))}
CONDITIONAL = {query(name): unless for name, unless in _ONLY_IF.items()}
"""Statements that look first at what is there, and with which values of which parameter they do."""
_COMMENT = re.compile(r"--.*")
_PARAMETER = re.compile(r"\$(\d+)")
_BETWEEN = re.compile(r", (?=\w+ = )")
_INSERT = re.compile(r"(INSERT INTO .+?\bVALUES)\s*(\(.+\))", re.DOTALL)
_UPDATE = re.compile(r"(UPDATE \w+\s+SET )(.+?)\s+WHERE id = \$(\d+) AND org_id = \$(\d+).*", re.DOTALL)


def hopeful(statements: Sequence[Statement]) -> Sequence[Statement]:
    """Return the statements of one transaction as they may be if the chat that it begins is not there yet."""
    if not any(sql == NEW_CHAT for sql, _ in statements):
        return statements
    return [Statement(FIRST_MESSAGES if sql == NEW_MESSAGES else sql, parameters) for sql, parameters in statements]


def together(transactions: Sequence[Sequence[Statement]]) -> list[Statement]:
    """Return the statements of transactions as those of one, with which all of them succeed or all fail."""
    needed = [[Statement(*each) for each in statements if each[0] != NEEDLESS] for statements in transactions]
    in_order = [statement for statements in needed for statement in statements]
    chats = [parameters[0] for sql, parameters in in_order if sql in (FIRST_MESSAGES, NEW_MESSAGES)]
    if len(chats) > len(set(chats)) or not all(sql in OF_TURNS or sql == CHECK for sql, _ in in_order):
        return in_order
    alike: dict[tuple[str, ...], list[Sequence[Statement]]] = {}
    for statements in needed:
        alike.setdefault(tuple(sql for sql, _ in statements), []).append(statements)
    return [
        statement for group in alike.values() for place in zip(*group, strict=True) for statement in _at_once(place)
    ]


def _at_once(statements: Sequence[Statement]) -> Sequence[Statement]:
    """The same statement of several transactions, in as few as can be."""
    sql, rows = statements[0].sql, [statement.parameters for statement in statements]
    if sql == CHECK:
        return [Statement(sql, parameters) for parameters in _budgets(rows)]
    if len(rows) == 1 or any(map(_is_conditional, statements)) or (whole := several(sql, len(rows))) is None:
        return statements
    return [Statement(whole, tuple(value for row in rows for value in row))]


def _is_conditional(statement: Statement) -> bool:
    at, values = CONDITIONAL.get(statement.sql, (0, ()))
    return statement.parameters[at] in values


def _budgets(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """One check a budget, as of the earliest time, when the most holds are open."""
    earliest: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in sorted(rows, key=lambda row: row[4], reverse=True):
        org_id, user_id, key_id, begun, _, limit, _ = row
        earliest[org_id, user_id, key_id, begun, limit] = row
    return list(earliest.values())


@lru_cache(200)
def several(sql: str, count: int) -> str | None:
    """Return the statement that does what ``sql`` does, for so many sets of parameters; None when there is none.

    Of an update the conditions are left out that come after ``id`` and ``org_id``.

    >>> several("INSERT INTO t (a, b) VALUES ($1, $2)", 2)
    'INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)'
    >>> several("UPDATE t SET a = $1 WHERE id = $2 AND org_id = $3", 2)
    'UPDATE t SET a = CASE id WHEN $2 THEN $1 WHEN $5 THEN $4 END WHERE id IN ($2, $5) AND org_id IN ($3, $6)'
    """
    sql = _COMMENT.sub("", sql).partition("ON CONFLICT")[0].strip()
    width = max(map(int, _PARAMETER.findall(sql)))
    starts = [width * n for n in range(count)]
    if insert := _INSERT.fullmatch(sql):
        head, row = insert.groups()
        return f"{head} " + ", ".join(_shifted(row, start) for start in starts)
    if update := _UPDATE.fullmatch(sql):
        head, assignments, id, org_id = update.groups()

        def cases(value: str) -> str:
            return " ".join(f"WHEN ${start + int(id)} THEN {_shifted(value, start)}" for start in starts)

        changes = [assignment.split(" = ") for assignment in _BETWEEN.split(assignments)]
        whole = ", ".join(f"{column} = CASE id {cases(value)} END" for column, value in changes)
        ids, org_ids = (", ".join(f"${start + int(place)}" for start in starts) for place in (id, org_id))
        # by ids that stand there, since DuckDB would look for those of a joined table in every row
        return f"{head}{whole} WHERE id IN ({ids}) AND org_id IN ({org_ids})"
    return None


def _shifted(row: str, by: int) -> str:
    return _PARAMETER.sub(lambda match: f"${int(match[1]) + by}", row)
