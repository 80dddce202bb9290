"""Whole sequences of neurons in one call: compiled loops over time, forward and backward."""
