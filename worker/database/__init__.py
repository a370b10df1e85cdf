"""Connect to PostgreSQL or SQLite, classify their errors, and write sets of rows."""
