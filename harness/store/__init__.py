"""A run's folder on disk: its record, its tables, and the manifest of every file."""
