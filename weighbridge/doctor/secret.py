"""Keys that are weak, or in plain text in a file. Pure. No value of a key is in a finding."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from weighbridge.config_errors import ENVIRONMENT_PREFIX, Path, dotted, secret, without_credentials
from weighbridge.doctor.finding import Finding, error, fine, warning
from weighbridge.doctor.litellm import section

KNOWN_KEYS = frozenset({"88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b"})
"""Digests of the master keys of examples, with which LiteLLM does not start."""
SHORT_CHARACTERS = 20
PLACEHOLDERS = frozenset({"", "none", "null", "empty", "dummy", "fake", "fake-key", "no-key", "not-needed", "x", "-"})
"""What stands for the key of a model server that asks for none."""
MASTER_KEY = "LITELLM_MASTER_KEY"
PERMIT = "dangerously_permit_weak_or_unset_master_key"
PERMIT_VARIABLE = "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"
OPEN = "LiteLLM starts, and whoever reaches it may use it"
NEW_KEY = f'export {MASTER_KEY}="sk-$(openssl rand -hex 32)"'
FROM_ENVIRONMENT = f"general_settings:\n  master_key: {ENVIRONMENT_PREFIX}{MASTER_KEY}"


def check_master_key(document: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[Finding]:
    """The key without which LiteLLM does not start. `env`: with `environment_variables` laid over it."""
    check, settings = "master-key", section(document, "general_settings")
    then = "LiteLLM does not start"
    if settings.get(PERMIT) is True:
        yield warning(check, f"general_settings.{PERMIT} is on", f"general_settings:\n  {PERMIT}: false")
        then = OPEN
    elif env.get(PERMIT_VARIABLE, "").strip().lower() == "true":
        yield warning(check, f"{PERMIT_VARIABLE} is on", f"unset {PERMIT_VARIABLE}")
        then = OPEN
    written = settings.get("master_key")
    key, name = written, "general_settings.master_key"
    if written is None:
        key, name = env.get(MASTER_KEY), MASTER_KEY
    elif isinstance(written, str) and written.startswith(ENVIRONMENT_PREFIX):
        name = written.removeprefix(ENVIRONMENT_PREFIX)
        key = env.get(name)
    change = NEW_KEY if written is not None and key is not written else f"{NEW_KEY}\n{FROM_ENVIRONMENT}"
    if key is None:
        yield error(check, f"{name} is not set: {then}", change)
        return
    text = str(key).strip()
    if not text:
        yield error(check, f"{name} is empty: {then}", change)
    elif sha256(text.encode()).hexdigest() in KNOWN_KEYS:
        yield error(check, f"{name} is a key of public examples: {then}", change)
    elif len(text) < SHORT_CHARACTERS:
        yield warning(check, f"{name} has {len(text)} characters: it can be guessed", change)
    else:
        yield fine(check, f"{name} is set and long")


def check_plain_keys(document: Mapping[str, Any]) -> Iterator[Finding]:
    """Secrets that whoever reads the file has."""
    places = [dotted(path) for path in _plain(document, ())]
    for place in places:
        what = f"{place} is in plain text in the file"
        if place.startswith("tenants."):
            change = "printf %s KEY | sha256sum\nand write sha256:DIGEST, or os.environ/NAME"
        else:
            change = f"{place.rpartition('.')[2]}: {ENVIRONMENT_PREFIX}NAME"
        yield warning("plain-keys", what, change)
    if not places:
        yield fine("plain-keys", "no key is in plain text in the file")


def _plain(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _plain(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _plain(item, (*path, index))
    elif isinstance(value, str) and not value.startswith((ENVIRONMENT_PREFIX, "sha256:")):
        named = secret(path[-2:]) and value.strip().lower() not in PLACEHOLDERS
        if named or ("://" in value and without_credentials(value) != value):
            yield path
