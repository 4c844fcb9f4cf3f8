"""orbit_airflow: S3 transfers that survive a killed task. Imports nothing, so that a DAG parse costs nothing."""

__version__ = "0.1.0"
