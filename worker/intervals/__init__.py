"""Store when enrollments began and ended."""
