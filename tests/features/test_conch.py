import numpy as np
import pytest
import torch

import lib.features.encoders
from lib.features.encoders import Conch, Pooler, load_encoder, tensors_of


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = Conch(width=48, depth=2, heads=3).eval()  # a thin sister; the real one has 86 million parameters
    with torch.no_grad():
        for parameter in made.attn_pool_contrast.parameters():
            parameter.normal_(0, 0.05)
    return made


def test_the_pooler_is_attention_of_one_query(model):
    """Against softmax(q k' / sqrt(d)) v written out, head by head."""
    pooler: Pooler = model.attn_pool_contrast
    tokens = torch.randn(2, 7, 48)
    with torch.inference_mode():
        found = pooler(tokens)
        context = torch.nn.functional.layer_norm(tokens, (48,), pooler.ln_k.weight, pooler.ln_k.bias)
        query = torch.nn.functional.layer_norm(pooler.query, (512,), pooler.ln_q.weight, pooler.ln_q.bias)
        weight, (bq, bk, bv) = pooler.attn, pooler.attn.in_proj_bias.chunk(3)
        q, k, v = (
            query @ weight.q_proj_weight.T + bq,
            context @ weight.k_proj_weight.T + bk,
            context @ weight.v_proj_weight.T + bv,
        )
        heads = []
        for head in range(8):
            part = slice(64 * head, 64 * (head + 1))
            attention = torch.softmax(q[:, part] @ k[..., part].transpose(1, 2) / 8, dim=-1)
            heads.append(attention @ v[..., part])
        expected = torch.cat(heads, -1) @ weight.out_proj.weight.T + weight.out_proj.bias
    assert found.shape == (2, 1, 512)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_parameters():
    with torch.device("meta"):
        model = Conch()
    # a ViT-B/16 of 28 x 28 patches and a class token; the pooler; the norm
    vit = 768 * 3 * 256 + 768 + 768 + 785 * 768 + 12 * (12 * 768**2 + 13 * 768) + 2 * 768
    pooler = 512 + 512 * 512 + 2 * 512 * 768 + 3 * 512 + 512 * 512 + 512 + 2 * 512 + 2 * 768
    assert sum(parameter.numel() for parameter in model.parameters()) == vit + pooler + 2 * 512


def test_the_published_file_with_text_and_captions_is_read(model, tmp_path, monkeypatch):
    monkeypatch.setattr(lib.features.encoders, "Conch", lambda: Conch(width=48, depth=2, heads=3))
    tensors = {f"visual.{key}": tensor for key, tensor in model.state_dict().items()}
    others = {
        "text.cls_emb": 768,
        "visual.attn_pool_caption.query": 8,
        "visual.ln_caption.weight": 8,
        "logit_scale": 1,
    }
    tensors |= {key: torch.zeros(n) for key, n in others.items()} | {
        "visual.proj_contrast": torch.zeros(512, 512)
    }
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    encoder = load_encoder("conch", tmp_path / "pytorch_model.bin", device="cpu")
    assert (encoder.dim, encoder.input_px) == (512, 448)
    crops = np.random.default_rng(0).integers(0, 256, (1, 448, 448, 3), dtype=np.uint8)
    mean, std = torch.tensor([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]])
    pixels = (torch.tensor(crops) / 255 - mean) / std
    with torch.inference_mode():
        expected = model(pixels.permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(encoder.encode(crops), expected, atol=1e-4)
    assert expected.mean() == pytest.approx(
        0, abs=1e-6
    )  # its last step is a layer norm, as made here without weights
    assert expected.std() == pytest.approx(1, abs=1e-3)
    wrapped = {f"module.{key}": tensor for key, tensor in tensors.items()}
    assert set(tensors_of(wrapped)) == set(model.state_dict())
