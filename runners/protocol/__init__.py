"""What the harness and both sides of a comparison say to each other."""
