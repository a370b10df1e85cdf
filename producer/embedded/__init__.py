"""Run the embedded stack: a real broker, database and worker for trying things out."""
