import socket

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import lib.features.encoders
from lib.features.encoders import load_encoder, published


@pytest.fixture(scope="module")
def weights(mirror):
    folder = mirror / "weights"
    if not folder.is_dir():
        pytest.skip("the mirror has no weights")
    return folder


@pytest.fixture(scope="module")
def mobilenet(weights):
    return load_encoder("mobilenetv2_100", weights / "mobilenetv2_100_dequant.pth", device="cpu")


@pytest.fixture(scope="module")
def photos(weights):
    def read(name):
        return np.asarray(
            Image.open(weights / name).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        )

    return np.stack([read("grace_hopper.bmp"), read("parrot.jpg")])


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A file of resnet18's tensors, classifier included, as published weights have it."""
    import timm

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    model = timm.create_model("resnet18", pretrained=False).eval()
    save_file(model.state_dict(), path)
    return path, model


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
    names, sure = classify(mobilenet.encode(photos), weights)
    assert names == ["military uniform", "macaw"]
    assert sure == pytest.approx([0.927, 0.998], abs=0.005)  # 0.361 with PyTorch's padding
    names, sure = classify(mobilenet.encode(photos[..., ::-1].copy()), weights)  # BGR by mistake
    assert sure[0] < 0.9 or names[0] != "military uniform"


@pytest.mark.real
def test_encoding_is_deterministic_and_row_by_row(mobilenet, photos):
    crops = np.concatenate([photos, photos[:, ::-1], photos[:, :, ::-1]]).copy()
    features = mobilenet.encode(crops)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(mobilenet.encode(crops), features)
    np.testing.assert_allclose(mobilenet.encode(crops[3:4])[0], features[3], atol=1e-4)
    assert mobilenet.encode(crops[:0]).shape == (0, 1280)


@pytest.mark.real
def test_crops_of_another_size_or_type_are_refused(mobilenet, photos):
    for wrong in (photos[:, :100], photos.astype(np.float32), photos[..., :1], photos.transpose(0, 3, 1, 2)):
        with pytest.raises(ValueError, match=r"uint8 RGB crops \(n, 224, 224, 3\)"):
            mobilenet.encode(wrong)


def test_colour_needs_no_weights_and_knows_its_scale():
    encoder = load_encoder("colour")
    assert (encoder.name, encoder.dim, encoder.input_px, encoder.crop_um) == ("colour", 38, 44, 150)
    assert load_encoder("colour", crop_um=300).input_px == 87
    crops = np.random.default_rng(0).integers(0, 256, (3, 44, 44, 3), dtype=np.uint8)
    large = crops.repeat(4, axis=1).repeat(4, axis=2)  # the same tissue, scanned finer
    np.testing.assert_allclose(encoder.encode(large), encoder.encode(crops), atol=1e-6)


def test_any_timm_model_takes_a_file_and_equals_timm(resnet):
    path, model = resnet
    encoder = load_encoder("resnet18", path, device="cpu", crop_um=100)
    assert (encoder.dim, encoder.input_px, encoder.crop_um) == (512, 224, 100)
    crops = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(((crops / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(pixels), pre_logits=True).numpy()
    np.testing.assert_allclose(encoder.encode(crops), expected, atol=1e-4)


def test_the_revision_names_the_file(resnet, tmp_path):
    path, model = resnet
    tensors = model.state_dict() | {"conv1.weight": model.state_dict()["conv1.weight"] * 2}
    torch.save(tensors, tmp_path / "other.pth")
    assert (
        load_encoder("resnet18", tmp_path / "other.pth").revision != load_encoder("resnet18", path).revision
    )


def test_files_that_do_not_fit_are_refused(resnet, tmp_path):
    path, model = resnet
    tensors = model.state_dict()
    with pytest.raises(ValueError, match=r"resnet18.safetensors does not fit encoder resnet34"):
        load_encoder("resnet34", path)
    short = {name: tensor for name, tensor in tensors.items() if name != "layer1.0.conv1.weight"}
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"short.pth does not fit .*layer1.0.conv1.weight"):
        load_encoder("resnet18", tmp_path / "short.pth")
    torch.save(tensors | {"extra.weight": torch.zeros(1)}, tmp_path / "long.pth")
    with pytest.raises(ValueError, match=r"long.pth does not fit .*extra.weight"):
        load_encoder("resnet18", tmp_path / "long.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="no state dict"):
        load_encoder("resnet18", tmp_path / "list.pth")
    with pytest.raises(FileNotFoundError, match=r"no weights of encoder resnet18 at .*gone.pth"):
        load_encoder("resnet18", tmp_path / "gone.pth")


class Harm:
    def __reduce__(self):
        return (open, ("harm-was-done", "w"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_weight_file_cannot_run_code(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Harm()}, tmp_path / f"evil{suffix}")
    with pytest.raises(ValueError, match=r"evil.* is not a whole file of plain tensors"):
        load_encoder("resnet18", tmp_path / f"evil{suffix}")
    assert not (tmp_path / "harm-was-done").exists()


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown encoder 'resnt18'; nearest: .*resnet18"):
        load_encoder("resnt18")
    with pytest.raises(ValueError, match="unknown encoder 'Uni'; nearest: uni"):
        load_encoder("Uni")
    with pytest.raises(ValueError, match="crop_um"):
        load_encoder("colour", crop_um=0)


def test_uni_without_token_says_how_to_get_it(monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(PermissionError, match=r"huggingface.co/MahmoodLab/UNI.*HF_TOKEN.*mobilenetv2_100"):
        load_encoder("uni")


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def fail(*_):
        raise socket.gaierror("no name service")

    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(lib.features.encoders, "in_cache", lambda name: False)


def test_no_network_is_said_at_once(no_network, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    for name in ("resnet18", "uni"):
        with pytest.raises(ConnectionError, match=r"cannot be reached: .*`weights`.*colour"):
            load_encoder(name)


def test_published_weights_come_with_the_digest_of_their_tensors(monkeypatch, resnet):
    # the hub itself is out of reach of a test
    monkeypatch.setattr(lib.features.encoders, "in_cache", lambda name: True)
    import timm

    asked = {}

    def create(name, pretrained, **settings):
        asked.update(name=name, pretrained=pretrained, **settings)
        torch.manual_seed(len(asked))
        return made(name if ":" not in name else "vit_tiny_patch16_224", pretrained=False, num_classes=0)

    made = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    encoder = load_encoder("resnet18", device="cpu")
    assert asked == {"name": "resnet18", "pretrained": True, "num_classes": 0}
    assert len(encoder.revision) == 12
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    load_encoder("uni", device="cpu")
    assert asked["name"] == "hf-hub:MahmoodLab/UNI"
    assert (asked["init_values"], asked["dynamic_img_size"]) == (1e-5, True)

    def offline(*_, **__):
        raise FileNotFoundError("neither cached nor reachable")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConnectionError, match="cannot be reached"):
        published("resnet18", "resnet18")


def test_uni_from_a_file_is_normalised_like_imagenet(tmp_path, monkeypatch):
    # ViT-L has 303 million parameters: its tiny sister stands in, with UNI's settings
    import timm

    made = timm.create_model

    def create(name, pretrained, **settings):
        assert (name, settings["init_values"]) == ("vit_large_patch16_224", 1e-5)
        return made("vit_tiny_patch16_224", pretrained=False, **settings)

    monkeypatch.setattr(timm, "create_model", create)
    torch.manual_seed(1)
    model = made("vit_tiny_patch16_224", num_classes=0, init_values=1e-5, dynamic_img_size=True).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("gamma"):
            tensor.fill_(1)  # at 1e-5 the class token would not yet see the picture
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    encoder = load_encoder("uni", tmp_path / "pytorch_model.bin", device="cpu")
    crops = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    pixels = torch.from_numpy(crops.transpose(0, 3, 1, 2) / np.float32(255))
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = model((pixels - mean) / std).numpy()
    np.testing.assert_allclose(encoder.encode(crops), expected, atol=1e-4)


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    """A file of torchvision's layout, with a spread of values that keeps its activations alive."""
    import timm

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet50-0676ba61.pth"
    model = timm.create_model("resnet50.tv_in1k", pretrained=False).eval()
    torch.save(model.state_dict(), path)
    return path, model


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)


def test_resnet50_has_2048_numbers_and_truncated_as_clam_1024(resnet50, crops):
    import timm

    path, model = resnet50
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(((crops / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
    stages = timm.create_model(
        "resnet50.tv_in1k", pretrained=False, features_only=True, out_indices=(3, 4)
    ).eval()
    stages.load_state_dict(
        {key: value for key, value in model.state_dict().items() if not key.startswith("fc")}
    )
    with torch.inference_mode():
        third, fourth = (stage.mean((2, 3)).numpy() for stage in stages(pixels))
    truncated = load_encoder("resnet50_trunc", path, device="cpu")
    assert (truncated.dim, truncated.input_px) == (1024, 224)
    np.testing.assert_allclose(truncated.encode(crops), third, atol=1e-4)
    whole = load_encoder("resnet50.tv_in1k", path, device="cpu")
    assert whole.dim == 2048
    np.testing.assert_allclose(whole.encode(crops), fourth, atol=1e-4)


def test_mixed_precision_is_near_and_says_so_in_the_revision(resnet, crops):
    path, _ = resnet
    full, mixed = (load_encoder("resnet18", path, device="cpu", precision=way) for way in ("full", "mixed"))
    assert mixed.revision == full.revision + "+bfloat16"
    assert load_encoder("resnet18", path, device="cpu", precision="auto").revision == full.revision
    exact, near = full.encode(crops), mixed.encode(crops)
    assert near.dtype == np.float32
    assert not np.array_equal(near, exact)
    assert np.abs(near - exact).max() < 0.05 * np.abs(exact).max()
    with pytest.raises(ValueError, match="precision 'half' is none of full, mixed, auto"):
        load_encoder("resnet18", path, precision="half")


def test_what_overflows_in_half_precision_is_done_again_in_full(resnet, crops):
    path, _ = resnet
    full, mixed = (load_encoder("resnet18", path, device="cpu", precision=way) for way in ("full", "mixed"))
    body, calls = mixed.encode.model, []

    class Overflowing(torch.nn.Module):
        head_hidden_size = 512

        def forward(self, pixels):
            calls.append(len(pixels))
            features = body(pixels).float()
            if len(calls) == 1:
                features[1, 7] = torch.inf
            return features

    mixed.encode.model = Overflowing()
    found = mixed.encode(crops)
    assert calls == [3, 1]
    np.testing.assert_allclose(found[1], full.encode(crops)[1], atol=1e-5)


def test_batches_do_not_change_the_features(resnet, crops):
    path, _ = resnet
    one = load_encoder("resnet18", path, device="cpu", batch=1).encode(crops)
    np.testing.assert_allclose(one, load_encoder("resnet18", path, device="cpu").encode(crops), atol=1e-5)
