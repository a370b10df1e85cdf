"""Implement the operator's commands of `enroll`, which work directly on the database."""
