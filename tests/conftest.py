"""What every test shares: property tests without deadlines; machines are shared, and kernels compile."""

from hypothesis import settings

settings.register_profile("prill", deadline=None, print_blob=True)
settings.load_profile("prill")
