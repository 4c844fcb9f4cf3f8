"""Run by the new environment's interpreter, far from this tree: is the package there, whole, and known to Airflow?"""

import sys
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from airflow.providers_manager import ProvidersManager

import orbit_airflow

home = Path(orbit_airflow.__file__).parent
if not home.is_relative_to(sys.prefix):
    sys.exit(f"orbit_airflow was imported from {home}, and not from {sys.prefix}")
if not files("orbit_airflow").joinpath("py.typed").is_file():
    sys.exit("py.typed is not in the wheel")
if metadata.version("orbit-airflow") != orbit_airflow.__version__:
    sys.exit("the wheel's version is not the package's")
provider = ProvidersManager().providers.get("orbit-airflow")  # type: ignore[no-untyped-call]
if provider is None or provider.version != orbit_airflow.__version__:
    sys.exit(f"Airflow does not know the provider: {provider}")
