"""Continuity under Airflow: what ties a transfer of the engine to a task, its retries and its supervisor."""
