"""The kinds of value that sections are made of: numbers with bounds, names, URLs, secrets."""

import hashlib
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
)

from backlog.connection_url import parse_redis_url
from estimator.accelerator import ACCELERATORS, accelerator_names, find_accelerator
from gateway.names import MOST_WILDCARDS
from weighbridge.config_errors import did_you_mean

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
DIGEST = re.compile(r"^sha256:[0-9a-fA-F]{64}$")
MOST_GPUS = 64
"""Of one replica."""
MOST_PLANNING_BATCH = 4096
LEAST_CHUNK_TOKENS = 16
REVEAL = "reveal"
"""Key of the serialization context under which secrets are written out: only for a file that nobody else can read."""


class Section(BaseModel):
    """A mapping of our own: unknown keys are errors, values never change, secrets stay out of error texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _name(value: str) -> str:
    if not NAME.match(value):
        raise ValueError("must be 1 to 63 letters, digits, '.', '_' or '-', and start with a letter or a digit")
    return value


def _model_name(value: str) -> str:
    if not _is_model_name(value) or "*" in value:
        raise ValueError("must be a model name without spaces or wildcards")
    return value


def _model_pattern(value: str) -> str:
    if not is_model_pattern(value):
        raise ValueError(f"must be a model name without spaces, with at most {MOST_WILDCARDS} wildcards (*)")
    return value


def is_model_pattern(value: str) -> bool:
    """Whether a text can be a name that clients ask for, or stand for many."""
    return _is_model_name(value) and value.count("*") <= MOST_WILDCARDS


def _is_model_name(value: str) -> bool:
    return bool(value) and not any(char.isspace() or not char.isprintable() for char in value)


def replica_url(value: str) -> str:
    """An address that endpoint paths can be appended to. Raises ValueError with the rule that it breaks."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("must be http://host:port or https://host:port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("must be http://host:port or https://host:port")
    if parts.username or parts.password:
        raise ValueError("must not hold a user or password; use api_key")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or fragment")
    return without_version(value)


def without_version(url: str) -> str:
    """The URL without a trailing `/` or `/v1`: endpoint paths are appended to it."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def gpu_name(value: str) -> str:
    """A GPU by the name that it is registered under. Raises ValueError for one that is not known."""
    accelerator = find_accelerator(value)
    if accelerator is None:
        raise ValueError(f"unknown GPU; {did_you_mean(value, ACCELERATORS, accelerator_names())}")
    return accelerator.name


def _redis_url(value: SecretStr) -> SecretStr:
    parse_redis_url(value.get_secret_value())
    return value


def _digest(value: str) -> str:
    """A key as its SHA-256 digest: `sha256:` and 64 hexadecimal digits. A plain key is hashed and then forgotten."""
    if value.startswith("sha256:"):
        if not DIGEST.match(value):
            raise ValueError("must be sha256: and 64 hexadecimal digits")
        return value.lower()
    return digest(value)


def digest(key: str) -> str:
    """`sha256:hex` of a plain API key. Raises ValueError for a key that no client could send."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("must be a non-empty key of printable ASCII characters without spaces")
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def _reveal(value: SecretStr, info: SerializationInfo) -> str:
    return value.get_secret_value() if (info.context or {}).get(REVEAL) else str(value)


Number = Annotated[float, BeforeValidator(_not_bool)]
Positive = Annotated[Number, Field(gt=0)]
Seconds = Annotated[Number, Field(gt=0)]
SecondsOrZero = Annotated[Number, Field(ge=0)]
Ratio = Annotated[Number, Field(gt=0, le=1)]
Whole = Annotated[int, BeforeValidator(_not_bool)]
Count = Annotated[Whole, Field(ge=1)]
CountOrZero = Annotated[Whole, Field(ge=0)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Name = Annotated[str, AfterValidator(_name)]
ModelName = Annotated[str, AfterValidator(_model_name)]
ModelPattern = Annotated[str, AfterValidator(_model_pattern)]
ReplicaUrl = Annotated[str, AfterValidator(replica_url)]
KeyDigest = Annotated[str, AfterValidator(_digest)]
Secret = Annotated[SecretStr, PlainSerializer(_reveal, return_type=str)]
RedisUrl = Annotated[Secret, AfterValidator(_redis_url)]
