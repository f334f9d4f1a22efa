"""The host as it really is: `profile.profile_host` reads it into a frozen `model.HostProfile`."""
