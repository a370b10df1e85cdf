"""Define the exit codes of all commands, and the lines about them in every help text."""

REFUSED, USAGE, UNREACHABLE, CANNOT_FINISH, INTERRUPTED = 1, 2, 3, 4, 130

EXIT_CODES = """
\b
Exit codes: 0 success, 1 something was refused or is unknown,
2 wrong usage, an unreadable file or a batch id used for different records,
3 broker or worker not reachable, or the request is lost,
4 a submitted batch cannot finish unless somebody acts, 130 interrupted.
"""
