"""`make demo`: a real Airflow uploads a file, is killed half-way, and the server's log shows what that cost."""
