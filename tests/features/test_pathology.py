from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import save_file

import lib.features.encoders
from lib.features.encoders import GATED, IMAGENET, OURS, Conch, built, gated_model, load_encoder


@pytest.fixture
def nothing_here(monkeypatch):
    """No token, nothing in the hub's cache, and a hub that has an address."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(lib.features.encoders, "in_cache", lambda name: False)
    monkeypatch.setattr(lib.features.encoders, "in_cache", lambda name: False)
    monkeypatch.setattr(lib.features.encoders.socket, "getaddrinfo", lambda *_: [])


@pytest.mark.parametrize("name", GATED)
def test_without_token_or_file_one_sentence_says_how_to_get_it(name, nothing_here):
    with pytest.raises(PermissionError) as raised:
        load_encoder(name)
    said = str(raised.value)
    assert f"huggingface.co/{GATED[name].hub}" in said
    assert "HF_TOKEN" in said
    assert "`weights`" in said
    assert "\n" not in said
    assert "hf_" not in said


def test_names_are_offered_to_those_who_mistype():
    assert set(GATED) < set(OURS)
    with pytest.raises(ValueError, match=r"unknown encoder 'UNI2h'; nearest: .*uni2-h"):
        load_encoder("UNI2h")


@pytest.mark.parametrize(
    ("name", "parameters", "dim"),
    # published: 303 million, 681 million, 1 134 953 984
    [("uni", 303_350_784, 1024), ("uni2-h", 681_394_176, 1536), ("gigapath", 1_134_953_984, 1536)],
)
def test_sizes_are_those_published(name, parameters, dim):
    about = GATED[name]
    with torch.device("meta"):
        model = built(about.architecture, num_classes=0, dynamic_img_size=True, **about.settings())
    assert sum(tensor.numel() for tensor in model.parameters()) == parameters
    assert model.head_hidden_size == dim


@pytest.mark.parametrize("name", ["uni2-h", "gigapath"])
def test_a_file_is_read_with_imagenets_mean_and_224_pixels(name, tmp_path, monkeypatch):
    # a thin sister with every other setting
    full = GATED[name]
    thin = {"embed_dim": 48, "depth": 2, "num_heads": 3}
    monkeypatch.setitem(GATED, name, full._replace(settings=lambda: {**full.settings(), **thin}))
    model = built(full.architecture, num_classes=0, dynamic_img_size=True, **{**full.settings(), **thin})
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    loaded = gated_model(name, tmp_path / "model.safetensors")
    assert (loaded.mean, loaded.std, loaded.input_px) == (*IMAGENET.values(), 224)
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected = model.eval().forward_features(pixels)[:, 0]
        torch.testing.assert_close(loaded.model.eval()(pixels), expected)
    with pytest.raises(ValueError, match=r"model.safetensors does not fit encoder conch"):
        gated_model("conch", tmp_path / "model.safetensors")


def refusal(status):
    return GatedRepoError("gated", response=SimpleNamespace(status_code=status, headers={}, request=None))


@pytest.mark.parametrize("name", GATED)
def test_a_token_without_access_is_told_so(name, nothing_here, monkeypatch):
    def refuse(*_, **__):
        raise refusal(403)

    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    monkeypatch.setattr("timm.create_model", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(
        PermissionError, match=rf"encoder {GATED[name].title} to the owner of HF_TOKEN \(HTTP 403\)"
    ) as e:
        gated_model(name)
    assert "hf_not_a_token" not in str(e.value)


def test_the_hubs_cache_will_do_without_a_token(nothing_here, monkeypatch, tmp_path):
    torch.manual_seed(0)
    made = Conch(width=48, depth=1, heads=3)
    monkeypatch.setattr(lib.features.encoders, "Conch", lambda: made)
    path = tmp_path / "pytorch_model.bin"
    torch.save({f"visual.{key}": tensor for key, tensor in made.state_dict().items()}, path)
    asked = []

    def download(*arguments):
        asked.append(arguments)
        return str(path)

    monkeypatch.setattr(lib.features.encoders, "in_cache", lambda name: name == "hf-hub:MahmoodLab/CONCH")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    loaded = gated_model("conch")
    assert asked == [("MahmoodLab/CONCH", "pytorch_model.bin")]
    assert loaded.model is made
    with pytest.raises(PermissionError, match="UNI2-h is given on application"):
        gated_model("uni2-h")
