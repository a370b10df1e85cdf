"""Recover when work fails: wait out outages, count attempts, isolate poison."""
