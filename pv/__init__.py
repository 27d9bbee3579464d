"""Contracts, falsification trials, evidence and the levels computed from it."""
