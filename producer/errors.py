"""Every fault that a submitter meets; a refused request is a value and not among them."""

from producer.schemas import EnrollmentProblem


class EnrollmentError(Exception):
    """Base of all errors of the producer's side; the message is a sentence for a person."""


class InvalidRequest(EnrollmentError):
    """The request breaks the contract; nothing was published. `problems` say where."""

    def __init__(self, problems: tuple[EnrollmentProblem, ...]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class UnreadableFile(EnrollmentError):
    """A file cannot be read or understood; nothing of it was published."""


class BatchConflict(EnrollmentError):
    """Another content was submitted under the batch's name before."""


class BrokerUnavailable(EnrollmentError):
    """The broker did not take the message, or did not hand over the answer, in time."""


class NoWorkerAnswered(EnrollmentError):
    """The broker is there, but no worker answered in time."""


class LookupFailed(EnrollmentError):
    """A worker answered that it could not look this up."""


class AnswerNotUnderstood(LookupFailed):
    """A worker answered in a newer version of the contract; the producer must be upgraded."""
