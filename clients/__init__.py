"""Clients that are generated from the OpenAPI document, and have to work: `make clients`."""
