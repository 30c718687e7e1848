"""What can come of a call to a Kubernetes API server, as one exception per case that callers treat differently."""


class KubeError(Exception):
    """A call that was not answered with success.

    `status` is the HTTP status, None where there was no answer. `cause` is the server's own message, or what went
    wrong on the way to it; it holds no credentials. `retry_after_s` is what the server asks to wait, None if it
    asks for nothing.
    """

    def __init__(self, cause: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(cause if status is None else f"{status}: {cause}")
        self.cause = cause
        self.status = status
        self.retry_after_s = retry_after_s


class NotFound(KubeError):
    """404: the object or the kind is not there."""


class Conflict(KubeError):
    """409: the object has changed since it was read, or one of this name is there."""


class Gone(KubeError):
    """410: the resourceVersion or the continue token is too old. List again."""


class Denied(KubeError):
    """401, 403: the credentials are refused, or allow too little."""


class Unavailable(KubeError):
    """No answer, or 429 or 5xx: nothing is wrong with the request, and a later one may succeed.

    A write may have happened nevertheless.
    """


def error_from_status(status: int, cause: str, *, retry_after_s: float | None = None) -> KubeError:
    """The error for an HTTP status that is no success."""
    return _kind(status)(cause, status=status, retry_after_s=retry_after_s)


def _kind(status: int) -> type[KubeError]:
    match status:
        case 401 | 403:
            return Denied
        case 404:
            return NotFound
        case 409:
            return Conflict
        case 410:
            return Gone
        case 429:
            return Unavailable
        case _:
            return Unavailable if status >= 500 else KubeError
