"""Write the roster: students and courses, each field as the latest record names it."""
