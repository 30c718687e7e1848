"""GPUs: peak rates from their data sheets, and the part of each peak that model servers reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

GIB = 2**30
GIGA = 1e9
TERA = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One GPU. Rates are peaks for dense (not sparse) arithmetic, accumulated in fp32; efficiencies are parts of them.

    Efficiencies are fitted to measured kernels (decision 0004 has sources and errors), except those of the A10G, the L4
    and the MI300X, which are estimates: expect errors of 10-25 % there.
    """

    name: str
    memory_bytes: float
    memory_bytes_per_s: float
    bf16_flops_per_s: float
    fp8_flops_per_s: float
    """Equal to `bf16_flops_per_s` where the GPU has no fp8 units."""
    link_bytes_per_s: float
    """To the other GPUs of one replica, one direction: NVLink where there is one, else PCIe."""
    matmul_efficiency: float = 0.75
    """Of `bf16_flops_per_s`, in large matrix products."""
    fp8_matmul_efficiency: float = 0.5
    """Of `fp8_flops_per_s`."""
    weight_read_efficiency: float = 0.85
    attention_efficiency: float = 0.55
    kv_read_efficiency: float = 0.85
    mixed_kv_ratio: float = 1.6
    """KV reads of decoding sequences take this many times longer in a step that also carries a prefill chunk."""
    layer_overhead_s: float = 10e-6
    """Kernel launches of one layer that nothing hides."""
    step_overhead_s: float = 100e-6
    """Sampling, embedding and scheduling of one step."""
    link_latency_s: float = 12e-6
    """Fixed part of one all-reduce."""

    def __post_init__(self) -> None:
        for field in ("memory_bytes", "memory_bytes_per_s", "bf16_flops_per_s", "fp8_flops_per_s", "link_bytes_per_s"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{self.name}: {field} must be positive")
        for field in (
            "matmul_efficiency",
            "fp8_matmul_efficiency",
            "weight_read_efficiency",
            "attention_efficiency",
            "kv_read_efficiency",
        ):
            if not 0 < getattr(self, field) <= 1.1:
                raise ValueError(f"{self.name}: {field} must be in (0, 1.1]")
        if not self.mixed_kv_ratio >= 1.0:
            raise ValueError(f"{self.name}: mixed_kv_ratio must be at least 1")
        for field in ("layer_overhead_s", "step_overhead_s", "link_latency_s"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{self.name}: {field} must not be negative")


# Name; GiB; TB/s; bf16 and fp8 TFLOP/s; link GB/s; efficiencies of bf16 and fp8 matrix products, of attention, of
# weight reads and of KV reads; mixed KV ratio. The L4 (72 W) and the L40S (350 W) do not hold their boost clocks.
_ROWS = (
    ("A100-40", 40, 1.555, 312, 312, 300, 0.86, 0.86, 0.51, 0.77, 0.74, 1.6),
    ("A100-80", 80, 2.039, 312, 312, 300, 0.86, 0.86, 0.51, 0.77, 0.74, 1.6),
    ("A10G", 24, 0.6, 70, 70, 32, 0.8, 0.8, 0.5, 0.77, 0.75, 1.8),
    ("L4", 24, 0.3, 121, 242, 32, 0.5, 0.4, 0.4, 0.75, 0.75, 2.2),
    ("L40S", 48, 0.864, 362, 733, 32, 0.626, 0.49, 0.46, 0.75, 0.75, 2.2),
    ("RTX4090", 24, 1.008, 165.2, 330.3, 32, 0.995, 0.9, 0.81, 0.88, 0.92, 2.65),
    ("RTXPRO6000", 96, 1.792, 503.8, 1007.6, 64, 0.78, 0.7, 0.43, 0.76, 0.83, 1.82),
    ("H100", 80, 3.35, 989, 1979, 450, 0.83, 0.5, 0.51, 0.87, 0.87, 1.4),
    ("H200", 141, 4.8, 989, 1979, 450, 0.82, 0.55, 0.51, 0.85, 0.82, 1.4),
    ("B200", 180, 8.0, 2250, 4500, 900, 0.71, 0.47, 0.42, 0.84, 0.8, 1.4),
    ("GB200", 186, 8.0, 2500, 5000, 900, 0.71, 0.48, 0.38, 0.87, 0.86, 1.4),
    ("MI300X", 192, 5.3, 1307, 2615, 448, 0.5, 0.4, 0.3, 0.7, 0.7, 1.6),
)


def _accelerator(
    name: str,
    gib: float,
    tb_per_s: float,
    bf16_tflops: float,
    fp8_tflops: float,
    link_gb_per_s: float,
    matmul: float,
    fp8_matmul: float,
    attention: float,
    weight_read: float,
    kv_read: float,
    mixed_kv_ratio: float,
) -> Accelerator:
    return Accelerator(
        name=name,
        memory_bytes=gib * GIB,
        memory_bytes_per_s=tb_per_s * TERA,
        bf16_flops_per_s=bf16_tflops * TERA,
        fp8_flops_per_s=fp8_tflops * TERA,
        link_bytes_per_s=link_gb_per_s * GIGA,
        matmul_efficiency=matmul,
        fp8_matmul_efficiency=fp8_matmul,
        attention_efficiency=attention,
        weight_read_efficiency=weight_read,
        kv_read_efficiency=kv_read,
        mixed_kv_ratio=mixed_kv_ratio,
    )


ACCELERATORS: Mapping[str, Accelerator] = MappingProxyType({row[0]: _accelerator(*row) for row in _ROWS})

_SHORT_NAMES = {"A100": "A100-80", "A100-80GB": "A100-80", "A100-40GB": "A100-40", "A10": "A10G"}
_ALIASES = {alias.replace("-", "").lower(): name for alias, name in _SHORT_NAMES.items()}
_NOISE = (
    "nvidia",
    "amd",
    "geforce",
    "instinct",
    "tensorcore",
    "sxm4",
    "sxm5",
    "sxm",
    "pcie",
    "blackwell",
    "serveredition",
)
_NORMAL: Mapping[str, Accelerator] = MappingProxyType(
    {key.replace("-", "").lower(): gpu for key, gpu in ACCELERATORS.items()}
)


def find_accelerator(name: str) -> Accelerator | None:
    """The GPU of that name, in any spelling that `nvidia-smi` or a cloud label uses; `None` when there is none."""
    normal = "".join(char for char in name.lower() if char.isalnum())
    for word in _NOISE:
        normal = normal.replace(word, "")
    if normal in _ALIASES:
        return ACCELERATORS[_ALIASES[normal]]
    if normal in _NORMAL:
        return _NORMAL[normal]
    # "NVIDIA H100 80GB HBM3": the longest known name that it starts with.
    known = [key for key in _NORMAL if normal.startswith((key + "80gb", key + "hbm"))]
    return _NORMAL[max(known, key=len)] if known else None


def accelerator_aliases(name: str) -> tuple[str, ...]:
    """Other names of a registered GPU, beside the spellings that `find_accelerator` makes equal."""
    return tuple(alias for alias, registered in _SHORT_NAMES.items() if registered == name)
