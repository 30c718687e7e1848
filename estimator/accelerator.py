"""GPUs: peak rates from their data sheets, and the part of each peak that model servers reach."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

GIB = 2**30
TERA = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One GPU. Rates are peaks for dense (not sparse) arithmetic, accumulated in fp32; efficiencies are parts of them.

    Efficiencies of the RTX 4090 and the RTX PRO 6000 are fitted to measured vLLM kernels (errors: decision 0004).
    Those of other GPUs are estimates from their architecture: expect 10-25 % until a replica has been calibrated.
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


def _gpu(
    name: str,
    *,
    memory_gib: float,
    tb_per_s: float,
    bf16_tflops: float,
    fp8_tflops: float,
    link_gb_per_s: float,
    matmul: float,
    attention: float,
    weight_read: float = 0.82,
    kv_read: float = 0.85,
    mixed_kv_ratio: float = 1.6,
) -> Accelerator:
    return Accelerator(
        name=name,
        memory_bytes=memory_gib * GIB,
        memory_bytes_per_s=tb_per_s * TERA,
        bf16_flops_per_s=bf16_tflops * TERA,
        fp8_flops_per_s=fp8_tflops * TERA,
        link_bytes_per_s=link_gb_per_s * 1e9,
        matmul_efficiency=matmul,
        attention_efficiency=attention,
        weight_read_efficiency=weight_read,
        kv_read_efficiency=kv_read,
        mixed_kv_ratio=mixed_kv_ratio,
    )


_RTX4090 = _gpu(
    "RTX4090",
    memory_gib=24,
    tb_per_s=1.008,
    bf16_tflops=165.2,
    fp8_tflops=330.3,
    link_gb_per_s=32,
    matmul=0.995,
    attention=0.81,
    weight_read=0.88,
    kv_read=0.92,
    mixed_kv_ratio=2.65,
)
_RTXPRO6000 = _gpu(
    "RTXPRO6000",
    memory_gib=96,
    tb_per_s=1.792,
    bf16_tflops=503.8,
    fp8_tflops=1007.6,
    link_gb_per_s=64,
    matmul=0.78,
    attention=0.43,
    weight_read=0.76,
    kv_read=0.83,
    mixed_kv_ratio=1.82,
)
_A100_40 = _gpu(
    "A100-40",
    memory_gib=40,
    tb_per_s=1.555,
    bf16_tflops=312,
    fp8_tflops=312,
    link_gb_per_s=300,
    matmul=0.8,
    attention=0.6,
)
_H100 = _gpu(
    "H100",
    memory_gib=80,
    tb_per_s=3.35,
    bf16_tflops=989,
    fp8_tflops=1979,
    link_gb_per_s=450,
    matmul=0.72,
    attention=0.5,
    mixed_kv_ratio=1.4,
)
_B200 = _gpu(
    "B200",
    memory_gib=180,
    tb_per_s=8.0,
    bf16_tflops=2250,
    fp8_tflops=4500,
    link_gb_per_s=900,
    matmul=0.7,
    attention=0.42,
    mixed_kv_ratio=1.4,
)
_A10G = _gpu(
    "A10G",
    memory_gib=24,
    tb_per_s=0.6,
    bf16_tflops=70,
    fp8_tflops=70,
    link_gb_per_s=32,
    matmul=0.8,
    attention=0.6,
)
# The L4 (72 W) and the L40S (350 W) cannot hold their boost clocks in large matrix products.
_L4 = _gpu(
    "L4",
    memory_gib=24,
    tb_per_s=0.3,
    bf16_tflops=121,
    fp8_tflops=242,
    link_gb_per_s=32,
    matmul=0.5,
    attention=0.4,
    mixed_kv_ratio=2.2,
)
_L40S = _gpu(
    "L40S",
    memory_gib=48,
    tb_per_s=0.864,
    bf16_tflops=362,
    fp8_tflops=733,
    link_gb_per_s=32,
    matmul=0.65,
    attention=0.45,
    mixed_kv_ratio=2.2,
)
_MI300X = _gpu(
    "MI300X",
    memory_gib=192,
    tb_per_s=5.3,
    bf16_tflops=1307,
    fp8_tflops=2615,
    link_gb_per_s=448,
    matmul=0.5,
    attention=0.3,
    weight_read=0.7,
    kv_read=0.7,
)

_ALL = (
    _A100_40,
    replace(_A100_40, name="A100-80", memory_bytes=80.0 * GIB, memory_bytes_per_s=2.039 * TERA),
    _A10G,
    _L4,
    _L40S,
    _RTX4090,
    _RTXPRO6000,
    _H100,
    replace(_H100, name="H200", memory_bytes=141.0 * GIB, memory_bytes_per_s=4.8 * TERA),
    _B200,
    replace(_B200, name="GB200", memory_bytes=186.0 * GIB, bf16_flops_per_s=2500 * TERA, fp8_flops_per_s=5000 * TERA),
    _MI300X,
)

ACCELERATORS: Mapping[str, Accelerator] = MappingProxyType({gpu.name: gpu for gpu in _ALL})

_ALIASES = {"a100": "A100-80", "a10080gb": "A100-80", "a10040gb": "A100-40", "a10": "A10G"}
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
