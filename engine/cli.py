"""Console script `apr`."""
