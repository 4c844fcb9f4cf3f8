"""What all tests share: hypothesis draws the same examples on every run and prints the way back to a failure."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "orbit", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("orbit")
