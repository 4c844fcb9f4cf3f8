"""`make continuity`: every way in which Airflow ends a try, in a real Airflow, and what the next try made of it."""
