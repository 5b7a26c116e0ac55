"""All settings, read from the environment once and passed down.

`DARKROOM_KAFKA`, `DARKROOM_POSTGRES` and `DARKROOM_REDIS` left unset mean the embedded servers: whoever
starts those (devstack) fills in their addresses before anything else reads the settings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.errors import BadSetting
from models.sweeping import GRACE_MIN_S, GRACE_S
from models.tokens import KEY_CHARACTERS_MIN as TOKEN_KEY_CHARACTERS_MIN

_SECRETS = {"replicate_api_token", "replicate_webhook_secret", "token_key"}
_URLS = {"postgres", "redis", "public_url", "replicate_base_url", "blobs"}
_SECRET_WORDS = ("pass", "secret", "token", "key", "credential")


def _named(variable: str, default: Any, **limits: Any) -> Any:
    return Field(default=default, validation_alias=variable, **limits)


class Settings(BaseSettings):
    """Every setting with its environment variable, default and bounds. Times in seconds unless named otherwise."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    kafka: str | None = _named("DARKROOM_KAFKA", None)
    postgres: str | None = _named("DARKROOM_POSTGRES", None)
    redis: str | None = _named("DARKROOM_REDIS", None)
    home: Path = _named("DARKROOM_HOME", Path(".darkroom"))
    partitions: int = _named("DARKROOM_PARTITIONS", 8, ge=1, le=1024)
    replication: int = _named("DARKROOM_REPLICATION", 1, ge=1, le=7)
    topic_prefix: str = _named("DARKROOM_TOPIC_PREFIX", "", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    blobs: str = _named("DARKROOM_BLOBS", "")
    signed_links: bool = _named("DARKROOM_SIGNED_LINKS", True)
    gateway: str = _named("DARKROOM_GATEWAY", "127.0.0.1:8400", pattern=r"^[^\s:]+:\d{1,5}$")
    emulator: str = _named("DARKROOM_EMULATOR", "127.0.0.1:8401", pattern=r"^[^\s:]+:\d{1,5}$")
    sweep_grace_s: float = _named("DARKROOM_SWEEP_GRACE_S", GRACE_S, ge=GRACE_MIN_S)
    public_url: str = _named("DARKROOM_PUBLIC_URL", "")
    kafka_port: int = _named("DARKROOM_KAFKA_PORT", 0, ge=0, le=65535)
    postgres_port: int = _named("DARKROOM_POSTGRES_PORT", 0, ge=0, le=65535)
    redis_port: int = _named("DARKROOM_REDIS_PORT", 0, ge=0, le=65535)
    cache: str = _named("DARKROOM_CACHE", "")
    metrics_port: int = _named("DARKROOM_METRICS_PORT", 0, ge=0, le=65535)
    metrics_host: str = _named("DARKROOM_METRICS_HOST", "127.0.0.1", pattern=r"^[^\s/]+$")

    replicate_api_token: str = _named("REPLICATE_API_TOKEN", "")
    replicate_base_url: str = _named("REPLICATE_BASE_URL", "")
    replicate_webhook_secret: str = _named("REPLICATE_WEBHOOK_SECRET", "")
    default_model: str = _named("DARKROOM_DEFAULT_MODEL", "black-forest-labs/flux-schnell")
    video_model: str = _named("DARKROOM_VIDEO_MODEL", "wan-video/wan-2.2-i2v-fast", min_length=1)
    trainer: str = _named(
        "DARKROOM_TRAINER",
        "ostris/flux-dev-lora-trainer:1296f0ab2d695af5a1b5eeee6e8ec043145bef33f1675ce1a2cdb0f81ec43f02",
        pattern=r"^[^/:\s]+/[^/:\s]+:[^/:\s]+$",
    )
    training_destination: str = _named(
        "DARKROOM_TRAINING_DESTINATION", "darkroom/portraits", pattern=r"^[^/:\s]+/[^/:\s]+$"
    )
    provider_per_minute: int = _named("DARKROOM_PROVIDER_PER_MINUTE", 600, ge=1, le=1_000_000)
    provider_per_hour: int = _named("DARKROOM_PROVIDER_PER_HOUR", 0, ge=0, le=100_000_000)
    provider_timeout_s: float = _named("DARKROOM_PROVIDER_TIMEOUT_S", 10.0, gt=0, le=120)
    provider_start_window_s: float = _named("DARKROOM_PROVIDER_START_WINDOW_S", 60.0, gt=0, le=3600)
    provider_poll_after_s: float = _named("DARKROOM_PROVIDER_POLL_AFTER_S", 30.0, gt=0, le=3600)
    download_hosts: Annotated[tuple[str, ...], NoDecode] = _named(
        "DARKROOM_DOWNLOAD_HOSTS", ("replicate.delivery", "*.replicate.delivery")
    )

    session_timeout_s: float = _named("DARKROOM_SESSION_TIMEOUT_S", 6.0, ge=6, le=300)
    step_records_max: int = _named("DARKROOM_STEP_RECORDS_MAX", 1000, ge=1, le=100_000)
    step_timeout_s: float = _named("DARKROOM_STEP_TIMEOUT_S", 60.0, gt=0, le=600)
    lane_bytes_max: int = _named("DARKROOM_LANE_BYTES_MAX", 16 << 20, ge=1 << 16, le=1 << 30)
    postgres_pool_max: int = _named("DARKROOM_POSTGRES_POOL_MAX", 8, ge=1, le=500)

    token_key: str = _named("DARKROOM_TOKEN_KEY", "")
    token_requests_per_s: float = _named("DARKROOM_TOKEN_REQUESTS_PER_S", 200.0, ge=0.1, le=1_000_000)
    cors_origins: Annotated[tuple[str, ...], NoDecode] = _named("DARKROOM_CORS_ORIGINS", ())

    @field_validator("download_hosts", "cors_origins", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(host.strip() for host in value.split(",") if host.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (
                parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError("must be * or https://host[:port][,…], without a path")
        return value

    @field_validator("token_key")
    @classmethod
    def _check_token_key(cls, value: str) -> str:
        if value and len(value) < TOKEN_KEY_CHARACTERS_MIN:
            raise ValueError(f"must be at least {TOKEN_KEY_CHARACTERS_MIN} characters, drawn at random")
        return value

    @field_validator("kafka")
    @classmethod
    def _check_kafka(cls, value: str | None) -> str | None:
        for address in (value or "").split(",") if value else ():
            host, _, port = address.strip().rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError("must be host:port[,host:port]")
        return value

    @field_validator("postgres")
    @classmethod
    def _check_postgres(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        return _with_good_port(value)

    @field_validator("redis")
    @classmethod
    def _check_redis(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://")
        return _with_good_port(value)

    @field_validator("gateway", "emulator")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if int(value.rpartition(":")[2]) > 65535:
            raise ValueError("the port must be at most 65535")
        return value

    @field_validator("public_url", "replicate_base_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return _with_good_port(value) or ""

    @field_validator("blobs")
    @classmethod
    def _check_blobs(cls, value: str) -> str:
        if "://" in value and not value.startswith("s3://"):
            raise ValueError("must be a folder or start with s3://")
        if value.startswith("s3://") and not urlsplit(value).netloc:
            raise ValueError("must name a bucket: s3://bucket[/prefix]")
        return value

    @property
    def blob_location(self) -> str:
        """A folder or an s3:// URL; a folder under `home` when unset."""
        return self.blobs or str(self.home / "blobs")

    @property
    def webhook_base_url(self) -> str:
        """Where the provider reaches the gateway, without a trailing slash."""
        return (self.public_url or f"http://{self.gateway}").rstrip("/")

    @property
    def images_url(self) -> str:
        """What a stored object's key is appended to for its public address."""
        return f"{self.webhook_base_url}/v1/images/"

    def require(self, name: str) -> str:
        """The value of an address that must be known by now.

        Raises BadSetting: it is unset and no embedded server has filled it in.
        """
        value = getattr(self, name)
        if not value:
            raise BadSetting(
                variable_of(name), "is not set and no embedded stack is running; run `darkroom stack up` first"
            )
        return str(value)

    def masked(self) -> dict[str, str]:
        """Environment variable -> value as text, with secrets and passwords hidden."""
        shown = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in _SECRETS and value:
                text = "***"
            elif name in _URLS and value:
                text = _without_secrets(value)
            elif isinstance(value, tuple):
                text = ",".join(value)
            else:
                text = "" if value is None else str(value)
            shown[variable_of(name)] = text
        return shown


def variable_of(name: str) -> str:
    """The environment variable behind a field of Settings."""
    return str(Settings.model_fields[name].validation_alias)


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; `overrides` are field names.

    Raises BadSetting naming the first variable that is wrong.
    """
    try:
        return Settings(**{variable_of(name): value for name, value in overrides.items()})
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]) if first["loc"] else "settings"
        variable = variable_of(where) if where in Settings.model_fields else where
        raise BadSetting(variable, first["msg"].removeprefix("Value error, ")) from None


def _with_good_port(url: str | None) -> str | None:
    if url:
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError("is not a URL that can be read") from None
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("the port must be a number up to 65535") from None
    return url


def _without_secrets(url: str) -> str:
    """The URL without its password, and without what its query says of passwords, tokens or keys."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    name, colon, _ = userinfo.partition(":")
    netloc = f"{name}:***@{host}" if at and colon else parts.netloc
    query = "&".join(
        f"{name}=***" if any(word in name.lower() for word in _SECRET_WORDS) else pair
        for pair in parts.query.split("&")
        for name in (pair.partition("=")[0],)
    )
    return urlunsplit(parts._replace(netloc=netloc, query=query))
