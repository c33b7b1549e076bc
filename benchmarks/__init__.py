"""What perstack costs, measured beside a named opponent that does the same work."""
