"""The net, its losses, checkpoints, the loop and the export."""

import json
import re
from importlib.resources import files

import numpy as np
import pytest
from cli_runner import Cli
from training_recordings import views

from afp.cli.train import _validation_lines

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'afp[train]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'afp[train]'")
pytest.importorskip("onnx", reason="pip install 'afp[train]'")

from afp.audio import walk  # noqa: E402
from afp.errors import InputError, UsageError  # noqa: E402
from afp.features import log_mel  # noqa: E402
from afp.features.embedding import Embedder  # noqa: E402
from afp.features.log_mel import N_BANDS, N_FRAMES, mel_powers, normalised  # noqa: E402
from afp.training.cells import sampled  # noqa: E402
from afp.training.checkpoint import Checkpoint  # noqa: E402
from afp.training.config import Config  # noqa: E402
from afp.training.export import export  # noqa: E402
from afp.training.loop import BEST, LAST, Run, Schedule  # noqa: E402
from afp.training.losses import Memory, info_nce, loss_of, nt_xent, triplet  # noqa: E402
from afp.training.model import Net, n_operations, n_parameters  # noqa: E402
from afp.training.pcm import Pcm  # noqa: E402
from afp.training.validation import Validation  # noqa: E402
from afp.training.whitening import EXPONENT, RIDGE, whitening  # noqa: E402

pytest_plugins = ["training_fixtures"]

SMALL = {
    "stem_channels": 8,
    "channels": [8, 16],
    "blocks": [1, 1],
    "dimensions": 16,
    "short_dimensions": 8,
    "pairs": 8,
    "steps": 12,
    "warm_up_steps": 2,
    "learning_rate": 0.003,
    "memory": 0,
}


def unit(rng, n, d):
    rows = rng.standard_normal((n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def are_apart(first, second):
    return not ({*first} - {-1}) & ({*second} - {-1})


def some_tracks(rng, n, n_tracks):
    """Draw which track each pair is of, and for some another one that is mixed in."""
    tracks = np.arange(n) % n_tracks
    others = np.where(rng.random(n) < 0.4, rng.integers(0, n_tracks, n), -1)
    return np.stack([tracks, others], axis=1)


def naive_nt_xent(anchors, replicas, tracks, temperature):
    losses = []
    views_ = [*anchors, *replicas]
    n = len(anchors)
    for i, view in enumerate(views_):
        right = np.exp(view @ views_[(i + n) % (2 * n)] / temperature)
        wrong = [
            np.exp(view @ other / temperature)
            for j, other in enumerate(views_)
            if are_apart(tracks[j % n], tracks[i % n])
        ]
        losses.append(-np.log(right / (right + sum(wrong))))
    return np.mean(losses)


def naive_triplet(anchors, replicas, tracks, margin):
    losses = []
    views_ = [*anchors, *replicas]
    n = len(anchors)
    for i, view in enumerate(views_):
        positive = ((view - views_[(i + n) % (2 * n)]) ** 2).sum()
        others = [
            ((view - other) ** 2).sum()
            for j, other in enumerate(views_)
            if are_apart(tracks[j % n], tracks[i % n])
        ]
        further = [distance for distance in others if distance > positive]
        negative = min(further) if further else max(others)
        losses.append(max(positive - negative + margin, 0))
    return np.mean(losses)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.1, 3.0])
@pytest.mark.parametrize("n_tracks", [7, 3])
def test_losses_equal_the_naive_ones(seed, spread, n_tracks):
    rng = np.random.default_rng(seed)
    anchors = unit(rng, 7, 4)
    replicas = anchors + spread * rng.standard_normal(anchors.shape)
    replicas /= np.linalg.norm(replicas, axis=1, keepdims=True)
    tracks = some_tracks(rng, 7, n_tracks)
    tensors = torch.tensor(anchors), torch.tensor(replicas), torch.tensor(tracks)
    found = nt_xent(*tensors, temperature=0.1).item()
    assert found == pytest.approx(naive_nt_xent(anchors, replicas, tracks, 0.1))
    found = triplet(*tensors, margin=0.5).item()
    assert found == pytest.approx(naive_triplet(anchors, replicas, tracks, 0.5))


def test_a_replica_is_looked_up_among_anchors_that_are_remembered():
    rng = np.random.default_rng(1)
    steps = [(unit(rng, 4, 6), some_tracks(rng, 4, 6)) for _ in range(3)]
    memory = Memory(2)
    for anchors, tracks in steps:
        memory.add(torch.tensor(anchors), torch.tensor(tracks))
    replicas = unit(rng, 4, 6)
    losses = []
    for i, replica in enumerate(replicas):
        right = np.exp(replica @ steps[2][0][i] / 0.1)
        wrong = [
            np.exp(replica @ anchor / 0.1)
            for anchors, tracks in steps[1:]
            for anchor, track in zip(anchors, tracks, strict=True)
            if are_apart(track, steps[2][1][i])
        ]
        losses.append(-np.log(right / (right + sum(wrong))))
    found = info_nce(torch.tensor(replicas), memory, temperature=0.1).item()
    assert found == pytest.approx(np.mean(losses))


def test_the_short_embedding_is_trained_too():
    rng = np.random.default_rng(0)
    anchors, replicas = (torch.tensor(unit(rng, 6, 16)) for _ in range(2))
    config = Config.checked(SMALL)
    short = [view[:, :8] / view[:, :8].norm(dim=1, keepdim=True) for view in (anchors, replicas)]
    tracks = torch.from_numpy(some_tracks(rng, 6, 6))
    losses = [nt_xent(*views_, tracks, temperature=0.05) for views_ in ((anchors, replicas), short)]
    expected = sum(losses).item() / 2
    assert loss_of(anchors, replicas, tracks, config).item() == pytest.approx(expected)
    # With a memory, half of either is that of looking replicas up.
    memory, memory_of_short = Memory(2), Memory(2)
    for _ in range(2):
        memory.add(anchors, tracks)
        memory_of_short.add(short[0], tracks)
    found = [
        info_nce(replicas, memory, temperature=0.05),
        info_nce(short[1], memory_of_short, temperature=0.05),
    ]
    expected = (sum(losses) + sum(found)).item() / 4
    assert loss_of(anchors, replicas, tracks, config, memory).item() == pytest.approx(expected)


def test_embeddings_have_length_1_and_the_default_net_is_small():
    net = Net.configured(Config()).eval()
    with torch.no_grad():
        embedded = net(torch.randn(3, N_FRAMES, N_BANDS))
    assert embedded.shape == (3, 128)
    np.testing.assert_allclose(embedded.norm(dim=1), 1, atol=1e-5)
    assert n_parameters(net) <= 2_000_000
    assert n_operations(net) <= 25_000_000


def train(out, parts, *, stop=None, **settings):
    out.mkdir(exist_ok=True)
    run = Run(Config.checked({**SMALL, **settings}), out)
    losses = []

    def interrupted():
        return stop is not None and run.step >= stop

    run.train(
        views(parts, **{**SMALL, **settings}),
        None,
        Schedule(report_steps=1),
        n_workers=0,
        observer=lambda progress: losses.append(progress.loss),
        is_interrupted=interrupted,
    )
    return run, losses


def test_a_few_steps_lower_the_loss(parts, tmp_path):
    _, losses = train(tmp_path, parts, steps=40)
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.parametrize("memory", [0, 3])
def test_a_resumed_run_is_the_uninterrupted_one(parts, tmp_path, memory):
    whole, losses = train(tmp_path / "whole", parts, memory=memory)
    _, before = train(tmp_path / "parts", parts, stop=5, memory=memory)
    resumed, after = train(tmp_path / "parts", parts, memory=memory)
    assert resumed.step == whole.step == 12
    np.testing.assert_allclose(before + after, losses, rtol=1e-3)
    for name, weights in whole.average.state_dict().items():
        torch.testing.assert_close(
            resumed.average.state_dict()[name], weights, rtol=1e-3, atol=1e-4
        )
    state = Checkpoint.load(tmp_path / "parts" / LAST)
    assert state.step == 12
    assert state.config == whole.config


def test_another_net_does_not_go_on(parts, tmp_path):
    train(tmp_path, parts, stop=1)
    with pytest.raises(UsageError, match="was begun with dimensions=16, not 32"):
        Run(Config.checked({**SMALL, "dimensions": 32}), tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_broken_checkpoint_is_refused(parts, tmp_path, content):
    if content is None:
        train(tmp_path, parts, stop=1)
        content = (tmp_path / LAST).read_bytes()[:-2000]
    (tmp_path / LAST).write_bytes(content)
    with pytest.raises(InputError, match="no checkpoint, or a truncated one"):
        Checkpoint.load(tmp_path / LAST)


def test_validation_keeps_the_best(parts, tmp_path):
    validation = Validation.made(
        parts[0], parts[1], None, distractors=None, n_queries=4, n_distractors=0, seed=0
    )
    run, _ = train(tmp_path, parts, stop=1)
    scores = run.validate(validation)
    assert run.validations == [{"step": 1, **scores}]
    assert Checkpoint.load(tmp_path / BEST).best == pytest.approx(run.best)
    run.best = 2.0
    (tmp_path / BEST).unlink()
    run.validate(validation)
    assert not (tmp_path / BEST).exists()


def test_the_export_embeds_as_the_net_does(parts, tmp_path):
    run, _ = train(tmp_path, parts, stop=3)
    export(Checkpoint.load(tmp_path / LAST), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    for n in (1, 5):
        segments = rng.standard_normal((n, N_FRAMES, N_BANDS)).astype(np.float32)
        (found,) = session.run(None, {"segments": segments})
        with torch.no_grad():
            expected = run.average(torch.from_numpy(segments)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)
    about = session.get_modelmeta().custom_metadata_map
    assert about["kind"] == "afp-neural"
    assert json.loads(about["front_end"])["n_bands"] == N_BANDS
    assert Config.checked(json.loads(about["config"])) == run.config


@pytest.mark.parametrize("blocks", [[1, 1], [2, 1]])
def test_a_run_that_starts_from_an_export_embeds_as_it_did(parts, tmp_path, blocks):
    run, _ = train(tmp_path / "first", parts, stop=3, blocks=blocks)
    export(Checkpoint.load(tmp_path / "first" / LAST), tmp_path / "model.onnx")
    batch = views(parts, **{**SMALL, "blocks": blocks}).batch(9)
    other = Run(Config.checked({**SMALL, "blocks": blocks, "seed": 5}), tmp_path)
    before = other.embed(batch.anchors)
    other.start_from(other.exported(tmp_path / "model.onnx"), batch)
    assert np.abs(before - run.embed(batch.anchors)).max() > 0.1
    np.testing.assert_allclose(other.embed(batch.anchors), run.embed(batch.anchors), atol=0.03)
    # What it learns with are statistics of its own: a step in training does not jump.
    segments = torch.from_numpy(np.concatenate([batch.anchors, batch.replicas])).float()
    with torch.no_grad():
        learning, in_use = other.net.train()(segments), other.net.eval()(segments)
    np.testing.assert_allclose(learning, in_use, atol=0.03)


def test_a_start_from_another_net_is_refused(parts, tmp_path):
    train(tmp_path, parts, stop=1)
    export(Checkpoint.load(tmp_path / LAST), tmp_path / "model.onnx")
    run = Run(Config.checked({**SMALL, "channels": [8, 24]}), tmp_path / "other")
    with pytest.raises(UsageError, match="is of another net"):
        run.exported(tmp_path / "model.onnx")
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "model.onnx").read_bytes()[:500])
    with pytest.raises(UsageError, match="no ONNX model, or a truncated one"):
        run.exported(tmp_path / "cut.onnx")
    with pytest.raises(UsageError, match="No such file"):
        run.exported(tmp_path / "none.onnx")
    with pytest.raises(UsageError, match="is a run that has begun already"):
        Run(Config.checked(SMALL), tmp_path).exported(tmp_path / "model.onnx")


def test_an_export_with_its_music_whitens_what_the_net_gives(parts, tmp_path):
    music, *_ = parts
    train(tmp_path, parts, stop=1)
    export(Checkpoint.load(tmp_path / LAST), tmp_path / "plain.onnx")
    export(Checkpoint.load(tmp_path / LAST), tmp_path / "model.onnx", music)
    plain, white = (
        Embedder((tmp_path / name).read_bytes(), name) for name in ("plain.onnx", "model.onnx")
    )
    matrix = whitening(sampled(plain, music))
    assert not np.allclose(matrix, np.eye(len(matrix)))
    powers = mel_powers(music[0].astype(np.float32) / 32768)
    expected = plain(powers, hop_frames=8)[1] @ matrix
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(white(powers, hop_frames=8)[1], expected, atol=1e-4)


def test_whitening_attenuates_what_varies_most():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    deviations = np.array([5, 3, 2, 1, 1, 1, 0.5, 0.0])
    embeddings = (rng.standard_normal((4000, 8)) * deviations @ turn).astype(np.float32)
    matrix = whitening(embeddings)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    before, after = (
        np.linalg.eigvalsh(np.cov(each.T))[::-1] for each in (embeddings, embeddings @ matrix)
    )
    assert np.all(np.diff(after) <= 0)  # the order stays
    assert 1 < after[0] / after[5] < before[0] / before[5] / 4
    # The share that is left of a variance v: (v / mean + ridge) ** -2 exponent.
    expected = before * (before / before.mean() + RIDGE) ** (-2 * EXPONENT)
    np.testing.assert_allclose(after, expected, atol=1e-3)


@pytest.mark.parametrize("n", [0, 1, 8, 50])  # of one and the same
def test_too_few_embeddings_are_not_whitened(n):
    np.testing.assert_array_equal(whitening(np.ones((n, 8), np.float32)), np.eye(8))


def test_the_cells_of_an_export_are_those_of_its_music(parts, tmp_path):
    music, *_ = parts
    train(tmp_path, parts, stop=1)
    export(Checkpoint.load(tmp_path / LAST), tmp_path / "model.onnx", music)
    embedder = Embedder((tmp_path / "model.onnx").read_bytes(), "model.onnx")
    found = embedder.centres()
    assert found.shape[0] >= 4
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=0.05)  # in 8 bits
    samples = music[0].astype(np.float32) / 32768
    _, vectors = embedder(mel_powers(samples), hop_frames=8)
    nearest = (vectors @ found.T).max(axis=1)
    assert np.median(nearest) > np.median(vectors @ vectors.mean(axis=0))
    export(Checkpoint.load(tmp_path / LAST), tmp_path / "model.onnx")
    assert len(Embedder((tmp_path / "model.onnx").read_bytes(), "model.onnx").centres()) == 0


def test_a_validation_is_told_a_line_each_condition():
    scores = {"clean 1s track": 1.0, "clean 1s near": 0.5, "noise 0 dB 1s track": 0.25}
    assert _validation_lines(1500, scores | {"noise 0 dB 1s near": 0.0})[2:] == [
        "  clean       100.0  50.0",
        "  noise 0 dB   25.0   0.0",
    ]


def test_the_command_trains_and_goes_on(recordings, tmp_path):
    cli = Cli(tmp_path / "store", tmp_path)
    settings = [f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()]
    folders = ["--noise", recordings / "noise", "--ir", recordings / "rooms"]
    command = ["train", recordings / "music", *folders, "--out", tmp_path / "run", "-j", "1"]
    process = cli.start(*command, *settings, "--set=steps=2", "--validation-queries=5")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert b"step 2 of 2" in err
    assert b"step 2: clips whose track is found, and whose place is, in %" in err
    assert re.search(rb"^ +clean( +\d+\.\d){6}$", err, re.MULTILINE)
    assert (tmp_path / "run" / "model.onnx").exists()
    process = cli.start(*command, "--set=steps=3", "--validation-queries=5")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert b"from step 2 of 3" in err
    assert b"steps was 2, and is 3 from here on" in err
    assert Checkpoint.load(tmp_path / "run" / LAST).step == 3


def test_the_command_goes_on_from_the_shipped_net(recordings, tmp_path):
    cli = Cli(tmp_path / "store", tmp_path)
    settings = ["--set=pairs=8", "--set=steps=1", "--set=learning_rate=0.0"]
    command = ["train", recordings / "music", "--out", tmp_path / "run", "-j", "1", *settings]
    process = cli.start(*command, "--from", "shipped", "--validation-queries=5")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    net = Net.configured(Config())
    net.load_state_dict(Checkpoint.load(tmp_path / "run" / LAST).net)
    samples = Pcm.decoded(list(walk([recordings / "music"])), tmp_path / "x.pcm")[0] / 32767
    powers = mel_powers(samples.astype(np.float32))
    content = (files("afp") / "models" / "neural.onnx").read_bytes()
    _, expected = Embedder(content, "shipped")(powers, hop_frames=8)
    heard = torch.from_numpy(normalised(log_mel.segments(powers, hop_frames=8)))
    with torch.no_grad():
        found = net.eval()(heard).numpy()
    # A step moves the mean and variance of the normalisations a little, with any rate.
    assert (found * expected).sum(axis=1).min() > 0.95
