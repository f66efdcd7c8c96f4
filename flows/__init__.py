"""Prefect flows: they start processes and pass artifact keys."""
