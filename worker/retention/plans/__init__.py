"""Remove plans that have ended, and name those that keep history from being removed."""
