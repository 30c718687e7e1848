"""The Lua is data of the package: it must be found as a resource and load on every server."""

from importlib.resources import files

import pytest
from redis import Redis

from backlog.scripts import script

QUEUE = ("clock", "names", "queue")
LOADED = [
    *((*QUEUE, name) for name in ("enqueue", "evict", "start", "settle", "claim", "leave")),
    (*QUEUE, "reap", "publish"),
    ("clock", "names", "view"),
    ("clock", "names", "drain"),
    ("publish_decision",),
    ("clock", "calendar", "account"),
]


def test_every_lua_file_belongs_to_a_loaded_script() -> None:
    shipped = {entry.name.removesuffix(".lua") for entry in files("backlog.scripts").iterdir() if ".lua" in entry.name}
    assert shipped == {name for names in LOADED for name in names}


@pytest.mark.parametrize("names", LOADED, ids="+".join)
def test_a_script_compiles(names: tuple[str, ...], redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.script_load(script(*names).text) == script(*names).sha


def test_a_later_part_sees_the_earlier_ones() -> None:
    both = script("clock", "names").text
    assert both.index(script("clock").text) < both.index(script("names").text)
