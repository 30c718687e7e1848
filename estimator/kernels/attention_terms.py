"""The physics of attention: prefill, decode, and mixed batches of both. What terms and features are: `terms`."""

from estimator.kernels.terms import MICROSECOND, Basis, Mathematics, Peaks, Value


def prefill(
    m: Mathematics, gpu: Peaks, *, sequences: Value, new_tokens: Value, cached_tokens: Value, heads: Value,
    kv_heads: Value, head_size: Value, window_tokens: Value, kv_bytes: Value,
) -> Basis:  # fmt: skip
    """Attention of new tokens over themselves and a cached context.

    Blocks take 128 queries of one head; each runs over the keys that it sees in tiles of 128. Features tell the length
    of a query's context and the number of blocks, never new and cached tokens apart: measurements have prompts without
    a cached prefix, and what they teach then holds for chunks after one.
    """
    context = new_tokens + cached_tokens
    window = m.where(window_tokens > 0, window_tokens, context)
    windowed = m.where(window < context, 1.0, 0.0)
    pairs = _pairs(m, new_tokens, cached_tokens, window)
    row_tiles = m.ceil(new_tokens / 128.0)
    group = heads / kv_heads
    seen = m.minimum(window + 127.0, context)
    tile_pairs = _whole_pairs(m, 128.0, pairs, new_tokens, cached_tokens, window)
    small_pairs = _whole_pairs(m, 64.0, pairs, new_tokens, cached_tokens, window)
    # Heads that share a KV head can share a tile of queries.
    packed_tiles = m.ceil(new_tokens * group / 128.0)
    packed = packed_tiles / (row_tiles * group)
    small_tiles = m.ceil(new_tokens * group / 64.0)
    small_packed = small_tiles / (m.ceil(new_tokens / 64.0) * group)
    blocks = sequences * kv_heads * packed_tiles
    waves = m.ceil(blocks / gpu.multiprocessors)
    loose_blocks = sequences * heads * row_tiles
    loose_waves = m.ceil(loose_blocks / gpu.multiprocessors)
    block_flops = gpu.flops_per_s / gpu.multiprocessors
    each_s = 4.0 * head_size * sequences * heads / gpu.flops_per_s
    compute = each_s * pairs
    tile_s = each_s * tile_pairs * packed
    small_s = each_s * small_pairs * small_packed
    spread = waves * gpu.multiprocessors / blocks
    small_spread = _spread(m, sequences * kv_heads * small_tiles, gpu)
    tokens = sequences * new_tokens
    moved = 4.0 * tokens * heads * head_size / gpu.memory_bytes_per_s
    kv_row = 2.0 * kv_heads * head_size * kv_bytes / gpu.memory_bytes_per_s
    read = kv_row * sequences * seen
    longest = 4.0 * head_size * 128.0 * seen / block_flops
    terms = (
        compute,
        each_s * tile_pairs,
        tile_s,
        tile_s * spread,
        small_s,
        small_s * small_spread,
        longest,
        m.maximum(tile_s, longest),
        sequences * heads * tile_pairs * 256.0 / gpu.flops_per_s,
        moved,
        read,
        # Engines write the new keys and values into the cache, and quantize queries, token by token.
        kv_row * tokens,
        tokens * MICROSECOND * 1e-3,
        tokens * heads * MICROSECOND * 1e-4,
        waves * MICROSECOND,
        loose_waves * MICROSECOND,
        sequences * MICROSECOND * 0.1,
        MICROSECOND + 0.0 * compute,
    )
    features = (
        m.log(pairs / new_tokens),
        m.log(blocks / gpu.multiprocessors),
        m.log(spread),
        m.log(_spread(m, sequences * kv_heads * m.ceil(new_tokens * group / 192.0), gpu)),
        m.log(small_spread),
        m.log(loose_waves * gpu.multiprocessors / loose_blocks),
        m.log(longest / tile_s),
        m.log(tile_pairs * packed / pairs),
        m.log(packed),
        m.log(group),
        m.log(head_size),
        m.log(kv_heads),
        m.log(sequences),
        windowed + 0.0 * compute,
        windowed * m.log(m.maximum(new_tokens / window, 1.0)),
        m.log(compute / MICROSECOND),
        m.log((moved + read) / compute),
    )
    return Basis(terms, features, m.maximum(compute, moved + read))


def decode(
    m: Mathematics, gpu: Peaks, *, sequences: Value, cached_tokens: Value, heads: Value, kv_heads: Value,
    head_size: Value, window_tokens: Value, kv_bytes: Value,
) -> Basis:  # fmt: skip
    """Attention of one new token per sequence: reads the KV cache, in true tokens or in tiles of 64 or 128."""
    context = m.where(window_tokens > 0, m.minimum(cached_tokens + 1.0, window_tokens), cached_tokens + 1.0)
    row = 2.0 * kv_heads * head_size * kv_bytes * sequences
    read = row * context / gpu.memory_bytes_per_s
    # A window that has moved on begins inside a tile and ends inside another.
    extra = m.where(context < cached_tokens + 1.0, 1.0, 0.0)
    tiles = m.ceil(context / 64.0) + extra
    wide_tiles = m.ceil(context / 128.0) + extra
    lines = sequences * kv_heads
    group = heads / kv_heads
    # One block per sequence and KV head, or several that share a context and are reduced at the end.
    waves = m.ceil(lines / gpu.multiprocessors)
    spread = m.where(lines < gpu.multiprocessors, 1.0, waves * gpu.multiprocessors / lines)
    splits = m.minimum(m.maximum(gpu.multiprocessors / lines, 1.0), tiles)
    busy = m.minimum(lines * splits / gpu.multiprocessors, 1.0)
    # Some kernels split no context of a KV head that serves one head, and some split it in 32 parts at most. One block
    # reads up to four times its share of the memory's rate.
    whole = m.where(group <= 1.0, gpu.multiprocessors / lines, 1.0)
    parts = gpu.multiprocessors / (lines * m.minimum(splits, 32.0))
    rows = m.ceil(group / 16.0) * 16.0
    compute = 4.0 * rows * head_size * context * lines / gpu.flops_per_s
    softmax = sequences * heads * context * head_size * 16.0 / gpu.flops_per_s
    chain = wide_tiles / splits * MICROSECOND * 0.25
    # FlashAttention-2 lets heads share no tile once there is a window, full or not: each reads for itself.
    windowed = m.where(window_tokens > 0, 1.0, 0.0)
    terms = (
        read,
        row * tiles * 64.0 / gpu.memory_bytes_per_s,
        row * wide_tiles * 128.0 / gpu.memory_bytes_per_s,
        spread * read,
        read / busy,
        read * m.maximum(whole, 1.0),
        read * m.maximum(whole / 4.0, 1.0),
        read * m.maximum(parts, 1.0),
        row * m.ceil(context / 32.0) * 32.0 / gpu.memory_bytes_per_s,
        # A block loads, multiplies and takes exponents while others read: the longest decides, not the sum.
        m.maximum(read, compute),
        m.maximum(read, softmax),
        m.maximum(read, chain),
        m.maximum(read, 4.0 * chain),
        splits * sequences * heads * head_size * 4.0 / gpu.memory_bytes_per_s,
        windowed * group * read,
        windowed * m.ceil(sequences * heads / gpu.multiprocessors) * MICROSECOND,
        waves * MICROSECOND,
        sequences * MICROSECOND * 0.01,
        MICROSECOND + 0.0 * read,
    )
    features = (
        m.log(context),
        m.log(lines / gpu.multiprocessors),
        m.log(sequences),
        m.log(kv_heads),
        m.log(group),
        m.log(head_size),
        m.log(spread),
        m.log(read / MICROSECOND),
        m.log(compute / read),
        m.log(tiles * 64.0 / context),
        extra + 0.0 * read,
        m.log(m.maximum(whole, 1.0)),
        windowed + 0.0 * read,
        m.log(lines * m.ceil(context / 1024.0) / gpu.multiprocessors),
    )
    return Basis(terms, features, m.maximum(read, softmax / 4.0))


def mixed(
    m: Mathematics, gpu: Peaks, *, chunk_tokens: Value, cached_tokens: Value, decodes: Value, decode_tokens: Value,
    heads: Value, kv_heads: Value, head_size: Value, window_tokens: Value, kv_bytes: Value,
) -> Basis:  # fmt: skip
    """A prefill chunk beside decoding sequences, in one kernel: a decode then occupies a whole tile of queries.

    That is why the parts do not add up: beside a chunk a decoding sequence is computed as if it had 64 or 128 queries.
    """
    sms = gpu.multiprocessors
    new = m.maximum(chunk_tokens, 1.0)
    present = m.where(chunk_tokens > 0, 1.0, 0.0)
    window = m.where(window_tokens > 0, window_tokens, chunk_tokens + cached_tokens + decode_tokens + 1.0)
    pairs = present * _pairs(m, new, cached_tokens, window)
    row_tiles = m.ceil(new / 128.0)
    tile_pairs = present * _whole_pairs(m, 128.0, pairs, new, cached_tokens, window)
    seen = present * m.minimum(window + new - 1.0, new + cached_tokens)
    context = m.minimum(decode_tokens, window)
    each = 4.0 * head_size * heads / gpu.flops_per_s
    row = 2.0 * kv_heads * head_size * kv_bytes / gpu.memory_bytes_per_s
    chunk_blocks = present * heads * row_tiles
    decode_blocks = decodes * kv_heads
    decode_read = decodes * context * row
    chunk_s = pairs * each
    blocks = chunk_blocks + decode_blocks
    waves = m.ceil(blocks / sms)
    spread = waves * sms / blocks
    longest = present * 128.0 * seen * 4.0 * head_size * sms / gpu.flops_per_s
    longest_decode = m.ceil(context / 128.0)
    # Heads that share a KV head run one after the other, each over all decoding sequences. What they share is still in
    # the L2 if the reads in between fit there, or if so many run at once; else each reads it from memory again.
    between = 2.0 * head_size * kv_bytes * decodes * context / gpu.l2_bytes
    group = heads / kv_heads
    at_once = m.minimum(m.maximum(sms / m.maximum(decodes, 1.0), 1.0), group)
    reads = 1.0 + m.minimum(m.maximum(between - 0.75, 0.0), 1.0) * (group / at_once - 1.0)
    decode_tiles_s = decodes * m.ceil(context / 64.0) * 64.0 * 64.0 * each
    group_rows = m.ceil(heads / kv_heads / 16.0) * 16.0 * kv_heads / heads
    chunk_spread = present * m.minimum(
        m.ceil(m.maximum(chunk_blocks, 1.0) / sms) * sms / m.maximum(chunk_blocks, 1.0), 16.0
    )
    terms = (
        chunk_s,
        tile_pairs * each,
        tile_pairs * each * chunk_spread,
        longest,
        seen * row,
        present * chunk_tokens * heads * head_size * 4.0 / gpu.memory_bytes_per_s,
        decode_read,
        decodes * m.ceil(context / 128.0) * 128.0 * row,
        (1.0 - present) * decode_read * m.minimum(spread, 4.0),
        (1.0 - present) * decodes * context * group_rows * each,
        present * m.maximum(decode_tiles_s, reads * decode_read),
        present * decodes * heads * MICROSECOND * 0.01,
        present * m.minimum(chunk_s, decode_read),
        longest_decode * MICROSECOND * 0.1,
        present * longest_decode * MICROSECOND * 0.1,
        decodes * MICROSECOND * 0.01,
        waves * MICROSECOND,
        present * MICROSECOND,
        MICROSECOND + 0.0 * chunk_s,
    )
    features = (
        m.log(new),
        m.log(cached_tokens + new),
        m.log(decodes + 1.0),
        m.log(context + 1.0),
        present + 0.0 * chunk_s,
        m.log(blocks / sms),
        m.log(spread),
        m.log((chunk_s + MICROSECOND * 0.1) / (decode_read + MICROSECOND * 0.1)),
        m.log((chunk_s + decode_read + MICROSECOND * 0.1) / MICROSECOND),
        m.log(decodes * m.ceil(context / 256.0) / sms + 0.01),
        chunk_spread,
        m.log(reads),
        m.log(between + 0.01),
    )
    return Basis(terms, features, m.maximum(chunk_s, seen * row + decode_read))


def _spread(m: Mathematics, blocks: Value, gpu: Peaks) -> Value:
    """How much longer whole waves of blocks take than blocks spread evenly over the multiprocessors."""
    return m.ceil(blocks / gpu.multiprocessors) * gpu.multiprocessors / blocks


def _pairs(m: Mathematics, new_tokens: Value, cached_tokens: Value, window: Value) -> Value:
    """Query-key pairs of one causal sequence, as `estimator.work.prefill_pairs`; the window is never 0 here."""
    growing = m.minimum(m.maximum(window - cached_tokens, 0.0), new_tokens)
    return growing * cached_tokens + growing * (growing + 1.0) / 2.0 + (new_tokens - growing) * window


def _whole_pairs(
    m: Mathematics, tile: float, pairs: Value, new_tokens: Value, cached_tokens: Value, window: Value
) -> Value:
    """Pairs in the tiles of `tile` queries and `tile` keys that hold at least one that is needed."""
    row_tiles = m.ceil(new_tokens / tile)
    cached = m.ceil(cached_tokens / tile)
    reach = m.ceil(window / tile) + 1.0
    growing = m.minimum(m.maximum(reach - cached, 0.0), row_tiles)
    tiles = growing * cached + growing * (growing + 1.0) / 2.0 + (row_tiles - growing) * reach
    return m.maximum(pairs, tile * tile * tiles)
