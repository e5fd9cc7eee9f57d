"""SHA-256 of a short message, reduced modulo a number of buckets, without Python objects.

The reference's n-gram buckets are sha256(n-gram) mod n_buckets; a corpus has millions of distinct n-grams,
and Python's hashlib would cost ten times the pass over the text.

Source: FIPS 180-4, section 6.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import kernel

__all__ = ["sha256_modulo"]


def _fractional_bits(root: float, n_primes: int) -> NDArray[np.uint32]:
    """First 32 bits of the fractional parts of the roots of the first primes, by exact integer search."""
    primes = [p for p in range(2, 320) if all(p % q for q in range(2, p))][:n_primes]
    power = round(1 / root)
    words = []
    for prime in primes:
        scaled, low, high = prime << (32 * power), 0, 1 << 40
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**power <= scaled else (low, middle)
        words.append(low & 0xFFFFFFFF)
    return np.array(words, dtype=np.uint32)


_INITIAL = _fractional_bits(1 / 2, 8)
_ROUND = _fractional_bits(1 / 3, 64)


@kernel
def _rotate(word: np.uint32, n_bits: int) -> np.uint32:
    return np.uint32((word >> np.uint32(n_bits)) | (word << np.uint32(32 - n_bits)))


@kernel
def _compress(state: NDArray[np.uint32], message: NDArray[np.uint8], at: int, w: NDArray[np.uint32]) -> None:
    """One block of 64 bytes at `at` into `state`; `w` is scratch of 64 words."""
    for i in range(16):
        j = at + 4 * i
        w[i] = np.uint32(
            (np.uint32(message[j]) << np.uint32(24))
            | (np.uint32(message[j + 1]) << np.uint32(16))
            | (np.uint32(message[j + 2]) << np.uint32(8))
            | np.uint32(message[j + 3])
        )
    for i in range(16, 64):
        x, y = w[i - 15], w[i - 2]
        s0 = _rotate(x, 7) ^ _rotate(x, 18) ^ np.uint32(x >> np.uint32(3))
        s1 = _rotate(y, 17) ^ _rotate(y, 19) ^ np.uint32(y >> np.uint32(10))
        w[i] = np.uint32(w[i - 16] + s0 + w[i - 7] + s1)
    a, b, c, d = state[0], state[1], state[2], state[3]
    e, f, g, h = state[4], state[5], state[6], state[7]
    for i in range(64):
        s1 = _rotate(e, 6) ^ _rotate(e, 11) ^ _rotate(e, 25)
        t1 = np.uint32(h + s1 + (g ^ (e & (f ^ g))) + _ROUND[i] + w[i])
        s0 = _rotate(a, 2) ^ _rotate(a, 13) ^ _rotate(a, 22)
        t2 = np.uint32(s0 + ((a & b) | (c & (a | b))))
        h, g, f, e = g, f, e, np.uint32(d + t1)
        d, c, b, a = c, b, a, np.uint32(t1 + t2)
    state[0], state[1], state[2], state[3] = state[0] + a, state[1] + b, state[2] + c, state[3] + d
    state[4], state[5], state[6], state[7] = state[4] + e, state[5] + f, state[6] + g, state[7] + h


@kernel
def sha256_modulo(
    message: NDArray[np.uint8],
    n_bytes: int,
    modulus: np.uint64,
    state: NDArray[np.uint32],
    w: NDArray[np.uint32],
) -> np.uint64:
    """int(sha256(message[:n_bytes]).hexdigest(), 16) % modulus.

    Args:
        message: buffer that the padding is written into: at least n_bytes + 72 bytes long.
        n_bytes: length of the message.
        modulus: 1 to 2^32 - 1.
        state: scratch, 8 words.
        w: scratch, 64 words.
    """
    n_padded = ((n_bytes + 8) // 64 + 1) * 64
    message[n_bytes] = 0x80
    for i in range(n_bytes + 1, n_padded - 8):
        message[i] = 0
    n_bits = np.uint64(n_bytes) << np.uint64(3)
    for i in range(8):
        message[n_padded - 1 - i] = np.uint8((n_bits >> np.uint64(8 * i)) & np.uint64(0xFF))
    for i in range(8):
        state[i] = _INITIAL[i]
    for at in range(0, n_padded, 64):
        _compress(state, message, at, w)
    remainder = np.uint64(0)
    for i in range(8):
        remainder = ((remainder << np.uint64(32)) | np.uint64(state[i])) % modulus
    return remainder
