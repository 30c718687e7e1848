"""Scripts for tests of the connection."""

from hashlib import sha1

from backlog.scripts import Script


def lua(text: str) -> Script:
    return Script(text=text, sha=sha1(text.encode()).hexdigest())


PUT = lua("redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000) return ARGV[1]")
"""Returns what it was given."""
GET = lua("return redis.call('GET', KEYS[1])")
PUSH = lua("redis.call('RPUSH', KEYS[1], ARGV[1]) redis.call('PEXPIRE', KEYS[1], 60000) return 1")
