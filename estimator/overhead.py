"""What a step takes besides its kernels, from data sheets: the same under an analytic and under a learned step."""

from estimator.accelerator import Accelerator
from estimator.architecture import Architecture


def all_reduce_latency_s(architecture: Architecture, accelerator: Accelerator, tensor_parallel: int) -> float:
    """Latency of a step's all-reduces, two in every layer; 0 on one GPU. Their bytes take time beside it."""
    return 2 * architecture.layers * accelerator.link_latency_s if tensor_parallel > 1 else 0.0


def state_s(architecture: Architecture, accelerator: Accelerator, tensor_parallel: int) -> float:
    """Reading and writing one sequence's states of linear-attention layers, once; 0 without such layers."""
    read = accelerator.memory_bytes_per_s * accelerator.kv_read_efficiency * tensor_parallel
    return 2.0 * architecture.state_bytes / read
