"""PLACES -> SAMPLES: a shuffled order that is computed place by place, for sets whose whole order would fill memory."""

import hashlib

_ROUNDS = 6  # of the network, an even number
_BYTES = 8  # of a round's number


class KeyedOrder:
    """A permutation of 0 .. size - 1, a pure function of its key, in no memory at all.

    A Feistel network permutes all numbers of as many bits as `size - 1` has; what falls outside goes through it again,
    less than once on average (cycle walking). Half of the bits are replaced by turns with their XOR with a hash of the
    other half, so that every round can be undone, and the network is a permutation.

    Source: Luby, Rackoff, "How to construct pseudorandom permutations from pseudorandom functions" (1988); Black,
    Rogaway, "Ciphers with arbitrary finite domains" (2002).

    Args:
        size: how many there are.
        key: which of the permutations.
    """

    def __init__(self, size: int, key: int) -> None:
        bits = max(2, (size - 1).bit_length())
        self._size, self._key = size, key.to_bytes(_BYTES, "little")
        self._left, self._right = bits // 2, bits - bits // 2

    def __getitem__(self, place: int) -> int:
        """The sample at a place."""
        number = self._permuted(place)
        while number >= self._size:
            number = self._permuted(number)
        return number

    def _permuted(self, number: int) -> int:
        left_bits, right_bits = self._left, self._right
        left, right = number >> right_bits, number & ((1 << right_bits) - 1)
        for turn in range(_ROUNDS):
            text = turn.to_bytes(1, "little") + right.to_bytes(_BYTES, "little")
            hashed = int.from_bytes(hashlib.blake2b(text, key=self._key, digest_size=_BYTES).digest(), "little")
            left, right = right, left ^ (hashed & ((1 << left_bits) - 1))
            left_bits, right_bits = right_bits, left_bits
        return left << right_bits | right
