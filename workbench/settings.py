"""The only reader of the environment. Every setting of the workbench, read once."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_serializer, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from workbench.errors import ConfigurationError
from workbench.turns import LOCAL_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_CONFIGURED = "Claude API not configured. Please set ANTHROPIC_API_KEY."
WITHOUT_A_KEY = "Put it in the environment or into .env, or name the model `local`: the embedded one needs no key."
"""The predecessor's message, which its clients match to the letter."""
SHORTEST_SECRET = 32
"""Characters; who signs for others must not have a secret that can be guessed."""


def project_root(start: Path) -> Path:
    """Return the nearest folder from ``start`` upwards that is a project, else ``start``.

    A project is what holds a ``.env``, a ``pyproject.toml`` or a ``.git``. A notebook's kernel runs in the
    notebook's folder and the server in the project's: both must find the same ``.env`` and the same store.
    """
    marks = (".env", "pyproject.toml", ".git")
    return next((folder for folder in (start, *start.parents) if any((folder / m).exists() for m in marks)), start)


def without_password(url: str) -> str:
    """Return an address that may be shown: the same, with ``***`` for its password.

    Made for what people really paste, so a password with an unescaped ``@`` or ``/`` in it is hidden whole.

    Example:
        >>> without_password("postgresql://ada:s3cret@db.example/ledger")
        'postgresql://ada:***@db.example/ledger'
    """
    scheme, is_address, rest = url.partition("://")
    if not is_address:
        return url
    rest = re.sub(r"((?:ssl)?password=)[^&]*", r"\1***", rest, flags=re.IGNORECASE)
    login, at, place = rest.rpartition("@")
    user, has_password, _ = login.partition(":")
    if not at:  # a host and a port, or a user and a password whose host was forgotten
        place = re.sub(r"^([^:/?\[]*):(?!\d+(?:[/?,]|$))[^/?]*", r"\1:***", rest)
    return f"{scheme}://{user}{':***' if has_password else ''}{at}{place}"


class Settings(BaseSettings):
    """All settings, from the environment or the project's ``.env`` file.

    Example:
        >>> Settings(CLAUDE_MODEL="claude-haiku-5-5").model
        'claude-haiku-5-5'
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    api_key: SecretStr | None = Field(None, alias="ANTHROPIC_API_KEY", description="key for Claude; never logged")
    base_url: str | None = Field(
        None,
        alias="ANTHROPIC_BASE_URL",
        description="any server that speaks the Anthropic Messages API, without /v1",
    )
    model: str = Field(
        "claude-sonnet-5-5", alias="CLAUDE_MODEL", description="model id, or `local` for the embedded model"
    )
    max_tokens: int = Field(
        4096,
        alias="CLAUDE_MAX_TOKENS",
        ge=1,
        le=10_000_000,
        description="upper bound of one reply, in tokens; a request may ask for less",
    )
    history_messages: int = Field(
        20, alias="CLAUDE_HISTORY_MESSAGES", ge=1, description="most messages of history sent, trimmed in blocks"
    )
    env: Literal["development", "production"] = Field(
        "development",
        alias="APP_ENV",
        description="`production` never falls back to the embedded model, and needs WORKBENCH_AUTH=keys or gateway",
    )
    host: str = Field("127.0.0.1", alias="HOST", description="address the server listens on")
    port: int = Field(3000, alias="PORT", ge=0, le=65535, description="port the server listens on")
    store: str = Field(
        "data/workbench.duckdb",
        alias="WORKBENCH_STORE",
        validate_default=True,
        description="where chats and usage are kept: a DuckDB file, relative to the project's folder, or postgresql://…",
    )
    local_gguf: Path | None = Field(
        None, alias="WORKBENCH_LOCAL_GGUF", description="another GGUF file for the embedded model"
    )
    auth: Literal["dev", "keys", "gateway"] = Field(
        "dev",
        alias="WORKBENCH_AUTH",
        description="how the server knows its callers: `dev` believes them, `keys` wants a key, `gateway` a signature",
    )
    gateway_keys: SecretStr | None = Field(
        None,
        alias="WORKBENCH_GATEWAY_KEYS",
        description="who may sign for callers: KID:SECRET, comma separated; a secret has 32 characters or more",
    )
    rate_per_minute: float = Field(
        60,
        alias="WORKBENCH_RATE_PER_MINUTE",
        ge=0,
        allow_inf_nan=False,
        description="turns a minute the server runs for an org that has no rate of its own",
    )
    rate_burst: float = Field(
        20, alias="WORKBENCH_RATE_BURST", ge=1, allow_inf_nan=False, description="and how many of them at once"
    )
    max_streams_per_org: int = Field(
        64,
        alias="WORKBENCH_MAX_STREAMS_PER_ORG",
        ge=1,
        description="most replies the server sends one org at the same time",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), alias="WORKBENCH_CORS_ORIGINS", description="origins whose pages may call the server, comma separated"
    )
    otel_endpoint: str | None = Field(
        None,
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="OpenTelemetry collector that the server sends spans and metrics to, as OTLP over HTTP",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", alias="LOG_LEVEL", description="least severe log line written"
    )
    log_format: Literal["json", "text"] = Field("json", alias="LOG_FORMAT", description="`text` for people")

    @field_validator("*", mode="before")
    @classmethod
    def _stripped(cls, value: object) -> object:
        # a key pasted with its line end would break the header it is sent in
        return value.strip() if isinstance(value, str) else value

    @field_validator("api_key", "base_url", "gateway_keys", "otel_endpoint", mode="before")
    @classmethod
    def _blank_is_none(cls, value: object) -> object:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("store")
    @classmethod
    def _in_the_project(cls, store: str) -> str:
        if "://" in store or store == ":memory:":
            return store
        place = str(project_root(Path.cwd()) / _from_home(Path(store)))
        try:
            place.encode()
        except UnicodeEncodeError:
            raise ValueError("its path is not text in UTF-8, which the store cannot open; choose another") from None
        return place

    @field_validator("local_gguf")
    @classmethod
    def _gguf_from_home(cls, path: Path | None) -> Path | None:
        return None if path is None else _from_home(path)

    @field_validator("model")
    @classmethod
    def _not_blank(cls, model: str) -> str:
        if not model:
            raise ValueError("it is blank; name a model, or unset it")
        return model

    @field_validator("base_url", "otel_endpoint")
    @classmethod
    def _without_version(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith(("http://", "https://")):
            raise ValueError("it should begin with http:// or https://")
        # the client adds /v1 itself; people paste the address with it
        return url.rstrip("/").removesuffix("/v1")

    @field_validator("gateway_keys")
    @classmethod
    def _can_be_told_apart(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            gateway_secrets(keys)
        return keys

    @field_validator("env", "auth", "log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip() for origin in value.split(",") if origin.strip())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _as_browsers_write_them(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin.lower().removesuffix("/") for origin in origins)
        for origin in origins:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@*\s]+", origin):
                raise ValueError(f"{origin!r} is no origin; write each like https://example.com, without a path")
        return origins

    @field_serializer("store")
    def _shown(self, store: str) -> str:
        return without_password(store)

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        for name, value in super().__repr_args__():
            yield name, without_password(self.store) if name == "store" else value

    @property
    def has_upstream(self) -> bool:
        """Whether a key or a base URL says who answers."""
        return self.api_key is not None or self.base_url is not None

    def choose_model(self, asked: str | None = None) -> str:
        """Return the model that answers when ``asked`` for one by name, or for none.

        Without a key or a base URL the embedded model answers in development, unless a Claude model was asked for
        by name, here or in ``CLAUDE_MODEL``.

        Raises:
            ConfigurationError: nobody is configured who could answer.
        """
        named = asked or (self.model if "model" in self.model_fields_set else None)
        if named == LOCAL_MODEL or self.has_upstream:
            return named or self.model
        if named is None and self.env == "development":
            return LOCAL_MODEL
        error = ConfigurationError(NOT_CONFIGURED)
        error.add_note(WITHOUT_A_KEY)  # beside the message, whose words are the predecessor's
        raise error


@cache
def settings() -> Settings:
    """Return the settings of this process, read on first use.

    Raises:
        ConfigurationError: naming each variable that does not fit.
    """
    return read_settings()


def read_settings(**values: object) -> Settings:
    """Return settings read now; ``values`` by their environment names come first."""
    env_file = project_root(Path.cwd()) / ".env"
    try:
        return Settings(_env_file=env_file, **values)  # type: ignore[arg-type,call-arg]  # aliases are the environment names
    except UnicodeDecodeError:
        raise ConfigurationError(f"{env_file} is not text in UTF-8; save it again as UTF-8") from None
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}: {_sentence(e['msg'])}" for e in error.errors(include_input=False))
        raise ConfigurationError(f"a setting does not fit: {wrong}; mend it in the environment or in .env") from None


def gateway_secrets(keys: SecretStr) -> dict[str, bytes]:
    """Return the secrets of gateways by their kids; two while one takes the place of the other.

    Example:
        >>> gateway_secrets(SecretStr("2025:" + 32 * "x"))
        {'2025': b'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'}

    Raises:
        ValueError: they cannot be read, or a secret could be guessed; it names the kid and no secret.
    """
    secrets: dict[str, bytes] = {}
    for part in keys.get_secret_value().split(","):
        kid, colon, secret = part.strip().partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", kid):
            raise ValueError("it should be KID:SECRET, several with commas between")  # what is wrong may be a secret
        if len(secret) < SHORTEST_SECRET:
            raise ValueError(f"the secret of {kid!r} is short; it should have {SHORTEST_SECRET} characters or more")
        if kid in secrets:
            raise ValueError(f"{kid!r} is there twice; give each secret a kid of its own")
        secrets[kid] = secret.encode()
    return secrets


def _from_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(
            f"nobody knows the home folder that {path.parts[0]} stands for; write the whole path"
        ) from None


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]
