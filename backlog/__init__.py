"""What waits and what runs, in Redis. The only package that names Redis keys."""
