"""Define every error that the producer raises; a refused request is a value, not an error."""

from typing import Self

from producer.contract.printable import printable
from producer.schemas import EnrollmentProblem


class EnrollmentError(Exception):
    """The base of all errors that the producer raises; the message is written for people.

    Every error can be pickled, so that a pool of processes can hand it on.
    """


class InvalidRequest(EnrollmentError):
    """The request breaks the contract, and nothing was published; `problems` names the fields."""

    def __init__(self, problems: tuple[EnrollmentProblem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(problem.message for problem in self.problems)


class UnreadableFile(EnrollmentError):
    """A file cannot be read or understood; what the message quotes of it is escaped.

    If its header is the problem, nothing was published. `options` are the options of a submit that
    may help, such as `kind` or `map`. The command line and HTTP write them differently, so the
    message does not name them.
    """

    def __init__(self, message: str, *options: str) -> None:
        super().__init__(printable(message))
        self.options = options

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the options as the parameters of HTTP are written, such as `batch_id`."""
        return tuple(option.replace("-", "_") for option in self.options)


class BatchConflict(EnrollmentError):
    """The batch id was already used for different records or for another kind of record."""


class BrokerNotFound(EnrollmentError):
    """No broker was named, and none was found; the message says how to name one."""


class BrokerUnavailable(EnrollmentError):
    """The broker could not be reached, refused the call, or did not respond in time.

    `problem` and `remedy` are the two parts of the message; the remedy may be empty. `may_pass` is
    false if waiting cannot help, because the URL itself or the rights of its user are wrong.
    """

    def __init__(self, problem: str, remedy: str = "", *, may_pass: bool = True) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy
        self.may_pass = may_pass

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}".rstrip()


class NoWorkerAnswered(EnrollmentError):
    """The broker is reachable, but no worker answered in time."""


class SubmissionLost(EnrollmentError):
    """What was submitted was not processed, and the broker no longer has it; submit it again."""


class BatchCannotFinish(EnrollmentError):
    """A part of a submitted batch cannot be applied unless somebody acts; the message says how.

    This part became a dead letter, was lost, or was refused because of a different submission.
    """


class BatchNotDone(EnrollmentError):
    """The batch was not done when the time of a wait was up; it goes on, so wait again."""


class _PerhapsUnknown(EnrollmentError):
    """The base of errors of which one cause is an unknown id; then `is_unknown` is true."""

    def __init__(self, message: str, *, is_unknown: bool = False) -> None:
        super().__init__(message)
        self.is_unknown = is_unknown


class DecisionRefused(_PerhapsUnknown):
    """A decision about a plan did not count; the message says why, and what to do.

    `is_unknown` is true if no plan with this id is known.
    """


class DropsNotKnown(_PerhapsUnknown):
    """A plan has no report that says what it drops; the message says why, and what to do.

    `is_unknown` is true if no plan with this id is known.
    """


class UndoRefused(_PerhapsUnknown):
    """A batch cannot be undone; the message says why, and what to do instead.

    `is_unknown` is true if no batch with this id is known.
    """


class ClientClosed(EnrollmentError):
    """A method of a client was called after the client was closed."""

    def __init__(self) -> None:
        super().__init__("The client has been closed, and cannot be used again; create a new one.")

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


class LookupFailed(EnrollmentError):
    """A worker reported that the lookup failed, or its answer could not be read."""


class AnswerNotUnderstood(LookupFailed):
    """A worker answered in a newer version of the contract; upgrade the client."""
