"""Strategies and values that several estimator tests share."""

from hypothesis import strategies as st

from estimator.accelerator import ACCELERATORS, Accelerator
from estimator.architecture import Architecture
from estimator.models import MODELS

LLAMA_8B = MODELS["llama-3.1-8b"]
L40S = ACCELERATORS["L40S"]

models: st.SearchStrategy[Architecture] = st.sampled_from(list(MODELS.values()))
accelerators: st.SearchStrategy[Accelerator] = st.sampled_from(list(ACCELERATORS.values()))
tokens = st.integers(min_value=0, max_value=131_072)
