"""Inference-time optimization: the initial noise sought that makes a clip reach a target.

DITTO (Novack et al. 2024, arXiv:2401.12179) and, with a surrogate sampler of few steps, DITTO-2
(Novack et al. 2024, arXiv:2405.20289). One file a target: what a clip is measured by, and the
distance of that to what is wanted.
"""
