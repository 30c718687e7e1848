"""Runs inside the LiteLLM proxy: keys without a database. `sk-NAME` is the key of team NAME."""

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:
    """Raises for anything else than `sk-NAME` or `sk-NAME-PRIORITY`."""
    mark, team, *priority = api_key.split("-")
    if mark != "sk" or not team:
        raise ValueError("unknown key")
    metadata = {"weighbridge": {"priority": int(priority[0])}} if priority else {}
    return UserAPIKeyAuth(api_key=api_key, team_id=f"id-{team}", team_alias=team, metadata=metadata)
