"""`weighbridge replay` as a command: what it prints, writes and exits with."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from weighbridge.replay.command import register

TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"2023-11-16 18:15:4{i}.0,20,3\n" for i in range(5))


class Replica(http.server.BaseHTTPRequestHandler):
    """Answers every second completion with an error when the model is `flaky`."""

    protocol_version = "HTTP/1.1"
    served = 0

    def do_GET(self) -> None:
        self.answer(200, json.dumps({"data": [{"id": "only"}]}).encode(), "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).served += 1
        if body["model"] == "flaky" and self.served % 2:
            self.answer(500, b"broken", "text/plain")
            return
        events: list[dict[str, Any]] = [{"choices": [{"delta": {"content": "a"}, "finish_reason": "length"}]}]
        events.append({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 3}})
        stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
        self.answer(200, stream + b"data: [DONE]\n\n", "text/event-stream")

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it)
        """Print nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replica)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "chat.csv"
    path.write_text(TRACE)
    return path


def run(*arguments: object) -> tuple[int, str]:
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)
    outcome = CliRunner().invoke(app, ["replay", *map(str, arguments)], env={"COLUMNS": "160"})
    return outcome.exit_code, outcome.output


def test_a_trace_is_replayed_and_reported(url: str, trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    status, output = run("--url", url, "--trace", trace, "--speed", 40, "--slo-ttft-s", 30, "--json", path)
    assert (status, "5 requests of chat.csv to only at 40x speed" in output) == (0, True), output
    report = json.loads(path.read_text())
    assert (report["complete"], report["lost"], report["attainment"]["both_ratio"]) == (5, 0, 1.0)
    assert (report["tokens"]["input_used"], report["fleet"]) == (100, [])


def test_lost_requests_end_the_command_with_1_and_a_count(url: str, trace: Path) -> None:
    status, output = run("--url", url, "--trace", trace, "--speed", 40, "--model", "flaky")
    assert status == 1
    assert "of 5 requests had no complete response" in output
    assert "500: broken" in output


def test_the_synthetic_workload_stops_after_the_minutes_asked_for(url: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    status, output = run("--url", url, "--minutes", 0.05, "--speed", 20, "--json", path)
    assert status == 0, output
    assert 3 <= json.loads(path.read_text())["requests"] <= 60


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("a,b\n", "the header must be TIMESTAMP", id="another header"),
        pytest.param(TRACE.replace(",20,", ",-1,"), "column ContextTokens: must be at least 1", id="bad value"),
        pytest.param(None, "No such file", id="no file"),
    ],
)
def test_a_trace_that_cannot_be_read_ends_the_command_with_2(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_text(content)
    status, output = run("--trace", path, "--model", "m")
    assert (status, message in output) == (2, True), output


def test_an_endpoint_that_is_not_there_ends_the_command_with_2(unused_tcp_port: int) -> None:
    status, output = run("--url", f"http://127.0.0.1:{unused_tcp_port}")
    assert (status, "does not answer" in output) == (2, True), output
