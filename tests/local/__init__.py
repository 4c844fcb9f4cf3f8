"""`make up` and `make down`: a whole Airflow on this machine, with the example DAGs and an S3 endpoint, and no root.

Everything that it writes is below `.local`; what it started is known by process id and start time, and only that is
ended. The S3 endpoint is the tests' strict server: what is stored there is gone after `make down`.
"""
