"""Show what happened to a student's enrollments, and who was enrolled in a course."""
