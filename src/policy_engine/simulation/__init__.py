"""A small federation in one process, attacked and defended: to see and to measure what trust does.

Needs NumPy and scikit-learn: install the extra `demo`. Everything follows from a seed.
"""
