"""Opt-in tests against a real store, with the variables of the guide. See docs/troubleshooting.md and the Makefile."""
