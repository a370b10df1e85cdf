"""Read files: turn CSV and JSON Lines into records, and refused lines back into a file."""
