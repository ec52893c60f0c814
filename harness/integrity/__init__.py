"""Whether a run is what its evidence says, and what makes it so again."""
