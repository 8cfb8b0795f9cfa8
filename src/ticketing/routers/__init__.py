"""One file per resource, each with its request and response models."""
