"""Model servers whose kernels were measured."""

from enum import StrEnum


class Engine(StrEnum):
    """Values are the names that configurations, measurements and weights files use."""

    VLLM = "vllm"
    SGLANG = "sglang"
    TRTLLM = "trtllm"
