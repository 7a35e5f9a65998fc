"""What each kind of page says, as plain values for its template."""
