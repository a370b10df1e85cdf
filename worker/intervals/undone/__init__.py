"""Know which batches do not count, because they were undone."""
