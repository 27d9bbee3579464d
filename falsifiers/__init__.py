"""Falsifiers: one module per contract, plain functions that try to break a promise, and their planted defects."""
