"""Generates clients from the OpenAPI document and checks that they work: `make clients`."""
