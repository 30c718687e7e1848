"""Wait until a model server has nothing to do: `drain.py PORT DEADLINE_S`, run by the kubelet before SIGTERM.

Gateways hear within a few seconds that the pod ends and send nothing more. Always exits with 0: the kubelet goes on in
any case. Standard library only: it runs in the images of vLLM, of SGLang and of Weighbridge.
"""

import http.client
import re
import sys
import time
import urllib.request

BUSY = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|sglang:num_(?:running|queue)_reqs)(?:\{[^}]*\})? +([0-9.eE+-]+)",
    re.MULTILINE,
)
SETTLE_S = 5.0
"""Requests may still arrive this long after the pod began to end."""
POLL_S = 1.0
MOST_FAILURES = 3


def requests_of(port: int) -> float | None:
    """Requests that run or wait in the model server; None where it does not say."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            found = BUSY.findall(answer.read().decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException):
        return None
    return sum(map(float, found)) if found else None


def main(port: int, deadline_s: float, settle_s: float = SETTLE_S, poll_s: float = POLL_S) -> None:
    """Return when the server was seen idle after `settle_s`, does not answer any more, or `deadline_s` has passed."""
    began = time.monotonic()
    failures = 0
    while (passed_s := time.monotonic() - began) < deadline_s and failures < MOST_FAILURES:
        busy = requests_of(port)
        failures = failures + 1 if busy is None else 0
        if busy == 0 and passed_s >= settle_s:
            return
        time.sleep(poll_s)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
