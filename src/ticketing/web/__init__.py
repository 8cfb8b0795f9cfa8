"""The parts that all routes share: requests, responses, errors, lists, and the API document."""
