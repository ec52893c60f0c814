"""The referee: plans, launches, parses, stores, judges; knows no model and imports no torch."""
