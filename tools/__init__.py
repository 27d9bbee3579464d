"""One-off makers: run from the repository's root, never imported by the packages."""
