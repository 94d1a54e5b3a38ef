"""Comparisons on equal terms: networks of one size, and the runs of a sweep side by side."""
