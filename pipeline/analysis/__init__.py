"""What people ask of a finished run."""
