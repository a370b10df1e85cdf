"""Stand-ins for users' own tests: clients with a broker, worker and database in memory."""

from producer.testing.clients import FakeEnrollmentClient

__all__ = ["FakeEnrollmentClient"]
