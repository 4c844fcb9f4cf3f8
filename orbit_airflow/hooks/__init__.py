"""A connection in, an engine out."""
