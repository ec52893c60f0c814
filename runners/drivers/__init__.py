"""Families of the library's own pipelines; a runner's module registers its own."""
