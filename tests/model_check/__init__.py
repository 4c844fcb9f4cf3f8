"""The versions of a bucket against a plain dict: random verbs, somebody else's writes between and within them."""
