"""Which LiteLLM may run with the plugin, and whether its interpreter finds the plugin. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from weighbridge.doctor.finding import Finding, error, fine, unknown, warning

COMPROMISED = frozenset({"1.82.7", "1.82.8", "1.107.0"})
OLDEST = (1, 84)
NEWEST_TRIED = (1, 109, 1)
TESTED = "1.106.2"
INSTALL = f"pip install 'litellm[proxy]=={TESTED}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What one Python interpreter has. `failure`: why it could not be asked; then the rest says nothing."""

    python: str
    litellm: str | None = None
    """Version; `None`: not installed."""
    plugin: bool = False
    """`gateway.litellm_plugin` is there."""
    failure: str | None = None


def check_installed(found: Installed) -> Iterator[Finding]:
    """The version of LiteLLM, and the plugin beside it."""
    if found.failure is not None:
        yield error(
            "litellm-version", f"{found.python}: {found.failure}", "name the proxy's interpreter: --python PATH"
        )
        return
    if found.litellm is None:
        change = "name the interpreter of the proxy: --python PATH"
        yield warning("litellm-version", f"LiteLLM is not installed in {found.python}: not checked", change)
        return
    yield _version(found.litellm)
    if found.plugin:
        yield fine("plugin-installed", f"{found.python} finds gateway.litellm_plugin")
    else:
        what = f"{found.python} has LiteLLM and does not find gateway.litellm_plugin"
        yield error("plugin-installed", what, f"{found.python} -m pip install weighbridge")


def _version(text: str) -> Finding:
    check, numbers = "litellm-version", numbers_of(text)
    if numbers is None:
        return unknown(check, f"LiteLLM {text}: not a version that can be compared")
    if ".".join(map(str, numbers)) in COMPROMISED:
        what = f"LiteLLM {text} was published with malicious code"
        return error(check, what, f"{INSTALL}\nand replace every secret that this machine has held")
    if numbers < OLDEST:
        return error(check, f"LiteLLM {text} is older than 1.84, and lacks hooks that the plugin needs", INSTALL)
    if numbers > NEWEST_TRIED:
        return fine(check, f"LiteLLM {text}, newer than the newest that was tried ({'.'.join(map(str, NEWEST_TRIED))})")
    return fine(check, f"LiteLLM {text}")


def numbers_of(text: str) -> tuple[int, ...] | None:
    """`1.106.2rc1` as (1, 106, 2)."""
    found = re.match(r"\d{1,9}(?:\.\d{1,9})*", text.strip())
    return tuple(int(part) for part in found[0].split(".")) if found else None
