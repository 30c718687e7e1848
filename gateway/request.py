"""One HTTP request as it is being read: framing checks, header selection, bounded body. No I/O."""

from dataclasses import dataclass, field

from backlog.records import BANDS
from gateway.outcome import Outcome, Refusal
from gateway.relay import HOP_BY_HOP, OURS, connection_options
from gateway.settings import Limits

_NOT_FORWARDED = HOP_BY_HOP | {
    b"host", b"authorization", b"content-length", b"expect", b"accept-encoding", b"x-request-id",
}  # fmt: skip
"""`accept-encoding` goes because events must be readable on their way back; the rest is ours to write."""
MAX_REQUEST_ID_BYTES = 128
_PRIORITIES = {b"%d" % priority: priority for priority in range(BANDS)}


@dataclass(slots=True)
class Head:
    """Collects the request line and the headers, and refuses what is ambiguous or too large."""

    arrived_at_s: float
    method: bytes = b""
    target: bytes = b""
    http10: bool = False
    authorization: bytes | None = None
    tenant: str = ""
    request_id: bytes = b""
    priority: int | None = None
    """What the client asks for; its tenant's settings bound it."""
    kept: list[tuple[bytes, bytes]] = field(default_factory=list)
    hop_by_hop: frozenset[bytes] = frozenset()
    """Names that a `Connection` header lists, wherever they stand."""
    expects_continue: bool = False
    length: int | None = None
    chunked: bool = False
    header_bytes: int = 0
    unfinished_bytes: int = 0
    """Of the reads since a line, a header or body began that has not ended."""
    complete: bool = False
    """What follows as a header is a trailer: counted, and dropped."""
    upgrades: bool = False

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    @property
    def forwarded(self) -> bytes:
        """The header lines that a replica gets."""
        kept = self.kept
        if self.hop_by_hop:
            kept = [(name, value) for name, value in kept if name.lower() not in self.hop_by_hop]
        return b"".join([b"%b: %b\r\n" % line for line in kept])

    def add(self, name: bytes, value: bytes, limits: Limits) -> None:
        """Take one header. Raises `Refusal` for too many bytes and for framing that can be read in two ways."""
        self.header_bytes += len(name) + len(value) + 4
        if self.header_bytes > limits.max_header_bytes:
            detail = f"request headers are larger than {limits.max_header_bytes} bytes"
            raise Refusal(Outcome.HEADERS_TOO_LARGE, detail)
        if self.complete:
            return
        key = name.lower()
        if key == b"content-length":
            self._take_length(value, limits)
        elif key == b"transfer-encoding":
            if self.chunked or self.length is not None or value.strip().lower() != b"chunked":
                raise Refusal(Outcome.BAD_FRAMING, "transfer-encoding must be `chunked`, once, without content-length")
            self.chunked = True
        elif key == b"authorization":
            if self.authorization is not None:
                raise Refusal(Outcome.BAD_FRAMING, "more than one authorization header")
            self.authorization = value
        elif key == b"expect":
            self.expects_continue = value.strip().lower() == b"100-continue"
        elif key == b"upgrade":
            self.upgrades = True
        elif key == b"x-request-id":
            if 0 < len(value) <= MAX_REQUEST_ID_BYTES and value.isascii() and value.decode("ascii").isprintable():
                self.request_id = value
        elif key == b"x-weighbridge-priority":
            self.priority = _PRIORITIES.get(value.strip(b" \t")) if self.priority is None else None
            if self.priority is None:
                detail = f"x-weighbridge-priority must be one whole number from 0 to {BANDS - 1}"
                raise Refusal(Outcome.BAD_REQUEST, detail, param="x-weighbridge-priority")
        elif key == b"connection":
            self.hop_by_hop |= connection_options(value)
        elif key not in _NOT_FORWARDED and not key.startswith(OURS):
            self.kept.append((name, value))

    def _take_length(self, value: bytes, limits: Limits) -> None:
        if self.chunked or self.length is not None:
            raise Refusal(Outcome.BAD_FRAMING, "content-length must appear once, without transfer-encoding")
        value = value.strip(b" \t")
        if not value.isdigit():
            raise Refusal(Outcome.BAD_FRAMING, "content-length must be a whole number")
        # Python refuses to read a number of thousands of digits.
        self.length = int(value[-18:])
        if len(value) > 18 or self.length > limits.max_body_bytes:
            raise too_large(limits)

    def payload(self, body: bytes) -> bytes:
        """What follows a replica's own head lines: the id, forwarded headers, length, blank line, body."""
        return b"x-request-id: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            self.request_id,
            self.forwarded,
            len(body),
            body,
        )


def too_large(limits: Limits) -> Refusal:
    """The body is over the limit, by its own word or by count."""
    return Refusal(Outcome.BODY_TOO_LARGE, f"request body is larger than {limits.max_body_bytes} bytes")
