"""Faults injected into a running pipeline at random moments, and the proof that they change nothing.

python -m tests.chaos --injections 40 --seed 1
"""
