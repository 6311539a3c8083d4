"""Settings of all tests."""

import hypothesis

hypothesis.settings.register_profile("steady", deadline=None)  # how long an example takes is the machine's affair
hypothesis.settings.load_profile("steady")
