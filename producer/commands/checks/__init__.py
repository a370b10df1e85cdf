"""Check a set-up for `enroll doctor`: find what is wrong and what to do.

Each topic has a module.
"""
