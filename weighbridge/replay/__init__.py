"""Open-loop replay of request traces over HTTP: load a trace, send it on time, report what the client saw."""
