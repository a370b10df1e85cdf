"""Fixtures and helpers of the tests, each once: real servers, rosters, commands, waiting."""
