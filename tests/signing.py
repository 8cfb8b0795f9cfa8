"""The signing secret of the services that tests run."""

SECRET = "a secret of the tests, long enough for HS256"
