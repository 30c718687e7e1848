"""The data plane: parse, weigh, admit, wait, pick, relay, settle."""
