"""Connect to PostgreSQL or SQLite, classify their errors, and read and write sets of rows."""
