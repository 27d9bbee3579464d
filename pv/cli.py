"""Console script `pv`."""
