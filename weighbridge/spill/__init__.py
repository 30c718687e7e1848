"""Hosted models behind LiteLLM's SDK, as an OpenAI-compatible server that gateway workers reach over a unix socket."""
