"""Apply enrollment requests: check the roster, write `student_courses`, store every result."""
