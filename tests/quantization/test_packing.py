"""Packing: every width round-trips, and takes the bytes it claims."""

import pytest
import torch

from minillm.quantization.packing import pack, packed_bytes, unpack


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 7, 8, 9, 64])
def test_round_trip_in_as_many_bytes_as_claimed(bits: int, count: int) -> None:
    codes = torch.randint(2**bits, (3, 2, count), generator=torch.Generator().manual_seed(bits))
    packed = pack(codes.to(torch.uint8), bits)
    assert packed.shape == (3, 2, packed_bytes(count, bits))
    assert packed.dtype == torch.uint8
    assert unpack(packed, bits, count).equal(codes.to(torch.uint8))


def test_every_pair_of_four_bits_and_the_upper_half_first() -> None:
    codes = torch.cartesian_prod(torch.arange(16), torch.arange(16)).to(torch.uint8)
    packed = pack(codes, 4)
    assert packed[:, 0].tolist() == [16 * a + b for a, b in codes.tolist()]
    assert unpack(packed, 4, 2).equal(codes)


def test_three_bits_are_one_stream() -> None:
    codes = torch.tensor([0b101, 0b001, 0b110], dtype=torch.uint8)
    assert pack(codes, 3).tolist() == [0b10100111, 0b00000000]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="a code of 16 does not fit 4 bits"):
        pack(torch.tensor([16], dtype=torch.uint8), 4)
    with pytest.raises(ValueError, match="3 codes of 4 bits are 2 bytes, got 3"):
        unpack(torch.zeros(3, dtype=torch.uint8), 4, 3)
