"""The sensor under test, in its three modes; bucket, key and connection come with the trigger."""

from airflow.sdk import DAG

from orbit_airflow.sensors.versioning import OrbitS3VersioningSensor

MODES = {
    "poke": {"mode": "poke", "deferrable": False, "poke_interval": 1},
    # A reschedule that is shorter than the scheduler's loop is taken for a failure.
    "reschedule": {"mode": "reschedule", "deferrable": False, "poke_interval": 10},
    "deferrable": {"deferrable": True, "poke_interval": 1},
}

with DAG("e2e_sensing", schedule=None, catchup=False) as dag:
    for name, arguments in MODES.items():
        OrbitS3VersioningSensor(
            task_id=name,
            bucket_name="{{ dag_run.conf['bucket'] }}",
            bucket_key="{{ dag_run.conf['key'] }}",
            wait_for="new_version",
            aws_conn_id="{{ dag_run.conf['aws_conn_id'] }}",
            timeout=300,
            **arguments,  # type: ignore[arg-type]
        )
