"""What the contracts of the tests name. Nothing imports it: rules read it as text."""
