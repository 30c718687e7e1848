"""Statuses become the errors that callers tell apart."""

import pytest

from autoscaler.kube.errors import Conflict, Denied, Gone, KubeError, NotFound, Unavailable, error_from_status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, KubeError),
        (401, Denied),
        (403, Denied),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (422, KubeError),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
        (599, Unavailable),
    ],
)
def test_a_status_is_one_kind_of_error(status: int, kind: type[KubeError]) -> None:
    error = error_from_status(status, "why", retry_after_s=2.0)
    assert type(error) is kind
    assert (error.status, error.cause, error.retry_after_s, str(error)) == (status, "why", 2.0, f"{status}: why")


def test_without_an_answer_there_is_no_status() -> None:
    assert str(Unavailable("no route")) == "no route"
