"""What is done with a finished run: predict with what was saved, time it, check it against fresh data."""
