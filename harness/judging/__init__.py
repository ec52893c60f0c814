"""From outputs and times to a cell's verdict."""
