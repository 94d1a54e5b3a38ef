"""The most that a GPU could compute, against which training is measured."""

from __future__ import annotations

import torch

# TFLOP/s of dense products in bfloat16 or float16, from NVIDIA's data sheets. The first that is
# part of a GPU's name counts.
HALF = {
    "H100 PCIe": 756, "H100": 989, "H200": 989, "GH200": 989, "B200": 2250, "A100": 312,
    "A10G": 125, "A10": 125, "A40": 150, "L40S": 362, "L40": 181, "L4": 121, "V100": 125,
    "T4": 65, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip


def peak_tflops(device: torch.device, precision: str) -> float | None:
    """TFLOP/s of ``device`` in ``precision`` (Lightning's name); None where it is not known.

    Not of processors, and not of float32, which depends on ``matmul_precision``.
    """
    if device.type != "cuda" or not precision.startswith(("bf16", "16")):
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in HALF.items() if part in name), None)
