"""Errors keep their message and their fields on the way from one process to another."""

import pickle

import pytest

from producer import errors
from producer.errors import (
    AnswerNotUnderstood,
    BatchCannotFinish,
    BatchConflict,
    BatchNotDone,
    BrokerNotFound,
    BrokerUnavailable,
    ClientClosed,
    DecisionRefused,
    DropsNotKnown,
    EnrollmentError,
    InvalidRequest,
    LookupFailed,
    NoWorkerAnswered,
    SubmissionLost,
    UndoRefused,
    UnreadableFile,
)
from producer.schemas import Code, EnrollmentProblem

PROBLEM = EnrollmentProblem(code=Code.INVALID_REQUEST, message="kind: is wrong", field="kind")
ERRORS = [
    InvalidRequest((PROBLEM, PROBLEM)),
    BrokerUnavailable("The broker is full", "Wait."),
    BrokerUnavailable("The broker is full"),
    UnreadableFile("The file is empty.", "kind", "map"),
    BatchConflict("Choose another id."),
    BatchCannotFinish("A chunk is lost."),
    BrokerNotFound("Name it."),
    BatchNotDone("It goes on."),
    ClientClosed(),
    DecisionRefused("Another decision came first."),
    DropsNotKnown("There is no report yet."),
    NoWorkerAnswered("No worker answered."),
    SubmissionLost("It is lost."),
    UndoRefused("It is unknown.", is_unknown=True),
    LookupFailed("It failed."),
    AnswerNotUnderstood("Upgrade the client."),
]


def test_every_error_is_here() -> None:
    kinds = {
        kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, EnrollmentError) and name[0] != "_"
    }
    assert {type(error) for error in ERRORS} == kinds - {EnrollmentError}


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_survives_the_way_to_another_process(error: EnrollmentError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(copy) is type(error)
    assert str(copy) == str(error) != ""
    assert vars(copy) == vars(error)


def test_a_message_is_a_sentence() -> None:
    assert str(BrokerUnavailable("It is full", "Wait.")) == "It is full. Wait."
    assert str(BrokerUnavailable("It is full")) == "It is full."
    assert str(InvalidRequest((PROBLEM, PROBLEM))) == "kind: is wrong; kind: is wrong"
