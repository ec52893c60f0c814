"""Checks of seeded weights and named inputs; ``check_parts.py`` runs them."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import torch
import torch.multiprocessing as processes
from safetensors.torch import save_file

from runners.protocol import seeded_inputs, seeded_weights, synthetic, wire
from runners.protocol.requests import PrepareRequest
from runners.protocol.seeded_inputs import InputMismatchError

NETWORK = wire.Network(dim=256, ffn_dim=512, num_heads=2, num_layers=2, text_len=16, text_dim=64)
FLAT_SHA256 = "134404156b9efa59637123c40fc520b3129c9f97b38d7f003149ff6284c3189e"
"""Of the file that protocol 2 made for this network and seed 0."""


def request(**changes) -> PrepareRequest:
    """A request for inputs of two AR steps."""
    values = {"network": NETWORK, "weights_seed": 0, "noise_seed": 1, "prompt": "p", "ar_steps": 2}
    values |= {"draws_per_step": 4, "latent_shape": (3, 16, 8, 10)}
    values |= dict.fromkeys(("weights_path", "noise_path", "text_path"), "")
    return PrepareRequest(**{**values, **changes})


def job(**changes) -> SimpleNamespace:
    """What of a job its weights are made from."""
    values = {"network": NETWORK, "weights_seed": 0, "weights_gains": (), "networks": 1}
    values |= {"weights_rule": "flat"}
    return SimpleNamespace(**{**values, "device": "cpu", "weights_from": "device", **changes})


def check_flat_weights_are_those_of_before() -> None:
    """A rule of today does not move a bit of the weights that stored runs were made with."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(seeded_weights.make_weights(NETWORK, 0), path)
        assert wire.sha256_file(path) == FLAT_SHA256


def check_gains_multiply_query_and_key_norms_alone() -> None:
    """Each number is for one kind of attention; every other parameter keeps its bits."""
    flat, sharp = (
        seeded_weights.make_weights(NETWORK, 0, rule, gains)
        for rule, gains in (("flat", ()), ("sharp", (2.0, 4.0)))
    )
    factors = {"self_attn": 2.0, "cross_attn": 4.0}
    for name, values in flat.items():
        is_norm = ".norm_q." in name or ".norm_k." in name
        factor = next((f for part, f in factors.items() if part in name), 1.0) if is_norm else 1.0
        assert torch.equal(sharp[name], values * factor), name


def check_networks_are_told_apart_by_their_prefix() -> None:
    """Two networks have the same parameters with other values."""
    made = seeded_weights.make_weights(NETWORK, 0, networks=2)
    one = seeded_weights.make_weights(NETWORK, 0)
    assert made.keys() == {f"{index}.{name}" for index in range(2) for name in one}
    assert not torch.equal(made["0.head.head.weight"], made["1.head.head.weight"])


def check_digest_sees_a_value_and_its_place() -> None:
    """One changed value, two exchanged ones and another name are all other weights."""
    whole = seeded_weights.make_weights(NETWORK, 0)
    wanted = seeded_weights.digest(whole)
    assert seeded_weights.digest(dict(reversed(whole.items()))) == wanted
    name = "blocks.1.ffn.0.weight"
    changed, exchanged = (whole[name].clone() for _ in range(2))
    changed[3, 4] += 1
    exchanged[0, 0], exchanged[0, 1] = whole[name][0, 1], whole[name][0, 0]
    for values in (changed, exchanged):
        assert seeded_weights.digest({**whole, name: values}) != wanted
    renamed = {f"x{key}": values for key, values in whole.items()}
    assert seeded_weights.digest(renamed) != wanted


def check_digest_of_made_weights_is_of_those_that_were_made() -> None:
    """Nothing is in force before weights are made, and then it is their digest."""
    message = ""
    try:
        seeded_weights.sha256_in_force(job(weights_seed=5))
    except InputMismatchError as error:
        message = str(error)
    assert message.endswith("nobody made them")
    made = seeded_weights.load_weights(job(weights_seed=5), "cpu")
    assert seeded_weights.sha256_in_force(job(weights_seed=5)) == seeded_weights.digest(made)


def make_on(rank: int, folder: str, seeds: tuple[int, int]) -> None:
    """Make weights as one of two ranks, and write what came of it."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    try:
        seeded_weights.load_weights(job(weights_seed=seeds[rank]), "cpu")
        said = "agreed"
    except InputMismatchError as error:
        said = str(error)
    Path(folder, f"rank{rank}").write_text(said)
    torch.distributed.destroy_process_group()


def check_ranks_compare_the_weights_they_made() -> None:
    """Two processes agree on equal weights and both refuse unequal ones."""
    for seeds, said in (((0, 0), "agreed"), ((0, 1), "ranks made different weights")):
        with TemporaryDirectory() as folder:
            processes.spawn(make_on, (folder, seeds), nprocs=2)
            found = [Path(folder, f"rank{rank}").read_text() for rank in range(2)]
        assert all(text.startswith(said) for text in found), found


def check_inputs_are_in_force_once_they_are_read() -> None:
    """A side that opens no inputs does not say that it has them."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "inputs.safetensors")
        save_file({"first_frame": torch.ones(3)}, path)
        artifact = wire.Artifact(path=path, sha256=wire.sha256_file(path))
        one = SimpleNamespace(inputs=artifact)
        assert seeded_inputs.inputs_in_force(one) == "none"
        assert seeded_inputs.load_inputs(one).keys() == {"first_frame"}
        assert seeded_inputs.inputs_in_force(one) == artifact.sha256
    assert seeded_inputs.inputs_in_force(SimpleNamespace(inputs=None)) == "none"


def check_named_inputs_are_what_they_are_called() -> None:
    """Poses are rigid and move smoothly, rays have unit directions, labels are whole numbers."""
    names = ("first_frame", "hdmap", "viewmats", "intrinsics", "action", "camera", "low_res_video")
    made = synthetic.make_inputs(request(input_names=names))
    turns = made["viewmats"][:, :3, :3]
    assert torch.allclose(turns @ turns.transpose(1, 2), torch.eye(3).expand(6, 3, 3), atol=1e-6)
    moves = made["viewmats"][1:, :3, 3] - made["viewmats"][:-1, :3, 3]
    assert 0 < moves.abs().max() <= synthetic.STEP + 1e-6
    assert torch.equal(made["intrinsics"][0, 2], torch.tensor([0.0, 0.0, 1.0]))
    assert made["action"].dtype == torch.int64
    assert made["camera.ar1"].shape == (3, 384, 8, 10)
    rays = torch.nn.functional.pixel_shuffle(made["camera.ar1"].float(), 8)
    assert torch.allclose(rays[:, 3:].norm(dim=1), torch.ones(3, 64, 80), atol=0.02)
    assert (rays[:, :3] * rays[:, 3:]).sum(1).abs().max() < 0.05  # a moment is across its ray
    assert made["low_res_video.ar0"].abs().max() <= 1
    assert not torch.equal(made["hdmap.ar0"], made["hdmap.ar1"])
    again = synthetic.make_inputs(request(input_names=names))
    assert all(torch.equal(values, again[key]) for key, values in made.items())
