"""Make a plan: run the ordinary code on temporary tables, and store what it would do."""
