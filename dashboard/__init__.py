"""The operator page: what pools hold, who uses them and what was decided, read from Redis."""
