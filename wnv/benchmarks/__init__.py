"""One module per claim. Each measures both alternatives in one run and returns a table."""
