"""Operators. Their modules import neither boto3 nor the hook, so that a DAG parse stays cheap."""
