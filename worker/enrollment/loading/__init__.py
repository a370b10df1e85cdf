"""What requests name, looked up at once: students, courses, earlier results, and newer drops."""
