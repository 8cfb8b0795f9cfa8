"""The signing secret that the tests give to the services they run."""

SECRET = "a secret of the tests, long enough for HS256"
