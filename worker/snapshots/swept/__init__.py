"""Store what became of the enrollments that snapshots do not name."""
