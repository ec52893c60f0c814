"""One process launch, from its inputs to the rows that its evidence gives."""
