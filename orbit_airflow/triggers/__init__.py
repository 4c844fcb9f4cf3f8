"""Triggers: what waits in the triggerer, for deferred tasks and for watched assets."""
