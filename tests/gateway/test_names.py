"""A model name to who serves it: exact names first, then patterns as LiteLLM matches them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.names import MOST_CHARACTERS, MOST_WILDCARDS, Names, Served, served_name


@pytest.mark.parametrize(
    ("pattern", "served", "model", "name"),
    [
        pytest.param("hosted_vllm/*", "*", "hosted_vllm/meta-llama/L-8B", "meta-llama/L-8B", id="provider"),
        pytest.param("*", "*", "anything", "anything", id="everything"),
        pytest.param("llama-*", "m-*-it", "llama-8b", "m-8b-it", id="both ends"),
        pytest.param("llama-*", "fixed", "llama-8b", "fixed", id="one for all"),
        pytest.param("*-a-*", "*/*", "x-a-y", "x/y", id="two"),
        pytest.param("*-a-*", "*/*", "x-a-y-a-z", "x-a-y/z", id="greedy"),
        pytest.param("*-chat", "*", "llama-chat-v2", "llama", id="only the start must match"),
        pytest.param("a.b*", "*", "aXb1", None, id="a dot is a dot"),
        pytest.param("llama-*", "*", "my-llama-8b", None, id="not at the start"),
        pytest.param("llama-*", "*", "llama-", "", id="nothing in its place"),
    ],
)
def test_a_pattern_gives_the_name_that_replicas_know(pattern: str, served: str, model: str, name: str | None) -> None:
    assert served_name(pattern, served, model) == name


def names(**entries: str) -> Names[str]:
    return Names((pattern, Served(by=pattern, name=served)) for pattern, served in entries.items())


def found(entries: dict[str, str], model: str) -> str | None:
    served = names(**entries).find(model)
    return None if served is None else served.by


@pytest.mark.parametrize(
    ("model", "by"),
    [
        pytest.param("llama-8b", "llama-8b", id="exact before patterns"),
        pytest.param("llama-70b", "llama-*", id="a longer pattern before a shorter"),
        pytest.param("gpt", "*", id="what is left"),
    ],
)
def test_the_most_specific_name_wins_whatever_the_order(model: str, by: str) -> None:
    entries = {"*": "*", "llama-*": "*", "llama-8b": "x"}
    assert found(entries, model) == by
    assert found(dict(reversed(entries.items())), model) == by


def test_a_name_that_nothing_matches_is_nobodys() -> None:
    assert found({"llama-*": "*"}, "gpt") is None


def test_the_first_owner_of_a_name_keeps_it() -> None:
    first, second = (Served(by=owner, name="*") for owner in ("first", "second"))
    served = Names([("*", first), ("*", second)]).find("m")
    assert served == Served(by="first", name="m")


def test_a_name_that_is_too_long_for_a_pattern_is_nobodys() -> None:
    assert found({"*": "*"}, "m" * MOST_CHARACTERS) == "*"
    assert found({"*": "*"}, "m" * (MOST_CHARACTERS + 1)) is None


def test_no_name_keeps_a_worker_busy() -> None:
    pattern = "a".join("*" * MOST_WILDCARDS) + "b"
    assert found({pattern: "x"}, "a" * MOST_CHARACTERS) is None


@given(
    st.text(alphabet="ab/-.", max_size=12), st.text(alphabet="ab/-.", max_size=4), st.text(alphabet="xy", max_size=4)
)
def test_what_a_star_stands_for_is_carried_over(middle: str, head: str, other: str) -> None:
    assert served_name(f"{head}*", f"{other}*", head + middle) == other + middle
    assert served_name(f"{other}*", f"{head}*", other + middle) == head + middle
