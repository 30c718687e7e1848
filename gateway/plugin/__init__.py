"""The front end inside a LiteLLM proxy: its hooks on one side, the scheduler on the other. LiteLLM is not imported."""
