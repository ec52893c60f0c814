"""The referee: plans, launches, parses, stores and judges; it knows no model and imports no torch."""
