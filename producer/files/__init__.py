"""Turn CSV and JSON Lines files into records, and refused lines back into a file."""
