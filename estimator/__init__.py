"""GPU-seconds of a request, from token counts: architecture, accelerator, work, step, price, tokens, length.

`dataset` holds the measurements that it is trained and tested on.
"""
