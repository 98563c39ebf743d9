"""Floats of 8 and 4 bits against brute force, and against what compressed-tensors makes of the same weights."""

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8, unpack_fp4_from_uint8
from compressed_tensors.quantization import preset_name_to_scheme
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

from compressit.algorithms import floats

SIZES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def weights(kind, outputs=24, inputs=96):
    torch.manual_seed(0)
    found = torch.randn(outputs, inputs)
    return found.pow(3) if kind == "outliers" else found * 1e-3 if kind == "small" else found


def theirs(w, preset):
    """What compressed-tensors reads back of what it stores, each group's scale that of its largest weight."""
    scheme = preset_name_to_scheme(preset, ["Linear"])
    args, format_ = scheme.weights, {"NVFP4A16": "nvfp4-pack-quantized", "MXFP4A16": "mxfp4-pack-quantized"}[preset]
    over = generate_gparam(w.min(), w.max()) if preset == "NVFP4A16" else None
    groups = w.unflatten(-1, (-1, args.group_size))
    scale, _ = calculate_qparams(groups.amin(-1), groups.amax(-1), args, global_scale=over)
    state = {"weight": w, "weight_scale": scale} | ({"weight_global_scale": over} if over is not None else {})
    compressor = BaseCompressor.get_value_from_registry(format_)
    return compressor.decompress(compressor.compress(state, scheme), scheme)["weight"].float()


def test_the_nearest_of_four_bits():
    x = torch.linspace(-8, 8, 1601)
    for value, found in zip(x.tolist(), (floats.nearest_halves(x).float() / 2).tolist(), strict=True):
        assert abs(found) in SIZES
        assert abs(value - found) == pytest.approx(min(abs(value - s * t) for s in SIZES for t in (-1, 1)), abs=1e-6)


def test_what_is_packed_is_what_compressed_tensors_packs():
    whole = floats.nearest_halves(torch.linspace(-7, 7, 64).view(4, 16))
    packed = floats.packed(whole)
    assert torch.equal(packed, pack_fp4_to_uint8(whole.float() / 2))
    assert torch.equal(floats.unpacked(packed), whole)
    assert torch.equal(unpack_fp4_from_uint8(packed, 4, 16).float(), whole.float() / 2)


def test_powers_of_two_by_their_exponents():
    powers = torch.tensor([[2.0**-20, 0.5, 1.0, 64.0]])
    assert floats.exponents(powers).tolist() == [[107, 126, 127, 133]]
    assert torch.equal(floats.powers(floats.exponents(powers)), powers)


@pytest.mark.parametrize("kind", ["plain", "outliers", "small"])
def test_no_more_error_than_the_scale_of_the_largest_weight_leaves(kind):
    w = weights(kind)
    whole, scale = floats.to_mxfp4(w, torch.float32)
    mine = (floats.read_back(whole, scale, None).float() - w).square()
    other = (theirs(w, "MXFP4A16") - w).square()
    assert bool((mine.unflatten(-1, (-1, 32)).sum(-1) <= other.unflatten(-1, (-1, 32)).sum(-1) * 1.0001).all())
    assert float(mine.sum()) < float(other.sum())
    whole, scale, over = floats.to_nvfp4(w)
    mine = (floats.read_back(whole, scale, over).float() - w).square()
    other = (theirs(w, "NVFP4A16") - w).square()
    assert float(mine.sum()) < 0.95 * float(other.sum())


def test_zeros_stay_and_groups_of_zeros_are_no_trouble():
    w = weights("plain")
    w[:, :32], w[0], w[3, 40] = 0, 0, 0
    whole, scale = floats.to_mxfp4(w, torch.float16)
    read = [floats.read_back(whole, scale.half(), None)]
    whole, scale, over = floats.to_nvfp4(w)
    read.append(floats.read_back(whole, scale, over))
    eights, scale = floats.to_fp8(w, torch.float32)
    read.append(eights.float() * scale)
    for found in read:
        assert bool(torch.isfinite(found).all())
        assert bool((found[w == 0] == 0).all())
    whole, scale, over = floats.to_nvfp4(torch.zeros(2, 16))
    assert bool((floats.read_back(whole, scale, over) == 0).all())


def test_eight_bits_lie_within_half_a_step():
    w = weights("plain")
    found, scale = floats.to_fp8(w, torch.float32)
    off = (found.float() * scale - w).abs()
    # Three bits behind the first: half a step is a sixteenth, or half the least step near zero.
    assert bool((off <= torch.maximum(w.abs() / 16, scale * 2.0**-10) * 1.0001).all())
    assert torch.allclose(found.float().abs().amax(-1), torch.full((24,), 448.0))
