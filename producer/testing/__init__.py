"""Stand-ins for users' own tests: clients with a broker, worker and database in memory."""

from producer.testing.clients import FakeAsyncEnrollmentClient, FakeEnrollmentClient

__all__ = ["FakeAsyncEnrollmentClient", "FakeEnrollmentClient"]
