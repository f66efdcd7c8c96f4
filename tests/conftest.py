"""How property tests run: nothing in them depends on how busy the machine is."""

from hypothesis import HealthCheck, settings

settings.register_profile("htcl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("htcl")
