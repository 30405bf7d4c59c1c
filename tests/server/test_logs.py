"""The form of log lines."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from server.logs import formatter


def _record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("workbench").makeRecord(
        "workbench", logging.WARNING, "file.py", 1, message, arguments, None, extra=extra
    )


def test_a_line_is_one_object_with_time_level_message_and_the_keys_given() -> None:
    line = formatter("json").format(_record("Server %s\nrunning", "x", port=3000, env="development"))

    assert "\n" not in line
    said = json.loads(line)
    assert list(said) == ["time", "level", "message", "port", "env"]
    assert said["time"].endswith("Z")
    assert (said["level"], said["message"], said["port"]) == ("warning", "Server x\nrunning", 3000)


def test_uvicorns_second_copy_of_its_message_is_left_out() -> None:
    assert "color_message" not in json.loads(formatter("json").format(_record("hi", color_message="\x1b[1mhi")))


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_traceback_is_there_without_the_values_of_variables(log_format: str) -> None:
    record = _record("Unhandled error")
    try:
        secret = "plan" * 2
        raise ValueError("no good")
    except ValueError:
        record.exc_info = sys.exc_info()

    line = formatter(log_format).format(record)

    assert "ValueError: no good" in line
    assert secret not in line


def test_text_is_for_people() -> None:
    line = formatter("text").format(_record("Server running", port=3000))

    assert "Server running" in line
    assert "port=3000" in line
    assert not line.startswith("{")
