"""Evidence: a matrix of scenarios, noise and goals, flown many times, with confidence bounds."""
