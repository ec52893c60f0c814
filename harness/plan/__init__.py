"""What there is to measure: suites, recipes and devices, laid out as cells and trials."""
