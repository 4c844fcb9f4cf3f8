"""Snippets may import Airflow: then it lives in a directory of its own, and not in the developer's."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="orbit-airflow-"))
