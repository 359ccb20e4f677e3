import socket
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.color import rgb2gray, rgb2hed
from skimage.feature import local_binary_pattern

import lib.features.encoders
from lib.data import fetch
from lib.features.encoders import (
    GATED,
    IMAGENET,
    NAMES,
    OURS,
    SHELL,
    UM_PER_PX,
    Conch,
    _shell,
    describe_colour,
    load_encoder,
    network,
    stain_channels,
    tensors_of,
)
from lib.params import ROOT

CREATE = timm.create_model

# SHELL


@pytest.fixture
def stained():
    """A slide of random stains, an eighth of it glass, and how much there is of eosin and of haematoxylin."""
    random, vectors = np.random.default_rng(0), np.array([[0.27, 0.68, 0.57], [0.65, 0.70, 0.29]])
    amounts = random.gamma(1, (0.5, 0.6), (256, 256, 2))
    amounts[:32] = 0
    return (240 * np.exp(-amounts @ vectors)).astype(np.uint8), amounts


def test_stains_come_apart_the_same_on_a_slide_that_was_stained_more_weakly(stained):
    picture, amounts = stained
    seen = stain_channels(picture)(picture[None])[0]
    for channel in (0, 1):
        assert np.corrcoef(seen[channel].ravel(), amounts[..., channel].ravel())[0, 1] > 0.98
    assert (seen[:, :32] < 0.02).all()
    assert seen.max() == 1
    paler = (240 * (picture / 240) ** 0.6).astype(np.uint8)
    assert np.abs(stain_channels(paler)(paler[None])[0] - seen).mean() < 0.02


@pytest.fixture(scope="module")
def shell_network(tmp_path_factory):
    if (ROOT / SHELL).is_file():
        return ROOT / SHELL
    folder = tmp_path_factory.mktemp("raw")
    try:
        fetch("shell", folder)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return folder / Path(SHELL).relative_to("data/raw")


def test_shell_pools_three_levels_of_crops_seen_with_the_stains_of_their_slide(stained, shell_network):
    encoder = load_encoder("shell", shell_network, crop_um=150)
    assert (encoder.dim, encoder.input_px, encoder.crop_um) == (448, 128, 150)
    assert encoder.revision == "4aaf2db842c8"
    crops = np.stack([stained[0][:128, :128], stained[0][128:, 128:]])
    features = encoder.of_slide(lambda: stained[0]).encode(crops)
    network = _shell(shell_network)
    level = network.run(["add_216"], {"input": stain_channels(stained[0])(crops[1:])})[0][0]
    np.testing.assert_allclose(features[1, -64:-32], level.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(features[1, -32:], level.std(axis=(1, 2)), atol=1e-5)
    with pytest.raises(ValueError, match="of_slide"):  # stains of a batch would depend on the batch
        encoder.encode(crops)
    again = encoder.of_slide(lambda: stained[0]).encode(crops[::-1])
    np.testing.assert_array_equal(again[::-1], features)
    assert np.abs(encoder.of_slide(lambda: stained[0][128:]).encode(crops) - features).max() > 1e-3


def test_shell_without_its_file_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="make data COHORT=shell"):
        load_encoder("shell", tmp_path / "model_v1.onnx")


# colour and texture


@pytest.fixture(scope="module")
def patches():
    coarse = np.random.default_rng(0).integers(60, 240, (6, 11, 11, 3), dtype=np.uint8)
    pictures = [Image.fromarray(c).resize((44, 44), Image.Resampling.BICUBIC) for c in coarse]
    return np.stack([np.asarray(picture) for picture in pictures])


def naive(crop):
    """One crop, one number after the other."""
    row = {}
    rgb = crop / 255
    stains = rgb2hed(rgb)
    planes = [rgb[..., 0], rgb[..., 1], rgb[..., 2], stains[..., 0], stains[..., 1]]
    for name, plane in zip(("red", "green", "blue", "haematoxylin", "eosin"), planes, strict=True):
        row |= {f"{name}_mean": plane.mean(), f"{name}_std": plane.std()}
        row |= {f"{name}_q{q}": np.percentile(plane, q) for q in (10, 50, 90)}
    grey = rgb2gray(rgb)
    codes = local_binary_pattern(np.round(grey * 255).astype(np.uint8), 8, 1, "uniform")[1:-1, 1:-1]
    row |= {f"lbp_{i}": (codes == i).mean() for i in range(10)}
    padded = np.pad(grey, 1, mode="edge")
    edges = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    row |= {"laplacian_mean_abs": abs(edges).mean(), "laplacian_std": edges.std()}
    row["laplacian_q90_abs"] = np.percentile(abs(edges), 90)
    return [row[name] for name in NAMES]


def test_colour_equals_the_naive_version(patches):
    features = describe_colour(patches, UM_PER_PX)
    assert (features.shape, features.dtype) == ((6, 38), np.float32)
    np.testing.assert_allclose(features, [naive(crop) for crop in patches], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(describe_colour(patches[::-1], UM_PER_PX), features[::-1])
    turned = np.ascontiguousarray(np.rot90(patches, axes=(1, 2)))
    np.testing.assert_allclose(describe_colour(turned, UM_PER_PX), features, atol=5e-3)


def test_scanners_of_different_resolution_agree(patches):
    encoder = load_encoder("colour")
    assert (encoder.name, encoder.dim, encoder.input_px, encoder.crop_um) == ("colour", 38, 44, 150)
    assert load_encoder("colour", crop_um=300).input_px == 87
    fine = patches.repeat(4, axis=1).repeat(4, axis=2)  # the same tissue, scanned finer
    np.testing.assert_allclose(encoder.encode(fine), encoder.encode(patches), atol=1e-6)
    assert abs(describe_colour(fine, UM_PER_PX) - describe_colour(patches, UM_PER_PX)).max() > 0.1
    assert encoder.encode(patches[:0]).shape == (0, 38)


# networks of timm


@pytest.fixture(scope="module")
def weights(mirrored):
    return mirrored("weights")


@pytest.fixture(scope="module")
def mobilenet(weights):
    return load_encoder("mobilenetv2_100", weights / "mobilenetv2_100_dequant.pth", device="cpu")


@pytest.fixture(scope="module")
def photos(weights):
    pictures = [Image.open(weights / name).convert("RGB") for name in ("grace_hopper.bmp", "parrot.jpg")]
    return np.stack([np.asarray(each.resize((224, 224), Image.Resampling.BILINEAR)) for each in pictures])


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A file of resnet18's tensors, classifier included, as published weights have it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    model = timm.create_model("resnet18", pretrained=False).eval()
    save_file(model.state_dict(), path)
    return path, model


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)


def normalised(crops, mean=IMAGENET[0], std=IMAGENET[1]):
    pixels = (crops / np.float32(255) - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2))


def classify(features, weights):
    """The file's own classifier on the encoder's features: label and probability."""
    tensors = torch.load(weights / "mobilenetv2_100_dequant.pth", weights_only=True)
    logits = torch.from_numpy(features) @ tensors["classifier.weight"].T + tensors["classifier.bias"]
    probability, winner = logits.softmax(1).max(1)
    labels = (weights / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines()
    return [labels[i + 1] for i in winner], probability.tolist()


@pytest.mark.real
def test_the_real_network_knows_the_real_photos(mobilenet, photos, weights):
    assert (mobilenet.dim, mobilenet.input_px, mobilenet.revision) == (1280, 224, "912e2cd56fed")
    features = mobilenet.encode(photos)
    np.testing.assert_array_equal(mobilenet.encode(photos), features)
    np.testing.assert_allclose(mobilenet.encode(photos[1:])[0], features[1], atol=1e-4)
    assert mobilenet.encode(photos[:0]).shape == (0, 1280)
    names, sure = classify(features, weights)
    assert names == ["military uniform", "macaw"]
    assert sure == pytest.approx([0.927, 0.998], abs=0.005)  # 0.361 with PyTorch's padding


def test_any_timm_model_takes_a_file_and_equals_timm(resnet, crops, tmp_path):
    path, model = resnet
    encoder = load_encoder("resnet18", path, device="cpu", crop_um=100)
    assert (encoder.dim, encoder.input_px, encoder.crop_um) == (512, 224, 100)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(normalised(crops)), pre_logits=True).numpy()
    np.testing.assert_allclose(encoder.encode(crops), expected, atol=1e-4)
    many = np.tile(crops, (7, 1, 1, 1))  # more than a batch
    np.testing.assert_allclose(encoder.encode(many), np.tile(expected, (7, 1)), atol=1e-4)
    other = model.state_dict() | {"conv1.weight": model.state_dict()["conv1.weight"] * 2}
    torch.save(other, tmp_path / "other.pth")
    assert load_encoder("resnet18", tmp_path / "other.pth").revision != encoder.revision


def test_files_that_do_not_fit_are_refused(resnet, tmp_path):
    path, model = resnet
    tensors = model.state_dict()
    with pytest.raises(ValueError, match=r"resnet18.safetensors does not fit encoder resnet34"):
        load_encoder("resnet34", path)
    with pytest.raises(ValueError, match=r"resnet18.safetensors does not fit encoder conch"):
        load_encoder("conch", path)
    lacking = {name: tensor for name, tensor in tensors.items() if name != "layer1.0.conv1.weight"}
    for name, content, says in (
        ("short", lacking, r"does not fit .*layer1.0.conv1.weight"),
        ("long", tensors | {"extra.weight": torch.zeros(1)}, r"does not fit .*extra.weight"),
    ):
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(ValueError, match=rf"{name}.pth .*{says}"):
            load_encoder("resnet18", tmp_path / f"{name}.pth")
    for name in ("gone.pth", "gone.safetensors"):
        with pytest.raises(FileNotFoundError, match=name):
            load_encoder("resnet18", tmp_path / name)


def test_unknown_names_are_answered_with_the_nearest():
    assert set(GATED) < set(OURS)
    for name, near in (("resnt18", ".*resnet18"), ("Uni", "uni"), ("UNI2h", ".*uni2-h")):
        with pytest.raises(ValueError, match=rf"unknown encoder '{name}'; nearest: {near}"):
            load_encoder(name)


def test_resnet50_has_2048_numbers_and_truncated_as_clam_1024(crops, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "resnet50-0676ba61.pth"
    tensors = timm.create_model("resnet50.tv_in1k").state_dict()
    torch.save(tensors, path)
    stages = timm.create_model("resnet50.tv_in1k", features_only=True, out_indices=(3, 4)).eval()
    stages.load_state_dict({key: value for key, value in tensors.items() if not key.startswith("fc")})
    with torch.inference_mode():
        third, fourth = (stage.mean((2, 3)).numpy() for stage in stages(normalised(crops)))
    for name, dim, expected in (("resnet50_trunc", 1024, third), ("resnet50.tv_in1k", 2048, fourth)):
        encoder = load_encoder(name, path, device="cpu")
        assert (encoder.dim, encoder.input_px) == (dim, 224)
        np.testing.assert_allclose(encoder.encode(crops), expected, atol=1e-4)


# the hub, out of reach of a test


@pytest.fixture
def nothing_here(monkeypatch):
    """No token, nothing in the hub's cache, and a hub that has an address."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(lib.features.encoders, "in_cache", lambda name: False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])


@pytest.mark.parametrize("name", GATED)
def test_without_token_or_file_one_sentence_says_how_to_get_it(name, nothing_here):
    with pytest.raises(PermissionError, match=rf"huggingface.co/{GATED[name].hub} .*HF_TOKEN.*`weights`"):
        load_encoder(name)


def test_no_network_is_said_at_once(nothing_here, monkeypatch):
    def fail(*_):
        raise socket.gaierror("no name service")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    for name in ("resnet18", "uni"):
        with pytest.raises(ConnectionError, match=r"cannot be reached: .*`weights`.*colour") as raised:
            load_encoder(name)
        assert "hf_" not in str(raised.value)


def test_published_weights_come_with_the_digest_of_their_tensors(nothing_here, monkeypatch):
    asked = {}

    def create(name, **settings):
        asked.update(name=name, **settings)
        torch.manual_seed(len(asked))
        return CREATE(name if ":" not in name else "vit_tiny_patch16_224", num_classes=0)

    monkeypatch.setattr(timm, "create_model", create)
    revision = load_encoder("resnet18", device="cpu").revision
    assert asked == {"name": "resnet18", "pretrained": True, "num_classes": 0}
    assert len(revision) == 12
    assert load_encoder("resnet18", device="cpu").revision == revision
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    load_encoder("uni", device="cpu")
    assert asked["name"] == "hf-hub:MahmoodLab/UNI"
    assert (asked["init_values"], asked["dynamic_img_size"]) == (1e-5, True)


def test_the_hubs_cache_will_do_without_a_token(nothing_here, monkeypatch, tmp_path):
    made, asked = Conch(width=48, depth=1, heads=3), []
    monkeypatch.setattr(lib.features.encoders, "Conch", lambda: made)
    torch.save({f"visual.{key}": tensor for key, tensor in made.state_dict().items()}, tmp_path / "w.bin")
    monkeypatch.setattr(lib.features.encoders, "in_cache", lambda name: name == "hf-hub:MahmoodLab/CONCH")
    download = lambda *wanted: asked.append(wanted) or tmp_path / "w.bin"  # noqa: E731
    monkeypatch.setattr(lib.features.encoders, "hf_hub_download", download)
    assert network("conch")[0] is made
    assert asked == [("MahmoodLab/CONCH", "pytorch_model.bin")]
    with pytest.raises(PermissionError, match="UNI2-h is given on application"):
        network("uni2-h")


# pathology encoders


@pytest.mark.parametrize(
    ("name", "parameters", "dim"),
    # published: 303 million, 681 million, 1 134 953 984
    [("uni", 303_350_784, 1024), ("uni2-h", 681_394_176, 1536), ("gigapath", 1_134_953_984, 1536)],
)
def test_sizes_are_those_published(name, parameters, dim):
    with torch.device("meta"):
        model = timm.create_model(GATED[name].architecture, num_classes=0, **GATED[name].settings)
    assert sum(tensor.numel() for tensor in model.parameters()) == parameters
    assert model.head_hidden_size == dim


@pytest.mark.parametrize("name", ["uni", "uni2-h", "gigapath"])
def test_a_file_is_read_with_imagenets_mean_and_224_pixels(name, tmp_path, monkeypatch, crops):
    # a thin sister with every other setting
    thin = GATED[name]._replace(settings=GATED[name].settings | {"embed_dim": 48, "depth": 2, "num_heads": 3})
    monkeypatch.setitem(GATED, name, thin)
    torch.manual_seed(1)
    model = CREATE(thin.architecture, num_classes=0, **thin.settings).eval()
    for key, tensor in model.state_dict().items():
        if key.endswith("gamma"):
            tensor.fill_(1)  # at 1e-5 the class token would not yet see the picture
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = load_encoder(name, tmp_path / "model.safetensors", device="cpu")
    with torch.inference_mode():
        expected = model.forward_features(normalised(crops))[:, 0]
    np.testing.assert_allclose(encoder.encode(crops), expected, atol=1e-4)


@pytest.fixture(scope="module")
def conch():
    torch.manual_seed(0)
    with torch.device("meta"):  # a ViT-B/16 of 28 x 28 patches and a class token; the pooler; the norm
        vit = 768 * 3 * 256 + 768 + 768 + 785 * 768 + 12 * (12 * 768**2 + 13 * 768) + 2 * 768
        pooler = 512 + 512 * 512 + 2 * 512 * 768 + 3 * 512 + 512 * 512 + 512 + 2 * 512 + 2 * 768
        assert sum(parameter.numel() for parameter in Conch().parameters()) == vit + pooler + 2 * 512
    made = Conch(width=48, depth=2, heads=3).eval()  # a thin sister
    with torch.no_grad():
        for parameter in made.attn_pool_contrast.parameters():
            parameter.normal_(0, 0.05)
    return made


def test_conchs_published_file_with_text_and_captions_is_read(conch, tmp_path, monkeypatch):
    monkeypatch.setattr(lib.features.encoders, "Conch", lambda: Conch(width=48, depth=2, heads=3))
    tensors = {f"visual.{key}": tensor for key, tensor in conch.state_dict().items()}
    others = ("text.cls_emb", "visual.attn_pool_caption.query", "visual.ln_caption.weight", "logit_scale")
    tensors |= {key: torch.zeros(8) for key in (*others, "visual.proj_contrast")}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    encoder = load_encoder("conch", tmp_path / "pytorch_model.bin", device="cpu")
    assert (encoder.dim, encoder.input_px) == (512, 448)
    crops = np.random.default_rng(0).integers(0, 256, (1, 448, 448, 3), dtype=np.uint8)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    with torch.inference_mode():
        expected = conch(normalised(crops, mean, std)).numpy()
    np.testing.assert_allclose(encoder.encode(crops), expected, atol=1e-4)
    wrapped = {f"module.{key}": tensor for key, tensor in tensors.items()}
    assert set(tensors_of(wrapped)) == set(conch.state_dict())
