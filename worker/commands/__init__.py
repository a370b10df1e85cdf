"""The operator's part of `enroll`: commands that act on the database itself."""
