"""The worker: checks students and courses, writes `student_courses`, stores every outcome."""
