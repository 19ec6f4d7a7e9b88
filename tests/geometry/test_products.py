import torch

from wnv.geometry.products import matmul, transform


def test_products_equal_matmul_with_broadcast_batch_axes(generator):
    left = torch.randn(2, 1, 3, 4, generator=generator, dtype=torch.float64)
    right = torch.randn(5, 4, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(matmul(left, right), left @ right, rtol=0, atol=1e-14)
    vectors = torch.randn(5, 7, 4, generator=generator, dtype=torch.float64)
    expected = torch.einsum("bxij,yni->bynj", left.mT, vectors)
    torch.testing.assert_close(transform(left, vectors), expected, rtol=0, atol=1e-14)


def test_autocast_does_not_round(generator):
    left, right = torch.randn(2, 4, 4, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = left @ right
        product, transformed = matmul(left, right), transform(left, right)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(product, left @ right)
    torch.testing.assert_close(transformed, right @ left.mT)
