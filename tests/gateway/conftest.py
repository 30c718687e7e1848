"""Hypothesis without deadlines: a busy machine must not fail a test. A profile given on the command line stays."""

from hypothesis import settings

if settings.get_current_profile_name() in ("default", "ci"):
    settings.register_profile("no-deadline", deadline=None)
    settings.load_profile("no-deadline")
