"""pytest plugin of pv: `pytest --falsify`."""
