"""What every test shares: property tests without deadlines, because machines are shared and compile kernels."""

from hypothesis import settings

settings.register_profile("prill", deadline=None, print_blob=True)
settings.load_profile("prill")
