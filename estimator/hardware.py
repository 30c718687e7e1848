"""What GPUs can do at most: peaks that scale kernels' terms and judge measurements, and the L2 that flatters decode."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

from estimator.accelerator import ACCELERATORS, Accelerator

MIB = 2**20
TERA = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Peaks for dense arithmetic and memory: what the terms of kernels are scaled by."""

    memory_bytes_per_s: float
    flops_per_s: Mapping[int, float]
    """By the bits of the operands: 16, 8, 4. Where there are no units for a type, the peak of the next wider one."""
    multiprocessors: int
    """Streaming multiprocessors (NVIDIA), Xe cores (Intel), compute units (AMD): what thread blocks are spread over."""
    l2_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware(Rates):
    """A measured GPU: faster than its peaks is a defect of a measurement."""

    name: str


# L2 in MiB: A100, H100, Ada and RTX PRO 6000 from NVIDIA's architecture white papers (the H200 has the H100's die, of
# which Chips and Cheese measure the same 50), B200 as measured by Chips and Cheese (the B300, GB200 and GB300 have the
# same pair of dies). The B60's is that of the Arc B580, which has the same die.
_L2_MIB = {
    "A100-80": 40,
    "H100": 50,
    "H200": 50,
    "L40S": 96,
    "RTX4090": 72,
    "RTXPRO6000": 128,
    "B200": 126,
    "GB200": 126,
    "B300": 126,
    "GB300": 126,
    "B60": 18,
}
# From the makers' data sheets; of the GB200 and the GB300 those that CUDA reports.
_MULTIPROCESSORS = {
    "A100-40": 108, "A100-80": 108, "A100-80-PCIe": 108, "A100-40-PCIe": 108, "A30": 56, "A40": 84, "RTXA6000": 84,
    "RTX3090": 82, "A10": 72, "A10G": 80, "L4": 58, "L40S": 142, "L40": 142, "L20": 92, "RTX6000Ada": 142,
    "RTX4090": 128, "RTX5090": 170, "RTXPRO6000": 188, "H100": 132, "H100-PCIe": 114, "H100-NVL": 132, "H800": 132,
    "H20": 78, "H200-NVL": 132, "H200": 132, "B200": 148, "B300": 148, "GB300": 152, "GB200": 152, "MI300X": 304,
    "MI325X": 304, "B60": 20,
}  # fmt: skip

# TFLOP/s that `Accelerator` does not hold, as in aiconfigurator-core's `systems/*.yaml`. 8 bits of the A100 and the
# B60 are int8: they have no fp8 units.
_EIGHT_BIT = {"A100-80": 624.0, "B60": 197.0}
_FOUR_BIT = {"B200": 9000.0, "GB200": 10000.0, "B300": 14000.0, "GB300": 15000.0, "RTXPRO6000": 2015.2}


def rates_of(accelerator: Accelerator) -> Rates:
    """Of a GPU whose L2 or multiprocessors are not known, with those of an H100."""
    eight = max(accelerator.fp8_flops_per_s, _EIGHT_BIT.get(accelerator.name, 0.0) * TERA)
    four = max(eight, _FOUR_BIT.get(accelerator.name, 0.0) * TERA)
    return Rates(
        memory_bytes_per_s=accelerator.memory_bytes_per_s,
        flops_per_s=MappingProxyType({16: accelerator.bf16_flops_per_s, 8: eight, 4: four}),
        multiprocessors=_MULTIPROCESSORS.get(accelerator.name, _MULTIPROCESSORS["H100"]),
        l2_bytes=float(_L2_MIB.get(accelerator.name, _L2_MIB["H100"]) * MIB),
    )


def _measured(name: str) -> Hardware:
    rates = rates_of(ACCELERATORS[name])
    return Hardware(name=name, **{field.name: getattr(rates, field.name) for field in fields(Rates)})


HARDWARE: Mapping[str, Hardware] = MappingProxyType({name: _measured(name) for name in _L2_MIB})
