"""The page over HTTP, as ASGI: its files, its headers, its data, and who is answered."""

import re
from importlib.resources import files
from typing import Any

import msgspec
import pytest

from dashboard.page import Everything
from dashboard.server import FILES, build, is_loopback
from tests.dashboard.builders import facts


async def nothing() -> Everything:
    return Everything()


async def get(path: str, *, host: str = "127.0.0.1:4003", bound: str = "127.0.0.1", method: str = "GET") -> Any:
    """Status, headers and body of one request."""
    application = build([facts()], nothing, lambda: 5.0, host=bound)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", host.encode())],
        "scheme": "http",
        "server": ("127.0.0.1", 4003),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
    }
    await application(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("path", [*FILES, "/data.json", "/healthz"])
async def test_everything_is_served_uncached_and_allows_nothing_from_elsewhere(path: str) -> None:
    status, headers, body = await get(path)
    assert (status, headers["cache-control"], bool(body)) == (200, "no-store", True)
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


async def test_the_data_are_the_page_as_json() -> None:
    _, headers, body = await get("/data.json")
    assert headers["content-type"] == "application/json"
    page = msgspec.json.decode(body)
    assert (page["read_at_s"], [pool["name"] for pool in page["pools"]]) == (5.0, ["chat"])
    assert page["pools"][0]["queue"] is None


@pytest.mark.parametrize(
    ("bound", "host", "status"),
    [
        pytest.param("127.0.0.1", "localhost:4003", 200, id="this machine by name"),
        pytest.param("::1", "[::1]:4003", 200, id="IPv6"),
        pytest.param("127.0.0.1", "elsewhere.example", 400, id="a foreign name for this machine"),
        pytest.param("0.0.0.0", "dashboard.ml.svc", 200, id="open to other machines"),
    ],
)
async def test_on_loopback_only_names_of_this_machine_are_answered(bound: str, host: str, status: int) -> None:
    assert (await get("/data.json", bound=bound, host=host))[0] == status


@pytest.mark.parametrize(("path", "method", "status"), [("/", "POST", 405), ("/page.py", "GET", 404)])
async def test_it_changes_nothing_and_serves_nothing_else(path: str, method: str, status: int) -> None:
    assert (await get(path, method=method))[0] == status


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("gpu-1", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def text_of(name: str) -> str:
    return files("dashboard").joinpath("static", name).read_text()


@pytest.mark.parametrize("name", [name for name, _ in FILES.values()])
def test_the_files_need_nothing_from_the_internet(name: str) -> None:
    assert re.findall(r"https?:|//cdn|@import|url\(", text_of(name)) == []


def test_the_script_writes_text_and_never_markup() -> None:
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text_of("page.js")) == []


def test_the_document_has_no_script_or_style_of_its_own() -> None:
    """The policy would block them."""
    document = text_of("index.html")
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", document) == []
    assert "style:" not in text_of("page.js")


def test_every_value_that_the_script_reads_is_in_the_data() -> None:
    """A field that is renamed on one side only would be drawn as unknown for ever."""
    from dashboard import page

    structs = [kind for kind in vars(page).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    fields = {name for kind in structs for name in kind.__struct_fields__} | {"name", "before", "after", "reason"}
    read = set(re.findall(r"\b(?:page|pool|queue|one|line|step)\.([a-z_]+)", text_of("page.js")))
    assert read - fields - {"length", "css", "js"} == set()
    assert len(read) > 30
