"""One module a claim: each measures both sides in one run, on anybody's machine, and prints a table."""
