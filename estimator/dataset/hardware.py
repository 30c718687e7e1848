"""What the measured GPUs can do at most: peaks to judge measurements by, and the L2 cache that flatters decode."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from estimator.accelerator import ACCELERATORS

MIB = 2**20
TERA = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Peaks for dense arithmetic: faster than this is a defect of the measurement."""

    name: str
    memory_bytes_per_s: float
    flops_per_s: Mapping[int, float]
    """By the bits of the operands: 16, 8, 4. Where there are no units for a type, the peak of the next wider one."""
    l2_bytes: float


# L2 in MiB: A100, H100, Ada and RTX PRO 6000 from NVIDIA's architecture white papers (the H200 has the H100's die),
# B200 as measured by Chips and Cheese (the B300, GB200 and GB300 have the same pair of dies).
_L2_MIB = {
    "A100-80": 40,
    "H100": 50,
    "H200": 50,
    "L40S": 96,
    "RTX4090": 72,
    "RTXPRO6000": 128,
    "B200": 126,
    "GB200": 126,
}

# TFLOP/s that `Accelerator` does not hold. The A100's is int8: it has no fp8 units.
_EIGHT_BIT = {"A100-80": 624.0}
_FOUR_BIT = {"B200": 9000.0, "GB200": 10000.0, "RTXPRO6000": 2015.2}

# GPUs with measurements, but without a row in `ACCELERATORS`: TB/s; TFLOP/s with 16, 8 and 4 bits; MiB of L2. Peaks as
# in aiconfigurator-core's `systems/*.yaml`; the B60's L2 is that of the Arc B580, which has the same die.
_MEASURED_ONLY = (
    ("B300", 8.0, 2250.0, 4500.0, 14000.0, 126),
    ("GB300", 8.0, 2500.0, 5000.0, 15000.0, 126),
    ("B60", 0.456, 98.3, 197.0, 197.0, 18),
)


def _registered(name: str, l2_mib: float) -> Hardware:
    gpu = ACCELERATORS[name]
    eight = max(gpu.fp8_flops_per_s, _EIGHT_BIT.get(name, 0.0) * TERA)
    four = max(eight, _FOUR_BIT.get(name, 0.0) * TERA)
    return Hardware(
        name=name,
        memory_bytes_per_s=gpu.memory_bytes_per_s,
        flops_per_s=MappingProxyType({16: gpu.bf16_flops_per_s, 8: eight, 4: four}),
        l2_bytes=l2_mib * MIB,
    )


def _measured_only(name: str, tb_per_s: float, sixteen: float, eight: float, four: float, l2_mib: float) -> Hardware:
    return Hardware(
        name=name,
        memory_bytes_per_s=tb_per_s * TERA,
        flops_per_s=MappingProxyType({16: sixteen * TERA, 8: eight * TERA, 4: four * TERA}),
        l2_bytes=l2_mib * MIB,
    )


HARDWARE: Mapping[str, Hardware] = MappingProxyType(
    {name: _registered(name, l2_mib) for name, l2_mib in _L2_MIB.items()}
    | {row[0]: _measured_only(*row) for row in _MEASURED_ONLY}
)
