"""Settings: where they come from, what does not fit, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from workbench.errors import ConfigurationError
from workbench.settings import Settings, gateway_secrets, project_root, read_settings, settings, without_password

ROOT = Path(__file__).parents[1]
NAMES = [str(field.alias) for field in Settings.model_fields.values()]
KEY = "sk-ant-very-secret"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project to run in, with none of the settings in the environment."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_are_those_of_the_contract(project: Path) -> None:
    assert read_settings().model_dump(by_alias=True) == {
        "ANTHROPIC_API_KEY": None,
        "ANTHROPIC_BASE_URL": None,
        "CLAUDE_MODEL": "claude-sonnet-5-5",
        "CLAUDE_MAX_TOKENS": 4096,
        "CLAUDE_HISTORY_MESSAGES": 20,
        "APP_ENV": "development",
        "HOST": "127.0.0.1",
        "PORT": 3000,
        "WORKBENCH_STORE": str(project / "data" / "workbench.duckdb"),
        "WORKBENCH_LOCAL_GGUF": None,
        "WORKBENCH_AUTH": "dev",
        "WORKBENCH_GATEWAY_KEYS": None,
        "WORKBENCH_RATE_PER_MINUTE": 60,
        "WORKBENCH_RATE_BURST": 20,
        "WORKBENCH_MAX_STREAMS_PER_ORG": 64,
        "WORKBENCH_CORS_ORIGINS": (),
        "OTEL_EXPORTER_OTLP_ENDPOINT": None,
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
    }


@pytest.mark.parametrize(
    ("name", "value", "field", "read"),
    [
        ("ANTHROPIC_API_KEY", KEY, "api_key", SecretStr(KEY)),
        ("ANTHROPIC_API_KEY", f" {KEY}\r\n", "api_key", SecretStr(KEY)),
        ("ANTHROPIC_API_KEY", "  ", "api_key", None),
        ("ANTHROPIC_BASE_URL", "http://localhost:8080/v1/", "base_url", "http://localhost:8080"),
        ("ANTHROPIC_BASE_URL", "https://proxy.example/anthropic", "base_url", "https://proxy.example/anthropic"),
        ("CLAUDE_MODEL", "local", "model", "local"),
        ("CLAUDE_MAX_TOKENS", "100", "max_tokens", 100),
        ("CLAUDE_HISTORY_MESSAGES", "1", "history_messages", 1),
        ("APP_ENV", "production", "env", "production"),
        ("HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("PORT", "0", "port", 0),
        ("WORKBENCH_STORE", "/var/lib/wb.duckdb", "store", "/var/lib/wb.duckdb"),
        ("WORKBENCH_STORE", "postgresql://db/wb", "store", "postgresql://db/wb"),
        ("WORKBENCH_STORE", ":memory:", "store", ":memory:"),
        ("WORKBENCH_LOCAL_GGUF", "/models/a.gguf", "local_gguf", Path("/models/a.gguf")),
        ("WORKBENCH_AUTH", "dev", "auth", "dev"),
        ("WORKBENCH_MAX_STREAMS_PER_ORG", "1", "max_streams_per_org", 1),
        (
            "WORKBENCH_CORS_ORIGINS",
            " https://A.example/, ,http://b:1 ",
            "cors_origins",
            ("https://a.example", "http://b:1"),
        ),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318/", "otel_endpoint", "http://localhost:4318"),
        ("LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("LOG_FORMAT", "text", "log_format", "text"),
    ],
)
def test_each_variable_is_read(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, read: object
) -> None:
    monkeypatch.setenv(name, value)

    assert getattr(read_settings(), field) == read


def test_a_home_folder_is_spelt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")

    assert read_settings(WORKBENCH_STORE="~/wb.duckdb").store == "/home/ada/wb.duckdb"


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_variable_is_as_if_it_were_not_there(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    defaults = read_settings()
    monkeypatch.setenv(name, "")
    assert read_settings() == defaults

    monkeypatch.delenv(name)
    (project / ".env").write_text(f"{name}=\n")
    assert read_settings() == defaults


# .env --------------------------------------------------------------------------------------------------------------


def test_the_projects_env_file_is_read_from_a_folder_inside_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".env").write_text(f'# mine\nANTHROPIC_API_KEY="{KEY}"\nexport PORT=3001\nUNKNOWN=1\n')
    notebooks = project / "notebooks" / "deep"
    notebooks.mkdir(parents=True)
    monkeypatch.chdir(notebooks)
    read = read_settings()

    assert (read.api_key, read.port) == (SecretStr(KEY), 3001)
    assert read.store == str(project / "data" / "workbench.duckdb")


def test_the_environment_comes_before_the_file_and_arguments_before_both(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".env").write_text("PORT=1\nHOST=file\nCLAUDE_MODEL=file\n")
    monkeypatch.setenv("PORT", "2")
    monkeypatch.setenv("HOST", "environment")

    read = read_settings(PORT=3)
    assert (read.port, read.host, read.model) == (3, "environment", "file")


def test_an_env_file_in_another_encoding_is_named(project: Path) -> None:
    (project / ".env").write_bytes("PORT=1".encode("utf-16"))

    with pytest.raises(ConfigurationError, match=r"\.env is not text in UTF-8; save it again as UTF-8"):
        read_settings()


@pytest.mark.parametrize("mark", [".env", "pyproject.toml", ".git"])
def test_a_project_is_the_nearest_folder_with_a_mark(tmp_path: Path, mark: str) -> None:
    inner = tmp_path / "inner"
    (inner / "notebooks").mkdir(parents=True)
    assert project_root(inner / "notebooks") == tmp_path

    (inner / mark).touch()
    assert project_root(inner / "notebooks") == inner


def test_without_a_project_it_is_the_folder_itself() -> None:
    nowhere = Path("/nonexistent/of/all/places")

    assert project_root(nowhere) == nowhere


# What does not fit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CLAUDE_MODEL", "  ", "it is blank; name a model, or unset it"),
        ("CLAUDE_MAX_TOKENS", "10000001", "input should be less than or equal to 10000000"),
        ("WORKBENCH_STORE", "~nobody-at-all/x", "nobody knows the home folder that ~nobody-at-all stands for"),
        ("WORKBENCH_STORE", "\udcff.duckdb", "its path is not text in UTF-8"),
        ("WORKBENCH_LOCAL_GGUF", "~nobody-at-all/x", "nobody knows the home folder that ~nobody-at-all stands for"),
        ("CLAUDE_MAX_TOKENS", "many", "input should be a valid integer"),
        ("CLAUDE_MAX_TOKENS", "0", "input should be greater than or equal to 1"),
        ("CLAUDE_HISTORY_MESSAGES", "0", "input should be greater than or equal to 1"),
        ("PORT", "65536", "input should be less than or equal to 65535"),
        ("APP_ENV", "prod", "input should be 'development' or 'production'"),
        ("WORKBENCH_AUTH", "open", "input should be 'dev', 'keys' or 'gateway'"),
        ("WORKBENCH_GATEWAY_KEYS", "s" * 40, "it should be KID:SECRET, several with commas between"),
        ("WORKBENCH_GATEWAY_KEYS", "a:" + "s" * 31, "the secret of 'a' is short; it should have 32 characters or more"),
        ("WORKBENCH_GATEWAY_KEYS", f"a:{'s' * 32},a:{'t' * 32}", "'a' is there twice; give each secret a kid"),
        ("WORKBENCH_CORS_ORIGINS", "*", "'*' is no origin; write each like https://example.com, without a path"),
        ("WORKBENCH_CORS_ORIGINS", "https://a.example,b.example", "'b.example' is no origin"),
        ("WORKBENCH_CORS_ORIGINS", "https://a.example/app", "'https://a.example/app' is no origin"),
        ("LOG_LEVEL", "loud", "input should be 'debug', 'info', 'warning' or 'error'"),
        ("LOG_FORMAT", "xml", "input should be 'json' or 'text'"),
        ("ANTHROPIC_BASE_URL", "localhost:8080", "it should begin with http:// or https://"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        read_settings()

    assert str(caught.value).startswith(f"a setting does not fit: {name}: {says}")
    assert str(caught.value).endswith("; mend it in the environment or in .env")
    assert "\n" not in str(caught.value)


def test_every_misfit_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"CLAUDE_MAX_TOKENS: .*; PORT: "):
        read_settings(PORT="x", CLAUDE_MAX_TOKENS="y")


def test_no_error_and_no_repr_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    shown = [repr(read_settings()), str(read_settings()), repr(read_settings().model_dump())]
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"user:{KEY}@proxy")
    with pytest.raises(ConfigurationError) as caught:
        read_settings()

    assert "api_key=SecretStr('**********')" in shown[0]
    assert KEY not in "".join([*shown, str(caught.value), repr(caught.value)])
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("wrong", ["", ",b:short", ",nobodys"])
def test_the_secrets_of_gateways_are_never_shown(wrong: str) -> None:
    secret = "s3cret" * 6
    try:
        known = read_settings(WORKBENCH_GATEWAY_KEYS=f"a:{secret}{wrong}")
        shown = repr(known) + repr(known.model_dump()) + known.model_dump_json()
    except ConfigurationError as error:
        shown = repr(error) + str(error)

    assert ("a setting does not fit: WORKBENCH_GATEWAY_KEYS" in shown) == bool(wrong)
    assert [part for part in ("s3cret", "nobodys") if part in shown] == []


def test_two_gateway_secrets_live_side_by_side_by_their_kids() -> None:
    known = read_settings(WORKBENCH_GATEWAY_KEYS=f"2025:{'o' * 32}, 2026:{'n' * 31}:")

    assert known.gateway_keys is not None
    assert gateway_secrets(known.gateway_keys) == {"2025": b"o" * 32, "2026": b"n" * 31 + b":"}


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        read_settings().port = 1  # type: ignore[misc]


def test_the_settings_of_the_process_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.cache_clear()
    monkeypatch.setenv("PORT", "4000")
    first = settings()
    monkeypatch.setenv("PORT", "5000")

    assert settings() is first
    assert first.port == 4000
    settings.cache_clear()


# Who answers -------------------------------------------------------------------------------------------------------

NOT_CONFIGURED = "Claude API not configured. Please set ANTHROPIC_API_KEY."


@pytest.mark.parametrize(
    ("values", "asked", "answers"),
    [
        ({}, None, "local"),
        ({}, "local", "local"),
        ({"CLAUDE_MODEL": "local"}, None, "local"),
        ({"ANTHROPIC_API_KEY": KEY}, None, "claude-sonnet-5-5"),
        ({"ANTHROPIC_API_KEY": KEY}, "claude-opus-5-5", "claude-opus-5-5"),
        ({"ANTHROPIC_API_KEY": KEY}, "local", "local"),
        ({"ANTHROPIC_API_KEY": KEY, "CLAUDE_MODEL": "claude-haiku-5-5"}, None, "claude-haiku-5-5"),
        ({"ANTHROPIC_BASE_URL": "http://localhost:1", "CLAUDE_MODEL": "qwen3"}, None, "qwen3"),
        ({"APP_ENV": "production", "ANTHROPIC_API_KEY": KEY}, None, "claude-sonnet-5-5"),
        ({"APP_ENV": "production", "CLAUDE_MODEL": "local"}, None, "local"),
    ],
)
def test_the_model_that_answers(values: dict[str, str], asked: str | None, answers: str) -> None:
    assert read_settings(**values).choose_model(asked) == answers


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({"APP_ENV": "production"}, None),
        ({"CLAUDE_MODEL": "claude-sonnet-5-5"}, None),
        ({}, "claude-sonnet-5-5"),
        ({"ANTHROPIC_API_KEY": "   "}, "claude-sonnet-5-5"),
    ],
)
def test_nobody_configured_is_said_in_the_predecessors_words(values: dict[str, str], asked: str | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(**values).choose_model(asked)

    assert str(caught.value) == NOT_CONFIGURED


SECRET = "s3cret"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://ada:{SECRET}@db:5432/wb", "postgresql://ada:***@db:5432/wb"),
        (f"postgres://ada:{SECRET}@db", "postgres://ada:***@db"),
        (f"postgresql://ada:{SECRET}/@{SECRET}@db/wb", "postgresql://ada:***@db/wb"),
        (f"postgresql://db/wb?user=ada&password={SECRET}&port=1", "postgresql://db/wb?user=ada&password=***&port=1"),
        (f"postgresql://db/wb?PASSWORD={SECRET}@x", "postgresql://db/wb?PASSWORD=***"),
        (f"postgresql://ada:{SECRET}", "postgresql://ada:***"),
        (f"postgresql://ada:{SECRET}/wb", "postgresql://ada:***/wb"),
        ("postgresql://ada@db:5432/wb?host=/run/pg", "postgresql://ada@db:5432/wb?host=/run/pg"),
        ("postgresql://db:5432,db2:5433/wb", "postgresql://db:5432,db2:5433/wb"),
        ("postgresql://[::1]:5432/wb", "postgresql://[::1]:5432/wb"),
        ("/data/a:b@c.duckdb", "/data/a:b@c.duckdb"),
    ],
)
def test_the_password_of_a_store_is_never_shown(url: str, shown: str) -> None:
    settings = read_settings(WORKBENCH_STORE=url)
    texts = [repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()]

    assert without_password(url) == shown
    assert [text for text in texts if SECRET in text or shown not in text] == []
    assert settings.store == url  # whoever connects needs it


# .env.example ------------------------------------------------------------------------------------------------------


def example() -> list[tuple[str, str, str]]:
    """The settings of ``.env.example``: name, default, meaning."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").split("\n\n", 1)[1].splitlines()
    entries = [(meaning.removeprefix("# "), *line.removeprefix("#").split("=", 1)) for meaning, line in zip(lines[::3], lines[1::3], strict=True)]  # fmt: skip
    return [(name, default, meaning) for meaning, name, default in entries]


def test_the_example_lists_every_setting_with_its_default_and_meaning() -> None:
    def default(value: object) -> str:
        return "" if value in (None, ()) else str(value)

    assert example() == [
        (str(field.alias), default(field.default), str(field.description)) for field in Settings.model_fields.values()
    ]


def test_the_example_copied_as_it_is_changes_nothing(project: Path) -> None:
    before = read_settings()
    (project / ".env").write_bytes((ROOT / ".env.example").read_bytes())
    after = read_settings()

    assert after == before
    assert after.model_fields_set == before.model_fields_set
    assert after.choose_model() == "local"
