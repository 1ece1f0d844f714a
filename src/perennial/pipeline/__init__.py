"""The DVC stages: prepare, train, evaluate."""
