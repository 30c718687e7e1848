"""Side-by-side measurements and repository checks."""
