"""A continuous-batching model server: pure on virtual time, and in real time behind the OpenAI API."""
