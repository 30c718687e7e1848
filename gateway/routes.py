"""What a request is for: an endpoint that carries work, or a question that the gateway answers itself."""

from dataclasses import dataclass

from gateway.auth import priority_of
from gateway.context import Context
from gateway.exchange import Exchange
from gateway.openai import Endpoint, model_list, parse, rewrite
from gateway.outcome import Outcome, Refusal
from gateway.reply import Client
from gateway.request import Head

_WORK = {path.encode(): endpoint for endpoint in Endpoint for path in (endpoint.value, endpoint.value[3:])}
_MODELS = (b"/v1/models", b"/models")
_LIVE = (b"/health/liveliness", b"/health/liveness", b"/livez")
_READY = (b"/health/readiness", b"/readyz", b"/health")


@dataclass(frozen=True, slots=True)
class Direct:
    """A response that needs no replica."""

    status: int
    phrase: str
    body: bytes

    def response(self, head: Head, *, keep_alive: bool) -> bytes:
        """The whole response; a HEAD request gets no body."""
        close = "" if keep_alive else "connection: close\r\n"
        lines = (
            f"HTTP/1.1 {self.status} {self.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(self.body)}\r\n{close}\r\n"
        )
        return lines.encode() + (b"" if head.method == b"HEAD" else self.body)


def begin(
    context: Context, client: Client, head: Head, body: bytes, *, keep_alive: bool, number: int
) -> Exchange | Direct:
    """An exchange to admit, or a direct answer. Raises `Refusal` for everything that ends here."""
    path = head.path
    endpoint = _WORK.get(path)
    if endpoint is None:
        return _direct(context, head, path)
    if head.method != b"POST":
        raise Refusal(Outcome.WRONG_METHOD, f"{endpoint.value} takes POST")
    parsed = parse(endpoint, body, context.sizer_of)
    served = context.served(parsed.model)
    payer = context.keys.settings_of(head.tenant)
    model = served.name if served.name != parsed.model else None
    include_usage = parsed.streams and not parsed.usage_asked
    if model is not None or include_usage:
        body = rewrite(body, model=model, include_usage=include_usage)
    return Exchange(
        context,
        client,
        pool=served.by,
        parsed=parsed,
        payer=payer,
        priority=priority_of(payer, head.priority),
        payload=head.payload(body),
        request_id=head.request_id,
        arrived_at_s=head.arrived_at_s,
        http10=head.http10,
        keep_alive=keep_alive,
        salt=number,
    )


def _direct(context: Context, head: Head, path: bytes) -> Direct:
    if path in _LIVE:
        answer = Direct(200, "OK", b'{"status":"alive"}')
    elif path in _READY:
        answer = (
            Direct(503, "Service Unavailable", b'{"status":"draining"}')
            if context.draining
            else Direct(200, "OK", b'{"status":"ready"}')
        )
    elif path in _MODELS:
        answer = Direct(200, "OK", model_list(context.models, int(context.started_at_s)))
    else:
        raise Refusal(Outcome.UNKNOWN_ENDPOINT, f"no endpoint {path[:128].decode('latin-1')!r}")
    if head.method not in (b"GET", b"HEAD"):
        raise Refusal(Outcome.WRONG_METHOD, f"{path.decode('latin-1')} takes GET")
    return answer


def authorize(context: Context, head: Head) -> str:
    """The tenant, as soon as the headers are read: nobody unknown may send a body. Health checks need no key.

    Raises `Refusal` (unauthorized).
    """
    tenant = context.keys.tenant_of(head.authorization)
    if tenant is not None:
        return tenant
    if head.path in _LIVE or head.path in _READY:
        return ""
    given = "the API key is not known" if head.authorization else "no API key: send `Authorization: Bearer KEY`"
    raise Refusal(Outcome.UNAUTHORIZED, given)
