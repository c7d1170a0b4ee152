"""A user's own package: a gate, a loss of the gate, and an expert family, each a file here and a YAML in ../conf."""
