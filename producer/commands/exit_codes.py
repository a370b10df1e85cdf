"""Define the exit codes of all commands, and the lines about them in every help text."""

REFUSED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

EXIT_CODES = """
\b
Exit codes: 0 success, 1 something was refused or is unknown,
2 wrong usage, an unreadable file or a batch id used for different records,
3 broker or worker not reachable, or the submission is lost, 130 interrupted.
"""
