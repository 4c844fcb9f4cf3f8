"""Scripted bad answers of a strict server, over real HTTP."""
