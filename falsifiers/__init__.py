"""Falsifiers: plain functions that try to break the promises of a contract, and their planted defects (mutants)."""
