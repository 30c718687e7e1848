"""Runs inside the LiteLLM proxy: writes the record of each call that LiteLLM logs to the file that SPEND_LOG names."""

import json
import os
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

KEPT = ("status", "response_cost", "model_group", "api_base", "model_id", "metadata", "total_tokens")


class SpendLog(CustomLogger):
    """One line of JSON per call that ended, answered or not."""

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._write(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._write(kwargs)

    def _write(self, kwargs: dict[str, Any]) -> None:
        record = kwargs.get("standard_logging_object") or {}
        line = {"prompt": str(kwargs.get("messages")), **{key: record.get(key) for key in KEPT}}
        with Path(os.environ["SPEND_LOG"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")


handler = SpendLog()
