"""What users' own tests need: clients with a broker and worker in memory, or a real stack."""

from producer.testing.clients import FakeAsyncEnrollmentClient, FakeEnrollmentClient
from producer.testing.stack import EnrollmentStack

__all__ = ["EnrollmentStack", "FakeAsyncEnrollmentClient", "FakeEnrollmentClient"]
