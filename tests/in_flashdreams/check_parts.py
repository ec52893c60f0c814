"""Checks of the runners' parts that need torch and flashdreams, run in that environment."""

import os
import time
from collections import ChainMap, OrderedDict
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import torch

import runners
from runners import cpu

# isort: split

import check_loading
import check_published
import check_recorder
import check_seeded
import flashdreams.infra.pipeline.base as pipeline_base
from flashdreams.infra.config import derive_config
from flashdreams.infra.cuda_graph import CUDAGraphWrapper
from flashdreams.infra.diffusion.scheduler import FlowMatchEulerDiscreteSchedulerConfig
from flashdreams.recipes.cosmos.transformer.impl.modules import Timesteps

from runners import exact_timesteps, families, first_frame, matched, self_forcing, video
from runners.captured_graph import GraphWatch
from runners.protocol import drive, wire
from runners.protocol.recorder import Recorder


def check_rope_is_a_rotation() -> None:
    """Interleaved RoPE is multiplication by exp(i angle), in place, whatever the layout's twin."""
    torch.manual_seed(0)
    x_BSHD = torch.randn(1, 5, 2, 8, dtype=torch.float64)
    angles = torch.randn(5, 4, dtype=torch.float32)
    full = angles.repeat_interleave(2, dim=-1).reshape(5, 1, 1, 8)
    wanted = torch.view_as_complex(x_BSHD.reshape(1, 5, 2, 4, 2).contiguous()) * torch.polar(
        torch.ones(5, 4), angles
    ).reshape(1, 5, 1, 4)

    rotated = cpu.apply_rotary_pos_emb(x_BSHD, full, interleaved=True)

    assert rotated is x_BSHD
    found = torch.view_as_complex(rotated.reshape(1, 5, 2, 4, 2))
    assert torch.allclose(found, wanted.to(found.dtype), atol=1e-6)


def check_rope_halves_agree_with_pairs() -> None:
    """The half-split layout gives what the interleaved one gives, permuted, and copies if asked."""
    torch.manual_seed(1)
    x = torch.randn(1, 3, 1, 6)
    angles = torch.randn(3, 3)
    paired = x.reshape(1, 3, 1, 2, 3).transpose(-1, -2).reshape(1, 3, 1, 6)
    interleaved = angles.repeat_interleave(2, dim=-1).reshape(3, 1, 1, 6)
    halves = torch.cat((angles, angles), dim=-1).reshape(3, 1, 1, 6)

    split = cpu.apply_rotary_pos_emb(x, halves, interleaved=False, inplace=False)
    pairs = cpu.apply_rotary_pos_emb(paired, interleaved, interleaved=True, inplace=False)

    assert split.data_ptr() != x.data_ptr()
    back = pairs.reshape(1, 3, 1, 3, 2).transpose(-1, -2).reshape(1, 3, 1, 6)
    assert torch.allclose(split, back, atol=1e-6)


def check_attention_returns_cudnn_shapes() -> None:
    """Log-sum-exp comes back as [B, H, S, 1] and belongs to the output."""
    query, key, value = torch.randn(3, 1, 2, 4, 8)
    out, lse = cpu.scaled_dot_product_attention(query, key, value, return_lse=True)
    scores = query @ key.transpose(-1, -2) / 8**0.5
    assert torch.allclose(out, scores.softmax(-1) @ value, atol=1e-5)
    assert torch.allclose(lse, scores.logsumexp(-1, keepdim=True), atol=1e-5)


def check_exact_timesteps_reach_the_network() -> None:
    """In bfloat16 the library hands 888 and 728 to the network; mended it hands over the table."""
    config = self_forcing.WAN_VAE.pipeline.diffusion_model
    mended = families.mended(config)
    noise = torch.zeros(4, 4, dtype=torch.bfloat16)
    told = {}
    for name, scheduler in (("shipped", config.scheduler), ("exact", mended.scheduler)):
        seen = told.setdefault(name, [])

        def predict(noisy: torch.Tensor, timestep: torch.Tensor, seen: list = seen) -> torch.Tensor:
            seen.append(float(timestep))
            return noisy

        built = scheduler.setup()
        built.sample(noise, predict, torch.Generator().manual_seed(0))
        is_mended = type(built) in exact_timesteps.SCHEDULERS.values()
        assert is_mended == (name == "exact")
    assert told["shipped"] == [1000.0, 960.0, 888.0, 728.0]
    assert [round(t, 3) for t in told["exact"]] == [1000.0, 960.0, 888.889, 727.273]


def record_timesteps(config, networks) -> list[torch.Tensor]:
    """What the networks of a tiny runner are told, in order, over its whole rollout."""
    config.pixel_height = config.pixel_width = 32
    runner, told = config.setup(), []
    for network in networks(runner.pipeline.diffusion_model.transformer):
        network.register_forward_pre_hook(
            lambda _, args, words: told.append(words["timesteps"].clone()), with_kwargs=True
        )
    runner._rollout()
    return told


def check_exact_timesteps_reach_both_networks_of_wan22() -> None:
    """Eight shifted steps and the KV update of both networks, unrounded; three above 875."""
    networks = ("transformer_high_noise", "transformer_low_noise")
    seen = {}
    for mode in ("exact", "as-shipped"):
        config = runners.load(
            "fastvideo-causal-wan2.2-t2v-14b", size="tiny", total_blocks=1, timesteps=mode
        )
        for name in networks:
            told = record_timesteps(config, lambda both, name=name: [getattr(both, name).network])
            seen[mode, name] = [round(float(t), 3) for t in told]
            assert {t.dtype for t in told} == {torch.float32 if mode == "exact" else torch.bfloat16}
    high, low = [1000.0, 965.909, 921.053], [859.375, 729.167, 654.762, 555.556, 416.667]
    assert seen["exact", networks[0]] == [*high, 0.0]
    assert seen["exact", networks[1]] == [*low, 0.0]
    assert seen["as-shipped", networks[0]] == [1000.0, 964.0, 920.0, 0.0]


def check_exact_timesteps_per_token_of_cosmos() -> None:
    """The given frame is at 0.1 and the others at the scheduler's step, all float32."""
    config = runners.load("cosmos2-i2v-2b-720p", size="tiny")
    told = record_timesteps(config, lambda transformer: [transformer.network])
    table = config.pipeline.diffusion_model.scheduler
    steps = derive_config(table, num_inference_steps=4).setup().timesteps.tolist()
    # The unconditional branch and the KV update of both branches follow.
    assert len(told) == 2 * len(steps) + 2
    for tokens, step in zip(told[::2], [*steps, 0], strict=True):
        assert tokens.dtype == torch.float32
        frames = tokens.reshape(3, -1)
        assert torch.equal(frames[0], torch.full_like(frames[0], 0.1))
        assert torch.equal(frames[1:], torch.full_like(frames[1:], float(step)))
    shipped = runners.load("cosmos2-i2v-2b-720p", size="tiny", timesteps="as-shipped")
    rounded = record_timesteps(shipped, lambda transformer: [transformer.network])
    assert {tokens.dtype for tokens in rounded} == {torch.bfloat16}


def check_exact_timesteps_per_token_of_wan() -> None:
    """Wan's per-token timesteps, as TI2V has them, survive the mending: 0 on the given frame."""
    config = runners.load("causal-forcing-wan2.1-i2v-1.3b-framewise", size="tiny", total_blocks=1)
    config = derive_config(
        config,
        pipeline={
            "diffusion_model": {
                "transformer": {"len_t": 3, "ti2v_first_frame_per_token_timestep": True}
            }
        },
    )
    told = record_timesteps(config, lambda transformer: [transformer.network])
    for tokens, step in zip(told, [1000.0, 937.5, 833.333, 625.0, 0.0], strict=True):
        assert tokens.dtype == torch.float32
        frames = tokens.reshape(3, -1)
        assert (frames[0] == 0).all()
        assert torch.allclose(frames[1:], torch.tensor(step), atol=1e-3)


def check_unmended_class_is_refused() -> None:
    """A scheduler that nobody has mended is named, with both ways out."""
    model = derive_config(
        self_forcing.WAN_VAE.pipeline.diffusion_model,
        scheduler=FlowMatchEulerDiscreteSchedulerConfig(),
    )
    message = ""
    try:
        families.mended(model)
    except NotImplementedError as error:
        message = str(error)
    assert message.startswith("FlowMatchEulerDiscreteScheduler has no exact timesteps: add")


def check_cosmos_sinusoid_is_float32() -> None:
    """The mended embedding is the float64 sinusoid rounded once; as shipped it is far off."""
    channels, step = 256, torch.tensor(0.995)
    frequencies = 10000 ** (-torch.arange(channels // 2, dtype=torch.float64) / (channels // 2))
    angles = step.double() * frequencies
    wanted = torch.cat([angles.cos(), angles.sin()])
    found = exact_timesteps._RoundedOnce(channels, torch.bfloat16)(step)
    shipped = Timesteps(channels).to(torch.bfloat16)(step.to(torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert (found.double() - wanted).abs().max() <= 2**-9
    assert (shipped.double() - wanted).abs().max() > 2**-9


def check_tiny_is_repeatable_and_leaves_the_seed_alone() -> None:
    """Two tiny rollouts agree bit for bit, and building one does not touch torch's own seed."""
    config = runners.load("self-forcing-wan2.1-t2v-1.3b-taehv", size="tiny", total_blocks=2)
    torch.manual_seed(7)
    first = config.setup()._rollout()[0]
    again = config.setup()._rollout()[0]
    drawn = torch.randn(1)
    torch.manual_seed(7)
    assert torch.equal(first, again)
    assert torch.equal(drawn, torch.randn(1))


def check_image_is_stretched_without_antialiasing() -> None:
    """An image of two levels keeps them at its ends; grey and transparent files read as RGB."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ramp.png"
        ramp = np.array([[0, 255]], dtype=np.uint8)
        iio.imwrite(path, ramp)
        image = first_frame.read(str(path), 2, 8)
        assert image.shape == (1, 3, 2, 8)
        levels = ((image[0, 0, 0] + 1) * 127.5).round().tolist()
        # Pixel centres at (i + 0.5) / 4 - 0.5 of the source, held at the ends.
        assert levels == [0, 0, 32, 96, 159, 223, 255, 255]
        iio.imwrite(path, np.zeros((2, 2, 4), dtype=np.uint8))
        assert torch.equal(first_frame.read(str(path), 2, 2), torch.full((1, 3, 2, 2), -1.0))


def check_image_is_downloaded_once_by_its_whole_address() -> None:
    """Two addresses that end alike are two images."""
    with TemporaryDirectory() as folder:
        served = Path(folder) / "served"
        for name, level in (("a", 0), ("b", 255)):
            (served / name).mkdir(parents=True)
            pixels = np.full((4, 4, 3), level, dtype=np.uint8)
            iio.imwrite(served / name / "000001.png", pixels)
        handler = partial(QuietHandler, directory=str(served))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            os.environ["FLASHDREAMS_CACHE_DIR"] = folder
            address = f"http://127.0.0.1:{server.server_port}/{{}}/000001.png"
            black, white = (first_frame.read(address.format(name), 4, 4) for name in "ab")
            server.shutdown()
        assert (black == -1).all()
        assert (white == 1).all()
        assert len(list((Path(folder) / "first_frames").iterdir())) == 2


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line per request."""

    def log_message(self, *args) -> None:
        """Say nothing."""


def check_prompt_file_is_read() -> None:
    """A prompt that names a .txt file is read from it: the command line passes a str."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prompt.txt"
        path.write_text("\n  a cat \nsecond line\n")
        assert video._read_prompt(str(path)) == video._read_prompt(path) == "a cat"
    assert video._read_prompt("a dog. ") == "a dog. "


def check_unknown_slug_names_the_nearest() -> None:
    """A slip of the keyboard is answered with the slug that was meant."""
    message = "loaded"
    try:
        runners.load("cosmos2-t2v-720p")
    except KeyError as error:
        message = str(error)
    assert message == "no runner 'cosmos2-t2v-720p'; the nearest is 'cosmos2-t2v-2b-720p'"


def check_matched_trials_refuse_what_they_do_not_drive() -> None:
    """A job for a family without a driver is refused by name."""
    for slug in runners.RUNNERS:
        config = runners.load(slug)
        refusal = ""
        try:
            families.driver_of(config.pipeline)
        except drive.UnsupportedJobError as error:
            refusal = str(error)
        is_driven = "wan2.2" not in slug
        assert is_driven == (refusal == ""), slug
        assert is_driven or refusal.startswith(f"{slug} has no matched trial"), refusal


def check_part_that_is_not_mended_is_refused_with_the_nearest() -> None:
    """A job may leave only what is mended; the timesteps are told apart by a field of their own."""
    model = runners.load("cosmos2-t2v-2b-720p").pipeline.diffusion_model
    job = SimpleNamespace(timestep_rounding="as_shipped", as_shipped=("sinusoid",))
    assert families.left_by(job, model) == ("timesteps", "sinusoid")
    refusal = ""
    try:
        families.left_by(SimpleNamespace(timestep_rounding="none", as_shipped=("sinus",)), model)
    except drive.UnsupportedJobError as error:
        refusal = str(error)
    assert refusal.endswith("'sinus', which is not mended; the nearest is 'sinusoid'")


def check_part_without_its_class_is_refused() -> None:
    """A mended class that stands for nothing in the pipeline would mend nothing."""
    transformer = runners.load("wan21-t2v-1.3b-480p").pipeline.diffusion_model.transformer
    family = families.family_of(transformer)
    rope = families.MendedClasses({dict: OrderedDict})
    families.register(type(transformer), replace(family, parts={**family.parts, "rope": rope}))
    message = ""
    try:
        families.mended(runners.load("wan21-t2v-1.3b-480p").pipeline.diffusion_model)
    except NotImplementedError as error:
        message = str(error)
    finally:
        families.register(type(transformer), family)
    assert "has no mended rope" in message, message


def check_part_left_as_shipped_stays() -> None:
    """Cosmos without its mended sinusoid keeps the library's, with it the float32 one."""
    kinds = {}
    for left in ((), ("sinusoid",)):
        config = runners.load("cosmos2-t2v-2b-720p", size="tiny", timesteps="as-shipped")
        model = config.setup().pipeline.diffusion_model
        families.mend(model, left)
        assert families.as_shipped(model) == ("timesteps", *left)
        kinds[left] = type(model.transformer.network.t_embedder[0]).__name__
    assert kinds == {(): "_RoundedOnce", ("sinusoid",): "Timesteps"}


def check_what_the_library_prints_is_not_timed() -> None:
    """The host's clock stops when the device is done, not when the step line is out."""
    job = SimpleNamespace(
        device="cpu", nonce="n", dtype="float32", profile_steps=(), capture_steps=()
    )
    theirs = pipeline_base.EventProfiler
    with TemporaryDirectory() as folder:
        recorder = Recorder(job, Path(folder))
        try:
            matched._record_stages(recorder, SimpleNamespace(sample=None))
            profiler = pipeline_base.EventProfiler()
            profiler.record("diffuse")
            profiler.sync_and_summarize()
        finally:
            pipeline_base.EventProfiler = theirs
        time.sleep(0.2)  # the library reads the allocator and prints
        recorder.end(0, torch.zeros(1), print_line=False)
        recorder.close(0, {})
        step, _ = wire.read_events(Path(folder) / wire.EVENTS_FILE, "n")
    assert 0 < step.wall_ms < 100


def check_graph_is_seen_when_it_is_captured() -> None:
    """The library's own wrapper tells by the graph it holds; a new one is a new capture."""
    wrapper = CUDAGraphWrapper(lambda: None)
    watch = GraphWatch([wrapper])
    assert watch.facts() == {wire.CAPTURED_AT: wire.NEVER}
    first, second = object(), object()
    for ar, graph in enumerate((None, first, first, None, second)):
        wrapper._graph = graph
        watch.look(ar)
    assert watch.facts() == {wire.CAPTURED_AT: "1, 4"}

    eager = GraphWatch([lambda: None])
    eager.look(0)
    assert eager.facts() == {}


def check_load_gives_a_copy() -> None:
    """Changing what ``load`` gave leaves the published configuration alone."""
    config = runners.load("wan21-t2v-1.3b-480p", fps=24)
    config.pipeline.diffusion_model.seed = 1
    published = runners.load("wan21-t2v-1.3b-480p")
    assert (config.fps, published.fps, published.pipeline.diffusion_model.seed) == (24, 16, 42)


def check_unwrap_takes_averaged_weights_and_strips_wrappers() -> None:
    """Training checkpoints come wrapped twice; the averaged generator wins."""
    wanted, other = torch.ones(1), torch.zeros(1)
    for checkpoint in (
        {
            "generator_ema": {"model._fsdp_wrapped_module.a": wanted},
            "generator": {"model.a": other},
        },
        {"generator": {"model.a": wanted}},
        {"net.a": wanted},
    ):
        assert self_forcing.unwrap_checkpoint(checkpoint)["a"] is wanted


if __name__ == "__main__":
    modules = (check_published, check_loading, check_recorder, check_seeded)
    for name, check in dict(ChainMap(globals(), *map(vars, modules))).items():
        if name.startswith("check_") and callable(check):
            check()
            print(f"{name}: ok")
