"""Stores: S3 over botocore, and the wrappers that pace it and repeat its requests."""
