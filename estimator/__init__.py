"""GPU-seconds of a request, from token counts: architecture, accelerator, work, step, price, tokens, length."""
