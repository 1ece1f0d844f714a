"""Perennial: a GitOps template for machine learning."""
