"""Apply files that are the whole truth of a data set."""
