"""`make wheel-test`: what `pip install orbit-airflow` gives works by itself, where this source tree is not."""
