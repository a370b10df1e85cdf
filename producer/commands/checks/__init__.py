"""Check a set-up for `enroll doctor`: find what is wrong, and what to do; a module a topic."""
