"""The upload under test: file, bucket, key and connection come with the trigger."""

from datetime import timedelta

from airflow.sdk import DAG

from orbit_airflow.operators.transfer import OrbitS3UploadOperator

with DAG("e2e_upload", schedule=None, catchup=False) as dag:
    OrbitS3UploadOperator(
        task_id="upload",
        filename="{{ dag_run.conf['filename'] }}",
        dest_bucket="{{ dag_run.conf['bucket'] }}",
        dest_key="{{ dag_run.conf['key'] }}",
        aws_conn_id="{{ dag_run.conf['aws_conn_id'] }}",
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
