"""Measures of embeddings: retrieval, recommendation, bootstrap intervals, and the gate before a promotion."""
