"""A run's folder: what is in it, what is missing, and what it was made from."""
